#include "core/store/sqlite_message_store.hpp"

#include <algorithm>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "core/store/message_rules.hpp"
#include "core/store/message_tables.hpp"
#include "core/store/sqlite_blobs.hpp"
#include "core/store/sqlite_dedup.hpp"
#include "core/store/sqlite_file.hpp"
#include "core/store/sqlite_index.hpp"
#include "core/store/sqlite_log.hpp"
#include "core/store/sqlite_owners.hpp"

namespace petrel {
namespace {

// Beside the tables of SqliteLog, SqliteIndex and SqliteDedup. `user.last` may be behind: the last
// run of the inbox then says it. `meta`: 1 the store's clock, up to kClockStepMs behind; 2 and 3
// are SqliteDedup's, 4 is SqliteIndex's.
constexpr char kCreate[] = R"sql(
CREATE TABLE meta(key INTEGER PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO meta(key, value) VALUES(1, 0), (2, 0), (3, random()), (4, 0);
CREATE TABLE user(
    id INTEGER PRIMARY KEY, app TEXT NOT NULL, name TEXT NOT NULL, epoch TEXT NOT NULL,
    last INTEGER NOT NULL, floor INTEGER NOT NULL, generation INTEGER NOT NULL,
    UNIQUE(app, name)) STRICT;
CREATE TABLE device(
    user INTEGER NOT NULL, name TEXT NOT NULL, cursor INTEGER NOT NULL, acked BLOB NOT NULL,
    used_at INTEGER NOT NULL, PRIMARY KEY(user, name)) STRICT, WITHOUT ROWID;
)sql";
constexpr std::int32_t kVersion = 4;
// A piece of the log or a page of a dedup run fits into one; SQLite makes two system calls a page.
constexpr int kPageBytes = 8192;
// A page less with most commits. What a restart takes back of the clock is less than this, and none
// of what messages say.
constexpr std::int64_t kClockStepMs = 1000;

const std::string& whole_schema() {
    static const std::string sql =
        std::string(kCreate) + SqliteLog::kCreate + SqliteIndex::kCreate + SqliteDedup::kCreate;
    return sql;
}

SqliteFile::Schema schema_with(const SqliteTuning& tuning) {
    SqliteFile::Schema schema;
    schema.application_id = 0x50747267;  // "Ptrg"
    schema.version = kVersion;
    schema.page_bytes = kPageBytes;
    schema.create = whole_schema().c_str();
    schema.what = "gateway store";
    schema.cache_kib = tuning.cache_kib;
    schema.checkpoint_pages = tuning.checkpoint_pages;
    schema.is_log_prepared = tuning.is_log_prepared;
    return schema;
}

StoreFault fault_of(int code) {
    switch (code & 0xff) {
        case SQLITE_FULL: return StoreFault::kFull;
        case SQLITE_READONLY:
        case SQLITE_PERM: return StoreFault::kReadOnly;
        case SQLITE_IOERR: return StoreFault::kIo;
        case SQLITE_BUSY:
        case SQLITE_LOCKED: return StoreFault::kInUse;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB: return StoreFault::kDamaged;
        default: return StoreFault::kOther;
    }
}

// Files up to this are checked whole when they are opened; of larger ones only what is read.
constexpr std::int64_t kCheckedBytesMax = 64 << 20;

class SqliteTables final : public MessageTables {
public:
    explicit SqliteTables(const SqliteTuning& tuning)
        : schema_(schema_with(tuning)),
          index_({tuning.index_recent_max, tuning.recent_bytes_max}, log_, owners_),
          dedup_({tuning.dedup_recent_max, tuning.recent_bytes_max}) {}

    std::error_code open(const std::string& path, std::string& why) {
        if (auto error = file_.open(path, schema_, why)) return error;
        int code = check(why);
        if (code == SQLITE_OK) code = prepare();
        if (code == SQLITE_OK) code = load();
        if (code == SQLITE_OK) return {};
        if (why.empty()) why = file_.describe(code);
        return make_error_code(Errc::kUnknown);
    }

