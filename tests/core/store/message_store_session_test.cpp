#include <string>

#include <doctest/doctest.h>

#include "tests/core/store/store_support.hpp"

// One suite for both forms: sessions, cursors and what is forgotten.

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

#define STORE_TEST(name) \
    TEST_CASE_TEMPLATE("MessageStore: " name, Form, MemoryForm, SqliteForm, SettlingForm)

namespace {

template <class Form>
void send_many(StoreWorld<Form>& world, int count, const std::string& to = "bob") {
    for (int i = 0; i < count; ++i) REQUIRE(world.send("alice", to).fate == Fate::kAccepted);
}

template <class Form>
Fingerprint fingerprint_at(StoreWorld<Form>& world, Position seq) {
    return world.read("bob", seq - 1, 1).deliveries.at(0).message->fp;
}

}  // namespace

// ---- generations ----

STORE_TEST("a new generation is the wall clock, and above all before") {
    StoreWorld<Form> world;
    OpenRequest request = world.login("bob");
    request.generation = 0;
    request.wall = 500;
    CHECK(world.open(request).generation == 500);
    CHECK(world.open(request).generation == 501);
    request.wall = 400;
    CHECK(world.open(request).generation == 502);
    request.wall = 600;
    CHECK(world.open(request).generation == 600);
    world.reopen();
    CHECK(world.open(request).generation == 601);
}

STORE_TEST("a given generation is kept and raises the user's highest") {
    StoreWorld<Form> world;
    OpenRequest request = world.login("bob");
    request.generation = 1000;
    CHECK(world.open(request).generation == 1000);
    request.generation = 7;
    CHECK(world.open(request).generation == 7);
    request.generation = 0;
    request.wall = 5;
    CHECK(world.open(request).generation == 1001);
    request.user = "carol";
    CHECK(world.open(request).generation == 5);
}

STORE_TEST("generations stay below 2^53 and above 0") {
    StoreWorld<Form> world;
    OpenRequest request = world.login("bob");
    request.generation = 0;
    request.wall = -1;
    CHECK(world.open(request).generation == 1);
    request.generation = UINT64_MAX;
    CHECK(world.open(request).generation == kNumberMax);
    request.generation = 0;
    CHECK(world.open(request).generation == kNumberMax);
}

// ---- streams ----

STORE_TEST("a login learns what of its stream is accepted") {
    StoreWorld<Form> world;
    OpenRequest request = world.login("alice");
    request.stream = "s";
    CHECK(world.open(request).accepted == 0);
    world.append(world.streamed("alice", "bob", 1));
    world.append(world.streamed("alice", "bob", 2));
    CHECK(world.open(request).accepted == 2);
    request.stream = "t";
    CHECK(world.open(request).accepted == 0);
}

STORE_TEST("a stream is taken up after accepted or first - 1, whichever is later") {
    StoreWorld<Form> world;
    OpenRequest request = world.login("alice");
    request.stream = "s";
    request.first = 6;
    CHECK(world.open(request).accepted == 0);
    CHECK(world.append(world.streamed("alice", "bob", 5)).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("alice", "bob", 7)).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("alice", "bob", 6)).fate == Fate::kAccepted);
    request.first = 2;
    CHECK(world.open(request).accepted == 6);
    CHECK(world.append(world.streamed("alice", "bob", 7)).fate == Fate::kAccepted);
    request.first = 0;
    CHECK(world.open(request).accepted == 7);
}

STORE_TEST("a stream unused for as long as devices are kept is forgotten, one in use is not") {
    StoreOptions options;
    options.device_retention = 1000ms;
    StoreWorld<Form> world(options);
    world.append(world.streamed("alice", "bob", 1, 0, "idle"));
    world.append(world.streamed("alice", "bob", 1, 0, "busy"));
    world.advance(1000);
    world.append(world.streamed("alice", "bob", 2, 1, "busy"));
    world.trim();
    CHECK(world.append(world.streamed("alice", "bob", 1, 0, "idle")).fate == Fate::kNotTaken);
    world.advance(1);
    world.trim();
    OpenRequest request = world.login("alice");
    request.stream = "idle";
    CHECK(world.open(request).accepted == 0);
    request.stream = "busy";
    CHECK(world.open(request).accepted == 2);
}

