#include "core/store/sqlite_file.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <limits>
#include <sqlite3.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "core/store/batched_wal.hpp"
#include "protocol/error.hpp"

namespace petrel {

// ---- statements ----

int error_of_step(int code) { return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code; }

SqliteStatement::SqliteStatement(SqliteStatement&& other) noexcept
    : statement_(std::exchange(other.statement_, nullptr)) {}

SqliteStatement& SqliteStatement::operator=(SqliteStatement&& other) noexcept {
    if (this != &other) {
        sqlite3_finalize(statement_);
        statement_ = std::exchange(other.statement_, nullptr);
        next_bind_ = 1;
        bind_error_ = SQLITE_OK;
    }
    return *this;
}

SqliteStatement::~SqliteStatement() { sqlite3_finalize(statement_); }

SqliteStatement& SqliteStatement::bind(std::int64_t value) {
    if (const int code = sqlite3_bind_int64(statement_, next_bind_++, value)) bind_error_ = code;
    return *this;
}

SqliteStatement& SqliteStatement::bind(std::string_view text) {
    // A null pointer would be SQL's NULL.
    const char* data = text.data() ? text.data() : "";
    if (const int code = sqlite3_bind_text64(statement_, next_bind_++, data, text.size(),
                                             SQLITE_STATIC, SQLITE_UTF8)) {
        bind_error_ = code;
    }
    return *this;
}

SqliteStatement& SqliteStatement::bind_blob(std::string_view bytes) {
    const char* data = bytes.data() ? bytes.data() : "";
    if (const int code =
            sqlite3_bind_blob64(statement_, next_bind_++, data, bytes.size(), SQLITE_STATIC)) {
        bind_error_ = code;
    }
    return *this;
}

SqliteStatement& SqliteStatement::bind_null() {
    if (const int code = sqlite3_bind_null(statement_, next_bind_++)) bind_error_ = code;
    return *this;
}

int SqliteStatement::step() {
    return bind_error_ != SQLITE_OK ? bind_error_ : sqlite3_step(statement_);
}

int SqliteStatement::run() {
    const int code = step();
    reset();
    return error_of_step(code);
}

void SqliteStatement::reset() {
    sqlite3_reset(statement_);
    next_bind_ = 1;
    bind_error_ = SQLITE_OK;
}

bool SqliteStatement::is_null(int column) const {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

std::int64_t SqliteStatement::integer(int column) const {
    return sqlite3_column_int64(statement_, column);
}

std::string_view SqliteStatement::text(int column) const {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return {data ? data : "", static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

// ---- the file ----

namespace {

// The first three bytes of the application id of every kind of Petrel file: "Ptr".
constexpr std::int64_t kPetrelMark = 0x507472;

// SQLite would make a new file readable for others. A file that exists is not opened here: closing
// it again would drop the locks that another connection of this process has on it (POSIX).
bool make_private(const std::string& path) {
    struct stat status = {};
    if (::stat(path.c_str(), &status) == 0) {
        return status.st_size > 0 || !S_ISREG(status.st_mode) || ::chmod(path.c_str(), 0600) == 0;
    }
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    const bool is_private = ::fchmod(fd, 0600) == 0;
    return ::close(fd) == 0 && is_private;
}

std::string uri_of(const std::string& path) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    std::string uri = path.front() == '/' ? "file:" : "file:./";
    for (const char c : path) {
        if (c == '%' || c == '?' || c == '#') {
            uri += '%';
            uri += kDigits[static_cast<unsigned char>(c) >> 4];
            uri += kDigits[static_cast<unsigned char>(c) & 15];
        } else {
            uri += c;
        }
    }
    return uri;
}

}  // namespace

SqliteFile::~SqliteFile() { sqlite3_close_v2(connection_); }

void SqliteFile::close_untouched() {
    if (!connection_) return;
    sqlite3_db_config(connection_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_close_v2(connection_);
    connection_ = nullptr;
}

int SqliteFile::prepare(const char* sql, SqliteStatement& statement) {
    statement = SqliteStatement();
    return sqlite3_prepare_v3(connection_, sql, -1, SQLITE_PREPARE_PERSISTENT,
                              &statement.statement_, nullptr);
}

int SqliteFile::execute(const char* sql) {
    return sqlite3_exec(connection_, sql, nullptr, nullptr, nullptr);
}

bool SqliteFile::is_in_transaction() const {
    return connection_ && !sqlite3_get_autocommit(connection_);
}

std::string SqliteFile::describe(int code) const {
    // The connection's own words say more, when they are about this error.
    const bool is_last = connection_ && sqlite3_extended_errcode(connection_) == code;
    const char* words = is_last ? sqlite3_errmsg(connection_) : sqlite3_errstr(code);
    return std::string(words) + " (code " + std::to_string(code) + ") in " + path_;
}

int SqliteFile::read_integer(const char* sql, std::int64_t& value) {
    SqliteStatement statement;
    if (const int code = prepare(sql, statement)) return code;
    const int code = statement.step();
    if (code == SQLITE_ROW) value = statement.integer(0);
    return error_of_step(code);
}

std::string SqliteFile::sentence(int code, const Schema& schema) const {
    switch (code & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return path_ + " is in use by another process: stop that one, or name another file";
        case SQLITE_NOTADB:
            return path_ + " is not a Petrel " + schema.what +
                   " (not an SQLite file at all): name another file";
        case SQLITE_CORRUPT:
            return path_ + " is damaged (" + describe(code) +
                   "): restore it from a copy, or move it away to start with an empty one";
        case SQLITE_FULL: return "No space left for " + path_ + ": free some, then start again";
        case SQLITE_READONLY:
        case SQLITE_PERM:
            return path_ + " may not be written to: change its permissions, or name another file";
        case SQLITE_CANTOPEN:
            return path_ +
                   " cannot be opened or made: check that its folder exists and that you "
                   "may write there";
        default: return path_ + " cannot be used: " + describe(code);
    }
}

std::error_code SqliteFile::open(const std::string& path, const Schema& schema, std::string& why) {
    path_ = path;
    fault_ = Fault::kOther;
    if (path.empty()) {
        why = "The file name of the " + std::string(schema.what) + " is empty: name a file";
        return make_error_code(Errc::kUnknown);
    }
    // SQLite takes some relative names to mean other things.
    const std::string plain_path = path.front() == '/' ? path : "./" + path;
    if (!make_private(plain_path)) {
        const std::error_code error(errno, std::generic_category());
        why = path + " cannot be made (" + error.message() +
              "): check the folder and its permissions, or name another file";
        return make_error_code(Errc::kUnknown);
    }

    int code = sqlite3_open_v2(plain_path.c_str(), &connection_,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, batched_wal_vfs());
    if (code == SQLITE_OK) code = set_up(schema, why);
    return finish_open(code, schema, why);
}

std::error_code SqliteFile::open_read_only(const std::string& path, const Schema& schema,
                                           std::string& why) {
    path_ = path;
    fault_ = Fault::kOther;
    why.clear();
    struct stat log = {};
    const bool has_log = ::stat((path + "-wal").c_str(), &log) == 0 && log.st_size > 0;
    // Without a log there is nobody else: nothing needs to be locked, or made.
    const std::string uri = uri_of(path) + (has_log ? "?mode=ro" : "?mode=ro&immutable=1");
    int code =
        sqlite3_open_v2(uri.c_str(), &connection_,
                        SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI, nullptr);
    if (code == SQLITE_OK) code = sqlite3_extended_result_codes(connection_, 1);
    if (code == SQLITE_OK) code = check_schema(schema, why);
    return finish_open(code, schema, why);
}

std::error_code SqliteFile::finish_open(int code, const Schema& schema, std::string& why) {
    if (code == SQLITE_OK) {
        fault_ = Fault::kNone;
        return {};
    }
    if (why.empty()) why = sentence(code, schema);
    fault_ = fault_of(code);
    return make_error_code(fault_ == Fault::kInUse ? Errc::kBusy : Errc::kUnknown);
}

SqliteFile::Fault SqliteFile::fault_of(int code) {
    switch (code & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED: return Fault::kInUse;
        case SQLITE_NOTADB: return Fault::kForeign;
        case SQLITE_CORRUPT: return Fault::kDamaged;
        default: return Fault::kOther;
    }
}

int SqliteFile::set_up(const Schema& schema, std::string& why) {
    why.clear();
    if (const int code = sqlite3_extended_result_codes(connection_, 1)) return code;
    // Whoever holds the lock holds it as long as it lives: waiting is of no use.
    if (const int code = sqlite3_busy_timeout(connection_, 0)) return code;
    const std::string pragmas = "PRAGMA page_size=" + std::to_string(schema.page_bytes) +
                                "; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-" +
                                std::to_string(schema.cache_kib) +
                                "; PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY;";
    if (const int code = execute(pragmas.c_str())) return code;
    if (const int code = check_schema(schema, why)) return code;
    const std::string modes =
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=" +
        std::to_string(schema.checkpoint_pages) + "; BEGIN EXCLUSIVE;";
    if (const int code = execute(modes.c_str())) return code;

    std::int64_t application_id = 0;
    int code = read_integer("PRAGMA application_id", application_id);
    if (code == SQLITE_OK && application_id == 0) {
        const std::string create = std::string(schema.create) + "; PRAGMA application_id=" +
                                   std::to_string(schema.application_id) +
                                   "; PRAGMA user_version=" + std::to_string(schema.version) + ";";
        code = execute(create.c_str());
    }
    if (code == SQLITE_OK) code = execute("COMMIT");
    if (code != SQLITE_OK) return code;
    SqliteStatement mode;
    code = prepare("PRAGMA journal_mode", mode);
    if (code != SQLITE_OK) return code;
    if (mode.step() != SQLITE_ROW || mode.text(0) != "wal") {
        why =
            path_ + " is on a file system without write-ahead logging: name a file on a local disk";
        return SQLITE_ERROR;
    }
    if (schema.is_log_prepared) prepare_log(schema);
    return SQLITE_OK;
}

// With zeros, which are no frames. Without room for them, it grows as it is written.
void SqliteFile::prepare_log(const Schema& schema) {
    constexpr sqlite3_int64 kHeadBytes = 32;  // www.sqlite.org/fileformat.html, section 4.1
    constexpr sqlite3_int64 kFrameHeadBytes = 24;
    constexpr int kPieceBytes = 64
                                << 10;  // What the unix file system takes at once: below 128 KiB.
    sqlite3_file* log = nullptr;
    sqlite3_file_control(connection_, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (log == nullptr || log->pMethods == nullptr) return;
    const sqlite3_int64 end =
        kHeadBytes + schema.checkpoint_pages * (schema.page_bytes + kFrameHeadBytes);
    sqlite3_int64 size = 0;
    if (log->pMethods->xFileSize(log, &size) != SQLITE_OK) return;
    const std::string zeros(kPieceBytes, '\0');
    int code = SQLITE_OK;
    for (sqlite3_int64 at = size; at < end && code == SQLITE_OK; at += kPieceBytes) {
        const auto bytes = static_cast<int>(std::min<sqlite3_int64>(kPieceBytes, end - at));
        code = log->pMethods->xWrite(log, zeros.data(), bytes, at);
    }
    if (code == SQLITE_OK) code = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
    if (code != SQLITE_OK) log->pMethods->xTruncate(log, size);
}

// Before anything is written to it.
int SqliteFile::check_schema(const Schema& schema, std::string& why) {
    std::int64_t tables = 0;
    std::int64_t application_id = 0;
    std::int64_t version = 0;
    if (const int code = read_integer("SELECT count(*) FROM sqlite_schema", tables)) return code;
    if (const int code = read_integer("PRAGMA application_id", application_id)) return code;
    if (const int code = read_integer("PRAGMA user_version", version)) return code;
    if (tables == 0 && application_id == 0 && version == 0) return SQLITE_OK;
    if (application_id != schema.application_id) {
        const bool is_petrel = (application_id >> 8) == kPetrelMark;
        why = path_ + " is not a Petrel " + schema.what +
              (is_petrel ? " but another file of Petrel: name another one"
                         : " (it belongs to another program): name another file");
        return is_petrel ? SQLITE_ERROR : SQLITE_NOTADB;
    }
    if (version > schema.version) {
        why = path_ + " was written by a newer Petrel (schema " + std::to_string(version) +
              ", this one knows up to " + std::to_string(schema.version) +
              "): use that version, or name another file";
        return SQLITE_ERROR;
    }
    if (version != schema.version) {
        why = path_ + " has schema " + std::to_string(version) +
              ", which this Petrel cannot read: name another file";
        return SQLITE_ERROR;
    }
    return SQLITE_OK;
}

}  // namespace petrel