    std::error_code inspect(const std::string& path, std::string& why) {
        if (auto error = file_.open_read_only(path, schema_, why)) return error;
        const int code = check(why);
        if (code == SQLITE_OK) return {};
        if (why.empty()) why = file_.describe(code);
        return make_error_code(Errc::kUnknown);
    }
    bool is_in_use() const { return file_.fault() == SqliteFile::Fault::kInUse; }

    std::error_code begin() override {
        was_upkeep_told_ = false;
        return result(begin_.run());
    }

    void end() override {
        // Ending a transaction that only read can fail, but has nothing to lose.
        if (file_.is_in_transaction()) rollback_.run();
    }

    std::error_code apply(WriteSet& set) override {
        int code = file_.is_in_transaction() ? SQLITE_OK : SQLITE_ERROR;
        SqliteDedup::Batch batch;
        batch.rows = set.dedup;
        for (const MessageRow& row : set.messages) batch.text_bytes += row.message->text.size();
        index_.start();
        if (code == SQLITE_OK) code = forget(set);
        if (code == SQLITE_OK) code = write_users(set);
        if (code == SQLITE_OK) code = write_devices(set);
        if (code == SQLITE_OK) code = dedup_.write(batch);
        if (code == SQLITE_OK) code = log_.write(set);
        if (code == SQLITE_OK) code = index_.write();
        batch.last_piece = log_.planned_id();
        bool are_dead_gone = true;
        if (code == SQLITE_OK) {
            code = index_.drop_dead(
                std::min(dedup_.planned_settled_piece(), index_.planned_settled_piece()),
                are_dead_gone);
        }
        const bool is_clock_due = set.now >= written_now_ + kClockStepMs;
        if (code == SQLITE_OK && is_clock_due) code = put_now_.bind(set.now).run();
        if (code == SQLITE_OK) code = commit_.run();
        const std::error_code error = result(code);
        if (error) {
            end();
            return error;
        }
        dedup_.committed(batch);
        index_.committed();
        log_.committed();
        are_dead_left_ = !are_dead_gone;
        last_now_ = set.now;
        if (is_clock_due) written_now_ = set.now;
        for (const WriteSet::User& write : set.users) {
            last_user_id_ = std::max(last_user_id_, write.row->id);
        }
        return {};
    }

    bool has_upkeep() const override {
        return are_dead_left_ || dedup_.has_upkeep() || index_.has_upkeep();
    }

    std::error_code find_user(std::string_view app, std::string_view name, UserRow& row,
                              bool& is_found) override {
        SqliteStatement& select = find_user_;
        const int code = select.bind(app).bind(name).step();
        is_found = code == SQLITE_ROW;
        if (is_found) {
            row.id = select.integer(0);
            row.app = app;
            row.name = name;
            row.epoch = select.text(1);
            row.last = std::max({select.number(2), select.number(5), index_.find_last(row.id)});
            row.floor = select.number(3);
            row.generation = select.number(4);
        }
        select.reset();
        return result(code);
    }

    std::error_code find_devices(UserId id, std::vector<DeviceRow>& rows) override {
        return each_row(find_devices_.bind(id), [&](const SqliteStatement& select) {
            DeviceRow row;
            row.device = select.text(0);
            row.cursor = select.number(1);
            row.used_at = select.integer(2);
            const std::string_view acked = select.text(3);
            for (std::size_t at = 0; at + 8 <= acked.size(); at += 8) {
                row.acked.push_back(number_at(acked, at));
            }
            rows.push_back(std::move(row));
            return true;
        });
    }

    std::error_code find_streams(UserId id, std::vector<StreamRow>& rows) override {
        return result(index_.find_streams(id, rows));
    }

    std::error_code find_conversation(const ConversationKey& key, std::uint64_t& cseq) override {
        return result(index_.find_conversation(key, cseq));
    }

    std::error_code find_dedup(const DedupKey& key, DedupRow& row, bool& is_found) override {
        return result(dedup_.find(key, row, is_found));
    }

    std::error_code find_fingerprint(UserId user, Position seq, Fingerprint& fp) override {
        return result(index_.find_fingerprint(user, seq, fp));
    }

