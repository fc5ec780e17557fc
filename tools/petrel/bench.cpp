#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/profile.hpp"
#include "tools/petrel/bench_load.hpp"
#include "tools/petrel/child_gateway.hpp"
#include "tools/petrel/commands.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/histogram.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/signals.hpp"

namespace petrel::tools {
namespace {

using std::chrono::nanoseconds;

constexpr const char* kFooter =
    "It starts a gateway of its own (unless --url names one), logs pairs of a sender and a\n"
    "receiver in, and sends messages from each sender to its receiver. A message counts when its\n"
    "sender has the ack (it is in the store) and its receiver has been handed it. A message that "
    "is\n"
    "lost, doubled, out of order or not accepted fails the run.\n"
    "\n"
    "Closed loop (the default): each sender keeps --window messages unacked. That shows how much\n"
    "goes through; times then say mostly how long the window is. Open loop (--rate): messages are\n"
    "due at fixed times and their time runs from there, late or not, so that a stall counts for\n"
    "every message that it held up. Ask for less than what goes through to see true latency.\n"
    "\n"
    "accepted: until the sender's ack. received: until the receiver's callback. CPU is that of\n"
    "user and kernel, in seconds per 100,000 messages; the clients' holds this load program too.\n"
    "sync: one fdatasync of 4 KiB on the store's disk, what any durable ack waits for at least.\n"
    "\n"
    "--idle: so many clients log in first, and stay. It tells what each costs the gateway in\n"
    "memory, and what their heartbeats cost in CPU, over --idle-for. With --messages 0 that is "
    "all.\n"
    "\n"
    "Exit status: 0 done; 1 a message was lost, doubled, out of order or not accepted; 3 not all\n"
    "clients came online; 4 one was refused.\n"
    "\n"
    "Examples:\n"
    "  petrel bench --pairs 100\n"
    "  petrel bench --window 1000 --store :memory: --json\n"
    "  petrel bench --window 1 --messages 5000                one at a time\n"
    "  petrel bench --pairs 10 --rate 5000 --messages 50000   open loop\n"
    "  petrel bench --idle 10000 --messages 0";

struct BenchCommand {
    CommonOptions common;
    BenchLoad::Options load;
    std::string profile = "petrel.v1";
    std::string store;
    unsigned shards = 0;
    nanoseconds idle_for = std::chrono::seconds{10};
};

// Two descriptors a connection would be a lot; one, and a few for the rest.
bool can_open(std::uint64_t descriptors) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return descriptors < limit.rlim_cur;
}

double seconds(nanoseconds time) { return std::chrono::duration<double>(time).count(); }

// One fdatasync after 4 KiB have been written over, as SQLite's log does when it is warm.
std::optional<Histogram> measure_sync(const std::string& folder) {
    constexpr int kSyncs = 100;
    constexpr int kBlocks = 64;
    std::string path = folder + "/petrel-sync-XXXXXX";
    const int file = ::mkstemp(path.data());
    if (file < 0) return std::nullopt;
    ::unlink(path.c_str());
    const std::vector<char> block(4096, 'x');
    Histogram histogram;
    bool is_good = true;
    for (int i = 0; i < kBlocks && is_good; ++i) {
        is_good = ::write(file, block.data(), block.size()) == 4096;
    }
    is_good = is_good && ::fsync(file) == 0;
    for (int i = 0; i < kSyncs && is_good; ++i) {
        const auto started = std::chrono::steady_clock::now();
        is_good = ::pwrite(file, block.data(), block.size(), (i % kBlocks) * 4096L) == 4096 &&
                  ::fdatasync(file) == 0;
        histogram.record(
            static_cast<std::uint64_t>((std::chrono::steady_clock::now() - started).count()));
    }
    ::close(file);
    if (!is_good) return std::nullopt;
    return histogram;
}

std::string format(const char* pattern, double value) {
    char text[64];
    std::snprintf(text, sizeof text, pattern, value);
    return text;
}

class Benching {
public:
    explicit Benching(const BenchCommand& command) : command_(command) {}

