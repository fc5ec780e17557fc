#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemons/context.hpp"

namespace petrel::test {

// A worker's world in virtual time: collects what it sends, moves time when told to.
class FakeContext final : public DaemonContext {
public:
    explicit FakeContext(std::uint64_t seed = 1) : timers_(TimePoint{}), random_(seed) {}

    void send(const Packet& packet) override { sent_.push_back(packet); }
    void send(const Data& data) override { sent_.emplace_back(data); }
    TimerQueue& timers() override { return timers_; }
    std::uint64_t random(std::uint64_t low, std::uint64_t high) override {
        if (next_random_) return std::min(high, std::max(low, *std::exchange(next_random_, {})));
        return low + (high == UINT64_MAX && low == 0 ? random_() : random_() % (high - low + 1));
    }
    void log(LogLevel, std::string_view text) override { last_log_ = text; }

    // Fires every timer on the way, each at its own deadline.
    void advance(Duration by) {
        const TimePoint end = timers_.now() + by;
        while (timers_.next_deadline() && *timers_.next_deadline() <= end) {
            timers_.advance_to(*timers_.next_deadline());
        }
        timers_.advance_to(end);
    }
    // The process slept: all that became due fires late, at the end.
    void pause(Duration by) { timers_.advance_to(timers_.now() + by); }

    std::vector<Packet> take_sent() { return std::exchange(sent_, {}); }
    const std::vector<Packet>& sent() const { return sent_; }
    void set_next_random(std::uint64_t value) { next_random_ = value; }
    const std::string& last_log() const { return last_log_; }

private:
    TimerQueue timers_;
    std::mt19937_64 random_;
    std::optional<std::uint64_t> next_random_;
    std::vector<Packet> sent_;
    std::string last_log_;
};

}  // namespace petrel::test
