#include "core/store/sqlite_index.hpp"

#include <algorithm>
#include <sqlite3.h>
#include <unordered_map>

#include "core/store/log_piece.hpp"
#include "core/store/sqlite_blobs.hpp"

namespace petrel {

// `inbox`: runs, each first, last, piece; `first` and `last` of the row are theirs together.
const char* const SqliteIndex::kCreate = R"sql(
CREATE TABLE inbox(
    user INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, runs BLOB NOT NULL,
    PRIMARY KEY(user, first)) STRICT, WITHOUT ROWID;
CREATE TABLE stream(
    user INTEGER NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL,
    used_at INTEGER NOT NULL, PRIMARY KEY(user, name)) STRICT, WITHOUT ROWID;
CREATE TABLE conversation(
    low INTEGER NOT NULL, high INTEGER NOT NULL, cseq INTEGER NOT NULL,
    PRIMARY KEY(low, high)) STRICT, WITHOUT ROWID;
CREATE TABLE piece(
    id INTEGER PRIMARY KEY, accepted_at INTEGER NOT NULL, live INTEGER NOT NULL) STRICT;
CREATE INDEX piece_dead ON piece(id) WHERE live = 0;
)sql";

namespace {

constexpr std::size_t kRunBytes = 3 * 8;

void append_run(const InboxRun& run, std::string& blob) {
    append_number(run.first, blob);
    append_number(run.last, blob);
    append_number(static_cast<std::uint64_t>(run.piece), blob);
}

// False: there is none, or it is none and stays.
bool take_run(std::string_view& blob, InboxRun& run) {
    if (blob.size() < kRunBytes) return false;
    run.first = number_at(blob, 0);
    run.last = number_at(blob, 8);
    run.piece = static_cast<std::int64_t>(number_at(blob, 16));
    if (run.first > run.last || run.last > kNumberMax) return false;
    blob.remove_prefix(kRunBytes);
    return true;
}

}  // namespace

// ---- opening ----

int SqliteIndex::open(SqliteFile& file) {
    const std::pair<SqliteStatement*, const char*> statements[] = {
        {&put_run_, "REPLACE INTO inbox(user, first, last, runs) VALUES(?1, ?2, ?3, ?4)"},
        {&drop_run_, "DELETE FROM inbox WHERE user = ?1 AND first = ?2"},
        {&find_runs_,
         "SELECT runs FROM inbox WHERE user = ?1 AND first >= coalesce("
         "(SELECT max(first) FROM inbox WHERE user = ?1 AND first <= ?2), 0) ORDER BY first"},
        {&find_runs_to_,
         "SELECT first, runs FROM inbox WHERE user = ?1 AND first <= ?2 ORDER BY first"},
        {&put_stream_, "REPLACE INTO stream(user, name, position, used_at) VALUES(?1, ?2, ?3, ?4)"},
        {&drop_stream_, "DELETE FROM stream WHERE user = ?1 AND name = ?2"},
        {&find_streams_, "SELECT name, position, used_at FROM stream WHERE user = ?1"},
        {&sweep_streams_,
         "SELECT user, name, used_at FROM stream WHERE (user, name) > (?1, ?2) "
         "ORDER BY user, name LIMIT ?3"},
        {&put_conversation_, "REPLACE INTO conversation(low, high, cseq) VALUES(?1, ?2, ?3)"},
        {&find_conversation_, "SELECT cseq FROM conversation WHERE low = ?1 AND high = ?2"},
        {&put_piece_, "REPLACE INTO piece(id, accepted_at, live) VALUES(?1, ?2, ?3)"},
        {&lessen_, "UPDATE piece SET live = max(live - ?2, 0) WHERE id = ?1"},
        {&find_old_, "SELECT id, accepted_at FROM piece WHERE live > 0 AND id <= ?1 ORDER BY id"},
        {&find_dead_, "SELECT id FROM piece WHERE live = 0 AND id <= ?1 ORDER BY id LIMIT ?2"},
        {&find_waiting_, "SELECT 1 FROM piece WHERE live = 0 AND id > ?1 LIMIT 1"},
        {&drop_piece_, "DELETE FROM piece WHERE id = ?1"},
        {&put_settled_, "UPDATE meta SET value = ?1 WHERE key = 4"},
    };
    for (const auto& [statement, sql] : statements) {
        if (const int code = file.prepare(sql, *statement)) return code;
    }
    SqliteStatement select;
    int code = file.prepare("SELECT value FROM meta WHERE key = 4", select);
    if (code != SQLITE_OK) return code;
    code = select.step();
    if (code != SQLITE_ROW) return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
    settled_piece_ = select.integer(0);
    start();
    return SQLITE_OK;
}

