#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "daemons/timer.hpp"

namespace petrel {

// So many at once, and one more each `interval` (a token bucket, kept as the one point in time at
// which it is full again: GCRA, ITU-T I.371). An interval of zero limits nothing.
struct Rate {
    Duration interval{0};
    std::size_t burst = 1;  // At least 1.
};

class RateLimit {
public:
    // False: there is none, nothing is taken.
    bool take(TimePoint now, const Rate& rate) {
        if (time_until(1, now, rate) > Duration::zero()) return false;
        full_at_ = saturating_add(std::max(full_at_, now), rate.interval);
        return true;
    }
    // Until `count` (at most the burst) can be taken; zero: now.
    Duration time_until(std::size_t count, TimePoint now, const Rate& rate) const {
        if (rate.interval <= Duration::zero() || full_at_ <= now) return Duration::zero();
        // No more of the burst than what is left needs: the product must not overflow.
        const Duration left = full_at_ - now;
        const auto needed = static_cast<std::size_t>(left / rate.interval) + 1;
        const std::size_t spare = std::min(rate.burst - std::min(count, rate.burst), needed);
        return std::max(Duration::zero(), left - rate.interval * static_cast<Duration::rep>(spare));
    }
    bool is_full(TimePoint now) const { return full_at_ <= now; }

private:
    TimePoint full_at_{};
};

// A rate for each key, of a bounded number of keys: beyond, the one that was used longest ago is
// forgotten, and begins with a full bucket again. Thread-compatible.
class RateTable {
public:
    RateTable(Rate rate, std::size_t keys_max)
        : rate_(rate), keys_max_(std::max<std::size_t>(1, keys_max)) {}

    // Takes one: zero. Or nothing, and the time after which there is one again.
    Duration take(const std::string& key, TimePoint now) {
        if (rate_.interval <= Duration::zero()) return Duration::zero();
        const auto found = places_.find(key);
        if (found != places_.end()) {
            entries_.splice(entries_.end(), entries_, found->second);
        } else {
            forget(now);
            entries_.emplace_back(key, RateLimit{});
            places_.emplace(entries_.back().first, std::prev(entries_.end()));
        }
        RateLimit& limit = entries_.back().second;
        return limit.take(now, rate_) ? Duration::zero() : limit.time_until(1, now, rate_);
    }

    std::size_t size() const { return entries_.size(); }

private:
    using Entry = std::pair<const std::string, RateLimit>;

    // Full buckets are as good as none: a few at each new key, so that the table shrinks again.
    void forget(TimePoint now) {
        constexpr int kLooks = 4;
        for (int i = 0; i < kLooks && !entries_.empty(); ++i) {
            const bool is_over = entries_.size() >= keys_max_;
            if (!is_over && !entries_.front().second.is_full(now)) return;
            places_.erase(entries_.front().first);
            entries_.pop_front();
        }
    }

    const Rate rate_;
    const std::size_t keys_max_;
    std::list<Entry> entries_;  // The longest unused first.
    std::unordered_map<std::string_view, std::list<Entry>::iterator> places_;  // Keys: in entries_.
};

}  // namespace petrel
