#include "daemons/qos_send.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/send_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;
using Options = QosSendDaemon::Options;

// ---- submit ----

TEST_CASE("QosSend: offline, a message is kept and nothing leaves") {
    SendWorld world;
    world.submit_all({"a"});
    CHECK(world.sent().empty());
    CHECK(world.daemon.kept() == 1);
    CHECK(world.daemon.kept_bytes() == 1);
    CHECK(world.daemon.highest_given() == 0);
}

TEST_CASE("QosSend: online, messages leave at once with positions in the order of submit") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    CHECK(world.sent() == "a@1 b@2");
    CHECK(world.daemon.in_flight() == 2);
    CHECK(world.daemon.highest_given() == 2);
}

TEST_CASE("QosSend: what was submitted offline leaves before anything newer") {
    SendWorld world;
    world.submit_all({"a", "b"});
    world.online();
    world.submit_all({"c"});
    CHECK(world.sent() == "a@1 b@2 c@3");
}

TEST_CASE("QosSend: a message without a fingerprint is invalid") {
    SendWorld world;
    CHECK(world.daemon.submit(Data{}, std::nullopt) == Errc::kInvalidPacket);
    CHECK(world.daemon.kept() == 0);
}

TEST_CASE("QosSend: a fingerprint that is here already is refused and can be looked at") {
    SendWorld world;
    world.submit_all({"a"});
    CHECK(world.submit("a") == Errc::kFingerprintReused);
    REQUIRE(world.daemon.find(fp("a")).has_value());
    CHECK(world.daemon.find(fp("a"))->text == "a");
    CHECK_FALSE(world.daemon.find(fp("b")).has_value());
}

TEST_CASE("QosSend: a fingerprint may come again once its message is settled") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.ack(1);
    CHECK_FALSE(world.submit("a"));
    CHECK(world.sent() == "a@1 a@2");
}

TEST_CASE("QosSend: kept_max bounds what is kept") {
    for (const std::size_t max : {0U, 1U, 3U}) {
        Options options;
        options.kept_max = max;
        SendWorld world(options);
        for (std::size_t i = 0; i < max; ++i) world.submit_all({std::to_string(i)});
        CHECK(world.submit("past") == Errc::kSendFailed);
        CHECK(world.daemon.kept() == max);
    }
}

TEST_CASE("QosSend: kept_bytes_max bounds the texts that are kept") {
    for (const std::size_t max : {0U, 1U, 3U}) {
        Options options;
        options.kept_bytes_max = max;
        SendWorld world(options);
        for (std::size_t i = 0; i < max; ++i) world.submit_all({std::to_string(i)});
        CHECK(world.submit("x") == Errc::kSendFailed);
        CHECK(world.daemon.kept_bytes() == max);
    }
}

TEST_CASE("QosSend: a settled message makes room in a full outbox") {
    Options options;
    options.kept_max = 1;
    SendWorld world(options);
    world.online();
    world.submit_all({"a"});
    world.ack(1);
    CHECK_FALSE(world.submit("b"));
}

TEST_CASE("QosSend: attempts of an earlier process count") {
    SendWorld world;
    REQUIRE_FALSE(world.daemon.submit(data("a"), std::nullopt, 2));
    world.online();
    world.ack(1);
    CHECK(world.told() == "accepted a/3");
}

// ---- window ----

TEST_CASE("QosSend: the smaller of the two windows bounds what is in flight") {
    for (const auto& [own, peer] :
         std::vector<std::pair<std::size_t, std::size_t>>{{2, 64}, {64, 2}, {2, 2}}) {
        SendWorld world(window_of(own));
        world.submit_all({"a", "b", "c"});
        world.online(0, peer);
        CHECK(world.sent() == "a@1 b@2");
        world.ack(1);
        CHECK(world.sent() == "c@3");
    }
}