int SqliteIndex::replay(std::int64_t id, std::string_view piece) {
    if (id <= settled_piece_) return SQLITE_OK;
    return recent_.add(id, piece) ? SQLITE_OK : SQLITE_CORRUPT;
}

// ---- settling ----

SqliteIndex::Order::Order(const IndexRows& rows) : runs(rows.runs()), pieces(rows.pieces()) {
    std::stable_sort(runs.begin(), runs.end(),
                     [](const InboxRun& a, const InboxRun& b) { return a.user < b.user; });
    for (std::size_t i = 0; i < rows.streams().size(); ++i) {
        streams.push_back(&rows.streams().entry(i));
    }
    std::sort(streams.begin(), streams.end(), [](const auto* a, const auto* b) {
        return a->key.user != b->key.user ? a->key.user < b->key.user : a->key.name < b->key.name;
    });
    for (std::size_t i = 0; i < rows.conversations().size(); ++i) {
        conversations.push_back(&rows.conversations().entry(i));
    }
    std::sort(conversations.begin(), conversations.end(), [](const auto* a, const auto* b) {
        return a->key.low != b->key.low ? a->key.low < b->key.low : a->key.high < b->key.high;
    });
}

void SqliteIndex::start() {
    planned_ = Planned();
    planned_.next = next_;
    planned_.settled_piece = settled_piece_;
}

int SqliteIndex::write() {
    if (!is_settling_ || planned_.is_all) return SQLITE_OK;
    const std::size_t count = is_hurried_ ? order_.size() : due_;
    if (count < std::min(kRowsAtOnce, limits_.rows) && !is_hurried_) return SQLITE_OK;
    int code = write_rows(order_, next_, count, planned_.next);
    if (code == SQLITE_OK && planned_.next == order_.size()) {
        code = put_settled(settling_.pieces().back().id);
    }
    return code;
}

// At least so many, if there are, beginning with `from`; `next` is the first that is not written.
int SqliteIndex::write_rows(const Order& order, std::size_t from, std::size_t count,
                            std::size_t& next) {
    const std::size_t streams_at = order.runs.size();
    const std::size_t conversations_at = streams_at + order.streams.size();
    const std::size_t pieces_at = conversations_at + order.conversations.size();
    const std::size_t end = std::min(order.size(), from + count);
    int code = SQLITE_OK;
    for (next = from; next < end && code == SQLITE_OK;) {
        if (next < streams_at) {
            code = write_runs(order.runs, next, next);
        } else if (next < conversations_at) {
            code = write_stream(*order.streams[next++ - streams_at]);
        } else if (next < pieces_at) {
            const auto& [key, cseq] = *order.conversations[next++ - conversations_at];
            code = put_conversation_.bind(key.low).bind(key.high).bind(cseq).run();
        } else {
            const IndexRows::Piece& piece = order.pieces[next++ - pieces_at];
            code = put_piece_.bind(piece.id).bind(piece.accepted_at).bind(piece.live).run();
        }
    }
    return code;
}

// One row, of the runs from `from` on.
int SqliteIndex::write_runs(const std::vector<InboxRun>& runs, std::size_t from,
                            std::size_t& next) {
    const InboxRun& first = runs[from];
    scratch_.clear();
    next = from;
    while (next < runs.size() && runs[next].user == first.user && next - from < kRunsInRow) {
        append_run(runs[next++], scratch_);
    }
    put_run_.bind(first.user).bind(first.first).bind(runs[next - 1].last);
    return put_run_.bind_blob(scratch_).run();
}

int SqliteIndex::write_stream(const IndexRows::Streams::Entry& entry) {
    const auto& [key, stream] = entry;
    const std::string_view name = key.name;
    if (stream.is_gone) return drop_stream_.bind(key.user).bind(name).run();
    put_stream_.bind(key.user).bind(name).bind(stream.position);
    return put_stream_.bind(stream.used_at).run();
}

int SqliteIndex::put_settled(std::int64_t piece) {
    planned_.settled_piece = piece;
    return put_settled_.bind(piece).run();
}

// Whatever memory has, in this transaction.
int SqliteIndex::settle_all() {
    planned_.is_all = true;
    std::int64_t last = settled_piece_;
    for (const IndexRows* const rows : {&settling_, &recent_}) {
        if (rows->empty()) continue;
        last = rows->pieces().back().id;
        const bool is_begun = rows == &settling_;
        const Order order = is_begun ? Order() : Order(*rows);
        std::size_t next = 0;
        const int code = write_rows(is_begun ? order_ : order, is_begun ? next_ : 0,
                                    is_begun ? order_.size() : order.size(), next);
        if (code != SQLITE_OK) return code;
    }
    return put_settled(last);
}