STORE_TEST("a login is a use of its stream") {
    StoreOptions options;
    options.device_retention = 1000ms;
    StoreWorld<Form> world(options);
    world.append(world.streamed("alice", "bob", 1));
    OpenRequest request = world.login("alice");
    request.stream = "s";
    world.advance(1000);
    world.open(request);
    world.advance(1000);
    world.trim();

    CHECK(world.open(request).accepted == 1);
}

STORE_TEST("beyond streams_max the stream unused longest goes") {
    StoreOptions options;
    options.streams_max = 2;
    StoreWorld<Form> world(options);
    const auto accepted = [&](const std::string& stream) {
        OpenRequest request = world.login("alice");
        request.stream = stream;
        return world.open(request).accepted;
    };
    for (const char* stream : {"a", "b", "c"}) {
        world.advance(1);
        world.append(world.streamed("alice", "bob", 1, 0, stream));
    }
    CHECK(accepted("a") == 0);
    CHECK(accepted("b") == 1);
    world.advance(1);
    CHECK(accepted("c") == 1);
    world.append(world.streamed("alice", "bob", 1, 0, "d"));
    CHECK(accepted("b") == 0);
    CHECK(accepted("c") == 1);
}

STORE_TEST("with streams_max 1 the newest stream stays, with 0 none does") {
    StoreOptions options;
    options.streams_max = 1;
    StoreWorld<Form> world(options);
    world.append(world.streamed("alice", "bob", 1, 0, "a"));
    world.append(world.streamed("alice", "bob", 1, 0, "b"));
    CHECK(world.append(world.streamed("alice", "bob", 2, 1, "a")).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("alice", "bob", 2, 1, "b")).fate == Fate::kAccepted);

    options.streams_max = 0;
    StoreWorld<Form> none(options);
    CHECK(none.append(none.streamed("alice", "bob", 1)).fate == Fate::kAccepted);
    CHECK(none.append(none.streamed("alice", "bob", 2)).fate == Fate::kNotTaken);
}

// ---- where an inbox resumes ----

STORE_TEST("a device unknown to the store begins at the oldest message") {
    StoreOptions options;
    options.message_retention = 10ms;
    StoreWorld<Form> world(options);
    send_many(world, 2);
    world.advance(11);
    send_many(world, 1);
    world.trim();

    const OpenResult result = world.open("bob");

    CHECK(result.inbox.seq == 2);
    CHECK(result.inbox.last == 3);
    CHECK(result.inbox.recovered);
    CHECK(!result.inbox.epoch.empty());
}

STORE_TEST("the first login of a user has an empty inbox") {
    StoreWorld<Form> world;

    const OpenResult result = world.open("bob");

    CHECK(result.inbox.seq == 0);
    CHECK(result.inbox.last == 0);
    CHECK(result.inbox.recovered);
    CHECK(!result.inbox.epoch.empty());
    CHECK(world.open("bob").inbox.epoch == result.inbox.epoch);
    CHECK(world.open("carol").inbox.epoch != result.inbox.epoch);
}

STORE_TEST("without a cursor a device resumes at its own") {
    StoreWorld<Form> world;
    world.open("bob", "phone");
    world.open("bob", "desk");
    send_many(world, 3);
    world.ack("bob", 2, "phone");

    CHECK(world.open("bob", "phone").inbox.seq == 2);
    CHECK(world.open("bob", "desk").inbox.seq == 0);
    CHECK(world.open("bob", "phone").inbox.recovered);
}

STORE_TEST("without a cursor a device whose next messages are gone is told so") {
    StoreOptions options;
    options.message_retention = 10ms;
    StoreWorld<Form> world(options);
    world.open("bob");
    send_many(world, 2);
    world.ack("bob", 1);
    world.advance(11);
    send_many(world, 1);
    world.trim();

    OpenResult result = world.open("bob");
    CHECK(result.inbox.seq == 2);
    CHECK(!result.inbox.recovered);
    world.ack("bob", 2);
    CHECK(world.open("bob").inbox.recovered);
}