    std::error_code find_messages(
        const UserRow& user, Position after, std::size_t messages_max, std::size_t bytes_max,
        std::vector<std::pair<Position, std::shared_ptr<const StoredMessage>>>& rows) override {
        return result(index_.find_messages(user, after, messages_max, bytes_max, rows));
    }

    std::error_code find_user_ids(std::vector<UserId>& ids) override {
        return each_row(find_user_ids_, [&](const SqliteStatement& select) {
            ids.push_back(select.integer(0));
            return true;
        });
    }

    std::error_code find_expired_messages(std::int64_t before, std::size_t skip,
                                          std::size_t rows_max,
                                          std::vector<ExpiredMessage>& rows) override {
        return result(index_.find_expired(before, skip, rows_max, rows));
    }

    // They go by the run, in apply(), one a transaction.
    std::error_code expire_dedup(std::int64_t before, bool& is_finished) override {
        bool is_log_waiting = false;
        const std::error_code error = result(index_.find_waiting(
            std::min(dedup_.settled_piece(), index_.settled_piece()), before, is_log_waiting));
        if (!error) dedup_.expire(before, is_log_waiting);
        if (!error && is_log_waiting) index_.hurry();
        is_finished = was_upkeep_told_ || !has_upkeep();
        was_upkeep_told_ = true;
        return error;
    }

    std::error_code sweep_streams(std::int64_t before, std::size_t rows_max,
                                  std::vector<NamedKey>& keys, bool& is_finished) override {
        return result(index_.sweep_streams(streams_at_, before, rows_max, keys, is_finished));
    }

    std::error_code sweep_devices(std::int64_t before, std::size_t rows_max,
                                  std::vector<NamedKey>& keys, bool& is_finished) override {
        return sweep(sweep_devices_, devices_at_, before, rows_max, keys, is_finished);
    }