void SqliteIndex::committed() {
    settled_piece_ = planned_.settled_piece;
    due_ -= std::min(due_, planned_.next - next_);
    next_ = planned_.next;
    const bool is_settled = is_settling_ && next_ == order_.size();
    if (is_settled || planned_.is_all) {
        settling_.clear();
        order_ = Order();
        next_ = due_ = 0;
        is_settling_ = is_hurried_ = false;
    }
    if (planned_.is_all) recent_.clear();
    const std::size_t known = recent_.size();
    const std::size_t known_bytes = recent_.bytes();
    for (const SqliteLog::Piece& piece : log_) recent_.add(piece.id, piece.bytes);
    if (is_settling_) {  // So fast that settling_ is empty first, in rows and in bytes.
        const std::size_t bytes = recent_.bytes() - known_bytes;
        due_ += kRowsForOne * (recent_.size() - known + bytes * limits_.rows / (limits_.bytes + 1));
    }
    freeze_if_full();
    start();
}

void SqliteIndex::freeze_if_full() {
    if (recent_.size() >= limits_.rows || recent_.bytes() >= limits_.bytes) freeze();
}

void SqliteIndex::freeze() {
    if (recent_.empty() || is_settling_) return;
    is_settling_ = true;
    std::swap(settling_, recent_);  // settling_ was empty, but keeps its memory.
    order_ = Order(settling_);
    next_ = due_ = 0;
    start();
}

void SqliteIndex::hurry() {
    freeze();
    is_hurried_ = is_settling_;
}

// ---- what goes ----

bool SqliteIndex::knows_run_up_to(UserId user, Position up_to) const {
    bool is_known = false;
    for (const IndexRows* const rows : {&settling_, &recent_}) {
        rows->for_each_run_back(user, [&](const InboxRun& run) {
            is_known = is_known || run.first <= up_to;
            return !is_known;
        });
    }
    return is_known;
}

int SqliteIndex::forget(UserId user, Position up_to) {
    if (!planned_.is_all && knows_run_up_to(user, up_to)) {
        if (const int code = settle_all()) return code;
    }
    return forget_in_tables(user, up_to);
}

int SqliteIndex::forget_in_tables(UserId user, Position up_to) {
    std::vector<Position> rows;
    std::vector<InboxRun> gone;
    std::vector<InboxRun> kept;  // Of the last row.
    int code = SQLITE_OK;
    find_runs_to_.bind(user).bind(up_to);
    while (kept.empty() && (code = find_runs_to_.step()) == SQLITE_ROW) {
        rows.push_back(find_runs_to_.number(0));
        std::string_view blob = find_runs_to_.text(1);
        InboxRun run;
        run.user = user;
        while (take_run(blob, run)) (run.last <= up_to ? gone : kept).push_back(run);
        if (!blob.empty() || kept.size() > kRunsInRow) {
            code = SQLITE_CORRUPT;
            break;
        }
    }
    find_runs_to_.reset();
    code = error_of_step(code);
    if (gone.empty() || code != SQLITE_OK) return code;
    for (const Position first : rows) {
        if (code == SQLITE_OK) code = drop_run_.bind(user).bind(first).run();
    }
    std::size_t next = 0;
    if (code == SQLITE_OK && !kept.empty()) code = write_runs(kept, 0, next);
    for (const InboxRun& run : gone) {
        if (code != SQLITE_OK) return code;
        code = lessen_.bind(run.piece).bind(run.last - run.first + 1).run();
    }
    return code;
}

int SqliteIndex::drop_dead(std::int64_t up_to, bool& is_all) {
    std::vector<std::int64_t> dead;
    int code = SQLITE_OK;
    find_dead_.bind(up_to).bind(kDropsMax);
    while ((code = find_dead_.step()) == SQLITE_ROW) dead.push_back(find_dead_.integer(0));
    find_dead_.reset();
    code = error_of_step(code);
    for (const std::int64_t id : dead) {
        if (code == SQLITE_OK) code = drop_piece_.bind(id).run();
        if (code == SQLITE_OK) code = log_.drop(id);
    }
    is_all = dead.size() < static_cast<std::size_t>(kDropsMax);
    return code;
}

