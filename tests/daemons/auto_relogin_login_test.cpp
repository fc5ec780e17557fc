#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "daemons/auto_relogin.hpp"
#include "tests/daemons/auto_relogin_world.hpp"

using namespace petrel;
using namespace petrel::test;

TEST_CASE("AutoRelogin: the refusal decides, not the close code behind it") {
    ReloginWorld world;
    world.bring_to(State::kLoggingIn);
    world.take();
    world.relogin.on_login_refused(503, true, 5s);
    CHECK(world.take() == Events{"disconnect 1 1000"});
    world.closed(closed_with(4003));
    CHECK(world.state() == State::kWaiting);
    CHECK(world.relogin.stale_reports() == 1);

    ReloginWorld other;
    other.bring_to(State::kLoggingIn);
    other.take();
    other.relogin.on_login_refused(401, false, 5s);
    CHECK(other.take() == Events{"disconnect 1 1000", "refused 401"});
    other.closed(closed_with(4001));
    CHECK(other.state() == State::kStopped);
}

TEST_CASE("AutoRelogin: refused logins back off exponentially") {
    ReloginWorld world;
    world.relogin.start();
    std::vector<Duration> waits;
    for (int n = 0; n < 3; ++n) {
        world.connected();
        world.context.set_next_random(UINT64_MAX);
        world.relogin.on_login_refused(503, true, {});
        waits.push_back(*world.time_left());
        world.context.advance(waits.back());
    }
    CHECK(waits == std::vector<Duration>{500ms, 1s, 2s});
}

TEST_CASE("AutoRelogin: an expired token is asked for once, then used at once") {
    for (const bool retry : {false, true}) {
        ReloginWorld world;
        world.bring_to(State::kLoggingIn);
        world.take();
        world.relogin.on_login_refused(402, retry, {});
        CHECK(world.take() == Events{"disconnect 1 1000", "token 402"});
        world.context.advance(1h);
        CHECK(world.take().empty());
        world.relogin.on_token();
        CHECK(world.take() == Events{"connect 2"});
    }
}

TEST_CASE("AutoRelogin: the second expired token in a row stops for good") {
    ReloginWorld world;
    world.bring_to(State::kWaitingForToken);
    world.relogin.on_token();
    // Neither a broken link nor another refusal between the two is an accepted login.
    world.closed();
    world.context.advance(1s);
    world.connected();
    world.relogin.on_login_refused(503, true, 1s);
    world.context.advance(1s);
    world.connected();
    world.take();
    world.relogin.on_login_refused(402, true, {});
    CHECK(world.take() == Events{"disconnect 4 1000", "refused 402"});
    CHECK(world.state() == State::kStopped);
}

TEST_CASE("AutoRelogin: a token that had time to end on the way is no second refusal in a row") {
    for (const Duration time : {30s - 1ms, 30s + 0ms, 24h + 0ms}) {
        ReloginWorld world;
        world.bring_to(State::kWaitingForToken);
        world.relogin.on_token();
        world.relogin.network_lost();
        world.context.advance(time);
        world.relogin.network_available();
        world.connected();
        world.take();
        world.relogin.on_login_refused(402, true, {});
        const bool is_final = time < Duration(30s);
        CHECK((world.state() == State::kStopped) == is_final);
        CHECK((world.state() == State::kWaitingForToken) == !is_final);
        // However long ago the first was: the next one counts anew.
        if (is_final) continue;
        world.relogin.on_token();
        world.connected();
        world.relogin.on_login_refused(402, true, {});
        CHECK(world.state() == State::kStopped);
    }
}

TEST_CASE("AutoRelogin: an accepted login lets the token be asked for again") {
    ReloginWorld world;
    world.bring_to(State::kWaitingForToken);
    world.relogin.on_token();
    world.connected();
    world.relogin.on_login_accepted();
    world.closed();
    world.context.advance(1s);
    world.connected();
    world.take();
    world.relogin.on_login_refused(402, true, {});
    CHECK(world.take() == Events{"disconnect 3 1000", "token 402"});
}

TEST_CASE("AutoRelogin: a token given within the question counts") {
    ReloginWorld world;
    world.bring_to(State::kLoggingIn);
    world.on_event = [&world](const std::string& event) {
        if (event == "token 402") world.relogin.on_token();
    };
    world.relogin.on_login_refused(402, true, {});
    CHECK(world.state() == State::kConnecting);
    CHECK(world.relogin.attempt() == 2);
}

TEST_CASE("AutoRelogin: not connected in time, and no login response in time, end the attempt") {
    for (const State state : {State::kConnecting, State::kLoggingIn}) {
        CAPTURE(state);
        ReloginWorld world;
        world.bring_to(state);
        world.take();
        world.context.advance(10s - 1ns);
        CHECK(world.state() == state);
        world.context.set_next_random(UINT64_MAX);
        world.context.advance(1ns);
        CHECK(world.state() == State::kWaiting);
        CHECK(world.take() == Events{"disconnect 1 1000"});
        CHECK(*world.time_left() == 500ms);
    }
}

