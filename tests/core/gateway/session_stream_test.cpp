// PROTOCOL.md section 4, client to gateway: positions, acks, gaps, refusals, dedup, windows.

#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <string>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

Message with_prev(const std::string& name, Position seq, Position prev) {
    Message message{name, seq};
    message.prev = prev;
    return message;
}

Message forged(const std::string& name, Position seq) {
    Message message{name, seq};
    message.from = "mallory";
    return message;
}

Message with_text(const std::string& name, Position seq, const std::string& text) {
    Message message{name, seq};
    message.text = text;
    return message;
}

Message to_group(const std::string& name, Position seq) {
    Message message{name, seq, "g1"};
    message.typeu = kTypeuGroup;
    return message;
}

GatewayWorld::Options with_session(const SessionOptions& session) {
    GatewayWorld::Options options;
    options.session = session;
    return options;
}

}  // namespace

// ---- positions and acks ----

TEST_CASE("Session: a message is acked with its cseq and sendTs") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    const Ack ack = alice.last<Ack>();
    CHECK(ack.h == 1);
    REQUIRE(ack.acc.size() == 1);
    CHECK(ack.acc[0].cseq == 1);
    CHECK(ack.acc[0].send_ts == world.wall_ms());
    CHECK(ack.acc[0].seq == 1);
}

TEST_CASE("Session: nothing is acked before the commit") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.hold();
    alice.say({"a", 1});
    alice.say({"b", 2});
    alice.say({"a", 1});
    alice.heartbeat(2, 0, 0);
    CHECK(alice.received() == "54 h0, 51 sent0 rx2 h0");
    world.commit();
    CHECK(alice.received() == "54 h2 acc 1@1 2@2");
}

TEST_CASE("Session: one ack covers what one turn brought") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.hold();
    for (Position i = 1; i <= 5; ++i) alice.say({"m" + std::to_string(i), i});
    world.commit();
    CHECK(alice.received() == "54 h5 acc 1@1 2@2 3@3 4@4 5@5");
}

TEST_CASE("Session: prev tells of positions that the client has skipped") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.say(with_prev("b", 4, 1));
    alice.say(with_prev("c", 9, 2));
    CHECK(alice.received() == "54 h1 acc 1@1, 54 h4 acc 2@4, 54 h9 acc 3@9");
}

TEST_CASE("Session: a duplicate by position is dropped and h said again") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    alice.say({"a", 1});
    CHECK(alice.received() == "54 h1 acc 1@1, 54 h1");
    CHECK(bob.received() == "2 a@1");
}

TEST_CASE("Session: QoS=false has no position and gets no ack") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    Message message = no_qos("n");
    message.seq = 1;
    alice.say(message);
    alice.say({"a", 1});
    CHECK(alice.received() == "54 h1 acc 1@1");
    CHECK(bob.received() == "2 n, 2 a@1");
    CHECK_FALSE(bob.texts()[bob.texts().size() - 2].find("sendTs") == std::string::npos);
}

TEST_CASE("Session: QoS=false to nobody online is gone") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say(no_qos("n"));
    FakeClient& bob = world.connect();
    bob.login({"bob"});
    CHECK(bob.received() == "50 0/0 accepted 0");
    CHECK(alice.received() == "");
}

TEST_CASE("Session: a message with QoS and without a fingerprint or position is code 4") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    Message message{"a", 1};
    SUBCASE("fingerprint") { message = Message{"", 1, "bob", std::nullopt, "text"}; }
    SUBCASE("position") { message.seq = 0; }
    alice.say(message);
    CHECK(alice.last<ErrorPacket>().code == 4);
    CHECK_FALSE(alice.is_closed());
    CHECK(world.appends.empty());
}

TEST_CASE("Session: positions up to 2^53 - 1 are taken") {
    GatewayWorld world;
    LoginAs as{"alice"};
    as.first = kNumberMax;
    FakeClient& alice = world.online(as);
    alice.say({"a", kNumberMax});
    CHECK(alice.received() == "54 h9007199254740991 acc 1@9007199254740991");
}

