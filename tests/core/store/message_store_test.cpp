#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/core/store/store_support.hpp"

// One suite for both forms: what is accepted. message_store_session_test.cpp has the rest.

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

#define STORE_TEST(name) \
    TEST_CASE_TEMPLATE("MessageStore: " name, Form, MemoryForm, SqliteForm, SettlingForm)

STORE_TEST("an accepted message has the next cseq, the wall time and an inbox position") {
    StoreWorld<Form> world;
    world.set_wall(1234);

    const AppendResult result = world.send("alice", "bob", "hi");

    CHECK(result.fate == Fate::kAccepted);
    CHECK(result.code == 0);
    CHECK(result.cseq == 1);
    CHECK(result.send_ts == 1234);
    REQUIRE(world.deliveries().size() == 1);
    const Delivery& delivery = world.deliveries()[0];
    CHECK(delivery.message->app == "default");
    CHECK(delivery.message->to == "bob");
    CHECK(delivery.seq == 1);
    CHECK(delivery.message->from == "alice");
    CHECK(delivery.message->to == "bob");
    CHECK(delivery.message->text == "hi");
    CHECK(delivery.message->conv == "u:alice:bob");
    CHECK(delivery.message->cseq == 1);
    CHECK(delivery.message->send_ts == 1234);
}

STORE_TEST("what is read equals what was delivered") {
    StoreWorld<Form> world;
    AppendRequest request = world.request("alice", "b:o%b", std::string("\0text\xc3\xa9", 7));
    request.message->fp = fingerprint("sixteen chars ok");
    request.message->typeu = 7;
    request.message->bridge = true;
    world.append(request);
    const StoredMessage sent = *world.deliveries().at(0).message;
    world.reopen();

    const ReadResult result = world.read("b:o%b");

    REQUIRE(result.deliveries.size() == 1);
    const StoredMessage& kept = *result.deliveries[0].message;
    CHECK(kept.from == sent.from);
    CHECK(kept.to == sent.to);
    CHECK(kept.fp == sent.fp);
    CHECK(kept.typeu == 7);
    CHECK(kept.bridge);
    CHECK(kept.text == sent.text);
    CHECK(kept.conv == sent.conv);
    CHECK(kept.conv == "u:alice:b%3Ao%25b");
    CHECK(kept.cseq == sent.cseq);
    CHECK(kept.send_ts == sent.send_ts);
}

STORE_TEST("both directions of a conversation share one cseq, others do not") {
    StoreWorld<Form> world;

    CHECK(world.send("alice", "bob").cseq == 1);
    CHECK(world.send("bob", "alice").cseq == 2);
    CHECK(world.send("alice", "carol").cseq == 1);
    CHECK(world.send("alice", "bob").cseq == 3);
}

STORE_TEST("apps never see one another") {
    StoreWorld<Form> world;
    world.send("alice", "bob");
    AppendRequest other = world.request("alice", "bob");
    other.message->app = "other";

    const AppendResult result = world.append(other);

    CHECK(result.cseq == 1);
    CHECK(world.deliveries().at(0).seq == 1);
    CHECK(world.positions("bob") == Seqs{1});
}

STORE_TEST("app and user are two things, wherever the line between them is") {
    StoreWorld<Form> world;
    AppendRequest one = world.request("x", "bc");
    one.message->app = "a";
    AppendRequest two = world.request("x", "c");
    two.message->app = "ab";
    world.append(one);

    CHECK(world.append(two).cseq == 1);
    CHECK(world.deliveries().at(0).seq == 1);
}

STORE_TEST("a message to oneself is delivered once") {
    StoreWorld<Form> world;

    const AppendResult result = world.send("alice", "alice");

    CHECK(result.fate == Fate::kAccepted);
    CHECK(world.deliveries().size() == 1);
    CHECK(world.positions("alice") == Seqs{1});
    CHECK(world.read("alice").deliveries.at(0).message->conv == "u:alice:alice");
}

STORE_TEST("user 0 has an inbox like anyone's") {
    StoreWorld<Form> world;

    world.send("alice", kServerUser);

    CHECK(world.positions(kServerUser) == Seqs{1});
    CHECK(world.positions("alice").empty());
}

STORE_TEST("later appends of a transaction see the earlier ones") {
    StoreWorld<Form> world;
    AppendRequest request = world.streamed("alice", "bob", 1);
    world.in_transaction([&] {
        CHECK(world.append(request).fate == Fate::kAccepted);
        CHECK(world.append(world.streamed("alice", "bob", 2)).cseq == 2);
        request.stream = nullptr;
        CHECK(world.append(request).fate == Fate::kDuplicate);
        CHECK(world.positions("bob") == Seqs{1, 2});
    });
    CHECK(world.positions("bob") == Seqs{1, 2});
}

