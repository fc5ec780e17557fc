#include <CLI/CLI.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "tools/petrel/commands.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/signals.hpp"
#include "tools/petrel/storm_proxy.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/websocketpp_client.hpp"
#include "transport/websocketpp_server.hpp"

namespace petrel::tools {
namespace {

constexpr const char* kFooter =
    "Put it between clients and a gateway: they connect to --listen, it connects to --target.\n"
    "Packets are dropped, duplicated and delayed, never reordered. A reset cuts both sides\n"
    "without a word; a stall holds both directions. A connection is reset after half to 1.5\n"
    "times --reset-every; stalls likewise. The same --seed makes the same decisions, connection\n"
    "by connection. Ctrl-C ends it with a summary.\n"
    "\n"
    "Examples:\n"
    "  petrel gateway --listen 127.0.0.1:9600\n"
    "  petrel storm --listen 127.0.0.1:9700 --target ws://127.0.0.1:9600/ws \\\n"
    "      --drop 0.1 --duplicate 0.05 --delay 20ms --jitter 10ms --reset-every 5s\n"
    "  petrel send --url ws://127.0.0.1:9700/ws --user alice --to bob hello\n"
    "  petrel storm --listen 9700 --target $U --stall-every 10s --stall 3s --seed 42";

struct StormOptions {
    CommonOptions common;
    ListenAddress listen{"127.0.0.1", 9700};
    std::string target;
    Faults faults;
    std::optional<std::uint64_t> seed;
};

void print_ready(const StormOptions& options, const ListenAddress& address, std::uint64_t seed) {
    const std::string url = to_url(address);
    if (options.common.is_json) {
        JsonLine("listening")
            .text("url", url)
            .number("port", address.port)
            .text("target", options.target)
            .number("seed", seed)
            .print();
        return;
    }
    print_text("A storm at " + url + ", behind it " + options.target + " (seed " +
               std::to_string(seed) + "). Ctrl-C ends it.");
}

void print_summary(bool is_json, const Storm::Stats& stats) {
    if (is_json) {
        JsonLine("summary")
            .number("connections", stats.connections)
            .number("packets", stats.packets)
            .number("forwarded", stats.forwarded)
            .number("dropped", stats.dropped)
            .number("duplicated", stats.duplicated)
            .number("delayed", stats.delayed)
            .number("resets", stats.resets)
            .number("stalls", stats.stalls)
            .number("overflows", stats.overflows)
            .number("unreachable", stats.unreachable)
            .number("binary", stats.binary)
            .print();
        return;
    }
    std::string text = std::to_string(stats.connections) + " connections, " +
                       std::to_string(stats.packets) +
                       " packets: " + std::to_string(stats.dropped) + " dropped, " +
                       std::to_string(stats.duplicated) + " duplicated, " +
                       std::to_string(stats.delayed) + " delayed, " + std::to_string(stats.resets) +
                       " resets, " + std::to_string(stats.stalls) + " stalls";
    if (stats.overflows > 0) text += ", " + std::to_string(stats.overflows) + " cut when too full";
    if (stats.unreachable > 0) {
        text += ", " + std::to_string(stats.unreachable) + " times no way to the target";
    }
    print_text(text);
}

ExitStatus storm(const StormOptions& options) {
    AsioEventLoop loop;
    WebsocketppListener listener(loop);
    WebsocketppConnector connector(loop);
    Storm::Options storm_options;
    storm_options.address = options.listen.host;
    storm_options.port = options.listen.port;
    storm_options.target_url = options.target;
    storm_options.faults = options.faults;
    // It is printed, so that a run can be had again.
    storm_options.seed = options.seed ? *options.seed : std::random_device{}();
    const std::uint64_t seed = storm_options.seed;
    Storm proxy(loop, listener, connector, std::move(storm_options));
    const auto port = proxy.start();
    if (!port) {
        log(LogLevel::kError, "cannot listen: " + listener.last_error());
        return ExitStatus::kFailed;
    }
    StopSignals signals(loop, [&] {
        proxy.stop();
        loop.stop();
    });
    print_ready(options, {options.listen.host, *port}, seed);
    loop.run();
    print_summary(options.common.is_json, proxy.stats());
    return ExitStatus::kDone;
}

}  // namespace

void add_storm(CLI::App& root, ExitStatus& exit) {
    CLI::App* app =
        root.add_subcommand("storm", "A proxy that drops, duplicates, delays, stalls and cuts");
    auto options = std::make_shared<StormOptions>();
    add_common(*app, options->common);
    add_listen_address(*app, "--listen", options->listen,
                       "Where clients connect; port 0 picks one");
    add_websocket_url(*app, "--target", options->target, "The gateway behind the storm")
        ->required();
    Faults& faults = options->faults;
    add_probability(*app, "--drop", faults.drop, "Share of the packets dropped");
    add_probability(*app, "--duplicate", faults.duplicate, "Share of the packets sent twice");
    add_duration(*app, "--delay", faults.delay, "Every packet waits so long");
    add_duration(*app, "--jitter", faults.jitter, "And up to so much longer");
    add_duration(*app, "--reset-every", faults.reset_every,
                 "How long a connection lives; 0s: for ever");
    CLI::Option* every = add_duration(*app, "--stall-every", faults.stall_every,
                                      "How often a connection stalls; 0s: never");
    CLI::Option* stall = add_duration(*app, "--stall", faults.stall, "How long a stall is");
    every->needs(stall);
    stall->needs(every);
    app->add_option("--seed", options->seed, "Of all decisions; without it another one each run")
        ->type_name("NUMBER");
    app->footer(kFooter);
    app->callback([options, &exit] { exit = storm(*options); });
}

}  // namespace petrel::tools
