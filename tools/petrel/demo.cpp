#include <CLI/CLI.hpp>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/petrel/commands.hpp"
#include "tools/petrel/demo_run.hpp"
#include "tools/petrel/demo_score.hpp"
#include "tools/petrel/demo_user.hpp"
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
    "Starts a gateway with a store in a temporary file, a storm in front of it, and users with\n"
    "outbox and inbox files who write to one another through the storm. In the middle the gateway\n"
    "is killed (SIGKILL) and started again on its store, and so is the first user: both are\n"
    "processes of their own. At the end it goes through the ledger: every message accepted,\n"
    "delivered exactly once, in order? What the killed user had stored and not yet recorded as\n"
    "handled may come again, marked as redelivered, and is counted.\n"
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

// Each has two files and their two threads.
constexpr unsigned kUsersMax = 100;
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

std::string percent(double share) { return std::to_string(std::lround(share * 100)) + " %"; }

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

// When whom to kill, and for how long it stays away, since the start of the sending. Only the seed
// decides, so that it repeats them.
struct CrashPlan {
    std::chrono::milliseconds gateway_dies, gateway_returns, user_dies, user_returns;

    explicit CrashPlan(std::uint64_t seed) {
        std::mt19937_64 random(seed ^ 0x6372617368ULL);  // "crash": not the storm's numbers.
        const auto between = [&random](std::chrono::milliseconds low,
                                       std::chrono::milliseconds high) {
            const auto span = static_cast<std::uint64_t>((high - low).count());
            return low + std::chrono::milliseconds(random() % span);
        };
        // In the thick of it, and apart from one another.
        gateway_dies = between(kSpread / 4, kSpread * 3 / 8);
        gateway_returns = gateway_dies + between(200ms, 600ms);
        user_dies = between(kSpread * 9 / 16, kSpread * 11 / 16);
        user_returns = user_dies + between(200ms, 600ms);
    }
};

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

    // A line of text above it.
    void note(const std::string& text) const {
        finish();
        if (!is_json_) print_text("  " + text);
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
          plan_(seed),
          score_(command.messages),
          gateway_(folder_.path() + "/petrel.db", folder_.path() + "/trace.jsonl"),
          view_(command.common.is_json, command.messages) {}

    ExitStatus run() {
        StopSignals signals([this] { score_.wake(); });
        if (folder_.path().empty()) return fail("cannot make a temporary folder");
        std::string why;
        if (!gateway_.start(why)) return fail("cannot start the gateway: " + why);
        DemoStorm storm(gateway_.url(), seed_, command_.is_calm ? Faults() : storm_faults());
        if (!storm.start(why)) return fail("cannot start the storm: " + why);
        storm_ = &storm;
        introduce();
        Runtime runtime;
        for (unsigned i = 0; i < command_.users; ++i) {
            add_user(user_name(i), runtime);
            if (!users_.back()->begin(why)) {
                const std::string name = users_.back()->name();
                users_.clear();
                return fail("cannot start " + name + ": " + why);
            }
        }
        const auto started = Clock::now();
        write_to_one_another(signals);
        const auto took = Clock::now() - started;
        const bool is_complete = score_.is_complete();
        if (is_complete) settle(signals);
        if (!is_complete) tell_missing(signals.is_raised());
        for (auto& user : users_) user->end();
        storm.stop();
        if (!gateway_.stop() && is_complete) {
            log(LogLevel::kError, "the gateway did not end in peace");
            is_broken_ = true;
        }
        const ExitStatus status = conclude(is_complete, storm.stats(), took);
        users_.clear();  // Before the runtime.
        return status;
    }

private:
    // 60 s, and 60 s more for each further 10,000 messages: a hang ends too.
    Clock::duration patience() const {
        return std::chrono::seconds{60} * (1 + command_.messages / 10'000);
    }

    static ExitStatus fail(const std::string& why) {
        log(LogLevel::kError, why);
        return ExitStatus::kFailed;
    }

    // The first one is the one that will be killed.
    void add_user(const std::string& name, Runtime& runtime) {
        const Ledger::Source source = score_.open_source(name);
        sources_.push_back(source);
        auto on_event = [this, source, name](const Event& event) {
            score_.on_event(source, name, DemoUser::kDevice, event);
        };
        if (victim_ != nullptr || command_.is_calm) {
            users_.push_back(
                make_demo_user(name, storm_->url(), folder_.path(), runtime, std::move(on_event)));
            return;
        }
        auto victim = std::make_unique<DemoUserProcess>(name, storm_->url(), folder_.path(),
                                                        std::move(on_event));
        victim_ = victim.get();
        users_.push_back(std::move(victim));
    }

    void write_to_one_another(const StopSignals& signals) {
        const auto started = Clock::now();
        const std::chrono::nanoseconds spread = command_.is_calm ? 0s : kSpread;
        std::uint64_t submitted = 0;
        while (!(score_.is_complete() && is_over_) && !signals.is_raised() && !is_broken_) {
            const auto elapsed = Clock::now() - started;
            if (elapsed > patience()) break;
            const DemoScore::Progress progress = score_.progress();
            view_.show(progress);
            std::uint64_t due = command_.messages;
            if (elapsed < spread) {
                const double share =
                    static_cast<double>(elapsed.count()) / static_cast<double>(spread.count());
                due = static_cast<std::uint64_t>(share * static_cast<double>(due));
            }
            due = std::min(due, progress.settled + kOpenMax * command_.users);
            for (; submitted < due; ++submitted) submit(submitted);
            if (victim_ != nullptr) {
                crash(elapsed);
                victim_->flush();
            } else {
                is_over_ = true;
            }
            score_.wait_for(10ms);
        }
        view_.show(score_.progress());
        view_.finish();
    }

    // One step of the plan at a time, each when it is due.
    void crash(Clock::duration elapsed) {
        std::string why;
        if (step_ == 0 && elapsed >= plan_.gateway_dies) {
            gateway_.kill();
            tell_crash("crash", "gateway", "The gateway is killed (SIGKILL).");
        } else if (step_ == 1 && elapsed >= plan_.gateway_returns) {
            if (!gateway_.start(why)) return break_off("cannot start the gateway again: " + why);
            storm_->set_target(gateway_.url());
            tell_crash("restart", "gateway", "The gateway starts again on its store.");
        } else if (step_ == 2 && elapsed >= plan_.user_dies) {
            victim_->kill();
            tell_crash("crash", victim_->name(), victim_->name() + " is killed (SIGKILL).");
        } else if (step_ == 3 && elapsed >= plan_.user_returns) {
            if (!victim_->begin(why)) return break_off("cannot start a user again: " + why);
            tell_crash("restart", victim_->name(), victim_->name() + " starts again on the files.");
            is_over_ = true;
        } else {
            return;
        }
        ++step_;
    }

    void break_off(const std::string& why) {
        log(LogLevel::kError, why);
        is_broken_ = true;
    }

    void tell_crash(const char* event, const std::string& who, const std::string& sentence) {
        if (command_.common.is_json) JsonLine(event).text("who", who).print();
        view_.note(sentence);
        if (std::string_view(event) == "crash") ++crashes_;
    }

    void submit(std::uint64_t number) {
        const auto count = static_cast<std::uint64_t>(users_.size());
        const std::uint64_t from = number % count;
        const std::uint64_t to = (from + 1 + random_() % (count - 1)) % count;
        const Fingerprint fp = fingerprints_.next();
        const std::string text = "message " + std::to_string(number + 1);
        const std::string& sender = users_[from]->name();
        score_.on_queued(sources_[from], sender, DemoUser::kDevice, fp, users_[to]->name(), text);
        users_[from]->send(fp, users_[to]->name(), text);
    }

    static void settle(const StopSignals& signals) {
        pollfd stop{signals.descriptor(), POLLIN, 0};
        (void)poll(&stop, 1, static_cast<int>(std::chrono::milliseconds(kSettleTime).count()));
    }

    void introduce() const {
        if (command_.common.is_json) {
            JsonLine("start")
                .text("gateway", gateway_.url())
                .text("storm", storm_->url())
                .number("seed", seed_)
                .number("users", command_.users)
                .number("messages", command_.messages)
                .boolean("calm", command_.is_calm)
                .print();
            return;
        }
        print_text("A gateway at " + gateway_.url() + " with its store in " + folder_.path() +
                   ", and there\nthe users' outboxes and inboxes. In front of it " +
                   (command_.is_calm ? std::string("a calm sea.")
                                     : "a storm (seed " + std::to_string(seed_) + "):\n  " +
                                           describe(storm_faults()) + ".") +
                   "\n" + std::to_string(command_.users) + " users write to one another, " +
                   std::to_string(command_.messages) + " messages in all." +
                   (command_.is_calm ? ""
                                     : "\nThe gateway and " + user_name(0) +
                                           " are processes that will be killed in the middle."));
    }

    void tell_missing(bool is_interrupted) const {
        if (!gateway_.is_running()) log(LogLevel::kError, "the gateway has ended");
        if (!is_interrupted && !is_broken_) {
            log(LogLevel::kError, "not complete after " + format_duration(patience()));
        }
        for (const auto& user : users_) {
            log(LogLevel::kError, user->name() + " is " + user->describe());
        }
        if (is_interrupted) return;
        for (const std::string& sentence : score_.missing(20)) log(LogLevel::kError, sentence);
    }

    ExitStatus conclude(bool is_complete, const Storm::Stats& storm, Clock::duration took) {
        std::string why;
        const bool has_trace = score_.read_trace(folder_.path() + "/trace.jsonl", why);
        if (!has_trace) log(LogLevel::kError, why);
        Report report = score_.report();
        report.crashes = crashes_;
        report.is_redelivered_told = false;  // Beside it: they are meant to be.
        // The gateway's trace has only those that the store recognised; the workers at the other
        // ends have suppressed more.
        for (const auto& user : users_) report.duplicates_suppressed += user->duplicates();
        // Only a kill can make a message come again.
        const bool is_explained = report.redelivered == 0 || crashes_ > 0;
        const bool is_ok =
            is_complete && has_trace && !is_broken_ && is_explained && report.is_ok();
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
            if (report.redelivered > 0) {
                print_text("To " + user_name(0) + " came again after the kill, marked so: " +
                           std::to_string(report.redelivered));
            }
            print_text("\n" + report.verdict());
        }
        return is_ok ? ExitStatus::kDone : ExitStatus::kFailed;
    }

    const DemoCommand& command_;
    const std::uint64_t seed_;
    std::mt19937_64 random_;  // Who writes to whom.
    const CrashPlan plan_;
    TemporaryFolder folder_;
    DemoScore score_;
    DemoGateway gateway_;
    ProgressView view_;
    UuidSource fingerprints_;
    DemoStorm* storm_ = nullptr;           // While run() runs.
    std::vector<Ledger::Source> sources_;  // Of the users.
    std::vector<std::unique_ptr<DemoUser>> users_;
    DemoUserProcess* victim_ = nullptr;  // The first of them; none when it is calm.
    int step_ = 0;                       // Of the plan.
    std::uint64_t crashes_ = 0;
    bool is_over_ = false;    // Nobody is to be killed any more.
    bool is_broken_ = false;  // Something could not be started again.
};

}  // namespace

void add_demo(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<DemoCommand>();
    CLI::App* const app = root.add_subcommand(
        "demo", "Users, a storm, a gateway, two kills, and a ledger of every message");
    app->footer(kFooter);
    add_common(*app, command->common);
    app->add_option("--users", command->users, "Users who write to one another")
        ->check(CLI::Range(2U, kUsersMax))
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
