#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/store/flat_table.hpp"
#include "core/store/message_tables.hpp"

namespace petrel {

// Positions first..last of a user's inbox are in that piece of the log, in order.
struct InboxRun {
    UserId user = 0;
    Position first = 0;
    Position last = 0;
    std::int64_t piece = 0;
};

// What pieces of the log mean for the tables that are made of them, in memory: the runs of inboxes,
// the last state of streams and conversations, and how many messages of a piece are in an inbox.
// Made of the pieces' bytes only: the same after a crash as before. Thread-compatible.
class IndexRows {
public:
    struct Piece {
        std::int64_t id = 0;
        std::int64_t accepted_at = 0;
        std::int64_t live = 0;
    };
    struct Stream {
        Position position = 0;
        std::int64_t used_at = 0;
        bool is_gone = false;
        std::uint32_t previous = 0;  // Of the user, as 1 + its place in streams().
    };
    using Streams = FlatTable<NamedKey, Stream, RowHash>;
    using Conversations = FlatTable<ConversationKey, std::uint64_t, RowHash>;

    // The pieces in order. False: it is damaged, and what this holds is of no use.
    bool add(std::int64_t id, std::string_view piece);
    void clear();  // The memory stays.

    bool empty() const { return pieces_.empty(); }
    // Rows of all kinds, and bytes of the pieces.
    std::size_t size() const;
    std::size_t bytes() const { return bytes_; }

    const std::vector<Piece>& pieces() const { return pieces_; }
    const std::vector<InboxRun>& runs() const { return runs_; }
    const Streams& streams() const { return streams_; }
    const Conversations& conversations() const { return conversations_; }

    // The runs of a user from the newest back: visit(run) says whether to go on.
    template <class Visit>
    void for_each_run_back(UserId user, Visit&& visit) const {
        const Heads* const heads = users_.find(user);
        for (std::uint32_t at = heads ? heads->run : 0; at != 0; at = previous_[at - 1]) {
            if (!visit(runs_[at - 1])) return;
        }
    }
    // visit(name, stream), in no order.
    template <class Visit>
    void for_each_stream(UserId user, Visit&& visit) const {
        const Heads* const heads = users_.find(user);
        for (std::uint32_t at = heads ? heads->stream : 0; at != 0;) {
            const Streams::Entry& entry = streams_.entry(at - 1);
            visit(entry.key.name, entry.row);
            at = entry.row.previous;
        }
    }

private:
    struct UserHash {
        std::size_t operator()(UserId user) const noexcept {
            return RowHash::mix(static_cast<std::uint64_t>(user));
        }
    };
    struct Heads {  // The newest of a user, as 1 + its place; 0: none.
        std::uint32_t run = 0;
        std::uint32_t stream = 0;
    };

    void add_to_run(UserId user, Position seq, std::int64_t piece);

    std::vector<Piece> pieces_;
    std::vector<InboxRun> runs_;
    std::vector<std::uint32_t> previous_;  // By run: the one before of its user.
    Streams streams_;
    Conversations conversations_;
    FlatTable<UserId, Heads, UserHash> users_;
    std::size_t bytes_ = 0;
};

}  // namespace petrel
