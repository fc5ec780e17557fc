#include "core/store/sqlite_log.hpp"

#include <algorithm>
#include <sqlite3.h>
#include <utility>

#include "core/store/log_piece.hpp"

namespace petrel {

const char* const SqliteLog::kCreate = R"sql(
CREATE TABLE log(id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
)sql";

int SqliteLog::open(SqliteFile& file) {
    const std::pair<SqliteStatement*, const char*> statements[] = {
        {&add_, "INSERT INTO log(id, data) VALUES(?1, ?2)"},
        {&find_, "SELECT data FROM log WHERE id = ?1"},
        {&find_all_, "SELECT id, data FROM log WHERE id > ?1 ORDER BY id"},
        {&drop_, "DELETE FROM log WHERE id = ?1"},
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

int SqliteLog::write(const WriteSet& set) {
    pieces_written_ = 0;
    if (set.messages.empty() && set.streams.empty() && set.forgotten_streams.empty()) {
        return SQLITE_OK;
    }
    order_.clear();
    for (const MessageRow& row : set.messages) order_.push_back(&row);
    // Those of an inbox together: they are one run of the index then.
    std::stable_sort(order_.begin(), order_.end(),
                     [](const auto* a, const auto* b) { return a->user < b->user; });
    std::string* piece = &start_piece(set.now);
    const auto make_room = [&](std::size_t bytes) {
        constexpr std::size_t kHead = 8;
        if (piece->size() == kHead || piece->size() + bytes <= kPieceBytes) return SQLITE_OK;
        const int code = write_piece();
        piece = &start_piece(set.now);
        return code;
    };
    for (const MessageRow* const row : order_) {
        if (const int code = make_room(log_record_bytes_max() + row->message->text.size())) {
            return code;
        }
        append_log_message(*row, *piece);
    }
    // In the order of WriteSet: a stream that was forgotten may have begun again.
    for (const NamedKey& key : set.forgotten_streams) {
        if (const int code = make_room(log_record_bytes_max() + key.name.size())) return code;
        append_log_forgotten_stream(key, *piece);
    }
    for (const auto& [user, row] : set.streams) {
        if (const int code = make_room(log_record_bytes_max() + row->stream.size())) return code;
        append_log_stream(user, *row, *piece);
    }
    return write_piece();
}

std::string& SqliteLog::start_piece(std::int64_t accepted_at) {
    if (pieces_written_ == pieces_.size()) pieces_.emplace_back();
    Piece& piece = pieces_[pieces_written_];
    piece.id = last_id_ + static_cast<std::int64_t>(pieces_written_) + 1;
    begin_log_piece(accepted_at, piece.bytes);
    return piece.bytes;
}

void SqliteLog::committed() {
    last_id_ += static_cast<std::int64_t>(pieces_written_);
    pieces_written_ = 0;
    if (pieces_.size() > kPiecesKept) pieces_.resize(kPiecesKept);
    for (Piece& piece : pieces_) {
        if (piece.bytes.capacity() > 2 * kPieceBytes) piece.bytes = std::string();
    }
}

int SqliteLog::write_piece() {
    const Piece& piece = pieces_[pieces_written_++];
    return add_.bind(piece.id).bind_blob(piece.bytes).run();
}

// ---- reading ----

int SqliteLog::read(std::int64_t id, std::string& piece) {
    const int code = find_.bind(id).step();
    if (code == SQLITE_ROW) piece.assign(find_.text(0));
    find_.reset();
    if (code == SQLITE_ROW) return SQLITE_OK;
    return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
}

int SqliteLog::for_each_after(std::int64_t id, const Visit& visit) {
    int code = SQLITE_OK;
    find_all_.bind(id);
    while ((code = find_all_.step()) == SQLITE_ROW) {
        code = visit(find_all_.integer(0), find_all_.text(1));
        if (code != SQLITE_OK) break;
    }
    find_all_.reset();
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

}  // namespace petrel
