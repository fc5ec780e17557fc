#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "daemons/qos_send.hpp"
#include "tests/support/send_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;
using Options = QosSendDaemon::Options;

namespace {

// Check every 5 s, not what is younger than 3 s, 2 retries: the defaults of both profiles.
Options plain() {
    Options options;
    options.strategy = QosSendDaemon::Strategy::kFingerprints;
    return options;
}

Options until_acked() {
    Options options = plain();
    options.assigns_positions = false;
    options.retries.reset();
    return options;
}

void ack(SendWorld& world, const std::string& name) { world.daemon.on_fingerprint_ack(fp(name)); }

}  // namespace

TEST_CASE("QosSend plain: messages leave without positions") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a", "b"});
    CHECK(world.sent() == "a b");
    CHECK(world.daemon.highest_given() == 0);
    CHECK(world.daemon.sent_mark() == 0);
}

TEST_CASE("QosSend plain: an ack settles the message that it names") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a", "b", "c"});
    ack(world, "b");
    CHECK(world.told() == "accepted b/1");
    ack(world, "a");
    ack(world, "c");
    CHECK(world.told() == "accepted a/1, accepted c/1");
    CHECK_FALSE(world.context.timers().next_deadline());
}

TEST_CASE("QosSend plain: an ack for an unknown fingerprint is only counted") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a"});
    ack(world, "x");
    ack(world, "a");
    ack(world, "a");
    CHECK(world.told() == "accepted a/1");
    CHECK(world.daemon.unknown_acks() == 2);
}

TEST_CASE("QosSend plain: an ack for what was never sent is only counted") {
    SendWorld world(plain());
    world.online();
    world.daemon.set_writable(false);
    world.submit_all({"a"});
    ack(world, "a");
    CHECK(world.told().empty());
    CHECK(world.daemon.unknown_acks() == 1);
}

TEST_CASE("QosSend plain: inputs of petrel.v1 mean nothing") {
    SendWorld world(plain());
    world.online(7);
    world.submit_all({"a"});
    world.sent();
    CHECK(world.ack(99));
    CHECK(world.daemon.on_gap(99));
    CHECK_FALSE(world.refuse("a", 1, 304));
    CHECK_FALSE(world.refuse("a", 0, 304));
    CHECK(world.told().empty());
    CHECK(world.sent().empty());
    CHECK(world.daemon.unknown_acks() == 1);
}

TEST_CASE("QosSend plain: an unacked message leaves again at each check, then it is lost") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a"});
    CHECK(world.sent() == "a");
    world.advance(5s - 1ns);
    CHECK(world.sent().empty());
    world.advance(1ns);
    CHECK(world.sent() == "a");
    world.advance(5s);
    CHECK(world.sent() == "a");
    CHECK(world.told().empty());
    world.advance(5s);
    CHECK(world.sent().empty());
    CHECK(world.told() == "lost a/3");
    CHECK_FALSE(world.context.timers().next_deadline());
}

TEST_CASE("QosSend plain: retryCount tells how often the check sent it") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a"});
    world.advance(10s);
    const auto packets = world.context.take_sent();
    REQUIRE(packets.size() == 3);
    for (int i = 0; i < 3; ++i) {
        CHECK(std::get<Data>(packets[static_cast<std::size_t>(i)]).retry_count == i);
    }
}

TEST_CASE("QosSend plain: what is younger than the limit is left alone") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a"});
    world.advance(2s);
    world.submit_all({"b"});
    world.advance(1ns);
    world.submit_all({"c"});
    world.sent();
    world.advance(3s - 1ns);
    CHECK(world.sent() == "a b");
    world.advance(5s);
    CHECK(world.sent() == "a b c");
}

TEST_CASE("QosSend plain: retries bounds the transmissions of the check clock") {
    for (const unsigned retries : {0U, 1U, 5U}) {
        Options options = plain();
        options.retries = retries;
        SendWorld world(options);
        world.online();
        world.submit_all({"a"});
        world.advance(5s * (retries + 1));
        CHECK(world.told() == "lost a/" + std::to_string(retries + 1));
    }
}

TEST_CASE("QosSend plain: without a limit it goes on until acked") {
    SendWorld world(until_acked());
    world.online();
    Data message = data("a");
    message.seq = 7;
    REQUIRE_FALSE(world.daemon.submit(std::move(message), std::nullopt));
    world.advance(1h);
    CHECK(world.daemon.retransmissions() == 720);
    CHECK(world.told().empty());
    ack(world, "a");
    CHECK(world.told() == "accepted a/721");
}

TEST_CASE("QosSend plain: a check period of 0 is one millisecond") {
    for (const Duration period : {Duration{0}, Duration{1ns}, Duration{-1s}, Duration{1ms}}) {
        Options options = until_acked();
        options.check_period = period;
        options.retry_not_younger = 0s;
        SendWorld world(options);
        world.online();
        world.submit_all({"a"});
        world.advance(10ms);
        CHECK(world.daemon.retransmissions() == 10);
    }
}

TEST_CASE("QosSend plain: a minimum age above the period skips checks") {
    Options options = plain();
    options.retry_not_younger = 12s;
    SendWorld world(options);
    world.online();
    world.submit_all({"a"});
    world.sent();
    world.advance(15s - 1ns);
    CHECK(world.sent().empty());
    world.advance(1ns);
    CHECK(world.sent() == "a");
}

TEST_CASE("QosSend plain: coming online sends all that is unacked at once, and costs no retry") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a", "b"});
    world.sent();
    world.daemon.on_offline();
    world.advance(1h);
    CHECK(world.told().empty());
    world.submit_all({"c"});
    world.online();
    CHECK(world.sent() == "a b c");
    world.advance(15s);
    CHECK(world.told() == "lost a/4, lost b/4, lost c/3");
}

