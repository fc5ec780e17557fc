#pragma once

#include <algorithm>
#include <cstdint>

#include "daemons/context.hpp"
#include "daemons/timer.hpp"

namespace petrel {

// Exponential backoff with full jitter (PROTOCOL.md section 4.9): the n-th delay, n = 0 first, is
// uniform in [0, min(max, base x 2^n)].
class Backoff {
public:
    Backoff(Duration base, Duration max) : base_(base), max_(max) {}

    // The next delay; counts one attempt.
    Duration next(DaemonContext& context) {
        const auto ceiling = this->ceiling();
        if (ceiling < max_) ++exponent_;
        return Duration(static_cast<Duration::rep>(
            context.random(0, static_cast<std::uint64_t>(ceiling.count()))));
    }
    void reset() { exponent_ = 0; }

    Duration ceiling() const {
        // 62 doublings of a nanosecond would overflow; `max_` is reached long before.
        if (exponent_ >= 40 || base_ > max_ / (std::int64_t{1} << exponent_)) return max_;
        return std::min(max_, base_ * (std::int64_t{1} << exponent_));
    }

private:
    Duration base_;
    Duration max_;
    unsigned exponent_ = 0;
};

}  // namespace petrel
