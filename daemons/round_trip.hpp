#pragma once

#include <algorithm>
#include <chrono>

#include "daemons/timer.hpp"

namespace petrel {

// Smoothed round trip and its variation (Jacobson/Karels, RFC 6298 section 2).
class RoundTrip {
public:
    struct Options {
        Duration timeout_min = std::chrono::seconds{3};  // PROTOCOL.md section 4.5.
        Duration timeout_max = std::chrono::seconds{20};
    };
    explicit RoundTrip(Options options)  // Below zero counts as zero.
        : options_{std::max(options.timeout_min, Duration::zero()),
                   std::max(options.timeout_max, Duration::zero())} {}

    // Never of a retransmitted packet (Karn's algorithm). Negative samples are ignored.
    void on_sample(Duration sample);
    // The time was not enough: twice as long until the next sample (RFC 6298 section 5.5). Else a
    // link slower than timeout_min would be cut again and again and never give its first sample.
    void on_timeout();

    bool has_sample() const noexcept { return has_sample_; }
    Duration smoothed() const noexcept { return smoothed_; }
    Duration variation() const noexcept { return variation_; }

    // srtt + 4 x rttvar, at least timeout_min, at most timeout_max (which wins when the two cross);
    // timeout_min before any sample.
    Duration timeout() const noexcept;

private:
    Options options_;
    bool has_sample_ = false;
    unsigned doublings_ = 0;  // Timeouts since the last sample.
    Duration smoothed_{0};
    Duration variation_{0};
};

}  // namespace petrel
