#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <string>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

std::string login_text(const std::string& content) {
    std::string escaped;
    for (const char c : content) {
        if (c == '"' || c == '\\') escaped += '\\';
        escaped += c;
    }
    return R"({"type":0,"dataContent":")" + escaped + R"("})";
}

}  // namespace

// ---- petrel.v1 ----

TEST_CASE("Session: a v1 login is answered with where inbox and outbox stand") {
    GatewayWorld world;
    FakeClient& alice = world.connect();

    alice.login({"alice"});

    const LoginReplyV1 reply = *alice.last<LoginResponse>().v1;
    CHECK(alice.received() == "50 0/0 accepted 0");
    CHECK(reply.generation == static_cast<std::uint64_t>(world.wall_ms()));
    CHECK_FALSE(reply.inbox.epoch.empty());
    CHECK(reply.inbox.recovered);
    CHECK(reply.heartbeat_ms == 25'000);
    CHECK(reply.dedup_horizon_ms == 86'400'000);
    CHECK(reply.window == 64);
    CHECK(reply.window_bytes == 1'048'576);
    CHECK(reply.max_payload == 65'536);
    CHECK(reply.server_ts == world.wall_ms());
    CHECK_FALSE(reply.session.empty());
}

TEST_CASE("Session: every v1 session has another id") {
    GatewayWorld world;
    FakeClient& phone = world.online({"alice", "phone"});
    FakeClient& laptop = world.online({"alice", "laptop"});
    CHECK(phone.last<LoginResponse>().v1->session != laptop.last<LoginResponse>().v1->session);
}

TEST_CASE("Session: generation 0 gets one higher than any before of that user") {
    GatewayWorld world;
    FakeClient& phone = world.online({"alice", "phone"});
    FakeClient& laptop = world.online({"alice", "laptop"});
    CHECK(laptop.last<LoginResponse>().v1->generation ==
          phone.last<LoginResponse>().v1->generation + 1);
}

TEST_CASE("Session: a generation asked for is given back") {
    GatewayWorld world;
    LoginAs as{"alice"};
    as.generation = 77;
    FakeClient& alice = world.online(as);
    CHECK(alice.last<LoginResponse>().v1->generation == 77);
}

TEST_CASE("Session: the subprotocol petrel.v1 without a petrel object is code 4") {
    GatewayWorld world;
    FakeClient& alice = world.connect();
    alice.send(login_text(R"({"loginUserId":"alice","loginToken":"t","app":"a"})"));
    CHECK(alice.received() == "50 4 final, closed 4003");
}

TEST_CASE("Session: the device of plain clients is refused to v1") {
    GatewayWorld world;
    FakeClient& alice = world.connect();
    alice.login({"alice", "-"});
    CHECK(alice.received() == "50 4 final, closed 4003");
}

TEST_CASE("Session: a device may have 64 characters, whatever their bytes") {
    GatewayWorld world;
    std::string device;
    for (int i = 0; i < 64; ++i) device += "\xc3\xa9";
    FakeClient& alice = world.connect();
    alice.login({"alice", device});
    CHECK(alice.received() == "50 0/0 accepted 0");
}

TEST_CASE("Session: a device of 65 characters is no valid login") {
    GatewayWorld world;
    FakeClient& alice = world.connect();
    alice.login({"alice", std::string(65, 'd')});
    CHECK(alice.received() == "52 4");
}

TEST_CASE("Session: nobody logs in as \"-1\"") {
    GatewayWorld world;
    FakeClient& nobody = world.connect();
    nobody.login({"-1"});
    CHECK(nobody.received() == "50 403 final, closed 4003");
}

TEST_CASE("Session: a bad token is refused for good") {
    GatewayWorld world;
    world.verdict = {401, "bad token"};
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    CHECK(alice.received() == "50 401 final, closed 4003");
    CHECK(alice.last<LoginResponse>().error_msg == "bad token");
}

TEST_CASE("Session: with an expired token the client may ask its provider and come again") {
    GatewayWorld world;
    world.verdict = {402, "expired"};
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    CHECK(alice.received() == "50 402 retry, closed 4001");
}

TEST_CASE("Session: an app's own refusal code goes to the client") {
    GatewayWorld world;
    world.verdict = {1025, "banned"};
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    CHECK(alice.received() == "50 1025 final, closed 4003");
}

TEST_CASE("Session: a store that cannot write now refuses a login with a time to come again") {
    GatewayWorld world;
    FakeClient& alice = world.connect();
    SUBCASE("its commit fails") { world.set_failing(true); }
    SUBCASE("its queue is full") { world.set_full(true); }
    alice.login({"alice"});
    CHECK(alice.received() == "50 503 retry after 1000, closed 4001");
    CHECK(world.router().user_count() == 0);
}

TEST_CASE("Session: logins work again after the store has failed") {
    GatewayWorld world;
    world.set_failing(true);
    world.connect().login({"alice"});
    world.set_failing(false);
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    CHECK(alice.received() == "50 0/0 accepted 0");
}

// ---- the login deadline, packets before the login ----

TEST_CASE("Session: who does not log in within 10 s of the connection is closed") {
    GatewayWorld world;
    FakeClient& v1 = world.connect();
    FakeClient& plain = world.connect_plain();
    world.advance(9'999ms);
    CHECK(v1.received() == "");
    world.advance(1ms);
    CHECK(v1.received() == "closed 4001");
    CHECK(plain.received() == "closed 4001");
}

TEST_CASE("Session: what is sent before the login does not move the deadline") {
    GatewayWorld world;
    FakeClient& client = world.connect();
    world.advance(9s);
    client.send(R"({"type":5,"dataContent":"hello"})");
    client.heartbeat();
    CHECK(client.received() == "53 hello, 52 301");
    world.advance(1s);
    CHECK(client.received() == "closed 4001");
}

TEST_CASE(
    "Session: after a pause of the process the socket is read before the deadline is judged") {
    GatewayWorld world;
    FakeClient& quick = world.connect();
    FakeClient& silent = world.connect();
    world.pause(1min);
    quick.login({"alice"});
    CHECK(quick.received() == "50 0/0 accepted 0");
    world.advance(1s);
    CHECK(silent.received() == "closed 4001");
}

TEST_CASE("Session: a login under decision has met the deadline") {
    GatewayWorld world;
    world.hold();
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    world.advance(30s);
    CHECK(alice.received() == "");
    world.release();
    CHECK(alice.received() == "50 0/0 accepted 0");
}

TEST_CASE("Session: a v1 packet of type 1, 2 or 4 before the login is told 301 with its text") {
    GatewayWorld world;
    FakeClient& client = world.connect();
    std::string text;
    SUBCASE("heartbeat") { text = R"({"type":1,"dataContent":"{}"})"; }
    SUBCASE("message") {
        text = R"({"type":2,"dataContent":"x","to":"b","fp":"a","Qos":true,"seq":1})";
    }
    SUBCASE("ack") { text = R"({"type":4,"h":0})"; }
    client.send(text);
    CHECK(client.last<ErrorPacket>().code == 301);
    CHECK(client.last<ErrorPacket>().message == text);
    CHECK_FALSE(client.is_closed());
}

TEST_CASE("Session: a logout before the login just closes") {
    GatewayWorld world;
    FakeClient& client = world.connect();
    client.send(R"({"type":3})");
    CHECK(client.received() == "closed 1000");
}

TEST_CASE("Session: a logout ends the session") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.send(R"({"type":3})");
    CHECK(alice.received() == "closed 1000");
    CHECK(world.router().user_count() == 0);
}

TEST_CASE("Session: packets behind a login under decision wait for it, in order") {
    GatewayWorld world;
    FakeClient& bob = world.online({"bob"});
    world.hold();
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    alice.say({"a", 1});
    alice.say({"b", 2});
    alice.heartbeat();
    CHECK(alice.received() == "");

    world.release();

    CHECK(alice.received() == "50 0/0 accepted 0, 51 sent0 rx2 h0, 54 h2 acc 1@1 2@2");
    CHECK(bob.received() == "2 a@1, 2 b@2");
}

TEST_CASE("Session: 64 packets may wait behind a login, one more is a violation") {
    GatewayWorld world;
    world.hold();
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    for (int i = 0; i < 64; ++i) alice.heartbeat();
    CHECK_FALSE(alice.is_closed());
    alice.heartbeat();
    CHECK(alice.received() == "closed 4006");
    world.release();
    CHECK(world.router().user_count() == 0);
}

TEST_CASE("Session: packets behind a login that is refused are dropped") {
    GatewayWorld world;
    world.hold();
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    alice.say({"a", 1});
    world.set_failing(true);
    world.release();
    CHECK(alice.received() == "50 503 retry after 1000, closed 4001");
    CHECK(world.appends.empty());
}

TEST_CASE("Session: a client that is gone before the decision leaves nothing behind") {
    GatewayWorld world;
    world.hold();
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    alice.drop();
    world.release();
    CHECK(world.router().user_count() == 0);
    CHECK(world.router().session_count() == 0);
}

// ---- several logins ----

TEST_CASE("Session: a second login of the same user, app and device refreshes the token") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.received();
    alice.login({"alice"});
    CHECK(alice.last<LoginResponse>().code == 0);
    alice.received();
    alice.say({"b", 2});
    CHECK(alice.received() == "54 h2 acc 2@2");
    CHECK(world.opens.size() == 1);
}

TEST_CASE("Session: a refresh that is refused changes nothing") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.verdict = {401, "bad"};
    alice.login({"alice"});
    CHECK(alice.last<LoginResponse>().code == 401);
    alice.received();
    alice.say({"a", 1});
    CHECK(alice.received() == "54 h1 acc 1@1");
}

