#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/core/store/writer_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

TEST_CASE("StoreWriter: results come in the order of the requests, with their deliveries") {
    WriterWorld world;
    for (int i = 0; i < 200; ++i) REQUIRE(world.writer.append(world.message()));
    world.writer.stop();

    REQUIRE(world.listener.results.size() == 200);
    REQUIRE(world.listener.deliveries.size() == 200);
    for (std::size_t i = 0; i < 200; ++i) {
        CHECK(world.listener.results[i].ticket == i + 1);
        CHECK(world.listener.results[i].fate == Fate::kAccepted);
        CHECK(world.listener.results[i].cseq == i + 1);
        CHECK(world.listener.deliveries[i].seq == i + 1);
    }
}

TEST_CASE("StoreWriter: what is told is committed") {
    WriterWorld world;
    world.listener.on_event = [&] {
        const std::lock_guard<std::mutex> lock(world.script->mutex);
        CHECK(world.script->commits == world.script->begins);
    };
    for (int i = 0; i < 20; ++i) REQUIRE(world.writer.append(world.message()));
    world.writer.stop();
    CHECK(world.listener.results.size() == 20);
}

TEST_CASE("StoreWriter: what came during a commit is one transaction") {
    WriterWorld world;
    world.script->close();
    REQUIRE(world.writer.append(world.message()));
    world.script->wait_for_writer();
    for (int i = 0; i < 100; ++i) REQUIRE(world.writer.append(world.message()));
    CHECK(world.writer.stats().queued == 100);
    world.script->open();
    world.writer.stop();

    CHECK(world.script->commits == 2);
    CHECK(world.writer.stats().commits == 2);
    CHECK(world.writer.stats().appended == 101);
    CHECK(world.writer.stats().failed == 0);
    CHECK(world.writer.stats().queued == 0);
}

TEST_CASE("StoreWriter: batch_max bounds a transaction") {
    for (const std::size_t batch_max : {0, 1, 10}) {
        StoreWriter::Options options = WriterWorld::quiet();
        options.batch_max = batch_max;
        WriterWorld world(options);
        world.script->close();
        REQUIRE(world.writer.append(world.message()));
        world.script->wait_for_writer();
        for (int i = 0; i < 20; ++i) REQUIRE(world.writer.append(world.message()));
        world.script->open();
        world.writer.stop();

        CHECK(world.script->commits == (batch_max == 10 ? 3 : 21));
        CHECK(world.listener.results.size() == 21);
    }
}

TEST_CASE("StoreWriter: batch_bytes_max bounds a transaction, one message more fits") {
    StoreWriter::Options options = WriterWorld::quiet();
    options.batch_bytes_max = 10;
    WriterWorld world(options);
    world.script->close();
    REQUIRE(world.writer.append(world.message()));
    world.script->wait_for_writer();
    for (int i = 0; i < 4; ++i) REQUIRE(world.writer.append(world.message("123456")));
    world.script->open();
    world.writer.stop();

    CHECK(world.script->commits == 3);
}

TEST_CASE("StoreWriter: a full queue refuses and keeps nothing") {
    for (const std::size_t queue_max : {0, 1, 3}) {
        StoreWriter::Options options = WriterWorld::quiet();
        options.queue_max = queue_max;
        WriterWorld world(options);
        world.script->close();
        if (queue_max > 0) {
            REQUIRE(world.writer.append(world.message()));
            world.script->wait_for_writer();
        }
        for (std::size_t i = 0; i < queue_max; ++i) {
            CHECK(world.writer.append(world.message()));
            CHECK(world.writer.open_session(world.login()));
        }
        CHECK(!world.writer.append(world.message()));
        CHECK(!world.writer.open_session(world.login()));
        CHECK(!world.writer.read(world.reading()));
        world.script->open();
        world.writer.stop();
        CHECK(world.listener.results.size() == (queue_max > 0 ? queue_max + 1 : 0));
        CHECK(world.listener.opened.size() == queue_max);
    }
}

TEST_CASE("StoreWriter: the bytes queued are bounded, and free again once taken") {
    StoreWriter::Options options = WriterWorld::quiet();
    options.queue_bytes_max = 10;
    WriterWorld world(options);
    world.script->close();
    CHECK(!world.writer.append(world.message("more than 10 bytes")));
    REQUIRE(world.writer.append(world.message("12345")));
    world.script->wait_for_writer();
    CHECK(world.writer.append(world.message("1234567890")));
    CHECK(!world.writer.append(world.message("1")));
    CHECK(world.writer.append(world.message("")));
    world.script->open();
    world.writer.stop();
    CHECK(world.listener.results.size() == 3);
}