    ExitStatus run() {
        std::string why;
        BenchLoad::Options options = command_.load;
        std::unique_ptr<ChildGateway> gateway;
        if (options.url.empty()) {
            ChildGateway::Options child;
            child.store = command_.store;
            child.shards = command_.shards;
            child.window = options.window;
            gateway = std::make_unique<ChildGateway>(child);
            if (!gateway->start(why)) {
                log(LogLevel::kError, "cannot start a gateway: " + why);
                return ExitStatus::kFailed;
            }
            process_ = gateway->process();
            options.url = gateway->url();
            if (!gateway->folder().empty()) report_sync(gateway->folder());
        }
        BenchLoad load(options, [this](const BenchLoad::Progress& now) { show(now); });
        StopSignals signals([&load] { load.stop(); });
        const ExitStatus status = measure(load, why);
        if (!why.empty()) log(LogLevel::kError, why);
        return status;
    }

private:
    ExitStatus measure(BenchLoad& load, std::string& why) {
        if (command_.load.idle > 0) {
            doing_ = "logging idle clients in";
            const auto before = memory_of(process_);
            const auto cpu_before = cpu_time_of(process_);
            if (const auto failed = load.log_idle_in(why)) return *failed;
            measure_idle(load, before, cpu_before);
            if (load.is_stopped()) return ExitStatus::kDone;
        }
        if (command_.load.messages == 0) return ExitStatus::kDone;
        doing_ = "logging in";
        if (const auto failed = load.log_pairs_in(why)) return *failed;
        doing_ = "sending";
        if (command_.common.is_json)
            JsonLine("sending").number("pairs", command_.load.pairs).print();
        const auto gateway_before = cpu_time_of(process_);
        const auto own_before = cpu_time_of(::getpid());
        // 120 KiB of histograms: not for the stack.
        const auto result = std::make_unique<BenchLoad::Result>();
        const auto failed = load.run(*result, why);
        const auto gateway_cpu = used(gateway_before, cpu_time_of(process_));
        report(*result, gateway_cpu, used(own_before, cpu_time_of(::getpid())), load.is_stopped());
        if (failed) return *failed;
        if (load.is_stopped()) {
            return result->doubled + result->disordered + result->not_accepted == 0
                       ? ExitStatus::kDone
                       : ExitStatus::kFailed;
        }
        if (!result->is_clean()) why = "not every message arrived exactly once, in order";
        return result->is_clean() ? ExitStatus::kDone : ExitStatus::kFailed;
    }

    static std::optional<nanoseconds> used(std::optional<nanoseconds> before,
                                           std::optional<nanoseconds> after) {
        if (!before || !after) return std::nullopt;
        return *after - *before;
    }

    void show(const BenchLoad::Progress& now) {
        if (doing_ == "sending") {
            std::fprintf(stderr, "%s: %llu of %llu accepted, %llu received%s\n", doing_.c_str(),
                         static_cast<unsigned long long>(now.accepted),
                         static_cast<unsigned long long>(command_.load.messages),
                         static_cast<unsigned long long>(now.received), memory_text().c_str());
        } else {
            std::fprintf(stderr, "%s%s\n", doing_.c_str(), memory_text().c_str());
        }
    }

    std::string memory_text() const {
        const auto memory = memory_of(process_);
        if (!memory) return "";
        return format("; gateway %.1f MiB",
                      static_cast<double>(memory->resident_bytes) / (1024 * 1024));
    }

    void report_sync(const std::string& folder) const {
        const auto sync = measure_sync(folder);
        if (!sync) return;
        report_times("sync", *sync);
    }

