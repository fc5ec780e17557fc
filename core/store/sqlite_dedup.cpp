#include "core/store/sqlite_dedup.hpp"

#include <algorithm>
#include <sqlite3.h>
#include <string>

#include "core/store/sqlite_blobs.hpp"

namespace petrel {

int SqliteDedup::open(SqliteFile& file, SqliteLog& log) {
    const std::pair<SqliteStatement*, const char*> statements[] = {
        {&find_,
         "SELECT digest, cseq, send_ts, accepted_at FROM dedup WHERE sender = ?1 AND fp = ?2"},
        {&put_,
         "REPLACE INTO dedup(sender, fp, digest, cseq, send_ts, accepted_at) "
         "VALUES(?1, ?2, ?3, ?4, ?5, ?6)"},
        {&drop_, "DELETE FROM dedup WHERE sender = ?1 AND fp = ?2"},
        {&sweep_,
         "SELECT sender, fp, accepted_at FROM dedup WHERE (sender, fp) > (?1, ?2) "
         "ORDER BY sender, fp LIMIT ?3"},
        {&put_settled_, "UPDATE meta SET value = ?1 WHERE key = 2"},
    };
    for (const auto& [statement, sql] : statements) {
        if (const int code = file.prepare(sql, *statement)) return code;
    }
    SqliteStatement select;
    if (const int code = file.prepare("SELECT value FROM meta WHERE key = 2", select)) return code;
    const int code = select.step();
    if (code != SQLITE_ROW) return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
    settled_id_ = recent_last_id_ = select.integer(0);
    return load_recent(log);
}

int SqliteDedup::load_recent(SqliteLog& log) {
    std::string scratch;
    const auto add = [&](std::int64_t piece, std::int64_t accepted_at,
                         const SqliteLog::Entry& entry, const std::string& to) {
        recent_last_id_ = piece;
        recent_bytes_ += entry.text.size();
        DedupRow& row = recent_[DedupKey{entry.sender, FingerprintBlob::parse(entry.fp)}];
        row.digest = payload_digest(to, entry.typeu, entry.text, scratch);
        row.cseq = entry.cseq;
        row.send_ts = entry.send_ts;
        row.accepted_at = accepted_at;
    };
    if (const int code = log.for_each_after(settled_id_, add)) return code;
    freeze();
    return SQLITE_OK;
}

int SqliteDedup::find(const DedupKey& key, DedupRow& row, bool& is_found) {
    is_found = true;
    if (const auto it = recent_.find(key); it != recent_.end()) {
        row = it->second;
        return SQLITE_OK;
    }
    if (const auto it = settling_.find(key); it != settling_.end()) {
        row = it->second;
        return SQLITE_OK;
    }
    const FingerprintBlob fp(key.fp);
    const int code = find_.bind(key.sender).bind_blob(fp.view()).step();
    is_found = code == SQLITE_ROW;
    if (is_found) {
        const std::string_view digest = find_.text(0);
        if (digest.size() == 16) row.digest = {number_at(digest, 0), number_at(digest, 8)};
        row.cseq = find_.number(1);
        row.send_ts = find_.integer(2);
        row.accepted_at = find_.integer(3);
    }
    find_.reset();
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

int SqliteDedup::put(const DedupMap::value_type& entry) {
    const auto& [key, row] = entry;
    const FingerprintBlob fp(key.fp);
    std::string digest;
    append_number(row.digest[0], digest);
    append_number(row.digest[1], digest);
    put_.bind(key.sender)
        .bind_blob(fp.view())
        .bind_blob(digest)
        .bind(row.cseq)
        .bind(row.send_ts)
        .bind(row.accepted_at);
    return put_.run();
}

// In the order of the table, nearly: the first number decides almost always, and fast.
std::vector<SqliteDedup::Entry> SqliteDedup::sorted(const DedupMap& rows) {
    std::vector<Entry> order;
    order.reserve(rows.size());
    for (const auto& row : rows) {
        const auto sender =
            std::min<std::uint64_t>(static_cast<std::uint64_t>(row.first.sender), (1 << 24) - 1);
        std::uint64_t prefix = sender;
        for (std::size_t i = 0; i < 5; ++i) prefix = prefix << 8 | row.first.fp.uuid()[i];
        order.emplace_back(prefix, &row);
    }
    std::sort(order.begin(), order.end(), [](const Entry& a, const Entry& b) {
        return a.first != b.first ? a.first < b.first : a.second->first < b.second->first;
    });
    return order;
}

int SqliteDedup::write(const Batch& batch) {
    planned_next_ = settling_next_;
    planned_settled_id_ = settled_id_;
    if (!batch.is_in_log) {
        for (const Entry& entry : sorted(*batch.rows)) {
            if (const int code = put(*entry.second)) return code;
        }
    }
    // So fast that settling_ is empty before recent_ is full again, in rows and in bytes.
    const std::size_t quota =
        batch.settle_all
            ? settling_order_.size()
            : batch.rows->size() + 64 + batch.text_bytes * limits_.rows / (limits_.bytes + 1);
    const std::size_t end = std::min(settling_order_.size(), settling_next_ + quota);
    for (; planned_next_ < end; ++planned_next_) {
        if (const int code = put(*settling_order_[planned_next_].second)) return code;
    }
    if (!settling_order_.empty() && planned_next_ == settling_order_.size()) {
        planned_settled_id_ = settling_last_id_;
    }
    if (batch.settle_all) {
        for (const Entry& entry : sorted(recent_)) {
            if (const int code = put(*entry.second)) return code;
        }
        planned_settled_id_ = recent_last_id_;
    }
    if (planned_settled_id_ == settled_id_) return SQLITE_OK;
    return put_settled_.bind(planned_settled_id_).run();
}

void SqliteDedup::committed(const Batch& batch) {
    settling_next_ = planned_next_;
    settled_id_ = planned_settled_id_;
    if (settling_next_ == settling_order_.size()) {
        settling_order_.clear();
        settling_.clear();
        settling_next_ = 0;
    }
    if (batch.settle_all) {
        recent_.clear();
        recent_bytes_ = 0;
    }
    if (batch.is_in_log) {
        add_recent(*batch.rows);
        recent_bytes_ += batch.text_bytes;
    }
    recent_last_id_ = std::max(recent_last_id_, batch.last_id);
    freeze();
}

void SqliteDedup::add_recent(DedupMap& rows) {
    recent_.merge(rows);
    // What could not move is here already: an expired row of the same key.
    for (const auto& [key, row] : rows) recent_[key] = row;
}

void SqliteDedup::freeze() {
    const bool is_full = recent_.size() >= limits_.rows || recent_bytes_ >= limits_.bytes;
    if (recent_.empty() || !is_full || !settling_.empty()) return;
    settling_ = std::move(recent_);
    recent_ = DedupMap();
    recent_bytes_ = 0;
    settling_order_ = sorted(settling_);
    settling_next_ = 0;
    settling_last_id_ = recent_last_id_;
}

int SqliteDedup::forget(const std::vector<DedupKey>& keys) {
    for (const DedupKey& key : keys) {
        const FingerprintBlob fp(key.fp);
        if (const int code = drop_.bind(key.sender).bind_blob(fp.view()).run()) return code;
    }
    return SQLITE_OK;
}

int SqliteDedup::sweep(std::int64_t before, std::size_t rows_max, std::vector<DedupKey>& keys,
                       bool& is_finished) {
    // Looks at no more than four rows for one that may go.
    const std::uint64_t looks_max = std::min<std::uint64_t>(rows_max, kNumberMax / 4) * 4;
    const std::size_t keys_max = keys.size() + rows_max;
    const DedupKey from = swept_to_;
    const FingerprintBlob fp(from.fp);
    sweep_.bind(from.sender).bind_blob(fp.view()).bind(looks_max);
    std::uint64_t looked = 0;
    int code = SQLITE_OK;
    while (keys.size() < keys_max && (code = sweep_.step()) == SQLITE_ROW) {
        ++looked;
        swept_to_ = {sweep_.integer(0), FingerprintBlob::parse(sweep_.text(1))};
        if (sweep_.integer(2) < before) keys.push_back(swept_to_);
    }
    sweep_.reset();
    is_finished = code == SQLITE_DONE && looked < looks_max;
    if (is_finished) swept_to_ = {};
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

}  // namespace petrel