STORE_TEST("a cursor of this epoch resumes where it says") {
    StoreWorld<Form> world;
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 3);
    for (const Position seq : {0, 1, 3}) {
        const Fingerprint fp = seq ? fingerprint_at(world, seq) : Fingerprint();
        const OpenResult result = world.open_with_cursor("bob", "phone", {epoch, seq, fp});
        CHECK(result.inbox.recovered);
        CHECK(result.inbox.seq == seq);
        CHECK(result.inbox.last == 3);
        CHECK(result.inbox.epoch == epoch);
    }
    CHECK(world.open_with_cursor("bob", "phone", {epoch, 2, {}}).inbox.seq == 2);
}

STORE_TEST("a resume does not move the device's own cursor, acks do") {
    StoreWorld<Form> world;
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 3);
    world.ack("bob", 1);

    CHECK(world.open_with_cursor("bob", "phone", {epoch, 3, {}}).handled == 1);

    CHECK(world.open("bob").inbox.seq == 1);
}

STORE_TEST("a new device's cursor starts where it resumed") {
    StoreWorld<Form> world;
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 3);

    world.open_with_cursor("bob", "desk", {epoch, 2, {}});

    CHECK(world.open("bob", "desk").inbox.seq == 2);
}

STORE_TEST("a cursor of another epoch is a break, at the device's own cursor") {
    StoreWorld<Form> world;
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 3);
    world.ack("bob", 1);

    const OpenResult result = world.open_with_cursor("bob", "phone", {"other", 2, {}});
    CHECK(!result.inbox.recovered);
    CHECK(result.inbox.seq == 1);
    CHECK(result.inbox.epoch == epoch);
    CHECK(world.open_with_cursor("bob", "new", {"other", 2, {}}).inbox.seq == 0);
    CHECK(world.open_with_cursor("bob", "phone", {"other", 99, {}}).inbox.epoch == epoch);
}

STORE_TEST("a cursor above last proves an older copy: the inbox gets a new epoch") {
    StoreWorld<Form> world;
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 2);
    world.ack("bob", 1);

    const OpenResult result = world.open_with_cursor("bob", "phone", {epoch, 3, {}});

    CHECK(!result.inbox.recovered);
    CHECK(result.inbox.seq == 1);
    CHECK(result.inbox.last == 2);
    CHECK(result.inbox.epoch != epoch);
    CHECK(!world.open_with_cursor("bob", "phone", {epoch, 2, {}}).inbox.recovered);
    send_many(world, 1);
    CHECK(world.positions("bob") == Seqs{1, 2, 3});
    const OpenResult next = world.open_with_cursor("bob", "phone", {result.inbox.epoch, 2, {}});
    CHECK(next.inbox.recovered);
    CHECK(next.inbox.seq == 2);
}

STORE_TEST("another fingerprint at the cursor proves an older copy") {
    StoreWorld<Form> world;
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 2);

    const OpenResult result =
        world.open_with_cursor("bob", "phone", {epoch, 2, fingerprint_at(world, 1)});

    CHECK(!result.inbox.recovered);
    CHECK(result.inbox.epoch != epoch);
    CHECK(result.inbox.seq == 0);
}

STORE_TEST("the fingerprint is compared with a message of the same transaction, too") {
    StoreWorld<Form> world;
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 1);
    world.in_transaction([&] {
        const AppendRequest request = world.request("alice", "bob");
        world.append(request);
        send_many(world, 1);
        CHECK(world.open_with_cursor("bob", "phone", {epoch, 2, request.message->fp})
                  .inbox.recovered);
        CHECK(!world.open_with_cursor("bob", "phone", {epoch, 3, request.message->fp})
                   .inbox.recovered);
    });
}

STORE_TEST("a cursor behind which messages are gone is a break") {
    StoreOptions options;
    options.message_retention = 10ms;
    StoreWorld<Form> world(options);
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 3);
    const Fingerprint third = fingerprint_at(world, 3);
    world.advance(11);
    send_many(world, 2);
    world.trim();
    REQUIRE(world.positions("bob") == Seqs{4, 5});

    OpenResult result = world.open_with_cursor("bob", "phone", {epoch, 2, {}});
    CHECK(!result.inbox.recovered);
    CHECK(result.inbox.seq == 3);
    CHECK(result.inbox.epoch == epoch);
    CHECK(!world.open_with_cursor("bob", "phone", {epoch, 0, {}}).inbox.recovered);
    CHECK(world.open_with_cursor("bob", "phone", {epoch, 3, third}).inbox.recovered);
    CHECK(world.open_with_cursor("bob", "phone", {epoch, 4, {}}).inbox.seq == 4);
    world.ack("bob", 5);
    result = world.open_with_cursor("bob", "phone", {epoch, 1, {}});
    CHECK(!result.inbox.recovered);
    CHECK(result.inbox.seq == 5);
}