TEST_CASE("QosSend: an own window of 0 or 1 lets one packet be under way") {
    for (const std::size_t own : {0U, 1U}) {
        SendWorld world(window_of(own));
        world.submit_all({"a", "b"});
        world.online();
        CHECK(world.sent() == "a@1");
    }
}

TEST_CASE("QosSend: a peer's window of 0 lets nothing out") {
    SendWorld world;
    world.submit_all({"a"});
    world.online(0, 0);
    CHECK(world.sent().empty());
    CHECK_FALSE(world.daemon.has_room(0));
}

TEST_CASE("QosSend: window bytes count frames, estimated") {
    Options options;
    const std::size_t frame = 1 + QosSendDaemon::kFrameOverhead;
    for (const auto& [bytes, sent] : std::vector<std::pair<std::size_t, std::string>>{
             {0, "a@1"}, {1, "a@1"}, {2 * frame - 1, "a@1"}, {2 * frame, "a@1 b@2"}}) {
        options.window_bytes_max = bytes;
        SendWorld own(options);
        own.submit_all({"a", "b", "c"});
        own.online();
        CHECK(own.sent() == sent);

        SendWorld peer;
        peer.submit_all({"a", "b", "c"});
        peer.online(0, 64, bytes);
        CHECK(peer.sent() == sent);
    }
}

TEST_CASE("QosSend: has_room says whether one more would leave at once") {
    SendWorld world(window_of(2));
    CHECK_FALSE(world.daemon.has_room(1));
    world.online();
    CHECK(world.daemon.has_room(1));
    world.submit_all({"a"});
    CHECK(world.daemon.has_room(1));
    CHECK_FALSE(world.daemon.has_room(std::size_t{1} << 20));
    world.submit_all({"b"});
    CHECK_FALSE(world.daemon.has_room(1));
}

TEST_CASE("QosSend: nothing leaves while the socket is not writable") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.daemon.set_writable(false);
    world.submit_all({"b"});
    world.daemon.on_gap(0);
    CHECK(world.sent() == "a@1");
    CHECK_FALSE(world.daemon.has_room(0));
    world.daemon.set_writable(true);
    CHECK(world.sent() == "a@1 b@2");
}

TEST_CASE("QosSend: a new connection is writable whatever the old one was") {
    SendWorld world;
    world.online();
    world.daemon.set_writable(false);
    world.submit_all({"a"});
    world.reconnect();
    CHECK(world.sent() == "a@1");
}

TEST_CASE("QosSend: while held nothing leaves, over sessions too, and acks still count") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    CHECK(world.sent() == "a@1 b@2");
    world.daemon.set_held(true);
    world.submit_all({"c"});
    CHECK_FALSE(world.daemon.has_room(0));
    CHECK(world.ack(1));
    CHECK(world.told() == "accepted a/1");
    CHECK(world.daemon.on_gap(1));
    world.reconnect(1);
    CHECK(world.sent().empty());
    world.daemon.set_held(false);
    CHECK(world.sent() == "b@2 c@3");
}

TEST_CASE("QosSend: whoever hears of an end may hold what is behind it") {
    SendWorld world;
    world.hook = [&](const std::string&) { world.daemon.set_held(true); };
    world.online(0, 1);
    REQUIRE_FALSE(world.submit("a"));
    REQUIRE_FALSE(world.submit("b", 1s));
    world.submit_all({"c", "d"});
    CHECK(world.sent() == "a@1");
    CHECK(world.refuse("a", 1, 303));
    world.advance(1s);
    CHECK(world.told() == "rejected a/1 code 303, expired b/0");
    CHECK(world.sent().empty());
    world.daemon.set_held(false);
    CHECK(world.sent() == "c@2<0");
}

// ---- acks ----

TEST_CASE("QosSend: an ack settles everything up to it, with details where it brings them") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    CHECK(world.ack(2, {{71, 1000, 1}, {73, 1000, 3}}));
    CHECK(world.told() == "accepted a/1 cseq 71, accepted b/1");
    CHECK(world.daemon.highest_acked() == 2);
    CHECK(world.daemon.in_flight() == 1);
}

