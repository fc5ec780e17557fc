// A store that never waits: who submits does the work.

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/core/store/writer_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

struct ImmediateWorld : WriterWorld {
    explicit ImmediateWorld(const StoreWriter::Options& options = quiet())
        : WriterWorld(options, 0, true) {
        wait_until_idle();
    }
};

}  // namespace

TEST_CASE("StoreWriter: with a store that never waits, submit() of a few does them") {
    StoreWriter::Options options = WriterWorld::quiet();
    options.batch_max = 7;
    ImmediateWorld world(options);
    StoreWriter::Batch batch;
    for (int i = 0; i < 14; ++i) REQUIRE(world.writer.append(world.message(), batch));
    REQUIRE(world.writer.open_session(world.login(), batch));
    std::thread::id told_by;
    world.listener.on_event = [&] { told_by = std::this_thread::get_id(); };
    world.writer.submit(batch);
    CHECK(told_by == std::this_thread::get_id());
    CHECK(world.listener.order == "cco");
    REQUIRE(world.listener.results.size() == 14);
    for (std::size_t i = 0; i < 14; ++i) CHECK(world.listener.results[i].ticket == i + 1);
    CHECK(world.script->commits == 3);
    CHECK(world.writer.stats().queued == 0);
}

TEST_CASE("StoreWriter: many are the thread's, and a few behind them, too") {
    ImmediateWorld world;
    std::vector<std::thread::id> told_by;
    world.listener.on_event = [&] { told_by.push_back(std::this_thread::get_id()); };
    world.script->close();
    StoreWriter::Batch batch;
    for (int i = 0; i < 20; ++i) REQUIRE(world.writer.append(world.message(), batch));
    world.writer.submit(batch);
    world.script->wait_for_writer();
    REQUIRE(world.writer.append(world.message(), batch));
    world.writer.submit(batch);
    world.script->open();
    world.writer.stop();
    CHECK(world.script->commits == 2);
    REQUIRE(world.listener.results.size() == 21);
    for (std::size_t i = 0; i < 21; ++i) CHECK(world.listener.results[i].ticket == i + 1);
    for (const std::thread::id id : told_by) CHECK(id != std::this_thread::get_id());
}

TEST_CASE("StoreWriter: cursors wait for the next batch, and are ahead of its login") {
    ImmediateWorld world;
    StoreWriter::Batch batch;
    REQUIRE(world.writer.append(world.message(), batch));
    REQUIRE(world.writer.open_session(world.login("phone"), batch));
    world.writer.submit(batch);
    world.writer.advance(WriterWorld::acked(1), batch);
    world.writer.submit(batch);
    CHECK(world.script->advances.empty());
    world.wait_until_idle();  // It was told when the cursor is due.
    REQUIRE(world.writer.open_session(world.login("phone"), batch));
    world.writer.submit(batch);
    CHECK(world.script->advances.size() == 1);
    world.writer.advance(WriterWorld::acked(1, "tablet"), batch);
    world.writer.submit(batch);
    world.writer.stop();
    CHECK(world.script->advances.size() == 2);
}

TEST_CASE("StoreWriter: a store that wants to be trimmed is, though nobody else works") {
    ImmediateWorld world;
    StoreWriter::Batch batch;
    REQUIRE(world.writer.append(world.message(), batch));
    world.script->is_trim_wanted = true;
    world.writer.submit(batch);
    CHECK(world.script->trims == 1);
    world.script->is_trim_wanted = false;
}

TEST_CASE("StoreWriter: a listener that stops the writer does not wait for itself") {
    ImmediateWorld world;
    StoreWriter::Batch batch;
    REQUIRE(world.writer.append(world.message(), batch));
    world.listener.on_event = [&] { world.writer.stop(); };
    world.writer.submit(batch);
    CHECK(!world.writer.append(world.message(), batch));
    world.writer.stop();
    CHECK(world.listener.results.size() == 1);
}

TEST_CASE("StoreWriter: a listener that submits does not wait for itself") {
    ImmediateWorld world;
    StoreWriter::Batch batch;
    StoreWriter::Batch other;
    REQUIRE(world.writer.append(world.message(), batch));
    REQUIRE(world.writer.append(world.message(), other));
    world.listener.on_event = [&] { world.writer.submit(other); };
    world.writer.submit(batch);
    world.writer.stop();
    CHECK(world.listener.results.size() == 2);
}

TEST_CASE("StoreWriter: many threads submit to a store that never waits, until it is stopped") {
    ImmediateWorld world;
    constexpr std::size_t kThreads = 4;
    constexpr std::size_t kBatches = 300;
    std::vector<std::vector<AppendRequest>> messages(kThreads);
    for (std::size_t i = 0; i < kThreads; ++i) {
        for (std::size_t n = 0; n < kBatches; ++n) {
            messages[i].push_back(world.message());
            messages[i].back().ticket = i * kBatches + n;
        }
    }
    std::vector<std::thread> threads;
    std::atomic<std::size_t> submitted{0};
    std::atomic<std::size_t> refused{0};
    for (auto& mine : messages) {
        threads.emplace_back([&world, &mine, &submitted, &refused] {
            StoreWriter::Batch batch;
            for (AppendRequest& request : mine) {
                if (!world.writer.append(std::move(request), batch)) ++refused;
                world.writer.advance(WriterWorld::acked(1), batch);
                world.writer.submit(batch);
                ++submitted;
            }
        });
    }
    while (submitted < kThreads * kBatches / 4) std::this_thread::yield();
    world.writer.stop();
    const std::size_t told = world.listener.results.size();
    for (std::thread& thread : threads) thread.join();
    CHECK(world.listener.results.size() == told);  // Nothing comes behind stop().
    CHECK(told > 0);
    CHECK(told + refused <= kThreads * kBatches);
    CHECK(world.writer.stats().queued == 0);
    std::vector<std::uint64_t> next(kThreads, 0);
    for (const AppendResult& result : world.listener.results) {
        std::uint64_t& expected = next[result.ticket / kBatches];
        CHECK(result.ticket % kBatches == expected++);
    }
}
