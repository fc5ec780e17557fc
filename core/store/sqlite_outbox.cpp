#include "core/store/sqlite_outbox.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <sqlite3.h>
#include <utility>

#include "core/store/sqlite_blobs.hpp"
#include "core/store/sqlite_rows.hpp"

namespace petrel {
namespace {

// Ids grow: the order of the send calls, and that in which outcomes were recorded.
constexpr char kCreate[] = R"sql(
CREATE TABLE message(
    id INTEGER PRIMARY KEY, fp BLOB NOT NULL UNIQUE, recipient TEXT NOT NULL,
    typeu INTEGER NOT NULL, qos INTEGER NOT NULL, bridge INTEGER NOT NULL, expires_at INTEGER,
    taken_at INTEGER, text TEXT NOT NULL) STRICT;
CREATE TABLE outcome(
    id INTEGER PRIMARY KEY, fp BLOB NOT NULL UNIQUE, recipient TEXT NOT NULL,
    outcome INTEGER NOT NULL, code INTEGER NOT NULL, cseq INTEGER, send_ts INTEGER,
    attempts INTEGER NOT NULL) STRICT;
)sql";

constexpr int kApplicationId = 0x5074726f;  // "Ptro"

SqliteFile::Schema schema() {
    SqliteFile::Schema schema;
    schema.application_id = kApplicationId;
    schema.version = 1;
    schema.create = kCreate;
    schema.what = "outbox";
    return schema;
}

template <class Number>
void bind(SqliteStatement& statement, const std::optional<Number>& number) {
    if (number) {
        statement.bind(*number);
    } else {
        statement.bind_null();
    }
}

template <class Number>
void read(const SqliteStatement& statement, int column, std::optional<Number>& number) {
    if (!statement.is_null(column)) number = static_cast<Number>(statement.integer(column));
}

class SqliteOutbox final : public Outbox {
public:
    ~SqliteOutbox() override {
        file_.stop();
        take_back();
    }

    std::error_code open(const std::string& path, const AccountId& account,
                         const ClientFileOptions& options, std::string& why, Kept* left) {
        appends_wait_ = options.appends_wait;
        if (const auto error = file_.open(path, schema(), account, options, why)) return error;
        int code = prepare();
        if (code == SQLITE_OK) code = load_all();
        if (code != SQLITE_OK) {
            forget_statements();
            return file_.give_up(code, why);
        }
        if (left) *left = loaded_;
        file_.start();
        return {};
    }

    bool is_durable() const override { return true; }
    Kept load() override { return std::exchange(loaded_, {}); }
    std::string last_error() const override { return file_.last_error(); }

    void append(std::vector<OutboxRecord> batch, Done done) override {
        ClientFile::Operation operation;
        for (const OutboxRecord& record : batch) {
            operation.bytes += sizeof(OutboxRecord) + record.message.text.size();
        }
        auto ids = std::make_shared<Ids>();
        open_appends_.push_back(ids);
        operation.apply = [this, ids, batch = std::move(batch)] { return add(batch, *ids); };
        operation.done = [this, ids, done = std::move(done)](std::error_code error) {
            // Nearly always the first.
            open_appends_.erase(std::find(open_appends_.begin(), open_appends_.end(), ids));
            if (done) done(error);
        };
        operation.refusal = Errc::kFingerprintReused;
        operation.may_fail = !appends_wait_;
        operation.ends_with_owner = true;
        file_.submit(std::move(operation));
    }

    void record_outcomes(std::vector<OutcomeRecord> batch, Done done) override {
        ClientFile::Operation operation;
        operation.bytes = batch.size() * sizeof(OutcomeRecord);
        operation.apply = [this, batch = std::move(batch)] { return settle(batch); };
        operation.done = std::move(done);
        file_.submit(std::move(operation));
    }

    void remove_outcomes(std::vector<Fingerprint> batch) override {
        ClientFile::Operation operation;
        operation.bytes = batch.size() * sizeof(Fingerprint);
        operation.apply = [this, batch = std::move(batch)] { return remove(batch, drop_outcome_); };
        file_.submit(std::move(operation));
    }

private:
    // Of the messages of one append. Written by the writer, read when that has ended.
    using Ids = std::vector<std::int64_t>;

    // ---- the engine's thread ----

    int prepare() {
        const std::pair<SqliteStatement*, const char*> all[] = {
            {&add_message_,
             "INSERT INTO message(id, fp, recipient, typeu, qos, bridge, expires_at, taken_at, "
             "text) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"},
            {&drop_message_, "DELETE FROM message WHERE fp = ?"},
            {&take_back_, "DELETE FROM message WHERE id = ?"},
            {&put_outcome_,
             "INSERT OR REPLACE INTO outcome(fp, recipient, outcome, code, cseq, send_ts, "
             "attempts) "
             "VALUES(?, ?, ?, ?, ?, ?, ?)"},
            {&drop_outcome_, "DELETE FROM outcome WHERE fp = ?"}};
        for (const auto& [statement, sql] : all) {
            if (const int code = file_.file().prepare(sql, *statement)) return code;
        }
        return SQLITE_OK;
    }

    void forget_statements() {
        for (SqliteStatement* statement :
             {&add_message_, &drop_message_, &take_back_, &put_outcome_, &drop_outcome_}) {
            *statement = SqliteStatement();
        }
    }

