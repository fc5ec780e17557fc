#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace petrel {

// What the workers' tables are made of: plain items in slots that keep their place, lists and an
// index that run through the items themselves. A slot is a number, half as wide as a pointer.

using Slot = std::uint32_t;
constexpr Slot kNoSlot = 0xffff'ffff;

// Items of one kind, in chunks: growing moves nothing, a chunk without items is freed, and an empty
// slab holds next to no memory (thousands of sessions have one). Fewer than 2^32 - 1 items.
template <class Item>
class Slab {
public:
    static_assert(std::is_trivially_destructible_v<Item>);
    // So that a chunk of the tables' items stays below what malloc keeps at hand (1032 bytes).
    static constexpr Slot kPerChunk = 16;

    Slab() = default;
    Slab(const Slab&) = delete;
    Slab& operator=(const Slab&) = delete;

    Slot add(const Item& item) {
        if (with_room_.empty()) {
            with_room_.push_back(static_cast<std::uint32_t>(chunks_.size()));
            chunks_.emplace_back();
        }
        const std::uint32_t number = with_room_.back();
        if (!chunks_[number]) chunks_[number].reset(new Chunk);
        Chunk& chunk = *chunks_[number];
        const auto place = static_cast<std::uint32_t>(__builtin_ctz(~unsigned{chunk.used}));
        chunk.used = static_cast<std::uint16_t>(chunk.used | 1U << place);
        if (chunk.used == kFull) with_room_.pop_back();
        chunk.items[place] = item;
        ++size_;
        return number * kPerChunk + place;
    }

    void remove(Slot slot) {
        std::unique_ptr<Chunk>& chunk = chunks_[chunk_of(slot)];
        if (chunk->used == kFull) with_room_.push_back(chunk_of(slot));
        chunk->used = static_cast<std::uint16_t>(chunk->used & ~(1U << slot % kPerChunk));
        if (chunk->used == 0) chunk.reset();
        if (--size_ == 0) reset();
    }

    Item& operator[](Slot slot) { return chunks_[chunk_of(slot)]->items[slot % kPerChunk]; }
    const Item& operator[](Slot slot) const {
        return chunks_[chunk_of(slot)]->items[slot % kPerChunk];
    }

    std::size_t size() const noexcept { return size_; }

    static std::uint32_t chunk_of(Slot slot) noexcept { return slot / kPerChunk; }
    std::size_t chunks() const noexcept { return chunks_.size(); }
    // visit(Slot), in the order of slots.
    template <class Visit>
    void visit_chunk(std::uint32_t number, Visit visit) const {
        if (!chunks_[number]) return;
        for (unsigned left = chunks_[number]->used; left != 0; left &= left - 1) {
            visit(number * kPerChunk + static_cast<Slot>(__builtin_ctz(left)));
        }
    }
    bool is_chunk_empty(std::uint32_t number) const {
        return number >= chunks_.size() || !chunks_[number];
    }

private:
    static constexpr std::uint16_t kFull = 0xffff;

    struct Chunk {
        Item items[kPerChunk];  // Those without a bit in `used` hold anything.
        std::uint16_t used = 0;
    };

    void reset() {
        chunks_.clear();
        with_room_.clear();
        if (chunks_.capacity() <= kPerChunk) return;
        std::vector<std::unique_ptr<Chunk>>().swap(chunks_);
        std::vector<std::uint32_t>().swap(with_room_);
    }

    std::vector<std::unique_ptr<Chunk>> chunks_;
    std::vector<std::uint32_t> with_room_;  // Chunks that are not full; the last one gets the next.
    std::size_t size_ = 0;
};

// Items in an order, linked by their own `prev` and `next`. `Items` maps a slot to its item.
struct SlotList {
    Slot front = kNoSlot;
    Slot back = kNoSlot;

    bool empty() const noexcept { return front == kNoSlot; }

    template <class Items>
    void push_back(Items& items, Slot slot) {
        items[slot].prev = back;
        items[slot].next = kNoSlot;
        (back == kNoSlot ? front : items[back].next) = slot;
        back = slot;
    }

    template <class Items>
    void remove(Items& items, Slot slot) {
        const Slot prev = items[slot].prev;
        const Slot next = items[slot].next;
        (prev == kNoSlot ? front : items[prev].next) = next;
        (next == kNoSlot ? back : items[next].prev) = prev;
    }
};

// Finds slots by a hash: chains through the items' `chain`. It grows by a bucket an item (linear
// hashing), so that no insertion ever waits for all to be sorted in anew. `hash_of(Slot)` tells the
// hash of an item that is in it.
class SlotIndex {
public:
    template <class Is, class Items>
    Slot find(const Items& items, std::uint64_t hash, Is is) const {
        if (buckets_.empty()) return kNoSlot;
        Slot slot = buckets_[bucket_of(hash)];
        while (slot != kNoSlot && !is(slot)) slot = items[slot].chain;
        return slot;
    }

    template <class Items, class HashOf>
    void add(Items& items, Slot slot, HashOf hash_of) {
        if (size_++ >= buckets_.size()) split(items, hash_of);
        Slot& first = buckets_[bucket_of(hash_of(slot))];
        items[slot].chain = first;
        first = slot;
    }

    template <class Items>
    void remove(Items& items, Slot slot, std::uint64_t hash) {
        Slot* at = &buckets_[bucket_of(hash)];
        while (*at != slot) at = &items[*at].chain;
        *at = items[slot].chain;
        if (--size_ > 0 || buckets_.size() <= kBucketsKept) return;
        std::vector<Slot>().swap(buckets_);
    }

    std::size_t size() const noexcept { return size_; }

private:
    static constexpr std::size_t kBucketsKept = 64;  // 256 bytes, by an empty one.

    std::size_t bucket_of(std::uint64_t hash) const noexcept {
        const std::size_t bucket = hash & mask();
        return bucket < buckets_.size() ? bucket : bucket & mask() >> 1;
    }
    // The lowest 2^n - 1 that reaches the last bucket.
    std::size_t mask() const noexcept {
        const std::uint64_t last = buckets_.size() - 1;
        return last == 0 ? 0 : ~std::uint64_t{0} >> __builtin_clzll(last);
    }

    // One bucket more: takes over its share of the one that has stood for it.
    template <class Items, class HashOf>
    void split(Items& items, HashOf hash_of) {
        if (buckets_.size() == buckets_.capacity()) {
            // By a quarter: doubling would leave up to half of it unused.
            buckets_.reserve(buckets_.size() + buckets_.size() / 4 + 4);
        }
        const std::size_t added = buckets_.size();
        buckets_.push_back(kNoSlot);
        if (added == 0) return;
        Slot* at = &buckets_[added & mask() >> 1];
        while (*at != kNoSlot) {
            const Slot slot = *at;
            if (bucket_of(hash_of(slot)) != added) {
                at = &items[slot].chain;
                continue;
            }
            *at = items[slot].chain;
            items[slot].chain = buckets_[added];
            buckets_[added] = slot;
        }
    }

    std::vector<Slot> buckets_;  // The first of each chain.
    std::size_t size_ = 0;
};

}  // namespace petrel
