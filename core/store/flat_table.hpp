#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace petrel {

// Rows by key, in the order in which they came: they lie in one block, and a look-up of a key that
// is not here touches one cell of another. Nothing is taken out one by one. At most 2^32 - 1.
// Thread-compatible.
template <class Key, class Row, class Hash>
class FlatTable {
public:
    struct Entry {
        Key key;
        Row row;
    };

    bool empty() const noexcept { return entries_.empty(); }
    std::size_t size() const noexcept { return entries_.size(); }
    const std::vector<Entry>& entries() const noexcept { return entries_; }

    const Row* find(const Key& key) const {
        if (cells_.empty()) return nullptr;
        const std::size_t found = cells_[cell_of(Hash()(key), key)] & kNumber;
        return found == 0 ? nullptr : &entries_[found - 1].row;
    }

    // Over the row of that key, if there is one.
    void put(const Key& key, const Row& row) { at(key) = row; }

    // The row of that key, a default one if there was none.
    Row& at(const Key& key) {
        if ((entries_.size() + 1) * 2 > cells_.size()) grow();
        const std::uint64_t hash = Hash()(key);
        std::uint64_t& cell = cells_[cell_of(hash, key)];
        if (cell == 0) {
            entries_.push_back({key, Row()});
            cell = (hash & kTag) | entries_.size();
        }
        return entries_[(cell & kNumber) - 1].row;
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
    std::size_t cell_of(std::uint64_t hash, const Key& key) const {
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
            const std::uint64_t hash = Hash()(entries_[i].key);
            std::size_t at = static_cast<std::size_t>(hash) & mask;
            while (cells_[at] != 0) at = (at + 1) & mask;
            cells_[at] = (hash & kTag) | (i + 1);
        }
    }

    std::vector<Entry> entries_;
    std::vector<std::uint64_t> cells_;  // A power of two, at most half full; or none.
};

}  // namespace petrel
