// PROTOCOL.md sections 2, 4.7 and 4.8: too many messages are 302 and then 4008, too many logins
// 503.

#include <doctest/doctest.h>

#include <chrono>
#include <string>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

// Ten messages a second, `burst` at once.
GatewayWorld::Options ten_a_second(std::size_t burst) {
    GatewayWorld::Options options;
    options.session.message_rate = {100ms, burst};
    return options;
}

void say(FakeClient& client, Position first, Position last) {
    for (Position seq = first; seq <= last; ++seq) client.say({"m" + std::to_string(seq), seq});
}

}  // namespace

TEST_CASE("Session: no rate is limited unless it was asked for") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    say(alice, 1, 1'000);
    CHECK(alice.last<Ack>().h == 1'000);
    CHECK(world.counters().rate_limited == 0);
}

TEST_CASE("Session: beyond its rate a session is told to pause, and nothing is lost") {
    GatewayWorld world(ten_a_second(4));
    FakeClient& alice = world.online({"alice"});
    say(alice, 1, 4);
    CHECK(alice.last<Ack>().h == 4);
    alice.received();
    alice.say({"m5", 5});
    // Until half of the four are there.
    CHECK(alice.received() == "52 302 m5@5 after 200");
    world.advance(200ms);
    say(alice, 5, 6);
    CHECK(alice.last<Ack>().h == 6);
    CHECK(world.appends.size() == 6);
    CHECK(world.counters().rate_limited == 1);
}

TEST_CASE("Session: a burst of one lets one at a time through") {
    GatewayWorld world(ten_a_second(1));
    FakeClient& alice = world.online({"alice"});
    alice.say({"m1", 1});
    alice.received();
    alice.say({"m2", 2});
    CHECK(alice.received() == "52 302 m2@2 after 100");
    world.advance(100ms);
    alice.say({"m2", 2});
    CHECK(alice.last<Ack>().h == 2);
}

TEST_CASE(
    "Session: what is under way at a pause is dropped without a word, the next is told again") {
    GatewayWorld world(ten_a_second(2));
    FakeClient& alice = world.online({"alice"});
    say(alice, 1, 2);
    alice.received();
    say(alice, 3, 6);
    CHECK(alice.received() == "52 302 m3@3 after 100");
    world.advance(60ms);
    alice.say({"m3", 3});
    CHECK(alice.received() == "52 302 m3@3 after 40");
}

TEST_CASE("Session: in a pause heartbeats, acks, echoes and repeated messages are served") {
    GatewayWorld world(ten_a_second(1));
    FakeClient& alice = world.online({"alice"});
    say(alice, 1, 2);
    alice.received();
    alice.heartbeat(1, 0, 0);
    CHECK(alice.received() == "51 sent0 rx1 h1");
    alice.send(R"({"type":5,"dataContent":"x"})");
    CHECK(alice.received() == "53 x");
    alice.ack(0);
    alice.say({"m1", 1});
    CHECK(alice.received() == "54 h1");
    CHECK_FALSE(alice.is_closed());
}

TEST_CASE("Session: who goes on sending in a pause is closed with 4008 after two windows") {
    GatewayWorld::Options options = ten_a_second(1);
    options.session.window = 8;
    GatewayWorld world(options);
    FakeClient& alice = world.online({"alice"});
    say(alice, 1, 2);
    for (int i = 0; i < 16; ++i) alice.say({"m2", 2});
    CHECK_FALSE(alice.is_closed());
    alice.say({"m2", 2});
    CHECK(alice.close_code() == 4008);
}

TEST_CASE("Session: messages without QoS count, and are refused with 302") {
    GatewayWorld world(ten_a_second(1));
    FakeClient& bob = world.online({"bob"});
    FakeClient& alice = world.online({"alice"});
    alice.say(no_qos("a"));
    alice.say(no_qos("b"));
    CHECK(bob.received() == "2 a");
    CHECK(alice.received() == "52 302 b after 100");
}

TEST_CASE("Session: a plain client beyond its rate gets 302, and is acked once it retries") {
    GatewayWorld world(ten_a_second(1));
    FakeClient& alice = world.online_im_sdk("alice");
    alice.say({"a"});
    CHECK(alice.received() == "54 a");
    alice.say({"b"});
    CHECK(alice.received() == "52 302");
    world.advance(100ms);
    alice.say({"b"});
    CHECK(alice.received() == "54 b");
}

TEST_CASE("Session: too many logins from an address are 503 before anything is looked at") {
    GatewayWorld world;
    world.address_wait = 1500us;
    world.verdict = {401, "never asked"};
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    CHECK(alice.received() == "50 503 retry after 2, closed 4001");
    CHECK(world.opens.empty());
    CHECK_FALSE(alice.is_login_told());
}

TEST_CASE("Session: too many logins of an account are 503, once its token was believed") {
    GatewayWorld world;
    world.account_wait = 3s;
    SUBCASE("with a good token") {
        FakeClient& alice = world.connect();
        alice.login({"alice"});
        CHECK(alice.received() == "50 503 retry after 3000, closed 4001");
    }
    SUBCASE("with a bad one the account's rate is not touched") {
        world.verdict = {401, "bad token"};
        FakeClient& alice = world.connect();
        alice.login({"alice"});
        CHECK(alice.received() == "50 401 final, closed 4003");
    }
    CHECK(world.opens.empty());
}

TEST_CASE("Session: a token that is refreshed too often is refused, and nothing else changes") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice", "phone", "mobile", 0, {}, "s"});
    CHECK(alice.is_login_told());
    world.address_wait = 1s;
    LoginAs again{"alice"};
    again.stream = "s";
    alice.login(again);
    CHECK(alice.last<LoginResponse>().code == 503);
    CHECK_FALSE(alice.is_closed());
}
