#include "core/store/sqlite_log.hpp"

#include <algorithm>
#include <iterator>
#include <memory>
#include <sqlite3.h>

#include "core/store/sqlite_blobs.hpp"
#include "protocol/conversation.hpp"

namespace petrel {

const char* const SqliteLog::kCreate = R"sql(
CREATE TABLE log(
    id INTEGER PRIMARY KEY, accepted_at INTEGER NOT NULL, live INTEGER NOT NULL) STRICT;
CREATE INDEX log_dead ON log(id) WHERE live = 0;
CREATE TABLE entries(id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE inbox(
    user INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, log INTEGER NOT NULL,
    PRIMARY KEY(user, first)) STRICT, WITHOUT ROWID;
)sql";

namespace {

// An entry: its size (all of it), six numbers, whether it is a bridge's, the size of the
// fingerprint, the fingerprint, the text.
constexpr std::size_t kNumberBytes = 8;
constexpr std::size_t kHeadBytes = 7 * kNumberBytes + 2;

constexpr int kDropsMax = 256;  // Pieces a commit.

void append_entry(const MessageRow& row, std::string& out) {
    const StoredMessage& message = *row.message;
    const FingerprintBlob fp(message.fp);
    append_number(kHeadBytes + fp.view().size() + message.text.size(), out);
    append_number(static_cast<std::uint64_t>(row.user), out);
    append_number(row.seq, out);
    append_number(static_cast<std::uint64_t>(row.sender), out);
    append_number(message.cseq, out);
    append_number(static_cast<std::uint64_t>(message.send_ts), out);
    append_number(static_cast<std::uint64_t>(message.typeu), out);
    out.push_back(message.bridge ? 1 : 0);
    out.push_back(static_cast<char>(fp.view().size()));
    out += fp.view();
    out += message.text;
}

// Takes the first entry off `rest`; false: there is none, or it is damaged, and `rest` stays.
bool take_entry(std::string_view& rest, SqliteLog::Entry& entry) {
    if (rest.size() < kHeadBytes) return false;
    const std::uint64_t size = number_at(rest, 0);
    const std::size_t fp_size = static_cast<unsigned char>(rest[kHeadBytes - 1]);
    if (size > rest.size() || size < kHeadBytes + fp_size) return false;
    entry.user = static_cast<UserId>(number_at(rest, kNumberBytes));
    entry.seq = number_at(rest, 2 * kNumberBytes);
    entry.sender = static_cast<UserId>(number_at(rest, 3 * kNumberBytes));
    entry.cseq = number_at(rest, 4 * kNumberBytes);
    entry.send_ts = static_cast<WallMillis>(number_at(rest, 5 * kNumberBytes));
    entry.typeu = static_cast<int>(static_cast<std::int64_t>(number_at(rest, 6 * kNumberBytes)));
    entry.bridge = rest[kHeadBytes - 2] != 0;
    entry.fp = rest.substr(kHeadBytes, fp_size);
    entry.text = rest.substr(kHeadBytes + fp_size, size - kHeadBytes - fp_size);
    rest.remove_prefix(size);
    return true;
}

int error_of(int code) { return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code; }

}  // namespace

int SqliteLog::open(SqliteFile& file) {
    const std::pair<SqliteStatement*, const char*> statements[] = {
        {&add_piece_, "INSERT INTO log(id, accepted_at, live) VALUES(?1, ?2, ?3)"},
        {&add_entries_, "INSERT INTO entries(id, data) VALUES(?1, ?2)"},
        {&add_run_, "INSERT INTO inbox(user, first, last, log) VALUES(?1, ?2, ?3, ?4)"},
        {&find_entries_, "SELECT data FROM entries WHERE id = ?1"},
        {&find_pieces_, "SELECT id, accepted_at FROM log WHERE id > ?1 ORDER BY id"},
        {&find_old_, "SELECT id, accepted_at FROM log WHERE live > 0 ORDER BY id"},
        {&drop_run_, "DELETE FROM inbox WHERE user = ?1 AND first = ?2"},
        {&lessen_, "UPDATE log SET live = max(live - ?2, 0) WHERE id = ?1"},
        {&find_dead_, "SELECT id FROM log WHERE live = 0 AND id <= ?1 ORDER BY id LIMIT ?2"},
        {&drop_piece_, "DELETE FROM log WHERE id = ?1"},
        {&drop_entries_, "DELETE FROM entries WHERE id = ?1"},
        {&find_runs_,
         "SELECT last, log FROM inbox WHERE user = ?1 AND first >= coalesce("
         "(SELECT max(first) FROM inbox WHERE user = ?1 AND first <= ?2), 0) ORDER BY first"},
        {&find_runs_to_,
         "SELECT first, last, log FROM inbox WHERE user = ?1 AND first <= ?2 ORDER BY first"},
        {&find_run_,
         "SELECT last, log FROM inbox WHERE user = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1"},
        {&find_owner_, "SELECT app, name, floor FROM user WHERE id = ?1"},
    };
    for (const auto& [statement, sql] : statements) {
        if (const int code = file.prepare(sql, *statement)) return code;
    }
    SqliteStatement select;
    if (const int code = file.prepare("SELECT coalesce(max(id), 0) FROM log", select)) return code;
    const int code = select.step();
    if (code != SQLITE_ROW) return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
    set_last_id(select.integer(0));
    return SQLITE_OK;
}

// ---- writing ----

int SqliteLog::write(const std::vector<MessageRow>& rows) {
    planned_id_ = last_id_;
    order_.clear();
    for (const MessageRow& row : rows) order_.push_back(&row);
    // Those of an inbox together: they are one run then.
    std::stable_sort(order_.begin(), order_.end(),
                     [](const auto* a, const auto* b) { return a->user < b->user; });
    piece_.clear();
    piece_live_ = 0;
    runs_.clear();
    for (const MessageRow* const row : order_) {
        const std::size_t bytes = kHeadBytes + Fingerprint::kTextMax + row->message->text.size();
        if (!piece_.empty() && piece_.size() + bytes > kPieceBytes) {
            if (const int code = write_piece(row->accepted_at)) return code;
        }
        append_entry(*row, piece_);
        if (row->is_gone) continue;
        ++piece_live_;
        const bool goes_on =
            !runs_.empty() && runs_.back().user == row->user && runs_.back().last + 1 == row->seq;
        if (goes_on) {
            runs_.back().last = row->seq;
        } else {
            runs_.push_back({row->user, row->seq, row->seq});
        }
    }
    return rows.empty() ? SQLITE_OK : write_piece(rows.back().accepted_at);
}

int SqliteLog::write_piece(std::int64_t accepted_at) {
    ++planned_id_;
    int code = add_piece_.bind(planned_id_).bind(accepted_at).bind(piece_live_).run();
    if (code == SQLITE_OK) code = add_entries_.bind(planned_id_).bind_blob(piece_).run();
    for (const Run& run : runs_) {
        if (code != SQLITE_OK) return code;
        code = add_run_.bind(run.user).bind(run.first).bind(run.last).bind(planned_id_).run();
    }
    piece_.clear();
    piece_live_ = 0;
    runs_.clear();
    return code;
}

int SqliteLog::forget(UserId user, Position up_to) {
    struct Gone {
        Position first = 0;
        std::int64_t messages = 0;
        std::int64_t piece = 0;
    };
    std::vector<Gone> gone;
    int code = SQLITE_OK;
    find_runs_to_.bind(user).bind(up_to);
    while ((code = find_runs_to_.step()) == SQLITE_ROW) {
        const Position first = find_runs_to_.number(0);
        const Position last = find_runs_to_.number(1);
        if (last > up_to) break;
        gone.push_back(
            {first, static_cast<std::int64_t>(last - first) + 1, find_runs_to_.integer(2)});
    }
    find_runs_to_.reset();
    code = error_of(code);
    for (const Gone& run : gone) {
        if (code == SQLITE_OK) code = drop_run_.bind(user).bind(run.first).run();
        if (code != SQLITE_OK) return code;
        code = lessen_.bind(run.piece).bind(run.messages).run();
    }
    return code;
}

int SqliteLog::drop_dead(std::int64_t up_to, bool& is_all) {
    std::vector<std::int64_t> dead;
    int code = SQLITE_OK;
    find_dead_.bind(up_to).bind(kDropsMax);
    while ((code = find_dead_.step()) == SQLITE_ROW) dead.push_back(find_dead_.integer(0));
    find_dead_.reset();
    code = error_of(code);
    for (const std::int64_t id : dead) {
        if (code == SQLITE_OK) code = drop_piece_.bind(id).run();
        if (code == SQLITE_OK) code = drop_entries_.bind(id).run();
    }
    is_all = dead.size() < static_cast<std::size_t>(kDropsMax);
    return code;
}

int SqliteLog::find_dead(bool& is_there) {
    const int code = find_dead_.bind(kNumberMax).bind(1).step();
    is_there = code == SQLITE_ROW;
    find_dead_.reset();
    return error_of(code);
}

// ---- reading ----

int SqliteLog::read_piece(std::int64_t id) {
    const int code = find_entries_.bind(id).step();
    if (code == SQLITE_ROW) piece_.assign(find_entries_.text(0));
    find_entries_.reset();
    if (code == SQLITE_ROW) return SQLITE_OK;
    return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
}

int SqliteLog::find_owner(UserId user, Owners& owners, const Owner*& owner) {
    const auto [at, is_new] = owners.try_emplace(user);
    owner = &at->second;
    if (!is_new) return SQLITE_OK;
    const int code = find_owner_.bind(user).step();
    if (code == SQLITE_ROW) {
        at->second.app = find_owner_.text(0);
        at->second.name = find_owner_.text(1);
        at->second.floor = find_owner_.number(2);
    }
    find_owner_.reset();
    if (code == SQLITE_ROW) return SQLITE_OK;
    return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
}

int SqliteLog::find_messages(
    const UserRow& user, Position after, std::size_t messages_max, std::size_t bytes_max,
    std::vector<std::pair<Position, std::shared_ptr<const StoredMessage>>>& rows) {
    Owners senders;
    std::size_t bytes = 0;
    bool is_full = rows.size() >= messages_max;
    int code = SQLITE_ROW;
    find_runs_.bind(user.id).bind(after + 1);
    while (!is_full && (code = find_runs_.step()) == SQLITE_ROW) {
        const Position last = find_runs_.number(0);
        if (last <= after) continue;
        if ((code = read_piece(find_runs_.integer(1))) != SQLITE_OK) break;
        std::string_view rest = piece_;
        Entry entry;
        while (!is_full && take_entry(rest, entry)) {
            if (entry.user != user.id || entry.seq <= after) continue;
            bytes += entry.text.size();
            is_full = bytes > bytes_max && !rows.empty();
            if (is_full) break;
            const Owner* sender = nullptr;
            if ((code = find_owner(entry.sender, senders, sender)) != SQLITE_OK) break;
            auto message = std::make_shared<StoredMessage>();
            message->app = user.app;
            message->from = sender->name;
            message->to = user.name;
            message->fp = FingerprintBlob::parse(entry.fp);
            message->typeu = entry.typeu;
            message->bridge = entry.bridge;
            message->text = entry.text;
            message->conv = conversation_of_users(message->from, message->to);
            message->cseq = entry.cseq;
            message->send_ts = entry.send_ts;
            rows.emplace_back(entry.seq, std::move(message));
            is_full = rows.size() >= messages_max;
        }
        if (code != SQLITE_OK) break;
        if (!is_full && (!rest.empty() || rows.empty() || rows.back().first < last)) {
            code = SQLITE_CORRUPT;
            break;
        }
    }
    find_runs_.reset();
    return error_of(code);
}

int SqliteLog::find_fingerprint(UserId user, Position seq, Fingerprint& fp) {
    int code = find_run_.bind(user).bind(seq).step();
    const bool is_there = code == SQLITE_ROW && find_run_.number(0) >= seq;
    const std::int64_t piece = is_there ? find_run_.integer(1) : 0;
    find_run_.reset();
    if (!is_there) return error_of(code);
    if ((code = read_piece(piece))) return code;
    std::string_view rest = piece_;
    Entry entry;
    while (take_entry(rest, entry)) {
        if (entry.user != user || entry.seq != seq) continue;
        fp = FingerprintBlob::parse(entry.fp);
        return SQLITE_OK;
    }
    return SQLITE_CORRUPT;
}

int SqliteLog::find_expired(std::int64_t before, std::size_t skip, std::size_t rows_max,
                            std::vector<MessageTables::ExpiredMessage>& rows) {
    Owners owners;
    int code = SQLITE_ROW;
    while (rows.size() < rows_max && (code = find_old_.step()) == SQLITE_ROW) {
        if (find_old_.integer(1) >= before) break;
        if ((code = read_piece(find_old_.integer(0))) != SQLITE_OK) break;
        std::string_view rest = piece_;
        Entry entry;
        while (rows.size() < rows_max && take_entry(rest, entry)) {
            const Owner* owner = nullptr;
            if ((code = find_owner(entry.user, owners, owner)) != SQLITE_OK) break;
            if (entry.seq <= owner->floor) continue;
            if (skip > 0) {
                --skip;
                continue;
            }
            rows.push_back({owner->app, owner->name, entry.seq});
        }
        if (code != SQLITE_OK) break;
    }
    find_old_.reset();
    return error_of(code);
}

int SqliteLog::for_each_after(std::int64_t id, const Visit& visit) {
    Owners owners;
    int code = SQLITE_OK;
    find_pieces_.bind(id);
    while ((code = find_pieces_.step()) == SQLITE_ROW) {
        const std::int64_t piece = find_pieces_.integer(0);
        if ((code = read_piece(piece)) != SQLITE_OK) break;
        std::string_view rest = piece_;
        Entry entry;
        while (take_entry(rest, entry)) {
            const Owner* to = nullptr;
            if ((code = find_owner(entry.user, owners, to)) != SQLITE_OK) break;
            visit(piece, find_pieces_.integer(1), entry, to->name);
        }
        if (code == SQLITE_OK && !rest.empty()) code = SQLITE_CORRUPT;
        if (code != SQLITE_OK) break;
    }
    find_pieces_.reset();
    return error_of(code);
}

}  // namespace petrel
