// PROTOCOL.md section 4, gateway to client: pushes, acks, windows, receipts, liveness, draining.

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <ostream>
#include <string>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

GatewayWorld::Options with_session(const SessionOptions& session) {
    GatewayWorld::Options options;
    options.session = session;
    return options;
}

LoginAs with_window(const std::string& user, std::uint32_t window,
                    std::uint32_t window_bytes = 1 << 20) {
    LoginAs as{user};
    as.window = window;
    as.window_bytes = window_bytes;
    return as;
}

// m<first>..m<last> from alice to bob.
void say_many(FakeClient& alice, Position first, Position last, std::size_t bytes = 0) {
    for (Position i = first; i <= last; ++i) {
        Message message{"m" + std::to_string(i), i};
        message.text = std::string(bytes, 'x');
        alice.say(message);
    }
}

std::size_t pushed(FakeClient& bob) {
    const std::string told = bob.received();
    std::size_t count = 0;
    for (std::size_t at = told.find("2 m"); at != std::string::npos;
         at = told.find("2 m", at + 1)) {
        ++count;
    }
    return count;
}

}  // namespace

// ---- pushes and acks ----

TEST_CASE("Session: a pushed message carries what the receiver needs") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    const Data data = bob.last<Data>();
    CHECK(data.from == "alice");
    CHECK(data.to == "bob");
    CHECK(data.fp == fp("a"));
    CHECK(data.qos);
    CHECK(data.text == "a");
    CHECK(data.seq == 1);
    CHECK(data.conv == "u:alice:bob");
    CHECK(data.cseq == 1);
    CHECK(data.send_ts == world.wall_ms());
}

TEST_CASE("Session: nothing is pushed before its commit") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    world.hold();
    alice.say({"a", 1});
    CHECK(bob.received() == "");
    world.commit();
    CHECK(bob.received() == "2 a@1");
}

TEST_CASE("Session: every device of a user gets every message") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& phone = world.online({"bob", "phone"});
    FakeClient& laptop = world.online({"bob", "laptop"});
    alice.say({"a", 1});
    CHECK(phone.received() == "2 a@1");
    CHECK(laptop.received() == "2 a@1");
}

TEST_CASE("Session: what came while a device was offline is pushed in order at its login") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    say_many(alice, 1, 100);
    FakeClient& bob = world.connect();
    bob.login(with_window("bob", 1000));
    const std::string told = bob.received();
    CHECK(told.substr(0, 30) == "50 0/100 accepted 0, 2 m1@1, 2");
    CHECK(bob.last<Data>().seq == 100);
}

TEST_CASE("Session: no timer pushes anything again on a live link") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    bob.received();
    for (int i = 0; i < 6; ++i) {
        world.advance(10s);
        bob.heartbeat(0, 0, 0);
    }
    CHECK(bob.received().find("2 a") == std::string::npos);
}

TEST_CASE("Session: an ack moves the device's cursor") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    say_many(alice, 1, 3);
    bob.ack(2);
    REQUIRE(world.cursor_updates.size() == 1);
    CHECK(world.cursor_updates[0].device == "phone");
    CHECK(world.cursor_updates[0].position == 2);
    CHECK_FALSE(world.cursor_updates[0].is_plain);
}

TEST_CASE("Session: an ack rides in a message or a heartbeat, too") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    say_many(alice, 1, 2);
    Message message{"b", 1, "alice"};
    SUBCASE("with QoS") {
        message.h = 2;
        bob.say(message);
    }
    SUBCASE("without QoS") {
        message = no_qos("b", "alice");
        message.h = 2;
        bob.say(message);
    }
    SUBCASE("heartbeat") { bob.heartbeat(0, 2, 2); }
    REQUIRE(world.cursor_updates.size() == 1);
    CHECK(world.cursor_updates[0].position == 2);
}

TEST_CASE("Session: an ack lower than before is ignored") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    say_many(alice, 1, 3);
    bob.ack(3);
    bob.ack(1);
    bob.heartbeat(0, 3, 0);
    CHECK(world.cursor_updates.size() == 1);
    CHECK_FALSE(bob.is_closed());
}

