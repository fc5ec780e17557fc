// PROTOCOL.md sections 4.2 and 4.8: what becomes of a session when its token ends.

#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <string>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

// Silence closes nobody here.
GatewayWorld::Options with_grace(Duration grace) {
    GatewayWorld::Options options;
    options.session.token_grace = grace;
    options.session.heartbeat = 1h;
    return options;
}

Authenticator::Verdict good_for(Duration time) {
    Authenticator::Verdict verdict;
    verdict.lasts = time;
    return verdict;
}

}  // namespace

TEST_CASE("Token: a session whose token ends is asked for a new one, and closed without one") {
    GatewayWorld world(with_grace(60s));
    world.verdict = good_for(100s);
    FakeClient& alice = world.online({"alice"});
    world.advance(99s);
    CHECK(alice.received() == "");
    world.advance(1s);
    CHECK(alice.received() == "52 402");
    CHECK_FALSE(alice.last<ErrorPacket>().message.empty());
    world.advance(59s);
    CHECK(alice.received() == "");
    world.advance(2s);
    CHECK(alice.received() == "closed 4001");
    CHECK(alice.close_reason() == "no new token in time");
}

TEST_CASE("Token: one without an end asks for nothing") {
    GatewayWorld world(with_grace(1s));
    FakeClient& alice = world.online({"alice"});
    world.advance(2h);
    CHECK(alice.received() == "");
}

TEST_CASE("Token: a new login on the live connection goes on with the new one") {
    GatewayWorld world(with_grace(60s));
    world.verdict = good_for(100s);
    LoginAs as{"alice"};
    as.stream = "s";
    FakeClient& alice = world.online(as);
    alice.say({"a", 1});
    CHECK(alice.received() == "54 h1 acc 1@1");
    world.advance(130s);
    CHECK(alice.received() == "52 402");
    // Within the grace period it is as it was.
    alice.say({"b", 2});
    CHECK(alice.received() == "54 h2 acc 2@2");
    world.verdict = good_for(200s);
    alice.login(as);
    CHECK(alice.last<LoginResponse>().code == 0);
    alice.received();
    CHECK(world.opens.size() == 1);
    alice.say({"c", 3});
    CHECK(alice.received() == "54 h3 acc 3@3");
    world.advance(199s);
    CHECK(alice.received() == "");
    world.advance(1s);
    CHECK(alice.received() == "52 402");
    world.advance(61s);
    CHECK(alice.received() == "closed 4001");
}

TEST_CASE("Token: one that comes before the old one ends takes its place") {
    GatewayWorld world(with_grace(60s));
    world.verdict = good_for(100s);
    FakeClient& alice = world.online({"alice"});
    world.advance(50s);
    world.verdict = good_for(1000s);
    alice.login({"alice"});
    alice.received();
    world.advance(999s);
    CHECK(alice.received() == "");
    world.advance(1s);
    CHECK(alice.received() == "52 402");
}

TEST_CASE("Token: a shorter one counts, too") {
    GatewayWorld world(with_grace(60s));
    world.verdict = good_for(1000s);
    FakeClient& alice = world.online({"alice"});
    world.verdict = good_for(10s);
    alice.login({"alice"});
    alice.received();
    world.advance(10s);
    CHECK(alice.received() == "52 402");
}

TEST_CASE("Token: a new one that is refused changes nothing, not even the time left") {
    GatewayWorld world(with_grace(60s));
    world.verdict = good_for(100s);
    FakeClient& alice = world.online({"alice"});
    world.advance(120s);
    alice.received();
    world.verdict = {402, "expired"};
    alice.login({"alice"});
    CHECK(alice.last<LoginResponse>().code == 402);
    alice.received();
    world.advance(39s);
    CHECK(alice.received() == "");
    world.advance(2s);
    CHECK(alice.received() == "closed 4001");
}

TEST_CASE("Token: without a grace period the session is closed behind the question") {
    GatewayWorld world(with_grace(0s));
    world.verdict = good_for(10s);
    FakeClient& alice = world.online({"alice"});
    world.advance(11s);
    CHECK(alice.received() == "52 402, closed 4001");
}

TEST_CASE("Token: one that ends while the login is decided is asked for at once") {
    GatewayWorld world(with_grace(60s));
    world.verdict = good_for(5s);
    world.hold();
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    world.advance(6s);
    CHECK(alice.received() == "");
    world.release();
    world.advance(0s);
    CHECK(alice.received() == "50 0/0 accepted 0, 52 402");
}

TEST_CASE("Token: after a pause of the process a new one in the socket counts") {
    GatewayWorld world(with_grace(60s));
    world.verdict = good_for(10s);
    FakeClient& alice = world.online({"alice"});
    world.advance(10s);
    CHECK(alice.received() == "52 402");
    world.pause(10min);
    alice.login({"alice"});
    alice.received();
    world.advance(5s);
    CHECK_FALSE(alice.is_closed());
}

TEST_CASE("Token: plain clients are asked, too, and go on by a login on the same socket") {
    GatewayWorld world(with_grace(10s));
    world.verdict = good_for(5s);
    FakeClient& alice = world.online_im_sdk("alice");
    FakeClient& bob = world.online_mobile("bob");
    world.advance(5s);
    CHECK(alice.received() == "52 402");
    CHECK(bob.received() == "52 402");
    world.verdict = good_for(1h);
    alice.login_im_sdk("alice");
    bob.login_mobile("bob");
    world.advance(11s);
    CHECK_FALSE(alice.is_closed());
    CHECK_FALSE(bob.is_closed());
}

TEST_CASE("Token: the authenticator is asked about the device and its class") {
    GatewayWorld world;
    world.online({"alice", "laptop", "desktop"});
    world.online_im_sdk("bob");
    CHECK(world.asked_about == "alice/laptop/desktop bob/-/other ");
}

TEST_CASE("Token: of a session that has ended nothing is asked") {
    GatewayWorld world(with_grace(60s));
    world.verdict = good_for(10s);
    FakeClient& alice = world.online({"alice"});
    alice.drop();
    world.advance(2min);
    CHECK(alice.received() == "");
}
