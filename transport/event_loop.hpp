#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace petrel {

// One thread's world of sockets and timers. Everything but post() and stop() is called on the
// thread that runs the loop, or before it runs.
class EventLoop {
public:
    using TimePoint = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;

    // A restartable host timer; an owner has one for all its deadlines.
    class Alarm {
    public:
        virtual ~Alarm() = default;
        virtual void arm(TimePoint deadline) = 0;  // Replaces an earlier deadline.
        virtual void disarm() = 0;
    };

    virtual ~EventLoop() = default;

    // Runs `task` on the loop's thread, after what is ready now: an owner that posts its flush
    // gets one flush for all packets of this turn. Thread-safe. Tasks that never ran because the
    // loop stopped are destroyed with the loop.
    virtual void post(std::function<void()> task) = 0;

    // Steady, and counting while the machine sleeps (CLOCK_BOOTTIME where there is one).
    virtual TimePoint now() const = 0;
    // Milliseconds since the epoch, for stamps only. It may jump.
    virtual std::int64_t wall_ms() const = 0;

    // `on_alarm` runs on the loop; never after the Alarm was destroyed or disarmed.
    virtual std::unique_ptr<Alarm> make_alarm(std::function<void()> on_alarm) = 0;

    virtual void run() = 0;                   // Until stop().
    virtual void stop() = 0;                  // Thread-safe, idempotent.
    virtual bool is_loop_thread() const = 0;  // Thread-safe. False while nobody runs it.
};

}  // namespace petrel