TEST_CASE("Session: h above what was pushed is a violation") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    say_many(alice, 1, 2);
    bob.received();
    SUBCASE("ack") { bob.ack(3); }
    SUBCASE("heartbeat") { bob.heartbeat(0, 3, 3); }
    SUBCASE("riding") {
        Message message{"b", 1, "alice"};
        message.h = 3;
        bob.say(message);
    }
    SUBCASE("riding without QoS") {
        Message message = no_qos("b", "alice");
        message.h = 3;
        bob.say(message);
    }
    SUBCASE("gap") { bob.gap(3, 3); }
    SUBCASE("2^53 - 1") { bob.ack(kNumberMax); }
    CHECK(bob.received() == "closed 4006");
    CHECK(world.cursor_updates.empty());
    CHECK(alice.received().find("56") == std::string::npos);
}

TEST_CASE("Session: h at the resume position is no violation") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    say_many(alice, 1, 2);
    bob.ack(2);
    bob.drop();
    FakeClient& again = world.online({"bob"});
    again.ack(2);
    CHECK_FALSE(again.is_closed());
    again.ack(3);
    CHECK(again.received() == "closed 4006");
}

TEST_CASE("Session: h of what the window still holds back is a violation") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 1));
    say_many(alice, 1, 2);
    bob.received();
    bob.ack(2);
    CHECK(bob.received() == "closed 4006");
}

TEST_CASE("Session: a gap makes the gateway go back to the first behind rx") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    say_many(alice, 1, 4);
    bob.received();
    bob.gap(1, 2);
    CHECK(bob.received() == "2 m3@3, 2 m4@4");
}

TEST_CASE("Session: a heartbeat tells what was sent") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 2));
    say_many(alice, 1, 5);
    bob.received();
    bob.heartbeat(0, 0, 0);
    CHECK(bob.received() == "51 sent2 rx0 h0");
}

TEST_CASE("Session: a heartbeat without positions is answered with them") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    alice.received();
    alice.heartbeat();
    CHECK(alice.received() == "51 sent0 rx1 h1");
}

TEST_CASE("Session: the gateway's first sent mark is the resume position") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    say_many(alice, 1, 2);
    bob.ack(2);
    bob.drop();
    FakeClient& again = world.online({"bob"});
    again.heartbeat(0, 2, 2);
    CHECK(again.received() == "51 sent2 rx0 h0");
}

// ---- the client's window ----

TEST_CASE("Session: as many packets as the client's window are under way") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 2));
    say_many(alice, 1, 5);
    CHECK(bob.received() == "2 m1@1, 2 m2@2");
    bob.ack(1);
    CHECK(bob.received() == "2 m3@3");
    bob.ack(3);
    CHECK(bob.received() == "2 m4@4, 2 m5@5");
}

TEST_CASE("Session: window 0 is pushed nothing, and still may send") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    say_many(alice, 1, 1);
    FakeClient& bob = world.connect();
    bob.login(with_window("bob", 0));
    say_many(alice, 2, 2);
    bob.say({"b", 1, "carol"});
    CHECK(bob.received() == "50 0/1 accepted 0, 54 h1 acc 1@1");
    CHECK(world.reads.empty());
}

TEST_CASE("Session: a window of bytes lets one packet through, whatever its size") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 64, 0));
    say_many(alice, 1, 3, 1000);
    CHECK(bob.received() == "2 m1@1");
    bob.ack(1);
    CHECK(bob.received() == "2 m2@2");
}

TEST_CASE("Session: the window of bytes counts frames") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 64, 3000));
    say_many(alice, 1, 5, 1000);
    CHECK(bob.received() == "2 m1@1, 2 m2@2");
}

TEST_CASE("Session: whatever window the client asks for, what is kept for it is bounded") {
    SessionOptions session;
    session.push_packets_max = 1'000'000;
    session.push_bytes_max = std::size_t{1} << 30;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 0xffffffffU, 0xffffffffU));
    say_many(alice, 1, 3000);
    CHECK(pushed(bob) == session.push_window_max);
    bob.ack(100);
    CHECK(pushed(bob) == 100);
}