    void measure_idle(BenchLoad& load, const std::optional<Memory>& before,
                      const std::optional<nanoseconds>& cpu_before) {
        const double idle = command_.load.idle;
        const auto after = memory_of(process_);
        const auto logins = used(cpu_before, cpu_time_of(process_));
        const auto cpu_start = cpu_time_of(process_);
        const auto started = std::chrono::steady_clock::now();
        load.rest(command_.idle_for);
        const double rested = seconds(std::chrono::steady_clock::now() - started);
        const auto cpu = used(cpu_start, cpu_time_of(process_));
        std::optional<double> bytes, login_us, cpu_us;
        if (before && after) {
            bytes = (static_cast<double>(after->resident_bytes) -
                     static_cast<double>(before->resident_bytes)) /
                    idle;
        }
        if (logins) login_us = seconds(*logins) * 1e6 / idle;
        if (cpu && rested > 0) cpu_us = seconds(*cpu) * 1e6 / idle / rested;
        if (command_.common.is_json) {
            JsonLine("idle")
                .number("connections", command_.load.idle)
                .real("bytesPerConnection", bytes)
                .real("loginCpuUs", login_us)
                .real("cpuUsPerConnectionSecond", cpu_us)
                .real("seconds", rested)
                .print();
            return;
        }
        std::string text = std::to_string(command_.load.idle) + " idle connections";
        if (bytes) text += format(": %.0f bytes each in the gateway", *bytes);
        if (login_us) text += format(", a login %.0f us of its CPU", *login_us);
        if (cpu_us) text += format(", then %.2f us of CPU each per second", *cpu_us);
        print_text(text);
    }

    void report_times(const char* what, const Histogram& times) const {
        const auto us = [](std::uint64_t ns) { return static_cast<double>(ns) / 1000; };
        if (command_.common.is_json) {
            JsonLine(what)
                .number("count", times.count())
                .real("minUs", us(times.min()))
                .real("meanUs", times.mean() / 1000)
                .real("p50Us", us(times.quantile(0.5)))
                .real("p90Us", us(times.quantile(0.9)))
                .real("p99Us", us(times.quantile(0.99)))
                .real("p999Us", us(times.quantile(0.999)))
                .real("maxUs", us(times.max()))
                .print();
            return;
        }
        print_text(std::string(what) + ": p50 " + format("%.0f us, p90 ", us(times.quantile(0.5))) +
                   format("%.0f us, p99 ", us(times.quantile(0.9))) +
                   format("%.0f us, p99.9 ", us(times.quantile(0.99))) +
                   format("%.0f us, max ", us(times.quantile(0.999))) +
                   format("%.0f us", us(times.max())));
    }

    void report(const BenchLoad::Result& result, std::optional<nanoseconds> gateway_cpu,
                std::optional<nanoseconds> own_cpu, bool is_stopped) const {
        const double took = seconds(result.took);
        const auto per_100k = [&result](std::optional<nanoseconds> cpu) {
            if (!cpu || result.received == 0) return std::optional<double>();
            return std::optional<double>(seconds(*cpu) * 100'000 /
                                         static_cast<double>(result.received));
        };
        const double rate = took > 0 ? static_cast<double>(result.received) / took : 0;
        const auto gateway_memory = memory_of(process_);
        const auto own_memory = memory_of(::getpid());
        // A run that was stopped cannot tell what would still have come.
        const std::uint64_t lost = is_stopped ? 0 : result.lost;
        if (command_.common.is_json) {
            JsonLine line("throughput");
            line.number("pairs", command_.load.pairs)
                .number("window", command_.load.window)
                .number("sizeBytes", command_.load.size)
                .text("profile", command_.profile)
                .real("askedPerSecond", command_.load.per_second)
                .number("messages", command_.load.messages)
                .number("sent", result.sent)
                .number("accepted", result.accepted)
                .number("received", result.received)
                .number("notAccepted", result.not_accepted)
                .number("lost", lost)
                .number("doubled", result.doubled)
                .number("disordered", result.disordered)
                .boolean("stopped", is_stopped)
                .real("seconds", took)
                .real("perSecond", rate)
                .real("gatewayCpuSPer100k", per_100k(gateway_cpu))
                .real("clientsCpuSPer100k", per_100k(own_cpu))
                .number("gatewayRssBytes", bytes_of(gateway_memory, &Memory::resident_bytes))
                .number("gatewayRssMaxBytes", bytes_of(gateway_memory, &Memory::resident_max_bytes))
                .number("clientsRssBytes", bytes_of(own_memory, &Memory::resident_bytes))
                .print();
        } else {
            print_text(std::to_string(result.received) + " of " +
                       std::to_string(command_.load.messages) + " messages in " +
                       format("%.2f s: ", took) + format("%.0f per second", rate));
            std::string costs;
            if (const auto cpu = per_100k(gateway_cpu)) {
                costs = format("gateway %.2f s of CPU per 100,000, ", *cpu);
            }
            if (const auto cpu = per_100k(own_cpu)) costs += format("clients %.2f s", *cpu);
            print_text(costs + memory_text());
            if (!result.is_clean()) {
                print_text(std::to_string(result.not_accepted) + " not accepted, " +
                           std::to_string(lost) + " lost, " + std::to_string(result.doubled) +
                           " doubled, " + std::to_string(result.disordered) + " out of order");
            }
        }
        report_times("accepted", result.to_accepted);
        report_times("received", result.to_received);
    }

