#include "daemons/qos_receive.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "tests/support/fake_context.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;
using Options = QosReceiveDaemon::Options;
using Verdict = QosReceiveDaemon::Verdict;

namespace {

Fingerprint fp(const std::string& text) { return Fingerprint::parse(text).value(); }

// A QosReceiveDaemon in virtual time. Acks are told as "5", gaps as "5 gap 7" (h, rx), plain acks
// as "alice:a".
class ReceiveWorld final : public QosReceiveDaemon::Listener {
public:
    explicit ReceiveWorld(Options options = {}) : daemon(context, *this, options) {}
    ~ReceiveWorld() { CHECK(daemon.is_consistent()); }

    void on_ack_due(const QosReceiveDaemon::AckDue& ack) override {
        std::string text = std::to_string(ack.h);
        CHECK(ack.gap == ack.rx.has_value());
        if (ack.gap) text += " gap " + std::to_string(*ack.rx);
        tell(text);
    }
    void on_ack_due(std::string_view sender, const Fingerprint& id) override {
        tell(std::string(sender) + ':' + id.to_string());
    }

    // Takes up to `last` from rx on.
    void take_to(Position last) {
        while (daemon.rx() < last) {
            REQUIRE(daemon.on_data(daemon.rx() + 1, std::nullopt) == Verdict::kTake);
        }
    }
    void handle_to(Position last) {
        take_to(last);
        daemon.on_handled(last);
    }
    std::string said() {
        CHECK(daemon.is_consistent());
        return std::exchange(said_, {});
    }
    std::string said_at_flush() {
        daemon.flush();
        return said();
    }

    FakeContext context;
    QosReceiveDaemon daemon;

private:
    void tell(const std::string& text) {
        if (!said_.empty()) said_ += ", ";
        said_ += text;
    }
    std::string said_;
};

Options delay_of(Duration delay) {
    Options options;
    options.ack_delay_max = delay;
    return options;
}

}  // namespace

// ---- verdicts ----

TEST_CASE("QosReceive: positions in order are taken") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    CHECK(world.daemon.on_data(1, std::nullopt) == Verdict::kTake);
    CHECK(world.daemon.on_data(2, 1) == Verdict::kTake);
    CHECK(world.daemon.rx() == 2);
    CHECK(world.daemon.h() == 0);
}

TEST_CASE("QosReceive: a resume is where the next position is expected") {
    ReceiveWorld world;
    world.daemon.on_online(41, 64);
    CHECK(world.daemon.on_data(41, std::nullopt) == Verdict::kDuplicate);
    CHECK(world.daemon.on_data(43, std::nullopt) == Verdict::kGap);
    CHECK(world.daemon.on_data(42, std::nullopt) == Verdict::kTake);
}

TEST_CASE("QosReceive: prev up to rx is taken, above it is a gap") {
    for (const auto& [prev, verdict] : {std::pair<Position, Verdict>{0, Verdict::kTake},
                                        {2, Verdict::kTake},
                                        {3, Verdict::kTake},
                                        {4, Verdict::kGap},
                                        {9, Verdict::kGap},
                                        {kNumberMax, Verdict::kGap}}) {
        ReceiveWorld world;
        world.daemon.on_online(3, 64);
        CHECK(world.daemon.on_data(9, prev) == verdict);
        CHECK(world.daemon.rx() == (verdict == Verdict::kTake ? 9 : 3));
    }
}

TEST_CASE("QosReceive: a duplicate is dropped and the current h said at the next flush, once") {
    ReceiveWorld world;
    world.daemon.on_online(5, 64);
    CHECK(world.daemon.on_data(4, 3) == Verdict::kDuplicate);
    CHECK(world.daemon.on_data(5, std::nullopt) == Verdict::kDuplicate);
    CHECK(world.said().empty());
    CHECK(world.said_at_flush() == "5");
    CHECK(world.said_at_flush().empty());
    CHECK(world.daemon.duplicates() == 2);
}

