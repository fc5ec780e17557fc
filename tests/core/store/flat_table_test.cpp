#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "core/store/flat_table.hpp"

using namespace petrel;

namespace {

struct Mixed {
    std::size_t operator()(std::uint64_t key) const { return key * 0x9e3779b97f4a7c15ULL; }
};
struct Same {
    std::size_t operator()(std::uint64_t) const { return 42; }
};
struct Named {
    std::size_t operator()(const std::string& key) const { return std::hash<std::string>()(key); }
};

}  // namespace

TEST_CASE("FlatTable: every row is found, at its place, in the order in which they came") {
    FlatTable<std::uint64_t, std::uint64_t, Mixed> table;
    CHECK(table.empty());
    CHECK(table.find(1) == nullptr);
    const std::uint64_t* first = nullptr;
    for (std::uint64_t i = 0; i < 100'000; ++i) {
        std::uint64_t& row = table.at(i * 7);
        REQUIRE(row == 0);
        row = i + 1;
        if (i == 0) first = &row;
    }
    CHECK(table.find(0) == first);
    CHECK(table.size() == 100'000);
    for (std::uint64_t i = 0; i < 100'000; ++i) {
        REQUIRE(table.find(i * 7) != nullptr);
        REQUIRE(*table.find(i * 7) == i + 1);
        REQUIRE(table.find(i * 7 + 1) == nullptr);
        REQUIRE(table.entry(i).key == i * 7);
    }
}

TEST_CASE("FlatTable: keys of one hash are told apart") {
    FlatTable<std::uint64_t, std::uint64_t, Same> table;
    for (std::uint64_t i = 0; i < 300; ++i) table.put(i, i);
    table.put(7, 70);
    CHECK(table.size() == 300);
    CHECK(*table.find(7) == 70);
    CHECK(*table.find(299) == 299);
    CHECK(table.find(300) == nullptr);
}

TEST_CASE("FlatTable: moved from, it is as new") {
    FlatTable<std::uint64_t, std::uint64_t, Mixed> table;
    for (std::uint64_t i = 0; i < 100; ++i) table.put(i, i);
    FlatTable<std::uint64_t, std::uint64_t, Mixed> other(std::move(table));
    CHECK(other.size() == 100);
    CHECK(*other.find(99) == 99);
    CHECK(table.empty());  // NOLINT(bugprone-use-after-move)
    table.put(1, 2);
    CHECK(*table.find(1) == 2);
    other = std::move(table);
    CHECK(other.size() == 1);
}

TEST_CASE("FlatTable: cleared, it is as new") {
    FlatTable<std::string, std::string, Named> table;
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 200; ++i) {
            std::string& row = table.at(std::to_string(i) + std::string(50, 'k'));
            REQUIRE(row.empty());
            row = std::string(50, 'r');
        }
        CHECK(table.size() == 200);
        table.clear();
        CHECK(table.empty());
        CHECK(table.find("0" + std::string(50, 'k')) == nullptr);
    }
}
