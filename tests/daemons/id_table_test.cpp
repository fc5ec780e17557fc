#include <doctest/doctest.h>

#include <cstdint>
#include <ostream>
#include <random>
#include <vector>

#include "daemons/id_table.hpp"

using namespace petrel;

namespace {

IdTable::Id id(std::uint64_t number) { return {number * 0x9e3779b97f4a7c15ULL, number}; }

}  // namespace

TEST_CASE("IdTable: it finds what it was given, by both halves") {
    IdTable table;
    const Slot a = table.add({1, 1}, 5);
    const Slot b = table.add({1, 2}, 6);
    CHECK(table.find({1, 1}) == a);
    CHECK(table.find({1, 2}) == b);
    CHECK(table.find({2, 1}) == kNoSlot);
    CHECK(table.at(a) == 5);
    CHECK(table.size() == 2);
    table.remove(a);
    CHECK(table.find({1, 1}) == kNoSlot);
    CHECK(table.find({1, 2}) == b);
    CHECK(table.is_consistent());
}

TEST_CASE("IdTable: each order has its oldest in front, and a touch makes the youngest") {
    IdTable table;
    const Slot a = table.add(id(1), 1);
    const Slot b = table.add(id(2), 2);
    CHECK(table.oldest() == a);
    CHECK(table.oldest(true) == kNoSlot);
    table.touch(a, 3);
    CHECK(table.oldest() == b);
    CHECK(table.at(a) == 3);
    table.mark(b, IdTable::kTimeMax);
    CHECK(table.is_marked(b));
    CHECK(table.at(b) == IdTable::kTimeMax);
    CHECK(table.oldest() == a);
    CHECK(table.oldest(true) == b);
    table.mark(a, 0);
    CHECK(table.oldest(true) == b);
    table.touch(b, 4);
    CHECK(table.is_marked(b));
    CHECK(table.oldest(true) == a);
    CHECK(table.is_consistent());
}

TEST_CASE("IdTable: it stays whole through thousands of changes") {
    IdTable table;
    std::mt19937_64 random(1);
    for (std::uint32_t i = 0; i < 20'000; ++i) {
        const IdTable::Id any = id(random() % 500);
        const Slot found = table.find(any);
        if (found == kNoSlot) {
            table.add(any, i);
        } else if (const auto what = random() % 4; what == 0) {
            table.touch(found, i);
        } else if (what == 1) {
            table.mark(found, i);
        } else {
            table.remove(found);
        }
        if (i % 100 == 0) REQUIRE(table.is_consistent());
    }
    while (table.oldest() != kNoSlot) table.remove(table.oldest());
    while (table.oldest(true) != kNoSlot) table.remove(table.oldest(true));
    CHECK(table.size() == 0);
    CHECK(table.is_consistent());
}
