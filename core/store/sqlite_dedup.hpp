#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/store/key_filter.hpp"
#include "core/store/message_tables.hpp"
#include "core/store/sqlite_file.hpp"
#include "core/store/sqlite_owners.hpp"

namespace petrel {

// The dedup rows of a gateway's store file. Fingerprints are random: in a table by fingerprint each
// would cost a page of its own. So they are written as runs, sorted by hash, page behind page:
//
//   accepted -> recent_ (memory; the message log repeats it) -- full --> settling_ (memory)
//                                -- some pages with each commit --> a run
//
// A look-up reads a page only where a filter in memory says that the key may be there. Nothing in a
// run ever changes; when all of it has expired, it goes. meta row 2 is the piece of the log up to
// which the runs have everything: after a crash the rest is made again from the log, which keeps
// it until then. Changes of memory wait for committed(). Thread-compatible.
class SqliteDedup {
public:
    static const char* const kCreate;

    struct Limits {
        std::size_t rows = 0;   // Of recent_, before it is full...
        std::size_t bytes = 0;  // ...or text of theirs in the log, which an opening reads again.
    };

    explicit SqliteDedup(const Limits& limits) : limits_(limits) {}

    // Then replay() with every piece of the log after settled_piece(), then opened().
    int open(SqliteFile& file);
    int replay(std::int64_t id, std::string_view piece, SqliteOwners& owners);
    void opened() { freeze_if_full(); }

    int find(const DedupKey& key, DedupRow& row, bool& is_found);

    // What a transaction adds; the log has all of it.
    struct Batch {
        const DedupTable* rows = nullptr;
        std::size_t text_bytes = 0;
        std::int64_t last_piece = 0;  // Of the log, with its messages; for committed() only.
    };
    int write(const Batch& batch);
    void committed(const Batch& batch);

    // What was accepted before is not needed any more, and whether the log waits to let pieces go.
    void expire(std::int64_t before, bool is_log_waiting);
    // Whether a write() has something to do about it, even without a batch.
    bool has_upkeep() const { return !expired_runs_.empty() || (is_settling_ && is_hurried_); }

    // The piece of the log up to which the runs have everything.
    std::int64_t settled_piece() const { return settled_piece_; }
    std::int64_t planned_settled_piece() const { return planned_.settled_piece; }

private:
    // A group has one filter: of so many runs that a look-up asks few filters, and of so few that
    // it goes soon after they have. A wrong "maybe" costs a page of each of them.
    static constexpr std::size_t kRunsInGroup = 16;

    struct Run {
        std::int64_t id = 0;
        std::int64_t first_page = 0;
        std::int64_t newest = 0;            // Accepted.
        std::vector<std::uint64_t> fences;  // The first hash of each page.
    };
    struct Group {
        KeyFilter filter;
        std::vector<Run> runs;
        std::size_t runs_added = 0;
    };
    struct Entry {
        std::uint64_t hash = 0;
        const DedupTable::Entry* row = nullptr;
    };

    std::uint64_t hash_of(const DedupKey& key) const;
    int find_in_run(const Run& run, std::uint64_t hash, const DedupKey& key, DedupRow& row,
                    bool& is_found);
    void add_run(Run run, const std::uint64_t* hashes, std::size_t count);
    int write_pages(std::size_t rows);
    int write_run();
    int drop_runs();
    void freeze_if_full();
    void freeze();

    const Limits limits_;
    SqliteStatement find_page_, add_page_, drop_pages_, add_run_, drop_run_, put_settled_;
    std::uint64_t seed_ = 0;  // The store's own: hashes cannot be made to collide from outside.
    std::vector<Group> groups_;
    std::int64_t last_run_ = 0;
    std::int64_t last_page_ = 0;
    std::vector<std::int64_t> expired_runs_;
    std::int64_t expired_before_ = 0;

    DedupTable recent_;
    std::size_t recent_bytes_ = 0;
    std::int64_t recent_last_piece_ = 0;

    bool is_settling_ = false;
    bool is_hurried_ = false;  // The log holds pieces for it that are nobody's any more.
    DedupTable settling_;
    std::vector<Entry> order_;  // Of settling_, without what has expired.
    std::size_t next_ = 0;      // Of order_: those before it are in pages.
    Run run_;                   // So far.
    std::int64_t settling_last_piece_ = 0;
    std::int64_t settled_piece_ = 0;

    // What write() did, for committed().
    struct Planned {
        std::size_t next = 0;
        std::vector<std::uint64_t> fences;
        bool is_done = false;
        std::vector<std::int64_t> dropped;
        std::int64_t settled_piece = 0;
    };
    Planned planned_;
    std::string page_;  // Scratch, as the next.
    std::string digested_;
};

}  // namespace petrel