// ---- gaps ----

TEST_CASE("Session: a gap is answered at once, then at most every 250 ms") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.received();
    alice.say({"c", 3});
    CHECK(alice.received() == "54 h1 gap rx1");
    alice.say({"d", 4});
    world.advance(249ms);
    alice.say({"e", 5});
    CHECK(alice.received() == "");
    world.advance(1ms);
    alice.say({"f", 6});
    CHECK(alice.received() == "54 h1 gap rx1");
}

TEST_CASE("Session: a gap is answered at once again when rx has moved") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"b", 2});
    CHECK(alice.received() == "54 h0 gap rx0");
    alice.say({"a", 1});
    alice.say({"c", 3});
    CHECK(alice.received() == "54 h1 acc 1@1, 54 h1 gap rx1");
}

TEST_CASE("Session: a gap tells what was taken and not yet accepted") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.hold();
    alice.say({"a", 1});
    alice.say({"c", 3});
    CHECK(alice.received() == "54 h0 gap rx1");
}

TEST_CASE("Session: a sent mark above rx is answered with a gap") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.received();
    alice.heartbeat(3, 0, 0);
    CHECK(alice.received() == "54 h1 gap rx1, 51 sent0 rx1 h1");
    alice.heartbeat(1, 0, 0);
    CHECK(alice.received() == "51 sent0 rx1 h1");
}

TEST_CASE("Session: a sent mark and a missing position share one rate limit") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"b", 2});
    alice.heartbeat(2, 0, 0);
    CHECK(alice.received() == "54 h0 gap rx0, 51 sent0 rx0 h0");
}

TEST_CASE("Session: a position from the far future is a gap like any other") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", kNumberMax});
    CHECK(alice.received() == "54 h0 gap rx0");
    alice.say({"b", 1});
    CHECK(alice.received() == "54 h1 acc 1@1");
}

TEST_CASE("Session: a heartbeat's answer does not take the details from the ack") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.hold();
    alice.say({"a", 1});
    world.in_one_turn([&] {
        world.commit();
        alice.heartbeat(1, 0, 0);
    });
    CHECK(alice.received() == "54 h1 acc 1@1, 51 sent0 rx1 h1");
}

// ---- dedup and refusals ----

TEST_CASE("Session: the same fingerprint again is acked with the original's numbers") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    alice.say({"b", 2});
    world.advance(1s);
    alice.say({"a", 3});
    CHECK(alice.received() == "54 h1 acc 1@1, 54 h2 acc 2@2, 54 h3 acc 1@3");
    CHECK(alice.last<Ack>().acc[0].send_ts == world.wall_ms() - 1000);
    CHECK(bob.received() == "2 a@1, 2 b@2");
}

TEST_CASE("Session: a fingerprint with another payload is 305 and settles nothing else") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.received();
    SUBCASE("text") { alice.say(with_text("a", 2, "other")); }
    SUBCASE("to") { alice.say({"a", 2, "carol"}); }
    SUBCASE("typeu") {
        Message message{"a", 2};
        message.typeu = 7;
        alice.say(message);
    }
    CHECK(alice.received() == "52 305 a@2");
    alice.say(with_prev("b", 3, 1));
    CHECK(alice.received() == "54 h3 acc 2@3");
}

TEST_CASE("Session: a fingerprint is the sender's own") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& carol = world.online({"carol"});
    alice.say({"a", 1});
    carol.say(with_text("a", 1, "carol's"));
    CHECK(carol.received() == "54 h1 acc 1@1");
}

TEST_CASE("Session: each refusal names its message and has its code") {
    SessionOptions session;
    session.payload_max = 10;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    Message message{"a", 1};
    std::string expected;
    SUBCASE("forged from") {
        message = forged("a", 1);
        expected = "52 306 a@1";
    }
    SUBCASE("too large") {
        message = with_text("a", 1, std::string(11, 'x'));
        expected = "52 304 a@1";
    }
    SUBCASE("group") {
        message = to_group("a", 1);
        expected = "52 303 a@1";
    }
    SUBCASE("to nobody") {
        message.to = "-1";
        expected = "52 4 a@1";
    }
    SUBCASE("to \"\"") {
        message.to = "";
        expected = "52 4 a@1";
    }
    alice.say(message);
    CHECK(alice.received() == expected);
    CHECK_FALSE(alice.last<ErrorPacket>().message.empty());
}

