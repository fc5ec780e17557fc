// What of a store file comes behind the log: dedup rows, the index, and what goes.

#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/core/store/sqlite_store_support.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

using World = StoreWorld<SqliteForm>;

// While the store has them open; the name of the copy.
std::string copy_of_files(World& world) {
    const std::string path = world.form().folder.file("petrel.db");
    for (const char* end : {"", "-wal"}) {
        std::filesystem::copy_file(path + end, path + ".copy" + end,
                                   std::filesystem::copy_options::overwrite_existing);
    }
    return path + ".copy";
}

}  // namespace

TEST_CASE("SqliteStore: damaged rows of inboxes and of the log are told, and not believed") {
    Opening opening;
    SqliteTuning tuning;
    tuning.index_recent_max = 0;
    REQUIRE(opening.open(tuning));
    NumberedSource fingerprints(1);
    AppendResult result;
    for (int i = 0; i < 4; ++i) {
        REQUIRE(!append(*opening.store, message(fingerprints), result));
    }
    opening.store.reset();
    const std::string sound = read_file(opening.path);
    const std::string run = "zeroblob(7) || x'03'";  // Its first is above its last.
    for (const std::string& damage :
         {std::string("UPDATE inbox SET runs = x'0102'"),
          std::string("UPDATE inbox SET runs = CAST(" + run + " || zeroblob(16) AS BLOB)"),
          std::string("UPDATE inbox SET runs = CAST(runs || x'01' AS BLOB)"),
          std::string("UPDATE log SET data = x'00' WHERE id = 1"),
          std::string("DELETE FROM log WHERE id = 1")}) {
        CAPTURE(damage);
        write_file(opening.path, sound);
        run_sql(opening.path, damage);
        if (!opening.open(tuning)) {  // What it reads again at once.
            CHECK(opening.says("malformed"));
            continue;
        }
        ReadRequest request;
        request.app = "a";
        request.user = "bob";
        ReadResult read;
        REQUIRE(!opening.store->begin(1, 1));
        CHECK(bool(opening.store->read(request, read)));
        opening.store->rollback();
        opening.store.reset();
    }
    for (const int key : {2, 4}) {
        write_file(opening.path, sound);
        run_sql(opening.path,
                "UPDATE meta SET value = 9223372036854775807 WHERE key = " + std::to_string(key));
        CHECK(!opening.open(tuning));
    }
}

TEST_CASE("SqliteStore: fingerprints are known in whatever tier they are, also after a restart") {
    for (const std::size_t recent_max : {0, 1, 10, 1000}) {
        Opening opening;
        SqliteTuning tuning;
        tuning.dedup_recent_max = tuning.index_recent_max = recent_max;
        REQUIRE(opening.open(tuning));
        NumberedSource fingerprints(1);
        std::vector<AppendRequest> requests;
        AppendResult result;
        for (std::uint64_t i = 1; i <= 100; ++i) {
            requests.push_back(message(fingerprints));
            REQUIRE(!append(*opening.store, requests.back(), result));
            if (i % 10 != 0) continue;
            if (i % 20 == 0) {
                opening.store.reset();
                REQUIRE(opening.open(tuning));
            }
            for (std::uint64_t n = 1; n <= i; ++n) {
                REQUIRE(!append(*opening.store, requests[n - 1], result));
                CHECK(result.fate == Fate::kDuplicate);
                CHECK(result.cseq == n);
            }
        }
    }
}

TEST_CASE("SqliteStore: large texts bound what waits for the dedup table, too") {
    Opening opening;
    SqliteTuning tuning;
    tuning.recent_bytes_max = 5000;
    REQUIRE(opening.open(tuning));
    NumberedSource fingerprints(1);
    AppendResult result;
    std::vector<AppendRequest> requests;
    for (int i = 0; i < 40; ++i) {
        requests.push_back(message(fingerprints, std::string(1000, 'x')));
        REQUIRE(!append(*opening.store, requests.back(), result));
    }
    opening.store.reset();
    CHECK(query(opening.path, "SELECT sum(length(hashes)) / 8 FROM dedup_run") >= 30);
    REQUIRE(opening.open(tuning));
    for (const AppendRequest& request : requests) {
        REQUIRE(!append(*opening.store, request, result));
        CHECK(result.fate == Fate::kDuplicate);
    }
}