TEST_CASE("QosReceive: position 0 is dropped and nothing is said") {
    ReceiveWorld world;
    world.daemon.on_online(5, 64);
    CHECK(world.daemon.on_data(0, std::nullopt) == Verdict::kDuplicate);
    CHECK(world.said_at_flush().empty());
}

TEST_CASE("QosReceive: offline everything is dropped and nothing said") {
    ReceiveWorld world;
    CHECK(world.daemon.on_data(1, std::nullopt) == Verdict::kDuplicate);
    world.daemon.on_online(0, 64);
    world.handle_to(1);
    CHECK(world.daemon.on_data(1, std::nullopt) == Verdict::kDuplicate);
    world.daemon.on_offline();
    world.daemon.on_offline();
    CHECK(world.daemon.on_data(2, std::nullopt) == Verdict::kDuplicate);
    world.daemon.on_handled(1);
    world.daemon.on_sent_mark(9);
    world.daemon.rewind(0);
    CHECK_FALSE(world.daemon.take_riding_ack());
    world.context.advance(1h);
    CHECK(world.said_at_flush().empty());
}

// ---- gaps ----

TEST_CASE("QosReceive: a gap is answered at once, then at most every interval") {
    ReceiveWorld world;
    world.daemon.on_online(3, 64);
    CHECK(world.daemon.on_data(5, std::nullopt) == Verdict::kGap);
    CHECK(world.said() == "3 gap 3");
    world.daemon.on_data(6, std::nullopt);
    world.context.advance(250ms - 1ns);
    world.daemon.on_data(7, std::nullopt);
    CHECK(world.said().empty());
    world.context.advance(1ns);
    world.daemon.on_data(8, std::nullopt);
    CHECK(world.said() == "3 gap 3");
    CHECK(world.daemon.gaps() == 4);
}

TEST_CASE("QosReceive: a gap is answered at once when rx has moved since the last answer") {
    ReceiveWorld world;
    world.daemon.on_online(3, 64);
    world.daemon.on_data(5, std::nullopt);
    world.said();
    SUBCASE("forward") {
        world.take_to(4);
        world.daemon.on_data(6, std::nullopt);
        CHECK(world.said() == "3 gap 4");
    }
    SUBCASE("forward and back, each time") {
        world.take_to(5);
        world.daemon.on_data(7, std::nullopt);
        world.daemon.rewind(4);
        world.daemon.on_data(6, std::nullopt);
        CHECK(world.said() == "3 gap 5, 3 gap 4");
    }
    SUBCASE("in a new session") {
        world.daemon.on_online(3, 64);
        world.daemon.on_data(6, std::nullopt);
        CHECK(world.said() == "3 gap 3");
    }
}

TEST_CASE("QosReceive: a gap interval of 0 answers every gap") {
    Options options;
    options.gap_interval = 0s;
    ReceiveWorld world(options);
    world.daemon.on_online(0, 64);
    world.daemon.on_data(5, std::nullopt);
    world.daemon.on_data(5, std::nullopt);
    CHECK(world.said() == "0 gap 0, 0 gap 0");
}

TEST_CASE("QosReceive: a gap's answer is an ack as well") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.handle_to(2);
    world.daemon.on_data(1, std::nullopt);
    world.daemon.on_data(9, std::nullopt);
    CHECK(world.said() == "2 gap 2");
    world.context.advance(1s);
    CHECK(world.said_at_flush().empty());
}

TEST_CASE("QosReceive: a sent mark above rx is a gap") {
    ReceiveWorld world;
    world.daemon.on_online(3, 64);
    for (const Position sent : {0U, 2U, 3U}) world.daemon.on_sent_mark(sent);
    CHECK(world.said().empty());
    world.daemon.on_sent_mark(4);
    CHECK(world.said() == "3 gap 3");
    world.daemon.on_sent_mark(kNumberMax);
    CHECK(world.said().empty());
    world.context.advance(250ms);
    world.daemon.on_sent_mark(4);
    CHECK(world.said() == "3 gap 3");
}

