#include "core/store/batched_wal.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <sqlite3.h>
#include <string>

#include "core/store/sqlite_file.hpp"
#include "tests/core/store/store_support.hpp"
#include "tests/support/disk_vfs.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

// A table of texts in an SqliteFile, on a disk that counts what is asked of it.
class WalWorld {
public:
    explicit WalWorld(int kib = SqliteFile::Schema{}.cache_kib) : cache_kib(kib) { open(); }

    void open() {
        file.reset();
        file = std::make_unique<SqliteFile>();
        SqliteFile::Schema schema;
        schema.application_id = 0x50747278;
        schema.create = "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT";
        schema.what = "test file";
        schema.cache_kib = cache_kib;
        schema.checkpoint_pages = 100'000;
        std::string why;
        REQUIRE_MESSAGE(!file->open(folder.file("t.db"), schema, why), why);
        disk.set_on_step([this] { ++steps; });
        steps = 0;
    }
    void insert(int count, int bytes) {
        const std::string sql =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "WHERE i < " +
            std::to_string(count) + ") INSERT INTO t(text) SELECT hex(zeroblob(" +
            std::to_string(bytes / 2) + ")) FROM n";
        REQUIRE(file->execute(sql.c_str()) == SQLITE_OK);
    }
    void begin() { REQUIRE(file->execute("BEGIN") == SQLITE_OK); }
    int commit() { return file->execute("COMMIT"); }
    std::int64_t ask(const char* sql) {
        SqliteStatement select;
        REQUIRE(file->prepare(sql, select) == SQLITE_OK);
        REQUIRE(select.step() == SQLITE_ROW);
        return select.integer(0);
    }
    std::int64_t bytes() { return ask("SELECT coalesce(sum(length(text)), 0) FROM t"); }
    bool is_sound() {
        return ask("SELECT integrity_check = 'ok' FROM pragma_integrity_check") == 1;
    }

    const int cache_kib;
    TemporaryFolder folder;
    DiskVfs disk;
    int steps = 0;  // Writes, syncs and truncations since the opening.
    std::unique_ptr<SqliteFile> file;
};

// So small that a transaction spills pages into the log before its commit.
constexpr int kTinyCacheKib = 64;

}  // namespace

TEST_CASE("BatchedWal: a commit of many pages is one write and one sync") {
    WalWorld world;
    world.begin();
    world.insert(12, 4000);
    world.steps = 0;
    CHECK(world.commit() == SQLITE_OK);
    CHECK(world.steps == 2);
    CHECK(world.bytes() == 12 * 4000);
}

TEST_CASE("BatchedWal: a commit that is larger than a piece takes as many as it needs") {
    WalWorld world;
    world.begin();
    world.insert(500, 4000);
    world.steps = 0;
    CHECK(world.commit() == SQLITE_OK);
    // 2 MB in pieces of 120 KiB, and the sync; two calls a page would be more than a thousand.
    CHECK(world.steps > 16);
    CHECK(world.steps < 24);
    world.open();
    CHECK(world.bytes() == 500 * 4000);
    CHECK(world.is_sound());
}

TEST_CASE("BatchedWal: what is spilled is read back as it was written") {
    WalWorld world(kTinyCacheKib);
    world.begin();
    world.insert(500, 4000);
    // Out of the log, where the pages were spilled to; then over them.
    CHECK(world.bytes() == 500 * 4000);
    REQUIRE(world.file->execute("UPDATE t SET text = text || 'x' WHERE id % 2 = 0") == SQLITE_OK);
    CHECK(world.commit() == SQLITE_OK);
    CHECK(world.bytes() == 500 * 4000 + 250);
    world.open();
    CHECK(world.bytes() == 500 * 4000 + 250);
    CHECK(world.is_sound());
}

TEST_CASE("BatchedWal: what was rolled back leaves nothing, spilled or not") {
    WalWorld world(kTinyCacheKib);
    world.insert(10, 4000);
    for (const int count : {10, 500}) {
        world.begin();
        world.insert(count, 4000);
        REQUIRE(world.file->execute("ROLLBACK") == SQLITE_OK);
        CHECK(world.bytes() == 10 * 4000);
    }
    world.insert(1, 4000);
    world.open();
    CHECK(world.bytes() == 11 * 4000);
    CHECK(world.is_sound());
}

TEST_CASE("BatchedWal: a write that fails fails its commit, and the next one is whole") {
    for (const int code : {SQLITE_FULL, SQLITE_IOERR_WRITE}) {
        WalWorld world;
        world.insert(10, 4000);
        world.begin();
        world.insert(20, 4000);
        world.disk.fail_writes(code);
        CHECK(world.commit() == code);
        if (world.file->is_in_transaction()) {
            REQUIRE(world.file->execute("ROLLBACK") == SQLITE_OK);
        }
        CHECK(world.bytes() == 10 * 4000);
        world.disk.heal();
        world.insert(5, 4000);
        CHECK(world.bytes() == 15 * 4000);
        world.open();
        CHECK(world.bytes() == 15 * 4000);
        CHECK(world.is_sound());
    }
}

TEST_CASE("BatchedWal: a checkpoint copies all that was committed, and the log begins anew") {
    WalWorld world;
    world.insert(100, 4000);
    REQUIRE(world.file->execute("PRAGMA wal_checkpoint(TRUNCATE)") == SQLITE_OK);
    world.insert(3, 4000);
    CHECK(world.bytes() == 103 * 4000);
    world.open();
    CHECK(world.bytes() == 103 * 4000);
    CHECK(world.is_sound());
}
