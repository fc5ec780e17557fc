#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

struct sqlite3;
struct sqlite3_stmt;

namespace petrel {

// SQLITE_OK where a step() brought a row or its end, else the error that it told.
int error_of_step(int code);

// A prepared statement. Values bound must outlive the next reset(). What goes wrong in a bind is
// returned by the next step(). Thread-compatible.
class SqliteStatement {
public:
    SqliteStatement() = default;
    SqliteStatement(SqliteStatement&& other) noexcept;
    SqliteStatement& operator=(SqliteStatement&& other) noexcept;
    ~SqliteStatement();

    SqliteStatement& bind(std::int64_t value);
    SqliteStatement& bind(std::uint64_t value) { return bind(static_cast<std::int64_t>(value)); }
    SqliteStatement& bind(int value) { return bind(static_cast<std::int64_t>(value)); }
    SqliteStatement& bind(std::string_view text);
    SqliteStatement& bind_blob(std::string_view bytes);
    SqliteStatement& bind_null();

    // An SQLite result code: SQLITE_ROW, SQLITE_DONE or an error.
    int step();
    // step() of what has no rows, then reset().
    int run();
    void reset();

    bool is_null(int column) const;
    std::int64_t integer(int column) const;
    std::uint64_t number(int column) const { return static_cast<std::uint64_t>(integer(column)); }
    std::string_view text(int column) const;  // Until the next step or reset; blobs too.

private:
    friend class SqliteFile;
    sqlite3_stmt* statement_ = nullptr;
    int next_bind_ = 1;
    int bind_error_ = 0;
};

// One SQLite file of ours, used by this process only: WAL, synchronous=FULL, exclusive lock.
// Thread-compatible; its statements must go before it.
class SqliteFile {
public:
    struct Schema {
        std::int32_t application_id = 0;  // Tells our files from others.
        std::int32_t version = 1;         // PRAGMA user_version.
        const char* create = "";          // SQL for an empty file.
        const char* what = "";            // "gateway store", for sentences.
        int page_bytes = 4096;
        int cache_kib = 65'536;
        int checkpoint_pages = 1000;  // WAL pages at which it is copied into the file.
        // Whether the WAL gets its full size when the file is opened. A log that grows makes each
        // sync write the file's size, too: that takes about half as long again.
        bool is_log_prepared = false;
    };

    // Why open() failed.
    enum class Fault {
        kNone,
        kForeign,  // Not an SQLite file, or one of another program.
        kOther,    // A Petrel file of another kind or of a newer version; permissions, no space...
        kDamaged,
        kInUse,  // By another process, or by another SqliteFile.
    };

    SqliteFile() = default;
    SqliteFile(const SqliteFile&) = delete;
    SqliteFile& operator=(const SqliteFile&) = delete;
    ~SqliteFile();

    // Makes the file (mode 0600) when there is none. On failure `why` is a sentence that says what
    // to do; the object is then of no use.
    std::error_code open(const std::string& path, const Schema& schema, std::string& why);
    Fault fault() const { return fault_; }
    // The same for a look: the file must exist, and is not changed. (A log that a killed process
    // has left is read, for which SQLite makes an index file beside it.)
    std::error_code open_read_only(const std::string& path, const Schema& schema, std::string& why);
    // As it is, without writing what the log holds back into the file.
    void close_untouched();

    int prepare(const char* sql, SqliteStatement& statement);
    int execute(const char* sql);

    // True inside BEGIN...COMMIT. SQLite itself ends a transaction on some errors.
    bool is_in_transaction() const;
    // "disk I/O error (code 778) in FILE"
    std::string describe(int code) const;

private:
    std::error_code finish_open(int code, const Schema& schema, std::string& why);
    int set_up(const Schema& schema, std::string& why);
    void prepare_log(const Schema& schema);
    int check_schema(const Schema& schema, std::string& why);
    int read_integer(const char* sql, std::int64_t& value);
    std::string sentence(int code, const Schema& schema) const;
    static Fault fault_of(int code);

    sqlite3* connection_ = nullptr;
    std::string path_;
    Fault fault_ = Fault::kNone;
};

}  // namespace petrel