// ---- acks ----

TEST_CASE("QosReceive: after a login nothing is due") {
    ReceiveWorld world;
    world.daemon.on_online(7, 64);
    world.context.advance(1h);
    CHECK(world.said_at_flush().empty());
    CHECK_FALSE(world.daemon.take_riding_ack());
}

TEST_CASE("QosReceive: what is taken but not handled is not acked") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.take_to(40);
    world.context.advance(1h);
    CHECK(world.said_at_flush().empty());
}

TEST_CASE("QosReceive: an ack waits for the delay from the first unacked") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.handle_to(1);
    world.context.advance(19ms);
    world.handle_to(2);
    CHECK(world.said_at_flush().empty());
    world.context.advance(1ms);
    CHECK(world.said() == "2");
    world.context.advance(1h);
    CHECK(world.said_at_flush().empty());
}

TEST_CASE("QosReceive: an ack is due at the flush when enough messages are handled") {
    Options options;
    for (const auto& [every, window, due] :
         {std::tuple<std::size_t, std::size_t, Position>{16, 64, 16},
          {16, 16, 8},
          {16, 3, 1},
          {16, 1, 1},
          {16, 0, 1},
          {1, 64, 1},
          {0, 64, 1},
          {100, 64, 32}}) {
        options.ack_every_max = every;
        ReceiveWorld world(options);
        world.daemon.on_online(0, window);
        world.handle_to(due - 1);
        CHECK(world.said_at_flush().empty());
        world.handle_to(due);
        CHECK(world.said().empty());
        CHECK(world.said_at_flush() == std::to_string(due));
    }
}

TEST_CASE("QosReceive: with delay 0 every flush says an h that moved, once") {
    ReceiveWorld world(delay_of(0s));
    world.daemon.on_online(0, 64);
    world.handle_to(1);
    world.handle_to(2);
    CHECK(world.said_at_flush() == "2");
    world.take_to(3);
    CHECK(world.said_at_flush().empty());
    CHECK_FALSE(world.context.timers().next_deadline());
}

TEST_CASE("QosReceive: a long delay holds back what the count does not release") {
    ReceiveWorld world(delay_of(24h));
    world.daemon.on_online(0, 64);
    world.handle_to(15);
    world.context.advance(24h - 1ns);
    CHECK(world.said_at_flush().empty());
    world.context.advance(1ns);
    CHECK(world.said() == "15");
}

TEST_CASE("QosReceive: a lower h than before is ignored, one above rx counts up to rx") {
    ReceiveWorld world(delay_of(0s));
    world.daemon.on_online(0, 64);
    world.handle_to(5);
    world.said_at_flush();
    world.daemon.on_handled(4);
    world.daemon.on_handled(5);
    CHECK(world.said_at_flush().empty());
    world.take_to(6);
    world.daemon.on_handled(9);
    CHECK(world.said_at_flush() == "6");
}

TEST_CASE("QosReceive: a riding ack takes the place of the one that is due") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.handle_to(16);
    CHECK(world.daemon.take_riding_ack() == Position{16});
    CHECK_FALSE(world.daemon.take_riding_ack());
    world.context.advance(1s);
    CHECK(world.said_at_flush().empty());
}

TEST_CASE("QosReceive: a riding ack answers a duplicate") {
    ReceiveWorld world;
    world.daemon.on_online(4, 64);
    world.daemon.on_data(4, std::nullopt);
    CHECK(world.daemon.take_riding_ack() == Position{4});
    CHECK(world.said_at_flush().empty());
}

TEST_CASE("QosReceive: what the app has not handled at a login is not acked by it") {
    ReceiveWorld world(delay_of(0s));
    world.daemon.on_online(10, 64, 7);
    CHECK(world.daemon.rx() == 10);
    CHECK(world.daemon.h() == 7);
    CHECK(world.said_at_flush().empty());
    world.daemon.on_handled(8);
    CHECK(world.said_at_flush() == "8");
}

