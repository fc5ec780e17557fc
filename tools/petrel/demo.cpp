#include <CLI/CLI.hpp>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tools/petrel/commands.hpp"
#include "tools/petrel/demo_run.hpp"
#include "tools/petrel/demo_score.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/signals.hpp"

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr const char* kFooter =
    "Starts a gateway with a store in a temporary file, a storm in front of it, and users who\n"
    "write to one another through the storm. At the end it goes through the ledger: every message\n"
    "accepted, delivered exactly once, in order?\n"
    "\n"
    "Exit status: 0 every message was; 1 one was lost, doubled or out of order, or it hung.\n"
    "\n"
    "Examples:\n"
    "  petrel demo\n"
    "  petrel demo --users 10 --messages 10000 --seed 7\n"
    "  petrel demo --calm --json";

struct DemoCommand {
    CommonOptions common;
    unsigned users = 4;
    std::uint64_t messages = 1'000;
    std::optional<std::uint64_t> seed;
    bool is_calm = false;
};

// A user's share of what is queued and has no outcome yet: below what an outbox keeps.
constexpr std::uint64_t kOpenMax = 2'000;
// The sending is spread over so long, else it is over before the storm has begun.
constexpr auto kSpread = 8s;
// What comes twice may come late.
constexpr auto kSettleTime = 300ms;

Faults storm_faults() {
    Faults faults;
    faults.drop = 0.04;
    faults.duplicate = 0.04;
    faults.delay = 4ms;
    faults.jitter = 8ms;
    faults.reset_every = 2s;
    faults.stall_every = 2500ms;
    faults.stall = 800ms;
    return faults;
}

std::string percent(double share) {
    return std::to_string(static_cast<int>(share * 100 + 0.5)) + " %";
}

std::string describe(const Faults& faults) {
    return percent(faults.drop) + " of the packets dropped, " + percent(faults.duplicate) +
           " sent twice, all delayed by " + format_duration(faults.delay) + " to " +
           format_duration(faults.delay + faults.jitter) + ";\n  connections cut about every " +
           format_duration(faults.reset_every) + ", stalled for " + format_duration(faults.stall) +
           " about every " + format_duration(faults.stall_every);
}

std::string user_name(unsigned index) {
    static constexpr std::array<const char*, 8> kNames{"alice", "bob",   "carol", "dave",
                                                       "erin",  "frank", "grace", "heidi"};
    if (index < kNames.size()) return kNames[index];
    return "user" + std::to_string(index + 1);
}

const char* to_text(ClientState state) {
    switch (state) {
        case ClientState::kOffline: return "offline";
        case ClientState::kConnecting: return "connecting";
        case ClientState::kOnline: return "online";
        case ClientState::kNoNetwork: return "without a network";
        case ClientState::kStopped: return "stopped for good";
    }
    return "?";
}

// Redrawn in place on a terminal, else a line a second.
class ProgressView {
public:
    ProgressView(bool is_json, std::uint64_t messages)
        : is_json_(is_json),
          is_terminal_(!is_json && isatty(STDOUT_FILENO) != 0),
          messages_(messages),
          started_(Clock::now()) {}

    void show(const DemoScore::Progress& progress) {
        const auto now = Clock::now();
        const auto interval = is_terminal_ ? 100ms : 1000ms;
        if (now - shown_at_ < interval && progress.delivered < messages_) return;
        shown_at_ = now;
        const auto seconds =
            std::chrono::duration_cast<std::chrono::seconds>(now - started_).count();
        if (is_json_) {
            JsonLine("progress")
                .number("queued", progress.queued)
                .number("settled", progress.settled)
                .number("delivered", progress.delivered)
                .print();
            return;
        }
        const std::string text = std::to_string(progress.delivered) + " of " +
                                 std::to_string(messages_) + " delivered, " +
                                 std::to_string(seconds) + " s";
        if (!is_terminal_) {
            print_text("  " + text);
            return;
        }
        constexpr std::size_t kWidth = 30;
        const auto full = static_cast<std::size_t>(kWidth * progress.delivered / messages_);
        std::printf("\r\033[K[%s%s] %s", std::string(full, '#').c_str(),
                    std::string(kWidth - full, '.').c_str(), text.c_str());
        std::fflush(stdout);
    }