int SqliteIndex::find_waiting(std::int64_t after, std::int64_t before, bool& is_there) {
    const int code = find_waiting_.bind(after).step();
    is_there = code == SQLITE_ROW;
    find_waiting_.reset();
    for (const IndexRows* const rows : {&settling_, &recent_}) {
        for (const IndexRows::Piece& piece : rows->pieces()) {
            if (piece.accepted_at >= before) break;
            is_there = is_there || piece.live == 0;
        }
    }
    return error_of_step(code);
}

// ---- reading ----

std::int64_t SqliteIndex::newest() const {
    for (const IndexRows* const rows : {&recent_, &settling_}) {
        if (!rows->empty()) return rows->pieces().back().accepted_at;
    }
    return 0;
}

Position SqliteIndex::find_last(UserId user) const {
    Position last = 0;
    for (const IndexRows* const rows : {&recent_, &settling_}) {
        rows->for_each_run_back(user, [&](const InboxRun& run) {
            last = std::max(last, run.last);
            return false;
        });
    }
    return last;
}

int SqliteIndex::find_streams(UserId user, std::vector<StreamRow>& rows) {
    std::unordered_map<std::string, StreamRow> found;
    int code = SQLITE_OK;
    find_streams_.bind(user);
    while ((code = find_streams_.step()) == SQLITE_ROW) {
        std::string name(find_streams_.text(0));
        found[name] = {name, find_streams_.number(1), find_streams_.integer(2)};
    }
    find_streams_.reset();
    for (const IndexRows* const newer : {&settling_, &recent_}) {
        newer->for_each_stream(user, [&](const std::string& name, const IndexRows::Stream& stream) {
            if (stream.is_gone) {
                found.erase(name);
            } else {
                found[name] = {name, stream.position, stream.used_at};
            }
        });
    }
    for (auto& [name, row] : found) rows.push_back(std::move(row));
    return error_of_step(code);
}

// Looks at no more than four rows for one that goes.
int SqliteIndex::sweep_streams(NamedKey& at, std::int64_t before, std::size_t rows_max,
                               std::vector<NamedKey>& keys, bool& is_finished) {
    const auto looks_max = std::min<std::uint64_t>(rows_max, kNumberMax / 4) * 4;
    const std::size_t keys_max = keys.size() + rows_max;
    const NamedKey from = at;
    sweep_streams_.bind(from.user).bind(std::string_view(from.name)).bind(looks_max);
    std::uint64_t looked = 0;
    int code = SQLITE_OK;
    while (keys.size() < keys_max && (code = sweep_streams_.step()) == SQLITE_ROW) {
        ++looked;
        at = {sweep_streams_.integer(0), std::string(sweep_streams_.text(1))};
        const bool is_newer_known = recent_.streams().find(at) || settling_.streams().find(at);
        if (sweep_streams_.integer(2) < before && !is_newer_known) keys.push_back(at);
    }
    sweep_streams_.reset();
    is_finished = looked < looks_max && keys.size() < keys_max;
    if (is_finished) at = {};
    return error_of_step(code);
}

int SqliteIndex::find_conversation(const ConversationKey& key, std::uint64_t& cseq) {
    for (const IndexRows* const rows : {&recent_, &settling_}) {
        if (const std::uint64_t* const found = rows->conversations().find(key)) {
            cseq = *found;
            return SQLITE_OK;
        }
    }
    const int code = find_conversation_.bind(key.low).bind(key.high).step();
    if (code == SQLITE_ROW) cseq = find_conversation_.number(0);
    find_conversation_.reset();
    return error_of_step(code);
}

// Those that have positions from `from` on, in order. A run may be in the tables and in memory,
// while it is settled.
int SqliteIndex::for_each_run(UserId user, Position from, const VisitRun& visit) {
    bool goes_on = true;
    int code = SQLITE_OK;
    const auto take = [&](const InboxRun& run) {
        if (run.last < from) return SQLITE_OK;
        from = run.last + 1;
        return visit(run, goes_on);
    };
    find_runs_.bind(user).bind(from);
    while (goes_on && (code = find_runs_.step()) == SQLITE_ROW) {
        std::string_view blob = find_runs_.text(0);
        InboxRun run;
        run.user = user;
        code = SQLITE_OK;
        while (goes_on && code == SQLITE_OK && take_run(blob, run)) code = take(run);
        if (goes_on && code == SQLITE_OK && !blob.empty()) code = SQLITE_CORRUPT;
        if (code != SQLITE_OK) break;
    }
    find_runs_.reset();
    code = error_of_step(code);
    std::vector<InboxRun> runs;
    for (const IndexRows* const rows : {&settling_, &recent_}) {
        runs.clear();
        rows->for_each_run_back(user, [&](const InboxRun& run) {
            if (run.last < from) return false;
            runs.push_back(run);
            return true;
        });
        for (auto run = runs.rbegin(); goes_on && code == SQLITE_OK && run != runs.rend(); ++run) {
            code = take(*run);
        }
    }
    return code;
}

