#include <filesystem>
#include <random>
#include <sqlite3.h>
#include <string>
#include <sys/stat.h>
#include <vector>

#include <doctest/doctest.h>

#include "tests/core/store/failing_vfs.hpp"
#include "tests/core/store/sqlite_store_support.hpp"
#include "tests/support/disk_vfs.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

using World = StoreWorld<SqliteForm>;

}  // namespace

// ---- what a file is ----

TEST_CASE("SqliteStore: a new file is private to its owner") {
    Opening opening;
    const mode_t before = ::umask(0);
    REQUIRE_MESSAGE(opening.open(), opening.why);
    ::umask(before);
    NumberedSource fingerprints(1);
    AppendResult result;
    REQUIRE(!append(*opening.store, message(fingerprints), result));
    for (const char* suffix : {"", "-wal"}) {
        struct stat status = {};
        REQUIRE(::stat((opening.path + suffix).c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0600);
    }
}

TEST_CASE("SqliteStore: an empty file is taken for a new one") {
    Opening opening;
    write_file(opening.path, "");
    CHECK(opening.open());
    struct stat status = {};
    REQUIRE(::stat(opening.path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("SqliteStore: each commit is synced") {
    FailingVfs vfs;
    Opening opening;
    REQUIRE(opening.open());
    NumberedSource fingerprints(1);
    AppendResult result;
    for (int i = 0; i < 3; ++i) {
        const int before = vfs.syncs();
        REQUIRE(!append(*opening.store, message(fingerprints), result));
        CHECK(vfs.syncs() > before);
    }
}

TEST_CASE("SqliteStore: a file that is not SQLite's is refused and left alone") {
    Opening opening;
    const std::string text(5000, 'x');
    write_file(opening.path, text);
    CHECK(!opening.open());
    CHECK(opening.says("not a Petrel gateway store"));
    CHECK(opening.says("name another file"));
    CHECK(read_file(opening.path) == text);
}

TEST_CASE("SqliteStore: another program's file is refused and left alone") {
    for (const char* sql :
         {"CREATE TABLE theirs(x)", "PRAGMA application_id=7", "PRAGMA user_version=1",
          "PRAGMA application_id=7; CREATE TABLE t(x)"}) {
        Opening opening;
        run_sql(opening.path, sql);
        const std::string before = read_file(opening.path);
        CHECK(!opening.open());
        CHECK(opening.says("belongs to another program"));
        CHECK(read_file(opening.path) == before);
    }
}

TEST_CASE("SqliteStore: a newer schema is refused with what to do") {
    Opening opening;
    REQUIRE(opening.open());
    opening.store.reset();
    run_sql(opening.path, "PRAGMA user_version=5");
    CHECK(!opening.open());
    CHECK(opening.says("newer Petrel"));
    CHECK(opening.says("use that version"));
    run_sql(opening.path, "PRAGMA user_version=0");
    CHECK(!opening.open());
    CHECK(opening.says("schema 0"));
}

TEST_CASE("SqliteStore: a damaged file is refused with what to do") {
    for (const std::size_t at : {std::size_t{100}, std::size_t{8192}, std::size_t{3 * 8192}}) {
        Opening opening;
        REQUIRE(opening.open());
        NumberedSource fingerprints(1);
        AppendResult result;
        for (int i = 0; i < 50; ++i) {
            REQUIRE(!append(*opening.store, message(fingerprints, std::string(300, 'x')), result));
        }
        opening.store.reset();
        std::string bytes = read_file(opening.path);
        REQUIRE(bytes.size() > at + 2000);
        bytes.replace(at, 2000, 2000, '\x5a');
        write_file(opening.path, bytes);
        CHECK(!opening.open());
        CHECK(opening.says("damaged"));
        CHECK(opening.says("restore it from a copy"));
    }
}

TEST_CASE("SqliteStore: a file cut short is refused") {
    Opening opening;
    REQUIRE(opening.open());
    opening.store.reset();
    write_file(opening.path, read_file(opening.path).substr(0, 3 * 4096 + 100));
    CHECK(!opening.open());
    CHECK(!opening.why.empty());
}

TEST_CASE("SqliteStore: a file in use is refused, by the same process and by SQLite's own lock") {
    Opening opening;
    REQUIRE(opening.open());
    std::string why;
    auto second = open_sqlite_message_store(opening.path, {}, opening.epochs, why);
    CHECK(!second);
    CHECK(second.error() == make_error_code(Errc::kBusy));
    CHECK(why.find("in use") != std::string::npos);
    sqlite3* other = nullptr;
    REQUIRE(sqlite3_open(opening.path.c_str(), &other) == SQLITE_OK);
    CHECK(sqlite3_exec(other, "SELECT * FROM meta", nullptr, nullptr, nullptr) == SQLITE_BUSY);
    sqlite3_close(other);
    NumberedSource fingerprints(1);
    AppendResult result;
    CHECK(!append(*opening.store, message(fingerprints), result));
}

TEST_CASE("SqliteStore: where no file can be made, it says so") {
    Opening opening;
    opening.path = opening.folder.file("missing/petrel.db");
    CHECK(!opening.open());
    CHECK(opening.says("folder"));
    opening.path = opening.folder.file("");
    CHECK(!opening.open());
    CHECK(!opening.why.empty());
    opening.path = "";
    CHECK(!opening.open());
    CHECK(opening.says("empty"));
}

TEST_CASE("SqliteStore: a disk that is full at the start is said so, and leaves a usable file") {
    FailingVfs vfs;
    Opening opening;
    vfs.fail_writes_after(2, SQLITE_FULL);
    CHECK(!opening.open());
    CHECK(opening.says("No space left"));
    vfs.heal();
    CHECK_MESSAGE(opening.open(), opening.why);
}

TEST_CASE("SqliteStore: a check finds what opening would, and makes nothing") {
    Opening opening;
    std::string why;
    const auto check = [&] { return check_sqlite_message_store(opening.path, why); };
    CHECK(*check() == StoreCheck::kWouldBeMade);
    CHECK_FALSE(std::filesystem::exists(opening.path));
    write_file(opening.path, "");
    CHECK(*check() == StoreCheck::kWouldBeMade);

    REQUIRE(opening.open());
    CHECK(*check() == StoreCheck::kInUse);
    NumberedSource fingerprints(1);
    AppendResult result;
    REQUIRE(!append(*opening.store, message(fingerprints), result));
    CHECK(*check() == StoreCheck::kInUse);
    // What a killed process leaves: a file, and a log that holds most of it.
    const std::string copy = opening.folder.file("copy #1?%.db");
    for (const char* const part : {"", "-wal"}) {
        write_file(copy + part, read_file(opening.path + part));
    }
    opening.store.reset();
    const std::string before = read_file(opening.path);
    CHECK(*check() == StoreCheck::kUsable);
    CHECK(read_file(opening.path) == before);
    CHECK_FALSE(std::filesystem::exists(opening.path + "-wal"));

    opening.path = copy;
    const std::string file = read_file(copy);
    const std::string log = read_file(copy + "-wal");
    REQUIRE(log.size() > 0);
    CHECK(*check() == StoreCheck::kUsable);
    CHECK(read_file(copy) == file);
    CHECK(read_file(copy + "-wal") == log);
    REQUIRE_MESSAGE(opening.open(), opening.why);
    CHECK(cseqs(*opening.store) == up_to(1));
}

TEST_CASE("SqliteStore: a check refuses what opening would refuse, with the same words") {
    Opening opening;
    std::string why;
    const auto is_refused = [&](const std::string& words) {
        CHECK_FALSE(check_sqlite_message_store(opening.path, why));
        CHECK_MESSAGE(why.find(words) != std::string::npos, why);
    };
    write_file(opening.path, std::string(5000, 'x'));
    is_refused("not a Petrel gateway store");
    std::filesystem::remove(opening.path);
    run_sql(opening.path, "CREATE TABLE theirs(x)");
    is_refused("belongs to another program");
    std::filesystem::remove(opening.path);
    REQUIRE(opening.open());
    for (int i = 0; i < 50; ++i) {
        NumberedSource fingerprints(static_cast<std::uint8_t>(i + 1));
        AppendResult result;
        REQUIRE(!append(*opening.store, message(fingerprints, std::string(300, 'x')), result));
    }
    opening.store.reset();
    std::string bytes = read_file(opening.path);
    bytes.replace(3 * 8192, 2000, 2000, '\x5a');
    write_file(opening.path, bytes);
    is_refused("damaged");
    run_sql(opening.folder.file("newer.db"),
            "PRAGMA application_id=1349808743; PRAGMA user_version=5");
    opening.path = opening.folder.file("newer.db");
    is_refused("newer Petrel");
    opening.path = opening.folder.file("missing/petrel.db");
    is_refused("folder");
    opening.path = opening.folder.file("");
    is_refused("no file");
    opening.path = "";
    is_refused("empty");
}

// ---- crashes ----

TEST_CASE("SqliteStore: what was not committed is gone after a restart, and nothing else") {
    World world;
    const AppendRequest kept = world.streamed("alice", "bob", 1);
    const AppendRequest lost = world.streamed("alice", "bob", 2);
    world.append(kept);
    AppendResult result;
    std::vector<Delivery> deliveries;
    REQUIRE(!world.store().begin(world.now(), 1));
    REQUIRE(!world.store().append(lost, result, deliveries));

    world.reopen();

    CHECK(world.positions("bob") == Seqs{1});
    CHECK(world.append(kept).fate == Fate::kNotTaken);
    CHECK(world.append(lost).cseq == 2);
    CHECK(world.store().last_now() == world.now());
}

TEST_CASE("SqliteStore: a copy of the files at any moment opens to what was committed") {
    Opening opening;
    SqliteTuning tuning;
    tuning.dedup_recent_max = 7;
    tuning.index_recent_max = 9;
    tuning.checkpoint_pages = 20;
    REQUIRE(opening.open(tuning));
    NumberedSource fingerprints(1);
    std::vector<AppendRequest> requests;
    std::vector<Delivery> deliveries;
    AppendResult result;
    for (std::uint64_t i = 1; i <= 60; ++i) {
        requests.push_back(message(fingerprints, std::string(i * 10, 'x')));
        REQUIRE(!opening.store->begin(static_cast<std::int64_t>(i), 1));
        REQUIRE(!opening.store->append(requests.back(), result, deliveries));
        if (i % 5 == 0) {
            Opening copy;
            write_file(copy.path, read_file(opening.path));
            write_file(copy.path + "-wal", read_file(opening.path + "-wal"));
            REQUIRE_MESSAGE(copy.open(tuning), copy.why);
            CHECK(cseqs(*copy.store) == up_to(i - 1));
            for (std::uint64_t n = 1; n <= i; ++n) {
                REQUIRE(!append(*copy.store, requests[n - 1], result));
                CHECK(result.fate == (n < i ? Fate::kDuplicate : Fate::kAccepted));
                CHECK(result.cseq == n);
            }
        }
        REQUIRE(!opening.store->commit());
    }
}

// Others acked before the sync and lost what they had acked: here the power may fail at every step
// of the disk.
TEST_CASE(
    "SqliteStore: a power cut at any step loses nothing that was committed, nothing by halves") {
    struct Leftover {
        std::string path;
        std::uint64_t committed, asked;
    };
    DiskVfs disk;
    Opening opening;
    SqliteTuning tuning;
    tuning.dedup_recent_max = 5;
    tuning.index_recent_max = 7;
    tuning.checkpoint_pages = 12;  // The log is written back several times.
    REQUIRE(opening.open(tuning));
    NumberedSource fingerprints(1);
    std::vector<AppendRequest> requests;
    std::uint64_t committed = 0;
    std::uint64_t asked = 0;
    std::vector<Leftover> leftovers;
    std::mt19937 random(1);
    disk.set_on_step([&] {
        for (const int of_8 : {0, 4, 7}) {
            const std::string target =
                opening.folder.file("cut-" + std::to_string(leftovers.size()));
            disk.cut_power(std::filesystem::path(opening.path).parent_path(), target,
                           [&] { return static_cast<int>(random() % 8) < of_8; });
            leftovers.push_back({target + "/petrel.db", committed, asked});
        }
    });
    AppendResult result;
    std::vector<Delivery> deliveries;
    for (std::int64_t i = 1; i <= 12; ++i) {
        REQUIRE(!opening.store->begin(i, 1));
        for (int of_transaction = 0; of_transaction < 2; ++of_transaction) {
            requests.push_back(message(fingerprints, std::string(1'500, 'x')));
            REQUIRE(!opening.store->append(requests.back(), result, deliveries));
        }
        asked = requests.size();
        REQUIRE(!opening.store->commit());
        committed = asked;
    }
    disk.set_on_step({});
    CHECK(leftovers.size() > 3 * 24);
    for (const Leftover& leftover : leftovers) {
        CAPTURE(leftover.path);
        Opening cut;
        cut.path = leftover.path;
        REQUIRE_MESSAGE(cut.open(tuning), cut.why);
        const std::uint64_t kept = cseqs(*cut.store).size();
        CHECK(cseqs(*cut.store) == up_to(kept));
        CHECK(kept % 2 == 0);
        CHECK(kept >= leftover.committed);
        CHECK(kept <= leftover.asked);
        // Message and fingerprint go together: what is there is recognised, the next is new.
        for (std::uint64_t n = kept < 2 ? 1 : kept - 1; n <= kept + 1 && n <= requests.size();
             ++n) {
            REQUIRE(!append(*cut.store, requests[n - 1], result, 100));
            CHECK(result.fate == (n <= kept ? Fate::kDuplicate : Fate::kAccepted));
            CHECK(result.cseq == n);
        }
    }
}

TEST_CASE("SqliteStore: a write-ahead log cut anywhere opens to a whole number of commits") {
    Opening opening;
    SqliteTuning tuning;
    tuning.dedup_recent_max = 5;
    tuning.index_recent_max = 7;
    tuning.checkpoint_pages = 100'000;
    REQUIRE(opening.open(tuning));
    NumberedSource fingerprints(1);
    std::vector<AppendRequest> requests;
    AppendResult result;
    for (int i = 0; i < 20; ++i) {
        requests.push_back(message(fingerprints));
        REQUIRE(!append(*opening.store, requests.back(), result));
    }
    const std::string file = read_file(opening.path);
    const std::string log = read_file(opening.path + "-wal");
    std::size_t kept_before = 0;
    for (std::size_t size = log.size() / 4; size <= log.size(); size += log.size() / 37) {
        Opening copy;
        write_file(copy.path, file);
        write_file(copy.path + "-wal", log.substr(0, size));
        if (!copy.open(tuning)) continue;  // Cut before the tables were made.
        const std::size_t kept = cseqs(*copy.store).size();
        CHECK(cseqs(*copy.store) == up_to(kept));
        CHECK(kept >= kept_before);
        kept_before = kept;
        for (std::size_t n = 0; n < requests.size(); ++n) {
            REQUIRE(!append(*copy.store, requests[n], result));
            CHECK(result.fate == (n < kept ? Fate::kDuplicate : Fate::kAccepted));
            CHECK(result.cseq == n + 1);
        }
    }
    CHECK(kept_before > 0);
}

// ---- a disk that fails ----

TEST_CASE("SqliteStore: a commit that fails leaves everything as before, at whatever write") {
    for (const int code : {SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_READONLY, SQLITE_BUSY}) {
        FailingVfs vfs;
        Opening opening;
        SqliteTuning tuning;
        tuning.dedup_recent_max = 3;
        tuning.index_recent_max = 8;
        tuning.checkpoint_pages = 8;
        REQUIRE(opening.open(tuning));
        NumberedSource fingerprints(1);
        AppendResult result;
        std::uint64_t accepted = 0;
        for (int writes = 0; writes < 12; ++writes) {
            const AppendRequest request = message(fingerprints, std::string(9000, 'x'));
            vfs.fail_writes_after(writes, code);
            const std::error_code error = append(*opening.store, request, result);
            vfs.heal();
            if (error) {
                CHECK(error == make_error_code(Errc::kBusy));
                CHECK(!opening.store->last_error().empty());
                CHECK(cseqs(*opening.store) == up_to(accepted));
                REQUIRE(!append(*opening.store, request, result));
                CHECK(result.fate == Fate::kAccepted);
            }
            ++accepted;
            CHECK(result.cseq == accepted);
            REQUIRE(!append(*opening.store, request, result));
            CHECK(result.fate == Fate::kDuplicate);
        }
        CHECK(vfs.failures() > 0);
        opening.store.reset();
        REQUIRE_MESSAGE(opening.open(tuning), opening.why);
        CHECK(cseqs(*opening.store) == up_to(accepted));
    }
}

TEST_CASE("SqliteStore: a sync that fails fails the commit") {
    FailingVfs vfs;
    Opening opening;
    REQUIRE(opening.open());
    NumberedSource fingerprints(1);
    AppendResult result;
    const AppendRequest request = message(fingerprints);
    vfs.fail_syncs_after(0, SQLITE_IOERR_FSYNC);
    CHECK(append(*opening.store, request, result));
    CHECK(append(*opening.store, request, result));
    CHECK(opening.store->last_error().find("disk I/O error") != std::string::npos);
    vfs.heal();
    CHECK(!append(*opening.store, request, result));
    CHECK(result.fate == Fate::kAccepted);
    CHECK(result.cseq == 1);
}

TEST_CASE("SqliteStore: a read that fails is an error, not an empty inbox") {
    FailingVfs vfs;
    Opening opening;
    SqliteTuning tuning;
    tuning.cache_kib = 1;
    REQUIRE(opening.open(tuning));
    NumberedSource fingerprints(1);
    AppendResult result;
    for (int i = 0; i < 100; ++i) {
        REQUIRE(!append(*opening.store, message(fingerprints, std::string(2000, 'x')), result));
    }
    opening.store.reset();
    REQUIRE(opening.open(tuning));
    ReadRequest request;
    request.app = "a";
    request.user = "bob";
    ReadResult read;
    vfs.fail_reads(SQLITE_IOERR_READ);
    const bool begun = !opening.store->begin(1, 1);
    if (begun) CHECK(opening.store->read(request, read));
    if (begun) CHECK(read.error);
    CHECK(read.deliveries.empty());
    opening.store->rollback();
    vfs.heal();
    CHECK(cseqs(*opening.store) == up_to(100));
}

TEST_CASE("SqliteStore: numbers end below 2^53") {
    Opening opening;
    REQUIRE(opening.open());
    NumberedSource fingerprints(1);
    AppendResult result;
    REQUIRE(!append(*opening.store, message(fingerprints), result));
    opening.store.reset();
    // As if all of the log were in the tables.
    run_sql(opening.path,
            "INSERT INTO conversation(low, high, cseq) VALUES(1, 2, 9007199254740990);"
            "INSERT INTO piece(id, accepted_at, live) SELECT id, 1, 1 FROM log;"
            "INSERT INTO inbox(user, first, last, runs) "
            "VALUES(2, 1, 1, x'010000000000000001000000000000000100000000000000');"
            "UPDATE meta SET value = (SELECT max(id) FROM log) WHERE key = 4");
    REQUIRE(opening.open());
    REQUIRE(!append(*opening.store, message(fingerprints), result));
    CHECK(result.cseq == kNumberMax);
    REQUIRE(!append(*opening.store, message(fingerprints), result));
    CHECK(result.fate == Fate::kRefused);
    CHECK(result.code == 308);
    CHECK(cseqs(*opening.store).size() == 2);
    opening.store.reset();
    run_sql(opening.path,
            "UPDATE user SET last = 9007199254740991, floor = 9007199254740991 WHERE name = 'bob';"
            "DELETE FROM inbox; DELETE FROM log; DELETE FROM piece; UPDATE conversation SET cseq "
            "= 0");
    REQUIRE(opening.open());
    REQUIRE(!append(*opening.store, message(fingerprints), result));
    CHECK(result.fate == Fate::kRefused);
    CHECK(result.code == 308);
}

// ---- the write-ahead log ----

TEST_CASE("SqliteStore: a prepared log has its full size at once, and holds what is committed") {
    Opening opening;
    SqliteTuning tuning;
    tuning.checkpoint_pages = 20;
    tuning.is_log_prepared = true;
    REQUIRE(opening.open(tuning));
    const auto size = std::filesystem::file_size(opening.path + "-wal");
    CHECK(size == 32 + 20 * (8192 + 24));
    NumberedSource fingerprints(1);
    AppendResult result;
    for (std::uint64_t i = 1; i <= 60; ++i) {
        REQUIRE(!append(*opening.store, message(fingerprints), result));
        if (i > 15) continue;
        CHECK(std::filesystem::file_size(opening.path + "-wal") == size);
        Opening copy;
        write_file(copy.path, read_file(opening.path));
        write_file(copy.path + "-wal", read_file(opening.path + "-wal"));
        REQUIRE_MESSAGE(copy.open(tuning), copy.why);
        CHECK(cseqs(*copy.store) == up_to(i));
    }
    CHECK(cseqs(*opening.store) == up_to(60));
}

TEST_CASE("SqliteStore: a log that cannot be prepared grows as it is written") {
    FailingVfs vfs;
    Opening opening;
    REQUIRE(opening.open());
    opening.store.reset();
    SqliteTuning tuning;
    tuning.is_log_prepared = true;
    vfs.fail_writes_after(3, SQLITE_FULL);
    REQUIRE_MESSAGE(opening.open(tuning), opening.why);
    CHECK(vfs.failures() > 0);
    CHECK(std::filesystem::file_size(opening.path + "-wal") == 0);
    vfs.heal();
    NumberedSource fingerprints(1);
    AppendResult result;
    REQUIRE(!append(*opening.store, message(fingerprints), result));
    CHECK(cseqs(*opening.store) == up_to(1));
}
