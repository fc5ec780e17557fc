// QosSendDaemon: expiry, cancel, what it tells of itself, callbacks that call back, pushes.
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

Options pushing() {
    Options options;
    options.assigns_positions = false;
    return options;
}

Data push(const std::string& name, Position seq) {
    Data message = data(name);
    message.seq = seq;
    return message;
}

}  // namespace

// ---- expiry ----

TEST_CASE("QosSend: a message expires exactly once, wherever it is") {
    SendWorld world;
    SUBCASE("offline, never sent") {
        world.submit("a", 1s);
        world.advance(1s - 1ns);
        CHECK(world.told().empty());
        world.advance(1h);
        CHECK(world.told() == "expired a/0");
    }
    SUBCASE("in flight") {
        world.online();
        world.submit("a", 1s);
        world.advance(1h);
        CHECK(world.told() == "expired a/1");
        CHECK(world.ack(1));
        CHECK(world.told().empty());
    }
    SUBCASE("offline after it was sent") {
        world.online();
        world.submit("a", 1s);
        world.daemon.on_offline();
        world.advance(1h);
        CHECK(world.told() == "expired a/1");
        world.online(1);
        CHECK(world.told().empty());
    }
    SUBCASE("behind a pause") {
        world.online();
        world.submit("a", 1s);
        world.refuse("a", 1, 302, 1h);
        world.advance(2h);
        CHECK(world.told() == "expired a/1");
    }
    CHECK(world.daemon.kept() == 0);
    CHECK_FALSE(world.context.timers().next_deadline());
}

TEST_CASE("QosSend: messages expire in the order of their deadlines, not of submit") {
    SendWorld world;
    world.submit("a", 3s);
    world.submit("b", 1s);
    world.submit("c");
    world.submit("d", 2s);
    world.advance(10s);
    CHECK(world.told() == "expired b/0, expired d/0, expired a/0");
    CHECK(world.daemon.kept() == 1);
}

TEST_CASE("QosSend: after a pause of the process all that is due expires, and only once") {
    SendWorld world;
    world.submit("a", 1s);
    world.submit("b", 2s);
    world.context.pause(1h);
    world.context.pause(1h);
    CHECK(world.told() == "expired a/0, expired b/0");
}

TEST_CASE("QosSend: a message that is due to expire does not leave any more") {
    SendWorld world;
    world.submit("a", 1s);
    world.submit("b");
    world.context.timers().set_now(world.context.now() + 1s);
    world.online();
    CHECK(world.sent().empty());
    world.advance(0s);
    CHECK(world.told() == "expired a/0");
    CHECK(world.sent() == "b@1");
}

TEST_CASE("QosSend: a message submitted past its deadline expires at the next turn") {
    SendWorld world;
    world.online();
    CHECK_FALSE(world.submit("a", -1s));
    CHECK(world.told().empty());
    world.advance(0s);
    CHECK(world.told() == "expired a/0");
    CHECK(world.sent().empty());
}

TEST_CASE("QosSend: an expired message makes room in the window") {
    Options options;
    options.window_packets_max = 1;
    SendWorld world(options);
    world.online();
    world.submit("a", 1s);
    world.submit("b");
    world.advance(1s);
    CHECK(world.sent() == "a@1 b@2<0");
}

// ---- cancel, take_all ----

TEST_CASE("QosSend: a cancelled message is gone without a word") {
    SendWorld world;
    unsigned attempts = 9;
    SUBCASE("never sent") {
        world.submit("a", 1s);
        CHECK(world.daemon.cancel(fp("a"), &attempts));
        CHECK(attempts == 0);
    }
    SUBCASE("in flight") {
        world.online();
        world.submit("a", 1s);
        world.reconnect();
        CHECK(world.daemon.cancel(fp("a"), &attempts));
        CHECK(attempts == 2);
    }
    CHECK_FALSE(world.daemon.cancel(fp("a"), &attempts));
    world.online();
    world.advance(1h);
    CHECK(world.told().empty());
    CHECK(world.daemon.kept_bytes() == 0);
}

TEST_CASE("QosSend: take_all gives everything in order and leaves nothing") {
    SendWorld world;
    world.online();
    world.submit("a", 1s);
    world.daemon.on_offline();
    world.submit("b");
    const auto all = world.take_all();
    REQUIRE(all.size() == 2);
    CHECK(all[0].first.text == "a");
    CHECK(all[0].second == 1);
    CHECK(all[1].first.text == "b");
    CHECK(all[1].second == 0);
    CHECK(world.take_all().empty());
    world.advance(1h);
    CHECK(world.told().empty());
}

TEST_CASE("QosSend: after take_all online, positions go on") {
    SendWorld world;
    world.online();
    world.submit_all({"a", "b"});
    world.take_all();
    world.submit_all({"c"});
    CHECK(world.sent() == "a@1 b@2 c@3<0");
}

