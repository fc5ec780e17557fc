#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <sys/stat.h>

#include "tests/core/store/box_support.hpp"
#include "tests/support/disk_vfs.hpp"

using namespace petrel;
using namespace petrel::test;

namespace fs = std::filesystem;

namespace {

std::string reopened(BoxWorld& world, const std::string& path) {
    return to_string(world.outbox(path)->load());
}

}  // namespace

// ---- what survives ----

TEST_CASE("SqliteOutbox: a new file is empty, and only its owner may read it") {
    BoxWorld world;
    auto box = world.outbox();
    CHECK(box->is_durable());
    CHECK(to_string(box->load()) == " |");
    for (const char* suffix : {"", "-wal"}) {
        struct stat status = {};
        REQUIRE(::stat((world.path() + suffix).c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0600);
    }
}

TEST_CASE("SqliteOutbox: every field of a message survives") {
    BoxWorld world;
    OutboxRecord full = outgoing("7d7c3f0e-3c0f-4d3a-9a76-3f6e7f0f6b11");
    full.message.to = "ann\xc3\xa9";
    full.message.typeu = 42;
    full.message.bridge = true;
    full.message.qos = false;
    full.message.text = std::string("nul \0 \xf0\x9f\x90\xa6 'quoted'", 20);
    full.expires_at = 1'700'000'000'123;
    full.taken_at = -1;
    OutboxRecord bare = outgoing("sixteen-letters!", "");
    bare.message.to.clear();
    {
        auto box = world.outbox();
        box->append({full, bare}, world.answer());
        world.settle();
    }
    auto kept = world.outbox()->load();
    REQUIRE(kept.messages.size() == 2);
    const OutboxRecord& a = kept.messages[0];
    CHECK(a.message.fp == full.message.fp);
    CHECK(a.message.to == full.message.to);
    CHECK(a.message.typeu == 42);
    CHECK(a.message.bridge);
    CHECK_FALSE(a.message.qos);
    CHECK(a.message.text == full.message.text);
    CHECK(a.expires_at == full.expires_at);
    CHECK(a.taken_at == full.taken_at);
    const OutboxRecord& b = kept.messages[1];
    CHECK(b.message.fp == bare.message.fp);
    CHECK(b.message.to.empty());
    CHECK(b.message.text.empty());
    CHECK_FALSE(b.message.bridge);
    CHECK(b.message.qos);
    CHECK_FALSE(b.expires_at);
    CHECK_FALSE(b.taken_at);
}

TEST_CASE("SqliteOutbox: every field of an outcome survives") {
    BoxWorld world;
    OutcomeRecord accepted = outcome_of("a");
    accepted.cseq = kNumberMax;
    accepted.send_ts = 1'700'000'000'456;
    accepted.attempts = 3;
    OutcomeRecord rejected = outcome_of("b", Outcome::kRejected);
    rejected.code = 1025;
    {
        auto box = world.outbox();
        box->record_outcomes({accepted, rejected, outcome_of("c", Outcome::kUnknown)},
                             world.answer());
        world.settle();
    }
    const auto kept = world.outbox()->load();
    REQUIRE(kept.outcomes.size() == 3);
    CHECK(kept.outcomes[0].fp == accepted.fp);
    CHECK(kept.outcomes[0].to == "bob");
    CHECK(kept.outcomes[0].outcome == Outcome::kAccepted);
    CHECK(kept.outcomes[0].cseq == accepted.cseq);
    CHECK(kept.outcomes[0].send_ts == accepted.send_ts);
    CHECK(kept.outcomes[0].attempts == 3);
    CHECK(kept.outcomes[1].code == 1025);
    CHECK_FALSE(kept.outcomes[1].cseq);
    CHECK(kept.outcomes[2].outcome == Outcome::kUnknown);
}

TEST_CASE("SqliteOutbox: a 1 MiB text survives") {
    BoxWorld world;
    const std::string text(1 << 20, 'x');
    {
        auto box = world.outbox();
        box->append({outgoing("a", text)}, world.answer());
        world.settle();
    }
    CHECK(world.outbox()->load().messages.at(0).message.text == text);
}

TEST_CASE("SqliteOutbox: the order of the calls survives, whatever is taken out in between") {
    BoxWorld world;
    {
        auto box = world.outbox();
        box->append({outgoing("z"), outgoing("y")}, world.answer());
        box->append({outgoing("x")}, world.answer());
        box->record_outcomes({outcome_of("x")}, world.answer());
        box->append({outgoing("w")}, world.answer());
        world.settle();
    }
    {
        auto box = world.outbox();
        CHECK(to_string(box->load()) == "z y w | x=0");
        box->append({outgoing("a")}, world.answer());
        world.settle();
    }
    CHECK(reopened(world, world.path()) == "z y w a | x=0");
}

TEST_CASE("SqliteOutbox: load gives what was left once") {
    BoxWorld world;
    {
        auto box = world.outbox();
        box->append({outgoing("a")}, world.answer());
        world.settle();
    }
    Outbox::Kept left;
    auto opened = open_sqlite_outbox(world.path(), world.account, world.options, world.why, &left);
    REQUIRE(bool(opened));
    CHECK(to_string(left) == "a |");
    CHECK(to_string((*opened)->load()) == "a |");
    CHECK(to_string((*opened)->load()) == " |");
}

TEST_CASE("SqliteOutbox: an outcome takes its message out, and goes when it is removed") {
    BoxWorld world;
    {
        auto box = world.outbox();
        box->append({outgoing("a"), outgoing("b"), outgoing("c")}, world.answer());
        box->record_outcomes({outcome_of("b", Outcome::kExpired), outcome_of("a")}, world.answer());
        world.settle();
    }
    {
        auto box = world.outbox();
        CHECK(to_string(box->load()) == "c | b=2 a=0");
        box->remove_outcomes({fingerprint("b"), fingerprint("unknown")});
    }
    CHECK(reopened(world, world.path()) == "c | a=0");
}

TEST_CASE("SqliteOutbox: a fingerprint may come again when its outcome was removed") {
    BoxWorld world;
    {
        auto box = world.outbox();
        box->append({outgoing("a")}, world.answer());
        box->record_outcomes({outcome_of("a")}, world.answer());
        box->remove_outcomes({fingerprint("a")});
        box->append({outgoing("a", "again")}, world.answer());
        world.settle();
    }
    CHECK(reopened(world, world.path()) == "a |");
}

TEST_CASE("SqliteOutbox: a fingerprint that is kept is refused, with all of its batch") {
    BoxWorld world;
    {
        auto box = world.outbox();
        box->append({outgoing("a")}, world.answer("a"));
        box->append({outgoing("b"), outgoing("a")}, world.answer("ba"));
        box->append({outgoing("c")}, world.answer("c"));
        world.settle();
        CHECK(world.told == "a ba! c");
        CHECK(world.answers[1] == Errc::kFingerprintReused);
        CHECK(world.health.empty());
    }
    CHECK(reopened(world, world.path()) == "a c |");
}

TEST_CASE("SqliteOutbox: answers come on the loop only, in the order of the calls") {
    BoxWorld world;
    auto box = world.outbox();
    box->append({outgoing("a")}, world.answer("a"));
    box->record_outcomes({outcome_of("a")}, world.answer("recorded"));
    box->append({outgoing("b")}, world.answer("b"));
    box->append({}, world.answer("nothing"));
    box->append({outgoing("c")}, nullptr);
    world.loop.wait_for_a_task();
    CHECK(world.told.empty());
    world.settle();
    CHECK(world.told == "a recorded b nothing");
}

// ---- the end ----

TEST_CASE("SqliteOutbox: after its end no answer comes") {
    BoxWorld world;
    auto box = world.outbox();
    box->append({outgoing("a")}, world.answer("a"));
    world.loop.wait_for_a_task();
    box->append({outgoing("b")}, world.answer("b"));
    box.reset();
    world.loop.run_what_is_there();
    CHECK(world.told.empty());
}

TEST_CASE("SqliteOutbox: an append whose answer nobody heard is not kept") {
    BoxWorld world;
    {
        auto box = world.outbox();
        box->append({outgoing("a")}, world.answer());
        world.settle();
        box->append({outgoing("b"), outgoing("c")}, world.answer());
        world.loop.wait_for_a_task();
        // Refused: the one that is kept must stay.
        box->append({outgoing("a")}, world.answer());
        box->append({outgoing("d")}, world.answer());
    }
    CHECK(reopened(world, world.path()) == "a |");
}

TEST_CASE("SqliteOutbox: outcomes and removals under way at the end take effect") {
    BoxWorld world;
    {
        auto box = world.outbox();
        box->append({outgoing("a"), outgoing("b")}, world.answer());
        world.settle();
        box->record_outcomes({outcome_of("a"), outcome_of("b")}, world.answer());
        box->remove_outcomes({fingerprint("a")});
    }
    CHECK(reopened(world, world.path()) == " | b=0");
}

TEST_CASE("SqliteOutbox: an answer may destroy the outbox") {
    BoxWorld world;
    auto box = world.outbox();
    box->append({outgoing("a")}, [&](std::error_code) {
        world.told = "a";
        box.reset();
    });
    box->append({outgoing("b")}, world.answer("b"));
    world.loop.run_until([&] { return box == nullptr; });
    world.loop.run_what_is_there();
    CHECK(world.told == "a");
    CHECK(reopened(world, world.path()) == "a |");
}

// ---- group commit ----

TEST_CASE("SqliteOutbox: what is asked for during a commit shares the next one") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.outbox();
    disk.hold_syncs();
    box->append({outgoing("first")}, world.answer());
    disk.wait_for_held_sync();
    for (int i = 0; i < 100; ++i) {
        box->append({outgoing("n" + std::to_string(i))}, world.answer());
    }
    const int before = disk.syncs();
    disk.release_syncs();
    world.settle();
    CHECK(disk.syncs() - before == 1);
    CHECK(std::none_of(world.answers.begin(), world.answers.end(),
                       [](std::error_code error) { return bool(error); }));
    box.reset();
    CHECK(world.outbox()->load().messages.size() == 101);
}