TEST_CASE("Session: a forged from without QoS is refused, too, and reaches nobody") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    Message message = no_qos("a");
    for (const char* name : {"bob", "mallory", "0", "Alice", "alice "}) {
        message.from = name;
        alice.say(message);
        CHECK(alice.last<ErrorPacket>().code == 306);
    }
    CHECK(bob.received() == "");
}

TEST_CASE("Session: from may be left out, nobody's, or one's own") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    Message message{"a", 1};
    SUBCASE("absent") {}
    SUBCASE("-1") { message.from = "-1"; }
    SUBCASE("own") { message.from = "alice"; }
    alice.say(message);
    CHECK(alice.received() == "54 h1 acc 1@1");
    CHECK(bob.last<Data>().from == "alice");
}

TEST_CASE("Session: a payload of exactly the maximum is taken") {
    SessionOptions session;
    session.payload_max = 10;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    alice.say(with_text("a", 1, std::string(10, 'x')));
    CHECK(alice.received() == "54 h1 acc 1@1");
}

TEST_CASE("Session: the dedup key comes before every other check") {
    SessionOptions session;
    session.payload_max = 10;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.received();
    SUBCASE("a forged copy of an accepted message is a duplicate") {
        alice.say(forged("a", 2));
        CHECK(alice.received() == "54 h2 acc 1@2");
    }
    SUBCASE("a too large payload under a used fingerprint is 305") {
        alice.say(with_text("a", 2, std::string(11, 'x')));
        CHECK(alice.received() == "52 305 a@2");
    }
    SUBCASE("a group under a used fingerprint is 305") {
        alice.say(to_group("a", 2));
        CHECK(alice.received() == "52 305 a@2");
    }
}

TEST_CASE("Session: a refused fingerprint is not used up") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say(to_group("a", 1));
    alice.say(with_prev("a", 2, 0));
    CHECK(alice.received() == "52 303 a@1, 54 h2 acc 1@2");
}

TEST_CASE("Session: the stream stands still at a refused position until the client goes on") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.say(to_group("b", 2));
    alice.received();
    alice.say({"c", 3});
    CHECK(alice.received() == "54 h1 gap rx1");
    alice.say(with_prev("c", 3, 1));
    CHECK(alice.received() == "54 h3 acc 2@3");
}

TEST_CASE("Session: what was under way behind a refused position is not taken") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    world.hold();
    alice.say({"a", 1});
    alice.say(to_group("b", 2));
    alice.say({"c", 3});
    alice.say({"d", 4});
    world.release();
    CHECK(alice.received() == "52 303 b@2, 54 h1 acc 1@1");
    CHECK(bob.received() == "2 a@1");
    alice.say(with_prev("c", 3, 1));
    alice.say({"d", 4});
    CHECK(alice.received() == "54 h3 acc 2@3, 54 h4 acc 3@4");
    CHECK(bob.received() == "2 c@2, 2 d@3");
}

TEST_CASE("Session: what skips a position under way is not taken when that one is refused") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    alice.received();
    world.hold();
    alice.say(to_group("b", 2));
    alice.say(with_prev("c", 3, 1));  // "b" expired meanwhile.
    world.release();
    CHECK(alice.received() == "52 303 b@2");
    alice.say(with_prev("c", 3, 1));
    CHECK(alice.received() == "54 h3 acc 2@3");
    CHECK(bob.received() == "2 a@1, 2 c@2");
}