    std::int64_t last_now() const override { return last_now_; }
    UserId last_user_id() const override { return last_user_id_; }
    std::string last_error() const override { return last_error_; }
    StoreFault last_fault() const override { return last_fault_; }

private:
    int check(std::string& why) {
        SqliteStatement select;
        int code = file_.prepare(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", select);
        if (code != SQLITE_OK) return code;
        if (select.step() != SQLITE_ROW || select.integer(0) > kCheckedBytesMax) return SQLITE_OK;
        select.reset();
        code = file_.prepare("PRAGMA quick_check(1)", select);
        if (code != SQLITE_OK) return code;
        code = select.step();
        const bool is_sound = code == SQLITE_ROW && select.text(0) == "ok";
        if (is_sound) return SQLITE_OK;
        why = "The store is damaged (" +
              (code == SQLITE_ROW ? std::string(select.text(0)) : file_.describe(code)) +
              "): restore it from a copy, or move it away to start with an empty one";
        return SQLITE_CORRUPT;
    }

    int prepare() {
        const std::pair<SqliteStatement*, const char*> statements[] = {
            {&begin_, "BEGIN"},
            {&commit_, "COMMIT"},
            {&rollback_, "ROLLBACK"},
            {&put_now_, "UPDATE meta SET value = ?1 WHERE key = 1"},
            {&find_user_,
             "SELECT id, epoch, last, floor, generation, "
             "coalesce((SELECT inbox.last FROM inbox WHERE inbox.user = user.id "
             "ORDER BY first DESC LIMIT 1), 0) "
             "FROM user WHERE app = ?1 AND name = ?2"},
            {&find_user_ids_, "SELECT id FROM user ORDER BY id"},
            {&add_user_,
             "INSERT INTO user(id, app, name, epoch, last, floor, generation) "
             "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"},
            {&put_user_,
             "UPDATE user SET epoch = ?2, last = ?3, floor = ?4, generation = ?5 WHERE id = ?1"},
            {&put_epoch_, "UPDATE user SET epoch = ?2 WHERE id = ?1"},
            {&find_devices_, "SELECT name, cursor, used_at, acked FROM device WHERE user = ?1"},
            {&put_device_,
             "REPLACE INTO device(user, name, cursor, acked, used_at) VALUES(?1, ?2, ?3, ?4, ?5)"},
            {&drop_device_, "DELETE FROM device WHERE user = ?1 AND name = ?2"},
            {&sweep_devices_,
             "SELECT user, name, used_at FROM device WHERE (user, name) > (?1, ?2) "
             "ORDER BY user, name LIMIT ?3"},
        };
        for (const auto& [statement, sql] : statements) {
            if (const int code = file_.prepare(sql, *statement)) return code;
        }
        return SQLITE_OK;
    }

    int load() {
        SqliteStatement select;
        int code = file_.prepare(
            "SELECT value, (SELECT coalesce(max(id), 0) FROM user), "
            "coalesce((SELECT accepted_at FROM piece ORDER BY id DESC LIMIT 1), 0) "
            "FROM meta WHERE key = 1",
            select);
        if (code != SQLITE_OK) return code;
        code = select.step();
        if (code != SQLITE_ROW) return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
        written_now_ = select.integer(0);
        last_now_ = std::max(written_now_, select.integer(2));
        last_user_id_ = select.integer(1);
        if ((code = owners_.open(file_))) return code;
        if ((code = log_.open(file_))) return code;
        if ((code = index_.open(file_))) return code;
        if ((code = dedup_.open(file_))) return code;
        const auto is_number = [](std::int64_t number) {
            return number >= 0 && number <= static_cast<std::int64_t>(kNumberMax);
        };
        if (!is_number(written_now_) || !is_number(dedup_.settled_piece()) ||
            !is_number(index_.settled_piece()) || !is_number(log_.planned_id())) {
            return SQLITE_CORRUPT;
        }
        // A number is used once, even when its piece is gone.
        log_.set_last_id(std::max(dedup_.settled_piece(), index_.settled_piece()));
        const std::int64_t settled = std::min(dedup_.settled_piece(), index_.settled_piece());
        code = log_.for_each_after(settled, [&](std::int64_t id, std::string_view piece) {
            const int replayed = index_.replay(id, piece);
            return replayed == SQLITE_OK ? dedup_.replay(id, piece, owners_) : replayed;
        });
        if (code != SQLITE_OK) return code;
        owners_.forget();
        index_.opened();
        dedup_.opened();
        last_now_ = std::max(last_now_, index_.newest());
        return SQLITE_OK;
    }

    std::error_code result(int code) {
        if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return {};
        last_error_ = file_.describe(code);
        last_fault_ = fault_of(code);
        return make_error_code(Errc::kBusy);
    }

    // `take` says whether to go on.
    template <class Function>
    std::error_code each_row(SqliteStatement& select, Function&& take) {
        int code = SQLITE_ROW;
        while ((code = select.step()) == SQLITE_ROW) {
            if (!take(select)) break;
        }
        const std::error_code error = result(code);
        select.reset();
        return error;
    }

    // `at` is where the last call stopped; looks at no more than four rows for one that goes.
    std::error_code sweep(SqliteStatement& select, NamedKey& at, std::int64_t before,
                          std::size_t rows_max, std::vector<NamedKey>& keys, bool& is_finished) {
        const auto looks_max = std::min<std::uint64_t>(rows_max, kNumberMax / 4) * 4;
        const std::size_t keys_max = keys.size() + rows_max;
        const NamedKey from = at;
        select.bind(from.user).bind(std::string_view(from.name)).bind(looks_max);
        std::uint64_t looked = 0;
        const auto error = each_row(select, [&](const SqliteStatement& row) {
            ++looked;
            at = {row.integer(0), std::string(row.text(1))};
            if (row.integer(2) < before) keys.push_back(at);
            return keys.size() < keys_max;
        });
        is_finished = looked < looks_max && keys.size() < keys_max;
        if (is_finished) at = {};
        return error;
    }

    int forget(const WriteSet& set) {
        int code = SQLITE_OK;
        for (const NamedKey& key : set.forgotten_devices) {
            if ((code = drop_device_.bind(key.user).bind(std::string_view(key.name)).run())) {
                return code;
            }
        }
        for (const auto& [user, up_to] : set.forgotten_messages) {
            if ((code = index_.forget(user, up_to))) return code;
        }
        return code;
    }

    int write_users(const WriteSet& set) {
        int code = SQLITE_OK;
        for (const WriteSet::User& write : set.users) {
            const UserRow& row = *write.row;
            if (write.only_last) continue;  // The log knows.
            if (write.is_new) {
                add_user_.bind(row.id)
                    .bind(std::string_view(row.app))
                    .bind(std::string_view(row.name))
                    .bind(std::string_view(row.epoch))
                    .bind(row.last)
                    .bind(row.floor)
                    .bind(row.generation);
                code = add_user_.run();
            } else {
                put_user_.bind(row.id)
                    .bind(std::string_view(row.epoch))
                    .bind(row.last)
                    .bind(row.floor)
                    .bind(row.generation);
                code = put_user_.run();
            }
            if (code != SQLITE_OK) return code;
        }
        for (const auto& [id, epoch] : set.epochs) {
            if ((code = put_epoch_.bind(id).bind(std::string_view(epoch)).run())) return code;
        }
        return code;
    }

    int write_devices(const WriteSet& set) {
        std::string acked;
        for (const auto& [user, row] : set.devices) {
            acked.clear();
            for (const Position position : row->acked) append_number(position, acked);
            put_device_.bind(user)
                .bind(std::string_view(row->device))
                .bind(row->cursor)
                .bind_blob(acked)
                .bind(row->used_at);
            if (const int code = put_device_.run()) return code;
        }
        return SQLITE_OK;
    }

    const SqliteFile::Schema schema_;
    SqliteFile file_;  // Before its statements: it goes last.
    SqliteStatement begin_, commit_, rollback_, put_now_;
    SqliteStatement find_user_, find_user_ids_, add_user_, put_user_, put_epoch_;
    SqliteStatement find_devices_, put_device_, drop_device_, sweep_devices_;
    SqliteOwners owners_;
    SqliteLog log_;
    SqliteIndex index_;
    SqliteDedup dedup_;
    bool are_dead_left_ = false;    // In the log, though settled.
    bool was_upkeep_told_ = false;  // In this transaction.
    NamedKey streams_at_, devices_at_;
    std::int64_t last_now_ = 0;
    std::int64_t written_now_ = 0;
    UserId last_user_id_ = 0;
    std::string last_error_;
    StoreFault last_fault_ = StoreFault::kOther;
};

}  // namespace

Result<StoreCheck> check_sqlite_message_store(const std::string& path, std::string& why) {
    const auto refuse = [&](const std::string& what) {
        why = path + " " + what;
        return make_error_code(Errc::kUnknown);
    };
    if (path.empty()) {
        why = "The file name of the gateway store is empty: name a file";
        return make_error_code(Errc::kUnknown);
    }
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "."
                               : slash == 0               ? "/"
                                                          : path.substr(0, slash);
    // The log is made in the folder.
    if (::access(folder.c_str(), W_OK | X_OK) != 0) {
        return refuse("cannot be used: check that the folder " + folder +
                      " exists and that you may write there");
    }
    struct stat status = {};
    if (::stat(path.c_str(), &status) != 0) return StoreCheck::kWouldBeMade;
    if (!S_ISREG(status.st_mode)) return refuse("is no file: name another one");
    if (::access(path.c_str(), R_OK | W_OK) != 0) {
        return refuse("may not be written to: change its permissions, or name another file");
    }
    if (status.st_size == 0) return StoreCheck::kWouldBeMade;
    SqliteTables tables{SqliteTuning{}};
    if (const std::error_code error = tables.inspect(path, why)) {
        if (tables.is_in_use()) return StoreCheck::kInUse;
        return error;
    }
    return StoreCheck::kUsable;
}

Result<std::unique_ptr<MessageStore>> open_sqlite_message_store(const std::string& path,
                                                                const StoreOptions& options,
                                                                FingerprintSource& epochs,
                                                                std::string& why,
                                                                const SqliteTuning& tuning) {
    auto tables = std::make_unique<SqliteTables>(tuning);
    if (std::error_code error = tables->open(path, why)) return error;
    return std::unique_ptr<MessageStore>(
        std::make_unique<MessageRules>(std::move(tables), options, epochs));
}

}  // namespace petrel
