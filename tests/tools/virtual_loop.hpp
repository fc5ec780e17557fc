#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "transport/event_loop.hpp"

namespace petrel::test {

// An EventLoop in virtual time: settle() runs what is posted, advance() moves the clock from alarm
// to alarm. Nobody else's thread, no waiting.
class VirtualLoop final : public EventLoop {
public:
    using Nanoseconds = std::chrono::nanoseconds;

    void post(std::function<void()> task) override { tasks_.push_back(std::move(task)); }
    TimePoint now() const override { return now_; }
    std::int64_t wall_ms() const override {
        return std::chrono::duration_cast<std::chrono::milliseconds>(now_.time_since_epoch())
            .count();
    }
    std::unique_ptr<Alarm> make_alarm(std::function<void()> on_alarm) override {
        return std::make_unique<VirtualAlarm>(*this, std::move(on_alarm));
    }
    void run() override { settle(); }
    void stop() override {}
    bool is_loop_thread() const override { return true; }

    void settle() {
        while (!tasks_.empty()) {
            const auto task = std::move(tasks_.front());
            tasks_.pop_front();
            task();
        }
    }

    void advance(Nanoseconds by) {
        const TimePoint end = now_ + by;
        settle();
        while (!alarms_.empty() && alarms_.begin()->first <= end) {
            VirtualAlarm* alarm = alarms_.begin()->second;
            now_ = std::max(now_, alarms_.begin()->first);
            alarm->disarm();
            alarm->on_alarm_();
            settle();
        }
        now_ = end;
    }

private:
    class VirtualAlarm final : public Alarm {
    public:
        VirtualAlarm(VirtualLoop& loop, std::function<void()> on_alarm)
            : on_alarm_(std::move(on_alarm)), loop_(loop) {}
        ~VirtualAlarm() override { disarm(); }
        void arm(TimePoint deadline) override {
            disarm();
            at_ = loop_.alarms_.emplace(deadline, this);
            is_armed_ = true;
        }
        void disarm() override {
            if (std::exchange(is_armed_, false)) loop_.alarms_.erase(at_);
        }

        std::function<void()> on_alarm_;

    private:
        VirtualLoop& loop_;
        std::multimap<TimePoint, VirtualAlarm*>::iterator at_;
        bool is_armed_ = false;
    };

    TimePoint now_{std::chrono::hours{1}};
    std::deque<std::function<void()>> tasks_;
    std::multimap<TimePoint, VirtualAlarm*> alarms_;
};

}  // namespace petrel::test
