#pragma once

#include <algorithm>
#include <chrono>

#include "daemons/timer.hpp"

namespace petrel {

// When a deadline on the other side's silence may be judged. The process may have been stopped
// while the answer arrived: its timers then run before its sockets are read (PROTOCOL.md section
// 4.5). So the owner looks twice: `grace` before the deadline, and at the deadline, but never less
// than `grace` after the first look, nor on a look that itself came late.
//
//   start(deadline) -> look at deadline - grace -> look at the deadline -> over
//                            '-- late: the deadline moves to now + grace --'
class Patience {
public:
    struct Options {
        Duration late_after = std::chrono::seconds{1};  // Section 4.5; at least kLateMin.
        Duration late_grace =
            std::chrono::milliseconds{200};  // One read of the socket, generously.
    };
    // Any real timer is a little late: below this nothing would ever be judged.
    static constexpr Duration kLateMin = std::chrono::milliseconds{100};

    explicit Patience(Options options)
        : late_after_(std::max(options.late_after, kLateMin)),
          grace_(std::max(options.late_grace, Duration::zero())) {}

    void start(TimePoint deadline) {
        deadline_ = deadline;
        look_at_ = deadline - grace_;
        has_looked_ = false;
    }

    TimePoint deadline() const noexcept { return deadline_; }
    TimePoint look_at() const noexcept { return look_at_; }  // When is_over wants to be asked next.

    // False: not yet, ask again at look_at().
    bool is_over(TimePoint now) {
        if (now < look_at_) return false;
        if (has_looked_ && now - look_at_ <= late_after_) return true;
        has_looked_ = true;
        look_at_ = std::max(deadline_, saturating_add(now, grace_));
        return false;
    }

private:
    Duration late_after_;
    Duration grace_;
    TimePoint deadline_{};
    TimePoint look_at_{};
    bool has_looked_ = false;
};

}  // namespace petrel