STORE_TEST("a rollback leaves nothing behind and no number used up") {
    StoreWorld<Form> world;
    world.send("alice", "bob");
    world.open("bob");
    const AppendRequest lost = world.streamed("alice", "bob", 1);
    const AppendRequest to_new_user = world.request("dora", "emil");
    AppendResult result;
    std::vector<Delivery> deliveries;
    OpenResult opened;
    REQUIRE(!world.store().begin(world.now(), 5));
    REQUIRE(!world.store().append(lost, result, deliveries));
    REQUIRE(!world.store().append(to_new_user, result, deliveries));
    REQUIRE(!world.store().advance({"default", "bob", "phone", false, 1}));
    OpenRequest login = world.login("bob", "tablet");
    login.generation = 99;
    REQUIRE(!world.store().open_session(login, opened));

    world.store().rollback();

    CHECK(world.positions("bob") == Seqs{1});
    CHECK(world.read("emil").last == 0);
    const OpenResult again = world.open("bob");
    CHECK(again.inbox.seq == 0);
    CHECK(again.generation == 1);
    OpenRequest fresh = world.login("bob");
    fresh.generation = 0;
    CHECK(world.open(fresh).generation == 2);
    CHECK(world.append(lost).cseq == 2);
    CHECK(world.deliveries().at(0).seq == 2);
    CHECK(world.append(to_new_user).cseq == 1);
}

// ---- stream positions ----

STORE_TEST("a stream is taken in order only") {
    StoreWorld<Form> world;

    CHECK(world.append(world.streamed("alice", "bob", 2)).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("alice", "bob", 1)).fate == Fate::kAccepted);
    CHECK(world.append(world.streamed("alice", "bob", 3)).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("alice", "bob", 1)).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("alice", "bob", 2)).fate == Fate::kAccepted);
    CHECK(world.positions("bob") == Seqs{1, 2});
}

STORE_TEST("prev lets a stream go over skipped positions") {
    StoreWorld<Form> world;
    world.append(world.streamed("alice", "bob", 1));

    CHECK(world.append(world.streamed("alice", "bob", 9, 2)).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("alice", "bob", 9, 1)).fate == Fate::kAccepted);
    CHECK(world.append(world.streamed("alice", "bob", 12, 5)).fate == Fate::kAccepted);
    CHECK(world.append(world.streamed("alice", "bob", 13, 0)).fate == Fate::kAccepted);
}

STORE_TEST("streams of a user are apart, and so are users with streams of one name") {
    StoreWorld<Form> world;
    world.append(world.streamed("alice", "bob", 1, 0, "s"));

    CHECK(world.append(world.streamed("alice", "bob", 1, 0, "t")).fate == Fate::kAccepted);
    CHECK(world.append(world.streamed("bob", "alice", 1, 0, "s")).fate == Fate::kAccepted);
    CHECK(world.append(world.streamed("alice", "bob", 2, 1, "s")).fate == Fate::kAccepted);
}

STORE_TEST("positions end below 2^53") {
    StoreWorld<Form> world;

    CHECK(world.append(world.streamed("a", "b", kNumberMax + 1, 0)).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("a", "b", kNumberMax, 0)).fate == Fate::kAccepted);
    CHECK(world.append(world.streamed("a", "b", kNumberMax, 0)).fate == Fate::kNotTaken);
}

STORE_TEST("a message that is not taken changes nothing") {
    StoreWorld<Form> world;
    const AppendRequest early = world.streamed("alice", "bob", 2);
    world.append(early);

    CHECK(world.append(world.streamed("alice", "bob", 1)).fate == Fate::kAccepted);
    const AppendResult result = world.append(early);
    CHECK(result.fate == Fate::kAccepted);
    CHECK(result.cseq == 2);
}

// ---- fingerprints ----

STORE_TEST("the same fingerprint and payload is acked with the original's numbers") {
    StoreWorld<Form> world;
    const AppendRequest request = world.request("alice", "bob");
    world.set_wall(100);
    world.append(request);
    world.set_wall(200);
    world.send("alice", "bob");

    const AppendResult again = world.append(request);

    CHECK(again.fate == Fate::kDuplicate);
    CHECK(again.cseq == 1);
    CHECK(again.send_ts == 100);
    CHECK(world.deliveries().empty());
    CHECK(world.positions("bob") == Seqs{1, 2});
}