TEST_CASE("Session: a device far behind is served from the store page by page") {
    SessionOptions session;
    session.feed.queue_max = 4;
    GatewayWorld world(with_session(session));
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 2));
    say_many(alice, 1, 300);
    Position handled = 0;
    while (handled < 300) {
        const Data last = bob.last<Data>();
        REQUIRE(last.seq > handled);
        handled = last.seq;
        bob.ack(handled);
    }
    Position expected = 1;
    for (const Decoded& decoded : bob.packets()) {
        if (const Data* data = std::get_if<Data>(&decoded.packet)) CHECK(data->seq == expected++);
    }
    CHECK(expected == 301);
}

TEST_CASE("Session: a page that could not be read is read again") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    say_many(alice, 1, 2);
    FakeClient& bob = world.connect();
    world.hold();
    bob.login({"bob"});
    world.commit();
    SUBCASE("the store failed") { world.set_failing(true); }
    SUBCASE("the store is full") {
        world.set_full(true);
        bob.drop();
        return;
    }
    world.release();
    world.set_failing(false);
    CHECK(bob.received() == "50 0/2 accepted 0");
    bob.heartbeat();
    CHECK(bob.received() == "51 sent0 rx0 h0, 2 m1@1, 2 m2@2");
}

TEST_CASE("Session: when what was still to come is gone the client has to log in again") {
    GatewayWorld::Options options;
    options.store.message_retention = 10s;
    options.session.feed.queue_max = 128;
    GatewayWorld world(options);
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 1));
    say_many(alice, 1, 200);
    CHECK(bob.received() == "2 m1@1");
    world.advance(11s);
    world.trim();
    for (Position i = 1; !bob.is_closed() && i <= 200; ++i) bob.ack(i);
    CHECK(bob.close_code() == 1001);
    FakeClient& again = world.connect();
    again.login({"bob"});
    CHECK(again.received() == "50 200/200 accepted 0 break");
}

// ---- the socket's queue ----

TEST_CASE("Session: pushes wait while 256 packets are queued on the socket") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 1000));
    bob.stop_reading();
    say_many(alice, 1, 400);
    CHECK(pushed(bob) == 256);
    CHECK_FALSE(bob.is_closed());
    bob.start_reading();
    CHECK(pushed(bob) == 144);
}

TEST_CASE("Session: pushes wait while 256 KiB are queued on the socket") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 1000, 1 << 30));
    bob.stop_reading();
    say_many(alice, 1, 40, 60'000);
    CHECK(bob.queued_bytes() >= 256 * 1024);
    CHECK(bob.queued_bytes() < 256 * 1024 + 61'000);
    CHECK_FALSE(bob.is_closed());
    while (bob.queued_bytes() > 0) bob.read_bytes(bob.queued_bytes());
    bob.start_reading();
    CHECK(pushed(bob) == 40);
}

TEST_CASE("Session: more than 1 MiB queued of what cannot wait closes a slow reader") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.stop_reading();
    const std::string echo = R"({"type":5,"dataContent":")" + std::string(60'000, 'e') + "\"}";
    int count = 0;
    for (; !alice.is_closed() && count < 100; ++count) alice.send(echo);
    CHECK(alice.close_code() == 4005);
    CHECK(count == 18);
    bob.say({"b", 1, "carol"});
    CHECK(bob.received() == "54 h1 acc 1@1");
}

TEST_CASE("Session: a reader that takes nothing for 2.5 heartbeats is closed") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    bob.stop_reading();
    alice.say({"a", 1});
    for (int i = 0; i < 62; ++i) {
        world.advance(1s);
        alice.heartbeat();
        bob.send(R"({"type":77})");
    }
    CHECK_FALSE(bob.is_closed());
    world.advance(500ms);
    CHECK(bob.close_code() == 4005);
    CHECK_FALSE(alice.is_closed());
}

