#include <deque>
#include <memory>
#include <random>

#include <doctest/doctest.h>

#include "daemons/ring.hpp"

using petrel::Ring;

TEST_CASE("Ring: does what a queue does, whatever is pushed and popped") {
    std::mt19937 random(1);
    Ring<int> ring;
    std::deque<int> model;
    for (int i = 0; i < 20'000; ++i) {
        // Long rises and falls: it grows, wraps around and empties.
        const bool is_rise = i / 500 % 2 == 0;
        if (random() % 10 < (is_rise ? 7u : 3u)) {
            ring.push_back(i);
            model.push_back(i);
        } else if (!model.empty()) {
            ring.pop_front();
            model.pop_front();
        }
        if (i % 5000 == 4999) {
            ring.clear();
            model.clear();
        }
        REQUIRE(ring.size() == model.size());
        REQUIRE(ring.empty() == model.empty());
        if (model.empty()) continue;
        REQUIRE(ring.front() == model.front());
        const std::size_t at = random() % model.size();
        REQUIRE(ring[at] == model[at]);
    }
}

TEST_CASE("Ring: holds on to nothing that was taken out") {
    const auto value = std::make_shared<int>(1);
    Ring<std::shared_ptr<int>> ring;
    for (const int count : {3, 200}) {
        for (int i = 0; i < count; ++i) ring.push_back(value);
        CHECK(value.use_count() == count + 1);
        for (int i = 1; i < count; ++i) ring.pop_front();
        CHECK(value.use_count() == 2);
        ring.push_back(value);
        ring.clear();
        CHECK(value.use_count() == 1);
    }
}