STORE_TEST("a duplicate moves the stream") {
    StoreWorld<Form> world;
    AppendRequest request = world.streamed("alice", "bob", 1, 0, "old");
    world.append(request);
    request.stream = stream_named("new");
    request.seq = 4;
    request.prev = 0;

    CHECK(world.append(request).fate == Fate::kDuplicate);
    CHECK(world.append(world.streamed("alice", "bob", 4, 0, "new")).fate == Fate::kNotTaken);
    CHECK(world.append(world.streamed("alice", "bob", 5, 4, "new")).fate == Fate::kAccepted);
}

STORE_TEST("the same fingerprint with another payload is 305 and moves nothing") {
    StoreWorld<Form> world;
    const AppendRequest request = world.streamed("alice", "bob", 1);
    world.append(request);
    const auto refused = [&](auto change) {
        AppendRequest other = copy_of(request);
        other.seq = 2;
        other.prev = 1;
        change(other);
        const AppendResult result = world.append(other);
        CHECK(result.fate == Fate::kRefused);
        CHECK(result.code == 305);
        CHECK(result.cseq == 0);
    };

    refused([](AppendRequest& other) { other.message->text += "!"; });
    refused([](AppendRequest& other) { other.message->text.clear(); });
    refused([](AppendRequest& other) { other.message->to = "carol"; });
    refused([](AppendRequest& other) { other.message->typeu = 2; });
    refused([](AppendRequest& other) { other.refusal = 306, other.message->text = "x"; });
    CHECK(world.append(world.streamed("alice", "bob", 2)).fate == Fate::kAccepted);
    CHECK(world.read("carol").last == 0);
}

STORE_TEST("text that moved between the fields is another payload") {
    StoreWorld<Form> world;
    AppendRequest request = world.request("alice", "bo", "btext");
    world.append(request);
    request.message->to = "bob";
    request.message->text = "text";

    CHECK(world.append(request).code == 305);
}

STORE_TEST("bridge is no part of the payload") {
    StoreWorld<Form> world;
    AppendRequest request = world.request("alice", "bob");
    world.append(request);
    request.message->bridge = true;

    CHECK(world.append(request).fate == Fate::kDuplicate);
}

STORE_TEST("senders do not share fingerprints") {
    StoreWorld<Form> world;
    AppendRequest request = world.request("alice", "bob");
    world.append(request);
    request.message->from = "carol";

    CHECK(world.append(request).fate == Fate::kAccepted);
    request.message->app = "other";
    CHECK(world.append(request).fate == Fate::kAccepted);
}

STORE_TEST("a UUID and texts that look like its bytes are different fingerprints") {
    StoreWorld<Form> world;
    const std::string letters = "aaaaaaaaaaaaaaaa";
    std::array<std::uint8_t, 16> bytes{};
    bytes.fill('a');
    std::vector<Fingerprint> fps = {Fingerprint::from_uuid(bytes), fingerprint(letters),
                                    fingerprint(letters.substr(1)), fingerprint(letters + "a"),
                                    fingerprint("A")};
    for (const Fingerprint& fp : fps) {
        AppendRequest request = world.request("alice", "bob");
        request.message->fp = fp;
        CHECK(world.append(request).fate == Fate::kAccepted);
    }
    world.reopen();
    const ReadResult result = world.read("bob");
    REQUIRE(result.deliveries.size() == fps.size());
    for (std::size_t i = 0; i < fps.size(); ++i) {
        CHECK(result.deliveries[i].message->fp == fps[i]);
        AppendRequest request = world.request("alice", "bob");
        request.message->fp = fps[i];
        CHECK(world.append(request).fate == Fate::kDuplicate);
    }
}

STORE_TEST("the fingerprint comes before the session's objection and the full inbox") {
    StoreOptions options;
    options.inbox_max = 1;
    StoreWorld<Form> world(options);
    AppendRequest request = world.request("alice", "bob");
    world.append(request);
    request.refusal = 304;

    CHECK(world.append(request).fate == Fate::kDuplicate);
    CHECK(world.send("alice", "bob").code == 308);
}

STORE_TEST("the session's objection refuses, and leaves the fingerprint free") {
    StoreWorld<Form> world;
    AppendRequest request = world.streamed("alice", "bob", 1);
    request.refusal = 306;

    const AppendResult result = world.append(request);

    CHECK(result.fate == Fate::kRefused);
    CHECK(result.code == 306);
    CHECK(world.deliveries().empty());
    request.refusal = 0;
    CHECK(world.append(request).fate == Fate::kAccepted);
}

