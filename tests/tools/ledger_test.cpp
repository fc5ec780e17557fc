#include "tools/petrel/ledger.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace petrel::tools {
namespace {

// Alice sends to bob from a phone; bob listens on one device or several.
class LedgerWorld {
public:
    explicit LedgerWorld(Ledger::Options options = {}) : ledger(options) {
        alice = ledger.open_source("alice");
        bob = ledger.open_source("bob");
        gateway = ledger.open_source("gateway");
        ledger.listening(bob, {"default", "bob", "listen"});
    }

    static MessageKey key(std::string_view fp) { return {"default", "alice", fp}; }
    void queue(std::string_view fp) { ledger.queued(alice, key(fp), "bob", "phone"); }
    void accept(std::string_view fp, std::uint64_t cseq = 0, std::uint32_t attempts = 1) {
        Ledger::Accepted accepted{"bob", {}, attempts, 1.0};
        if (cseq > 0) accepted.cseq = cseq;
        ledger.accepted(alice, key(fp), accepted);
    }
    void settle(std::string_view fp, Outcome outcome, int code = 0) {
        ledger.settled(alice, key(fp), outcome, code);
    }
    void hand_up(std::string_view fp, std::uint64_t cseq = 0, bool is_redelivered = false,
                 std::string_view device = "listen") {
        Ledger::HandedUp message{"default", "alice", "bob", fp, "u:alice:bob", {}, is_redelivered};
        if (cseq > 0) message.cseq = cseq;
        ledger.handed_up(bob, {"default", "bob", device}, message);
    }
    void deliver_all(const std::vector<std::string>& fps) {
        for (const auto& fp : fps) queue(fp);
        std::uint64_t cseq = 0;
        for (const auto& fp : fps) {
            accept(fp, ++cseq);
            hand_up(fp, cseq);
        }
    }
    Verdict verdict_of(std::string_view fp) {
        ledger.report();
        Verdict verdict = Verdict::kNotJudged;
        ledger.for_each([&](const JudgedMessage& m) {
            if (m.fp == fp) verdict = m.verdict;
        });
        return verdict;
    }

    Ledger ledger;
    Ledger::Source alice = 0;
    Ledger::Source bob = 0;
    Ledger::Source gateway = 0;
};

TEST_CASE("Ledger: all delivered once, in order, is the verdict of a good run") {
    LedgerWorld world;
    world.deliver_all({"a", "b", "c"});
    const Report report = world.ledger.report();
    CHECK(report.verdict() == "3 of 3 messages delivered exactly once, in order");
    CHECK(report.is_ok());
}

TEST_CASE("Ledger: one message is spoken of in the singular") {
    LedgerWorld world;
    world.deliver_all({"a"});
    CHECK(world.ledger.report().verdict() == "1 of 1 message delivered exactly once, in order");
}

TEST_CASE("Ledger: accepted and on no device of the recipient is lost") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.queue("b");
    world.accept("b", 2);
    const Report report = world.ledger.report();
    CHECK(report.lost == 1);
    CHECK_FALSE(report.is_ok(true));
    CHECK(report.verdict() == "1 of 2 messages delivered exactly once, in order; 1 lost");
    REQUIRE(report.problems.size() == 1);
    CHECK(report.problems[0].fp == "b");
}

TEST_CASE("Ledger: without a log of the recipient nothing is called lost") {
    Ledger ledger;
    const auto alice = ledger.open_source("alice");
    ledger.queued(alice, LedgerWorld::key("a"), "bob", "phone");
    ledger.accepted(alice, LedgerWorld::key("a"), {"bob", 1, 1, 2.0});
    const Report report = ledger.report();
    CHECK(report.lost == 0);
    CHECK(report.is_ok());
    CHECK(report.verdict() == "1 of 1 message accepted (no recipient's log to see the rest)");
}

TEST_CASE("Ledger: a source that is online and queues nothing listens, one that queues may not") {
    Ledger ledger;
    const auto alice = ledger.open_source("alice");
    const auto bob = ledger.open_source("bob");
    ledger.online(alice, {"default", "alice", "phone"});
    ledger.online(bob, {"default", "bob", "listen"});
    ledger.queued(alice, LedgerWorld::key("a"), "bob", "phone");
    ledger.accepted(alice, LedgerWorld::key("a"), {"bob", 1, 1, {}});
    ledger.accepted(bob, {"default", "carol", "b"}, {"alice", 1, 1, {}});
    CHECK(ledger.report().lost == 1);
}