// ---- what it tells of itself ----

TEST_CASE("QosSend: sent_mark is the highest sent that is still kept or acked") {
    Options options;
    options.window_packets_max = 2;
    SendWorld world(options);
    CHECK(world.daemon.sent_mark() == 0);
    world.submit_all({"a", "b", "c"});
    CHECK(world.daemon.sent_mark() == 0);
    world.online();
    CHECK(world.daemon.sent_mark() == 2);
    world.daemon.cancel(fp("c"), nullptr);
    world.daemon.cancel(fp("b"), nullptr);
    CHECK(world.daemon.sent_mark() == 1);
    world.daemon.on_offline();
    CHECK(world.daemon.sent_mark() == 1);
    world.online();
    world.ack(1);
    CHECK(world.daemon.sent_mark() == 1);
}

TEST_CASE("QosSend: oldest_unacked follows the first in flight") {
    SendWorld world;
    CHECK_FALSE(world.daemon.oldest_unacked());
    world.online();
    world.submit_all({"a"});
    const TimePoint first = world.context.now();
    world.advance(1s);
    world.submit_all({"b"});
    REQUIRE(world.daemon.oldest_unacked());
    CHECK(world.daemon.oldest_unacked()->position == 1);
    CHECK(world.daemon.oldest_unacked()->sent_at == first);
    world.ack(1);
    REQUIRE(world.daemon.oldest_unacked());
    CHECK(world.daemon.oldest_unacked()->position == 2);
    CHECK(world.daemon.oldest_unacked()->sent_at == first + 1s);
    world.daemon.on_offline();
    CHECK_FALSE(world.daemon.oldest_unacked());
}

TEST_CASE("QosSend: on_outstanding_changed comes with each change and only then") {
    SendWorld world;
    const auto changes = [&world](auto&& act) {
        world.outstanding_changes = 0;
        act();
        return world.outstanding_changes;
    };
    CHECK(changes([&] { world.submit_all({"a"}); }) == 0);
    CHECK(changes([&] { world.online(); }) == 1);
    CHECK(changes([&] { world.submit_all({"b"}); }) == 1);
    CHECK(changes([&] { world.ack(0); }) == 0);
    CHECK(changes([&] { world.ack(1); }) == 1);
    CHECK(changes([&] { world.daemon.set_writable(true); }) == 0);
    CHECK(changes([&] { world.daemon.set_writable(false); }) == 1);
    CHECK(changes([&] { world.refuse("b", 2, 302, 1s); }) == 1);
    CHECK(changes([&] { world.daemon.on_offline(); }) == 0);
}

// ---- callbacks that call back ----

TEST_CASE("QosSend: a callback may submit, and the order of submit holds") {
    Options options;
    options.window_packets_max = 2;
    SendWorld world(options);
    world.hook = [&](const std::string& text) {
        if (text == "accepted a/1") CHECK_FALSE(world.submit("new"));
    };
    world.online();
    world.submit_all({"a", "b", "c"});
    world.ack(2);
    CHECK(world.sent() == "a@1 b@2 c@3 new@4");
    CHECK(world.told() == "accepted a/1, accepted b/1");
}

TEST_CASE("QosSend: a callback may submit the fingerprint that it hears of") {
    SendWorld world;
    world.hook = [&](const std::string& text) {
        if (text.rfind("rejected", 0) == 0) CHECK_FALSE(world.submit("a"));
    };
    world.online();
    world.submit_all({"a"});
    world.refuse("a", 1, 308);
    CHECK(world.sent() == "a@1 a@2<0");
    CHECK(world.daemon.kept() == 1);
}

TEST_CASE("QosSend: what an ack has settled cannot be cancelled from its callbacks") {
    SendWorld world;
    bool was_here = true;
    world.hook = [&](const std::string& text) {
        if (text == "accepted a/1") was_here = world.daemon.cancel(fp("b"), nullptr);
    };
    world.online();
    world.submit_all({"a", "b"});
    world.ack(2);
    CHECK_FALSE(was_here);
    CHECK(world.told() == "accepted a/1, accepted b/1");
}

TEST_CASE("QosSend: a callback may end the session, the rest is still told once") {
    SendWorld world;
    world.hook = [&](const std::string& text) {
        if (text == "accepted a/1") {
            world.daemon.on_offline();
            world.take_all();
        }
    };
    world.online();
    world.submit_all({"a", "b", "c"});
    world.sent();
    world.ack(2);
    CHECK(world.told() == "accepted a/1, accepted b/1");
    CHECK(world.sent().empty());
    CHECK(world.daemon.kept() == 0);
}