STORE_TEST("last and the epoch outlive all messages of an inbox") {
    StoreOptions options;
    options.message_retention = 10ms;
    StoreWorld<Form> world(options);
    const std::string epoch = world.open("bob").inbox.epoch;
    send_many(world, 3);
    world.advance(11);
    world.trim();
    world.reopen();

    const OpenResult result = world.open("bob", "new");
    CHECK(result.inbox.last == 3);
    CHECK(result.inbox.seq == 3);
    CHECK(result.inbox.epoch == epoch);
    world.send("alice", "bob");
    CHECK(world.positions("bob") == Seqs{4});
    CHECK(world.read("bob").deliveries.at(0).message->cseq == 4);
}

STORE_TEST("renewing the epochs breaks every cursor, of inboxes in use and of others") {
    StoreWorld<Form> world;
    const std::string bob = world.open("bob").inbox.epoch;
    const std::string carol = world.open("carol").inbox.epoch;
    send_many(world, 2);
    world.reopen();
    world.open("bob");
    world.in_transaction([&] { REQUIRE(!world.store().renew_epochs()); });

    const OpenResult renewed = world.open_with_cursor("bob", "phone", {bob, 2, {}});
    CHECK(!renewed.inbox.recovered);
    CHECK(renewed.inbox.epoch != bob);
    CHECK(renewed.inbox.last == 2);
    CHECK(world.open("carol").inbox.epoch != carol);
    world.reopen();
    CHECK(world.open("bob").inbox.epoch == renewed.inbox.epoch);
}

STORE_TEST("renewed epochs are forgotten by a rollback") {
    StoreWorld<Form> world;
    const std::string bob = world.open("bob").inbox.epoch;
    REQUIRE(!world.store().begin(world.now(), 1));
    REQUIRE(!world.store().renew_epochs());
    world.store().rollback();
    CHECK(world.open("bob").inbox.epoch == bob);

    world.in_transaction([&] { REQUIRE(!world.store().renew_epochs()); });
    CHECK(world.open("bob").inbox.epoch != bob);
}

// ---- cursors ----

STORE_TEST("a cursor only goes up, and never above last") {
    StoreWorld<Form> world;
    world.open("bob");
    send_many(world, 3);
    world.ack("bob", 2);
    world.ack("bob", 1);
    CHECK(world.open("bob").inbox.seq == 2);
    world.ack("bob", 99);
    CHECK(world.open("bob").inbox.seq == 3);
    world.ack("bob", 0);
    CHECK(world.open("bob").inbox.seq == 3);
}

STORE_TEST("an ack of an unknown user or device changes nothing") {
    StoreWorld<Form> world;
    world.open("bob");
    send_many(world, 1);

    world.ack("nobody", 1);
    world.ack("bob", 1, "unknown");

    CHECK(world.open("bob").inbox.seq == 0);
    CHECK(world.open("bob", "unknown").inbox.seq == 0);
}

STORE_TEST("a device that receives nothing gets no cursor") {
    StoreWorld<Form> world;
    OpenRequest request = world.login("bob", "sender");
    request.receives = false;
    world.open(request);
    send_many(world, 2);
    world.ack("bob", 2, "sender");

    CHECK(world.open("bob", "sender").inbox.seq == 0);
}

STORE_TEST("beyond devices_max the device unused longest is forgotten") {
    StoreOptions options;
    options.devices_max = 2;
    StoreWorld<Form> world(options);
    send_many(world, 3);
    for (const char* device : {"a", "b"}) {
        world.advance(1);
        world.open("bob", device);
        world.ack("bob", 2, device);
    }
    world.advance(1);
    world.ack("bob", 3, "a");
    world.open("bob", "c");

    CHECK(world.open("bob", "a").inbox.seq == 3);
    CHECK(world.open("bob", "b").inbox.seq == 0);
}