TEST_CASE("Session: a refused position and any below get the same 52 again until rx has passed") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.say(to_group("d", 4));
    CHECK(alice.received() == "54 h1 acc 1@1, 54 h1 gap rx1");
    Message refused = to_group("d", 4);
    refused.prev = 1;
    alice.say(refused);
    CHECK(alice.received() == "52 303 d@4");
    alice.say(refused);
    alice.say({"b", 2});
    alice.say(with_prev("c", 3, 1));
    CHECK(alice.received() == "52 303 d@4, 52 303 d@4, 52 303 d@4");
    alice.say({"a", 1});
    CHECK(alice.received() == "54 h1");
    alice.say(with_prev("e", 5, 1));
    CHECK(alice.received() == "54 h5 acc 2@5");
    alice.say(refused);
    CHECK(alice.received() == "54 h5");
}

TEST_CASE("Session: several refusals in a row are settled one by one") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say(to_group("a", 1));
    Message second = to_group("b", 2);
    second.prev = 0;
    alice.say(second);
    alice.say(with_prev("c", 3, 0));
    CHECK(alice.received() == "52 303 a@1, 52 303 b@2, 54 h3 acc 1@3");
}

TEST_CASE("Session: a refusal of a message without QoS has no position") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    Message message = no_qos("n");
    message.from = "mallory";
    alice.say(message);
    alice.say({"a", 1});
    CHECK(alice.last<ErrorPacket>().code == 306);
    CHECK_FALSE(alice.last<ErrorPacket>().seq.has_value());
    CHECK(alice.last<Ack>().h == 1);
}

TEST_CASE("Session: an inbox full of what nobody has handled is 308") {
    GatewayWorld::Options options;
    options.store.inbox_max = 1;
    GatewayWorld world(options);
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    alice.say({"b", 2});
    CHECK(alice.received() == "54 h1 acc 1@1, 52 308 b@2");
    bob.ack(1);
    alice.say(with_prev("c", 3, 1));
    CHECK(alice.received() == "56 u:alice:bob 1 by bob, 54 h3 acc 2@3");
}

// ---- busy ----

TEST_CASE("Session: a full store queue is 302 with a pause, and nothing is lost") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.received();
    world.set_full(true);
    alice.say({"b", 2});
    CHECK(alice.received() == "52 302 b@2 after 1000");
    alice.say({"c", 3});
    CHECK(alice.received() == "54 h1 gap rx1");
    world.set_full(false);
    alice.say({"b", 2});
    CHECK(alice.received() == "54 h2 acc 2@2");
}

TEST_CASE("Session: a commit that failed is 302 from its first position and uses no number up") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    world.hold();
    alice.say({"a", 1});
    alice.say({"b", 2});
    alice.say({"c", 3});
    world.set_failing(true);
    world.release();
    CHECK(alice.received() == "52 302 a@1 after 1000");
    world.set_failing(false);
    alice.say({"a", 1});
    alice.say({"b", 2});
    CHECK(alice.received() == "54 h1 acc 1@1, 54 h2 acc 2@2");
    CHECK(bob.received() == "2 a@1, 2 b@2");
}

TEST_CASE("Session: a commit that failed gives back what was taken behind what is accepted") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.hold();
    alice.say({"a", 1});
    world.commit();
    alice.received();
    alice.say({"b", 2});
    alice.say({"c", 3});
    world.set_next_fate(AppendResult::Fate::kFailed);
    world.commit();
    CHECK(alice.received() == "52 302 b@2 after 1000");
    alice.heartbeat(3, 0, 0);
    CHECK(alice.received() == "54 h1 gap rx1, 51 sent0 rx1 h1");
    alice.say({"b", 2});
    alice.say({"c", 3});
    world.release();
    CHECK(alice.received() == "54 h3 acc 2@2 3@3");
}

TEST_CASE("Session: a refused position and a failed commit behind it do not mix") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say(to_group("a", 1));
    alice.received();
    world.set_full(true);
    alice.say(with_prev("b", 2, 0));
    CHECK(alice.received() == "52 302 b@2 after 1000");
    world.set_full(false);
    alice.say(with_prev("b", 2, 0));
    CHECK(alice.received() == "54 h2 acc 1@2");
}