TEST_CASE("Ledger: one device of several is enough to have it") {
    LedgerWorld world;
    world.queue("a");
    world.accept("a", 1);
    world.ledger.listening(world.bob, {"default", "bob", "tablet"});
    world.hand_up("a", 1, false, "tablet");
    CHECK(world.verdict_of("a") == Verdict::kDelivered);
}

TEST_CASE("Ledger: the same on two devices is not doubled") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.hand_up("a", 1, false, "tablet");
    CHECK(world.ledger.report().doubled == 0);
    CHECK(world.ledger.report().is_ok());
}

TEST_CASE("Ledger: twice on one device is doubled") {
    LedgerWorld world;
    world.deliver_all({"a", "b"});
    world.hand_up("a", 1);
    const Report report = world.ledger.report();
    CHECK(report.doubled == 1);
    CHECK(report.delivered_once == 1);
    CHECK_FALSE(report.is_ok(true));
}

TEST_CASE("Ledger: again with the mark is redelivered, and no failure") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.hand_up("a", 1, true);
    const Report report = world.ledger.report();
    CHECK(world.verdict_of("a") == Verdict::kRedelivered);
    CHECK(report.redelivered == 1);
    CHECK(report.doubled == 0);
    CHECK(report.is_ok());
}

TEST_CASE("Ledger: again after a break is said, and no failure; once more without one is doubled") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.ledger.broke(world.bob);
    world.hand_up("a", 1);
    CHECK(world.ledger.report().after_break == 1);
    CHECK(world.ledger.report().is_ok());
    world.hand_up("a", 1);
    CHECK(world.ledger.report().doubled == 1);
}

TEST_CASE("Ledger: handed up in another order than queued is disordered") {
    LedgerWorld world;
    for (const char* fp : {"a", "b", "c"}) world.queue(fp);
    for (const char* fp : {"a", "b", "c"}) world.accept(fp);
    for (const char* fp : {"b", "c", "a"}) world.hand_up(fp);
    const Report report = world.ledger.report();
    CHECK(report.disordered == 1);
    CHECK(world.verdict_of("a") == Verdict::kDisordered);
    CHECK(report.verdict() == "2 of 3 messages delivered exactly once; 1 out of order");
}

TEST_CASE("Ledger: order across different recipients or sending devices is not judged") {
    LedgerWorld world;
    world.ledger.queued(world.alice, LedgerWorld::key("a"), "bob", "phone");
    world.ledger.queued(world.alice, LedgerWorld::key("b"), "bob", "desktop");
    world.accept("a");
    world.accept("b");
    world.hand_up("b");
    world.hand_up("a");
    CHECK(world.ledger.report().disordered == 0);
}

TEST_CASE("Ledger: a refused message leaves no hole in the order") {
    LedgerWorld world;
    for (const char* fp : {"a", "b", "c"}) world.queue(fp);
    world.accept("a", 1);
    world.settle("b", Outcome::kRejected, 306);
    world.accept("c", 2);
    world.hand_up("a", 1);
    world.hand_up("c", 2);
    const Report report = world.ledger.report();
    CHECK(report.verdict() == "2 of 3 messages delivered exactly once, in order; 1 rejected");
    CHECK(report.is_ok());
}

TEST_CASE("Ledger: the conversation's numbers must grow at every device") {
    LedgerWorld world;
    world.hand_up("a", 2);
    world.hand_up("b", 1);
    CHECK(world.ledger.report().disordered == 1);
    CHECK(world.verdict_of("b") == Verdict::kDisordered);
}

TEST_CASE("Ledger: two messages with one number of a conversation are disordered") {
    LedgerWorld world;
    world.hand_up("a", 1);
    world.hand_up("b", 1);
    CHECK(world.ledger.report().disordered == 1);
}

TEST_CASE("Ledger: numbers may begin lower after a break, and when marked as redelivered") {
    LedgerWorld world;
    world.hand_up("a", 5);
    world.hand_up("b", 4, true);
    world.ledger.broke(world.bob);
    world.hand_up("c", 1);
    world.hand_up("d", 2);
    CHECK(world.ledger.report().disordered == 0);
}