STORE_TEST("a fingerprint is free again when the horizon has passed") {
    StoreOptions options;
    options.dedup_horizon = 1000ms;
    StoreWorld<Form> world(options);
    AppendRequest request = world.request("alice", "bob");
    world.append(request);
    world.advance(1000);
    CHECK(world.append(request).fate == Fate::kDuplicate);
    world.advance(1);

    request.message->text = "another";
    CHECK(world.append(request).fate == Fate::kAccepted);
    CHECK(world.append(request).fate == Fate::kDuplicate);
    world.advance(1000);
    world.trim();
    CHECK(world.append(request).fate == Fate::kDuplicate);
    world.advance(1);
    world.trim();
    CHECK(world.append(request).fate == Fate::kAccepted);
}

STORE_TEST("with a horizon of 0 a fingerprint lasts as long as the clock stands") {
    StoreOptions options;
    options.dedup_horizon = 0ms;
    StoreWorld<Form> world(options);
    const AppendRequest request = world.request("alice", "bob");
    world.append(request);

    CHECK(world.append(request).fate == Fate::kDuplicate);
    world.advance(1);
    CHECK(world.append(request).fate == Fate::kAccepted);
}

STORE_TEST("the dedup rows do not need the message rows") {
    StoreOptions options;
    options.message_retention = 10ms;
    StoreWorld<Form> world(options);
    AppendRequest request = world.request("alice", "bob");
    world.append(request);
    world.advance(11);
    world.trim();
    REQUIRE(world.positions("bob").empty());
    world.advance(1);
    world.reopen();

    CHECK(world.append(request).fate == Fate::kDuplicate);
    request.message->text += "!";
    CHECK(world.append(request).code == 305);
}

STORE_TEST("the store's clock never goes backwards") {
    StoreOptions options;
    options.dedup_horizon = 1000ms;
    StoreWorld<Form> world(options);
    world.advance(5000);
    const AppendRequest request = world.request("alice", "bob");
    world.append(request);
    CHECK(world.store().last_now() == world.now());
    world.advance(-4000);

    CHECK(world.append(request).fate == Fate::kDuplicate);
    world.send("alice", "bob");
    CHECK(world.store().last_now() == world.now() + 4000);
}

STORE_TEST("a wall clock before 1970 stamps 0") {
    StoreWorld<Form> world;
    world.set_wall(-5);

    CHECK(world.send("alice", "bob").send_ts == 0);
}

// ---- the cap of an inbox ----

STORE_TEST("a full inbox of messages that nobody handled refuses with 308") {
    StoreOptions options;
    options.inbox_max = 2;
    StoreWorld<Form> world(options);
    world.send("alice", "bob");
    world.send("alice", "bob");

    const AppendRequest third = world.streamed("alice", "bob", 1);
    const AppendResult result = world.append(third);

    CHECK(result.fate == Fate::kRefused);
    CHECK(result.code == 308);
    CHECK(world.positions("bob") == Seqs{1, 2});
    CHECK(world.send("alice", "carol").fate == Fate::kAccepted);
    world.open("bob");
    world.ack("bob", 1);
    CHECK(world.append(third).fate == Fate::kAccepted);
    CHECK(world.append(third).fate == Fate::kNotTaken);
}

STORE_TEST("a full inbox drops the oldest that one device has handled, and no more than it must") {
    StoreOptions options;
    options.inbox_max = 3;
    StoreWorld<Form> world(options);
    world.open("bob", "phone");
    world.open("bob", "desk");
    for (int i = 0; i < 3; ++i) world.send("alice", "bob");
    world.ack("bob", 2, "desk");

    CHECK(world.send("alice", "bob").cseq == 4);
    CHECK(world.positions("bob") == Seqs{2, 3, 4});
    CHECK(world.send("alice", "bob").fate == Fate::kAccepted);
    CHECK(world.positions("bob") == Seqs{3, 4, 5});
    CHECK(world.send("alice", "bob").code == 308);
    CHECK(world.read("bob").last == 5);
}

STORE_TEST("what a plain device acked above its floor may go once the floor is there") {
    StoreOptions options;
    options.inbox_max = 3;
    StoreWorld<Form> world(options);
    world.open_plain("bob");
    world.open("bob", "phone");
    for (int i = 0; i < 3; ++i) world.send("alice", "bob");
    world.ack_plain("bob", 2);
    CHECK(world.send("alice", "bob").code == 308);
    world.ack("bob", 1);

    CHECK(world.send("alice", "bob").fate == Fate::kAccepted);
    CHECK(world.send("alice", "bob").fate == Fate::kAccepted);
    CHECK(world.positions("bob") == Seqs{3, 4, 5});
    CHECK(world.send("alice", "bob").code == 308);
}

