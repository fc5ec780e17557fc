#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/store/message_tables.hpp"
#include "core/store/sqlite_file.hpp"
#include "core/store/sqlite_log.hpp"

namespace petrel {

// The dedup rows of a gateway's store file, in two tiers, because fingerprints are random: written
// one by one, each would cost a page of its own.
//
//   accepted -> recent_ (memory; the message log repeats it) -- full --> settling_ (memory)
//                                -- some neighbours with each commit --> table `dedup`
//
// meta row 2 is the log id up to which the table has everything; after a crash the rest is made
// again from the log. Whoever deletes a message behind it from the log asks for settle_all first.
// Changes of memory wait for committed(). Thread-compatible.
class SqliteDedup {
public:
    struct Limits {
        std::size_t rows = 0;   // Of recent_, before it is full...
        std::size_t bytes = 0;  // ...or text of theirs in the log, which an opening reads again.
    };

    explicit SqliteDedup(const Limits& limits) : limits_(limits) {}

    int open(SqliteFile& file, SqliteLog& log);

    int find(const DedupKey& key, DedupRow& row, bool& is_found);

    // What a transaction adds. `is_in_log`: the log has every row of `rows`.
    struct Batch {
        DedupMap* rows = nullptr;
        std::size_t text_bytes = 0;
        bool is_in_log = true;
        bool settle_all = false;
        std::int64_t last_id = 0;  // Of the log, behind its messages; for committed() only.
    };
    int write(const Batch& batch);
    void committed(const Batch& batch);

    int forget(const std::vector<DedupKey>& keys);
    // As MessageTables::sweep_dedup().
    int sweep(std::int64_t before, std::size_t rows_max, std::vector<DedupKey>& keys,
              bool& is_finished);

    // The log id up to which everything is in the table.
    std::int64_t settled_id() const { return settled_id_; }

private:
    using Entry = std::pair<std::uint64_t, const DedupMap::value_type*>;

    int put(const DedupMap::value_type& row);
    int load_recent(SqliteLog& log);
    static std::vector<Entry> sorted(const DedupMap& rows);
    void add_recent(DedupMap& rows);
    void freeze();

    const Limits limits_;
    SqliteStatement find_, put_, drop_, sweep_, put_settled_;
    DedupMap recent_;
    std::size_t recent_bytes_ = 0;
    std::int64_t recent_last_id_ = 0;
    DedupMap settling_;
    std::vector<Entry> settling_order_;
    std::size_t settling_next_ = 0;
    std::int64_t settling_last_id_ = 0;
    std::int64_t settled_id_ = 0;
    // Planned by write().
    std::size_t planned_next_ = 0;
    std::int64_t planned_settled_id_ = 0;
    DedupKey swept_to_;
};

}  // namespace petrel
