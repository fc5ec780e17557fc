#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/store/index_rows.hpp"
#include "core/store/message_tables.hpp"
#include "core/store/sqlite_file.hpp"
#include "core/store/sqlite_log.hpp"
#include "core/store/sqlite_owners.hpp"

namespace petrel {

// Inboxes, streams and conversations of a gateway's store file: what can be told from the pieces of
// the log, in tables. Changed with each commit, each of their rows would cost a page of the file;
// so they are written many at once, in the order of the tables:
//
//   log -> recent_ (memory) -- full --> settling_ (memory) -- some rows with each commit --> tables
//
// What memory has counts before what the tables have. meta row 4 is the piece of the log up to
// which the tables have everything: after a crash the rest is made again from the log, and rows of
// a settling that was cut off are written over with themselves. Before messages are forgotten that
// only memory knows, all of it is written. Changes of memory wait for committed().
// Thread-compatible.
class SqliteIndex {
public:
    static const char* const kCreate;

    struct Limits {
        std::size_t rows = 0;   // Of recent_, before it is full...
        std::size_t bytes = 0;  // ...or of its pieces, which an opening reads again.
    };

    SqliteIndex(const Limits& limits, SqliteLog& log, SqliteOwners& owners)
        : limits_(limits), log_(log), owners_(owners) {}

    // Then replay() with every piece after settled_piece(), then opened().
    int open(SqliteFile& file);
    int replay(std::int64_t id, std::string_view piece);
    void opened() { freeze_if_full(); }

    // A transaction: start(), then forget() what goes, and behind SqliteLog::write() write().
    void start();
    int forget(UserId user, Position up_to);  // Messages of an inbox.
    int write();
    // Lets pieces go that are in no inbox, up to a number that is settled everywhere, some at a
    // time; `is_all`: there are no more of them.
    int drop_dead(std::int64_t up_to, bool& is_all);
    void committed();  // Before SqliteLog::committed().

    // Whether pieces that are in no inbox wait to be settled: of the tables' those behind `after`,
    // up to which all is settled everywhere, of memory's those that were accepted before `before`.
    int find_waiting(std::int64_t after, std::int64_t before, bool& is_there);
    // Settles what there is with the next write().
    void hurry();
    bool has_upkeep() const { return is_settling_ && is_hurried_; }

    // The piece of the log up to which the tables have everything.
    std::int64_t settled_piece() const { return settled_piece_; }
    std::int64_t planned_settled_piece() const { return planned_.settled_piece; }
    // When the newest piece was accepted, of those that only memory knows; 0: there is none.
    std::int64_t newest() const;

    // As MessageTables' functions of these names; find_last: 0 when only the tables know.
    Position find_last(UserId user) const;
    int find_streams(UserId user, std::vector<StreamRow>& rows);
    int sweep_streams(NamedKey& at, std::int64_t before, std::size_t rows_max,
                      std::vector<NamedKey>& keys, bool& is_finished);
    int find_conversation(const ConversationKey& key, std::uint64_t& cseq);
    int find_messages(const UserRow& user, Position after, std::size_t messages_max,
                      std::size_t bytes_max,
                      std::vector<std::pair<Position, std::shared_ptr<const StoredMessage>>>& rows);
    int find_fingerprint(UserId user, Position seq, Fingerprint& fp);
    int find_expired(std::int64_t before, std::size_t skip, std::size_t rows_max,
                     std::vector<MessageTables::ExpiredMessage>& rows);

private:
    // So many of a user share a row, which stays within a page (of 8192 bytes, SQLite keeps a
    // quarter for a row of a table by key).
    static constexpr std::size_t kRunsInRow = 80;
    // Less is left for a later commit: it would change pages for few rows.
    static constexpr std::size_t kRowsAtOnce = 512;
    // Of settling_ for one that comes to recent_: it is empty long before recent_ is full.
    static constexpr std::size_t kRowsForOne = 2;
    static constexpr int kDropsMax = 256;  // Pieces a commit.

    // The rows of IndexRows in the order of the tables, one behind the other: runs, streams,
    // conversations, pieces.
    struct Order {
        explicit Order(const IndexRows& rows);
        Order() = default;
        std::size_t size() const {
            return runs.size() + streams.size() + conversations.size() + pieces.size();
        }
        std::vector<InboxRun> runs;
        std::vector<const IndexRows::Streams::Entry*> streams;
        std::vector<const IndexRows::Conversations::Entry*> conversations;
        std::vector<IndexRows::Piece> pieces;
    };
    struct Planned {  // What write() and forget() did, for committed().
        std::size_t next = 0;
        bool is_all = false;  // Everything that was in memory.
        std::int64_t settled_piece = 0;
    };

    using VisitRun = std::function<int(const InboxRun& run, bool& goes_on)>;
    int for_each_run(UserId user, Position from, const VisitRun& visit);
    int write_rows(const Order& order, std::size_t from, std::size_t count, std::size_t& next);
    int write_runs(const std::vector<InboxRun>& runs, std::size_t from, std::size_t& next);
    int write_stream(const IndexRows::Streams::Entry& entry);
    int put_settled(std::int64_t piece);
    int settle_all();
    void freeze_if_full();
    void freeze();
    bool knows_run_up_to(UserId user, Position up_to) const;
    int forget_in_tables(UserId user, Position up_to);
    int find_expired_in(std::int64_t piece, std::size_t& skip, std::size_t rows_max,
                        std::vector<MessageTables::ExpiredMessage>& rows);

    const Limits limits_;
    SqliteLog& log_;
    SqliteOwners& owners_;
    SqliteStatement put_run_, drop_run_, find_runs_, find_runs_to_;
    SqliteStatement put_stream_, drop_stream_, find_streams_, sweep_streams_;
    SqliteStatement put_conversation_, find_conversation_;
    SqliteStatement put_piece_, lessen_, find_old_, find_dead_, find_waiting_, drop_piece_;
    SqliteStatement put_settled_;

    IndexRows recent_;
    IndexRows settling_;
    bool is_settling_ = false;
    bool is_hurried_ = false;
    Order order_;           // Of settling_.
    std::size_t next_ = 0;  // Of order_: those before it are in the tables.
    std::size_t due_ = 0;   // Rows of it that are to be written now.
    std::int64_t settled_piece_ = 0;
    Planned planned_;
    std::string scratch_;
};

}  // namespace petrel
