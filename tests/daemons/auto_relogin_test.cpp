#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "daemons/auto_relogin.hpp"
#include "tests/daemons/auto_relogin_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

const State kAllStates[] = {State::kIdle,      State::kWaiting,        State::kConnecting,
                            State::kLoggingIn, State::kOnline,         State::kNoNetwork,
                            State::kStopped,   State::kWaitingForToken};

}  // namespace

TEST_CASE("AutoRelogin: a login goes through connecting and logging in to online") {
    ReloginWorld world;
    world.relogin.start();
    CHECK(world.take() == Events{"connect 1"});
    world.connected();
    CHECK(world.take() == Events{"login 1"});
    world.relogin.on_login_accepted();
    CHECK(world.state() == State::kOnline);
    CHECK(world.changes ==
          std::vector<State>{State::kConnecting, State::kLoggingIn, State::kOnline});
    CHECK(world.take().empty());
}

TEST_CASE("AutoRelogin: every state takes every input") {
    using Input = std::function<void(ReloginWorld&)>;
    const std::pair<const char*, Input> inputs[] = {
        {"start", [](ReloginWorld& w) { w.relogin.start(); }},
        {"stop", [](ReloginWorld& w) { w.relogin.stop(); }},
        {"network_available", [](ReloginWorld& w) { w.relogin.network_available(); }},
        {"network_lost", [](ReloginWorld& w) { w.relogin.network_lost(); }},
        {"suspend", [](ReloginWorld& w) { w.relogin.suspend(); }},
        {"resume", [](ReloginWorld& w) { w.relogin.resume(); }},
        {"on_token", [](ReloginWorld& w) { w.relogin.on_token(); }},
        {"on_connected", [](ReloginWorld& w) { w.connected(); }},
        {"on_closed", [](ReloginWorld& w) { w.closed(); }},
        {"on_closed 4003", [](ReloginWorld& w) { w.closed(closed_with(4003)); }},
        {"on_closed 4004", [](ReloginWorld& w) { w.closed(closed_with(4004)); }},
        {"older on_closed", [](ReloginWorld& w) { w.relogin.on_closed(0, closed_with(4004)); }},
        {"newer on_closed", [](ReloginWorld& w) { w.relogin.on_closed(99, closed_with(4004)); }},
        {"on_login_accepted", [](ReloginWorld& w) { w.relogin.on_login_accepted(); }},
        {"refused", [](ReloginWorld& w) { w.relogin.on_login_refused(503, true, {}); }},
        {"refused 402", [](ReloginWorld& w) { w.relogin.on_login_refused(402, false, {}); }},
        {"refused for good", [](ReloginWorld& w) { w.relogin.on_login_refused(401, false, {}); }},
        {"on_progress", [](ReloginWorld& w) { w.relogin.on_progress(); }},
        {"on_kicked", [](ReloginWorld& w) { w.relogin.on_kicked(2); }},
        {"reconnect", [](ReloginWorld& w) { w.relogin.reconnect(4006, "nonsense"); }},
        {"half a minute", [](ReloginWorld& w) { w.context.advance(31s); }},
    };
    constexpr State kIdle = State::kIdle;
    constexpr State kWait = State::kWaiting;
    constexpr State kConn = State::kConnecting;
    constexpr State kLogi = State::kLoggingIn;
    constexpr State kOnli = State::kOnline;
    constexpr State kNoNe = State::kNoNetwork;
    constexpr State kStop = State::kStopped;
    constexpr State kToke = State::kWaitingForToken;
    const std::optional<State> kAny;  // Goes on with the time: only consistent.
    // Columns as kAllStates: idle, waiting, connecting, logging in, online, no network, stopped,
    // waiting for token.
    const std::map<std::string, std::vector<std::optional<State>>> expected = {
        {"start", {kConn, kConn, kConn, kLogi, kOnli, kNoNe, kConn, kToke}},
        {"stop", {kIdle, kIdle, kIdle, kIdle, kIdle, kIdle, kIdle, kIdle}},
        {"network_available", {kIdle, kConn, kConn, kLogi, kOnli, kConn, kStop, kToke}},
        {"network_lost", {kIdle, kNoNe, kNoNe, kNoNe, kNoNe, kNoNe, kStop, kToke}},
        {"suspend", {kIdle, kWait, kConn, kLogi, kOnli, kNoNe, kStop, kToke}},
        {"resume", {kIdle, kConn, kConn, kLogi, kOnli, kNoNe, kStop, kToke}},
        {"on_token", {kIdle, kWait, kConn, kLogi, kOnli, kNoNe, kStop, kConn}},
        {"on_connected", {kIdle, kWait, kLogi, kLogi, kOnli, kNoNe, kStop, kToke}},
        {"on_closed", {kIdle, kWait, kWait, kWait, kWait, kNoNe, kStop, kToke}},
        {"on_closed 4003", {kIdle, kWait, kStop, kStop, kStop, kNoNe, kStop, kToke}},
        {"on_closed 4004", {kIdle, kWait, kStop, kStop, kStop, kNoNe, kStop, kToke}},
        {"older on_closed", {kIdle, kWait, kConn, kLogi, kOnli, kNoNe, kStop, kToke}},
        {"newer on_closed", {kIdle, kWait, kConn, kLogi, kOnli, kNoNe, kStop, kToke}},
        {"on_login_accepted", {kIdle, kWait, kConn, kOnli, kOnli, kNoNe, kStop, kToke}},
        {"refused", {kIdle, kWait, kConn, kWait, kOnli, kNoNe, kStop, kToke}},
        {"refused 402", {kIdle, kWait, kConn, kToke, kOnli, kNoNe, kStop, kToke}},
        {"refused for good", {kIdle, kWait, kConn, kStop, kOnli, kNoNe, kStop, kToke}},
        {"on_progress", {kIdle, kWait, kConn, kLogi, kOnli, kNoNe, kStop, kToke}},
        {"on_kicked", {kIdle, kWait, kConn, kStop, kStop, kNoNe, kStop, kToke}},
        {"reconnect", {kIdle, kWait, kWait, kWait, kWait, kNoNe, kStop, kToke}},
        {"half a minute", {kIdle, kAny, kAny, kAny, kOnli, kNoNe, kStop, kToke}},
    };

    for (const auto& row : inputs) {
        const auto& name = row.first;
        const auto& input = row.second;
        for (std::size_t i = 0; i < std::size(kAllStates); ++i) {
            CAPTURE(name);
            CAPTURE(kAllStates[i]);
            ReloginWorld world;
            world.bring_to(kAllStates[i]);
            REQUIRE(world.state() == kAllStates[i]);
            input(world);
            CHECK(world.relogin.is_consistent());
            const auto& wanted = expected.at(name)[i];
            if (wanted) CHECK(world.state() == *wanted);
            // And once more: no input may depend on coming once.
            input(world);
            CHECK(world.relogin.is_consistent());
            world.relogin.stop();
            CHECK(world.state() == State::kIdle);
            CHECK(world.context.timers().size() == 0);
            CHECK(world.relogin.is_consistent());
        }
    }
}