TEST_CASE("Ledger: order is not judged when that is not asked for") {
    Ledger::Options options;
    options.is_order_judged = false;
    LedgerWorld world(options);
    world.queue("a");
    world.queue("b");
    world.accept("a", 1);
    world.accept("b", 2);
    world.hand_up("b", 2);
    world.hand_up("a", 1);
    const Report report = world.ledger.report();
    CHECK(report.disordered == 0);
    CHECK(report.verdict() == "2 of 2 messages delivered exactly once");
}

TEST_CASE("Ledger: queued without an outcome is pending, which may be allowed") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.queue("b");
    const Report report = world.ledger.report();
    CHECK(report.pending == 1);
    CHECK_FALSE(report.is_ok());
    CHECK(report.is_ok(true));
}

TEST_CASE("Ledger: queued again by a later run is the same message") {
    LedgerWorld world;
    const auto later = world.ledger.open_source("alice, second run");
    world.queue("a");
    world.queue("b");
    world.ledger.queued(later, LedgerWorld::key("b"), "bob", "phone");
    world.ledger.queued(later, LedgerWorld::key("c"), "bob", "phone");
    world.accept("a", 1);
    world.ledger.accepted(later, LedgerWorld::key("b"), {"bob", 2, 3, 9.0});
    world.ledger.accepted(later, LedgerWorld::key("c"), {"bob", 3, 1, 1.0});
    for (const char* fp : {"a", "c", "b"}) world.hand_up(fp);
    const Report report = world.ledger.report();
    CHECK(report.sent == 3);
    CHECK(report.pending == 0);
    CHECK(report.retransmitted == 2);
    CHECK(report.disordered == 1);
}

TEST_CASE("Ledger: a late ack corrects lost") {
    LedgerWorld world;
    world.queue("a");
    world.settle("a", Outcome::kLost);
    CHECK(world.ledger.report().lost == 1);
    world.accept("a", 1);
    world.hand_up("a", 1);
    const Report report = world.ledger.report();
    CHECK(report.lost == 0);
    CHECK(report.contradicted == 0);
    CHECK(report.is_ok());
}

TEST_CASE("Ledger: given up as lost, yet delivered, is delivered") {
    LedgerWorld world;
    world.queue("a");
    world.settle("a", Outcome::kLost);
    world.hand_up("a", 1);
    CHECK(world.verdict_of("a") == Verdict::kDelivered);
}

TEST_CASE("Ledger: two outcomes that exclude each other are a failure") {
    LedgerWorld world;
    world.queue("a");
    world.settle("a", Outcome::kExpired);
    world.accept("a", 1);
    world.hand_up("a", 1);
    const Report report = world.ledger.report();
    CHECK(report.contradicted == 1);
    CHECK_FALSE(report.is_ok(true));
}

TEST_CASE("Ledger: the app's own second try may end differently") {
    LedgerWorld world;
    world.queue("a");
    world.settle("a", Outcome::kExpired);
    world.queue("a");
    world.accept("a", 1);
    world.hand_up("a", 1);
    CHECK(world.ledger.report().contradicted == 0);
    CHECK(world.ledger.report().is_ok());
}

TEST_CASE("Ledger: the same outcome told twice is one") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.accept("a", 1);
    const Report report = world.ledger.report();
    CHECK(report.accepted == 1);
    CHECK(report.is_ok());
}

TEST_CASE("Ledger: a fingerprint reused for another payload does not touch the first message") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.settle("a", Outcome::kRejected, 305);
    CHECK(world.verdict_of("a") == Verdict::kDelivered);
    CHECK(world.ledger.report().contradicted == 0);
}

TEST_CASE("Ledger: without QoS nothing is judged") {
    LedgerWorld world;
    world.ledger.queued(world.alice, LedgerWorld::key("a"), "bob", "phone", false);
    const Report report = world.ledger.report();
    CHECK(report.sent == 0);
    CHECK(report.not_judged == 1);
    CHECK(report.is_ok());
}