TEST_CASE("QosReceive: a login cannot say handled above what it resumes at") {
    ReceiveWorld world;
    world.daemon.on_online(3, 64, 9);
    CHECK(world.daemon.h() == 3);
}

TEST_CASE("QosReceive: a reconnect forgets what was due") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.handle_to(3);
    world.daemon.on_data(1, std::nullopt);
    world.daemon.on_offline();
    world.daemon.on_online(3, 64);
    world.context.advance(1s);
    CHECK(world.said_at_flush().empty());
}

// ---- rewind ----

TEST_CASE("QosReceive: a rewind takes the positions again, never below h") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.handle_to(3);
    world.take_to(6);
    world.daemon.rewind(9);
    CHECK(world.daemon.rx() == 6);
    world.daemon.rewind(4);
    CHECK(world.daemon.rx() == 4);
    CHECK(world.daemon.on_data(6, std::nullopt) == Verdict::kGap);
    CHECK(world.daemon.on_data(6, 4) == Verdict::kTake);
    world.daemon.rewind(1);
    CHECK(world.daemon.rx() == 3);
    CHECK(world.daemon.on_data(3, std::nullopt) == Verdict::kDuplicate);
}

// ---- plain ----

TEST_CASE("QosReceive plain: a message is taken once and acked when handled") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kTake);
    CHECK(world.said_at_flush().empty());
    world.daemon.on_handled("alice", fp("a"));
    CHECK(world.said() == "alice:a");
    world.daemon.on_handled("alice", fp("a"));
    CHECK(world.said_at_flush().empty());
}

TEST_CASE("QosReceive plain: a duplicate is acked again only if it was handled") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.daemon.on_data("alice", fp("a"));
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kDuplicate);
    CHECK(world.said().empty());
    world.daemon.on_handled("alice", fp("a"));
    world.said();
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kDuplicate);
    CHECK(world.said() == "alice:a");
    CHECK(world.daemon.duplicates() == 2);
}

TEST_CASE("QosReceive plain: the same fingerprint of two senders is two messages") {
    ReceiveWorld world;
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kTake);
    CHECK(world.daemon.on_data("bob", fp("a")) == Verdict::kTake);
    CHECK(world.daemon.on_data("", fp("a")) == Verdict::kTake);
    CHECK(world.daemon.dedup_size() == 3);
}

TEST_CASE("QosReceive plain: a UUID in capitals is another fingerprint") {
    ReceiveWorld world;
    CHECK(world.daemon.on_data("a", fp("0a0b0c0d-0000-4000-8000-000000000001")) == Verdict::kTake);
    CHECK(world.daemon.on_data("a", fp("0A0B0C0D-0000-4000-8000-000000000001")) == Verdict::kTake);
}

TEST_CASE("QosReceive plain: the memory outlives a connection, acks do not") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.daemon.on_data("alice", fp("a"));
    world.daemon.on_offline();
    world.daemon.on_handled("alice", fp("a"));
    CHECK(world.said().empty());
    world.daemon.on_online(0, 64);
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kDuplicate);
    CHECK(world.said() == "alice:a");
}

TEST_CASE("QosReceive plain: the memory is swept of what nobody spoke of for so long") {
    ReceiveWorld world;
    world.daemon.on_data("alice", fp("a"));
    world.daemon.on_handled("alice", fp("a"));
    world.daemon.on_data("alice", fp("b"));
    world.context.advance(6min);
    CHECK(world.daemon.on_data("alice", fp("b")) == Verdict::kDuplicate);
    world.context.advance(4min);
    CHECK(world.daemon.dedup_size() == 1);
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kTake);
    world.context.advance(1h);
    CHECK(world.daemon.dedup_size() == 0);
    CHECK_FALSE(world.context.timers().next_deadline());
}