int SqliteIndex::find_messages(
    const UserRow& user, Position after, std::size_t messages_max, std::size_t bytes_max,
    std::vector<std::pair<Position, std::shared_ptr<const StoredMessage>>>& rows) {
    if (rows.size() >= messages_max) return SQLITE_OK;
    owners_.forget();
    std::size_t bytes = 0;
    bool is_full = false;
    return for_each_run(user.id, after + 1, [&](const InboxRun& run, bool& goes_on) {
        if (const int code = log_.read(run.piece, scratch_)) return code;
        LogPieceReader reader(scratch_);
        LogRecord record;
        while (!is_full && reader.next(record)) {
            const bool is_wanted = record.kind == LogRecord::Kind::kMessage && !record.is_gone &&
                                   record.user == user.id && record.seq > after &&
                                   record.seq <= run.last;
            if (!is_wanted) continue;
            bytes += record.text.size();
            is_full = bytes > bytes_max && !rows.empty();
            if (is_full) break;
            const SqliteOwners::Owner* sender = nullptr;
            if (const int code = owners_.find(record.sender, sender)) return code;
            rows.emplace_back(record.seq, message_of(record, user.app, sender->name, user.name));
            is_full = rows.size() >= messages_max;
        }
        goes_on = !is_full;
        if (is_full) return SQLITE_OK;
        const bool is_whole = !rows.empty() && rows.back().first == run.last;
        return is_whole && !reader.is_damaged() ? SQLITE_OK : SQLITE_CORRUPT;
    });
}

int SqliteIndex::find_fingerprint(UserId user, Position seq, Fingerprint& fp) {
    return for_each_run(user, seq, [&](const InboxRun& run, bool& goes_on) {
        goes_on = false;
        if (run.first > seq) return SQLITE_OK;
        if (const int code = log_.read(run.piece, scratch_)) return code;
        LogPieceReader reader(scratch_);
        LogRecord record;
        while (reader.next(record)) {
            if (record.kind != LogRecord::Kind::kMessage || record.user != user) continue;
            if (record.seq != seq) continue;
            fp = FingerprintBlob::parse(record.fp);
            return SQLITE_OK;
        }
        return SQLITE_CORRUPT;
    });
}

int SqliteIndex::find_expired(std::int64_t before, std::size_t skip, std::size_t rows_max,
                              std::vector<MessageTables::ExpiredMessage>& rows) {
    owners_.forget();
    int code = SQLITE_OK;
    bool is_over = false;
    find_old_.bind(settled_piece_);
    while (rows.size() < rows_max && (code = find_old_.step()) == SQLITE_ROW) {
        is_over = find_old_.integer(1) >= before;
        code = is_over ? SQLITE_DONE : find_expired_in(find_old_.integer(0), skip, rows_max, rows);
        if (code != SQLITE_OK) break;
    }
    find_old_.reset();
    code = error_of_step(code);
    for (const IndexRows* const newer : {&settling_, &recent_}) {
        for (const IndexRows::Piece& piece : newer->pieces()) {
            is_over = is_over || piece.accepted_at >= before || rows.size() >= rows_max;
            if (is_over || code != SQLITE_OK) return code;
            if (piece.live > 0) code = find_expired_in(piece.id, skip, rows_max, rows);
        }
    }
    return code;
}

int SqliteIndex::find_expired_in(std::int64_t piece, std::size_t& skip, std::size_t rows_max,
                                 std::vector<MessageTables::ExpiredMessage>& rows) {
    if (const int code = log_.read(piece, scratch_)) return code;
    LogPieceReader reader(scratch_);
    LogRecord record;
    while (rows.size() < rows_max && reader.next(record)) {
        if (record.kind != LogRecord::Kind::kMessage) continue;
        const SqliteOwners::Owner* owner = nullptr;
        if (const int code = owners_.find(record.user, owner)) return code;
        if (record.seq <= owner->floor) continue;
        if (skip > 0) {
            --skip;
            continue;
        }
        rows.push_back({owner->app, owner->name, record.seq});
    }
    return reader.is_damaged() ? SQLITE_CORRUPT : SQLITE_OK;
}

}  // namespace petrel
