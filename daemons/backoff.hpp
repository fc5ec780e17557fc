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
    // Below zero counts as zero. `base` zero: no delay, ever.
    Backoff(Duration base, Duration max)
        : base_(std::max(base, Duration::zero())), max_(std::max(max, Duration::zero())) {}

    // The next delay; counts one attempt.
    Duration next(DaemonContext& context) {
        const Duration now = ceiling();
        if (now < max_ && exponent_ < kExponentMax) ++exponent_;
        return Duration(
            static_cast<Duration::rep>(context.random(0, static_cast<std::uint64_t>(now.count()))));
    }
    void reset() { exponent_ = 0; }

    Duration ceiling() const {
        const std::int64_t factor = std::int64_t{1} << exponent_;
        return base_ > max_ / factor ? max_ : base_ * factor;
    }

private:
    static constexpr unsigned kExponentMax = 62;  // 2^62 is the last power in the type.

    Duration base_;
    Duration max_;
    unsigned exponent_ = 0;
};

}  // namespace petrel