TEST_CASE("QosReceive plain: a full memory is swept in steps, with room for others between") {
    ReceiveWorld world;
    for (int i = 0; i < 2500; ++i) world.daemon.on_data("alice", fp(std::to_string(i)));
    world.context.advance(10min - 1ms);
    CHECK(world.daemon.dedup_size() == 2500);
    world.context.advance(1ms);
    CHECK(world.daemon.dedup_size() == 2500 - 1024);
    CHECK(world.daemon.on_data("alice", fp("0")) == Verdict::kTake);
    CHECK(world.daemon.on_data("alice", fp("2499")) == Verdict::kDuplicate);
    world.context.advance(1ms);
    CHECK(world.daemon.dedup_size() == 2501 - 2 * 1024);
    world.context.advance(1ms);
    CHECK(world.daemon.dedup_size() == 2);
    CHECK(world.daemon.is_consistent());
}

TEST_CASE("QosReceive plain: a fingerprint cannot pass for another with a longer sender") {
    ReceiveWorld world;
    CHECK(world.daemon.on_data("bc", fp("a")) == Verdict::kTake);
    CHECK(world.daemon.on_data("c", fp("ab")) == Verdict::kTake);
    CHECK(world.daemon.on_data("", fp("abc")) == Verdict::kTake);
}

TEST_CASE("QosReceive plain: a duplicate renews its own place in the memory only") {
    ReceiveWorld world;
    world.daemon.on_data("alice", fp("a"));
    world.daemon.on_data("alice", fp("b"));
    world.context.advance(6min);
    world.daemon.on_data("alice", fp("a"));
    world.context.advance(4min);
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kDuplicate);
    CHECK(world.daemon.on_data("alice", fp("b")) == Verdict::kTake);
}

TEST_CASE("QosReceive plain: a memory of 0 lasts until the sweep, a sweep of 0 is 1 ms") {
    Options options;
    options.dedup_memory = 0s;
    options.dedup_sweep = 0s;
    ReceiveWorld world(options);
    world.daemon.on_data("alice", fp("a"));
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kDuplicate);
    world.context.advance(1ms);
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kTake);
}

TEST_CASE("QosReceive plain: the memory's entries are bounded, the oldest is forgotten first") {
    Options options;
    SUBCASE("0") {
        options.dedup_entries_max = 0;
        ReceiveWorld world(options);
        CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kTake);
        CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kTake);
        CHECK(world.daemon.dedup_size() == 0);
    }
    SUBCASE("1") {
        options.dedup_entries_max = 1;
        ReceiveWorld world(options);
        world.daemon.on_data("alice", fp("a"));
        CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kDuplicate);
        CHECK(world.daemon.on_data("alice", fp("b")) == Verdict::kTake);
        CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kTake);
        CHECK(world.daemon.dedup_size() == 1);
    }
    SUBCASE("handled ones go before older ones in hand") {
        options.dedup_entries_max = 2;
        ReceiveWorld world(options);
        world.daemon.on_data("alice", fp("a"));
        world.daemon.on_data("alice", fp("b"));
        world.daemon.on_handled("alice", fp("b"));
        world.daemon.on_data("alice", fp("c"));
        CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kDuplicate);
        CHECK(world.daemon.on_data("alice", fp("b")) == Verdict::kTake);
    }
}

TEST_CASE("QosReceive plain: what was forgotten is still acked when handled") {
    Options options;
    options.dedup_entries_max = 1;
    ReceiveWorld world(options);
    world.daemon.on_online(0, 64);
    world.daemon.on_data("alice", fp("a"));
    world.daemon.on_data("alice", fp("b"));
    world.daemon.on_handled("alice", fp("a"));
    CHECK(world.said() == "alice:a");
}

TEST_CASE("QosReceive plain: what the store refused is taken again") {
    ReceiveWorld world;
    world.daemon.on_online(0, 64);
    world.daemon.on_data("alice", fp("a"));
    world.daemon.forget("alice", fp("a"));
    world.daemon.forget("alice", fp("a"));
    CHECK_FALSE(world.context.timers().next_deadline());
    CHECK(world.daemon.on_data("alice", fp("a")) == Verdict::kTake);
    CHECK(world.said().empty());
}
