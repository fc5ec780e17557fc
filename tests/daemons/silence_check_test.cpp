#include <chrono>
#include <cstddef>
#include <vector>

#include <doctest/doctest.h>

#include "daemons/keepalive.hpp"
#include "tests/support/fake_context.hpp"

using namespace petrel;
using namespace std::chrono_literals;
using petrel::test::FakeContext;

namespace {

struct SilenceWorld final : SilenceCheck::Listener {
    explicit SilenceWorld(SilenceCheck::Options options = {}) : check(context, *this, options) {}
    void on_silent() override { silences.push_back(context.now().time_since_epoch()); }

    FakeContext context;
    std::vector<Duration> silences;
    SilenceCheck check;
};

}  // namespace

TEST_CASE("SilenceCheck: reports a silent session once, in time") {
    SilenceWorld world;
    world.check.start();
    world.context.advance(62'500ms - 1ns);
    CHECK(world.silences.empty());
    world.context.advance(1h);
    CHECK(world.silences == std::vector<Duration>{62'500ms});
    CHECK(world.context.timers().size() == 0);
}

TEST_CASE("SilenceCheck: a packet moves the deadline, not the timer") {
    SilenceWorld world;
    world.check.start(10s);
    world.context.advance(6s);
    const auto deadline = world.context.timers().next_deadline();
    world.check.on_inbound();
    CHECK(world.context.timers().next_deadline() == deadline);
    CHECK(world.check.is_consistent());
    world.context.advance(1min);
    CHECK(world.silences == std::vector<Duration>{16s});
}

TEST_CASE("SilenceCheck: a packet in the last moment counts") {
    SilenceWorld world;
    world.check.start(10s);
    world.context.advance(10s - 1ns);
    world.check.on_inbound();
    world.context.advance(1min);
    CHECK(world.silences == std::vector<Duration>{20s - 1ns});
}

TEST_CASE("SilenceCheck: a session that keeps talking is never reported") {
    SilenceWorld world;
    world.check.start(10s);
    for (int i = 0; i < 1000; ++i) {
        world.context.advance(9s);
        world.check.on_inbound();
        CHECK(world.check.is_consistent());
    }
    CHECK(world.silences.empty());
}

TEST_CASE("SilenceCheck: after a pause the socket is read before the verdict") {
    // Wherever the pause of 2.5 s begins.
    for (Duration begin = 7s; begin < 10s; begin += 10ms) {
        CAPTURE(begin.count());
        SilenceWorld world;
        world.check.start(10s);
        world.context.advance(begin);
        world.context.pause(2500ms);
        CHECK(world.silences.empty());
        world.check.on_inbound();
        world.context.advance(5s);
        CHECK(world.silences.empty());
    }
    SilenceWorld silent;
    silent.check.start(10s);
    silent.context.pause(1h);
    silent.context.advance(200ms);
    CHECK(silent.silences == std::vector<Duration>{1h + 200ms});
}

TEST_CASE("SilenceCheck: stop is idempotent; start begins anew") {
    SilenceWorld world;
    world.check.stop();
    world.check.start(10s);
    world.context.advance(9s);
    world.check.stop();
    world.check.stop();
    world.check.on_inbound();
    world.context.advance(1h);
    CHECK(world.silences.empty());
    world.check.start();
    world.context.advance(5s);
    world.check.start();
    world.context.advance(10s);
    CHECK(world.silences == std::vector<Duration>{1h + 24s});
}

TEST_CASE("SilenceCheck: options at zero, one and the most") {
    for (const Duration time : {Duration(-1), Duration(0), Duration(1), Duration::max()}) {
        CAPTURE(time.count());
        const std::size_t expected = time < 1s ? 1 : 0;
        SilenceWorld world;
        world.check.start(time);
        world.context.advance(200ms);
        CHECK(world.silences.size() == expected);

        SilenceCheck::Options options;
        options.silence_max = 10s;
        options.late = {1s, time};
        SilenceWorld grace(options);
        grace.check.start();
        grace.context.advance(10s + 1ns);
        CHECK(grace.silences.size() == expected);
        CHECK(grace.check.is_consistent());

        options.late = {time, 200ms};
        SilenceWorld late(options);
        late.check.start();
        late.context.advance(10s);
        CHECK(late.silences.size() == 1);
    }
}
