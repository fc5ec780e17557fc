#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <ostream>
#include <random>
#include <set>
#include <vector>

#include "daemons/slab.hpp"

using namespace petrel;

namespace {

struct Item {
    std::uint64_t value;
    Slot prev, next;
    Slot chain;
};

Item item(std::uint64_t value) { return {value, kNoSlot, kNoSlot, kNoSlot}; }

std::vector<std::uint64_t> listed(const Slab<Item>& items, const SlotList& list) {
    std::vector<std::uint64_t> values;
    Slot last = kNoSlot;
    for (Slot slot = list.front; slot != kNoSlot; last = slot, slot = items[slot].next) {
        CHECK(items[slot].prev == last);
        values.push_back(items[slot].value);
    }
    CHECK(list.back == last);
    return values;
}

}  // namespace

TEST_CASE("Slab: items keep their slots while others come and go") {
    Slab<Item> items;
    std::map<Slot, std::uint64_t> expected;
    std::mt19937_64 random(1);
    for (std::uint64_t i = 0; i < 20'000; ++i) {
        // Grows to some hundred, shrinks to nothing, and so on.
        const bool is_growing = i / 1000 % 2 == 0;
        if (expected.empty() || random() % 10 < (is_growing ? 7U : 2U)) {
            const Slot slot = items.add(item(i));
            REQUIRE(expected.emplace(slot, i).second);
        } else {
            const auto gone = std::next(expected.begin(),
                                        static_cast<std::ptrdiff_t>(random() % expected.size()));
            items.remove(gone->first);
            expected.erase(gone);
        }
        REQUIRE(items.size() == expected.size());
    }
    for (const auto& [slot, value] : expected) CHECK(items[slot].value == value);
    std::vector<Slot> visited;
    for (std::uint32_t i = 0; i < items.chunks(); ++i) {
        items.visit_chunk(i, [&](Slot slot) { visited.push_back(slot); });
    }
    CHECK(visited.size() == expected.size());
    CHECK(std::equal(visited.begin(), visited.end(), expected.begin(),
                     [](Slot slot, const auto& entry) { return slot == entry.first; }));
}

TEST_CASE("Slab: a slot that became free is used again") {
    Slab<Item> items;
    std::vector<Slot> slots;
    for (std::uint64_t i = 0; i < 100; ++i) slots.push_back(items.add(item(i)));
    const std::size_t chunks = items.chunks();
    for (int round = 0; round < 1000; ++round) {
        for (std::size_t i = 0; i < 50; ++i) items.remove(slots[i]);
        for (std::size_t i = 0; i < 50; ++i) slots[i] = items.add(item(i));
    }
    CHECK(items.chunks() == chunks);
}

TEST_CASE("Slab: a chunk is empty when its last item has gone") {
    Slab<Item> items;
    const Slot first = items.add(item(1));
    const Slot second = items.add(item(2));
    CHECK(items.chunk_of(first) == items.chunk_of(second));
    for (int i = 0; i < 20; ++i) items.add(item(3));
    items.remove(first);
    CHECK_FALSE(items.is_chunk_empty(items.chunk_of(first)));
    for (Slot slot = second; slot < Slab<Item>::kPerChunk; ++slot) items.remove(slot);
    CHECK(items.is_chunk_empty(items.chunk_of(first)));
    CHECK_FALSE(items.is_chunk_empty(items.chunk_of(first) + 1));
}

TEST_CASE("SlotList: what is removed from any place leaves the others in order") {
    Slab<Item> items;
    SlotList list;
    std::vector<Slot> slots;
    for (std::uint64_t i = 0; i < 5; ++i) {
        slots.push_back(items.add(item(i)));
        list.push_back(items, slots.back());
    }
    CHECK(listed(items, list) == std::vector<std::uint64_t>{0, 1, 2, 3, 4});
    list.remove(items, slots[2]);
    list.remove(items, slots[0]);
    list.remove(items, slots[4]);
    CHECK(listed(items, list) == std::vector<std::uint64_t>{1, 3});
    list.push_back(items, slots[0]);
    CHECK(listed(items, list) == std::vector<std::uint64_t>{1, 3, 0});
    for (const std::size_t i : {1U, 3U, 0U}) list.remove(items, slots[i]);
    CHECK(list.empty());
    CHECK(list.back == kNoSlot);
}

// Hashes of few values, so that chains are long, and of many.
TEST_CASE("SlotIndex: it finds what is in it, and nothing else") {
    for (const std::uint64_t hashes : {1ULL, 3ULL, 100'000ULL}) {
        Slab<Item> items;
        SlotIndex index;
        std::map<std::uint64_t, Slot> expected;
        std::mt19937_64 random(hashes);
        const auto hash = [&](std::uint64_t value) {
            return value % hashes * 0x9e3779b97f4a7c15ULL;
        };
        const auto find = [&](std::uint64_t value) {
            return index.find(items, hash(value),
                              [&](Slot slot) { return items[slot].value == value; });
        };
        for (int i = 0; i < 5'000; ++i) {
            const std::uint64_t value = random() % 300;
            const auto known = expected.find(value);
            REQUIRE(find(value) == (known == expected.end() ? kNoSlot : known->second));
            if (known == expected.end()) {
                const Slot slot = items.add(item(value));
                index.add(items, slot, [&](Slot other) { return hash(items[other].value); });
                expected.emplace(value, slot);
            } else {
                index.remove(items, known->second, hash(value));
                items.remove(known->second);
                expected.erase(known);
            }
            REQUIRE(index.size() == expected.size());
        }
        while (!expected.empty()) {
            index.remove(items, expected.begin()->second, hash(expected.begin()->first));
            items.remove(expected.begin()->second);
            expected.erase(expected.begin());
            for (const auto& [value, slot] : expected) REQUIRE(find(value) == slot);
        }
    }
}
