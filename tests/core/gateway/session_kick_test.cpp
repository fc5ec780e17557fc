// PROTOCOL.md section 4.2, "Sessions": who stays, who goes, and what becomes of the loser's words.

#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

GatewayWorld::Options with_policy(SessionPolicy policy) {
    GatewayWorld::Options options;
    options.policy = policy;
    return options;
}

LoginAs with_generation(const std::string& user, std::uint64_t generation) {
    LoginAs as{user};
    as.generation = generation;
    return as;
}

}  // namespace

TEST_CASE("Kick: a new login of the same device displaces the old one with 55, then 4004") {
    GatewayWorld world;
    FakeClient& old_one = world.online({"alice"});
    FakeClient& winner = world.connect();
    winner.login({"alice"});
    CHECK(old_one.received() == "55 1 phone, closed 4004");
    CHECK(winner.received() == "50 0/0 accepted 0");
    CHECK_FALSE(old_one.last<Kickout>().reason.empty());
}

TEST_CASE("Kick: the same user and device of another app is somebody else") {
    GatewayWorld world(with_policy(SessionPolicy::kSingle));
    FakeClient& here = world.online({"alice"});
    LoginAs as{"alice"};
    as.app = "shop";
    FakeClient& there = world.online(as);
    CHECK_FALSE(here.is_closed());
    CHECK_FALSE(there.is_closed());
}

TEST_CASE("Kick: with single a kicked mobileimsdk client is told why with 54") {
    GatewayWorld world(with_policy(SessionPolicy::kSingle));
    FakeClient& old_one = world.online_mobile("alice");
    world.online({"alice", "laptop"});
    CHECK(old_one.received() == "54 1, closed 4004");
    CHECK_FALSE(old_one.last<Kickout>().reason.empty());
}

TEST_CASE("Kick: with multi other devices stay") {
    GatewayWorld world;
    FakeClient& phone = world.online({"alice", "phone"});
    FakeClient& laptop = world.online({"alice", "laptop", "desktop"});
    CHECK_FALSE(phone.is_closed());
    CHECK_FALSE(laptop.is_closed());
}

TEST_CASE("Kick: with one-per-class another class stays") {
    GatewayWorld world(with_policy(SessionPolicy::kOnePerClass));
    FakeClient& phone = world.online({"alice", "phone", "mobile"});
    FakeClient& laptop = world.online({"alice", "laptop", "desktop"});
    world.online({"alice", "tablet", "mobile"});
    CHECK(phone.received() == "55 1 tablet, closed 4004");
    CHECK_FALSE(laptop.is_closed());
}

TEST_CASE("Kick: with single only the last stays") {
    GatewayWorld world(with_policy(SessionPolicy::kSingle));
    FakeClient& phone = world.online({"alice", "phone", "mobile"});
    FakeClient& laptop = world.online({"alice", "laptop", "desktop"});
    CHECK(phone.received() == "55 1 laptop, closed 4004");
    world.online_im_sdk("alice");
    CHECK(laptop.received() == "55 1 -, closed 4004");
}

TEST_CASE("Kick: several losers go before the winner is answered") {
    GatewayWorld world(with_policy(SessionPolicy::kOnePerClass));
    FakeClient& phone = world.online({"alice", "phone", "mobile"});
    FakeClient& laptop = world.online({"alice", "laptop", "desktop"});
    world.hold();
    FakeClient& winner = world.connect();
    winner.login({"alice", "laptop", "mobile"});
    CHECK(phone.received() == "55 1 laptop, closed 4004");
    CHECK(laptop.received() == "55 1 laptop, closed 4004");
    CHECK(winner.received() == "");
    world.release();
    CHECK(winner.received() == "50 0/0 accepted 0");
}

TEST_CASE("Kick: a lower generation is refused for good") {
    GatewayWorld world;
    FakeClient& live = world.online(with_generation("alice", 10));
    FakeClient& late = world.connect();
    late.login(with_generation("alice", 9));
    CHECK(late.received() == "50 409 final, closed 4003");
    live.say({"a", 1});
    CHECK(live.received() == "54 h1 acc 1@1");
}

TEST_CASE("Kick: of equal generations the newer connection stays") {
    GatewayWorld world;
    FakeClient& old_one = world.online(with_generation("alice", 10));
    FakeClient& winner = world.connect();
    winner.login(with_generation("alice", 10));
    CHECK(old_one.received() == "55 1 phone, closed 4004");
    CHECK(winner.received() == "50 0/0 accepted 0");
}

TEST_CASE("Kick: a login on a connection older than the live session's is stale") {
    GatewayWorld world;
    FakeClient& stale = world.connect();
    FakeClient& live = world.online({"alice"});
    stale.login({"alice"});
    CHECK(stale.received() == "50 409 retry, closed 4001");
    CHECK_FALSE(live.is_closed());
    live.say({"a", 1});
    CHECK(live.received() == "54 h1 acc 1@1");
}

