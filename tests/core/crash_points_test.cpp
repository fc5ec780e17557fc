// Each point between two durable steps of sender, gateway and receiver, hit on purpose: real
// engines, sessions and router, whose stores and connections are wrapped by what crashes the
// process there. Alice sends three messages to Bob, who has an inbox file as she has an outbox
// file; the crash strikes at the second. What must come out is DESIGN section 1.

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "tests/simulation/checker.hpp"
#include "tests/simulation/network.hpp"
#include "tests/simulation/options.hpp"
#include "tests/simulation/schedule.hpp"
#include "tests/simulation/sim_client.hpp"
#include "tests/simulation/sim_gateway.hpp"

namespace petrel::sim {
namespace {

using namespace std::chrono_literals;

enum class Who { kSender, kGateway, kReceiver };

class CrashWorld {
public:
    explicit CrashWorld(std::uint64_t seed) : schedule_(seed) {
        alice_.set_observer([this](const Event& event) { on_event(event); });
        bob_.set_observer([this](const Event& event) { on_event(event); });
        alice_.set_probe([this](const std::string& step) { return strikes(Who::kSender, step); });
        bob_.set_probe([this](const std::string& step) { return strikes(Who::kReceiver, step); });
        gateway_.set_probe(
            [this](const std::string& step) { return strikes(Who::kGateway, step); });
    }

    // Once, when that process comes to that step after the message of that number was sent.
    void crash(Who who, std::string step, int number = 2) {
        victim_ = who;
        step_ = std::move(step);
        number_ = number;
    }

    void run() {
        alice_.start();
        bob_.start();
        for (int number = 1; number <= 3; ++number) {
            // Far enough apart for a restart and the longest backoff.
            schedule_.at(TimePoint{} + number * 60s, [this, number] {
                current_ = number;
                alice_.send("bob", kTypeuSingle, 0, std::nullopt);
            });
        }
        while (schedule_.step(TimePoint{} + 300s)) {
        }
        CHECK(crashes_ == 1);
        CHECK(checker_.violation().value_or("") == "");
        CHECK(checker_.missing() == "");
    }

    std::string arrived;   // At Bob: "1 2 2! 3", with a mark at those that are redelivered.
    std::string outcomes;  // Told to Alice: "1 2 3"; all are accepted.
    int second_left = 0;   // How often the second message left Alice.

private:
    bool strikes(Who who, const std::string& step) {
        if (who == Who::kSender && step == "sent data" && current_ == 2) ++second_left;
        if (current_ != number_ || crashes_ > 0 || who != victim_ || step != step_) return false;
        ++crashes_;
        return true;
    }

    void on_event(const Event& event) {
        if (const auto* message = std::get_if<MessageEvent>(&event)) {
            const std::string number = message->text.substr(message->text.rfind(' ') + 1);
            add(arrived, number + (message->is_redelivered ? "!" : ""));
        } else if (const auto* outcome = std::get_if<OutcomeEvent>(&event)) {
            CHECK(outcome->record.outcome == Outcome::kAccepted);
            // They say no text; but the next is sent only when all is quiet.
            const int number = numbers_.emplace(outcome->record.fp, current_).first->second;
            add(outcomes, std::to_string(number));
        }
    }
    static void add(std::string& list, const std::string& item) {
        list += (list.empty() ? "" : " ") + item;
    }

    std::shared_ptr<Connection> dial(std::string_view subprotocol) {
        if (!gateway_.is_up()) return nullptr;
        auto connection = std::make_shared<Connection>(
            schedule_, faults_, traffic_, next_connection_++, std::string(),
            [](const std::string&) {}, [](const std::string& what) { FAIL_CHECK(what); });
        gateway_.accept(connection, subprotocol);
        return connection;
    }

    Schedule schedule_;
    const Faults faults_ = Faults::none();
    Traffic traffic_;
    Checker checker_{schedule_, false};
    SimGateway gateway_{schedule_, faults_, checker_};
    SimClient alice_{schedule_,
                     faults_,
                     checker_,
                     {"alice", "d", false},
                     ProfileId::kPetrelV1,
                     [this](std::string_view subprotocol) { return dial(subprotocol); },
                     [](const std::string&) {}};
    SimClient bob_{schedule_,
                   faults_,
                   checker_,
                   {"bob", "d", false},
                   ProfileId::kPetrelV1,
                   [this](std::string_view subprotocol) { return dial(subprotocol); },
                   [](const std::string&) {}};
    std::uint64_t next_connection_ = 1;
    Who victim_ = Who::kSender;
    std::string step_;
    int number_ = 2;
    int current_ = 0;  // The message that was sent last.
    int crashes_ = 0;
    std::map<Fingerprint, int> numbers_;
};

struct Expected {
    std::string arrived = "1 2 3";
    std::string outcomes = "1 2 3";
    int second_left = 1;
};

// Whatever the delays of disk and network: some seeds.
void check_point(Who who, const std::string& step, const Expected& expected) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        CAPTURE(seed);
        CrashWorld world(seed);
        world.crash(who, step);
        world.run();
        CHECK(world.arrived == expected.arrived);
        CHECK(world.outcomes == expected.outcomes);
        CHECK(world.second_left == expected.second_left);
    }
}

}  // namespace

