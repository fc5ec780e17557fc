#include <array>
#include <filesystem>
#include <optional>
#include <string>

#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/core/store/box_support.hpp"

using namespace petrel;
using namespace petrel::test;

namespace fs = std::filesystem;

namespace {

// A file with some messages in it, closed.
void fill(BoxWorld& world, int messages = 50) {
    auto box = world.outbox();
    for (int i = 0; i < messages; ++i) {
        box->append({outgoing("m" + std::to_string(i), std::string(900, 'x'))}, world.answer());
    }
    world.settle();
}

void execute(const std::string& path, const char* sql) {
    sqlite3* connection = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &connection) == SQLITE_OK);
    const int code = sqlite3_exec(connection, sql, nullptr, nullptr, nullptr);
    sqlite3_close(connection);
    REQUIRE(code == SQLITE_OK);
}

void check_set_aside(BoxWorld& world, const std::string& content) {
    auto opened = world.try_outbox(world.path());
    REQUIRE_FALSE(bool(opened));
    CAPTURE(world.why);
    CHECK(opened.error() == Errc::kUnknown);
    CHECK(world.why_says(world.path() + ".corrupt-1"));
    CHECK_FALSE(fs::exists(world.path()));
    CHECK(content_of(world.path() + ".corrupt-1") == content);
    // The next start has an empty one, and the old is still there.
    CHECK(to_string(world.outbox()->load()) == " |");
    CHECK(content_of(world.path() + ".corrupt-1") == content);
}

void check_refused(BoxWorld& world, const std::string& sentence) {
    const std::string before = content_of(world.path());
    auto opened = world.try_outbox(world.path());
    REQUIRE_FALSE(bool(opened));
    CAPTURE(world.why);
    CHECK(world.why_says(sentence));
    CHECK(content_of(world.path()) == before);
    CHECK_FALSE(fs::exists(world.path() + ".corrupt-1"));
}

// A process that opens the file, says so, and holds it until it is told to go or is gone.
class Holder {
public:
    Holder(BoxWorld& world, const std::string& path) {
        REQUIRE(::pipe(says_.data()) == 0);
        REQUIRE(::pipe(hears_.data()) == 0);
        child_ = ::fork();
        REQUIRE(child_ >= 0);
        if (child_ == 0) {
            ::close(hears_[1]);
            auto opened = world.try_outbox(path);
            const char word = opened ? 'y' : 'n';
            (void)!::write(says_[1], &word, 1);
            char ignored = 0;
            (void)!::read(hears_[0], &ignored, 1);
            ::_exit(0);  // Without closing anything.
        }
        ::close(says_[1]);
        ::close(hears_[0]);
        char word = 0;
        REQUIRE(::read(says_[0], &word, 1) == 1);
        REQUIRE(word == 'y');
    }
    void end() {
        if (child_ < 0) return;
        ::close(hears_[1]);
        int status = 0;
        ::waitpid(child_, &status, 0);
        ::close(says_[0]);
        child_ = -1;
    }
    ~Holder() { end(); }

private:
    std::array<int, 2> says_{};
    std::array<int, 2> hears_{};
    pid_t child_ = -1;
};

}  // namespace

// ---- set aside: never emptied without a word ----

TEST_CASE("ClientFile: a file that is not SQLite is set aside") {
    BoxWorld world;
    const std::string text = "Dear diary,\n" + std::string(5'000, 'z');
    write_file(world.path(), text);
    check_set_aside(world, text);
}

TEST_CASE("ClientFile: a short file that is not SQLite is set aside") {
    BoxWorld world;
    write_file(world.path(), "x");
    check_set_aside(world, "x");
}

TEST_CASE("ClientFile: another program's database is set aside") {
    BoxWorld world;
    execute(world.path(), "CREATE TABLE place(id); INSERT INTO place VALUES(1)");
    check_set_aside(world, content_of(world.path()));
}

TEST_CASE("ClientFile: another program's database with an id of its own is set aside") {
    BoxWorld world;
    execute(world.path(), "PRAGMA application_id=7");
    check_set_aside(world, content_of(world.path()));
}

TEST_CASE("ClientFile: a damaged header is set aside") {
    BoxWorld world;
    fill(world);
    std::string content = content_of(world.path());
    content.replace(0, 6, "sqLITE");
    write_file(world.path(), content);
    check_set_aside(world, content);
}

TEST_CASE("ClientFile: a damaged page is set aside, whichever it is") {
    BoxWorld good;
    fill(good);
    const std::string content = content_of(good.path());
    REQUIRE(content.size() >= 4096 * 8);
    for (std::size_t page = 1; page < content.size() / 4096; ++page) {
        CAPTURE(page);
        BoxWorld world;
        std::string damaged = content;
        damaged.replace(page * 4096, 64, std::string(64, '\xff'));
        write_file(world.path(), damaged);
        check_set_aside(world, damaged);
    }
}

TEST_CASE("ClientFile: a truncated file is set aside, however short it is") {
    BoxWorld good;
    fill(good);
    const std::string content = content_of(good.path());
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{99}, std::size_t{100}, std::size_t{4095}, std::size_t{4096},
          std::size_t{8192}, content.size() - 4096}) {
        CAPTURE(size);
        BoxWorld world;
        write_file(world.path(), content.substr(0, size));
        check_set_aside(world, content.substr(0, size));
    }
}

