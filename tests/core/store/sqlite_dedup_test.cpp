// Dedup rows of the store file: runs, filters, and pieces of the log that wait for them.

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/store/key_filter.hpp"
#include "core/store/sqlite_dedup.hpp"
#include "core/store/sqlite_index.hpp"
#include "tests/core/store/store_support.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

// A store file of which only log and dedup rows are used.
struct DedupWorld {
    explicit DedupWorld(std::size_t rows_max) : limits{rows_max, 1 << 20} { open(); }

    void open() {
        dedup.reset();
        index.reset();
        log.reset();
        owners.reset();
        file.reset();
        file = std::make_unique<SqliteFile>();
        owners = std::make_unique<SqliteOwners>();
        log = std::make_unique<SqliteLog>();
        index = std::make_unique<SqliteIndex>(SqliteIndex::Limits{}, *log, *owners);
        dedup = std::make_unique<SqliteDedup>(limits);
        std::string why;
        REQUIRE_MESSAGE(!file->open(folder.file("dedup.db"), schema, why), why);
        REQUIRE(owners->open(*file) == 0);
        REQUIRE(log->open(*file) == 0);
        REQUIRE(index->open(*file) == 0);
        REQUIRE(dedup->open(*file) == 0);
        log->set_last_id(std::max(dedup->settled_piece(), index->settled_piece()));
        REQUIRE(log->for_each_after(0, [&](std::int64_t id, std::string_view piece) {
            return index->replay(id, piece) + dedup->replay(id, piece, *owners);
        }) == 0);
        index->opened();
        dedup->opened();
    }

    // In one transaction, as SqliteTables does it. Not committed: it is rolled back.
    void write(std::vector<std::pair<DedupKey, DedupRow>> rows, bool is_committed = true,
               Position forgotten = 0) {
        DedupTable table;
        WriteSet set;
        for (const auto& [key, row] : rows) {
            table.put(key, row);
            auto message = message_of("a", "alice", "bob", "text", key.fp);
            message->cseq = row.cseq;
            message->send_ts = row.send_ts;
            set.now = row.accepted_at;
            set.messages.push_back({2, ++seq, key.sender, row.accepted_at, message});
        }
        REQUIRE(file->execute("BEGIN") == 0);
        SqliteDedup::Batch batch;
        batch.rows = &table;
        index->start();
        if (forgotten > 0) REQUIRE(index->forget(2, forgotten) == 0);
        REQUIRE(dedup->write(batch) == 0);
        REQUIRE(log->write(set) == 0);
        REQUIRE(index->write() == 0);
        batch.last_piece = log->planned_id();
        bool is_all = false;
        REQUIRE(index->drop_dead(
                    std::min(dedup->planned_settled_piece(), index->planned_settled_piece()),
                    is_all) == 0);
        REQUIRE(file->execute(is_committed ? "COMMIT" : "ROLLBACK") == 0);
        if (!is_committed) return;
        dedup->committed(batch);
        index->committed();
        log->committed();
    }
    void write_empty() { write({}); }
    bool is_log_waiting() {
        bool is_waiting = false;
        const std::int64_t settled = std::min(dedup->settled_piece(), index->settled_piece());
        REQUIRE(index->find_waiting(settled, 0, is_waiting) == 0);
        return is_waiting;
    }

    std::pair<DedupKey, DedupRow> row(std::uint64_t number, std::int64_t accepted_at = 1) {
        Digest128 digest = payload_digest("bob", 0, "text", scratch);
        DedupKey key{1, Fingerprint::parse("fp " + std::to_string(number)).value()};
        return {key, {digest, number, 7, accepted_at}};
    }
    bool has(std::uint64_t number) {
        DedupRow found;
        bool is_found = false;
        REQUIRE(dedup->find(row(number).first, found, is_found) == 0);
        if (is_found) CHECK(found.cseq == number);
        if (is_found) CHECK(found.digest == row(number).second.digest);
        return is_found;
    }
    std::int64_t count(const std::string& table) {
        SqliteStatement select;
        REQUIRE(file->prepare(("SELECT count(*) FROM " + table).c_str(), select) == 0);
        select.step();
        return select.integer(0);
    }