TEST_CASE("Ledger: accepted and in no trace is uncommitted once there is a trace") {
    LedgerWorld world;
    for (const char* fp : {"a", "b", "c", "d"}) {
        world.ledger.accepted(world.alice, LedgerWorld::key(fp), {"carol", 1, 1, {}});
    }
    CHECK(world.ledger.report().uncommitted == 0);
    world.ledger.pushed(world.gateway, LedgerWorld::key("d"));
    world.ledger.committed(world.gateway, LedgerWorld::key("a"), "bob", 1);
    world.ledger.duplicate(world.gateway, LedgerWorld::key("b"));
    const Report report = world.ledger.report();
    CHECK(report.uncommitted == 1);
    CHECK(report.duplicates_suppressed == 1);
    CHECK(world.verdict_of("c") == Verdict::kUncommitted);
    CHECK_FALSE(report.is_ok(true));
}

TEST_CASE("Ledger: a delivered message needs no line in a trace") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.ledger.committed(world.gateway, LedgerWorld::key("b"), "carol", 1);
    CHECK(world.ledger.report().uncommitted == 0);
}

TEST_CASE("Ledger: accepted by the stream's height alone needs no line in a trace") {
    LedgerWorld world;
    world.ledger.accepted(world.alice, LedgerWorld::key("a"), {"carol", {}, 2, {}});
    world.ledger.committed(world.gateway, LedgerWorld::key("b"), "carol", 1);
    CHECK(world.ledger.report().uncommitted == 0);
}

TEST_CASE("Ledger: committed twice under two numbers is doubled") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.ledger.committed(world.gateway, LedgerWorld::key("a"), "bob", 1);
    CHECK(world.ledger.report().doubled == 0);
    world.ledger.committed(world.gateway, LedgerWorld::key("a"), "bob", 2);
    CHECK(world.ledger.report().doubled == 1);
}

TEST_CASE("Ledger: committed for a sender whose log is not given must be delivered too") {
    LedgerWorld world;
    world.ledger.committed(world.gateway, {"default", "carol", "a"}, "bob", 1);
    CHECK(world.ledger.report().sent == 1);
    CHECK(world.ledger.report().lost == 1);
}

TEST_CASE("Ledger: one fingerprint of two senders, or in two apps, is two messages") {
    LedgerWorld world;
    world.deliver_all({"a"});
    world.ledger.accepted(world.alice, {"default", "carol", "a"}, {"dave", 1, 1, {}});
    world.ledger.accepted(world.alice, {"other", "alice", "a"}, {"bob", 1, 1, {}});
    CHECK(world.ledger.report().sent == 3);
    CHECK(world.ledger.report().judged == 1);
}

TEST_CASE("Ledger: UUIDs in capitals are other fingerprints, and printed as they were") {
    LedgerWorld world;
    world.deliver_all(
        {"1b4e28ba-2fa1-11d2-883f-0016d3cca427", "1B4E28BA-2FA1-11D2-883F-0016D3CCA427"});
    CHECK(world.ledger.report().sent == 2);
    CHECK(world.verdict_of("1B4E28BA-2FA1-11D2-883F-0016D3CCA427") == Verdict::kDelivered);
    CHECK(world.verdict_of("1b4e28ba-2fa1-11d2-883f-0016d3cca427") == Verdict::kDelivered);
}

TEST_CASE("Ledger: logins of a source but its first are reconnects") {
    LedgerWorld world;
    for (int i = 0; i < 3; ++i) world.ledger.online(world.bob, {"default", "bob", "listen"});
    world.ledger.online(world.alice, {"default", "alice", "phone"});
    CHECK(world.ledger.report().reconnects == 2);
}

TEST_CASE("Ledger: p50 and p99 are those of the times until accepted") {
    LedgerWorld world;
    for (int i = 1; i <= 100; ++i) {
        const std::string fp = std::to_string(i);
        world.queue(fp);
        world.ledger.accepted(world.alice, LedgerWorld::key(fp), {"bob", {}, 1, double(i)});
    }
    const Report report = world.ledger.report();
    CHECK(report.p50_ms == 51.0);
    CHECK(report.p99_ms == 100.0);
}

TEST_CASE("Ledger: no messages have no times") {
    Ledger ledger;
    const Report report = ledger.report();
    CHECK_FALSE(report.p50_ms);
    CHECK(report.verdict() == "no message was sent");
}