TEST_CASE("QosSend: details may come in any order") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.ack(2, {{72, 1, 2}, {9, 1, 0}, {71, 1, 1}, {99, 1, 1}});
    CHECK(world.told() == "accepted a/1 cseq 71, accepted b/1 cseq 72");
}

TEST_CASE("QosSend: an ack no higher than the last changes nothing") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.ack(2);
    world.told();
    for (const Position h : {0U, 1U, 2U}) CHECK(world.ack(h));
    CHECK(world.told().empty());
    CHECK(world.daemon.highest_acked() == 2);
}

TEST_CASE("QosSend: an ack above everything sent is a violation and changes nothing") {
    SendWorld world(window_of(1));
    world.submit_all({"a", "b"});
    world.online();
    CHECK_FALSE(world.ack(2));
    CHECK_FALSE(world.ack(kNumberMax));
    CHECK(world.told().empty());
    CHECK(world.daemon.kept() == 2);
}

TEST_CASE("QosSend: what an earlier session sent is no excuse for an ack in this one") {
    SendWorld world(window_of(2));
    world.submit_all({"a", "b"});
    world.online();
    world.reconnect(0, 1);
    CHECK_FALSE(world.ack(2));
    CHECK(world.ack(1));
}

TEST_CASE("QosSend: an ack covers a message that went back to waiting") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.daemon.set_writable(false);
    world.daemon.on_gap(0);
    CHECK(world.ack(2));
    CHECK(world.told() == "accepted a/1, accepted b/1");
    world.daemon.set_writable(true);
    CHECK(world.sent() == "a@1 b@2");
}

TEST_CASE("QosSend: inputs of a session mean nothing while offline") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.daemon.on_offline();
    CHECK(world.ack(1));
    CHECK(world.ack(9));
    CHECK(world.daemon.on_gap(0));
    CHECK_FALSE(world.refuse("a", 1, 304));
    world.daemon.on_fingerprint_ack(fp("a"));
    world.daemon.on_offline();
    CHECK(world.told().empty());
    CHECK(world.daemon.unknown_acks() == 3);
    CHECK(world.daemon.kept() == 1);
}

TEST_CASE("QosSend: a fingerprint ack means nothing with positions") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.daemon.on_fingerprint_ack(fp("a"));
    CHECK(world.told().empty());
    CHECK(world.daemon.unknown_acks() == 1);
}

TEST_CASE("QosSend: the newest message an ack covers gives the round trip") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.advance(30ms);
    world.submit_all({"b"});
    world.advance(20ms);
    world.ack(2);
    CHECK(world.round_trips == std::vector<Duration>{20ms});
}

TEST_CASE("QosSend: a message sent twice in a session gives no round trip") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.daemon.on_gap(1);
    world.ack(2);
    CHECK(world.round_trips.empty());
}

TEST_CASE("QosSend: a message sent once in each session gives a round trip") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.reconnect();
    world.advance(5ms);
    world.ack(1);
    CHECK(world.round_trips == std::vector<Duration>{5ms});
    CHECK(world.told() == "accepted a/2");
}

// ---- prev ----

TEST_CASE("QosSend: prev skips what expired, was cancelled or refused") {
    SendWorld world;
    world.online();
    REQUIRE_FALSE(world.submit("a"));
    REQUIRE_FALSE(world.submit("b", 1s));
    REQUIRE_FALSE(world.submit("c"));
    REQUIRE_FALSE(world.submit("d"));
    world.sent();
    world.advance(1s);
    world.daemon.cancel(fp("c"), nullptr);
    world.daemon.on_gap(1);
    CHECK(world.sent() == "d@4<1");
}

TEST_CASE("QosSend: prev is computed anew at every transmission") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.daemon.cancel(fp("a"), nullptr);
    world.sent();
    world.reconnect();
    CHECK(world.sent() == "b@2<0 c@3");
    world.ack(2);
    world.reconnect(2);
    CHECK(world.sent() == "c@3");
}