STORE_TEST("an inbox of 0 takes nothing") {
    StoreOptions options;
    options.inbox_max = 0;
    StoreWorld<Form> world(options);
    world.open("bob");

    CHECK(world.send("alice", "bob").code == 308);
    CHECK(world.send("alice", "stranger").code == 308);
    CHECK(world.send("alice", "alice").code == 308);
}

STORE_TEST("an inbox of 1 holds the last message") {
    StoreOptions options;
    options.inbox_max = 1;
    StoreWorld<Form> world(options);
    world.open("bob");
    for (Position i = 1; i <= 4; ++i) {
        CHECK(world.send("alice", "bob").cseq == i);
        CHECK(world.positions("bob") == Seqs{i});
        world.ack("bob", i);
    }
}

STORE_TEST("a message may come and go within one transaction") {
    StoreOptions options;
    options.inbox_max = 1;
    StoreWorld<Form> world(options);
    world.open("bob");
    const AppendRequest first = world.request("alice", "bob");
    world.in_transaction([&] {
        world.append(first);
        world.ack("bob", 1);
        world.send("alice", "bob");
        CHECK(world.positions("bob") == Seqs{2});
    });
    CHECK(world.positions("bob") == Seqs{2});
    CHECK(world.read("bob").last == 2);
    world.reopen();
    CHECK(world.positions("bob") == Seqs{2});
    CHECK(world.append(first).fate == Fate::kDuplicate);
}

STORE_TEST("a new user's first message may come and go within one transaction") {
    StoreOptions options;
    options.inbox_max = 1;
    StoreWorld<Form> world(options);
    world.in_transaction([&] {
        world.send("alice", "bob");
        world.open("bob");
        world.ack("bob", 1);
        world.send("alice", "bob");
    });
    CHECK(world.positions("bob") == Seqs{2});
    world.ack("bob", 2);
    world.send("alice", "bob");
    CHECK(world.positions("bob") == Seqs{3});
    CHECK(world.read("bob").deliveries.at(0).message->cseq == 3);
}

// ---- reading ----

STORE_TEST("a reader gets what is after its position, within its limits") {
    StoreWorld<Form> world;
    for (int i = 0; i < 5; ++i) world.send("alice", "bob", "12345");

    CHECK(world.positions("bob", 3) == Seqs{4, 5});
    CHECK(world.positions("bob", 5).empty());
    CHECK(world.positions("bob", kNumberMax).empty());
    CHECK(world.read("bob", 0, 0).deliveries.empty());
    CHECK(world.read("bob", 0, 1).deliveries.size() == 1);
    CHECK(world.read("bob", 1, 2).after == 1);
    CHECK(world.read("bob", 1, 2).deliveries.back().seq == 3);
    CHECK(world.read("bob", 0, 9, 0).deliveries.size() == 1);
    CHECK(world.read("bob", 0, 9, 9).deliveries.size() == 1);
    CHECK(world.read("bob", 0, 9, 10).deliveries.size() == 2);
    CHECK(world.read("bob", 0, 9, 25).deliveries.size() == 5);
    CHECK(world.read("bob", 2).last == 5);
}

STORE_TEST("limits count across what is committed and what is not") {
    StoreWorld<Form> world;
    world.send("alice", "bob", "12345");
    world.send("alice", "bob", "12345");
    world.in_transaction([&] {
        world.send("alice", "bob", "12345");
        world.send("alice", "bob", "12345");
        CHECK(world.positions("bob") == Seqs{1, 2, 3, 4});
        CHECK(world.positions("bob", 2) == Seqs{3, 4});
        CHECK(world.positions("bob", 3) == Seqs{4});
        CHECK(world.read("bob", 0, 1).deliveries.size() == 1);
        CHECK(world.read("bob", 0, 3).deliveries.size() == 3);
        CHECK(world.read("bob", 0, 9, 7).deliveries.size() == 1);
        CHECK(world.read("bob", 0, 9, 15).deliveries.size() == 3);
        CHECK(world.read("bob", 2, 9, 1).deliveries.size() == 1);
        CHECK(world.read("bob").last == 4);
    });
}

STORE_TEST("a stranger has no messages") {
    StoreWorld<Form> world;

    const ReadResult result = world.read("nobody");

    CHECK(result.deliveries.empty());
    CHECK(result.last == 0);
    CHECK(!result.error);
}