TEST_CASE("AutoRelogin: after a pause the answer in the socket is read before the time is up") {
    ReloginWorld world;
    world.bring_to(State::kLoggingIn);
    world.context.advance(9s);
    world.context.pause(2500ms);  // Timers run first...
    CHECK(world.state() == State::kLoggingIn);
    world.relogin.on_login_accepted();  // ...then the socket is read.
    CHECK(world.state() == State::kOnline);
}

TEST_CASE("AutoRelogin: after a pause without an answer the time is up all the same") {
    ReloginWorld world;
    world.bring_to(State::kLoggingIn);
    world.context.pause(1h);
    CHECK(world.state() == State::kLoggingIn);
    world.context.advance(200ms);
    CHECK(world.state() == State::kWaiting);
}

TEST_CASE("AutoRelogin: a lost network gives the connection up and stops the clock") {
    for (const State state : {State::kConnecting, State::kLoggingIn, State::kOnline}) {
        CAPTURE(state);
        ReloginWorld world;
        world.bring_to(state);
        world.take();
        world.relogin.network_lost();
        CHECK(world.take() == Events{"disconnect 1 1000"});
        world.context.advance(1h);
        CHECK(world.state() == State::kNoNetwork);
        world.relogin.network_available();
        CHECK(world.take() == Events{"connect 2"});
    }
}

TEST_CASE("AutoRelogin: time without a network is no attempt") {
    ReloginWorld world;
    world.bring_to(State::kWaiting);
    world.relogin.network_lost();
    world.context.advance(8h);
    world.relogin.network_available();
    CHECK(world.relogin.attempt() == 2);
    CHECK(*world.longest_wait_after({}) == 1s);  // The second failure, as if no time had passed.
}

TEST_CASE("AutoRelogin: a login without a network waits for it") {
    ReloginWorld world;
    world.relogin.network_lost();
    world.relogin.start();
    CHECK(world.state() == State::kNoNetwork);
    world.relogin.network_available();
    CHECK(world.take() == Events{"connect 1"});

    ReloginWorld other;
    other.bring_to(State::kWaitingForToken);
    other.relogin.network_lost();
    other.relogin.on_token();
    CHECK(other.state() == State::kNoNetwork);
}

TEST_CASE("AutoRelogin: suspend freezes the timer with what was left") {
    ReloginWorld world;
    world.bring_to(State::kLoggingIn);
    world.context.advance(4s);
    world.relogin.suspend();
    world.relogin.suspend();
    world.context.advance(1h);
    CHECK(world.state() == State::kLoggingIn);
    world.relogin.resume();
    world.context.advance(6s - 1ns);
    CHECK(world.state() == State::kLoggingIn);
    world.context.advance(1ns);
    CHECK(world.state() == State::kWaiting);
}

TEST_CASE("AutoRelogin: the rest of a suspended time leaves room to read the socket first") {
    ReloginWorld world;
    world.bring_to(State::kLoggingIn);
    world.context.advance(10s - 1ms);
    world.relogin.suspend();
    world.context.advance(1h);
    world.relogin.resume();
    world.context.advance(199ms);
    CHECK(world.state() == State::kLoggingIn);
    world.relogin.on_login_accepted();
    CHECK(world.state() == State::kOnline);
}

TEST_CASE("AutoRelogin: what happens while suspended freezes its own timer") {
    ReloginWorld world;
    world.bring_to(State::kConnecting);
    world.relogin.suspend();
    world.connected();
    CHECK(world.context.timers().size() == 0);
    world.relogin.on_login_accepted();
    world.context.advance(1h);
    CHECK(world.state() == State::kOnline);
    world.relogin.resume();
    CHECK(*world.time_left() == 30s);
}

TEST_CASE("AutoRelogin: a connection closed while suspended comes back at the resume, not before") {
    ReloginWorld world;
    world.bring_to(State::kOnline);
    world.take();
    world.relogin.suspend();
    world.closed();
    world.context.advance(1h);
    CHECK(world.state() == State::kWaiting);
    CHECK(world.take().empty());
    world.relogin.resume();
    CHECK(world.take() == Events{"connect 2"});
}

TEST_CASE("AutoRelogin: the network coming back while suspended waits for the resume") {
    ReloginWorld world;
    world.bring_to(State::kOnline);
    world.relogin.suspend();
    world.relogin.network_lost();
    world.take();
    world.relogin.network_available();
    CHECK(world.state() == State::kWaiting);
    CHECK(world.take().empty());
    world.relogin.resume();
    CHECK(world.take() == Events{"connect 2"});
}