TEST_CASE("QosSend: a cancelled last message leaves a hole before the next one") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.daemon.cancel(fp("b"), nullptr);
    world.submit_all({"c"});
    CHECK(world.sent() == "a@1 b@2 c@3<1");
}

TEST_CASE("QosSend: an ack that covered a hole stands for prev") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.daemon.cancel(fp("b"), nullptr);
    world.ack(2);
    world.submit_all({"c"});
    CHECK(world.sent() == "a@1 b@2 c@3");
}

// ---- resume ----

TEST_CASE("QosSend: a resume settles what was accepted and retransmits the rest before the new") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.sent();
    world.daemon.on_offline();
    world.submit_all({"d"});
    world.online(1);
    CHECK(world.told() == "accepted a/1");
    CHECK(world.sent() == "b@2 c@3 d@4");
    CHECK(world.daemon.retransmissions() == 2);
}

TEST_CASE("QosSend: a retransmission keeps within the window") {
    SendWorld world(window_of(3));
    world.online();
    world.submit_all({"a", "b", "c"});
    world.sent();
    world.reconnect(0, 2);
    CHECK(world.sent() == "a@1 b@2");
    world.ack(1);
    CHECK(world.sent() == "c@3");
}

TEST_CASE("QosSend: a peer that lost what it had accepted is reported, and sending goes on") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.ack(2);
    world.told();
    world.sent();
    world.reconnect(1);
    CHECK(world.told() == "peer lost 1 first 3");
    CHECK(world.sent() == "c@3");
    CHECK(world.ack(3));
    CHECK(world.told() == "accepted c/2");
}

TEST_CASE("QosSend: a peer that knows more than was sent makes a new stream") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.sent();
    world.reconnect(3);
    CHECK(world.told() == "new stream");
    CHECK(world.sent().empty());
    CHECK(world.daemon.highest_given() == 0);
    world.online();
    CHECK(world.sent() == "a@1 b@2");
    world.ack(2);
    CHECK(world.told() == "accepted a/2, accepted b/2");
}

TEST_CASE("QosSend: a new stream closes the holes of the old one") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.ack(1);
    world.daemon.cancel(fp("b"), nullptr);
    world.daemon.on_offline();
    world.sent();
    world.daemon.start_new_stream();
    CHECK(world.daemon.highest_acked() == 0);
    CHECK(world.daemon.sent_mark() == 0);
    world.online();
    CHECK(world.sent() == "c@1");
}

TEST_CASE("QosSend: on_online twice is a reconnect") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.online();
    CHECK(world.sent() == "a@1 a@1");
    CHECK(world.daemon.in_flight() == 1);
}

// ---- gap ----

TEST_CASE("QosSend: a gap makes what follows leave again; what was taken stays in flight") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.sent();
    CHECK(world.daemon.on_gap(1));
    CHECK(world.sent() == "b@2 c@3");
    CHECK(world.daemon.in_flight() == 3);
}

TEST_CASE("QosSend: a gap at the highest sent or below the last ack makes nothing leave") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b", "c"});
    world.ack(2);
    world.sent();
    CHECK(world.daemon.on_gap(3));
    CHECK(world.daemon.on_gap(1));
    CHECK(world.sent().empty());
}

TEST_CASE("QosSend: a gap above everything sent is ignored") {
    SendWorld world;
    world.online();
    world.submit_all({"a"});
    world.sent();
    CHECK_FALSE(world.daemon.on_gap(2));
    CHECK_FALSE(world.daemon.on_gap(kNumberMax));
    CHECK(world.sent().empty());
    CHECK(world.daemon.in_flight() == 1);
}

TEST_CASE("QosSend: a gap keeps within the window") {
    SendWorld world(window_of(2));
    world.submit_all({"a", "b", "c"});
    world.online();
    world.sent();
    world.daemon.on_gap(0);
    CHECK(world.sent() == "a@1 b@2");
}
