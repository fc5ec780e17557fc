#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/store/message_tables.hpp"
#include "core/store/sqlite_file.hpp"

namespace petrel {

// The messages of a gateway's store file. Written one by one, each would cost two statements and an
// index entry; here many share a row:
//
//   log      a piece: the messages of one commit, or as many of them as kPieceBytes hold. When they
//            were accepted, and how many of them are still in an inbox: without any, it goes, once
//            the dedup rows that are made from it after a crash are settled.
//   entries  its messages, one behind the other
//   inbox    a run: positions first..last of a user's inbox are in that piece, in order
//
// Numbers of pieces grow and are used once. Changes of memory wait for committed().
// Thread-compatible.
class SqliteLog {
public:
    static const char* const kCreate;

    int open(SqliteFile& file);
    // Numbers up to here have been used, even if no piece says so.
    void set_last_id(std::int64_t id) { last_id_ = planned_id_ = std::max(last_id_, id); }

    // Messages of one transaction.
    int write(const std::vector<MessageRow>& rows);
    void committed() { last_id_ = planned_id_; }
    std::int64_t last_id() const { return last_id_; }
    std::int64_t planned_id() const { return planned_id_; }  // After write().

    // Those of an inbox up to a position.
    int forget(UserId user, Position up_to);
    // Lets pieces go that are in no inbox any more, up to a number, some at a time; `is_all`: there
    // are no more of them.
    int drop_dead(std::int64_t up_to, bool& is_all);
    // Whether there are any, of whatever number.
    int find_dead(bool& is_there);

    // As MessageTables' functions of these names.
    int find_messages(const UserRow& user, Position after, std::size_t messages_max,
                      std::size_t bytes_max,
                      std::vector<std::pair<Position, std::shared_ptr<const StoredMessage>>>& rows);
    int find_fingerprint(UserId user, Position seq, Fingerprint& fp);
    int find_expired(std::int64_t before, std::size_t skip, std::size_t rows_max,
                     std::vector<MessageTables::ExpiredMessage>& rows);

    // A message as a piece holds it; the views are into the piece.
    struct Entry {
        UserId user = 0;
        Position seq = 0;
        UserId sender = 0;
        std::uint64_t cseq = 0;
        WallMillis send_ts = 0;
        int typeu = 0;
        bool bridge = false;
        std::string_view fp;  // FingerprintBlob
        std::string_view text;
    };
    // visit(piece, accepted_at, entry, recipient's name): everything in the pieces after `id`.
    using Visit = std::function<void(std::int64_t piece, std::int64_t accepted_at, const Entry&,
                                     const std::string& to)>;
    int for_each_after(std::int64_t id, const Visit& visit);

private:
    // So that a piece is a leaf and three overflow pages: a reader who wants one message of it
    // reads no more than that.
    static constexpr std::size_t kPieceBytes = 7'800;

    struct Run {
        UserId user = 0;
        Position first = 0;
        Position last = 0;
    };
    struct Owner {  // Of an inbox.
        std::string app;
        std::string name;
        Position floor = 0;
    };
    using Owners = std::unordered_map<UserId, Owner>;

    int write_piece(std::int64_t accepted_at);
    int read_piece(std::int64_t id);  // Into piece_.
    int find_owner(UserId user, Owners& owners, const Owner*& owner);

    SqliteStatement add_piece_, add_entries_, add_run_, find_entries_, find_pieces_, find_old_;
    SqliteStatement drop_run_, lessen_, find_dead_, drop_piece_, drop_entries_;
    SqliteStatement find_runs_, find_runs_to_, find_run_, find_owner_;
    std::int64_t last_id_ = 0;
    std::int64_t planned_id_ = 0;
    std::vector<const MessageRow*> order_;  // Scratch, as the next two.
    std::vector<Run> runs_;
    std::string piece_;
    std::int64_t piece_live_ = 0;
};

}  // namespace petrel