    static std::optional<std::uint64_t> bytes_of(const std::optional<Memory>& memory,
                                                 std::uint64_t Memory::*which) {
        if (!memory) return std::nullopt;
        return (*memory).*which;
    }

    const BenchCommand& command_;
    pid_t process_ = -1;  // The gateway, when it is ours.
    std::string doing_;   // For the progress line.
};

ExitStatus bench(const CLI::App& app, BenchCommand& command) {
    if (!command.load.url.empty() && !command.store.empty()) {
        return usage_error(app, "--store is for the gateway that it starts, --url names another");
    }
    if (!can_open(std::uint64_t{2} * command.load.pairs + command.load.idle + 64)) {
        return usage_error(app, "so many connections exceed the limit of open files (ulimit -n)");
    }
    command.load.profile = profile_by_name(command.profile).value_or(ProfileId::kPetrelV1);
    return Benching(command).run();
}

}  // namespace

void add_bench(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<BenchCommand>();
    CLI::App* const app =
        root.add_subcommand("bench", "Measure throughput, latency, CPU and memory");
    app->footer(kFooter);
    add_common(*app, command->common);
    app->add_option("--pairs", command->load.pairs, "Senders, each with a receiver of its own")
        ->check(CLI::Range(1U, 20'000U))
        ->capture_default_str();
    app->add_option("--window", command->load.window, "Messages unacked, a sender")
        ->check(CLI::Range(1U, 65'536U))
        ->capture_default_str();
    app->add_option("--messages", command->load.messages, "Of all pairs together; 0: none")
        ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1'000'000'000}))
        ->capture_default_str();
    app->add_option("--size", command->load.size, "Bytes of a message")
        ->check(CLI::Range(BenchLoad::kSizeMin, std::size_t{65'536}))
        ->capture_default_str();
    app->add_option("--rate", command->load.per_second,
                    "Open loop: messages per second of all pairs together; 0: closed loop")
        ->check(CLI::Range(0.0, 10'000'000.0))
        ->capture_default_str();
    app->add_option("--idle", command->load.idle, "Clients that only stay logged in")
        ->check(CLI::Range(0U, 200'000U))
        ->capture_default_str();
    add_duration(*app, "--idle-for", command->idle_for, "How long to watch them before the rest",
                 {std::chrono::milliseconds{1}, std::chrono::hours{1}});
    app->add_option("--store", command->store, "SQLite file or :memory:, for the gateway it starts")
        ->default_str("a temporary file");
    app->add_option("--shards", command->shards, "Of the gateway it starts; 0: its own default")
        ->check(CLI::Range(0U, 64U))
        ->capture_default_str();
    add_websocket_url(*app, "--url", command->load.url,
                      "A gateway that is up already; its CPU and memory are not measured")
        ->default_str("its own");
    app->add_option("--profile", command->profile, "petrel.v1, im-sdk or mobileimsdk")
        ->check(CLI::IsMember({"petrel.v1", "im-sdk", "mobileimsdk"}))
        ->capture_default_str();
    add_duration(*app, "--timeout", command->load.timeout, "How long to wait without any progress",
                 {std::chrono::milliseconds{100}, std::chrono::hours{1}});
    app->callback([app, command, &exit] { exit = bench(*app, *command); });
}

}  // namespace petrel::tools