TEST_CASE("Session: a reader that takes a little now and then is not closed") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    bob.stop_reading();
    say_many(alice, 1, 50, 1000);
    for (int i = 0; i < 300; ++i) {
        world.advance(1s);
        if (i % 50 == 49) bob.read_bytes(100);
        bob.send(R"({"type":77})");
        alice.heartbeat();
    }
    CHECK_FALSE(bob.is_closed());
    CHECK(bob.queued_bytes() > 0);
}

TEST_CASE("Session: a slow reader is watched again after it had caught up") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online(with_window("bob", 1000));
    bob.stop_reading();
    say_many(alice, 1, 300);
    const auto pass = [&](Duration span) {
        for (Duration gone{0}; gone < span; gone += 500ms) {
            world.advance(500ms);
            bob.send(R"({"type":77})");
            alice.heartbeat();
        }
    };
    pass(62s);
    // It catches up while nothing but the drained event could wake the session.
    bob.read_bytes(bob.queued_bytes());
    CHECK(bob.queued_bytes() > 0);
    pass(130s);
    CHECK(bob.close_code() == 4005);
}

TEST_CASE("Session: after a pause of the process a reader may take first, then it is judged") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    bob.stop_reading();
    alice.say({"a", 1});
    world.pause(2min);
    CHECK_FALSE(bob.is_closed());
    bob.read_bytes(10);
    bob.heartbeat();
    world.advance(1s);
    CHECK_FALSE(bob.is_closed());
    for (int i = 0; i < 140; ++i) {
        world.advance(1s);
        bob.send(R"({"type":77})");
    }
    CHECK(bob.close_code() == 4005);
}

TEST_CASE("Session: a QoS=false message to a full socket is dropped") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    bob.stop_reading();
    Message message = no_qos("n");
    message.text = std::string(60'000, 'x');
    for (int i = 0; i < 100; ++i) alice.say(message);
    CHECK_FALSE(bob.is_closed());
    CHECK(bob.queued_bytes() < 400'000);
    CHECK(world.counters().direct_dropped > 90);
}

// ---- receipts ----

TEST_CASE("Session: the sender is told once how far the other side has handled") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& phone = world.online({"bob", "phone"});
    FakeClient& laptop = world.online({"bob", "laptop"});
    say_many(alice, 1, 3);
    alice.received();
    phone.ack(2);
    CHECK(alice.received() == "56 u:alice:bob 2 by bob");
    laptop.ack(2);
    CHECK(alice.received() == "");
    laptop.ack(3);
    CHECK(alice.received() == "56 u:alice:bob 3 by bob");
}

TEST_CASE("Session: one ack over several conversations tells each sender of its own") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& carol = world.online({"carol"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a1", 1});
    carol.say({"c1", 1});
    alice.say({"a2", 2});
    alice.received();
    carol.received();
    bob.ack(3);
    CHECK(alice.received() == "56 u:alice:bob 2 by bob");
    CHECK(carol.received() == "56 u:bob:carol 1 by bob");
}

TEST_CASE("Session: a receipt goes to all of the sender's v1 sessions, and to nobody offline") {
    GatewayWorld world;
    FakeClient& phone = world.online({"alice", "phone"});
    FakeClient& laptop = world.online({"alice", "laptop"});
    FakeClient& bob = world.online({"bob"});
    phone.say({"a", 1});
    phone.received();
    laptop.drop();
    bob.ack(1);
    CHECK(phone.received() == "56 u:alice:bob 1 by bob");
    FakeClient& back = world.connect();
    back.login({"alice", "laptop"});
    CHECK(back.received() == "50 0/0 accepted 0");
}

// ---- liveness ----

TEST_CASE("Session: a session silent for 2.5 heartbeats is closed") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.advance(62'400ms);
    CHECK(alice.received() == "");
    world.advance(101ms);
    CHECK(alice.received() == "closed 4002");
}

TEST_CASE("Session: any packet proves life") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    std::string text;
    SUBCASE("heartbeat") { text = R"({"type":1,"dataContent":"{}"})"; }
    SUBCASE("unknown type") { text = R"({"type":77})"; }
    SUBCASE("malformed") { text = "x"; }
    world.advance(60s);
    alice.send(text);
    world.advance(60s);
    CHECK_FALSE(alice.is_closed());
}