TEST_CASE("ClientFile: an empty file beside a log is set aside with it") {
    BoxWorld world;
    write_file(world.path(), "");
    write_file(world.path() + "-wal", "some log");
    check_set_aside(world, "");
    CHECK(content_of(world.path() + ".corrupt-1-wal") == "some log");
}

TEST_CASE("ClientFile: a log without its file is set aside") {
    BoxWorld world;
    write_file(world.path() + "-wal", "some log");
    auto opened = world.try_outbox(world.path());
    REQUIRE_FALSE(bool(opened));
    CHECK(world.why_says(".corrupt-1"));
    CHECK(content_of(world.path() + ".corrupt-1-wal") == "some log");
    CHECK(to_string(world.outbox()->load()) == " |");
}

TEST_CASE(
    "ClientFile: what is set aside goes with its log, untouched, beside what was set aside "
    "before") {
    BoxWorld world;
    fill(world);
    const std::string path = world.folder.file("copy");
    {
        auto box = world.outbox();
        box->append({outgoing("a")}, world.answer());
        world.settle();
        // As a kill leaves it.
        fs::copy_file(world.path(), path);
        fs::copy_file(world.path() + "-wal", path + "-wal");
    }
    write_file(path + ".corrupt-1", "older");
    write_file(path + ".corrupt-2-wal", "older");
    const std::string content(content_of(path).size(), '?');
    write_file(path, content);
    const std::string log = content_of(path + "-wal");
    REQUIRE_FALSE(log.empty());
    REQUIRE_FALSE(bool(world.try_outbox(path)));
    CAPTURE(world.why);
    CHECK(world.why_says(".corrupt-3"));
    CHECK(content_of(path + ".corrupt-1") == "older");
    CHECK(content_of(path + ".corrupt-3") == content);
    CHECK(content_of(path + ".corrupt-3-wal") == log);
}

TEST_CASE("ClientFile: a row that makes no sense is set aside") {
    for (const char* sql :
         {"INSERT INTO message VALUES(9, x'', 'bob', 0, 1, 0, NULL, NULL, 'a')",
          "INSERT INTO message VALUES(9, x'61', CAST(x'ff' AS TEXT), 0, 1, 0, NULL, NULL, 'a')",
          "INSERT INTO message VALUES(9, x'61', hex(zeroblob(129)), 0, 1, 0, NULL, NULL, 'a')",
          "INSERT INTO message VALUES(9, x'61', 'bob', 4294967296, 1, 0, NULL, NULL, 'a')",
          "INSERT INTO message VALUES(9, x'61', 'bob', 0, 1, 0, -9223372036854775808, NULL, 'a')",
          "INSERT INTO message VALUES(9, x'61', 'bob', 0, 1, 0, NULL, 9223372036854775807, 'a')",
          "INSERT INTO message VALUES(9, x'61', 'bob', 0, 1, 0, NULL, NULL, CAST(x'ff' AS TEXT))",
          "INSERT INTO message VALUES(9223372036854775807, x'61', 'bob', 0, 1, 0, NULL, NULL, '')",
          "INSERT INTO outcome VALUES(1, x'61', 'bob', 77, 0, NULL, NULL, 1)",
          "INSERT INTO outcome VALUES(1, x'61', 'bob', 256, 0, NULL, NULL, 1)",
          "INSERT INTO outcome VALUES(1, x'61', CAST(x'ff' AS TEXT), 0, 0, NULL, NULL, 1)",
          "INSERT INTO outcome VALUES(1, x'61', 'bob', 0, 4294967296, NULL, NULL, 1)",
          "INSERT INTO outcome VALUES(1, x'61', 'bob', 0, 0, -1, NULL, 1)",
          "INSERT INTO outcome VALUES(1, x'61', 'bob', 0, 0, NULL, NULL, -1)",
          "DROP TABLE outcome"}) {
        CAPTURE(std::string(sql));
        BoxWorld world;
        fill(world, 1);
        execute(world.path(), sql);
        check_set_aside(world, content_of(world.path()));
    }
}

TEST_CASE("ClientFile: an empty file is a new one") {
    BoxWorld world;
    write_file(world.path(), "");
    CHECK(to_string(world.outbox()->load()) == " |");
}

// ---- refused: left alone ----