TEST_CASE("Session: a second login by anybody else is told 306") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    LoginAs other{"alice"};
    SUBCASE("user") { other.user = "bob"; }
    SUBCASE("device") { other.device = "laptop"; }
    SUBCASE("app") { other.app = "another"; }
    alice.login(other);
    CHECK(alice.received() == "52 306");
    CHECK(alice.session().state() == Session::State::kOnline);
}

TEST_CASE("Session: a second login behind one under decision is a refresh too") {
    GatewayWorld world;
    world.hold();
    FakeClient& alice = world.connect();
    alice.login({"alice"});
    alice.login({"alice"});
    world.release();
    CHECK(alice.texts().size() == 2);
    CHECK(alice.session().state() == Session::State::kOnline);
}

TEST_CASE("Session: logins of one user are decided one after the other") {
    GatewayWorld world;
    world.hold();
    FakeClient& first = world.connect();
    FakeClient& second = world.connect();
    FakeClient& third = world.connect();
    first.login({"alice"});
    second.login({"alice"});
    third.login({"alice"});
    world.release();
    CHECK(first.received() == "50 0/0 accepted 0, 55 1 phone, closed 4004");
    CHECK(second.received() == "50 0/0 accepted 0, 55 1 phone, closed 4004");
    CHECK(third.received() == "50 0/0 accepted 0");
}

