#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/core/store/box_support.hpp"
#include "tests/support/disk_vfs.hpp"

using namespace petrel;
using namespace petrel::test;

namespace fs = std::filesystem;

namespace {

std::string reopened(BoxWorld& world) { return to_string(*world.inbox()); }

}  // namespace

// ---- what survives ----

TEST_CASE("SqliteInbox: a new file has no cursor and nothing stored") {
    BoxWorld world;
    auto box = world.inbox();
    CHECK(box->is_durable());
    CHECK_FALSE(box->cursor());
    CHECK(box->load_unhandled().empty());
}

TEST_CASE("SqliteInbox: every field of a message survives") {
    BoxWorld world;
    Data full = incoming(1);
    full.from = "ann\xc3\xa9";
    full.fp = fingerprint("7d7c3f0e-3c0f-4d3a-9a76-3f6e7f0f6b11");
    full.qos = false;
    full.typeu = 42;
    full.bridge = true;
    full.cseq = kNumberMax;
    full.text = std::string("nul \0 end", 9);
    Data bare;
    bare.seq = 2;
    {
        auto box = world.inbox();
        box->on_resume("epoch", 0);
        box->append({full, bare}, world.answer());
        world.settle();
    }
    auto box = world.inbox();
    const auto stored = box->load_unhandled();
    REQUIRE(stored.size() == 2);
    const Data& a = stored[0].data;
    CHECK(stored[0].epoch == "epoch");
    CHECK(a.seq == 1);
    CHECK(a.from == full.from);
    CHECK(a.to == "alice");
    CHECK(a.fp == full.fp);
    CHECK_FALSE(a.qos);
    CHECK(a.typeu == 42);
    CHECK(a.bridge);
    CHECK(a.send_ts == full.send_ts);
    CHECK(a.conv == "u:alice:bob");
    CHECK(a.cseq == kNumberMax);
    CHECK(a.text == full.text);
    const Data& b = stored[1].data;
    CHECK(b.fp.empty());
    CHECK_FALSE(b.send_ts);
    CHECK(b.typeu == kTypeuNone);
    CHECK(b.text.empty());
}

TEST_CASE("SqliteInbox: messages and cursor survive together, and come once") {
    BoxWorld world;
    {
        auto box = world.inbox();
        box->on_resume("e", 4);
        box->append(incoming(5, 7), world.answer());
        world.settle();
        CHECK(box->load_unhandled().empty());
    }
    auto box = world.inbox();
    CHECK(to_string(*box) == "e/7 m7: e5 e6 e7");
    CHECK(box->load_unhandled().empty());
}

TEST_CASE("SqliteInbox: what was handled does not come again") {
    BoxWorld world;
    {
        auto box = world.inbox();
        box->on_resume("e", 0);
        box->append(incoming(1, 5), world.answer());
        box->record_handled(2, world.answer());
        box->record_handled(0, world.answer());
        box->record_handled(1, world.answer());
        world.settle();
    }
    CHECK(reopened(world) == "e/5 m5: e4 e5");
    {
        auto box = world.inbox();
        box->record_handled(100, world.answer());
        world.settle();
    }
    CHECK(reopened(world) == "e/5 m5:");
}

TEST_CASE("SqliteInbox: a device of its own is made with the file, and stays") {
    BoxWorld world;
    const std::string device = world.inbox()->device();
    CHECK(device.size() == 36);
    CHECK(world.inbox()->device() == device);
}

TEST_CASE("SqliteInbox: a file knows its device, and refuses another's") {
    BoxWorld world;
    world.device = "phone";
    CHECK(world.inbox()->device() == "phone");
    CHECK(world.inbox()->device() == "phone");
    world.device.clear();
    CHECK(world.inbox()->device() == "phone");
    world.device = "laptop";
    CHECK_FALSE(bool(world.try_inbox(world.path())));
    CHECK(world.why_says("is the inbox of device 'phone', not of 'laptop'"));
    CHECK_FALSE(fs::exists(world.path() + ".corrupt-1"));
}

TEST_CASE("SqliteInbox: another account's file is refused") {
    BoxWorld world;
    (void)world.inbox();
    world.account.user = "bob";
    CHECK_FALSE(bool(world.try_inbox(world.path())));
    CHECK(world.why_says("is the inbox of user 'alice'"));
}

