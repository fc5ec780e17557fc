#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/store/message_tables.hpp"

namespace petrel {

// Dedup rows by key, in the order in which they came: they lie in one block, and a look-up of a key
// that is not here touches one cell of another. Nothing is taken out one by one. At most 2^32 - 1.
// Thread-compatible.
class DedupTable {
public:
    struct Entry {
        DedupKey key;
        DedupRow row;
    };

    bool empty() const noexcept { return entries_.empty(); }
    std::size_t size() const noexcept { return entries_.size(); }
    const std::vector<Entry>& entries() const noexcept { return entries_; }

    const DedupRow* find(const DedupKey& key) const {
        if (cells_.empty()) return nullptr;
        const std::uint64_t hash = RowHash()(key);
        const std::size_t found = cells_[cell_of(hash, key)] & kNumber;
        return found == 0 ? nullptr : &entries_[found - 1].row;
    }

    // Over the row of that key, if there is one.
    void put(const DedupKey& key, const DedupRow& row) {
        if ((entries_.size() + 1) * 2 > cells_.size()) grow();
        const std::uint64_t hash = RowHash()(key);
        std::uint64_t& cell = cells_[cell_of(hash, key)];
        if (cell != 0) {
            entries_[(cell & kNumber) - 1].row = row;
            return;
        }
        entries_.push_back({key, row});
        cell = (hash & kTag) | entries_.size();
    }

    void clear() {  // The memory stays.
        entries_.clear();
        std::fill(cells_.begin(), cells_.end(), 0);
    }

private:
    // A cell: the upper half of the hash, and 1 + the place in entries_. 0: empty.
    static constexpr std::uint64_t kNumber = 0xffffffffU;
    static constexpr std::uint64_t kTag = ~kNumber;
    static constexpr std::size_t kCellsMin = 16;

    // Where the key is, or the empty cell where it belongs.
    std::size_t cell_of(std::uint64_t hash, const DedupKey& key) const {
        const std::size_t mask = cells_.size() - 1;
        std::size_t at = static_cast<std::size_t>(hash) & mask;
        for (; cells_[at] != 0; at = (at + 1) & mask) {
            if ((cells_[at] & kTag) != (hash & kTag)) continue;
            if (entries_[(cells_[at] & kNumber) - 1].key == key) break;
        }
        return at;
    }

    void grow() {
        cells_.assign(cells_.empty() ? kCellsMin : cells_.size() * 2, 0);
        const std::size_t mask = cells_.size() - 1;
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            const std::uint64_t hash = RowHash()(entries_[i].key);
            std::size_t at = static_cast<std::size_t>(hash) & mask;
            while (cells_[at] != 0) at = (at + 1) & mask;
            cells_[at] = (hash & kTag) | (i + 1);
        }
    }

    std::vector<Entry> entries_;
    std::vector<std::uint64_t> cells_;  // A power of two, at most half full; or none.
};

}  // namespace petrel