TEST_CASE("Session: beyond 16 waiting logins of one user the next is told to come again") {
    GatewayWorld world;
    world.hold();
    for (int i = 0; i < 17; ++i) world.connect().login({"alice", "device-" + std::to_string(i)});
    FakeClient& late = world.connect();
    late.login({"alice", "late"});
    CHECK(late.received() == "50 503 retry after 1000, closed 4001");
    world.release();
    CHECK(world.router().session_count() == 17);
}

TEST_CASE("Session: users of different apps never see one another") {
    GatewayWorld world;
    LoginAs bob{"bob"};
    bob.app = "other";
    FakeClient& other_bob = world.online(bob);
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.say(no_qos("n"));
    CHECK(alice.received() == "54 h1 acc 1@1");
    CHECK(other_bob.received() == "");
}

// ---- resuming ----

TEST_CASE("Session: a device that comes back without a cursor resumes behind what it acked") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    for (Position i = 1; i <= 3; ++i) alice.say({"m" + std::to_string(i), i});
    bob.ack(2);
    bob.drop();
    FakeClient& again = world.connect();
    again.login({"bob"});
    CHECK(again.received() == "50 2/3 accepted 0, 2 m3@3");
}

TEST_CASE("Session: a cursor decides where the pushes go on") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    for (Position i = 1; i <= 3; ++i) alice.say({"m" + std::to_string(i), i});
    LoginAs as{"bob"};
    as.inbox = InboxCursor{bob.last<LoginResponse>().v1->inbox.epoch, 1, fp("m1")};
    bob.drop();
    FakeClient& again = world.connect();
    again.login(as);
    CHECK(again.received() == "50 1/3 accepted 0, 2 m2@2, 2 m3@3");
}

TEST_CASE("Session: a cursor of another epoch is not recovered") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"m1", 1});
    LoginAs as{"bob"};
    as.inbox = InboxCursor{"another-epoch", 1, fp("m1")};
    FakeClient& bob = world.connect();
    bob.login(as);
    CHECK(bob.received() == "50 0/1 accepted 0 break, 2 m1@1");
}

TEST_CASE("Session: the outbox stream goes on behind what was accepted") {
    GatewayWorld world;
    LoginAs as{"alice"};
    as.stream = "s";
    FakeClient& alice = world.online(as);
    alice.say({"a", 1});
    alice.say({"b", 2});
    alice.drop();
    FakeClient& again = world.connect();
    again.login(as);
    again.say({"c", 3});
    CHECK(again.received() == "50 0/0 accepted 2, 54 h3 acc 3@3");
}

TEST_CASE("Session: the stream is taken up behind first when the store knows less") {
    GatewayWorld world;
    LoginAs as{"alice"};
    as.first = 6;
    FakeClient& alice = world.connect();
    alice.login(as);
    alice.say({"f", 6});
    CHECK(alice.received() == "50 0/0 accepted 0, 54 h6 acc 1@6");
}

TEST_CASE("Session: the login is answered when earlier appends of the device are decided") {
    GatewayWorld world;
    LoginAs as{"alice"};
    as.stream = "s";
    FakeClient& alice = world.online(as);
    world.hold();
    alice.say({"a", 1});
    FakeClient& again = world.connect();
    again.login(as);
    world.release();
    CHECK(again.received() == "50 0/0 accepted 1");
}