// ---- a disk that fails ----

TEST_CASE("SqliteOutbox: a full disk fails the append, keeps nothing of it, and is told once") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.outbox();
    box->append({outgoing("a")}, world.answer("a"));
    world.settle();
    disk.fail_writes(SQLITE_FULL);
    box->append({outgoing("b"), outgoing("c")}, world.answer("bc"));
    world.settle();
    box->append({outgoing("d")}, world.answer("d"));
    world.settle();
    CHECK(world.told == "a bc! d!");
    CHECK(world.answers[1] == Errc::kSendFailed);
    world.loop.run_until([&] { return !world.health.empty(); });
    CHECK(world.health.size() == 1);
    CHECK(world.health[0].find("full") != std::string::npos);
    CHECK(world.health[0].find(world.path()) != std::string::npos);
    CHECK(box->last_error() == world.health[0]);

    disk.heal();
    box->append({outgoing("e")}, world.answer("e"));
    world.settle();
    CHECK(world.told == "a bc! d! e");
    world.loop.run_until([&] { return world.health.size() == 2; });
    CHECK(world.health[1].empty());
    CHECK(box->last_error().empty());
    box.reset();
    CHECK(reopened(world, world.path()) == "a e |");
}

TEST_CASE(
    "SqliteOutbox: read-only, broken, locked: each refuses the append in its own words, and ends") {
    const std::pair<int, const char*> faults[] = {
        {SQLITE_READONLY, "readonly"}, {SQLITE_IOERR_WRITE, "I/O"}, {SQLITE_BUSY, "locked"}};
    for (const auto& fault : faults) {
        const int code = fault.first;
        const char* const word = fault.second;
        CAPTURE(word);
        DiskVfs disk;
        BoxWorld world;
        auto box = world.outbox();
        disk.fail_writes(code);
        box->append({outgoing("a")}, world.answer("a"));
        world.settle();
        CHECK(world.told == "a!");
        CHECK(world.answers[0] == Errc::kSendFailed);
        CHECK(box->last_error().find(word) != std::string::npos);
        disk.heal();
        box->append({outgoing("b")}, world.answer("b"));
        world.settle();
        CHECK(world.told == "a! b");
        CHECK(box->last_error().empty());
        box.reset();
        CHECK(reopened(world, world.path()) == "b |");
    }
}