TEST_CASE("StoreWriter: after stop nothing is taken") {
    WriterWorld world;
    world.writer.stop();
    world.writer.stop();

    CHECK(!world.writer.append(world.message()));
    CHECK(!world.writer.open_session(world.login()));
    CHECK(!world.writer.read(world.reading()));
    world.writer.advance(world.acked(1));
    CHECK(world.listener.order.empty());
    CHECK(world.script->begins == 0);
}

TEST_CASE("StoreWriter: the observer may stop it") {
    WriterWorld world;
    world.listener.on_event = [&] { world.writer.stop(); };
    REQUIRE(world.writer.append(world.message()));
    world.script->wait([&] { return world.script->commits == 1; });
    world.writer.stop();
    CHECK(world.listener.results.size() == 1);
}

TEST_CASE("StoreWriter: appends, opens and reads keep their order") {
    WriterWorld world;
    world.script->close();
    REQUIRE(world.writer.append(world.message()));
    world.script->wait_for_writer();
    REQUIRE(world.writer.append(world.message()));
    REQUIRE(world.writer.append(world.message()));
    REQUIRE(world.writer.open_session(world.login()));
    REQUIRE(world.writer.append(world.message()));
    REQUIRE(world.writer.read(world.reading()));
    REQUIRE(world.writer.open_session(world.login()));
    world.script->open();
    world.writer.stop();

    CHECK(world.listener.order == "ccocro");
    CHECK(world.listener.opened.at(0).inbox.last == 3);
    CHECK(world.listener.reads.at(0).deliveries.size() == 4);
    CHECK(world.listener.opened.at(1).inbox.last == 4);
}

// ---- failures ----

TEST_CASE("StoreWriter: a commit that fails once costs nobody anything") {
    WriterWorld world;
    world.script->close();
    REQUIRE(world.writer.append(world.message()));
    world.script->wait_for_writer();
    for (int i = 0; i < 10; ++i) REQUIRE(world.writer.append(world.message()));
    world.script->set([&] { world.script->failing_commits = 1; });
    world.script->open();
    world.writer.stop();

    REQUIRE(world.listener.results.size() == 11);
    for (std::size_t i = 0; i < 11; ++i) {
        CHECK(world.listener.results[i].fate == Fate::kAccepted);
        CHECK(world.listener.results[i].cseq == i + 1);
    }
    CHECK(world.listener.deliveries.size() == 11);
}

TEST_CASE("StoreWriter: only what fails alone has failed") {
    for (const bool at_once : {false, true}) {
        WriterWorld world;
        (at_once ? world.script->poison_at_once : world.script->poison) = "poison";
        world.script->close();
        REQUIRE(world.writer.append(world.message()));
        world.script->wait_for_writer();
        for (int i = 0; i < 5; ++i) REQUIRE(world.writer.append(world.message()));
        AppendRequest poison = world.message("poison");
        poison.seq = 9;
        REQUIRE(world.writer.append(poison));
        for (int i = 0; i < 5; ++i) REQUIRE(world.writer.append(world.message()));
        world.script->open();
        world.writer.stop();

        REQUIRE(world.listener.results.size() == 12);
        for (std::size_t i = 0; i < 12; ++i) {
            const AppendResult& result = world.listener.results[i];
            CHECK(result.ticket == i + 1);
            CHECK(result.fate == (i == 6 ? Fate::kFailed : Fate::kAccepted));
            CHECK(result.cseq == (i < 6 ? i + 1 : i == 6 ? 0 : i));
        }
        CHECK(world.listener.results[6].code == 302);
        CHECK(world.listener.results[6].fp == poison.message->fp);
        CHECK(world.listener.results[6].seq == 9);
        CHECK(world.listener.deliveries.size() == 11);
        CHECK(world.writer.stats().failed == 1);
    }
}

TEST_CASE("StoreWriter: behind a failed position its stream is not taken") {
    WriterWorld world;
    world.script->poison = "poison";
    world.script->close();
    for (Position seq = 1; seq <= 5; ++seq) {
        REQUIRE(world.writer.append(world.message(seq == 3 ? "poison" : "fine", seq)));
    }
    world.script->open();
    world.writer.stop();

    CHECK(world.fates() == std::vector<Fate>{Fate::kAccepted, Fate::kAccepted, Fate::kFailed,
                                             Fate::kNotTaken, Fate::kNotTaken});
}