TEST_CASE("Session: what the gateway sends does not prove the client's life") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    for (Position i = 1; i <= 7; ++i) {
        world.advance(10s);
        alice.say({"m" + std::to_string(i), i});
    }
    CHECK(bob.close_code() == 4002);
}

// ---- rest ----

TEST_CASE("Session: a heartbeat frees what messages needed, once nothing is left of them") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    CHECK(bob.session().is_at_rest());
    alice.say({"a", 1});
    CHECK(bob.received() == "2 a@1");
    bob.heartbeat(0, 1, 0);
    CHECK(!bob.session().is_at_rest());  // It is unacked.
    bob.heartbeat(0, 1, 1);
    CHECK(bob.session().is_at_rest());
    alice.heartbeat(1, 0, 0);
    CHECK(alice.session().is_at_rest());
}

TEST_CASE("Session: both directions go on where they stood before the rest") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    bob.heartbeat(0, 1, 1);
    alice.heartbeat(1, 0, 0);
    bob.received();
    alice.received();
    SUBCASE("positions are told") {
        bob.heartbeat(0, 1, 1);
        alice.heartbeat(1, 0, 0);
        CHECK(bob.received() == "51 sent1 rx0 h0");
        CHECK(alice.received() == "51 sent0 rx1 h1");
        CHECK(alice.session().is_at_rest());
    }
    SUBCASE("messages") {
        alice.say({"b", 2});
        CHECK(alice.received() == "54 h2 acc 2@2");
        CHECK(bob.received() == "2 b@2");
    }
    SUBCASE("a repeated message is acked again") {
        alice.say({"a", 1});
        CHECK(alice.received() == "54 h1");
        CHECK(bob.received() == "");
    }
    SUBCASE("a gap is told") {
        alice.heartbeat(3, 0, 0);
        CHECK(alice.received() == "54 h1 gap rx1, 51 sent0 rx1 h1");
        CHECK(!alice.session().is_at_rest());
    }
    SUBCASE("an ack above what was pushed is a violation") {
        bob.heartbeat(0, 2, 2);
        CHECK(bob.close_code() == 4006);
    }
}

TEST_CASE("Session: there is no rest while the stream stands still at a refusal") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    Message refused{"a", 1};
    refused.from = "mallory";
    alice.say(refused);
    alice.heartbeat(1, 0, 0);
    CHECK(!alice.session().is_at_rest());
    alice.say({"b", 2, "bob", 0});
    alice.heartbeat(2, 0, 0);
    CHECK(alice.session().is_at_rest());
}

// ---- the end ----

TEST_CASE("Session: draining closes 4007 with a time window in milliseconds") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& fresh = world.connect();
    FakeClient& plain = world.online_im_sdk("bob");
    world.drain();
    CHECK(alice.close_code() == 4007);
    CHECK(alice.close_reason() == "5000");
    CHECK(fresh.close_code() == 4007);
    CHECK(plain.close_code() == 1001);
    CHECK(world.router().session_count() == 0);
    CHECK(world.router().user_count() == 0);
}

TEST_CASE("Session: draining says what is accepted before it closes") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.hold();
    alice.say({"a", 1});
    world.in_one_turn([&] {
        world.commit();
        alice.session().drain();
    });
    CHECK(alice.received() == "54 h1 acc 1@1, closed 4007");
}

TEST_CASE("Session: a lost connection leaves nothing behind, and what was stored is delivered") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    world.hold();
    alice.say({"a", 1});
    alice.drop();
    world.release();
    CHECK(bob.received() == "2 a@1");
    CHECK(world.router().user_count() == 1);
}

TEST_CASE("Session: nothing is counted twice") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    say_many(alice, 1, 2);
    alice.say({"m1", 1});
    bob.gap(0, 0);
    bob.ack(2);
    const SessionCounters& counted = world.counters();
    CHECK(counted.logins_accepted == 2);
    CHECK(counted.accepted == 2);
    CHECK(counted.duplicates == 1);
    CHECK(counted.pushed == 4);
    CHECK(counted.retransmitted == 2);
    CHECK(counted.handled == 2);
}