// ---- the sender: append, transmit, ack, outcome record, callback, removal ----

TEST_CASE("Crash: between send and append the message was never taken, and is gone") {
    check_point(Who::kSender, "write append", {"1 3", "1 3", 0});
}
TEST_CASE("Crash: between append and its answer the message is sent all the same, once") {
    check_point(Who::kSender, "told append", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between append and transmit the next process sends it") {
    check_point(Who::kSender, "send data", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between transmit and ack it is sent again and accepted once") {
    check_point(Who::kSender, "sent data", {"1 2 3", "1 2 3", 2});
}
TEST_CASE("Crash: between the ack's arrival and its reading it is sent again and accepted once") {
    check_point(Who::kSender, "take accepted", {"1 2 3", "1 2 3", 2});
}
TEST_CASE("Crash: between ack and outcome record it is sent again, with the same outcome") {
    check_point(Who::kSender, "write outcome", {"1 2 3", "1 2 3", 2});
}
TEST_CASE("Crash: between outcome record and its answer the outcome is told, nothing is sent") {
    check_point(Who::kSender, "told outcome", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between outcome record and callback the outcome is told, nothing is sent") {
    check_point(Who::kSender, "tell outcome to the app", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between callback and removal the same outcome is told again") {
    check_point(Who::kSender, "told outcome to the app", {"1 2 3", "1 2 2 3", 1});
}
TEST_CASE("Crash: before the removal is written the same outcome is told again") {
    check_point(Who::kSender, "write removal", {"1 2 3", "1 2 2 3", 1});
}
TEST_CASE(
    "Crash: behind the removal nothing comes again, nor is the new stream taken for the old") {
    check_point(Who::kSender, "told removal", {"1 2 3", "1 2 3", 1});
}

// ---- the gateway: receive, commit, ack, push, cursor commit ----

TEST_CASE("Crash: before the gateway reads a message the sender brings it again") {
    check_point(Who::kGateway, "take data", {"1 2 3", "1 2 3", 2});
}
TEST_CASE("Crash: between receive and commit nothing was acked, and the sender brings it again") {
    check_point(Who::kGateway, "took data", {"1 2 3", "1 2 3", 2});
}
TEST_CASE("Crash: before the commit nothing was acked, and the sender brings it again") {
    check_point(Who::kGateway, "write append", {"1 2 3", "1 2 3", 2});
}
TEST_CASE("Crash: between commit and its answer the second copy is recognised") {
    check_point(Who::kGateway, "told append", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between commit and ack the second copy is recognised") {
    check_point(Who::kGateway, "send accepted", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between ack and what follows it the receiver has it at its login") {
    check_point(Who::kGateway, "sent accepted", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between commit and push the receiver has it at its login") {
    check_point(Who::kGateway, "send data", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between push and the receiver's ack it is handed up once") {
    check_point(Who::kGateway, "sent data", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: before the receiver's ack is read it is handed up once") {
    check_point(Who::kGateway, "take ack", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between the receiver's ack and the cursor's commit it is handed up once") {
    check_point(Who::kGateway, "write cursor", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: behind the cursor's commit it is handed up once") {
    check_point(Who::kGateway, "told cursor", {"1 2 3", "1 2 3", 1});
}

// ---- the receiver: receive, store, callback, record, ack, cursor ----

TEST_CASE("Crash: before a message is read the gateway pushes it again, unmarked") {
    check_point(Who::kReceiver, "take data", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between receive and store the gateway pushes it again, unmarked") {
    check_point(Who::kReceiver, "write message", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between store and its answer it comes from the file, marked") {
    check_point(Who::kReceiver, "told message", {"1 2! 3", "1 2 3", 1});
}
TEST_CASE("Crash: between store and callback it comes from the file, marked") {
    check_point(Who::kReceiver, "tell message to the app", {"1 2! 3", "1 2 3", 1});
}
TEST_CASE("Crash: between callback and record it comes again, marked") {
    check_point(Who::kReceiver, "told message to the app", {"1 2 2! 3", "1 2 3", 1});
}
TEST_CASE("Crash: before the record is written it comes again, marked") {
    check_point(Who::kReceiver, "write handled", {"1 2 2! 3", "1 2 3", 1});
}
TEST_CASE("Crash: between record and its answer it does not come again") {
    check_point(Who::kReceiver, "told handled", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between record and ack it does not come again") {
    check_point(Who::kReceiver, "send ack", {"1 2 3", "1 2 3", 1});
}
TEST_CASE("Crash: between ack and the gateway's cursor it does not come again") {
    check_point(Who::kReceiver, "sent ack", {"1 2 3", "1 2 3", 1});
}

TEST_CASE("Crash: a receiver that had got nothing yet resumes, without a break") {
    for (const char* step : {"take data", "write message"}) {
        CAPTURE(step);
        CrashWorld world(1);
        world.crash(Who::kReceiver, step, 1);
        world.run();  // A break where no store was lost is a violation.
        CHECK(world.arrived == "1 2 3");
        CHECK(world.outcomes == "1 2 3");
    }
}

}  // namespace petrel::sim