TEST_CASE("StoreWriter: on a dead disk everything fails, and is taken again when it lives") {
    WriterWorld world;
    world.script->is_disk_dead = true;
    const AppendRequest request = world.message("x", 1);
    REQUIRE(world.writer.append(request));
    REQUIRE(world.writer.append(world.message("y", 2)));
    REQUIRE(world.writer.open_session(world.login()));
    // A read changes nothing, but whether it may be believed nobody can say.
    REQUIRE(world.writer.read(world.reading()));
    world.script->wait([&] { return world.script->begins >= 7; });
    world.script->set([&] { world.script->is_disk_dead = false; });
    REQUIRE(world.writer.append(request));
    world.writer.stop();

    REQUIRE(world.listener.results.size() == 3);
    CHECK(world.listener.results[0].fate == Fate::kFailed);
    CHECK(world.listener.results[2].fate == Fate::kAccepted);
    CHECK(world.listener.results[2].cseq == 1);
    REQUIRE(world.listener.opened.size() == 1);
    REQUIRE(world.listener.reads.size() == 1);
}

TEST_CASE("StoreWriter: a transaction that cannot begin is tried again") {
    WriterWorld world;
    world.script->failing_begins = 1;
    REQUIRE(world.writer.append(world.message()));
    world.writer.stop();
    CHECK(world.fates() == std::vector<Fate>{Fate::kAccepted});
}

TEST_CASE("StoreWriter: an open or a read that fails says so") {
    WriterWorld world;
    world.script->are_opens_failing = world.script->are_reads_failing = true;
    OpenRequest login = world.login();
    login.ticket = 71;
    ReadRequest reading = world.reading();
    reading.ticket = 72;
    REQUIRE(world.writer.open_session(login));
    REQUIRE(world.writer.read(reading));
    REQUIRE(world.writer.append(world.message()));
    world.writer.stop();

    REQUIRE(world.listener.opened.size() == 1);
    CHECK(world.listener.opened[0].ticket == 71);
    CHECK(world.listener.opened[0].error == make_error_code(Errc::kLoginBusy));
    REQUIRE(world.listener.reads.size() == 1);
    CHECK(world.listener.reads[0].ticket == 72);
    CHECK(world.listener.reads[0].error == make_error_code(Errc::kBusy));
    CHECK(world.fates() == std::vector<Fate>{Fate::kAccepted});
}

TEST_CASE("StoreWriter: the observer hears of the disk's health once a change") {
    WriterWorld world;
    REQUIRE(world.writer.append(world.message()));
    world.script->wait([&] { return world.script->commits == 1; });
    world.script->set([&] { world.script->failing_commits = 4; });
    for (const int begins : {3, 5, 6}) {
        REQUIRE(world.writer.append(world.message()));
        world.script->wait([&] { return world.script->begins >= begins; });
    }
    world.writer.stop();

    CHECK(world.fates() ==
          std::vector<Fate>{Fate::kAccepted, Fate::kFailed, Fate::kFailed, Fate::kAccepted});
    CHECK(world.listener.health == std::vector<std::string>{"the disk said no", ""});
}

// ---- cursors ----

TEST_CASE("StoreWriter: cursors are merged by device and ride with the next transaction") {
    WriterWorld world;
    world.script->close();
    for (int i = 0; i < 5; ++i) REQUIRE(world.writer.append(world.message()));
    REQUIRE(world.writer.open_session(world.login()));
    world.script->wait_for_writer();
    for (const Position position : {1, 3, 2}) world.writer.advance(world.acked(position));
    world.writer.advance(world.acked(1, "desk"));
    world.writer.advance({"a", "bob", "-", true, 4});
    world.writer.advance({"a", "bob", "-", true, 2});
    REQUIRE(world.writer.append(world.message()));
    world.script->open();
    world.writer.stop();

    auto advances = world.script->advances;
    std::sort(advances.begin(), advances.end());
    CHECK(advances == std::vector<std::pair<std::string, Position>>{
                          {"-", 2}, {"-", 4}, {"desk", 1}, {"phone", 3}});
}

TEST_CASE("StoreWriter: an open sees the cursors told before it") {
    WriterWorld world;
    world.script->close();
    REQUIRE(world.writer.append(world.message()));
    world.script->wait_for_writer();
    REQUIRE(world.writer.append(world.message()));
    REQUIRE(world.writer.open_session(world.login()));
    world.script->open();
    world.script->wait([&] { return world.script->commits == 2; });
    world.writer.advance(world.acked(2));
    REQUIRE(world.writer.open_session(world.login()));
    world.writer.stop();

    REQUIRE(world.listener.opened.size() == 2);
    CHECK(world.listener.opened[0].inbox.seq == 0);
    CHECK(world.listener.opened[1].inbox.seq == 2);
}

TEST_CASE("StoreWriter: the end flushes the cursors") {
    WriterWorld world;
    world.writer.advance(world.acked(7));
    world.writer.stop();
    CHECK(world.script->advances.size() == 1);
    CHECK(world.script->commits == 1);
}

