#include "daemons/round_trip.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace petrel {

namespace {

// Far above any timeout_max of use; keeps the sums from overflowing.
constexpr Duration kSampleMax = std::chrono::hours{1};
// 3 s doubled as often is 13 hours.
constexpr unsigned kDoublingsMax = 14;

}  // namespace

void RoundTrip::on_sample(Duration sample) {
    if (sample < Duration::zero()) return;
    // Beyond timeout_max nothing changes any more; a sample taken across a suspension would only be
    // remembered too long.
    sample = std::min({sample, options_.timeout_max, kSampleMax});
    doublings_ = 0;
    if (!has_sample_) {
        has_sample_ = true;
        smoothed_ = sample;
        variation_ = sample / 2;
        return;
    }
    // RFC 6298 (2.3): the variation first, with the old smoothed value; alpha 1/8, beta 1/4.
    const Duration error = smoothed_ > sample ? smoothed_ - sample : sample - smoothed_;
    variation_ = (3 * variation_ + error) / 4;
    smoothed_ = (7 * smoothed_ + sample) / 8;
}

void RoundTrip::on_timeout() { doublings_ = std::min(doublings_ + 1, kDoublingsMax); }

Duration RoundTrip::timeout() const noexcept {
    const Duration estimate = has_sample_ ? smoothed_ + 4 * variation_ : Duration::zero();
    const Duration once = std::max(estimate, options_.timeout_min);
    const std::int64_t factor = std::int64_t{1} << doublings_;
    return once > options_.timeout_max / factor ? options_.timeout_max : once * factor;
}

}  // namespace petrel
