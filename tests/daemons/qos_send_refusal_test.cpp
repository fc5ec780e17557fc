#include "daemons/qos_send.hpp"

#include <doctest/doctest.h>

#include <string>

#include "tests/support/send_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;
using Options = QosSendDaemon::Options;

// What the peer refuses (PROTOCOL.md section 4.7), and its pauses.

TEST_CASE("QosSend: a refusal settles the message and goes on behind it, one at a time") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c", "d"});
    world.sent();
    CHECK(world.refuse("b", 2, 305));
    CHECK(world.told() == "rejected b/1 code 305");
    CHECK(world.sent() == "c@3<1");
    world.submit_all({"e"});
    CHECK(world.sent().empty());
    world.ack(1);
    CHECK(world.sent() == "d@4 e@5");
}

TEST_CASE("QosSend: refusals in a row go through one at a time") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.sent();
    world.refuse("a", 1, 306);
    CHECK(world.sent() == "b@2<0");
    world.refuse("b", 2, 306);
    CHECK(world.sent() == "c@3<0");
    world.ack(3);
    CHECK(world.told() == "rejected a/1 code 306, rejected b/2 code 306, accepted c/2");
}

TEST_CASE("QosSend: one at a time does not end with an ack that covers nothing new") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.refuse("a", 1, 306);
    world.sent();
    world.ack(0);
    CHECK(world.sent().empty());
}

TEST_CASE("QosSend: one at a time ends with the session") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.refuse("a", 1, 306);
    world.sent();
    world.reconnect();
    CHECK(world.sent() == "b@2<0 c@3");
}

TEST_CASE("QosSend: one at a time goes on when that one is cancelled") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.refuse("a", 1, 306);
    world.sent();
    world.daemon.cancel(fp("b"), nullptr);
    CHECK(world.sent() == "c@3<0");
}

TEST_CASE("QosSend: every code but 301, 302 and 402 settles") {
    for (const int code : {0, 1, 2, 4, 303, 304, 305, 306, 307, 308, 401, 403, 1025}) {
        SendWorld world;
        world.online();
        world.submit_all({"a"});
        CHECK(world.refuse("a", 1, code));
        CHECK(world.told() == "rejected a/1 code " + std::to_string(code));
    }
    for (const int code : {301, 302, 402}) {
        SendWorld world;
        world.online();
        world.submit_all({"a"});
        CHECK(world.refuse("a", 1, code, 1s));
        CHECK(world.told().empty());
        CHECK(world.daemon.kept() == 1);
    }
}

TEST_CASE("QosSend: a refusal must name a kept message by fingerprint and position") {
    SendWorld world(window_of(2));
    world.submit_all({"a", "b", "c"});
    world.online();
    world.sent();
    CHECK_FALSE(world.refuse("a", 2, 305));
    CHECK_FALSE(world.refuse("x", 1, 305));
    CHECK_FALSE(world.refuse("a", 0, 305));
    CHECK_FALSE(world.refuse("c", 0, 302, 1s));
    CHECK_FALSE(world.refuse("c", 3, 305));
    world.ack(1);
    world.told();
    CHECK_FALSE(world.refuse("a", 1, 302, 1s));
    CHECK_FALSE(world.refuse("a", 1, 305));
    CHECK(world.told().empty());
    CHECK(world.sent() == "c@3");
}

TEST_CASE("QosSend: a refusal of a message that went back to waiting settles it") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.sent();
    world.daemon.set_writable(false);
    world.daemon.on_gap(0);
    CHECK(world.refuse("b", 2, 304));
    world.daemon.set_writable(true);
    CHECK(world.sent() == "a@1 c@3<1");
}

TEST_CASE("QosSend: busy pauses, then goes on from the named message") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.sent();
    CHECK(world.refuse("b", 2, 302, 2s));
    CHECK(world.daemon.in_flight() == 1);
    CHECK_FALSE(world.daemon.oldest_unacked());
    world.submit_all({"d"});
    world.advance(2s - 1ns);
    CHECK(world.sent().empty());
    world.advance(1ns);
    CHECK(world.sent() == "b@2 c@3 d@4");
}

TEST_CASE("QosSend: busy is not an attempt, yet what was on the wire never reports 0") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.refuse("a", 1, 302, 1s);
    unsigned attempts = 9;
    SUBCASE("cancelled during the pause") {
        world.daemon.cancel(fp("a"), &attempts);
        CHECK(attempts == 1);
    }
    SUBCASE("refused twice, then accepted") {
        world.advance(1s);
        world.refuse("a", 1, 302, 1s);
        world.advance(1s);
        world.ack(1);
        CHECK(world.told() == "accepted a/2");
    }
}

TEST_CASE("QosSend: a gap means nothing during a pause, an ack does") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.sent();
    world.refuse("b", 2, 302, 1s);
    CHECK(world.daemon.on_gap(0));
    CHECK(world.daemon.in_flight() == 1);
    CHECK(world.ack(1));
    CHECK(world.told() == "accepted a/1");
    world.advance(1s);
    CHECK(world.sent() == "b@2");
}

TEST_CASE("QosSend: a pause of 0 or below ends with the next timer, one past pause_max at it") {
    Options options;
    options.pause_max = 5s;
    for (const Duration retry : {Duration{-1s}, Duration{0s}, Duration{1ns}, Duration{5s},
                                 Duration{6s}, Duration::max()}) {
        SendWorld world(options);
        world.online();
        world.submit_all({"a"});
        world.sent();
        world.refuse("a", 1, 302, retry);
        CHECK(world.sent().empty());
        world.advance(std::min(std::max(retry, Duration::zero()), Duration{5s}));
        CHECK(world.sent() == "a@1");
    }
}

TEST_CASE("QosSend: a refusal during a pause settles, and the pause goes on") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.sent();
    world.refuse("a", 1, 302, 1s);
    CHECK(world.refuse("a", 1, 307));
    CHECK(world.sent().empty());
    world.advance(1s);
    CHECK(world.sent() == "b@2<0");
}

TEST_CASE("QosSend: a pause ends with the session") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.refuse("a", 1, 302, 60s);
    world.sent();
    world.reconnect();
    CHECK(world.sent() == "a@1");
}