TEST_CASE("ClientFile: another account's file is refused and left alone") {
    BoxWorld world;
    fill(world, 1);
    world.account.user = "bob";
    check_refused(world, "is the outbox of user 'alice' (app 'default'), not of 'bob'");
    world.account = {"game", "alice"};
    check_refused(world, "app 'default'");
    world.account = {"default", "alice"};
    CHECK(to_string(world.outbox()->load()) == "m0 |");
}

TEST_CASE("ClientFile: a Petrel file of another kind is refused and left alone") {
    BoxWorld world;
    (void)world.inbox();
    check_refused(world, "another file of Petrel");
}

TEST_CASE("ClientFile: a file of a newer schema is refused and left alone") {
    BoxWorld world;
    fill(world, 1);
    execute(world.path(), "PRAGMA user_version=2");
    check_refused(world, "newer Petrel");
}

TEST_CASE("ClientFile: a file in use in this process is refused as busy") {
    BoxWorld world;
    auto box = world.outbox();
    BoxWorld other;
    auto opened = other.try_outbox(world.path());
    CHECK(opened.error() == Errc::kBusy);
    CHECK(other.why_says("in use by another process"));
    box->append({outgoing("a")}, world.answer());
    world.settle();
    box.reset();
    CHECK(to_string(other.outbox(world.path())->load()) == "a |");
}

TEST_CASE("ClientFile: a file in use by another process is refused as busy, until that is gone") {
    BoxWorld world;
    Holder holder(world, world.path());
    auto opened = world.try_outbox(world.path());
    CHECK(opened.error() == Errc::kBusy);
    CHECK(world.why_says("in use by another process"));
    holder.end();
    CHECK(to_string(world.outbox()->load()) == " |");
}

TEST_CASE("ClientFile: what a killed process was told is kept, whatever it was at") {
    // The child dies in the middle of its calls, without any clean-up; the parent counts what it
    // had been told.
    for (int told_before_death = 1; told_before_death <= 8; ++told_before_death) {
        CAPTURE(told_before_death);
        BoxWorld world;
        std::array<int, 2> says{};
        REQUIRE(::pipe(says.data()) == 0);
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            auto box = world.try_outbox(world.path());
            if (!box) ::_exit(1);
            int told = 0;
            for (int i = 0; i < 20; ++i) {
                (*box)->append({outgoing("m" + std::to_string(i))}, [&](std::error_code error) {
                    const char word = error ? 'n' : 'y';
                    (void)!::write(says[1], &word, 1);
                    if (++told == told_before_death) ::_exit(0);
                });
                world.loop.run_what_is_there();
            }
            world.loop.run_until([] { return false; });
        }
        ::close(says[1]);
        int told = 0;
        char word = 0;
        while (::read(says[0], &word, 1) == 1) {
            CHECK(word == 'y');
            ++told;
        }
        ::close(says[0]);
        int status = 0;
        ::waitpid(child, &status, 0);
        CHECK(told == told_before_death);
        const auto kept = world.outbox()->load();
        CHECK(kept.messages.size() >= static_cast<std::size_t>(told));
        for (std::size_t i = 0; i < kept.messages.size(); ++i) {
            CHECK(kept.messages[i].message.fp == fingerprint("m" + std::to_string(i)));
        }
    }
}

TEST_CASE("ClientFile: a folder that does not exist is refused") {
    BoxWorld world;
    const std::string path = world.folder.file("nowhere") + "/box";
    CHECK_FALSE(bool(world.try_outbox(path)));
    CHECK(world.why_says("check the folder"));
    CHECK_FALSE(fs::exists(world.folder.file("nowhere")));
}

TEST_CASE("ClientFile: a folder in the file's place is refused") {
    BoxWorld world;
    fs::create_directory(world.path());
    CHECK_FALSE(bool(world.try_outbox(world.path())));
    CHECK(world.why_says(world.path()));
    CHECK(fs::is_directory(world.path()));
}

TEST_CASE("ClientFile: an empty name is refused") {
    BoxWorld world;
    CHECK_FALSE(bool(world.try_outbox("")));
    CHECK(world.why_says("name a file"));
}

TEST_CASE("ClientFile: a file that may not be written is refused and left alone") {
    // Of no use for somebody who may write everywhere.
    if (::geteuid() == 0) return;
    BoxWorld world;
    fill(world, 1);
    fs::permissions(world.path(), fs::perms::owner_read);
    check_refused(world, "may not be written");
}

TEST_CASE("ClientFile: a link is followed, and stays when its target is set aside") {
    BoxWorld world;
    const std::string target = world.folder.file("target");
    write_file(target, "not a database at all, but long enough");
    fs::create_symlink(target, world.path());
    CHECK_FALSE(bool(world.try_outbox(world.path())));
    CHECK(world.why_says(target + ".corrupt-1"));
    CHECK(fs::is_symlink(world.path()));
}
