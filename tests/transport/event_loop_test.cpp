#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/transport/harness.hpp"
#include "transport/asio_event_loop.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

TEST_CASE("AsioEventLoop: tasks run in the order they were posted") {
    AsioEventLoop loop;
    std::string order;
    loop.post([&] { order += 'a'; });
    loop.post([&] { order += 'b'; });
    loop.post([&] {
        order += 'c';
        loop.stop();
    });

    loop.run();

    CHECK(order == "abc");
}

TEST_CASE("AsioEventLoop: a task posted from a task runs after those that wait") {
    AsioEventLoop loop;
    std::string order;
    loop.post([&] {
        order += 'a';
        loop.post([&] {
            order += 'c';
            loop.stop();
        });
    });
    loop.post([&] { order += 'b'; });

    loop.run();

    CHECK(order == "abc");
}

TEST_CASE("AsioEventLoop: post() and stop() work from another thread") {
    AsioEventLoop loop;
    constexpr int kTasks = 1000;
    int ran = 0;
    std::thread other([&] {
        for (int i = 0; i < kTasks; ++i) {
            loop.post([&] { ++ran; });
        }
        loop.post([&] { loop.stop(); });
    });

    loop.run();
    other.join();

    CHECK(ran == kTasks);
}

TEST_CASE("AsioEventLoop: a stop() ahead of run() ends it") {
    AsioEventLoop loop;
    loop.stop();
    loop.stop();

    loop.run();

    CHECK(!loop.is_loop_thread());
}

TEST_CASE("AsioEventLoop: run() goes on with what a stop() left") {
    AsioEventLoop loop;
    int ran = 0;
    loop.post([&] { loop.stop(); });
    loop.run();
    loop.post([&] {
        ++ran;
        loop.stop();
    });

    loop.run();

    CHECK(ran == 1);
}

TEST_CASE("AsioEventLoop: it knows its own thread while it runs") {
    AsioEventLoop loop;
    CHECK(!loop.is_loop_thread());
    std::atomic<bool> is_inside{false};
    std::atomic<bool> is_other{true};
    loop.post([&] {
        is_inside = loop.is_loop_thread();
        std::thread([&] { is_other = loop.is_loop_thread(); }).join();
        loop.stop();
    });

    loop.run();

    CHECK(is_inside);
    CHECK(!is_other);
    CHECK(!loop.is_loop_thread());
}

TEST_CASE("AsioEventLoop: tasks that never ran are destroyed with it") {
    const auto token = std::make_shared<int>(0);
    {
        AsioEventLoop loop;
        loop.post([token] { ++*token; });
        CHECK(token.use_count() == 2);
    }
    CHECK(token.use_count() == 1);
    CHECK(*token == 0);
}

TEST_CASE("AsioEventLoop: now() never goes back, wall_ms() is after 2020") {
    AsioEventLoop loop;
    auto last = loop.now();
    for (int i = 0; i < 1000; ++i) {
        const auto now = loop.now();
        REQUIRE(now >= last);
        last = now;
    }
    CHECK(loop.wall_ms() > 1'577'836'800'000);
}

TEST_CASE("Alarm: it fires once, at its deadline or later") {
    AsioEventLoop loop;
    int fired = 0;
    const auto deadline = loop.now() + 5ms;
    bool was_early = false;
    const auto alarm = loop.make_alarm([&] {
        ++fired;
        was_early = loop.now() < deadline;
    });
    alarm->arm(deadline);
    REQUIRE(run_until(loop, [&] { return fired > 0; }));

    const auto later = loop.now() + 20ms;
    REQUIRE(run_until(loop, [&] { return loop.now() >= later; }));

    CHECK(fired == 1);
    CHECK(!was_early);
}

TEST_CASE("Alarm: a deadline in the past fires from the loop, not from arm()") {
    AsioEventLoop loop;
    int fired = 0;
    const auto alarm = loop.make_alarm([&] { ++fired; });
    alarm->arm(loop.now() - 1h);
    CHECK(fired == 0);

    CHECK(run_until(loop, [&] { return fired == 1; }));
}

