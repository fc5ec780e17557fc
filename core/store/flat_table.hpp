#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace petrel {

// Rows by key, in the order in which they came; they keep their place. A look-up of a key that is
// not here touches one cell and no row, growing touches the cells only. Nothing is taken out one by
// one. At most 2^32 - 1. Thread-compatible.
template <class Key, class Row, class Hash>
class FlatTable {
public:
    struct Entry {
        Key key;
        Row row;
    };

    FlatTable() = default;
    FlatTable(FlatTable&& other) noexcept { swap(other); }
    FlatTable& operator=(FlatTable&& other) noexcept {
        FlatTable taken(std::move(other));
        swap(taken);
        return *this;
    }

    void swap(FlatTable& other) noexcept {
        blocks_.swap(other.blocks_);
        cells_.swap(other.cells_);
        std::swap(size_, other.size_);
    }

    bool empty() const noexcept { return size_ == 0; }
    std::size_t size() const noexcept { return size_; }
    const Entry& entry(std::size_t at) const { return blocks_[at / kBlock][at % kBlock]; }

    const Row* find(const Key& key) const {
        if (cells_.empty()) return nullptr;
        const std::size_t found = cells_[cell_of(Hash()(key), key)] & kNumber;
        return found == 0 ? nullptr : &entry(found - 1).row;
    }

    // Over the row of that key, if there is one.
    void put(const Key& key, const Row& row) { at(key) = row; }

    // The row of that key, a default one if there was none.
    Row& at(const Key& key) {
        if ((size_ + 1) * 2 > cells_.size()) grow();
        const std::uint64_t hash = Hash()(key);
        std::uint64_t& cell = cells_[cell_of(hash, key)];
        if (cell == 0) {
            if (size_ == blocks_.size() * kBlock) blocks_.emplace_back(new Entry[kBlock]);
            slot(size_) = Entry{key, Row()};
            cell = (hash & kTag) | ++size_;
        }
        return slot((cell & kNumber) - 1).row;
    }

    void clear() {  // The memory stays.
        for (; size_ > 0; --size_) slot(size_ - 1) = Entry();
        std::fill(cells_.begin(), cells_.end(), 0);
    }

private:
    // A cell: the upper half of the hash, which says where it belongs, and 1 + the place of the
    // row. 0: empty.
    static constexpr std::uint64_t kNumber = 0xffffffffU;
    static constexpr std::uint64_t kTag = ~kNumber;
    static constexpr std::size_t kCellsMin = 16;
    static constexpr std::size_t kBlock = 64;  // Rows.

    Entry& slot(std::size_t at) { return blocks_[at / kBlock][at % kBlock]; }

    // Where the key is, or the empty cell where it belongs.
    std::size_t cell_of(std::uint64_t hash, const Key& key) const {
        const std::size_t mask = cells_.size() - 1;
        std::size_t at = static_cast<std::size_t>(hash >> 32) & mask;
        for (; cells_[at] != 0; at = (at + 1) & mask) {
            if ((cells_[at] & kTag) != (hash & kTag)) continue;
            if (entry((cells_[at] & kNumber) - 1).key == key) break;
        }
        return at;
    }

    void grow() {
        std::vector<std::uint64_t> larger(cells_.empty() ? kCellsMin : cells_.size() * 2, 0);
        const std::size_t mask = larger.size() - 1;
        for (const std::uint64_t cell : cells_) {
            if (cell == 0) continue;
            std::size_t at = static_cast<std::size_t>(cell >> 32) & mask;
            while (larger[at] != 0) at = (at + 1) & mask;
            larger[at] = cell;
        }
        cells_ = std::move(larger);
    }

    std::vector<std::unique_ptr<Entry[]>> blocks_;
    std::size_t size_ = 0;
    std::vector<std::uint64_t> cells_;  // A power of two, at most half full; or none.
};

}  // namespace petrel