TEST_CASE("Session: 302 is told for the retry time that the options say") {
    SessionOptions session;
    session.busy_retry_ms = 0;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    world.set_full(true);
    alice.say({"a", 1});
    CHECK(alice.received() == "52 302 a@1 after 0");
}

TEST_CASE("Session: a stream that the store stands elsewhere in is taken up by a new login") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.received();
    world.set_next_fate(AppendResult::Fate::kNotTaken);
    alice.say({"b", 2});
    CHECK(alice.received() == "closed 1001");
}

TEST_CASE("Session: a stream that was forgotten goes on where its session stands") {
    GatewayWorld::Options options;
    options.store.device_retention = 1h;
    GatewayWorld world(options);
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.say({"b", 2});
    for (int minute = 0; minute < 2 * 60; ++minute) {
        world.advance(1min);
        alice.heartbeat(2, 0, 0);
    }
    world.trim();
    alice.received();
    SUBCASE("message by message") {
        alice.say({"c", 3});
        alice.say({"d", 4});
        CHECK(alice.received() == "54 h3 acc 3@3, 54 h4 acc 4@4");
    }
    SUBCASE("and what is behind a refused one is not taken") {
        world.hold();
        alice.say(to_group("c", 3));
        alice.say({"d", 4});
        world.release();
        CHECK(alice.received() == "52 303 c@3");
    }
}

// ---- the gateway's window ----

TEST_CASE("Session: what goes far over the window of undecided packets is 302") {
    SessionOptions session;
    session.window = 1;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    world.hold();
    for (Position i = 1; i <= 3; ++i) alice.say({"m" + std::to_string(i), i});
    CHECK(alice.received() == "52 302 m3@3 after 1000");
    world.release();
    CHECK(alice.received() == "54 h2 acc 1@1 2@2");
}

TEST_CASE("Session: what goes far over the window of undecided bytes is 302, but one always fits") {
    SessionOptions session;
    session.window_bytes = 1;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    world.hold();
    alice.say({"a", 1});
    alice.say({"b", 2});
    CHECK(alice.received() == "52 302 b@2 after 1000");
    world.release();
    CHECK(alice.received() == "54 h1 acc 1@1");
}

TEST_CASE("Session: the windows of the options are told in the reply") {
    SessionOptions session;
    session.window = 7;
    session.window_bytes = 7000;
    session.heartbeat = 3s;
    session.payload_max = 99;
    session.dedup_horizon_ms = 5;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    const LoginReplyV1 reply = *alice.last<LoginResponse>().v1;
    CHECK(reply.window == 7);
    CHECK(reply.window_bytes == 7000);
    CHECK(reply.heartbeat_ms == 3000);
    CHECK(reply.max_payload == 99);
    CHECK(reply.dedup_horizon_ms == 5);
}

// ---- conversations ----

TEST_CASE("Session: both sides of a conversation count with one cseq") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    bob.say({"b", 1, "alice"});
    CHECK(bob.received() == "2 a@1, 54 h1 acc 2@1");
    CHECK(alice.received() == "54 h1 acc 1@1, 2 b@1");
    CHECK(alice.last<Data>().conv == "u:alice:bob");
    CHECK(alice.last<Data>().cseq == 2);
    CHECK(alice.last<Data>().send_ts == world.wall_ms());
}

TEST_CASE("Session: a message to oneself enters one's own inbox, others do not") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1, "alice"});
    alice.say({"b", 2, "bob"});
    CHECK(alice.received() == "2 a@1, 54 h1 acc 1@1, 54 h2 acc 1@2");
}

TEST_CASE("Session: the app's typeu and text pass untouched") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.send(R"({"type":2,"dataContent":"\u0000\"\\\u00e9","to":"bob","fp":"a","Qos":true,)"
               R"("typeu":4711,"bridge":true,"seq":1})");
    const Data data = bob.last<Data>();
    CHECK(data.text == std::string("\0\"\\\xc3\xa9", 5));
    CHECK(data.typeu == 4711);
    CHECK(data.bridge);
}