TEST_CASE("SqliteInbox: a damaged file is set aside") {
    BoxWorld world;
    write_file(world.path(), std::string(9'000, '\x01'));
    CHECK_FALSE(bool(world.try_inbox(world.path())));
    CHECK(world.why_says(".corrupt-1"));
    CHECK(reopened(world) == "none:");
}

// ---- the cursor ----

TEST_CASE("SqliteInbox: a row that makes no sense is set aside") {
    for (const char* sql :
         {"UPDATE device SET name = ''", "UPDATE device SET name = CAST(x'ff' AS TEXT)",
          "UPDATE device SET name = hex(zeroblob(129))", "UPDATE cursor SET epoch = ''",
          "UPDATE cursor SET epoch = CAST(x'ff' AS TEXT)",
          "UPDATE cursor SET epoch = hex(zeroblob(129))", "UPDATE cursor SET seq = -1",
          "UPDATE cursor SET seq = 9007199254740992",
          "UPDATE message SET epoch = CAST(x'ff' AS TEXT)", "UPDATE message SET seq = 0",
          "UPDATE message SET seq = 9007199254740992",
          "UPDATE message SET sender = CAST(x'ff' AS TEXT)",
          "UPDATE message SET recipient = CAST(x'ff' AS TEXT)", "UPDATE message SET fp = x''",
          "UPDATE message SET typeu = 4294967296", "UPDATE message SET conv = CAST(x'ff' AS TEXT)",
          "UPDATE message SET cseq = -1", "UPDATE message SET text = CAST(x'ff' AS TEXT)"}) {
        CAPTURE(std::string(sql));
        BoxWorld world;
        {
            auto inbox = world.inbox();
            inbox->on_resume("e", 0);
            inbox->append(incoming(1, 2), world.answer());
            world.settle();
        }
        sqlite3* connection = nullptr;
        REQUIRE(sqlite3_open(world.path().c_str(), &connection) == SQLITE_OK);
        REQUIRE(sqlite3_exec(connection, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
        sqlite3_close(connection);
        auto opened = world.try_inbox(world.path());
        REQUIRE_FALSE(bool(opened));
        CHECK(world.why_says(world.path() + ".corrupt-1"));
    }
}

TEST_CASE("SqliteInbox: the cursor says what is stored, not what is on its way") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.inbox();
    box->on_resume("e", 0);
    CHECK(box->cursor()->epoch == "e");
    CHECK(box->cursor()->seq == 0);
    disk.hold_syncs();
    box->append(incoming(1, 2), world.answer());
    disk.wait_for_held_sync();
    CHECK(box->cursor()->seq == 0);
    disk.release_syncs();
    world.settle();
    CHECK(box->cursor()->seq == 2);
    CHECK(box->cursor()->fp == fingerprint("m2"));
}

TEST_CASE("SqliteInbox: a resume moves the cursor at once, anywhere, and keeps what is stored") {
    BoxWorld world;
    {
        auto box = world.inbox();
        box->on_resume("e", 0);
        box->append(incoming(1, 3), world.answer());
        world.settle();
        box->on_resume("e", 3);
        CHECK(box->cursor()->fp == fingerprint("m3"));
        box->on_resume("e", 8);
        CHECK(box->cursor()->seq == 8);
        CHECK(box->cursor()->fp.empty());
        box->append({incoming(9)}, world.answer());
        box->on_resume("f", 1);
        box->append({incoming(2)}, world.answer());
        world.settle();
        CHECK(box->cursor()->epoch == "f");
        CHECK(box->cursor()->seq == 2);
    }
    CHECK(reopened(world) == "f/2 m2: e1 e2 e3 e9 f2");
    {
        auto box = world.inbox();
        box->record_handled(4, world.answer());
        box->on_resume("f", 0);
        world.settle();
    }
    CHECK(reopened(world) == "f/0: f2");
}

TEST_CASE("SqliteInbox: an append that was under way when the cursor moved does not move it back") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.inbox();
    box->on_resume("e", 0);
    box->append(incoming(1, 2), world.answer());
    box->on_resume("f", 0);
    world.settle();
    CHECK(box->cursor()->epoch == "f");
    CHECK(box->cursor()->seq == 0);
    box.reset();
    CHECK(reopened(world) == "f/0: e1 e2");
}

TEST_CASE("SqliteInbox: positions that are not dense are refused, with all of their batch") {
    BoxWorld world;
    {
        auto box = world.inbox();
        box->append({incoming(1)}, world.answer("early"));
        world.settle();
        box->on_resume("e", 0);
        box->append({incoming(1), incoming(3)}, world.answer("hole"));
        world.settle();
        box->append({incoming(2)}, world.answer("ahead"));
        world.settle();
        box->append({incoming(1)}, world.answer("one"));
        world.settle();
        box->append({incoming(1)}, world.answer("again"));
        box->append({}, world.answer("nothing"));
        world.settle();
        CHECK(world.told == "early! hole! ahead! one again! nothing!");
        CHECK(world.answers[1] == Errc::kInvalidPacket);
        CHECK(world.health.empty());
    }
    CHECK(reopened(world) == "e/1 m1: e1");
}

// ---- a disk that fails ----

TEST_CASE("SqliteInbox: an append that fails takes those behind it along, and can be asked again") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.inbox();
    box->on_resume("e", 0);
    box->append({incoming(1)}, world.answer("1"));
    world.settle();
    disk.fail_writes(SQLITE_FULL);
    disk.hold_syncs();
    box->append({incoming(2)}, world.answer("2"));
    box->append({incoming(3)}, world.answer("3"));
    disk.release_syncs();
    world.settle();
    CHECK(world.told == "1 2! 3!");
    CHECK(world.answers[1] == Errc::kSendFailed);
    CHECK(box->cursor()->seq == 1);
    CHECK(box->last_error().find("full") != std::string::npos);
    disk.heal();
    box->append(incoming(2, 3), world.answer("23"));
    world.settle();
    CHECK(world.told == "1 2! 3! 23");
    box.reset();
    CHECK(reopened(world) == "e/3 m3: e1 e2 e3");
}

TEST_CASE("SqliteInbox: what is refused says nothing of the disk") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.inbox();
    box->on_resume("e", 0);
    box->append({incoming(1)}, world.answer("1"));
    world.settle();
    disk.fail_writes(SQLITE_FULL);
    box->append({incoming(2)}, world.answer("2"));
    world.settle();
    // A hole: found before anything is written.
    box->append({incoming(3)}, world.answer("3"));
    world.settle();
    CHECK(world.told == "1 2! 3!");
    CHECK(world.answers[2] == Errc::kInvalidPacket);
    CHECK(box->last_error().find("full") != std::string::npos);
    CHECK(world.health.size() == 1);
    disk.heal();
    box->append({incoming(2)}, world.answer("again"));
    world.settle();
    CHECK(box->last_error().empty());
}