    void finish() const {
        if (!is_terminal_) return;
        std::printf("\r\033[K");
        std::fflush(stdout);
    }

private:
    const bool is_json_;
    const bool is_terminal_;
    const std::uint64_t messages_;
    const Clock::time_point started_;
    Clock::time_point shown_at_ = started_;
};

class Demo {
public:
    Demo(const DemoCommand& command, std::uint64_t seed)
        : command_(command),
          seed_(seed),
          random_(seed),
          score_(command.messages),
          gateway_(folder_.path() + "/petrel.db", score_) {}

    ExitStatus run() {
        StopSignals signals([this] { score_.wake(); });
        if (folder_.path().empty()) {
            log(LogLevel::kError, "cannot make a temporary folder");
            return ExitStatus::kFailed;
        }
        std::string why;
        if (!gateway_.start(why)) {
            log(LogLevel::kError, "cannot start the gateway: " + why);
            return ExitStatus::kFailed;
        }
        DemoStorm storm(gateway_.url(), seed_, command_.is_calm ? Faults() : storm_faults());
        if (!storm.start(why)) {
            log(LogLevel::kError, "cannot start the storm: " + why);
            return ExitStatus::kFailed;
        }
        introduce(storm.url());
        Runtime runtime;
        for (unsigned i = 0; i < command_.users; ++i) {
            users_.push_back(std::make_unique<DemoUser>(user_name(i), storm.url(), score_));
            users_.back()->begin(runtime);
        }
        const auto started = Clock::now();
        write_to_one_another(signals);
        const auto took = Clock::now() - started;
        const bool is_complete = score_.is_complete();
        if (is_complete) settle(signals);
        if (!is_complete) tell_missing(signals.is_raised());
        for (auto& user : users_) user->end();
        storm.stop();
        gateway_.stop();
        return conclude(is_complete, storm.stats(), took);
    }

private:
    // 60 s, and 60 s more for each further 10,000 messages: a hang ends too.
    Clock::duration patience() const {
        return std::chrono::seconds{60} * (1 + command_.messages / 10'000);
    }

    void write_to_one_another(const StopSignals& signals) {
        const auto started = Clock::now();
        const std::chrono::nanoseconds spread = command_.is_calm ? 0s : kSpread;
        ProgressView view(command_.common.is_json, command_.messages);
        std::uint64_t submitted = 0;
        while (!score_.is_complete() && !signals.is_raised()) {
            const auto elapsed = Clock::now() - started;
            if (elapsed > patience()) break;
            const DemoScore::Progress progress = score_.progress();
            view.show(progress);
            std::uint64_t due = command_.messages;
            if (elapsed < spread) {
                const double share =
                    static_cast<double>(elapsed.count()) / static_cast<double>(spread.count());
                due = static_cast<std::uint64_t>(share * static_cast<double>(due));
            }
            due = std::min(due, progress.settled + kOpenMax * command_.users);
            for (; submitted < due; ++submitted) submit(submitted);
            score_.wait_for(10ms);
        }
        view.show(score_.progress());
        view.finish();
    }

    void submit(std::uint64_t number) {
        const auto count = static_cast<std::uint64_t>(users_.size());
        const std::uint64_t from = number % count;
        const std::uint64_t to = (from + 1 + random_() % (count - 1)) % count;
        users_[from]->send(users_[to]->name(), "message " + std::to_string(number + 1));
    }

    static void settle(const StopSignals& signals) {
        pollfd stop{signals.descriptor(), POLLIN, 0};
        (void)poll(&stop, 1, static_cast<int>(std::chrono::milliseconds(kSettleTime).count()));
    }

    void introduce(const std::string& storm_url) const {
        if (command_.common.is_json) {
            JsonLine("start")
                .text("gateway", gateway_.url())
                .text("storm", storm_url)
                .number("seed", seed_)
                .number("users", command_.users)
                .number("messages", command_.messages)
                .boolean("calm", command_.is_calm)
                .print();
            return;
        }
        print_text("A gateway at " + gateway_.url() + " with its store in " + folder_.path() +
                   ".\nIn front of it " +
                   (command_.is_calm ? std::string("a calm sea.")
                                     : "a storm (seed " + std::to_string(seed_) + "):\n  " +
                                           describe(storm_faults()) + ".") +
                   "\n" + std::to_string(command_.users) + " users write to one another, " +
                   std::to_string(command_.messages) + " messages in all.");
    }

    void tell_missing(bool is_interrupted) const {
        if (!is_interrupted) {
            log(LogLevel::kError, "not complete after " + format_duration(patience()));
        }
        for (const auto& user : users_) {
            log(LogLevel::kError, user->name() + " is " + to_text(user->state()) + ", " +
                                      std::to_string(user->stats().kept) + " messages kept");
        }
        if (is_interrupted) return;
        for (const std::string& sentence : score_.missing(20)) log(LogLevel::kError, sentence);
    }

    ExitStatus conclude(bool is_complete, const Storm::Stats& storm, Clock::duration took) {
        Report report = score_.report();
        // The gateway's trace has only those that the store recognised; the workers at both ends
        // have suppressed more.
        report.duplicates_suppressed = gateway_.counters().duplicates;
        for (const auto& user : users_) report.duplicates_suppressed += user->stats().duplicates;
        const bool is_ok = is_complete && report.is_ok();
        if (command_.common.is_json) {
            JsonLine("storm")
                .number("connections", storm.connections)
                .number("packets", storm.packets)
                .number("dropped", storm.dropped)
                .number("duplicated", storm.duplicated)
                .number("delayed", storm.delayed)
                .number("resets", storm.resets)
                .number("stalls", storm.stalls)
                .print();
            print_text(report.json());
        } else {
            const double seconds = std::chrono::duration<double>(took).count();
            char time[32];
            std::snprintf(time, sizeof time, "%.1f s", seconds);
            print_text(std::string("\nAfter ") + time + ":\n" + report.table());
            if (!command_.is_calm) {
                print_text("The storm: " + std::to_string(storm.connections) + " connections, " +
                           std::to_string(storm.packets) + " packets, " +
                           std::to_string(storm.dropped) + " dropped, " +
                           std::to_string(storm.duplicated) + " sent twice, " +
                           std::to_string(storm.resets) + " connections cut, " +
                           std::to_string(storm.stalls) + " stalls");
            }
            print_text("\n" + report.verdict());
        }
        return is_ok ? ExitStatus::kDone : ExitStatus::kFailed;
    }

    const DemoCommand& command_;
    const std::uint64_t seed_;
    std::mt19937_64 random_;  // Who writes to whom.
    TemporaryFolder folder_;
    DemoScore score_;
    DemoGateway gateway_;
    std::vector<std::unique_ptr<DemoUser>> users_;
};

}  // namespace

void add_demo(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<DemoCommand>();
    CLI::App* const app = root.add_subcommand(
        "demo", "Users, a storm and a gateway in one process, and a ledger of every message");
    app->footer(kFooter);
    add_common(*app, command->common);
    app->add_option("--users", command->users, "Users who write to one another")
        ->check(CLI::Range(2U, 1'000U))
        ->capture_default_str();
    app->add_option("--messages", command->messages, "Messages in all")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000}))
        ->capture_default_str();
    app->add_option("--seed", command->seed,
                    "Of the storm's decisions and of who writes to whom; without it another one "
                    "each run")
        ->type_name("NUMBER");
    app->add_flag("--calm", command->is_calm, "No faults");
    app->callback([command, &exit] {
        exit = Demo(*command, command->seed.value_or(std::random_device{}())).run();
    });
}

}  // namespace petrel::tools
