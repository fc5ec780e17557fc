#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace petrel {

// Time is a value: the owner passes it in, nobody here asks a clock. The type is the steady
// clock's, so that it cannot be mixed up with the wall clock's.
using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

// `at` + `by`, where Duration::max() says "never" and must not overflow.
inline TimePoint saturating_add(TimePoint at, Duration by) {
    const bool overflows = by > Duration::zero() && at > TimePoint::max() - by;
    return overflows ? TimePoint::max() : at + by;
}

class TimerQueue;

// A named, restartable timer. Starting a running one restarts it: the earlier expiry never fires.
// Destroying it stops it. Must not outlive its queue. Thread-compatible.
class Timer {
public:
    // `name`: a literal, for who debugs.
    Timer(TimerQueue& queue, const char* name, std::function<void()> on_expired);
    ~Timer();
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    void start(Duration after);  // Below zero counts as zero: it fires at the next advance_to.
    void start_at(TimePoint deadline);  // In the past counts as now.
    void stop();                        // Idempotent.
    bool is_running() const noexcept { return heap_index_ != kNotQueued; }
    TimePoint deadline() const;  // While it runs.
    const char* name() const noexcept { return name_; }

private:
    friend class TimerQueue;
    static constexpr std::uint32_t kNotQueued = static_cast<std::uint32_t>(-1);

    TimerQueue& queue_;
    const char* name_;
    std::function<void()> on_expired_;
    std::uint32_t heap_index_ = kNotQueued;
};

// All timers of one owner, earliest first. Thread-compatible.
class TimerQueue {
public:
    explicit TimerQueue(TimePoint now) : now_(now) {}
    TimerQueue(const TimerQueue&) = delete;
    TimerQueue& operator=(const TimerQueue&) = delete;

    TimePoint now() const noexcept { return now_; }
    std::optional<TimePoint> next_deadline() const;

    // Moves the clock (never backwards) without firing anything: for an input that arrives at
    // `now`.
    void set_now(TimePoint now);

    // set_now, then fires what was due when it was called, in order of deadlines. A callback may
    // start, stop and destroy any timer; what it starts with a due deadline fires at the next call.
    // Called from a callback it only moves the clock.
    void advance_to(TimePoint now);

    std::size_t size() const noexcept { return heap_.size(); }

private:
    friend class Timer;
    // With what it is sorted by: among ten thousand timers, each look at one is a cache miss.
    struct Entry {
        TimePoint deadline;
        std::uint64_t order = 0;  // Of starts: equal deadlines fire in the order of their starts.
        Timer* timer = nullptr;
    };

    void fire(Timer& timer);
    void start(Timer& timer, TimePoint deadline);
    void remove(Timer& timer);
    void place(std::size_t index, const Entry& entry);
    void sift_up(std::size_t index, const Entry& entry);
    void sift_down(std::size_t index, const Entry& entry);
    static bool is_before(const Entry& a, const Entry& b) noexcept;

    TimePoint now_;
    std::uint64_t next_order_ = 0;
    std::vector<Entry> heap_;  // Each has up to four children.
    bool is_advancing_ = false;
    Timer* firing_ = nullptr;  // While its callback runs and it has not been destroyed.
};

}  // namespace petrel