TEST_CASE("Alarm: arm() replaces the deadline, earlier or later") {
    AsioEventLoop loop;
    EventLoop::TimePoint fired_at;
    const auto alarm = loop.make_alarm([&] { fired_at = loop.now(); });
    const auto is_fired = [&] { return fired_at != EventLoop::TimePoint(); };

    SUBCASE("earlier") {
        alarm->arm(loop.now() + 24h);
        alarm->arm(loop.now() + 1ms);
        CHECK(run_until(loop, is_fired));
    }
    SUBCASE("later") {
        const auto deadline = loop.now() + 30ms;
        alarm->arm(loop.now() + 1ms);
        alarm->arm(deadline);
        REQUIRE(run_until(loop, is_fired));
        CHECK(fired_at >= deadline);
    }
}

TEST_CASE("Alarm: disarmed or destroyed it never fires") {
    AsioEventLoop loop;
    int fired = 0;
    auto alarm = loop.make_alarm([&] { ++fired; });
    alarm->arm(loop.now());
    SUBCASE("disarmed") { alarm->disarm(); }
    SUBCASE("destroyed") { alarm.reset(); }
    SUBCASE("destroyed after its time, before the loop saw it") {
        loop.post([&] { alarm.reset(); });
        alarm->arm(loop.now());
        const auto due = loop.now() + 2ms;
        while (loop.now() < due) {
        }
    }

    const auto later = loop.now() + 20ms;
    REQUIRE(run_until(loop, [&] { return loop.now() >= later; }));

    CHECK(fired == 0);
}

TEST_CASE("Alarm: after disarm() it can be armed again") {
    AsioEventLoop loop;
    int fired = 0;
    const auto alarm = loop.make_alarm([&] { ++fired; });
    alarm->arm(loop.now() + 24h);
    alarm->disarm();
    alarm->arm(loop.now() + 1ms);

    CHECK(run_until(loop, [&] { return fired == 1; }));
}

TEST_CASE("Alarm: it may destroy itself when it fires, or arm itself") {
    AsioEventLoop loop;
    int fired = 0;
    std::unique_ptr<EventLoop::Alarm> alarm;
    SUBCASE("destroy") {
        alarm = loop.make_alarm([&] {
            alarm.reset();
            ++fired;
        });
        alarm->arm(loop.now());
        CHECK(run_until(loop, [&] { return fired == 1; }));
    }
    SUBCASE("arm") {
        alarm = loop.make_alarm([&] {
            if (++fired < 3) alarm->arm(loop.now() + 1ms);
        });
        alarm->arm(loop.now());
        CHECK(run_until(loop, [&] { return fired == 3; }));
    }
}

TEST_CASE("AsioEventLoop: an overdue alarm goes off though it is armed again at every turn") {
    AsioEventLoop loop;
    bool has_gone_off = false;
    const auto alarm = loop.make_alarm([&] {
        has_gone_off = true;
        loop.stop();
    });
    const auto due = loop.now();
    // A busy owner: each turn of it arms for its earliest deadline, which has passed.
    int turns = 0;
    std::function<void()> turn = [&] {
        alarm->arm(due);
        if (++turns == 10'000) return loop.stop();
        loop.post(turn);
    };
    loop.post(turn);

    loop.run();

    CHECK(has_gone_off);
}

TEST_CASE("AsioEventLoop: an alarm moved from an overdue deadline to a later one waits for it") {
    AsioEventLoop loop;
    EventLoop::TimePoint went_off{};
    const auto alarm = loop.make_alarm([&] {
        went_off = loop.now();
        loop.stop();
    });
    const auto begin = loop.now();
    alarm->arm(begin);
    alarm->arm(begin + 20ms);

    loop.run();

    CHECK(went_off >= begin + 20ms);
}