STORE_TEST("of devices as long unused the first by name goes") {
    StoreOptions options;
    options.devices_max = 2;
    StoreWorld<Form> world(options);
    send_many(world, 1);
    for (const char* device : {"b", "a"}) {
        world.open("bob", device);
        world.ack("bob", 1, device);
    }
    world.open("bob", "c");

    OpenRequest request = world.login("bob", "b");
    request.receives = false;
    CHECK(world.open(request).inbox.seq == 1);
    request.device = "a";
    CHECK(world.open(request).inbox.seq == 0);
}

STORE_TEST("with devices_max 0 no device has a cursor") {
    StoreOptions options;
    options.devices_max = 0;
    StoreWorld<Form> world(options);
    send_many(world, 2);
    CHECK(world.open("bob").inbox.seq == 0);
    world.ack("bob", 2);
    CHECK(world.open("bob").inbox.seq == 0);
}

STORE_TEST("a device unused for its retention is forgotten") {
    StoreOptions options;
    options.device_retention = 1000ms;
    StoreWorld<Form> world(options);
    send_many(world, 2);
    world.open("bob");
    world.ack("bob", 1);
    world.advance(1000);
    world.trim();
    CHECK(world.open("bob").inbox.seq == 1);
    world.advance(1001);
    world.trim();
    CHECK(world.open("bob").inbox.seq == 0);
}

STORE_TEST("a cursor of a forgotten device handles nothing") {
    StoreOptions options;
    options.device_retention = 1000ms;
    options.inbox_max = 1;
    StoreWorld<Form> world(options);
    world.open("bob");
    send_many(world, 1);
    world.ack("bob", 1);
    world.advance(1001);

    CHECK(world.send("alice", "bob").code == 308);
}

// ---- plain cursors ----

STORE_TEST("a plain cursor is a floor and what was acked above it") {
    StoreWorld<Form> world;
    world.open_plain("bob");
    send_many(world, 6);
    world.ack_plain("bob", 2);
    world.ack_plain("bob", 5);
    world.ack_plain("bob", 4);
    OpenResult result = world.open_plain("bob");
    CHECK(result.inbox.seq == 0);
    CHECK(result.acked_above == Seqs{2, 4, 5});
    world.ack_plain("bob", 1);
    result = world.open_plain("bob");
    CHECK(result.inbox.seq == 2);
    CHECK(result.acked_above == Seqs{4, 5});
    world.ack_plain("bob", 3);
    world.ack_plain("bob", 6);
    result = world.open_plain("bob");
    CHECK(result.inbox.seq == 6);
    CHECK(result.acked_above.empty());
}

STORE_TEST("plain acks of positions settled, repeated or never given are ignored") {
    StoreWorld<Form> world;
    world.open_plain("bob");
    send_many(world, 3);
    for (const Position position : {1, 1, 0, 3, 3, 4, 99}) {
        world.ack_plain("bob", position);
    }
    const OpenResult result = world.open_plain("bob");
    CHECK(result.inbox.seq == 1);
    CHECK(result.acked_above == Seqs{3});
    send_many(world, 1);
    CHECK(world.open_plain("bob").acked_above == Seqs{3});
}

STORE_TEST("positions that are gone count as acked for a plain floor") {
    StoreOptions options;
    options.message_retention = 10ms;
    StoreWorld<Form> world(options);
    world.open_plain("bob");
    send_many(world, 3);
    world.advance(11);
    send_many(world, 3);
    world.ack_plain("bob", 4);
    world.ack_plain("bob", 2);
    world.trim();

    CHECK(world.open_plain("bob").inbox.seq == 4);
    CHECK(world.open_plain("bob").acked_above.empty());
    world.ack_plain("bob", 5);
    CHECK(world.open_plain("bob").inbox.seq == 5);
}

