// PROTOCOL.md sections 4.2 and 4.4: what the client had handled when its connection broke, and the
// gateway hears of with the next one: its cursor and its senders' receipts follow.

#include <doctest/doctest.h>

#include <ostream>
#include <string>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

// m<first>..m<last> from `sender` to bob.
void say_many(FakeClient& sender, Position first, Position last) {
    for (Position i = first; i <= last; ++i) sender.say({"m" + std::to_string(i), i});
}

LoginAs resumed_at(const FakeClient& before, Position seq) {
    LoginAs as{"bob"};
    as.inbox = InboxCursor{before.last<LoginResponse>().v1->inbox.epoch, seq, {}};
    return as;
}

// Bob has got `count` messages from alice and the connection broke before he acked them; he is back
// and has told what he had.
struct BrokenLink {
    explicit BrokenLink(Position count, Position had) {
        say_many(alice, 1, count);
        FakeClient& before = world.online({"bob"});
        before.drop();
        alice.received();
        bob = &world.online(resumed_at(before, had));
    }
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient* bob = nullptr;
};

}  // namespace

TEST_CASE("Session: the first ack after a broken link moves the cursor and tells the senders") {
    BrokenLink link(3, 3);
    CHECK(link.world.cursor_updates.empty());  // It had them, it has not handled them.
    CHECK(link.alice.received() == "");
    SUBCASE("ack") { link.bob->ack(3); }
    SUBCASE("heartbeat") { link.bob->heartbeat(0, 3, 3); }
    SUBCASE("riding") {
        Message message{"b", 1, "carol"};
        message.h = 3;
        link.bob->say(message);
    }
    REQUIRE(link.world.cursor_updates.size() == 1);
    CHECK(link.world.cursor_updates[0].position == 3);
    CHECK(link.alice.received() == "56 u:alice:bob 3 by bob");
}

TEST_CASE("Session: what was handled before a broken link is told once") {
    BrokenLink link(3, 3);
    link.bob->ack(3);
    link.alice.received();
    link.world.reads.clear();
    link.bob->ack(3);
    link.bob->heartbeat(0, 3, 3);
    CHECK(link.world.cursor_updates.size() == 1);
    CHECK(link.alice.received() == "");
    CHECK(link.world.reads.empty());
}

TEST_CASE(
    "Session: what was handled before a broken link is not pushed to a device without a file") {
    BrokenLink link(3, 3);
    link.bob->heartbeat(0, 3, 3);
    link.bob->drop();
    FakeClient& restarted = link.world.connect();
    restarted.login({"bob"});
    CHECK(restarted.received() == "50 3/3 accepted 0");
}

TEST_CASE("Session: of what it had at the login a client may handle a part at a time") {
    BrokenLink link(5, 5);
    link.bob->ack(2);
    CHECK(link.alice.received() == "56 u:alice:bob 2 by bob");
    link.bob->ack(4);
    CHECK(link.alice.received() == "56 u:alice:bob 4 by bob");
    REQUIRE(link.world.cursor_updates.size() == 2);
    CHECK(link.world.cursor_updates[1].position == 4);

    SUBCASE("the rest together with what was pushed since") {
        say_many(link.alice, 6, 7);
        link.alice.received();
        link.bob->ack(7);
        CHECK(link.alice.received() == "56 u:alice:bob 7 by bob");
        CHECK(link.world.cursor_updates[2].position == 7);
    }
    SUBCASE("the rest of it is still told to those who sent nothing since") {
        FakeClient& carol = link.world.online({"carol"});
        carol.say({"c", 1});
        carol.received();
        link.bob->ack(6);
        CHECK(link.alice.received() == "56 u:alice:bob 5 by bob");
        CHECK(carol.received() == "56 u:bob:carol 1 by bob");
    }
}

TEST_CASE("Session: a long past is read page by page, and no more of it than was handled") {
    BrokenLink link(1200, 1200);
    link.world.reads.clear();
    link.bob->ack(1100);
    CHECK(link.alice.received().find("56 u:alice:bob 1100 by bob") != std::string::npos);
    REQUIRE(link.world.reads.size() == 3);
    CHECK(link.world.reads[0].after == 0);
    CHECK(link.world.reads[1].after == 512);
    CHECK(link.world.reads[2].after == 1024);
    CHECK(link.world.reads[2].messages_max == 76);
}

TEST_CASE("Session: of a past beyond measure the last 4096 positions are read") {
    BrokenLink link(1, 1);
    say_many(link.alice, 2, 5000);
    link.bob->drop();
    FakeClient& back = link.world.online(resumed_at(*link.bob, 5000));
    link.world.reads.clear();
    back.ack(5000);
    REQUIRE(link.world.reads.size() == 8);
    CHECK(link.world.reads[0].after == 5000 - 4096);
    CHECK(link.world.cursor_updates.back().position == 5000);
}

TEST_CASE("Session: a past that cannot be read costs receipts, no more") {
    BrokenLink link(3, 3);
    link.world.hold();
    link.bob->ack(2);
    SUBCASE("the store failed") {
        link.world.set_failing(true);
        link.world.release();
        link.world.set_failing(false);
        CHECK(link.alice.received() == "");
    }
    SUBCASE("the session is over") {
        link.bob->drop();
        link.world.release();
        CHECK(link.alice.received() == "");
        return;
    }
    link.bob->ack(3);
    CHECK(link.alice.received() == "56 u:alice:bob 3 by bob");
    CHECK_FALSE(link.bob->is_closed());
}

TEST_CASE("Session: a past that the store has no time for is read later") {
    BrokenLink link(3, 3);
    link.world.set_full(true);
    link.bob->ack(3);
    CHECK(link.alice.received() == "");
    link.world.set_full(false);
    link.bob->heartbeat(0, 3, 3);
    CHECK(link.alice.received() == "56 u:alice:bob 3 by bob");
}

TEST_CASE("Session: there is no rest before the senders have heard of the past") {
    BrokenLink link(3, 3);
    link.world.hold();
    link.bob->ack(3);
    link.bob->heartbeat(0, 3, 3);
    CHECK_FALSE(link.bob->session().is_at_rest());
    link.world.release();
    link.bob->heartbeat(0, 3, 3);
    CHECK(link.bob->session().is_at_rest());
}

TEST_CASE("Session: a client that comes back with an older file is pushed again, not set back") {
    BrokenLink link(3, 3);
    link.bob->ack(3);
    link.alice.received();
    FakeClient& older = link.world.online(resumed_at(*link.bob, 1));
    link.world.cursor_updates.clear();
    older.ack(2);
    CHECK(link.world.cursor_updates.empty());
    older.ack(3);
    CHECK(link.world.cursor_updates.empty());
    CHECK(link.alice.received() == "");
    CHECK(older.session().in_flight() == 0);
}
