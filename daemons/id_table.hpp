#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "daemons/slab.hpp"
#include "protocol/fingerprint.hpp"

namespace petrel {

// 128-bit names with the time when each was last heard of, oldest first, in two orders: the marked
// ones and the others. 40 bytes each. Who gives names that a stranger has chosen puts them through
// a KeyedHash first. Times are numbers of the owner's; only their order in time counts here.
// Thread-compatible.
class IdTable {
public:
    using Id = std::array<std::uint64_t, 2>;
    // Of a fingerprint of one's own: a UUID's bytes, or a hash of a foreign one's text with a key
    // that is no secret. Two that share an id are not to be found by chance.
    static Id id_of(const Fingerprint& fp);

    Slot find(const Id& id) const;
    Slot add(const Id& id, std::uint32_t at);  // Not here yet; not marked.
    void remove(Slot slot);
    void touch(Slot slot, std::uint32_t at);  // The youngest of its order.
    void mark(Slot slot, std::uint32_t at);   // The youngest of the marked ones.

    std::size_t size() const noexcept { return items_.size(); }
    std::uint32_t at(Slot slot) const { return items_[slot].at >> 1; }
    bool is_marked(Slot slot) const { return (items_[slot].at & kMarked) != 0; }
    // kNoSlot when there is none of them.
    Slot oldest(bool is_marked = false) const { return is_marked ? marked_.front : plain_.front; }

    bool is_consistent() const;

    static constexpr std::uint32_t kTimeMax = 0x7fff'ffff;

private:
    static constexpr std::uint32_t kMarked = 1;

    struct Item {
        Id id;
        Slot prev, next;
        Slot chain;
        std::uint32_t at;  // Twice the time, and kMarked.
    };
    static_assert(sizeof(Item) == 32);

    SlotList& list_of(Slot slot) { return is_marked(slot) ? marked_ : plain_; }

    Slab<Item> items_;
    SlotIndex index_;
    SlotList plain_;
    SlotList marked_;
};

}  // namespace petrel
