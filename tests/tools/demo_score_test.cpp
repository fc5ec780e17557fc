#include "tools/petrel/demo_score.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

using namespace petrel;
using petrel::tools::DemoScore;
using petrel::tools::Ledger;

namespace {

// Alice writes to Bob.
struct Score {
    explicit Score(std::uint64_t messages) : score(messages) {
        score.on_event(alice, "alice", "demo", StateEvent{ClientState::kOnline, 0, ""});
        score.on_event(bob, "bob", "demo", StateEvent{ClientState::kOnline, 0, ""});
    }
    static Fingerprint fp(int number) { return *Fingerprint::parse("f" + std::to_string(number)); }

    void queue(int number) {
        score.on_queued(alice, "alice", "demo", fp(number), "bob", "m" + std::to_string(number));
    }
    void accept(int number, petrel::Outcome outcome = petrel::Outcome::kAccepted) {
        OutcomeEvent event;
        event.record.fp = fp(number);
        event.record.to = "bob";
        event.record.outcome = outcome;
        event.record.cseq = static_cast<std::uint64_t>(number);
        event.record.attempts = 1;
        score.on_event(alice, "alice", "demo", event);
    }
    void deliver(int number) {
        MessageEvent event;
        event.from = "alice";
        event.to = "bob";
        event.fp = fp(number);
        event.qos = true;
        event.conv = "u:alice:bob";
        event.cseq = static_cast<std::uint64_t>(number);
        event.seq = static_cast<Position>(number);
        score.on_event(bob, "bob", "demo", event);
    }

    DemoScore score;
    Ledger::Source alice = score.open_source("alice");
    Ledger::Source bob = score.open_source("bob");
};

struct TraceFile {
    TraceFile() {
        path = (std::filesystem::temp_directory_path() / "petrel-trace-XXXXXX").string();
        const int descriptor = mkstemp(path.data());
        REQUIRE(descriptor >= 0);
        ::close(descriptor);
    }
    ~TraceFile() { ::unlink(path.c_str()); }
    TraceFile(const TraceFile&) = delete;
    TraceFile& operator=(const TraceFile&) = delete;
    std::string path;
};

}  // namespace

TEST_CASE("DemoScore: complete when all have an outcome and were delivered") {
    Score world(2);
    for (int i = 1; i <= 2; ++i) world.queue(i);
    for (int i = 1; i <= 2; ++i) world.deliver(i);
    world.accept(1);
    CHECK_FALSE(world.score.is_complete());
    world.accept(2);
    CHECK(world.score.is_complete());
    CHECK(world.score.missing(10).empty());
    CHECK(world.score.report().is_ok());
    CHECK(world.score.report().verdict() == "2 of 2 messages delivered exactly once, in order");
}

TEST_CASE("DemoScore: a message delivered twice counts once, and spoils the verdict") {
    Score world(2);
    for (int i = 1; i <= 2; ++i) world.queue(i);
    for (int i = 1; i <= 2; ++i) world.accept(i);
    world.deliver(1);
    world.deliver(1);
    CHECK_FALSE(world.score.is_complete());
    world.deliver(2);
    CHECK(world.score.is_complete());
    CHECK_FALSE(world.score.report().is_ok());
    CHECK(world.score.report().doubled == 1);
}

TEST_CASE("DemoScore: out of order spoils the verdict") {
    Score world(2);
    for (int i = 1; i <= 2; ++i) world.queue(i);
    world.deliver(2);
    world.deliver(1);
    for (int i = 1; i <= 2; ++i) world.accept(i);
    CHECK(world.score.is_complete());
    CHECK(world.score.report().disordered > 0);
    CHECK_FALSE(world.score.report().is_ok());
}

TEST_CASE("DemoScore: what is missing is named, the first few") {
    Score world(5);
    for (int i = 1; i <= 4; ++i) world.queue(i);
    world.accept(1);
    const auto all = world.score.missing(10);
    REQUIRE(all.size() == 5);
    CHECK(all[0] == "1 were never queued");
    const auto few = world.score.missing(2);
    REQUIRE(few.size() == 3);
    CHECK(few.back() == "...");
    CHECK_FALSE(world.score.is_complete());
}

TEST_CASE("DemoScore: accepted and lost on the way is lost") {
    Score world(1);
    world.queue(1);
    world.accept(1);
    CHECK(world.score.report().lost == 1);
    CHECK_FALSE(world.score.report().is_ok());
}

TEST_CASE("DemoScore: what the gateway's lives wrote into its trace reaches the ledger") {
    Score world(1);
    world.queue(1);
    const TraceFile trace;
    std::ofstream(trace.path) << R"({"event":"login","app":"default","user":"alice"})" << '\n'
                              << R"({"event":"duplicate","app":"default","from":"alice","fp":"f1"})"
                              << '\n'
                              << R"({"event":"dupl)";  // A kill.
    std::string why;
    REQUIRE_MESSAGE(world.score.read_trace(trace.path, why), why);
    CHECK(world.score.report().duplicates_suppressed == 1);
    CHECK_FALSE(world.score.read_trace(trace.path + ".none", why));
    CHECK_FALSE(why.empty());
}

TEST_CASE("DemoScore: a wake ends the waiting") {
    Score world(1);
    world.score.wake();
    world.score.wait_for(std::chrono::hours{1});
    CHECK_FALSE(world.score.is_complete());
}