    int load_all() {
        SqliteStatement messages;
        int code = file_.file().prepare(
            "SELECT fp, recipient, typeu, qos, bridge, expires_at, taken_at, text, id FROM message "
            "ORDER BY id",
            messages);
        if (code != SQLITE_OK) return code;
        while ((code = messages.step()) == SQLITE_ROW) {
            OutboxRecord& record = loaded_.messages.emplace_back();
            Data& message = record.message;
            message.fp = FingerprintBlob::parse(messages.text(0));
            message.to = messages.text(1);
            message.typeu = static_cast<int>(messages.integer(2));
            message.qos = messages.integer(3) != 0;
            message.bridge = messages.integer(4) != 0;
            read(messages, 5, record.expires_at);
            read(messages, 6, record.taken_at);
            message.text = messages.text(7);
            last_id_ = messages.integer(8);
            const bool has_numbers = row::is_int(messages.integer(2)) &&
                                     row::is_time(messages.integer(5)) &&
                                     row::is_time(messages.integer(6)) && row::is_number(last_id_);
            if (message.fp.empty() || !row::is_address(message.to) ||
                !is_valid_utf8(message.text) || !has_numbers) {
                return SQLITE_CORRUPT;
            }
        }
        if (code != SQLITE_DONE) return code;
        SqliteStatement outcomes;
        code = file_.file().prepare(
            "SELECT fp, recipient, outcome, code, cseq, send_ts, attempts FROM outcome ORDER BY id",
            outcomes);
        if (code != SQLITE_OK) return code;
        while ((code = outcomes.step()) == SQLITE_ROW) {
            OutcomeRecord& record = loaded_.outcomes.emplace_back();
            record.fp = FingerprintBlob::parse(outcomes.text(0));
            record.to = outcomes.text(1);
            record.outcome = static_cast<Outcome>(outcomes.integer(2));
            record.code = static_cast<int>(outcomes.integer(3));
            read(outcomes, 4, record.cseq);
            read(outcomes, 5, record.send_ts);
            record.attempts = static_cast<unsigned>(outcomes.integer(6));
            const std::int64_t outcome = outcomes.integer(2);
            const bool is_outcome =
                outcome >= 0 && outcome <= static_cast<std::int64_t>(Outcome::kUnknown);
            const bool has_numbers =
                row::is_int(outcomes.integer(3)) && row::is_number(outcomes.integer(4)) &&
                row::is_time(outcomes.integer(5)) && row::is_number(outcomes.integer(6)) &&
                outcomes.integer(6) <= std::numeric_limits<unsigned>::max();
            if (record.fp.empty() || !row::is_address(record.to) || !is_outcome || !has_numbers) {
                return SQLITE_CORRUPT;
            }
        }
        return code == SQLITE_DONE ? SQLITE_OK : code;
    }

    // The app was not told that these are kept: it may send them again, under other fingerprints.
    void take_back() {
        if (open_appends_.empty() || file_.file().execute("BEGIN IMMEDIATE") != SQLITE_OK) return;
        int code = SQLITE_OK;
        for (const auto& ids : open_appends_) {
            for (const std::int64_t id : *ids) {
                if (code == SQLITE_OK) code = take_back_.bind(id).run();
            }
        }
        (void)file_.file().execute(code == SQLITE_OK ? "COMMIT" : "ROLLBACK");
    }

    // ---- the writer's thread ----

    int add(const std::vector<OutboxRecord>& batch, Ids& ids) {
        ids.clear();
        for (const OutboxRecord& record : batch) {
            const Data& message = record.message;
            const FingerprintBlob fp(message.fp);
            ids.push_back(++last_id_);
            add_message_.bind(last_id_)
                .bind_blob(fp.view())
                .bind(std::string_view(message.to))
                .bind(message.typeu)
                .bind(message.qos ? 1 : 0)
                .bind(message.bridge ? 1 : 0);
            bind(add_message_, record.expires_at);
            bind(add_message_, record.taken_at);
            add_message_.bind(std::string_view(message.text));
            if (const int code = add_message_.run()) return code;
        }
        return SQLITE_OK;
    }

    int settle(const std::vector<OutcomeRecord>& batch) {
        for (const OutcomeRecord& record : batch) {
            const FingerprintBlob fp(record.fp);
            if (const int code = drop_message_.bind_blob(fp.view()).run()) return code;
            put_outcome_.bind_blob(fp.view())
                .bind(std::string_view(record.to))
                .bind(static_cast<int>(record.outcome))
                .bind(record.code);
            bind(put_outcome_, record.cseq);
            bind(put_outcome_, record.send_ts);
            put_outcome_.bind(static_cast<std::int64_t>(record.attempts));
            if (const int code = put_outcome_.run()) return code;
        }
        return SQLITE_OK;
    }

    static int remove(const std::vector<Fingerprint>& batch, SqliteStatement& drop) {
        for (const Fingerprint& fingerprint : batch) {
            const FingerprintBlob fp(fingerprint);
            if (const int code = drop.bind_blob(fp.view()).run()) return code;
        }
        return SQLITE_OK;
    }

    ClientFile file_;  // Before its statements: it goes last.
    SqliteStatement add_message_, drop_message_, take_back_, put_outcome_, drop_outcome_;
    bool appends_wait_ = false;
    Kept loaded_;
    std::deque<std::shared_ptr<Ids>> open_appends_;  // Nobody knows yet whether they are kept.
    std::int64_t last_id_ = 0;  // Given to a message by this process or before. Never again.
};

}  // namespace

Result<std::unique_ptr<Outbox>> open_sqlite_outbox(const std::string& path,
                                                   const AccountId& account,
                                                   const ClientFileOptions& options,
                                                   std::string& why, Outbox::Kept* left) {
    auto outbox = std::make_unique<SqliteOutbox>();
    if (const auto error = outbox->open(path, account, options, why, left)) return error;
    return std::unique_ptr<Outbox>(std::move(outbox));
}

}  // namespace petrel