TEST_CASE("SqliteOutbox: a disk that its own log has filled gets room from the log") {
    DiskVfs disk;
    disk.limit_log(100'000);
    BoxWorld world;
    auto box = world.outbox();
    for (int i = 0; i < 50; ++i) {
        box->append({outgoing("n" + std::to_string(i), std::string(5'000, 'x'))}, world.answer());
        world.settle();
        CHECK_FALSE(world.answers.back());
    }
    CHECK(disk.failures() > 0);
    CHECK(world.health.empty());
    box.reset();
    CHECK(world.outbox()->load().messages.size() == 50);
}

TEST_CASE("SqliteOutbox: whichever write fails, the append is kept whole or not at all") {
    for (const int code : {SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_READONLY, SQLITE_BUSY}) {
        // More than one commit writes.
        for (int count = 0; count < 6; ++count) {
            CAPTURE(code);
            CAPTURE(count);
            DiskVfs disk;
            BoxWorld world;
            auto box = world.outbox();
            box->append({outgoing("a")}, world.answer());
            world.settle();
            disk.fail_writes(code, count);
            box->append({outgoing("b", std::string(5'000, 'b')), outgoing("c")}, world.answer());
            world.settle();
            const bool is_kept = !world.answers.back();
            disk.heal();
            box.reset();
            CHECK(reopened(world, world.path()) == (is_kept ? "a b c |" : "a |"));
        }
    }
}

TEST_CASE("SqliteOutbox: a sync that fails fails the append") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.outbox();
    disk.fail_syncs(SQLITE_IOERR_FSYNC);
    box->append({outgoing("a")}, world.answer());
    world.settle();
    CHECK(world.answers[0] == Errc::kSendFailed);
    disk.heal();
    box->append({outgoing("b")}, world.answer());
    world.settle();
    CHECK_FALSE(world.answers[1]);
    box.reset();
    CHECK(reopened(world, world.path()) == "b |");
}

TEST_CASE("SqliteOutbox: an outcome waits for the disk, and appends behind it fail meanwhile") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.outbox();
    box->append({outgoing("a"), outgoing("b")}, world.answer("ab"));
    world.settle();
    disk.fail_writes(SQLITE_FULL);
    box->record_outcomes({outcome_of("a")}, [&](std::error_code error) {
        world.told += error ? " recorded!" : " recorded";
    });
    box->append({outgoing("c")}, world.answer("c"));
    world.settle();
    CHECK(world.told == "ab c!");
    box->remove_outcomes({fingerprint("a")});
    box->append({outgoing("d")}, world.answer("d"));
    world.settle();
    CHECK(world.told == "ab c! d!");
    disk.heal();
    // Nobody asks: it tries by itself.
    world.loop.run_until([&] { return world.told.find("recorded") != std::string::npos; });
    CHECK(world.told == "ab c! d! recorded");
    box->append({outgoing("e")}, world.answer("e"));
    world.settle();
    box.reset();
    CHECK(reopened(world, world.path()) == "b e |");
}

TEST_CASE("SqliteOutbox: with appends_wait an append waits for the disk, too") {
    DiskVfs disk;
    BoxWorld world;
    world.options.appends_wait = true;
    auto box = world.outbox();
    disk.fail_writes(SQLITE_FULL);
    box->append({outgoing("a")}, world.answer("a"));
    box->append({outgoing("b")}, world.answer("b"));
    world.loop.run_until([&] { return !world.health.empty(); });
    CHECK(world.told.empty());
    disk.heal();
    world.settle();
    CHECK(world.told == "a b");
    box.reset();
    CHECK(reopened(world, world.path()) == "a b |");
}

TEST_CASE("SqliteOutbox: a disk that fails does not stop it from ending") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.outbox();
    box->append({outgoing("a")}, world.answer());
    world.settle();
    disk.fail_writes(SQLITE_IOERR_WRITE);
    box->record_outcomes({outcome_of("a")}, world.answer());
    box->append({outgoing("b")}, world.answer());
    box.reset();
    disk.heal();
    CHECK(reopened(world, world.path()) == "a |");
}

// ---- crashes ----

namespace {

// Asks for everything that an outbox does, in bursts of `burst` calls, and checks at each step of
// the disk what would be left: what was told must be there, what was not asked for must not, and
// nothing may be there by halves.
class CrashRun {
public:
    explicit CrashRun(std::size_t burst) : burst_(burst) {
        // The states after each call, as written down by hand.
        states_ = {" |",          "a b |",   "a b c |",        "b c | a=0",
                   "b c |",       "b c a |", "c a | b=3",      "c a | b=3",
                   "c a d | b=3", "c a d |", " | c=0 a=1 d=2", " |"};
    }

    void run(DiskVfs& disk, const std::function<void(std::size_t step)>& on_step) {
        auto box = world.outbox();
        std::size_t steps = 0;
        disk.set_on_step([&] { on_step(steps++); });
        const std::vector<std::function<void()>> calls = {
            [&] {
                box->append({outgoing("a", std::string(6'000, 'a')), outgoing("b")}, told());
            },
            [&] { box->append({outgoing("c")}, told()); },
            [&] { box->record_outcomes({outcome_of("a")}, told()); },
            [&] { box->remove_outcomes({fingerprint("a")}); },
            [&] { box->append({outgoing("a", std::string(9'000, 'A'))}, told()); },
            [&] { box->record_outcomes({outcome_of("b", Outcome::kCancelled)}, told()); },
            [&] { box->append({}, told()); },
            [&] { box->append({outgoing("d")}, told()); },
            [&] { box->remove_outcomes({fingerprint("b")}); },
            [&] {
                box->record_outcomes({outcome_of("c"), outcome_of("a", Outcome::kRejected),
                                      outcome_of("d", Outcome::kExpired)},
                                     told());
            },
            [&] {
                box->remove_outcomes({fingerprint("c"), fingerprint("a"), fingerprint("d")});
            }};
        for (std::size_t i = 0; i < calls.size(); ++i) {
            asked_ = i + 1;
            calls[i]();
            if ((i + 1) % burst_ == 0) settle();
        }
        settle();
        box.reset();
        disk.set_on_step({});
    }

    // Those that a crash now may leave.
    std::set<std::string> allowed() const {
        std::set<std::string> result;
        for (std::size_t i = told_; i <= asked_; ++i) result.insert(states_[i]);
        return result;
    }

    BoxWorld world;

private:
    std::function<void(std::error_code)> told() {
        const std::size_t call = asked_;
        return [this, call](std::error_code error) {
            CHECK_FALSE(error);
            told_ = std::max<std::size_t>(told_, call);
        };
    }
    void settle() {
        // Nobody hears of a removal.
        std::size_t last = asked_;
        while (last == 4 || last == 9 || last == 11) --last;
        world.loop.run_until([&] { return told_ >= last; });
    }

    const std::size_t burst_;
    std::vector<std::string> states_;
    std::atomic<std::size_t> asked_{0};
    std::atomic<std::size_t> told_{0};
};

struct Leftover {
    std::string path;
    std::set<std::string> allowed;
};

void check_leftovers(const std::vector<Leftover>& leftovers) {
    BoxWorld world;
    for (const Leftover& leftover : leftovers) {
        CAPTURE(leftover.path);
        auto opened = world.try_outbox(leftover.path);
        REQUIRE_MESSAGE(bool(opened), world.why);
        const std::string state = to_string((*opened)->load());
        CAPTURE(state);
        CHECK(leftover.allowed.count(state) == 1);
    }
}

}  // namespace

TEST_CASE(
    "SqliteOutbox: a kill at any step of the disk leaves all that was told, and nothing by "
    "halves") {
    for (const std::size_t burst : {1, 3, 100}) {
        CAPTURE(burst);
        DiskVfs disk;
        CrashRun crash(burst);
        std::vector<Leftover> leftovers;
        crash.run(disk, [&](std::size_t step) {
            // A kill loses nothing that was written, synced or not.
            const std::string target = crash.world.folder.file("kill-" + std::to_string(step));
            fs::create_directory(target);
            for (const char* suffix : {"", "-wal"}) {
                fs::copy_file(crash.world.path() + suffix, target + "/box" + suffix);
            }
            leftovers.push_back({target + "/box", crash.allowed()});
        });
        CHECK(leftovers.size() > 6);
        check_leftovers(leftovers);
    }
}

TEST_CASE("SqliteOutbox: a power cut at any step leaves all that was told, and nothing by halves") {
    std::mt19937 random(1);
    for (const std::size_t burst : {1, 4}) {
        CAPTURE(burst);
        DiskVfs disk;
        CrashRun crash(burst);
        std::vector<Leftover> leftovers;
        crash.run(disk, [&](std::size_t step) {
            for (const int of_8 : {0, 4, 7}) {
                const std::string target = crash.world.folder.file("cut-" + std::to_string(step) +
                                                                   "-" + std::to_string(of_8));
                disk.cut_power(fs::path(crash.world.path()).parent_path(), target,
                               [&] { return static_cast<int>(random() % 8) < of_8; });
                leftovers.push_back({target + "/box", crash.allowed()});
            }
        });
        CHECK(leftovers.size() > 18);
        check_leftovers(leftovers);
    }
}
