#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "daemons/timer.hpp"

namespace petrel::sim {

// Virtual time: what happens next, in order of time, then of arrangement. One seed, one run.
class Schedule {
public:
    explicit Schedule(std::uint64_t seed) : random_(seed) {}

    TimePoint now() const { return now_; }
    // Milliseconds of the wall clock; jumps move it, never `now`.
    std::int64_t wall_ms() const {
        return wall_base_ +
               std::chrono::duration_cast<std::chrono::milliseconds>(now_.time_since_epoch())
                   .count();
    }
    void jump_wall(std::int64_t by_ms) { wall_base_ += by_ms; }

    void at(TimePoint when, std::function<void()> what) {
        queue_.push(Item{when < now_ ? now_ : when, next_order_++, std::move(what)});
    }
    void after(Duration delay, std::function<void()> what) { at(now_ + delay, std::move(what)); }

    // Runs what comes next; false when nothing does before `end`, time then is `end`.
    bool step(TimePoint end) {
        if (queue_.empty() || queue_.top().when > end) {
            if (end > now_) now_ = end;
            return false;
        }
        // The function may arrange more: it leaves the queue before it runs.
        Item item = std::move(const_cast<Item&>(queue_.top()));
        queue_.pop();
        now_ = item.when;
        item.what();
        return true;
    }

    std::mt19937_64& random() { return random_; }
    std::uint64_t random(std::uint64_t low, std::uint64_t high) {
        if (low == 0 && high == UINT64_MAX) return random_();
        return low + random_() % (high - low + 1);
    }
    Duration random(Duration low, Duration high) {
        return low + Duration(static_cast<Duration::rep>(
                         random(0, static_cast<std::uint64_t>((high - low).count()))));
    }
    bool chance(double probability) {
        return probability > 0 && static_cast<double>(random_() >> 11) * 0x1.0p-53 < probability;
    }

    // FNV-1a over what the run did: equal hashes, equal runs.
    void note(std::uint64_t value) {
        for (int i = 0; i < 8; ++i) {
            hash_ = (hash_ ^ ((value >> (8 * i)) & 0xff)) * 1'099'511'628'211u;
        }
    }
    void note(std::string_view text) {
        for (const char c : text) {
            hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 1'099'511'628'211u;
        }
    }
    std::uint64_t hash() const { return hash_; }

private:
    struct Item {
        TimePoint when;
        std::uint64_t order;
        std::function<void()> what;
        bool operator<(const Item& other) const {
            return when != other.when ? when > other.when : order > other.order;
        }
    };

    TimePoint now_{};
    std::int64_t wall_base_ = 1'700'000'000'000;
    std::uint64_t next_order_ = 0;
    std::uint64_t hash_ = 14'695'981'039'346'656'037u;
    std::priority_queue<Item> queue_;
    std::mt19937_64 random_;
};

}  // namespace petrel::sim
