#include "tools/petrel/histogram.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <initializer_list>

namespace petrel::tools {
namespace {

TEST_CASE("Histogram: an empty one has nothing to tell") {
    const Histogram empty;
    CHECK(empty.count() == 0);
    CHECK(empty.min() == 0);
    CHECK(empty.max() == 0);
    CHECK(empty.mean() == 0);
    CHECK(empty.quantile(0.5) == 0);
}

TEST_CASE("Histogram: small values are exact, and the rank is the nearest") {
    Histogram histogram;
    for (std::uint64_t value = 1; value <= 100; ++value) histogram.record(value);
    CHECK(histogram.quantile(0) == 1);
    CHECK(histogram.quantile(0.01) == 1);
    CHECK(histogram.quantile(0.5) == 50);
    CHECK(histogram.quantile(0.501) == 51);
    CHECK(histogram.quantile(0.99) == 99);
    CHECK(histogram.quantile(1) == 100);
    CHECK(histogram.mean() == doctest::Approx(50.5));
}

TEST_CASE("Histogram: any value comes back within 1/128 of itself, never lower") {
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t power = std::uint64_t{1} << bit;
        for (const std::uint64_t value : {power, power + 1, power - 1, power + power / 3}) {
            Histogram histogram;
            histogram.record(value);
            histogram.record(UINT64_MAX);  // So that the maximum does not cap it.
            const std::uint64_t told = histogram.quantile(0.5);
            CAPTURE(value);
            CHECK(told >= value);
            CHECK(told - value <= value / 128);
        }
    }
}

TEST_CASE("Histogram: the ends are exact and cap what a step would add") {
    Histogram histogram;
    histogram.record(1'000'003);
    CHECK(histogram.min() == 1'000'003);
    CHECK(histogram.max() == 1'000'003);
    CHECK(histogram.quantile(0.5) == 1'000'003);
    histogram.record(UINT64_MAX);
    CHECK(histogram.quantile(1) == UINT64_MAX);
    histogram.record(0);
    CHECK(histogram.min() == 0);
}

TEST_CASE("Histogram: the sum of two is what one would have recorded") {
    Histogram low, high, both;
    for (std::uint64_t i = 0; i < 1000; ++i) {
        (i % 2 == 0 ? low : high).record(i * i);
        both.record(i * i);
    }
    low.add(high);
    CHECK(low.count() == both.count());
    CHECK(low.min() == both.min());
    CHECK(low.max() == both.max());
    CHECK(low.mean() == doctest::Approx(both.mean()));
    for (const double share : {0.1, 0.5, 0.9, 0.999}) {
        CHECK(low.quantile(share) == both.quantile(share));
    }
}

}  // namespace
}  // namespace petrel::tools
