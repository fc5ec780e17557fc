#include "daemons/timer.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace petrel;
using namespace std::chrono_literals;

namespace {

const TimePoint kStart{1000s};

struct Fixture {
    TimerQueue queue{kStart};
    std::string fired;

    std::unique_ptr<Timer> timer(char letter) {
        return std::make_unique<Timer>(queue, "test", [this, letter] { fired += letter; });
    }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "Timer: fires once, at its deadline and not before") {
    const auto a = timer('a');
    a->start(10ms);

    queue.advance_to(kStart + 10ms - 1ns);
    CHECK(fired.empty());
    CHECK(a->is_running());
    queue.advance_to(kStart + 10ms);
    CHECK(fired == "a");
    CHECK_FALSE(a->is_running());
    queue.advance_to(kStart + 1h);
    CHECK(fired == "a");
}

TEST_CASE_FIXTURE(Fixture, "Timer: a restart cancels the earlier expiry") {
    const auto a = timer('a');
    a->start(10ms);
    a->start(30ms);

    queue.advance_to(kStart + 20ms);
    CHECK(fired.empty());
    CHECK(queue.size() == 1);
    queue.advance_to(kStart + 30ms);
    CHECK(fired == "a");
}

TEST_CASE_FIXTURE(Fixture, "Timer: stop is idempotent and nothing fires after it") {
    const auto a = timer('a');
    a->start(10ms);
    a->stop();
    a->stop();
    queue.advance_to(kStart + 1s);
    CHECK(fired.empty());
    CHECK_FALSE(queue.next_deadline());
}

TEST_CASE_FIXTURE(Fixture, "Timer: zero and less than zero fire at the next advance") {
    const auto a = timer('a');
    const auto b = timer('b');
    const auto c = timer('c');
    a->start(0ns);
    b->start(-1h);
    c->start_at(kStart - 5s);
    CHECK(c->deadline() == kStart);

    queue.advance_to(kStart);
    CHECK(fired == "abc");
}

TEST_CASE_FIXTURE(Fixture, "Timer: the longest duration is never, not an overflow") {
    const auto a = timer('a');
    a->start(Duration::max());
    CHECK(a->deadline() == TimePoint::max());
    queue.advance_to(kStart + 24h * 365);
    CHECK(fired.empty());

    a->start(TimePoint::max() - queue.now());
    CHECK(a->deadline() == TimePoint::max());
    queue.advance_to(TimePoint::max());
    CHECK(fired == "a");
}

TEST_CASE_FIXTURE(Fixture,
                  "TimerQueue: due timers fire in order of deadlines, equal ones of starts") {
    const auto a = timer('a');
    const auto b = timer('b');
    const auto c = timer('c');
    const auto d = timer('d');
    d->start(20ms);
    c->start(10ms);
    b->start(10ms);
    a->start(5ms);
    c->start(10ms);  // Started again: behind b.

    CHECK(*queue.next_deadline() == kStart + 5ms);
    queue.advance_to(kStart + 1s);
    CHECK(fired == "abcd");
    CHECK(queue.size() == 0);
}

TEST_CASE_FIXTURE(Fixture,
                  "TimerQueue: set_now fires nothing, and the clock never goes backwards") {
    const auto a = timer('a');
    a->start(10ms);
    queue.set_now(kStart + 20ms);
    CHECK(fired.empty());
    queue.set_now(kStart);
    CHECK(queue.now() == kStart + 20ms);
    queue.advance_to(kStart);
    CHECK(queue.now() == kStart + 20ms);
    CHECK(fired == "a");
}

TEST_CASE_FIXTURE(Fixture, "TimerQueue: what a callback starts as due fires at the next call") {
    int count = 0;
    std::unique_ptr<Timer> self;
    self = std::make_unique<Timer>(queue, "self", [&] {
        ++count;
        self->start_at(kStart - 1s);
    });
    const auto late = timer('l');
    self->start(1ms);
    late->start(5ms);

    queue.advance_to(kStart + 10ms);
    CHECK(count == 1);
    CHECK(fired == "l");  // Was due: the restarted one didn't hide it.
    queue.advance_to(kStart + 10ms);
    CHECK(count == 2);
}

TEST_CASE_FIXTURE(Fixture, "TimerQueue: a callback stops and destroys timers that are due too") {
    auto stopped = timer('s');
    auto destroyed = timer('d');
    const auto last = timer('l');
    Timer killer(queue, "killer", [&] {
        stopped->stop();
        destroyed.reset();
    });
    killer.start(1ms);
    stopped->start(2ms);
    destroyed->start(3ms);
    last->start(4ms);

    queue.advance_to(kStart + 10ms);
    CHECK(fired == "l");
}

TEST_CASE_FIXTURE(Fixture,
                  "TimerQueue: a callback may destroy its own timer and use its captures after") {
    std::unique_ptr<Timer> self;
    const std::string text(100, 'x');
    self = std::make_unique<Timer>(queue, "self", [this, &self, text] {
        self.reset();
        fired += text;
    });
    self->start(1ms);
    queue.advance_to(kStart + 1ms);
    CHECK(fired == text);
    CHECK(queue.size() == 0);
}

TEST_CASE_FIXTURE(Fixture, "TimerQueue: advance_to from a callback only moves the clock") {
    const auto b = timer('b');
    const auto c = timer('c');
    Timer nested(queue, "nested", [&] {
        queue.advance_to(kStart + 1h);
        fired += 'n';
    });
    nested.start(1ms);
    b->start(2ms);
    c->start(1min);

    queue.advance_to(kStart + 5ms);
    CHECK(fired == "nb");
    CHECK(queue.now() == kStart + 1h);
    queue.advance_to(kStart + 1h);
    CHECK(fired == "nbc");
}

TEST_CASE("TimerQueue: behaves as a sorted list under random starts, stops and advances") {
    std::mt19937_64 random(7);
    TimerQueue queue(kStart);
    std::vector<std::size_t> fired;
    std::vector<std::unique_ptr<Timer>> timers;
    for (std::size_t i = 0; i < 100; ++i) {
        timers.push_back(std::make_unique<Timer>(queue, "t", [&fired, i] { fired.push_back(i); }));
    }
    std::map<std::pair<TimePoint, std::uint64_t>, std::size_t> model;
    std::vector<std::optional<std::pair<TimePoint, std::uint64_t>>> keys(timers.size());
    std::uint64_t starts = 0;
    bool is_same = true;

    for (int round = 0; round < 5000; ++round) {
        const std::size_t i = random() % timers.size();
        const auto roll = random() % 10;
        if (roll < 9 && keys[i]) {
            model.erase(*keys[i]);
            keys[i].reset();
        }
        if (roll < 6) {
            const Duration after(random() % 50);
            timers[i]->start(after);
            keys[i] = {queue.now() + after, starts++};
            model[*keys[i]] = i;
        } else if (roll < 9) {
            timers[i]->stop();
        } else {
            const TimePoint now = queue.now() + Duration(random() % 20);
            queue.advance_to(now);
            std::vector<std::size_t> expected;
            while (!model.empty() && model.begin()->first.first <= now) {
                expected.push_back(model.begin()->second);
                keys[model.begin()->second].reset();
                model.erase(model.begin());
            }
            is_same = is_same && expected == fired && queue.size() == model.size();
            fired.clear();
        }
    }
    CHECK(is_same);
}
