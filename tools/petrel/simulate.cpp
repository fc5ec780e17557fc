#include <CLI/CLI.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/options.hpp"
#include "tools/petrel/commands.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/signals.hpp"

namespace petrel::tools {
namespace {

constexpr const char* kFooter =
    "The real client engine against the real gateway sessions, in virtual time: one seed is one\n"
    "run, bit for bit. Every guarantee is checked at every step; the first one broken ends the "
    "run\n"
    "with the packets that led there.\n"
    "\n"
    "Exit status: 0 every seed held; 1 one did not.\n"
    "\n"
    "Examples:\n"
    "  petrel simulate --seeds 1000\n"
    "  petrel simulate --seed 1701\n"
    "  petrel simulate --seed 7 --faults drop,cut,gateway-crash --clients 2 --messages 20";

struct SimulateCommand {
    CommonOptions common;
    std::optional<std::uint64_t> seed;
    std::uint64_t seeds = 1;
    sim::Options options;
    std::vector<std::string> faults;
};

void report_seed(const SimulateCommand& command, const sim::Report& report) {
    const std::uint64_t seed = command.options.seed;
    if (command.common.is_json) {
        JsonLine line("seed");
        line.number("seed", seed).boolean("ok", !report.violation.has_value());
        if (report.violation) line.text("violation", *report.violation);
        line.text("hash", std::to_string(report.trace_hash))
            .number("sent", report.sent)
            .number("accepted", report.accepted)
            .number("rejected", report.rejected)
            .number("expired", report.expired)
            .number("cancelled", report.cancelled)
            .number("lost", report.lost)
            .number("handedUp", report.handed_up)
            .number("redelivered", report.redelivered)
            .number("packets", report.packets)
            .number("connections", report.connections)
            .number("bytes", report.bytes)
            .number("bytesNeeded", report.bytes_needed)
            .print();
        return;
    }
    if (!report.violation) {
        if (command.seeds > 1) return;
        print_text("Seed " + std::to_string(seed) + " held: " + std::to_string(report.sent) +
                   " sent, " + std::to_string(report.accepted) + " accepted, " +
                   std::to_string(report.handed_up) + " handed up in " +
                   std::to_string(report.packets) + " packets of clients on " +
                   std::to_string(report.connections) + " connections; trace hash " +
                   std::to_string(report.trace_hash));
        return;
    }
    for (const std::string& line : report.last_packets) print_text(line);
    if (!report.last_packets.empty()) {
        print_text("");
        print_text(
            "The clients are at the left, the gateway at the right: --> and <-- arrive, "
            "=>> and <<= once more,");
        print_text("--x and x-- are lost, *** is what the client's process does.");
    }
    print_text("Broken by seed " + std::to_string(seed) + ": " + *report.violation);
    std::string repeat = "Repeat: petrel simulate --seed " + std::to_string(seed) + " --clients " +
                         std::to_string(command.options.clients) + " --messages " +
                         std::to_string(command.options.messages);
    for (std::size_t i = 0; i < command.faults.size(); ++i) {
        repeat += (i == 0 ? " --faults " : ",") + command.faults[i];
    }
    print_text(repeat);
}

// Fewer messages, clients and faults, as long as it still breaks: easier to read. Each try is a
// run; so many of them take a second or two.
sim::Options shrink(sim::Options options) {
    unsigned tries_left = 200;
    const auto breaks = [&tries_left](const sim::Options& candidate) {
        if (tries_left == 0) return false;
        --tries_left;
        return sim::run(candidate).violation.has_value();
    };
    for (bool has_shrunk = true; has_shrunk;) {
        has_shrunk = false;
        sim::Options fewer = options;
        fewer.messages /= 2;
        if (fewer.messages > 0 && breaks(fewer)) {
            options = fewer;
            has_shrunk = true;
        }
        sim::Options smaller = options;
        smaller.clients -= 1;
        if (smaller.clients > 0 && breaks(smaller)) {
            options = smaller;
            has_shrunk = true;
        }
        for (const std::string_view name : sim::Faults::names()) {
            sim::Options calmer = options;
            calmer.faults.set(name, false);
            if (calmer.faults.get(name) != options.faults.get(name) && breaks(calmer)) {
                options = calmer;
                has_shrunk = true;
            }
        }
    }
    return options;
}

ExitStatus simulate(SimulateCommand& command) {
    if (!command.faults.empty()) {
        command.options.faults = sim::Faults::none();
        for (const std::string& name : command.faults) command.options.faults.set(name, true);
        command.options.with_rare = false;
    }
    const std::uint64_t first = command.seed.value_or(1);
    StopSignals signals(std::function<void()>{});
    const auto started = std::chrono::steady_clock::now();
    std::uint64_t done = 0;
    std::uint64_t broken = 0;
    Duration simulated{0};
    for (; done < command.seeds && !signals.is_raised(); ++done) {
        command.options.seed = first + done;
        sim::Report report = sim::run(command.options);
        simulated += report.simulated;
        if (report.violation) {
            ++broken;
            SimulateCommand shrunk = command;
            shrunk.options.faults = sim::faults_of(command.options);
            shrunk.options.with_rare = false;
            shrunk.options = shrink(shrunk.options);
            shrunk.faults.clear();
            for (const std::string_view name : sim::Faults::names()) {
                if (shrunk.options.faults.get(name)) shrunk.faults.emplace_back(name);
            }
            report = sim::run(shrunk.options);
            report_seed(shrunk, report);
            continue;
        }
        report_seed(command, report);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
    const double speed = std::chrono::duration<double>(simulated).count() / took.count();
    if (command.common.is_json) {
        JsonLine("summary")
            .number("seeds", done)
            .number("broken", broken)
            .real("seconds", took.count())
            .real("timesRealTime", speed)
            .print();
    } else {
        print_text(std::to_string(done) + " seeds, " + std::to_string(broken) + " broken, " +
                   std::to_string(static_cast<long long>(speed)) + " times real time");
    }
    return broken == 0 ? ExitStatus::kDone : ExitStatus::kFailed;
}

}  // namespace

void add_simulate(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<SimulateCommand>();
    CLI::App* const app =
        root.add_subcommand("simulate", "Try the whole protocol in virtual time, by seeds");
    app->footer(kFooter);
    add_common(*app, command->common);
    app->add_option("--seed", command->seed, "The first seed")->default_str("1");
    app->add_option("--seeds", command->seeds, "How many, one after another")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40))
        ->capture_default_str();
    app->add_option("--clients", command->options.clients, "Users")
        ->check(CLI::Range(1U, 64U))
        ->capture_default_str();
    app->add_option("--messages", command->options.messages, "A run")
        ->check(CLI::Range(1U, 100'000U))
        ->capture_default_str();
    std::string names;
    for (const std::string_view name : sim::Faults::names()) {
        names += names.empty() ? "" : ", ";
        names += name;
    }
    app->add_option("--faults", command->faults, "Only these, separated by commas: " + names)
        ->delimiter(',')
        ->check([](const std::string& name) {
            sim::Faults faults;
            return faults.set(name, true) ? std::string() : "'" + name + "' is no fault";
        })
        ->type_name("LIST");
    app->callback([command, &exit] { exit = simulate(*command); });
}

}  // namespace petrel::tools
