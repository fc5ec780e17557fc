#include "core/store/sqlite_inbox.hpp"

#include <algorithm>
#include <deque>
#include <sqlite3.h>
#include <utility>

#include "core/store/sqlite_blobs.hpp"
#include "core/store/sqlite_rows.hpp"

namespace petrel {
namespace {

// `message`: stored and not recorded as handled, in the order of storing. `cursor` has one row;
// without an epoch the device has none.
constexpr char kCreate[] = R"sql(
CREATE TABLE device(name TEXT NOT NULL) STRICT;
CREATE TABLE cursor(
    id INTEGER PRIMARY KEY CHECK(id = 1), epoch TEXT, seq INTEGER NOT NULL, fp BLOB NOT NULL)
    STRICT;
INSERT INTO cursor(id, epoch, seq, fp) VALUES(1, NULL, 0, x'');
CREATE TABLE message(
    id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, sender TEXT NOT NULL,
    recipient TEXT NOT NULL, fp BLOB NOT NULL, qos INTEGER NOT NULL, typeu INTEGER NOT NULL,
    bridge INTEGER NOT NULL, send_ts INTEGER, conv TEXT NOT NULL, cseq INTEGER NOT NULL,
    text TEXT NOT NULL) STRICT;
)sql";

constexpr int kApplicationId = 0x50747269;  // "Ptri"

SqliteFile::Schema schema() {
    SqliteFile::Schema schema;
    schema.application_id = kApplicationId;
    schema.version = 1;
    schema.create = kCreate;
    schema.what = "inbox";
    return schema;
}

class SqliteInbox final : public Inbox {
public:
    ~SqliteInbox() override { file_.stop(); }

    std::error_code open(const std::string& path, const AccountId& account,
                         const std::string& device, const ClientFileOptions& options,
                         std::string& why) {
        if (const auto error = file_.open(path, schema(), account, options, why)) return error;
        int code = prepare();
        if (code == SQLITE_OK) code = check_device(path, device, why);
        if (code == SQLITE_OK) code = load_all();
        if (code != SQLITE_OK) {
            forget_statements();
            return file_.give_up(code, why);
        }
        file_.start();
        return {};
    }

    bool is_durable() const override { return true; }
    std::string device() const override { return device_; }
    std::optional<InboxCursor> cursor() const override { return cursor_; }
    std::vector<InboxMessage> load_unhandled() override { return std::exchange(loaded_, {}); }
    std::string last_error() const override { return file_.last_error(); }

    void on_resume(const std::string& epoch, Position seq) override {
        ++era_;
        if (!cursor_ || cursor_->epoch != epoch || cursor_->seq != seq) {
            cursor_ = InboxCursor{epoch, seq, {}};
        }
        ClientFile::Operation operation;
        operation.bytes = epoch.size();
        operation.apply = [this, epoch, seq] { return move_cursor(epoch, seq); };
        file_.submit(std::move(operation));
    }

    void append(std::vector<Data> batch, Done done) override {
        ClientFile::Operation operation;
        for (const Data& data : batch) {
            operation.bytes += sizeof(Data) + data.text.size() + data.conv.size();
        }
        OpenAppend& open = open_appends_.emplace_back();
        open.number = ++last_append_;
        open.era = era_;
        open.done = std::move(done);
        if (!batch.empty()) {
            open.seq = batch.back().seq;
            open.fp = batch.back().fp;
        }
        operation.apply = [this, batch = std::move(batch)] { return add(batch); };
        operation.done = [this, number = last_append_](std::error_code error) {
            close_append(number, error);
        };
        operation.refusal = Errc::kInvalidPacket;
        operation.may_fail = true;
        file_.submit(std::move(operation));
    }

    void record_handled(std::size_t count, Done done) override {
        ClientFile::Operation operation;
        operation.apply = [this, count] {
            return drop_oldest_.bind(static_cast<std::int64_t>(count)).run();
        };
        operation.done = std::move(done);
        file_.submit(std::move(operation));
    }

private:
    struct OpenAppend {
        std::uint64_t number = 0;
        std::uint64_t era = 0;
        Position seq = 0;  // Of its last message.
        Fingerprint fp;
        Done done;
    };

    // ---- the engine's thread ----