TEST_CASE("Ledger: messages beyond the limit are counted and spoil the verdict") {
    Ledger::Options options;
    options.messages_max = 1;
    LedgerWorld world(options);
    world.queue("a");
    world.queue("b");
    const Report report = world.ledger.report();
    CHECK(report.sent == 1);
    CHECK(report.overflow == 1);
    CHECK_FALSE(report.is_ok(true));
}

TEST_CASE("Ledger: names beyond the limit are counted and spoil the verdict, whatever they name") {
    Ledger::Options options;
    options.names_bytes_max = 2'000;
    const std::string long_name(2'000, 'x');
    LedgerWorld world(options);
    world.deliver_all({"a"});
    REQUIRE(world.ledger.report().is_ok(false));
    SUBCASE("an app") {
        world.ledger.queued(world.alice, {long_name, "alice", "b"}, "bob", "phone");
    }
    SUBCASE("a sender") { world.ledger.accepted(world.gateway, {"default", long_name, "b"}, {}); }
    SUBCASE("a recipient") { world.ledger.queued(world.alice, world.key("b"), long_name, "phone"); }
    SUBCASE("a sending device") {
        world.ledger.queued(world.alice, world.key("a"), "bob", long_name);
    }
    SUBCASE("a fingerprint") { world.queue(long_name); }
    SUBCASE("a receiving device") { world.hand_up("a", 1, false, long_name); }
    SUBCASE("a conversation") {
        Ledger::HandedUp message{"default", "alice", "bob", "a", long_name, 1};
        world.ledger.handed_up(world.bob, {"default", "bob", "tablet"}, message);
    }
    SUBCASE("a user online") { world.ledger.online(world.bob, {"default", long_name, "phone"}); }
    SUBCASE("many short ones") {
        for (int i = 0; i < 100; ++i) {
            const std::string name = "u" + std::to_string(i);
            world.ledger.online(world.bob, {"default", name, "phone"});
        }
    }
    const Report report = world.ledger.report();
    CHECK(report.overflow > 0);
    CHECK_FALSE(report.is_ok(true));
    // What was known before is known still.
    CHECK(report.delivered_once == 1);
}

TEST_CASE("Ledger: devices of a message beyond the limit are counted and spoil the verdict") {
    Ledger::Options options;
    options.devices_per_message_max = 1;
    LedgerWorld world(options);
    world.deliver_all({"a"});
    world.hand_up("a", 1, false, "tablet");
    CHECK(world.ledger.report().overflow == 1);
}

TEST_CASE("Ledger: a report carries no more problems than asked for") {
    for (const std::size_t limit : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
        Ledger::Options options;
        options.problems_max = limit;
        LedgerWorld world(options);
        for (const char* fp : {"a", "b"}) world.queue(fp);
        CHECK(world.ledger.report().problems.size() == std::min<std::size_t>(limit, 2));
    }
}

TEST_CASE("Ledger: reports may be asked for again and again") {
    LedgerWorld world;
    for (const char* fp : {"a", "b"}) world.queue(fp);
    for (const char* fp : {"b", "a"}) world.hand_up(fp);
    CHECK(world.ledger.report().disordered == 1);
    CHECK(world.ledger.report().disordered == 1);
    CHECK(world.ledger.report().pending == 2);
}

TEST_CASE("Ledger: ten thousand messages find their records again") {
    LedgerWorld world;
    for (int i = 0; i < 10'000; ++i) world.queue(std::to_string(i));
    for (int i = 0; i < 10'000; ++i) world.accept(std::to_string(i));
    for (int i = 0; i < 10'000; ++i) world.hand_up(std::to_string(i));
    const Report report = world.ledger.report();
    CHECK(world.ledger.size() == 10'000);
    CHECK(report.verdict() == "10000 of 10000 messages delivered exactly once, in order");
}

TEST_CASE("Report: the summary object says it all on one line") {
    LedgerWorld world;
    world.deliver_all({"a"});
    const std::string json = world.ledger.report().json();
    CHECK(json.find(R"({"event":"verdict","ok":true,)") == 0);
    CHECK(json.find(R"("sent":1,"accepted":1)") != std::string::npos);
    CHECK(json.find(R"("duplicatesSuppressed":null)") != std::string::npos);
    CHECK(json.find('\n') == std::string::npos);
}

}  // namespace
}  // namespace petrel::tools
