#include "tests/core/store/store_support.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

using Fate = AppendResult::Fate;
using World = StoreWorld<MemoryForm>;

StoreOptions with_memory(std::size_t bytes) {
    StoreOptions options;
    options.memory_max = bytes;
    return options;
}

// A message of so many bytes, more or less, with its dedup row.
AppendResult send_bytes(World& world, const std::string& to, std::size_t bytes) {
    return world.send("alice", to, std::string(bytes - 190, 'x'));
}

}  // namespace

TEST_CASE("MemoryMessageStore: short of memory, it drops what one device has handled") {
    World world(with_memory(100'000));
    world.open("bob", "phone");
    world.open("bob", "desk");
    for (int i = 0; i < 70; ++i) send_bytes(world, "bob", 1000);
    world.ack("bob", 60, "desk");
    CHECK_FALSE(world.store().wants_trim());
    for (int i = 0; i < 10; ++i) send_bytes(world, "bob", 1000);
    CHECK(world.store().wants_trim());
    world.trim();
    CHECK_FALSE(world.store().wants_trim());
    CHECK(world.positions("bob").front() == 61);
    CHECK(world.read("bob").last == 80);
    // Who has not seen them is told.
    CHECK_FALSE(world.open("bob", "phone").inbox.recovered);
    CHECK(world.open("bob", "desk").inbox.recovered);
}

TEST_CASE("MemoryMessageStore: it goes from inbox to inbox, some messages at a time") {
    World world(with_memory(100'000));
    for (const char* user : {"bob", "carol", "dave"}) {
        world.open(user);
        for (int i = 0; i < 30; ++i) send_bytes(world, user, 1000);
    }
    world.ack("carol", 30);
    world.ack("dave", 30);
    for (int calls = 0; world.store().wants_trim(); ++calls) {
        REQUIRE(calls < 10);
        world.in_transaction([&] {
            bool has_more = false;
            REQUIRE(!world.store().trim(7, has_more));
        });
    }
    CHECK(world.positions("bob").size() == 30);
    // No more than it must.
    CHECK(world.positions("carol").size() == 30 - 21);
    CHECK(world.positions("dave").size() == 30);
}

TEST_CASE("MemoryMessageStore: inboxes of which nothing may go do not hide those behind them") {
    World world(with_memory(1'000'000));
    for (int i = 0; i < 300; ++i) send_bytes(world, "idle" + std::to_string(i), 1000);
    world.open("bob");
    for (int i = 0; i < 600; ++i) send_bytes(world, "bob", 1000);
    world.ack("bob", 600);
    for (int calls = 0; calls < 100 && world.store().wants_trim(); ++calls) {
        world.in_transaction([&] {
            bool has_more = false;
            REQUIRE(!world.store().trim(5, has_more));
        });
    }
    CHECK(world.positions("bob").size() < 600);
    CHECK_FALSE(world.store().wants_trim());
}

TEST_CASE("MemoryMessageStore: full of what nobody has handled, it is busy until somebody has") {
    World world(with_memory(100'000));
    world.open("bob");
    int taken = 0;
    const AppendRequest first = world.streamed("alice", "bob", 1);
    CHECK(world.append(first).fate == Fate::kAccepted);
    while (send_bytes(world, "bob", 1000).fate == Fate::kAccepted) REQUIRE(++taken < 200);
    CHECK(taken > 90);
    const AppendRequest late = world.streamed("alice", "bob", 2);
    CHECK(world.append(late).fate == Fate::kFailed);
    CHECK(world.append(late).code == 302);
    CHECK(world.store().complaint().find("full") != std::string::npos);
    // What it has is known all the same.
    AppendRequest again = first;
    again.seq = 2;
    again.prev = 1;
    CHECK(world.append(again).fate == Fate::kDuplicate);

    world.trim();
    CHECK(world.append(world.streamed("alice", "bob", 3)).fate == Fate::kFailed);
    // A round that freed nothing is not tried again at once.
    CHECK_FALSE(world.store().wants_trim());
    world.ack("bob", 50);
    world.advance(1000);
    world.trim();
    CHECK(world.store().complaint().empty());
    CHECK(world.append(world.streamed("alice", "bob", 3)).fate == Fate::kAccepted);
}

TEST_CASE("MemoryMessageStore: the fingerprints of the dedup horizon count, too") {
    StoreOptions options = with_memory(140'000);
    options.dedup_horizon = std::chrono::minutes{1};
    World world(options);
    world.open("bob");
    int taken = 0;
    for (Fate fate = Fate::kAccepted; fate == Fate::kAccepted;) {
        REQUIRE(taken < 10'000);
        fate = world.send("alice", "bob", "x").fate;
        if (fate != Fate::kAccepted) break;
        world.ack("bob", static_cast<Position>(++taken));
        world.trim();
    }
    CHECK(taken > 1000);
    // Two spans of the horizon later they are gone.
    for (int i = 0; i < 2; ++i) {
        world.advance(61'000);
        world.trim();
        world.send("alice", "bob", "x");
    }
    CHECK(world.send("alice", "bob", "x").fate == Fate::kAccepted);
}

TEST_CASE("MemoryMessageStore: what stays among much that goes is read as it was") {
    StoreOptions options;
    options.inbox_max = 10;
    World world(options);
    world.open("busy");
    const auto text_of = [](int number) {
        return std::string(200, 'x') + " for idle user " + std::to_string(number);
    };
    for (int i = 0; i < 6000; ++i) {
        world.send("alice", "busy", std::string(500, 'y'));
        world.ack("busy", static_cast<Position>(i + 1));
        if (i % 60 == 0) world.send("alice", "idle" + std::to_string(i), text_of(i));
    }
    for (int i = 0; i < 6000; i += 60) {
        const ReadResult result = world.read("idle" + std::to_string(i));
        REQUIRE(result.deliveries.size() == 1);
        REQUIRE(result.deliveries[0].message->text == text_of(i));
        REQUIRE(result.deliveries[0].message->from == "alice");
    }
    CHECK(world.positions("busy").size() == 10);
}
