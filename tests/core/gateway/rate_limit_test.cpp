#include "core/gateway/rate_limit.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <string>

#include "core/gateway/login_limits.hpp"

using namespace petrel;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kStart{1h};

}  // namespace

TEST_CASE("RateLimit: an interval of zero limits nothing") {
    RateLimit limit;
    bool is_all = true;
    for (int i = 0; i < 1'000; ++i) is_all = is_all && limit.take(kStart, {0ns, 1});
    CHECK(is_all);
}

TEST_CASE("RateLimit: the burst at once, then one an interval") {
    RateLimit limit;
    const Rate rate{100ms, 3};
    for (int i = 0; i < 3; ++i) CHECK(limit.take(kStart, rate));
    CHECK_FALSE(limit.take(kStart, rate));
    CHECK(limit.time_until(1, kStart, rate) == 100ms);
    CHECK(limit.time_until(3, kStart, rate) == 300ms);
    CHECK(limit.time_until(99, kStart, rate) == 300ms);
    CHECK_FALSE(limit.take(kStart + 99ms, rate));
    CHECK(limit.take(kStart + 100ms, rate));
    CHECK_FALSE(limit.take(kStart + 100ms, rate));
}

TEST_CASE("RateLimit: a long rest fills the bucket and no more") {
    RateLimit limit;
    const Rate rate{100ms, 2};
    CHECK(limit.take(kStart, rate));
    CHECK_FALSE(limit.is_full(kStart + 99ms));
    CHECK(limit.is_full(kStart + 100ms));
    CHECK(limit.take(kStart + 24h, rate));
    CHECK(limit.take(kStart + 24h, rate));
    CHECK_FALSE(limit.take(kStart + 24h, rate));
}

TEST_CASE("RateLimit: a slow rate with a large burst stays within its numbers") {
    RateLimit limit;
    const Rate rate{1000h, std::size_t{1} << 60};
    for (int i = 0; i < 3; ++i) CHECK(limit.take(kStart, rate));
    CHECK(limit.time_until(1, kStart, rate) == 0s);
}

TEST_CASE("RateTable: keys do not touch one another") {
    RateTable table({1s, 1}, 10);
    CHECK(table.take("a", kStart) == 0s);
    CHECK(table.take("a", kStart) == 1s);
    CHECK(table.take("b", kStart) == 0s);
}

TEST_CASE("RateTable: at its limit it forgets who was silent longest") {
    RateTable table({1h, 1}, 2);
    CHECK(table.take("a", kStart) == 0s);
    CHECK(table.take("b", kStart) == 0s);
    CHECK(table.take("a", kStart) == 1h);
    CHECK(table.take("c", kStart) == 0s);
    CHECK(table.size() == 2);
    CHECK(table.take("a", kStart) == 1h);
}

TEST_CASE("RateTable: full buckets are forgotten by and by") {
    RateTable table({1s, 1}, 1'000);
    for (int i = 0; i < 500; ++i) CHECK(table.take(std::to_string(i), kStart) == 0s);
    for (int i = 500; i < 700; ++i) CHECK(table.take(std::to_string(i), kStart + 2s) == 0s);
    CHECK(table.size() == 200);
}

TEST_CASE("LoginLimits: by address without its port, and by account") {
    LoginLimits::Options options;
    options.per_address = {1s, 2};
    options.per_account = {5s, 1};
    LoginLimits limits(options);
    CHECK(limits.take_address("192.0.2.1:1000", kStart) == 0s);
    CHECK(limits.take_address("192.0.2.1:2000", kStart) == 0s);
    CHECK(limits.take_address("192.0.2.1:3000", kStart) == 1s);
    CHECK(limits.take_address("192.0.2.2:1000", kStart) == 0s);
    CHECK(limits.take_account({"app", "alice"}, kStart) == 0s);
    CHECK(limits.take_account({"app", "alice"}, kStart) == 5s);
    CHECK(limits.take_account({"other", "alice"}, kStart) == 0s);
}