TEST_CASE(
    "SqliteInbox: whoever hears of a failure hears of all that fail with it, before anything new") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.inbox();
    box->on_resume("e", 0);
    disk.fail_writes(SQLITE_FULL, 0);
    bool has_asked_again = false;
    box->append({incoming(1)}, [&](std::error_code error) {
        CHECK(error);
        world.told += "1!";
    });
    world.loop.wait_for_a_task();
    // Behind the failure, which nobody has heard of yet.
    box->append({incoming(2)}, [&](std::error_code error) {
        CHECK(error);
        world.told += " 2!";
        disk.heal();
        has_asked_again = true;
        box->append({incoming(1)}, world.answer("again"));
    });
    world.loop.run_until([&] { return has_asked_again; });
    CHECK(world.told == "1! 2!");
    world.settle();
    CHECK(world.told == "1! 2! again");
    box.reset();
    CHECK(reopened(world) == "e/1 m1: e1");
}

TEST_CASE("SqliteInbox: what was handled and where to resume wait for the disk, in order") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.inbox();
    box->on_resume("e", 0);
    box->append(incoming(1, 3), world.answer("stored"));
    world.settle();
    disk.fail_writes(SQLITE_IOERR_WRITE);
    box->record_handled(
        1, [&](std::error_code error) { world.told += error ? " handled!" : " handled"; });
    box->on_resume("f", 5);
    box->append({incoming(6)}, world.answer("6"));
    world.settle();
    CHECK(world.told == "stored 6!");
    CHECK(box->cursor()->epoch == "f");
    CHECK(box->cursor()->seq == 5);
    disk.heal();
    world.loop.run_until([&] { return world.told.find("handled") != std::string::npos; });
    CHECK(world.told == "stored 6! handled");
    box->append({incoming(6)}, world.answer("6"));
    world.settle();
    box.reset();
    CHECK(reopened(world) == "f/6 m6: e2 e3 f6");
}

// ---- the end ----

