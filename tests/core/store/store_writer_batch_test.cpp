// Requests handed over in one piece: StoreWriter::Batch.

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <doctest/doctest.h>

#include "tests/core/store/writer_world.hpp"

using namespace petrel;
using namespace petrel::test;

TEST_CASE("StoreWriter: a batch is one transaction, answered in its order") {
    WriterWorld world;
    StoreWriter::Batch batch;
    for (int i = 0; i < 50; ++i) REQUIRE(world.writer.append(world.message(), batch));
    REQUIRE(world.writer.open_session(world.login(), batch));
    REQUIRE(world.writer.read(world.reading(), batch));
    REQUIRE(world.writer.append(world.message(), batch));
    CHECK(world.writer.stats().queued == 53);
    world.writer.submit(batch);
    world.writer.stop();

    CHECK(world.script->commits == 1);
    CHECK(world.listener.order == "corc");
    REQUIRE(world.listener.results.size() == 51);
    for (std::size_t i = 0; i < 51; ++i) CHECK(world.listener.results[i].ticket == i + 1);
    CHECK(world.writer.stats().queued == 0);
}

TEST_CASE("StoreWriter: a submitted batch is empty and takes more") {
    WriterWorld world;
    StoreWriter::Batch batch;
    world.writer.submit(batch);
    for (std::size_t round = 1; round <= 3; ++round) {
        REQUIRE(world.writer.append(world.message(), batch));
        world.writer.submit(batch);
        world.writer.submit(batch);
    }
    world.writer.stop();
    CHECK(world.listener.results.size() == 3);
}

TEST_CASE("StoreWriter: a part of a batch goes ahead when the writer has nothing to do") {
    WriterWorld world;
    StoreWriter::Batch batch;
    const auto add = [&](int count) {
        for (int i = 0; i < count; ++i) REQUIRE(world.writer.append(world.message(), batch));
    };
    add(31);
    CHECK(!world.writer.submit_part(batch));  // Not worth a transaction.
    add(1);
    world.wait_until_idle();
    world.script->close();
    CHECK(world.writer.submit_part(batch));
    world.script->wait_for_writer();
    add(40);
    CHECK(!world.writer.submit_part(batch));  // It is at work.
    CHECK(world.writer.stats().queued == 40);
    world.writer.submit(batch);
    world.script->open();
    world.writer.stop();
    CHECK(world.script->commits == 2);
    REQUIRE(world.listener.results.size() == 72);
    for (std::size_t i = 0; i < 72; ++i) CHECK(world.listener.results[i].ticket == i + 1);
}

TEST_CASE("StoreWriter: what is collected counts against the queue's limits") {
    StoreWriter::Options options = WriterWorld::quiet();
    options.queue_max = 3;
    options.queue_bytes_max = 20;
    WriterWorld world(options);
    StoreWriter::Batch one;
    StoreWriter::Batch other;
    CHECK(world.writer.append(world.message("123456789"), one));
    CHECK(!world.writer.append(world.message("123456789012"), other));  // Bytes.
    CHECK(world.writer.append(world.message("1"), other));
    CHECK(world.writer.append(world.message("1"), other));
    CHECK(!world.writer.append(world.message("1"), one));  // Messages.
    CHECK(!world.writer.append(world.message("1")));
    CHECK(world.writer.stats().queued == 3);
    CHECK(world.writer.stats().queued_bytes == 11);
    world.writer.submit(one);
    world.writer.submit(other);
    world.writer.stop();
    CHECK(world.listener.results.size() == 3);
    CHECK(world.writer.stats().queued == 0);
    CHECK(world.writer.stats().queued_bytes == 0);
}

TEST_CASE("StoreWriter: what is done is held on to no longer, though nothing follows") {
    WriterWorld world;
    AppendRequest request = world.message();
    request.refusal = 303;  // So that the store does not keep it.
    const std::weak_ptr<StoredMessage> message = request.message;
    REQUIRE(world.writer.append(std::move(request)));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (!message.expired() && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
    }
    CHECK(message.expired());
}

TEST_CASE("StoreWriter: cursors of a batch are in the store before its login is opened") {
    WriterWorld world;
    REQUIRE(world.writer.append(world.message()));
    StoreWriter::Batch batch;
    REQUIRE(world.writer.open_session(world.login("phone"), batch));
    world.writer.advance(WriterWorld::acked(1), batch);
    world.writer.submit(batch);
    world.writer.stop();
    CHECK(world.script->advances.size() == 1);
    REQUIRE(world.listener.opened.size() == 1);
    CHECK(!world.listener.opened[0].error);
}

TEST_CASE("StoreWriter: what is submitted behind the end is dropped, and takes no more") {
    WriterWorld world;
    StoreWriter::Batch batch;
    REQUIRE(world.writer.append(world.message("text"), batch));
    world.writer.advance(WriterWorld::acked(1), batch);
    world.writer.stop();
    CHECK(!world.writer.append(world.message(), batch));
    world.writer.submit(batch);
    CHECK(world.listener.results.empty());
    CHECK(world.script->begins == 0);
    CHECK(world.writer.stats().queued == 0);
    CHECK(world.writer.stats().queued_bytes == 0);
}