TEST_CASE("Kick: two devices of a single-session user do not kick each other for ever") {
    GatewayWorld world(with_policy(SessionPolicy::kSingle));
    FakeClient& phone = world.online({"alice", "phone"});
    const std::uint64_t generation = phone.last<LoginResponse>().v1->generation;
    world.online({"alice", "laptop"});
    FakeClient& again = world.connect();
    LoginAs as{"alice", "phone"};
    as.generation = generation;
    again.login(as);
    CHECK(again.received() == "50 409 final, closed 4003");
}

TEST_CASE("Kick: the loser takes and sends nothing any more") {
    GatewayWorld world;
    FakeClient& loser = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    world.hold();
    FakeClient& winner = world.connect();
    winner.login({"alice"});
    loser.received();
    // Not even what reaches its session before the socket's end.
    loser.session().on_text(text_of({"late", 1}));
    loser.session().on_drained();
    loser.session().flush();
    bob.say({"b", 1, "alice"});
    world.release();
    CHECK(loser.received() == "");
    CHECK(bob.received() == "54 h1 acc 1@1");
    CHECK(world.appends.size() == 1);
    CHECK(winner.received() == "50 0/0 accepted 0, 2 b@1");
}

TEST_CASE("Kick: what the loser has handed to the store is decided before the winner's first") {
    GatewayWorld world;
    LoginAs as{"alice"};
    as.stream = "s";
    FakeClient& loser = world.online(as);
    FakeClient& bob = world.online({"bob"});
    world.hold();
    loser.say({"a", 1});
    loser.say({"b", 2});
    FakeClient& winner = world.connect();
    winner.login(as);
    winner.say({"b", 2});
    winner.say({"c", 3});
    world.release();
    CHECK(loser.received() == "55 1 phone, closed 4004");
    CHECK(winner.received() == "50 0/0 accepted 2, 54 h2, 54 h3 acc 3@3");
    CHECK(bob.received() == "2 a@1, 2 b@2, 2 c@3");
}

TEST_CASE("Kick: a winner whose connection is lost meanwhile leaves the account free") {
    GatewayWorld world;
    world.online({"alice"});
    world.hold();
    FakeClient& winner = world.connect();
    winner.login({"alice"});
    winner.drop();
    world.release();
    CHECK(world.router().user_count() == 0);
    FakeClient& next = world.connect();
    next.login({"alice"});
    CHECK(next.received() == "50 0/0 accepted 0");
}

TEST_CASE("Kick: a winner that the store refuses has displaced the loser all the same") {
    GatewayWorld world;
    FakeClient& loser = world.online({"alice"});
    world.set_failing(true);
    FakeClient& winner = world.connect();
    winner.login({"alice"});
    CHECK(winner.received() == "50 503 retry after 1000, closed 4001");
    CHECK(loser.is_closed());
    CHECK(world.router().user_count() == 0);
}

TEST_CASE("Kick: a login refused by the token displaces nobody") {
    GatewayWorld world;
    FakeClient& live = world.online({"alice"});
    world.verdict = {401, "bad"};
    world.connect().login({"alice"});
    CHECK_FALSE(live.is_closed());
}

TEST_CASE("Kick: deliveries between displacement and answer are not lost") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.online({"bob"});
    world.hold();
    FakeClient& winner = world.connect();
    winner.login({"bob"});
    alice.say({"a", 1});
    world.release();
    alice.say({"b", 2});
    CHECK(winner.received() == "50 0/0 accepted 0, 2 a@1, 2 b@2");
}

TEST_CASE("Kick: a herd of logins of one device ends with one session, the newest") {
    GatewayWorld world;
    world.hold();
    std::vector<FakeClient*> herd;
    for (int i = 0; i < 12; ++i) {
        herd.push_back(&world.connect());
        herd.back()->login({"alice"});
    }
    herd[5]->drop();
    world.release();
    for (std::size_t i = 0; i < 11; ++i) {
        CAPTURE(i);
        if (i != 5) CHECK(herd[i]->close_code() == 4004);
    }
    CHECK(herd[11]->received() == "50 0/0 accepted 0");
    CHECK(world.router().session_count() == 1);
}

TEST_CASE("Kick: logins in the wrong order of their connections end with the newest, too") {
    GatewayWorld world;
    world.hold();
    FakeClient& older = world.connect();
    FakeClient& newer = world.connect();
    newer.login({"alice"});
    older.login({"alice"});
    world.release();
    CHECK(newer.received() == "50 0/0 accepted 0");
    CHECK(older.received() == "50 409 retry, closed 4001");
}