    TemporaryFolder folder;
    const std::string create =
        std::string(
            "CREATE TABLE meta(key INTEGER PRIMARY KEY, value INTEGER NOT NULL);"
            "INSERT INTO meta VALUES(2, 0), (3, 42), (4, 0);"
            "CREATE TABLE user(id INTEGER PRIMARY KEY, app, name, floor);"
            "INSERT INTO user VALUES(1, 'a', 'alice', 0), (2, 'a', 'bob', 0);") +
        SqliteLog::kCreate + SqliteIndex::kCreate + SqliteDedup::kCreate;
    SqliteFile::Schema schema{0x50747274, 1, create.c_str(), "test store"};
    SqliteDedup::Limits limits;
    std::unique_ptr<SqliteFile> file;
    std::unique_ptr<SqliteOwners> owners;
    std::unique_ptr<SqliteLog> log;
    std::unique_ptr<SqliteIndex> index;
    std::unique_ptr<SqliteDedup> dedup;
    Position seq = 0;
    std::string scratch;
};

}  // namespace

TEST_CASE("KeyFilter: what was added is never denied, little else is affirmed") {
    std::mt19937_64 random(1);
    KeyFilter filter(20'000);
    std::vector<std::uint64_t> added(20'000);
    for (std::uint64_t& hash : added) filter.add(hash = random());
    for (const std::uint64_t hash : added) CHECK(filter.may_have(hash));
    int affirmed = 0;
    for (int i = 0; i < 20'000; ++i) affirmed += filter.may_have(random()) ? 1 : 0;
    CHECK(affirmed < 20'000 * 2 / 1000);
    CHECK(filter.size() == 20'000);
}

TEST_CASE("DedupTable: the last row of a key counts, the first place stays") {
    std::mt19937 random(1);
    DedupTable table;
    std::vector<std::uint64_t> model(300, 0);
    for (int round = 0; round < 3; ++round) {
        for (int i = 1; i <= 2000; ++i) {
            const std::uint64_t number = random() % 300;
            DedupKey key{static_cast<UserId>(number % 3),
                         Fingerprint::parse("fp " + std::to_string(number)).value()};
            DedupRow row;
            row.cseq = static_cast<std::uint64_t>(i);
            table.put(key, row);
            model[number] = row.cseq;
            key.sender = 7;
            CHECK(table.find(key) == nullptr);
        }
        std::size_t known = 0;
        for (std::uint64_t number = 0; number < 300; ++number) {
            const DedupRow* const row =
                table.find({static_cast<UserId>(number % 3),
                            Fingerprint::parse("fp " + std::to_string(number)).value()});
            CHECK((row == nullptr ? 0 : row->cseq) == model[number]);
            known += row == nullptr ? 0 : 1;
        }
        CHECK(table.size() == known);
        table.clear();
        CHECK(table.empty());
        model.assign(300, 0);
    }
}

TEST_CASE("SqliteDedup: rows are found through many runs and groups, and again after an opening") {
    DedupWorld world(50);
    for (std::uint64_t n = 0; n < 3000; n += 30) {
        std::vector<std::pair<DedupKey, DedupRow>> rows;
        for (std::uint64_t i = n; i < n + 30; ++i) rows.push_back(world.row(i));
        world.write(rows);
    }
    CHECK(world.count("dedup_run") > 32);  // Three groups at least.
    for (int round = 0; round < 2; ++round) {
        for (std::uint64_t n = 0; n < 3000; ++n) CHECK(world.has(n));
        for (std::uint64_t n = 3000; n < 4000; ++n) CHECK(!world.has(n));
        world.open();
    }
}

TEST_CASE("SqliteDedup: a run of many pages is written a part at a time, and begun anew") {
    DedupWorld world(2000);
    std::vector<std::pair<DedupKey, DedupRow>> rows;
    for (std::uint64_t i = 0; i < 2000; ++i) rows.push_back(world.row(i));
    world.write(rows);
    CHECK(world.count("dedup_page") == 0);
    for (int i = 0; i < 5; ++i) world.write_empty();
    const std::int64_t pages = world.count("dedup_page");
    CHECK(pages > 0);
    CHECK(world.count("dedup_run") == 0);
    world.open();  // Its pages belong to nobody.
    CHECK(world.count("dedup_page") == 0);
    for (std::uint64_t n = 0; n < 2000; ++n) CHECK(world.has(n));
    while (world.count("dedup_run") == 0) world.write_empty();
    CHECK(world.count("dedup_page") > pages);
    world.open();
    for (std::uint64_t n = 0; n < 2000; ++n) CHECK(world.has(n));
}

TEST_CASE("SqliteDedup: what was rolled back is neither in a run nor known") {
    DedupWorld world(20);
    for (std::uint64_t n = 0; n < 400; n += 10) {
        std::vector<std::pair<DedupKey, DedupRow>> lost, kept;
        for (std::uint64_t i = n; i < n + 10; ++i) {
            lost.push_back(world.row(100'000 + i));
            kept.push_back(world.row(i));
        }
        world.write(lost, false);
        world.write(kept);
    }
    for (int round = 0; round < 2; ++round) {
        for (std::uint64_t n = 0; n < 400; ++n) CHECK(world.has(n));
        for (std::uint64_t n = 0; n < 400; ++n) CHECK(!world.has(100'000 + n));
        world.open();
    }
}

TEST_CASE("SqliteDedup: expired runs go, one a transaction, and younger ones stay") {
    DedupWorld world(10);
    for (std::uint64_t n = 0; n < 600; n += 10) {
        std::vector<std::pair<DedupKey, DedupRow>> rows;
        for (std::uint64_t i = n; i < n + 10; ++i) {
            rows.push_back(world.row(i, static_cast<std::int64_t>(i)));
        }
        world.write(rows);
    }
    for (int i = 0; i < 3; ++i) world.write_empty();
    const std::int64_t before = world.count("dedup_run");
    world.dedup->expire(300, false);
    std::int64_t steps = 0;
    for (; world.dedup->has_upkeep(); ++steps) world.write_empty();
    CHECK(world.count("dedup_run") == before - steps);
    CHECK(steps >= 20);
    for (int round = 0; round < 2; ++round) {
        for (std::uint64_t n = 310; n < 600; ++n) CHECK(world.has(n));
        for (std::uint64_t n = 0; n < 200; ++n) CHECK(!world.has(n));
        world.open();
    }
}

TEST_CASE("SqliteDedup: the younger of two rows of one key is the one that counts") {
    DedupWorld world(5);
    for (std::uint64_t n = 0; n < 5; ++n) world.write({world.row(n)});
    for (int i = 0; i < 3; ++i) world.write_empty();
    auto again = world.row(2, 1000);
    again.second.cseq = 99;
    world.write({again});
    for (std::uint64_t n = 10; n < 20; ++n) world.write({world.row(n)});
    for (int round = 0; round < 2; ++round) {
        DedupRow found;
        bool is_found = false;
        REQUIRE(world.dedup->find(again.first, found, is_found) == 0);
        CHECK(found.cseq == 99);
        world.open();
    }
}

TEST_CASE("SqliteLog: a piece stays until its dedup rows are settled") {
    DedupWorld world(1000);
    for (std::uint64_t n = 0; n < 30; ++n) world.write({world.row(n)});
    world.write({}, true, 20);
    CHECK(world.count("log") == 30);
    const bool is_waiting = world.is_log_waiting();
    CHECK(is_waiting);
    world.open();
    for (std::uint64_t n = 0; n < 30; ++n) CHECK(world.has(n));
    world.dedup->expire(0, is_waiting);
    for (int i = 0; i < 5 && world.dedup->has_upkeep(); ++i) world.write_empty();
    world.write_empty();
    CHECK(!world.dedup->has_upkeep());
    CHECK(world.count("log") == 10);
    world.open();
    for (std::uint64_t n = 0; n < 30; ++n) CHECK(world.has(n));
}

TEST_CASE("SqliteIndex: pieces that only wait to be dropped, some a commit, hurry nobody") {
    DedupWorld world(1000);
    for (std::uint64_t n = 0; n < 600; ++n) world.write({world.row(n)});
    world.write({}, true, 600);
    REQUIRE(world.is_log_waiting());
    world.dedup->expire(0, true);
    world.write_empty();
    CHECK(!world.dedup->has_upkeep());
    CHECK(world.count("piece") > 0);
    CHECK(!world.is_log_waiting());
    for (int i = 0; i < 2; ++i) world.write_empty();
    CHECK(world.count("piece") == 0);
    CHECK(world.count("dedup_run") == 1);
}
