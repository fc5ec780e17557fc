#include "daemons/backoff.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/fake_context.hpp"

using namespace petrel;
using namespace std::chrono_literals;
using petrel::test::FakeContext;

namespace {

std::vector<Duration> ceilings(Backoff backoff, int count) {
    FakeContext context;
    std::vector<Duration> result;
    for (int i = 0; i < count; ++i) {
        result.push_back(backoff.ceiling());
        (void)backoff.next(context);
    }
    return result;
}

}  // namespace

TEST_CASE("Backoff: the ceiling doubles from the base to the maximum and stays there") {
    CHECK(ceilings(Backoff(500ms, 30s), 9) ==
          std::vector<Duration>{500ms, 1s, 2s, 4s, 8s, 16s, 30s, 30s, 30s});
}

TEST_CASE("Backoff: a delay is anywhere from zero to the ceiling, the first one too") {
    FakeContext context;
    Backoff backoff(500ms, 30s);
    context.set_next_random(0);
    CHECK(backoff.next(context) == 0ns);
    context.set_next_random(UINT64_MAX);
    CHECK(backoff.next(context) == 1s);
    context.set_next_random(1'500'000'000);
    CHECK(backoff.next(context) == 1500ms);
}

TEST_CASE("Backoff: first delays of many clients fill the window evenly") {
    std::vector<int> tenths(10);
    for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
        FakeContext context(seed);
        Backoff backoff(500ms, 30s);
        const Duration delay = backoff.next(context);
        CHECK(delay <= 500ms);
        ++tenths[static_cast<std::size_t>(std::min<std::int64_t>(9, delay / 50ms))];
    }
    for (const int count : tenths) {
        CHECK(count > 50);
        CHECK(count < 150);
    }
}

TEST_CASE("Backoff: reset begins at the base again") {
    FakeContext context;
    Backoff backoff(500ms, 30s);
    for (int i = 0; i < 5; ++i) (void)backoff.next(context);
    CHECK(backoff.ceiling() == 16s);
    backoff.reset();
    CHECK(backoff.ceiling() == 500ms);
}

TEST_CASE("Backoff: options at their ends neither overflow nor hang") {
    CHECK(ceilings(Backoff(0ns, 30s), 100).back() == 0ns);
    CHECK(ceilings(Backoff(-1s, 30s), 100).back() == 0ns);
    CHECK(ceilings(Backoff(1ns, 30s), 100).back() == 30s);
    CHECK(ceilings(Backoff(500ms, 0ns), 3).back() == 0ns);
    CHECK(ceilings(Backoff(500ms, -1s), 3).back() == 0ns);
    CHECK(ceilings(Backoff(60s, 30s), 1).front() == 30s);
    CHECK(ceilings(Backoff(1ns, Duration::max()), 200).back() > Duration::max() / 2);
    CHECK(ceilings(Backoff(Duration::max(), Duration::max()), 200).front() == Duration::max());
}