TEST_CASE("AutoRelogin: start ends a suspension") {
    ReloginWorld world;
    world.relogin.suspend();
    world.relogin.start();
    CHECK(world.take() == Events{"connect 1"});
    CHECK(*world.time_left() > 9s);
}

TEST_CASE("AutoRelogin: im-sdk retries a broken link every two seconds") {
    AutoReloginDaemon::Options options;
    options.fixed_interval = 2s;
    ReloginWorld world(options);
    world.bring_to(State::kOnline);
    for (int i = 0; i < 10; ++i) {
        CHECK(*world.longest_wait_after({}) == 2s);
        world.context.advance(2s);
    }
}

TEST_CASE("AutoRelogin: mobileimsdk retries a broken link at once, then every three seconds") {
    ReloginWorld world;
    world.relogin.set_fixed_pace(0s, 3s);
    world.bring_to(State::kOnline);
    world.relogin.on_progress();
    CHECK(*world.longest_wait_after({}) == 0s);
    world.context.advance(0s);
    CHECK(*world.longest_wait_after({}) == 3s);
    world.context.advance(3s);
    CHECK(*world.longest_wait_after({}) == 3s);
}

TEST_CASE("AutoRelogin: a server that closes after every login gets no loop of logins at once") {
    AutoReloginDaemon::Options options;
    options.fixed_first = 0s;
    options.fixed_interval = 3s;
    ReloginWorld world(options);
    world.on_event = [&world](const std::string& event) {
        if (event.rfind("connect", 0) == 0) world.connected();
        if (event.rfind("login", 0) == 0) world.relogin.on_login_accepted(), world.closed();
    };
    world.relogin.start();
    world.context.advance(30s);
    CHECK(world.relogin.attempt() == 12);
}

TEST_CASE("AutoRelogin: who is turned away backs off in plain too") {
    AutoReloginDaemon::Options options;
    options.fixed_first = 0s;
    options.fixed_interval = 2s;
    ReloginWorld world(options);
    world.bring_to(State::kLoggingIn);
    world.context.set_next_random(UINT64_MAX);
    world.relogin.on_login_refused(503, true, {});
    CHECK(*world.time_left() == 500ms);
    world.context.advance(500ms);
    CHECK(*world.longest_wait_after(upgrade_failed(503)) == 1s);
    world.context.advance(1s);
    CHECK(*world.longest_wait_after(closed_with(3000)) == 2s);
    world.context.advance(2s);
    CHECK(*world.longest_wait_after(closed_with(4008)) == 4s);
    world.context.advance(4s);
    CHECK(*world.longest_wait_after({}) == 0s);
}

TEST_CASE("AutoRelogin: times at zero, one and the most") {
    for (const Duration time : {Duration(-1), Duration(0), Duration(1), Duration::max()}) {
        CAPTURE(time.count());
        const bool is_never = time == Duration::max();
        AutoReloginDaemon::Options options;
        options.connect_timeout = time;
        options.login_timeout = time;
        options.stable_after = time;
        ReloginWorld connecting(options);
        connecting.bring_to(State::kConnecting);
        connecting.context.advance(300ms);
        CHECK(connecting.changes.size() == (is_never ? 1 : 2));
        ReloginWorld logging_in(options);
        logging_in.bring_to(State::kLoggingIn);
        logging_in.context.advance(300ms);
        CHECK(logging_in.changes.size() == (is_never ? 2 : 3));
        ReloginWorld online(options);
        online.bring_to(State::kWaiting);
        online.context.advance(400ms);
        online.connected();
        online.relogin.on_login_accepted();
        online.context.advance(1ns);
        CHECK(*online.longest_wait_after({}) == (is_never ? 1s : 500ms));
    }
}

TEST_CASE("AutoRelogin: backoff at zero, one and the most") {
    const std::pair<Duration, Duration> cases[] = {{-1s, 0s},  {0s, 0s},   {1ns, 1ns},
                                                   {30s, 30s}, {31s, 30s}, {Duration::max(), 30s}};
    for (const auto& [base, first] : cases) {
        AutoReloginDaemon::Options options;
        options.backoff_base = base;
        ReloginWorld world(options);
        world.bring_to(State::kConnecting);
        CHECK(*world.longest_wait_after({}) == first);
    }
    AutoReloginDaemon::Options options;
    options.backoff_base = options.backoff_max = Duration::max();
    ReloginWorld world(options);
    world.bring_to(State::kConnecting);
    CHECK(*world.longest_wait_after({}) == Duration::max());
}

TEST_CASE("AutoRelogin: told_max at zero honours nothing") {
    AutoReloginDaemon::Options options;
    options.told_max = 0s;
    ReloginWorld world(options);
    world.bring_to(State::kConnecting);
    CHECK(*world.longest_wait_after(upgrade_failed(503, 9s)) == 500ms);
}
