#include "core/store/sqlite_dedup.hpp"

#include <algorithm>
#include <sqlite3.h>
#include <utility>

#include "core/store/log_piece.hpp"
#include "core/store/sqlite_blobs.hpp"

namespace petrel {

const char* const SqliteDedup::kCreate = R"sql(
CREATE TABLE dedup_run(
    id INTEGER PRIMARY KEY, first_page INTEGER NOT NULL, newest INTEGER NOT NULL,
    fences BLOB NOT NULL, hashes BLOB NOT NULL) STRICT;
CREATE TABLE dedup_page(id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
)sql";

namespace {

// So that it fits into a page of the file (8192 bytes) without an overflow page.
constexpr std::size_t kPageBytes = 8'100;

// A row in a page: hash, sender, digest (two), cseq, send_ts, accepted_at, the fingerprint's size,
// the fingerprint.
constexpr std::size_t kNumbers = 7;
constexpr std::size_t kHeadBytes = kNumbers * 8 + 1;

void append_row(std::uint64_t hash, const DedupKey& key, const DedupRow& row, std::string& out) {
    const FingerprintBlob fp(key.fp);
    append_number(hash, out);
    append_number(static_cast<std::uint64_t>(key.sender), out);
    append_number(row.digest[0], out);
    append_number(row.digest[1], out);
    append_number(row.cseq, out);
    append_number(static_cast<std::uint64_t>(row.send_ts), out);
    append_number(static_cast<std::uint64_t>(row.accepted_at), out);
    out.push_back(static_cast<char>(fp.view().size()));
    out += fp.view();
}

std::string blob_of(const std::vector<std::uint64_t>& numbers) {
    std::string blob;
    blob.reserve(numbers.size() * 8);
    for (const std::uint64_t number : numbers) append_number(number, blob);
    return blob;
}

std::vector<std::uint64_t> numbers_of(std::string_view blob) {
    std::vector<std::uint64_t> numbers;
    numbers.reserve(blob.size() / 8);
    for (std::size_t at = 0; at + 8 <= blob.size(); at += 8) {
        numbers.push_back(number_at(blob, at));
    }
    return numbers;
}

}  // namespace

// ---- opening ----

int SqliteDedup::open(SqliteFile& file) {
    const std::pair<SqliteStatement*, const char*> statements[] = {
        {&find_page_, "SELECT data FROM dedup_page WHERE id = ?1"},
        {&add_page_, "INSERT INTO dedup_page(id, data) VALUES(?1, ?2)"},
        {&drop_pages_, "DELETE FROM dedup_page WHERE id >= ?1 AND id < ?2"},
        {&add_run_,
         "INSERT INTO dedup_run(id, first_page, newest, fences, hashes) "
         "VALUES(?1, ?2, ?3, ?4, ?5)"},
        {&drop_run_, "DELETE FROM dedup_run WHERE id = ?1"},
        {&put_settled_, "UPDATE meta SET value = ?1 WHERE key = 2"},
    };
    for (const auto& [statement, sql] : statements) {
        if (const int code = file.prepare(sql, *statement)) return code;
    }
    SqliteStatement select;
    int code = file.prepare(
        "SELECT value, (SELECT value FROM meta WHERE key = 3) FROM meta WHERE key = 2", select);
    if (code != SQLITE_OK) return code;
    code = select.step();
    if (code != SQLITE_ROW) return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
    settled_piece_ = recent_last_piece_ = select.integer(0);
    seed_ = select.number(1);
    select.reset();

    SqliteStatement runs;
    code = file.prepare("SELECT id, first_page, newest, fences, hashes FROM dedup_run ORDER BY id",
                        runs);
    if (code != SQLITE_OK) return code;
    while ((code = runs.step()) == SQLITE_ROW) {
        Run run;
        run.id = last_run_ = runs.integer(0);
        run.first_page = runs.integer(1);
        run.newest = runs.integer(2);
        run.fences = numbers_of(runs.text(3));
        last_page_ = run.first_page + static_cast<std::int64_t>(run.fences.size()) - 1;
        const std::vector<std::uint64_t> hashes = numbers_of(runs.text(4));
        add_run(std::move(run), hashes.data(), hashes.size());
    }
    runs.reset();
    if ((code = error_of_step(code))) return code;
    // Pages of a run that was not finished: it is begun anew.
    SqliteStatement orphan;
    if ((code = file.prepare("SELECT max(id) FROM dedup_page", orphan))) return code;
    code = orphan.step();
    const std::int64_t last = code == SQLITE_ROW ? orphan.integer(0) : 0;
    orphan.reset();
    if ((code = error_of_step(code))) return code;
    if (last > last_page_) {
        if ((code = drop_pages_.bind(last_page_ + 1).bind(last + 1).run())) return code;
    }
    return SQLITE_OK;
}

int SqliteDedup::replay(std::int64_t id, std::string_view piece, SqliteOwners& owners) {
    if (id <= settled_piece_) return SQLITE_OK;
    recent_last_piece_ = id;
    LogPieceReader reader(piece);
    LogRecord record;
    while (reader.next(record)) {
        if (record.kind != LogRecord::Kind::kMessage) continue;
        const SqliteOwners::Owner* to = nullptr;
        if (const int code = owners.find(record.user, to)) return code;
        DedupRow row;
        row.digest = payload_digest(to->name, record.typeu, record.text, digested_);
        row.cseq = record.cseq;
        row.send_ts = record.send_ts;
        row.accepted_at = reader.accepted_at();
        recent_.put({record.sender, FingerprintBlob::parse(record.fp)}, row);
        recent_bytes_ += record.text.size();
    }
    return reader.is_damaged() ? SQLITE_CORRUPT : SQLITE_OK;
}

void SqliteDedup::add_run(Run run, const std::uint64_t* hashes, std::size_t count) {
    if (run.fences.empty()) return;
    if (groups_.empty() || groups_.back().runs_added == kRunsInGroup) {
        const std::size_t keys_max = std::max<std::size_t>(limits_.rows, count) * kRunsInGroup;
        groups_.push_back({KeyFilter(keys_max), {}, 0});
    }
    Group& group = groups_.back();
    for (std::size_t i = 0; i < count; ++i) group.filter.add(hashes[i]);
    group.runs.push_back(std::move(run));
    ++group.runs_added;
}

// ---- looking up ----

std::uint64_t SqliteDedup::hash_of(const DedupKey& key) const {
    const FingerprintBlob fp(key.fp);
    char bytes[8 + Fingerprint::kTextMax + 1];
    for (std::size_t i = 0; i < 8; ++i) {
        bytes[i] = static_cast<char>(static_cast<std::uint64_t>(key.sender) >> (8 * i));
    }
    std::copy(fp.view().begin(), fp.view().end(), bytes + 8);
    return murmur3_x64_128({bytes, 8 + fp.view().size()}, seed_)[0];
}

int SqliteDedup::find(const DedupKey& key, DedupRow& row, bool& is_found) {
    is_found = true;
    for (const DedupTable* const table : {&recent_, &settling_}) {
        if (const DedupRow* const found = table->find(key)) {
            row = *found;
            return SQLITE_OK;
        }
    }
    is_found = false;
    if (groups_.empty()) return SQLITE_OK;
    const std::uint64_t hash = hash_of(key);
    // The newest first: an older row of the same key has expired.
    for (auto group = groups_.rbegin(); group != groups_.rend(); ++group) {
        if (!group->filter.may_have(hash)) continue;
        for (auto run = group->runs.rbegin(); run != group->runs.rend(); ++run) {
            const int code = find_in_run(*run, hash, key, row, is_found);
            if (code != SQLITE_OK || is_found) return code;
        }
    }
    return SQLITE_OK;
}

int SqliteDedup::find_in_run(const Run& run, std::uint64_t hash, const DedupKey& key, DedupRow& row,
                             bool& is_found) {
    // Equal hashes may lie on both sides of a fence.
    auto fence = std::lower_bound(run.fences.begin(), run.fences.end(), hash);
    if (fence != run.fences.begin()) --fence;
    for (; fence != run.fences.end() && *fence <= hash; ++fence) {
        const std::int64_t page = run.first_page + (fence - run.fences.begin());
        const int code = find_page_.bind(page).step();
        if (code == SQLITE_ROW) page_.assign(find_page_.text(0));
        find_page_.reset();
        if (code != SQLITE_ROW) return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
        std::string_view rest = page_;
        while (!rest.empty()) {
            if (rest.size() < kHeadBytes) return SQLITE_CORRUPT;
            const std::size_t fp_size = static_cast<unsigned char>(rest[kHeadBytes - 1]);
            if (rest.size() < kHeadBytes + fp_size) return SQLITE_CORRUPT;
            const bool is_it = number_at(rest, 0) == hash &&
                               static_cast<UserId>(number_at(rest, 8)) == key.sender &&
                               FingerprintBlob::parse(rest.substr(kHeadBytes, fp_size)) == key.fp;
            if (is_it) {
                row.digest = {number_at(rest, 16), number_at(rest, 24)};
                row.cseq = number_at(rest, 32);
                row.send_ts = static_cast<WallMillis>(number_at(rest, 40));
                row.accepted_at = static_cast<std::int64_t>(number_at(rest, 48));
                is_found = true;
                return SQLITE_OK;
            }
            rest.remove_prefix(kHeadBytes + fp_size);
        }
    }
    return SQLITE_OK;
}

// ---- writing ----

int SqliteDedup::write(const Batch& batch) {
    planned_ = Planned();
    planned_.next = next_;
    planned_.settled_piece = settled_piece_;
    if (const int code = drop_runs()) return code;
    if (!is_settling_) return SQLITE_OK;
    // So fast that settling_ is empty before recent_ is full again, in rows and in bytes.
    const std::size_t rows =
        is_hurried_
            ? order_.size()
            : batch.rows->size() + 64 + batch.text_bytes * limits_.rows / (limits_.bytes + 1);
    if (const int code = write_pages(rows)) return code;
    return planned_.next == order_.size() ? write_run() : SQLITE_OK;
}

// At least so many rows, if there are; pages are filled.
int SqliteDedup::write_pages(std::size_t rows) {
    const std::size_t end = std::min(order_.size(), next_ + rows);
    std::size_t& next = planned_.next;
    while (next < end) {
        page_.clear();
        planned_.fences.push_back(order_[next].hash);
        while (next < order_.size() &&
               page_.size() + kHeadBytes + Fingerprint::kTextMax + 1 <= kPageBytes) {
            const Entry& entry = order_[next++];
            append_row(entry.hash, entry.row->key, entry.row->row, page_);
        }
        const std::size_t pages = run_.fences.size() + planned_.fences.size();
        const std::int64_t id = run_.first_page + static_cast<std::int64_t>(pages) - 1;
        if (const int code = add_page_.bind(id).bind_blob(page_).run()) return code;
    }
    return SQLITE_OK;
}

// All its pages are there.
int SqliteDedup::write_run() {
    planned_.is_done = true;
    planned_.settled_piece = settling_last_piece_;
    if (!order_.empty()) {
        std::vector<std::uint64_t> numbers = run_.fences;
        numbers.insert(numbers.end(), planned_.fences.begin(), planned_.fences.end());
        const std::string fences = blob_of(numbers);
        numbers.clear();
        for (const Entry& entry : order_) numbers.push_back(entry.hash);
        const std::string hashes = blob_of(numbers);
        add_run_.bind(run_.id).bind(run_.first_page).bind(run_.newest);
        if (const int code = add_run_.bind_blob(fences).bind_blob(hashes).run()) return code;
    }
    return put_settled_.bind(planned_.settled_piece).run();
}

// One at a time: some thousand pages.
int SqliteDedup::drop_runs() {
    if (expired_runs_.empty()) return SQLITE_OK;
    const std::int64_t id = expired_runs_.back();
    for (const Group& group : groups_) {
        for (const Run& run : group.runs) {
            if (run.id != id) continue;
            planned_.dropped.push_back(id);
            const auto pages = static_cast<std::int64_t>(run.fences.size());
            drop_pages_.bind(run.first_page).bind(run.first_page + pages);
            if (const int code = drop_pages_.run()) return code;
            return drop_run_.bind(id).run();
        }
    }
    return SQLITE_OK;
}

void SqliteDedup::committed(const Batch& batch) {
    for (const std::int64_t id : planned_.dropped) {
        expired_runs_.erase(std::remove(expired_runs_.begin(), expired_runs_.end(), id),
                            expired_runs_.end());
        for (Group& group : groups_) {
            group.runs.erase(std::remove_if(group.runs.begin(), group.runs.end(),
                                            [id](const Run& run) { return run.id == id; }),
                             group.runs.end());
        }
    }
    // The last may still grow.
    for (std::size_t i = groups_.size(); i-- > 0;) {
        if (groups_[i].runs.empty() && i + 1 < groups_.size()) {
            groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    settled_piece_ = planned_.settled_piece;
    next_ = planned_.next;
    run_.fences.insert(run_.fences.end(), planned_.fences.begin(), planned_.fences.end());
    if (planned_.is_done) {
        std::vector<std::uint64_t> hashes;
        hashes.reserve(order_.size());
        for (const Entry& entry : order_) hashes.push_back(entry.hash);
        if (!order_.empty()) {
            last_run_ = run_.id;
            last_page_ = run_.first_page + static_cast<std::int64_t>(run_.fences.size()) - 1;
        }
        add_run(std::move(run_), hashes.data(), hashes.size());
        is_settling_ = is_hurried_ = false;
        order_.clear();
        settling_.clear();
    }
    for (std::size_t i = 0; i < batch.rows->size(); ++i) {
        recent_.put(batch.rows->entry(i).key, batch.rows->entry(i).row);
    }
    recent_bytes_ += batch.text_bytes;
    recent_last_piece_ = std::max(recent_last_piece_, batch.last_piece);
    planned_ = Planned();
    planned_.settled_piece = settled_piece_;
    freeze_if_full();
}

void SqliteDedup::freeze_if_full() {
    if (recent_.size() >= limits_.rows || recent_bytes_ >= limits_.bytes) freeze();
}

void SqliteDedup::freeze() {
    if (is_settling_ || recent_last_piece_ == settled_piece_) return;
    is_settling_ = true;
    std::swap(settling_, recent_);  // settling_ was empty, but keeps its memory.
    recent_bytes_ = 0;
    settling_last_piece_ = recent_last_piece_;
    run_ = Run();
    run_.id = last_run_ + 1;
    run_.first_page = last_page_ + 1;
    next_ = 0;
    order_.clear();
    order_.reserve(settling_.size());
    for (std::size_t i = 0; i < settling_.size(); ++i) {
        const DedupTable::Entry& entry = settling_.entry(i);
        if (entry.row.accepted_at < expired_before_) continue;
        run_.newest = std::max(run_.newest, entry.row.accepted_at);
        order_.push_back({hash_of(entry.key), &entry});
    }
    std::sort(order_.begin(), order_.end(),
              [](const Entry& a, const Entry& b) { return a.hash < b.hash; });
}

void SqliteDedup::expire(std::int64_t before, bool is_log_waiting) {
    expired_before_ = before;
    if (is_log_waiting) {
        freeze();
        is_hurried_ = is_settling_;
    }
    expired_runs_.clear();
    for (const Group& group : groups_) {
        for (const Run& run : group.runs) {
            if (run.newest < before) expired_runs_.push_back(run.id);
        }
    }
}

}  // namespace petrel