TEST_CASE("QosSend plain: a message resent at login is not lost before it had its time") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a"});
    world.advance(10s);
    world.advance(4s);
    world.reconnect();
    world.advance(2s);
    CHECK(world.told().empty());
    ack(world, "a");
    CHECK(world.told() == "accepted a/4");
}

TEST_CASE("QosSend plain: the window bounds what is in flight") {
    Options options = plain();
    options.window_packets_max = 2;
    SendWorld world(options);
    world.submit_all({"a", "b", "c"});
    world.online();
    CHECK(world.sent() == "a b");
    ack(world, "b");
    CHECK(world.sent() == "c");
    world.advance(5s);
    CHECK(world.sent() == "a c");
}

TEST_CASE("QosSend plain: a lost message makes room for the next") {
    Options options = plain();
    options.window_packets_max = 1;
    options.retries = 0;
    SendWorld world(options);
    world.online();
    world.submit_all({"a", "b"});
    world.advance(5s);
    CHECK(world.told() == "lost a/1");
    CHECK(world.sent() == "a b");
}

TEST_CASE("QosSend plain: an ack after lost is reported once") {
    Options options = plain();
    options.retries = 0;
    SendWorld world(options);
    world.online();
    world.submit_all({"a"});
    world.advance(5s);
    CHECK(world.told() == "lost a/1");
    ack(world, "a");
    CHECK(world.told() == "late a");
    ack(world, "a");
    CHECK(world.told().empty());
    CHECK(world.daemon.unknown_acks() == 1);
}

TEST_CASE("QosSend plain: late_ack_memory bounds what a late ack is known of") {
    for (const std::size_t memory : {0U, 1U, 2U, 3U}) {
        Options options = plain();
        options.retries = 0;
        options.late_ack_memory = memory;
        SendWorld world(options);
        world.online();
        world.submit_all({"a", "b", "c"});
        world.advance(5s);
        world.told();
        for (const char* name : {"a", "b", "c"}) ack(world, name);
        const std::vector<std::string> expected = {"", "late c", "late b, late c",
                                                   "late a, late b, late c"};
        CHECK(world.told() == expected[memory]);
    }
}

TEST_CASE("QosSend plain: a lost message sent again under its name is acked as the new one") {
    Options options = plain();
    options.retries = 0;
    SendWorld world(options);
    world.online();
    world.submit_all({"a"});
    world.advance(5s);
    world.submit_all({"a"});
    ack(world, "a");
    ack(world, "a");
    CHECK(world.told() == "lost a/1, accepted a/1");
}

TEST_CASE("QosSend plain: with a full socket there is neither a retry nor a verdict") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a"});
    world.sent();
    world.daemon.set_writable(false);
    world.advance(1min);
    CHECK(world.sent().empty());
    CHECK(world.told().empty());
    world.daemon.set_writable(true);
    world.advance(5s);
    CHECK(world.sent() == "a");
}

TEST_CASE("QosSend plain: after a pause of the process the socket is read before the verdict") {
    Options options = plain();
    options.retries = 0;
    SendWorld world(options);
    world.online();
    world.submit_all({"a"});
    world.context.pause(1min);
    CHECK(world.told().empty());
    SUBCASE("an ack lay there") {
        ack(world, "a");
        CHECK(world.told() == "accepted a/1");
    }
    SUBCASE("nothing was there") {
        world.advance(200ms);
        CHECK(world.told() == "lost a/1");
    }
}

TEST_CASE("QosSend plain: a message expires, sent or not") {
    SendWorld world(until_acked());
    world.submit("a", 1min);
    world.online();
    world.submit("b", 2min);
    world.advance(1h);
    CHECK(world.told() == "expired a/12, expired b/24");
}

TEST_CASE("QosSend plain: only a message sent once in the session gives a round trip") {
    SendWorld world(plain());
    world.online();
    world.submit_all({"a"});
    world.advance(10ms);
    ack(world, "a");
    world.submit_all({"b"});
    world.advance(5s);
    ack(world, "b");
    CHECK(world.round_trips == std::vector<Duration>{10ms});
}

TEST_CASE("QosSend plain: the check spares what a callback has cancelled") {
    Options options = plain();
    options.retries = 0;
    SendWorld world(options);
    world.hook = [&](const std::string& text) {
        if (text == "lost a/1") world.submit_all({"c"});
    };
    world.online();
    world.submit_all({"a", "b"});
    world.advance(5s);
    CHECK(world.told() == "lost a/1, lost b/1");
    CHECK(world.daemon.kept() == 1);
}

TEST_CASE("QosSend plain: a sender may be told to speak plain while offline") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    CHECK(world.sent() == "a@1 b@2");
    world.daemon.on_offline();
    world.daemon.set_strategy(QosSendDaemon::Strategy::kFingerprints);
    world.online();
    world.submit_all({"c"});
    CHECK(world.sent() == "a b c");
    ack(world, "a");
    CHECK(world.told() == "accepted a/2");
}

TEST_CASE("QosSend plain: back to petrel.v1, positions go on where the stream stands") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.ack(1);
    world.daemon.on_offline();
    world.daemon.set_strategy(QosSendDaemon::Strategy::kFingerprints);
    world.online();
    world.submit_all({"d"});
    ack(world, "b");
    world.daemon.on_offline();
    world.daemon.set_strategy(QosSendDaemon::Strategy::kPositions);
    world.sent();
    world.online(1);
    CHECK(world.sent() == "c@3<1 d@4");
    CHECK(world.ack(4));
    CHECK(world.daemon.kept() == 0);
}