    int prepare() {
        const std::pair<SqliteStatement*, const char*> all[] = {
            {&get_cursor_, "SELECT epoch, seq, fp FROM cursor"},
            {&put_cursor_, "UPDATE cursor SET epoch = ?, seq = ?, fp = ?"},
            {&add_message_,
             "INSERT INTO message(epoch, seq, sender, recipient, fp, qos, typeu, bridge, send_ts, "
             "conv, cseq, text) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
            {&drop_oldest_,
             "DELETE FROM message WHERE id IN (SELECT id FROM message ORDER BY id LIMIT ?)"}};
        for (const auto& [statement, sql] : all) {
            if (const int code = file_.file().prepare(sql, *statement)) return code;
        }
        return SQLITE_OK;
    }

    void forget_statements() {
        for (SqliteStatement* statement :
             {&get_cursor_, &put_cursor_, &add_message_, &drop_oldest_}) {
            *statement = SqliteStatement();
        }
    }

    int check_device(const std::string& path, const std::string& wanted, std::string& why) {
        SqliteStatement select;
        int code = file_.file().prepare("SELECT name FROM device", select);
        if (code != SQLITE_OK) return code;
        code = select.step();
        if (code == SQLITE_ROW) {
            device_ = select.text(0);
            if (!row::is_id(device_)) return SQLITE_CORRUPT;
            if (wanted.empty() || wanted == device_) return SQLITE_OK;
            why = path + " is the inbox of device '" + device_ + "', not of '" + wanted +
                  "': name no device, or another file";
            return SQLITE_AUTH;
        }
        if (code != SQLITE_DONE) return code;
        device_ = wanted.empty() ? UuidSource().next().to_string() : wanted;
        SqliteStatement insert;
        code = file_.file().prepare("INSERT INTO device(name) VALUES(?)", insert);
        if (code != SQLITE_OK) return code;
        return insert.bind(std::string_view(device_)).run();
    }

    int load_all() {
        int code = get_cursor_.step();
        if (code == SQLITE_ROW && !get_cursor_.is_null(0)) {
            cursor_.emplace();
            cursor_->epoch = get_cursor_.text(0);
            cursor_->seq = get_cursor_.number(1);
            cursor_->fp = FingerprintBlob::parse(get_cursor_.text(2));
            if (!row::is_id(cursor_->epoch) || !row::is_number(get_cursor_.integer(1))) {
                return SQLITE_CORRUPT;
            }
        }
        get_cursor_.reset();
        if (code == SQLITE_DONE) return SQLITE_CORRUPT;
        if (code != SQLITE_ROW) return code;

        SqliteStatement messages;
        code = file_.file().prepare(
            "SELECT epoch, seq, sender, recipient, fp, qos, typeu, bridge, send_ts, conv, cseq, "
            "text FROM message ORDER BY id",
            messages);
        if (code != SQLITE_OK) return code;
        while ((code = messages.step()) == SQLITE_ROW) {
            InboxMessage& message = loaded_.emplace_back();
            message.epoch = messages.text(0);
            Data& data = message.data;
            data.seq = messages.number(1);
            data.from = messages.text(2);
            data.to = messages.text(3);
            data.fp = FingerprintBlob::parse(messages.text(4));
            data.qos = messages.integer(5) != 0;
            data.typeu = static_cast<int>(messages.integer(6));
            data.bridge = messages.integer(7) != 0;
            if (!messages.is_null(8)) data.send_ts = messages.integer(8);
            data.conv = messages.text(9);
            data.cseq = messages.number(10);
            data.text = messages.text(11);
            const bool has_numbers = data.seq != 0 && row::is_number(messages.integer(1)) &&
                                     row::is_number(messages.integer(10)) &&
                                     row::is_int(messages.integer(6)) &&
                                     row::is_time(messages.integer(8));
            const bool has_texts = row::is_id(message.epoch) && is_valid_utf8(data.from) &&
                                   is_valid_utf8(data.to) && is_valid_utf8(data.conv) &&
                                   is_valid_utf8(data.text);
            const bool has_fp = !data.fp.empty() || !data.qos;
            if (!has_numbers || !has_texts || !has_fp) return SQLITE_CORRUPT;
        }
        return code == SQLITE_DONE ? SQLITE_OK : code;
    }

    void close_append(std::uint64_t number, std::error_code error) {
        const auto is_it = [number](const OpenAppend& open) { return open.number == number; };
        const auto found = std::find_if(open_appends_.begin(), open_appends_.end(), is_it);
        if (found == open_appends_.end()) return;  // Failed with one before it.
        std::vector<OpenAppend> closed;
        closed.push_back(std::move(*found));
        auto behind = open_appends_.erase(found);
        // What comes behind a gap cannot be stored. Said at once: whoever begins again at the gap
        // must not be told later that something failed.
        if (error) {
            while (behind != open_appends_.end() && behind->era == closed.front().era) {
                closed.push_back(std::move(*behind));
                behind = open_appends_.erase(behind);
            }
        } else if (closed.front().era == era_ && closed.front().seq != 0 && cursor_) {
            cursor_->seq = closed.front().seq;
            cursor_->fp = closed.front().fp;
        }
        const std::weak_ptr<char> alive = alive_;
        for (OpenAppend& open : closed) {
            if (alive.expired()) return;
            if (open.done) open.done(error);
        }
    }

    // ---- the writer's thread ----

    int move_cursor(const std::string& epoch, Position seq) {
        int code = get_cursor_.step();
        const bool is_there = code == SQLITE_ROW && !get_cursor_.is_null(0) &&
                              get_cursor_.text(0) == epoch && get_cursor_.number(1) == seq;
        get_cursor_.reset();
        if (code != SQLITE_ROW) return code;
        if (is_there) return SQLITE_OK;
        return put_cursor_.bind(std::string_view(epoch)).bind(seq).bind_blob({}).run();
    }

    int add(const std::vector<Data>& batch) {
        int code = get_cursor_.step();
        const bool has_cursor = code == SQLITE_ROW && !get_cursor_.is_null(0);
        const std::string epoch(has_cursor ? get_cursor_.text(0) : std::string_view());
        Position seq = has_cursor ? get_cursor_.number(1) : 0;
        get_cursor_.reset();
        if (code != SQLITE_ROW) return code;
        if (batch.empty()) return SQLITE_OK;
        for (const Data& data : batch) {
            if (!has_cursor || data.seq != ++seq) return SQLITE_CONSTRAINT;
            if ((code = add_one(epoch, data))) return code;
        }
        const FingerprintBlob fp(batch.back().fp);
        return put_cursor_.bind(std::string_view(epoch)).bind(seq).bind_blob(fp.view()).run();
    }

    int add_one(const std::string& epoch, const Data& data) {
        const FingerprintBlob fp(data.fp);
        add_message_.bind(std::string_view(epoch))
            .bind(data.seq)
            .bind(std::string_view(data.from))
            .bind(std::string_view(data.to))
            .bind_blob(fp.view())
            .bind(data.qos ? 1 : 0)
            .bind(data.typeu)
            .bind(data.bridge ? 1 : 0);
        if (data.send_ts) {
            add_message_.bind(*data.send_ts);
        } else {
            add_message_.bind_null();
        }
        add_message_.bind(std::string_view(data.conv)).bind(data.cseq);
        return add_message_.bind(std::string_view(data.text)).run();
    }

    ClientFile file_;  // Before its statements: it goes last.
    SqliteStatement get_cursor_, put_cursor_, add_message_, drop_oldest_;
    std::string device_;
    std::optional<InboxCursor>
        cursor_;  // Where the last on_resume, or what was stored since, left it.
    std::vector<InboxMessage> loaded_;
    std::deque<OpenAppend> open_appends_;
    std::uint64_t era_ = 0;  // A run of appends without an on_resume.
    std::uint64_t last_append_ = 0;
    std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace

Result<std::unique_ptr<Inbox>> open_sqlite_inbox(const std::string& path, const AccountId& account,
                                                 const std::string& device,
                                                 const ClientFileOptions& options,
                                                 std::string& why) {
    auto inbox = std::make_unique<SqliteInbox>();
    if (const auto error = inbox->open(path, account, device, options, why)) return error;
    return std::unique_ptr<Inbox>(std::move(inbox));
}

}  // namespace petrel
