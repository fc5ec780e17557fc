#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/store/message_tables.hpp"
#include "core/store/sqlite_file.hpp"

namespace petrel {

// The log of a gateway's store file: pieces (log_piece.hpp), appended with each commit. A page of
// the file, or a few, is all that a commit of messages has to change: SqliteIndex and SqliteDedup
// make their rows of it later, many at once, and after a crash again. Numbers of pieces grow and
// are used once. Changes of memory wait for committed(). Thread-compatible.
class SqliteLog {
public:
    static const char* const kCreate;

    struct Piece {
        std::int64_t id = 0;
        std::string bytes;
    };

    int open(SqliteFile& file);
    // Numbers up to here have been used, even if no piece says so.
    void set_last_id(std::int64_t id) { last_id_ = std::max(last_id_, id); }

    // The messages and streams of one transaction.
    int write(const WriteSet& set);
    // What write() appended, until committed() or the next write().
    const Piece* begin() const { return pieces_.data(); }
    const Piece* end() const { return pieces_.data() + pieces_written_; }
    void committed();
    std::int64_t planned_id() const {
        return last_id_ + static_cast<std::int64_t>(pieces_written_);
    }

    int read(std::int64_t id, std::string& piece);
    int drop(std::int64_t id) { return drop_.bind(id).run(); }
    // Everything after `id`, in order; visit() tells an SQLite code, SQLITE_OK to go on.
    using Visit = std::function<int(std::int64_t id, std::string_view piece)>;
    int for_each_after(std::int64_t id, const Visit& visit);

private:
    // So that a piece fits into a page of the file (8192 bytes); a larger message is alone in one.
    static constexpr std::size_t kPieceBytes = 7'800;

    static constexpr std::size_t kPiecesKept = 128;  // Their memory, for the next transaction.

    std::string& start_piece(std::int64_t accepted_at);
    int write_piece();

    SqliteStatement add_, find_, find_all_, drop_;
    std::int64_t last_id_ = 0;
    std::vector<Piece> pieces_;  // Those behind pieces_written_ lend their memory.
    std::size_t pieces_written_ = 0;
    std::vector<const MessageRow*> order_;  // Scratch.
};

}  // namespace petrel