STORE_TEST("beyond plain_acked_max acks above the floor are ignored, the next one is not") {
    for (const std::size_t acked_max : {0, 1, 2}) {
        StoreOptions options;
        options.plain_acked_max = acked_max;
        StoreWorld<Form> world(options);
        world.open_plain("bob");
        send_many(world, 6);
        for (const Position position : {3, 4, 5}) world.ack_plain("bob", position);
        CHECK(world.open_plain("bob").acked_above.size() == acked_max);
        world.ack_plain("bob", 1);
        CHECK(world.open_plain("bob").inbox.seq == 1);
        world.ack_plain("bob", 2);
        CHECK(world.open_plain("bob").inbox.seq == 2 + acked_max);
    }
}

// ---- trim ----

STORE_TEST("messages go when their retention has passed, not before") {
    StoreOptions options;
    options.message_retention = 1000ms;
    StoreWorld<Form> world(options);
    send_many(world, 2);
    world.advance(500);
    send_many(world, 1);
    world.advance(500);
    world.trim();
    CHECK(world.positions("bob") == Seqs{1, 2, 3});
    world.advance(1);
    world.trim();
    CHECK(world.positions("bob") == Seqs{3});
    world.advance(500);
    world.trim();
    CHECK(world.positions("bob").empty());
}

STORE_TEST("trim takes no more rows than it may, and says that there are more") {
    StoreOptions options;
    options.message_retention = 10ms;
    StoreWorld<Form> world(options);
    send_many(world, 3);
    send_many(world, 2, "carol");
    world.advance(11);
    bool has_more = false;
    world.in_transaction([&] { REQUIRE(!world.store().trim(0, has_more)); });
    CHECK(world.positions("bob") == Seqs{1, 2, 3});
    world.in_transaction([&] { REQUIRE(!world.store().trim(2, has_more)); });
    CHECK(has_more);
    CHECK(world.positions("bob") == Seqs{3});
    world.in_transaction([&] { REQUIRE(!world.store().trim(2, has_more)); });
    CHECK(has_more);
    CHECK(world.positions("bob").empty());
    CHECK(world.positions("carol") == Seqs{2});
    world.in_transaction([&] { REQUIRE(!world.store().trim(100, has_more)); });
    CHECK(world.positions("carol").empty());
    // A form may have something of its own to clear away behind it.
    for (int steps = 0; has_more && steps < 3; ++steps) {
        world.in_transaction([&] { REQUIRE(!world.store().trim(100, has_more)); });
    }
    CHECK(!has_more);
}

STORE_TEST("trims of one transaction go on where the last stopped") {
    StoreOptions options;
    options.message_retention = 10ms;
    options.dedup_horizon = 10ms;
    StoreWorld<Form> world(options);
    send_many(world, 5);
    world.advance(11);
    world.in_transaction([&] {
        world.trim(2);
        CHECK(world.positions("bob").empty());
    });
    CHECK(world.positions("bob").empty());
    CHECK(world.read("bob").last == 5);
}

STORE_TEST("a trim that is rolled back removes nothing") {
    StoreOptions options;
    options.message_retention = 10ms;
    options.dedup_horizon = 10ms;
    StoreWorld<Form> world(options);
    send_many(world, 3);
    world.advance(11);
    bool has_more = false;
    REQUIRE(!world.store().begin(world.now(), 1));
    REQUIRE(!world.store().trim(100, has_more));
    world.store().rollback();

    CHECK(world.positions("bob") == Seqs{1, 2, 3});
    world.trim();
    CHECK(world.positions("bob").empty());
}

STORE_TEST("a trim after the cap has dropped messages in the same transaction agrees with it") {
    StoreOptions options;
    options.message_retention = 10ms;
    options.inbox_max = 2;
    StoreWorld<Form> world(options);
    world.open("bob");
    send_many(world, 2);
    world.ack("bob", 2);
    world.advance(11);
    world.in_transaction([&] {
        send_many(world, 1);
        world.trim();
        CHECK(world.positions("bob") == Seqs{3});
        send_many(world, 1);
    });
    CHECK(world.positions("bob") == Seqs{3, 4});
}

STORE_TEST("an empty transaction does not move the store's clock") {
    StoreWorld<Form> world;
    world.in_transaction([] {});
    CHECK(world.store().last_now() == 0);
    send_many(world, 1);
    CHECK(world.store().last_now() == world.now());
    world.advance(10);
    world.read("bob");
    CHECK(world.store().last_now() == world.now() - 10);
}