TEST_CASE("QosSend: on_expired and on_peer_lost_accepted may call back, too") {
    SendWorld world;
    world.hook = [&](const std::string& text) {
        if (text == "expired a/1") world.daemon.cancel(fp("b"), nullptr);
        if (text.rfind("peer lost", 0) == 0) world.daemon.on_offline();
    };
    world.online();
    world.submit("z");
    world.submit("a", 1s);
    world.submit("b", 1s);
    world.ack(1);
    world.advance(1s);
    CHECK(world.told() == "accepted z/1, expired a/1, expired b/1");
    world.reconnect(0);
    CHECK(world.told() == "peer lost 0 first 2");
    CHECK_FALSE(world.daemon.has_room(0));
}

TEST_CASE("QosSend: on_outstanding_changed may fill the window") {
    Options options;
    options.window_packets_max = 40;
    SendWorld world(options);
    int next = 0;
    int depth = 0;
    world.outstanding_hook = [&] {
        CHECK(++depth == 1);
        while (world.daemon.has_room(3)) world.submit_all({std::to_string(next++)});
        --depth;
    };
    world.online();
    CHECK(world.daemon.in_flight() == 40);
    world.ack(7);
    CHECK(world.daemon.in_flight() == 40);
    CHECK(next == 47);
}

// ---- the gateway's pushes ----

TEST_CASE("QosSend: pushes keep the positions that they bring and never carry prev") {
    SendWorld world(pushing());
    world.online(6);
    REQUIRE_FALSE(world.daemon.submit(push("a", 7), std::nullopt));
    REQUIRE_FALSE(world.daemon.submit(push("b", 8), std::nullopt));
    CHECK(world.sent() == "a@7 b@8");
    CHECK_FALSE(world.ack(9));
    CHECK(world.ack(7));
    CHECK(world.told() == "accepted a/1");
    CHECK(world.daemon.on_gap(7));
    CHECK(world.sent() == "b@8");
}

TEST_CASE("QosSend: pushes may be submitted before the session is online") {
    SendWorld world(pushing());
    REQUIRE_FALSE(world.daemon.submit(push("a", 3), std::nullopt));
    CHECK(world.daemon.sent_mark() == 0);
    world.online(2);
    CHECK(world.sent() == "a@3");
    CHECK(world.daemon.sent_mark() == 3);
}

TEST_CASE("QosSend: a push at or below what was given is invalid") {
    SendWorld world(pushing());
    CHECK(world.daemon.submit(push("a", 0), std::nullopt) == Errc::kInvalidPacket);
    world.online(6);
    CHECK(world.daemon.submit(push("a", 6), std::nullopt) == Errc::kInvalidPacket);
    REQUIRE_FALSE(world.daemon.submit(push("a", 7), std::nullopt));
    CHECK(world.daemon.submit(push("b", 7), std::nullopt) == Errc::kInvalidPacket);
    CHECK(world.daemon.kept() == 1);
}

TEST_CASE("QosSend: two pushes may bear the same fingerprint, or none") {
    SendWorld world(pushing());
    world.online();
    REQUIRE_FALSE(world.daemon.submit(push("a", 1), std::nullopt));
    REQUIRE_FALSE(world.daemon.submit(push("a", 2), std::nullopt));
    Data nameless = push("x", 3);
    nameless.fp = Fingerprint();
    REQUIRE_FALSE(world.daemon.submit(std::move(nameless), std::nullopt));
    CHECK(world.ack(3));
    CHECK(world.told() == "accepted a/1, accepted a/1, accepted /1");
}

TEST_CASE("QosSend: a push cannot be refused") {
    SendWorld world(pushing());
    world.online();
    REQUIRE_FALSE(world.daemon.submit(push("a", 1), std::nullopt));
    CHECK_FALSE(world.refuse("a", 1, 304));
    CHECK(world.daemon.kept() == 1);
}

TEST_CASE("QosSend: a recipient's cursor above everything pushed is where pushing begins") {
    SendWorld world(pushing());
    world.online(100);
    CHECK(world.told().empty());
    CHECK(world.daemon.highest_acked() == 100);
    CHECK(world.daemon.sent_mark() == 100);
}

TEST_CASE("QosSend: a window of 0 pushes nothing") {
    SendWorld world(pushing());
    world.online(0, 0);
    REQUIRE_FALSE(world.daemon.submit(push("a", 1), std::nullopt));
    CHECK(world.sent().empty());
}

TEST_CASE("QosSend: a limit of the age counts from when each message was taken") {
    SendWorld world;
    world.submit_all({"a"});
    world.advance(2s);
    REQUIRE_FALSE(world.submit("b", 1s));
    REQUIRE_FALSE(world.daemon.submit(data("c"), std::nullopt, 1, world.context.now() - 4s));
    world.daemon.limit_age(5s);
    world.advance(1s);
    CHECK(world.told() == "expired b/0, expired c/1");
    world.advance(2s);
    CHECK(world.told() == "expired a/0");
}