TEST_CASE("AutoRelogin: ten thousand random inputs leave it consistent, one connection at a time") {
    ReloginWorld world;
    int open = 0;
    world.on_event = [&open](const std::string& event) {
        if (event.rfind("connect", 0) == 0) ++open;
        if (event.rfind("disconnect", 0) == 0) --open;
    };
    std::mt19937_64 random(3);
    bool is_good = true;
    const auto close = [&](const AutoReloginDaemon::Closed& how) {
        const auto stale = world.relogin.stale_reports();
        world.closed(how);
        if (world.relogin.stale_reports() == stale) --open;
    };
    const std::uint16_t codes[] = {1000, 1006, 1009, 4001, 4003, 4004, 4007, 4499, 4500};
    for (int i = 0; i < 10'000; ++i) {
        switch (random() % 16) {
            case 0: world.relogin.start(); break;
            case 1:
                if (random() % 4 == 0) world.relogin.stop();
                break;
            case 2: world.relogin.network_available(); break;
            case 3: world.relogin.network_lost(); break;
            case 4: world.relogin.suspend(); break;
            case 5: world.relogin.resume(); break;
            case 6: world.relogin.on_token(); break;
            case 7: close(closed_with(codes[random() % std::size(codes)])); break;
            case 8: world.relogin.on_login_refused(random() % 2 ? 402 : 503, true, {}); break;
            case 9: world.relogin.on_login_refused(401, false, {}); break;
            case 10: world.relogin.on_progress(); break;
            case 11: world.relogin.reconnect(4006, "test"); break;
            case 12: world.context.advance(Duration(random() % 12'000'000'000)); break;
            case 13: world.context.pause(Duration(random() % 12'000'000'000)); break;
            case 14: world.connected(); break;
            default: world.relogin.on_login_accepted(); break;
        }
        is_good = is_good && world.relogin.is_consistent() && (open == 0 || open == 1);
        world.take();
    }
    CHECK(is_good);
    CHECK(world.relogin.attempt() > 100);
}

TEST_CASE(
    "AutoRelogin: the n-th retry comes within 0.5 s x 2^n, at most 30 s, the first included") {
    ReloginWorld world;
    world.relogin.start();
    std::vector<Duration> waits;
    for (int n = 0; n < 8; ++n) {
        waits.push_back(*world.longest_wait_after({}));
        world.context.advance(waits.back());
        REQUIRE(world.state() == State::kConnecting);
    }
    CHECK(waits == std::vector<Duration>{500ms, 1s, 2s, 4s, 8s, 16s, 30s, 30s});
}

TEST_CASE("AutoRelogin: an error during connect never goes round the backoff") {
    ReloginWorld world;
    // Refused at once, as on a closed port: the listener hears it within on_connect_wanted.
    world.on_event = [&world](const std::string& event) {
        if (event.rfind("connect", 0) == 0) world.closed();
    };
    world.relogin.start();
    world.context.advance(10min);
    CHECK(world.relogin.attempt() < 100);  // 15 s apart on average, after the first few.
    CHECK(world.state() == State::kWaiting);
}

TEST_CASE("AutoRelogin: a thousand clients come back spread over the window") {
    std::vector<int> tenths(10);
    for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
        ReloginWorld world({}, seed);
        world.bring_to(State::kOnline);
        world.closed(closed_with(1001));
        const Duration wait = *world.time_left();
        CHECK(wait <= 500ms);
        ++tenths[static_cast<std::size_t>(std::min<std::int64_t>(9, wait / 50ms))];
    }
    for (const int count : tenths) {
        CHECK(count > 50);
        CHECK(count < 150);
    }
}

TEST_CASE("AutoRelogin: a short session does not reset the backoff") {
    ReloginWorld world;
    world.bring_to(State::kWaiting);
    world.context.advance(1s);
    world.connected();
    world.relogin.on_login_accepted();
    world.context.advance(30s - 1ns);
    CHECK(*world.longest_wait_after({}) == 1s);
}

TEST_CASE("AutoRelogin: 30 s online reset the backoff") {
    ReloginWorld world;
    world.bring_to(State::kWaiting);
    world.context.advance(1s);
    world.connected();
    world.relogin.on_login_accepted();
    world.context.advance(30s);
    CHECK(*world.longest_wait_after({}) == 500ms);
}

TEST_CASE("AutoRelogin: the first ack or message of the session resets the backoff") {
    ReloginWorld world;
    world.bring_to(State::kWaiting);
    world.context.advance(1s);
    world.relogin.on_progress();  // Not online: means nothing.
    world.connected();
    world.relogin.on_login_accepted();
    CHECK(*world.longest_wait_after({}) == 1s);
    world.context.advance(1s);
    world.connected();
    world.relogin.on_login_accepted();
    world.relogin.on_progress();
    CHECK(world.context.timers().size() == 0);
    CHECK(*world.longest_wait_after({}) == 500ms);
}

TEST_CASE("AutoRelogin: what the server tells wins over the backoff") {
    ReloginWorld world;
    world.bring_to(State::kLoggingIn);
    world.relogin.on_login_refused(503, true, 7s);
    CHECK(*world.time_left() == 7s);
    world.context.advance(7s);
    world.closed(upgrade_failed(429, 9s));
    CHECK(*world.time_left() == 9s);
    world.context.advance(9s);
    world.connected();
    world.relogin.reconnect(4008, "rate", 11s);
    CHECK(*world.time_left() == 11s);
}

TEST_CASE("AutoRelogin: a told time of zero or less is none, and a day is the most") {
    const std::pair<Duration, Duration> cases[] = {{-1s, 500ms},     {0ns, 500ms},
                                                   {1ns, 1ns},       {24h, 24h},
                                                   {24h + 1ns, 24h}, {Duration::max(), 24h}};
    for (const auto& row : cases) {
        const auto& told = row.first;
        const auto& waited = row.second;
        CAPTURE(told.count());
        ReloginWorld world;
        world.bring_to(State::kLoggingIn);
        world.context.set_next_random(UINT64_MAX);
        world.relogin.on_login_refused(503, true, told);
        CHECK(*world.time_left() == waited);
    }
}

TEST_CASE("AutoRelogin: a drain brings the client back at a random time within the window") {
    ReloginWorld world;
    world.bring_to(State::kOnline);
    world.next_random(12'345ms);
    world.closed(draining(20s));
    CHECK(*world.time_left() == 12'345ms);

    for (const auto window : {std::optional<Duration>{}, std::optional<Duration>{0s}}) {
        ReloginWorld other;
        other.bring_to(State::kOnline);
        CHECK(*other.longest_wait_after(draining(window)) == 500ms);
    }
    ReloginWorld more;
    more.bring_to(State::kOnline);
    CHECK(*more.longest_wait_after(draining(Duration::max())) == 24h);
}

TEST_CASE("AutoRelogin: a failed upgrade backs off, whatever its status") {
    for (const int status : {301, 401, 403, 404, 429, 500, 503}) {
        CAPTURE(status);
        ReloginWorld world;
        world.bring_to(State::kConnecting);
        CHECK(*world.longest_wait_after(upgrade_failed(status)) == 500ms);
    }
}

TEST_CASE("AutoRelogin: close codes stop or retry as the table says") {
    const std::pair<std::uint16_t, const char*> cases[] = {
        {0, "retry"},      {1000, "retry"}, {1001, "retry"},   {1006, "retry"},   {1009, "retry"},
        {1015, "retry"},   {2999, "retry"}, {3000, "retry"},   {3499, "retry"},   {3500, "refused"},
        {3999, "refused"}, {4000, "retry"}, {4001, "retry"},   {4002, "retry"},   {4003, "refused"},
        {4004, "kicked"},  {4005, "retry"}, {4006, "retry"},   {4007, "retry"},   {4008, "retry"},
        {4009, "retry"},   {4499, "retry"}, {4500, "refused"}, {4999, "refused"}, {5000, "retry"},
        {65535, "retry"}};
    for (const auto& row : cases) {
        const auto& code = row.first;
        const auto& what = row.second;
        for (const State from : {State::kConnecting, State::kLoggingIn, State::kOnline}) {
            CAPTURE(code);
            CAPTURE(from);
            ReloginWorld world;
            world.bring_to(from);
            world.take();
            world.closed(closed_with(code));
            if (std::string(what) == "retry") {
                CHECK(world.state() == State::kWaiting);
                CHECK(world.take().empty());
            } else {
                CHECK(world.state() == State::kStopped);
                CHECK(world.take() == Events{std::string(what) + " " + std::to_string(code)});
                CHECK(world.context.timers().size() == 0);
            }
        }
    }
}

TEST_CASE("AutoRelogin: a kick-out is final and gives the connection up") {
    ReloginWorld world;
    world.bring_to(State::kOnline);
    world.take();
    world.relogin.on_kicked(2);
    CHECK(world.take() == Events{"disconnect 1 1000", "kicked 2"});
    world.closed(closed_with(1006));
    world.context.advance(1h);
    CHECK(world.state() == State::kStopped);
    CHECK(world.take().empty());
}

TEST_CASE("AutoRelogin: only start leaves a stop for good, with a fresh backoff") {
    ReloginWorld world;
    world.bring_to(State::kWaiting);
    world.context.advance(1s);
    world.closed(closed_with(4003));
    world.take();
    world.relogin.network_available();
    world.relogin.resume();
    world.relogin.on_token();
    CHECK(world.take().empty());
    world.relogin.start();
    CHECK(world.take() == Events{"connect 3"});
    CHECK(*world.longest_wait_after({}) == 500ms);
}

TEST_CASE("AutoRelogin: reports of an older attempt are dropped and counted") {
    ReloginWorld world;
    world.bring_to(State::kWaiting);
    world.context.advance(1s);
    REQUIRE(world.relogin.attempt() == 2);
    world.take();
    world.relogin.on_connected(1);
    world.relogin.on_closed(1, closed_with(4004));
    CHECK(world.state() == State::kConnecting);
    CHECK(world.take().empty());
    CHECK(world.relogin.stale_reports() == 2);
}

TEST_CASE("AutoRelogin: the close after a logout changes nothing") {
    ReloginWorld world;
    world.bring_to(State::kOnline);
    world.take();
    world.changes.clear();
    world.relogin.stop();
    world.relogin.stop();
    CHECK(world.take() == Events{"disconnect 1 1000"});
    CHECK(world.changes.empty());
    world.closed(closed_with(4004));
    world.context.advance(1h);
    CHECK(world.state() == State::kIdle);
    CHECK(world.take().empty());
}

TEST_CASE("AutoRelogin: reconnect closes with the given code and waits") {
    ReloginWorld world;
    world.bring_to(State::kOnline);
    world.take();
    world.context.set_next_random(UINT64_MAX);
    world.relogin.reconnect(4006, "ack above what was sent");
    CHECK(world.take() == Events{"disconnect 1 4006"});
    CHECK(*world.time_left() == 500ms);
    world.relogin.reconnect(4006, "again");
    CHECK(world.take().empty());
}

TEST_CASE("AutoRelogin: a stop from within a callback is the end of it") {
    for (const char* trigger : {"connect 1", "disconnect 1 1000", "token 402"}) {
        CAPTURE(trigger);
        ReloginWorld world;
        world.on_event = [&world, trigger](const std::string& event) {
            if (event == trigger) world.relogin.stop();
        };
        world.relogin.start();
        world.connected();
        world.relogin.on_login_refused(402, true, {});
        world.context.advance(1h);
        CHECK(world.state() == State::kIdle);
        CHECK(world.relogin.attempt() == 1);
        CHECK(world.relogin.is_consistent());
    }
}
