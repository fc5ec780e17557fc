#include "daemons/round_trip.hpp"

#include <chrono>

#include <doctest/doctest.h>

using namespace petrel;
using namespace std::chrono_literals;

namespace {

RoundTrip wide() { return RoundTrip({0ns, 1h}); }

}  // namespace

TEST_CASE("RoundTrip: before any sample the timeout is the least") {
    const RoundTrip trip({3s, 20s});
    CHECK_FALSE(trip.has_sample());
    CHECK(trip.timeout() == 3s);
}

TEST_CASE("RoundTrip: the first sample sets srtt to it and rttvar to half of it") {
    RoundTrip trip = wide();
    trip.on_sample(100ms);
    CHECK(trip.has_sample());
    CHECK(trip.smoothed() == 100ms);
    CHECK(trip.variation() == 50ms);
    CHECK(trip.timeout() == 300ms);
}

TEST_CASE("RoundTrip: later samples count as RFC 6298 says") {
    RoundTrip trip = wide();
    trip.on_sample(100ms);
    trip.on_sample(180ms);
    CHECK(trip.variation() == 57500us);  // 3/4 x 50 + 1/4 x |100 - 180|
    CHECK(trip.smoothed() == 110ms);     // 7/8 x 100 + 1/8 x 180
    trip.on_sample(30ms);
    CHECK(trip.variation() == 63125us);  // 3/4 x 57.5 + 1/4 x 80
    CHECK(trip.smoothed() == 100ms);
}

TEST_CASE("RoundTrip: the timeout stays within its bounds") {
    RoundTrip trip({3s, 20s});
    trip.on_sample(10ms);
    CHECK(trip.timeout() == 3s);
    trip.on_sample(1min);
    CHECK(trip.timeout() == 20s);
}

TEST_CASE("RoundTrip: a sample of hours is forgotten like one of timeout_max") {
    RoundTrip trip({3s, 20s});
    trip.on_sample(24h);
    CHECK(trip.smoothed() == 20s);
    for (int i = 0; i < 60; ++i) trip.on_sample(100ms);
    CHECK(trip.timeout() == 3s);
}

TEST_CASE("RoundTrip: equal samples bring the timeout down to the round trip") {
    RoundTrip trip = wide();
    for (int i = 0; i < 200; ++i) trip.on_sample(5s);
    CHECK(trip.smoothed() == 5s);
    CHECK(trip.timeout() < 5001ms);
}

TEST_CASE("RoundTrip: negative samples are ignored, zero and the longest are taken") {
    RoundTrip trip({0ns, Duration::max()});
    trip.on_sample(-1ns);
    CHECK_FALSE(trip.has_sample());
    trip.on_sample(0ns);
    CHECK(trip.timeout() == 0ns);
    for (int i = 0; i < 100; ++i) trip.on_sample(Duration::max());
    CHECK(trip.smoothed() > 0ns);
    CHECK(trip.timeout() > 0ns);
}

TEST_CASE("RoundTrip: a timeout doubles the time until the next sample, up to the most") {
    RoundTrip trip({3s, 20s});
    trip.on_timeout();
    CHECK(trip.timeout() == 6s);
    trip.on_timeout();
    CHECK(trip.timeout() == 12s);
    for (int i = 0; i < 100; ++i) trip.on_timeout();
    CHECK(trip.timeout() == 20s);
    trip.on_sample(100ms);
    CHECK(trip.timeout() == 3s);
}

TEST_CASE("RoundTrip: bounds at their ends") {
    CHECK(RoundTrip({0ns, 0ns}).timeout() == 0ns);
    CHECK(RoundTrip({-1s, -1s}).timeout() == 0ns);
    CHECK(RoundTrip({20s, 3s}).timeout() == 3s);
    CHECK(RoundTrip({Duration::max(), Duration::max()}).timeout() == Duration::max());
    RoundTrip trip({Duration::max(), Duration::max()});
    for (int i = 0; i < 100; ++i) trip.on_timeout();
    CHECK(trip.timeout() == Duration::max());
}