TEST_CASE("SqliteInbox: after its end no answer comes, and what was asked for took effect") {
    BoxWorld world;
    {
        auto box = world.inbox();
        box->on_resume("e", 0);
        box->append(incoming(1, 3), world.answer("stored"));
        box->record_handled(1, world.answer("handled"));
    }
    world.loop.run_what_is_there();
    CHECK(world.told.empty());
    CHECK(reopened(world) == "e/3 m3: e2 e3");
}

TEST_CASE("SqliteInbox: an answer may destroy the inbox") {
    DiskVfs disk;
    BoxWorld world;
    auto box = world.inbox();
    box->on_resume("e", 0);
    disk.fail_writes(SQLITE_FULL);
    box->append({incoming(1)}, [&](std::error_code) {
        world.told = "1";
        box.reset();
    });
    box->append({incoming(2)}, world.answer("2"));
    world.loop.run_until([&] { return box == nullptr; });
    world.loop.run_what_is_there();
    CHECK(world.told == "1");
}

// ---- crashes ----

namespace {

class CrashRun {
public:
    explicit CrashRun(std::size_t burst) : burst_(burst) {}

    void run(DiskVfs& disk, const std::function<void(std::size_t step)>& on_step) {
        auto box = world.inbox();
        std::size_t steps = 0;
        disk.set_on_step([&] { on_step(steps++); });
        const std::vector<std::function<void()>> calls = {
            [&] { box->on_resume("e", 0); },
            [&] { box->append(incoming(1, 3), told()); },
            [&] { box->append({incoming(4)}, told()); },
            [&] { box->record_handled(2, told()); },
            [&] { box->append(incoming(5, 20), told()); },
            [&] { box->record_handled(1, told()); },
            [&] { box->on_resume("f", 7); },
            [&] { box->append({incoming(8)}, told()); },
            [&] { box->record_handled(17, told()); },
            [&] { box->record_handled(1, told()); }};
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
        static const std::string many =
            "e5 e6 e7 e8 e9 e10 e11 e12 e13 e14 e15 e16 e17 e18 e19 e20";
        // After each call, as written down by hand.
        static const std::vector<std::string> states = {"none:",
                                                        "e/0:",
                                                        "e/3 m3: e1 e2 e3",
                                                        "e/4 m4: e1 e2 e3 e4",
                                                        "e/4 m4: e3 e4",
                                                        "e/20 m20: e3 e4 " + many,
                                                        "e/20 m20: e4 " + many,
                                                        "f/7: e4 " + many,
                                                        "f/8 m8: e4 " + many + " f8",
                                                        "f/8 m8: f8",
                                                        "f/8 m8:"};
        return {states.begin() + static_cast<std::ptrdiff_t>(told_),
                states.begin() + static_cast<std::ptrdiff_t>(asked_) + 1};
    }

    BoxWorld world;

private:
    std::function<void(std::error_code)> told() {
        const std::size_t call = asked_;
        return [this, call](std::error_code error) {
            CHECK_FALSE(error);
            told_ = call;
        };
    }
    void settle() {
        // Nobody hears of a resume.
        std::size_t last = asked_;
        while (last == 1 || last == 7) --last;
        world.loop.run_until([&] { return told_ >= last; });
    }

    const std::size_t burst_;
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
        auto opened = world.try_inbox(leftover.path);
        REQUIRE_MESSAGE(bool(opened), world.why);
        const std::string state = to_string(**opened);
        CAPTURE(state);
        CHECK(leftover.allowed.count(state) == 1);
    }
}

}  // namespace

TEST_CASE(
    "SqliteInbox: a kill at any step of the disk leaves all that was told, and nothing by halves") {
    for (const std::size_t burst : {1, 3, 100}) {
        CAPTURE(burst);
        DiskVfs disk;
        CrashRun crash(burst);
        std::vector<Leftover> leftovers;
        crash.run(disk, [&](std::size_t step) {
            const std::string target = crash.world.folder.file("kill-" + std::to_string(step));
            fs::create_directory(target);
            for (const char* suffix : {"", "-wal"}) {
                fs::copy_file(crash.world.path() + suffix, target + "/box" + suffix);
            }
            leftovers.push_back({target + "/box", crash.allowed()});
        });
        CHECK(leftovers.size() > 3);
        check_leftovers(leftovers);
    }
}

TEST_CASE("SqliteInbox: a power cut at any step leaves all that was told, and nothing by halves") {
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
        CHECK(leftovers.size() > 9);
        check_leftovers(leftovers);
    }
}