TEST_CASE("SqliteStore: large texts hurry the rows of small ones into the tables") {
    Opening opening;
    SqliteTuning tuning;
    tuning.index_recent_max = 400;
    tuning.recent_bytes_max = 20'000;
    REQUIRE(opening.open(tuning));
    NumberedSource fingerprints(1);
    AppendResult result;
    for (int i = 0; i < 260; ++i) {  // Full once.
        REQUIRE(!append(*opening.store, message(fingerprints), result));
    }
    for (int i = 0; i < 4; ++i) {
        REQUIRE(!append(*opening.store, message(fingerprints, std::string(10'000, 'x')), result));
    }
    opening.store.reset();
    CHECK(query(opening.path, "SELECT value FROM meta WHERE key = 4") > 180);
}

TEST_CASE("SqliteStore: a fingerprint outlives a message that went before it was settled") {
    StoreOptions options;
    options.message_retention = 10ms;
    World world(options);
    const AppendRequest first = world.request("alice", "bob");
    world.append(first);
    world.advance(11);
    const AppendRequest second = world.request("alice", "carol");
    world.append(second);
    world.trim();
    REQUIRE(world.positions("bob").empty());
    world.reopen();
    const AppendRequest third = world.request("alice", "bob");
    world.append(third);
    world.reopen();

    CHECK(world.append(first).fate == Fate::kDuplicate);
    CHECK(world.append(second).fate == Fate::kDuplicate);
    CHECK(world.append(third).fate == Fate::kDuplicate);
}

TEST_CASE("SqliteStore: trim empties the tables, of what was cached too") {
    StoreOptions options;
    options.message_retention = options.dedup_horizon = options.device_retention = 10ms;
    World world(options);
    for (int i = 0; i < 30; ++i) {
        const std::string number = std::to_string(i);
        world.append(world.streamed("alice", "bob" + number, 1, 0, "s" + number));
        world.open("bob" + number);
    }
    world.advance(1000);
    world.trim(7);
    world.advance(1000);
    world.trim(7);
    const std::string copy = copy_of_files(world);
    for (const char* table :
         {"log", "piece", "inbox", "dedup_run", "dedup_page", "stream", "device"}) {
        CHECK(query(copy, std::string("SELECT count(*) FROM ") + table) == 0);
    }
    CHECK(query(copy, "SELECT count(*) FROM user") == 31);
}

TEST_CASE("SqliteStore: pieces of the log that are in no inbox go when their fingerprints have") {
    StoreOptions options;
    options.dedup_horizon = 10ms;
    World world(options);
    OpenRequest request;
    request.app = "default";
    request.user = "alice";
    request.device = "phone";
    request.stream = "s";
    for (request.first = 2; request.first < 10; ++request.first) world.open(request);
    world.trim();
    CHECK(query(copy_of_files(world), "SELECT count(*) FROM log") == 8);
    world.advance(1000);
    world.trim();
    CHECK(query(copy_of_files(world), "SELECT count(*) FROM log") == 0);
    world.reopen();
    CHECK(world.open(request).accepted == 8);
}

TEST_CASE("SqliteStore: a restart takes less than a second back of the clock, and no message's") {
    StoreWorld<SqliteForm> world;
    const std::int64_t began = world.now();
    world.open("bob");
    world.advance(700);
    world.open("carol");
    world.reopen();
    CHECK(world.store().last_now() > world.now() - 1000);
    CHECK(world.store().last_now() <= world.now());
    world.send("alice", "bob");
    world.reopen();
    CHECK(world.store().last_now() == began + 700);
    world.advance(5000);
    world.open("dave");
    world.reopen();
    CHECK(world.store().last_now() == began + 5700);
}