TEST_CASE("StoreWriter: a cursor does not wait for ever for a transaction to ride with") {
    for (const auto delay : {0ms, 1ms}) {
        StoreWriter::Options options = WriterWorld::quiet();
        options.cursor_delay_max = delay;
        WriterWorld world(options);
        world.writer.advance(world.acked(7));
        world.script->wait([&] { return world.script->advances.size() == 1; });
        world.writer.stop();
        CHECK(world.script->commits == 1);
    }
}

TEST_CASE("StoreWriter: every cursor is written in time, however long the thread was to wait") {
    StoreWriter::Options options = WriterWorld::quiet();
    options.cursor_delay_max = 3ms;
    WriterWorld world(options);
    std::size_t told = 0;
    for (const auto pause : {0ms, 1ms, 2ms, 3ms, 4ms, 10ms, 0ms, 5ms, 3ms, 20ms, 1ms}) {
        // Where in its waiting the thread is when the cursor comes.
        const auto until = std::chrono::steady_clock::now() + pause;
        while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
        world.writer.advance(world.acked(static_cast<Position>(++told)));
        if (told % 3 == 0) world.writer.advance(world.acked(static_cast<Position>(++told)));
        world.script->wait([&] {
            const auto& advances = world.script->advances;
            return !advances.empty() && advances.back().second == told;
        });
    }
    world.writer.stop();
}

TEST_CASE("StoreWriter: cursors that fail hurt nobody else and come again") {
    WriterWorld world;
    world.script->close();
    world.script->are_advances_failing = true;
    REQUIRE(world.writer.append(world.message()));
    world.script->wait_for_writer();
    world.writer.advance(world.acked(1));
    REQUIRE(world.writer.append(world.message()));
    world.script->open();
    world.script->wait([&] { return world.script->begins == 4; });
    world.script->set([&] { world.script->are_advances_failing = false; });
    REQUIRE(world.writer.append(world.message()));
    world.writer.stop();

    CHECK(world.fates() == std::vector<Fate>(3, Fate::kAccepted));
    CHECK(world.script->advances.size() == 1);
}

// ---- upkeep ----

TEST_CASE("StoreWriter: trim goes on while there is more, then waits for its interval") {
    StoreWriter::Options options = WriterWorld::quiet();
    options.trim_interval = 1ms;
    WriterWorld world(options);
    world.script->set([&] { world.script->trims_with_more = 3; });
    world.script->wait([&] { return world.script->trims >= 5; });
    REQUIRE(world.writer.append(world.message()));
    world.writer.stop();
    CHECK(world.fates() == std::vector<Fate>{Fate::kAccepted});
}

TEST_CASE("StoreWriter: the store's clock starts no earlier than it ended, and never goes back") {
    const std::int64_t far = std::int64_t{1} << 50;
    WriterWorld world(WriterWorld::quiet(), far);
    for (int i = 0; i < 10; ++i) {
        REQUIRE(world.writer.append(world.message()));
        world.script->wait([&] { return world.script->begins > i; });
    }
    world.writer.stop();
    CHECK(world.script->clocks.front() >= far);
    CHECK(std::is_sorted(world.script->clocks.begin(), world.script->clocks.end()));
}

TEST_CASE("StoreWriter: many threads at once lose nothing") {
    WriterWorld world;
    constexpr int kThreads = 4;
    constexpr int kEach = 500;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&world, thread] {
            NumberedSource fingerprints(static_cast<std::uint8_t>(10 + thread));
            StoreWriter::Batch batch;
            for (int i = 1; i <= kEach; ++i) {
                AppendRequest request;
                request.message = message_of("a", "sender" + std::to_string(thread), "bob", "",
                                             fingerprints.next());
                request.stream = stream_named("s");
                request.seq = static_cast<Position>(i);
                request.prev = request.seq - 1;
                // Half of the threads one by one, half in pieces of seven.
                if (thread % 2 == 0) {
                    while (!world.writer.append(request)) std::this_thread::yield();
                } else {
                    while (!world.writer.append(request, batch)) std::this_thread::yield();
                    if (i % 7 == 0 || i == kEach) world.writer.submit(batch);
                }
                if (i % 100 == 0) {
                    while (!world.writer.read(WriterWorld::reading())) std::this_thread::yield();
                    world.writer.advance(WriterWorld::acked(request.seq));
                    (void)world.writer.stats();
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    world.writer.stop();

    CHECK(world.fates() == std::vector<Fate>(kThreads * kEach, Fate::kAccepted));
    REQUIRE(world.listener.deliveries.size() == kThreads * kEach);
    for (std::size_t i = 0; i < world.listener.deliveries.size(); ++i) {
        CHECK(world.listener.deliveries[i].seq == i + 1);
    }
}
