#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/petrel/commands.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/signals.hpp"
#include "tools/petrel/storm_proxy.hpp"
#include "tools/petrel/wire_script.hpp"
#include "tools/petrel/wire_storm.hpp"
#include "transport/asio_byte_stream.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/handshake.hpp"
#include "transport/native_client.hpp"
#include "transport/native_server.hpp"

namespace petrel::tools {
namespace {

const std::string& footer() {
    static const std::string text =
        std::string(
            "Put it between clients and a gateway: they connect to --listen, it connects to\n"
            "--target. Packets are dropped, duplicated and delayed, never reordered. A reset cuts\n"
            "both sides without a word; a stall holds both directions. A connection is reset "
            "after\n"
            "half to 1.5 times --reset-every; stalls likewise. The same --seed makes the same\n"
            "decisions, connection by connection. Ctrl-C ends it with a summary.\n"
            "\n"
            "--script FILE and --wire STEP do to the bytes below the packets what networks do:\n") +
        kWireScriptHelp +
        "SIGHUP: FILE is read again, and its `at` steps happen, their times counted from then.\n"
        "\n"
        "A wss:// target: without a script the storm speaks TLS to it and ws:// to the clients, "
        "and\n"
        "verifies its certificate by the system's authorities. With a script and no fault for\n"
        "packets the bytes pass as they are: clients use wss:// themselves, every step works, and\n"
        "cut-in-frame cuts amid what comes, for frames cannot be seen. With both: ws:// to the\n"
        "clients, the steps act between them and the storm.\n"
        "\n"
        "With --json every fault is a line; `petrel track` takes them among the other logs.\n"
        "\n"
        "Examples:\n"
        "  petrel gateway --listen 127.0.0.1:9600\n"
        "  petrel storm --listen 127.0.0.1:9700 --target ws://127.0.0.1:9600/ws \\\n"
        "      --drop 0.1 --duplicate 0.05 --delay 20ms --jitter 10ms --reset-every 5s\n"
        "  petrel send --url ws://127.0.0.1:9700/ws --user alice --to bob hello\n"
        "  petrel storm --listen 9700 --target $U --stall-every 10s --stall 3s --seed 42\n"
        "  petrel storm --target $U --wire 'at 0s slice c<>s 1' --wire 'every 5s cut-in-frame s>c'";
    return text;
}

struct StormOptions {
    CommonOptions common;
    ListenAddress listen{"127.0.0.1", 9700};
    std::string target;
    Faults faults;
    std::optional<std::uint64_t> seed;
    std::string script_file;
    std::vector<std::string> wire_lines;
    std::vector<WireStep> steps;  // Of both.

    bool has_packet_faults() const {
        return faults.drop > 0 || faults.duplicate > 0 || faults.delay.count() > 0 ||
               faults.jitter.count() > 0;
    }
};

void print_ready(const StormOptions& options, const std::string& url, std::uint16_t port,
                 std::uint64_t seed) {
    if (options.common.is_json) {
        JsonLine("listening")
            .text("url", url)
            .number("port", port)
            .text("target", options.target)
            .number("seed", seed)
            .print();
        return;
    }
    print_text("A storm at " + url + ", behind it " + options.target + " (seed " +
               std::to_string(seed) + "). Ctrl-C ends it.");
}

void print_summary(bool is_json, const Storm::Stats& stats, const WireStorm::Stats* wire) {
    const std::uint64_t connections = wire != nullptr ? wire->connections : stats.connections;
    const std::uint64_t resets = stats.resets + (wire != nullptr ? wire->resets : 0);
    const std::uint64_t stalls = stats.stalls + (wire != nullptr ? wire->stalls : 0);
    const std::uint64_t unreachable = stats.unreachable + (wire != nullptr ? wire->unreachable : 0);
    if (is_json) {
        JsonLine line("summary");
        line.number("connections", connections)
            .number("packets", stats.packets)
            .number("forwarded", stats.forwarded)
            .number("dropped", stats.dropped)
            .number("duplicated", stats.duplicated)
            .number("delayed", stats.delayed)
            .number("resets", resets)
            .number("stalls", stalls)
            .number("overflows", stats.overflows)
            .number("unreachable", unreachable)
            .number("binary", stats.binary);
        if (wire != nullptr) {
            line.number("bytesToTarget", wire->bytes_to_target)
                .number("bytesToClient", wire->bytes_to_client)
                .number("swallows", wire->swallows)
                .number("refused", wire->refused);
        }
        line.print();
        return;
    }
    std::string text =
        std::to_string(connections) + " connections, " + std::to_string(stats.packets) +
        " packets: " + std::to_string(stats.dropped) + " dropped, " +
        std::to_string(stats.duplicated) + " duplicated, " + std::to_string(stats.delayed) +
        " delayed, " + std::to_string(resets) + " resets, " + std::to_string(stalls) + " stalls";
    if (wire != nullptr) {
        text += ", " + std::to_string(wire->swallows) + " half-open, " +
                std::to_string(wire->refused) + " refused, " +
                std::to_string(wire->bytes_to_target) + " bytes c>s, " +
                std::to_string(wire->bytes_to_client) + " bytes s>c";
    }
    if (stats.overflows > 0) text += ", " + std::to_string(stats.overflows) + " cut when too full";
    if (unreachable > 0) {
        text += ", " + std::to_string(unreachable) + " times no way to the target";
    }
    print_text(text);
}

// The fingerprint in a packet's text, for the log; "" when it has none. Those that Petrel makes
// have nothing that JSON would escape.
std::string_view find_fingerprint(std::string_view packet) {
    constexpr std::string_view kName = "\"fp\":\"";
    const std::size_t at = packet.find(kName);
    if (at == std::string_view::npos) return {};
    packet.remove_prefix(at + kName.size());
    const std::size_t end = packet.find('"');
    if (end == std::string_view::npos) return {};
    const std::string_view fp = packet.substr(0, end);
    return fp.find('\\') == std::string_view::npos ? fp : std::string_view();
}

JsonLine fault_line(const EventLoop& loop, std::string_view what, std::uint64_t connection) {
    JsonLine line("storm");
    line.number("ts", loop.wall_ms()).text("what", what);
    if (connection > 0) line.number("conn", connection);
    return line;
}

void print_wire_event(const EventLoop& loop, const WireStorm::Event& event) {
    JsonLine line = fault_line(loop, event.what, event.connection);
    if (!event.peer.empty()) line.text("peer", event.peer);
    if (event.step != nullptr) {
        const WireStep& step = *event.step;
        line.text("direction", !step.is_to_client ? "c>s" : !step.is_to_target ? "s>c" : "c<>s");
        if (step.amount > 0) line.number("bytes", step.amount);
        if (step.lasts)
            line.real("ms", std::chrono::duration<double, std::milli>(*step.lasts).count());
    }
    line.print();
}

void print_packet_fault(const EventLoop& loop, std::string_view what, std::uint64_t connection,
                        Direction direction, std::string_view packet) {
    JsonLine line = fault_line(loop, what, connection);
    if (!packet.empty()) {
        line.text("direction", direction == Direction::kToTarget ? "c>s" : "s>c");
        const std::string_view fp = find_fingerprint(packet);
        if (!fp.empty()) line.text("fp", fp);
    }
    line.print();
}

// The same by steps, where those act.
std::vector<WireStep> to_steps(const Faults& faults) {
    std::vector<WireStep> steps;
    WireStep step;
    step.is_repeated = true;
    if (faults.reset_every.count() > 0) {
        step.when = faults.reset_every;
        steps.push_back(step);
    }
    if (faults.stall_every.count() > 0 && faults.stall.count() > 0) {
        step.when = faults.stall_every;
        step.action = WireAction::kStall;
        step.lasts = faults.stall;
        steps.push_back(step);
    }
    return steps;
}

// nullopt: `why` has a sentence.
std::optional<std::vector<WireStep>> read_script(const std::string& path, std::string& why) {
    constexpr std::size_t kScriptBytesMax = 1 << 20;
    std::ifstream file(path, std::ios::binary);
    std::string text(kScriptBytesMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    if (!file.is_open() || file.bad()) {
        why = "cannot read " + path;
        return std::nullopt;
    }
    if (text.size() > kScriptBytesMax) {
        why = path + " is over 1 MiB";
        return std::nullopt;
    }
    auto parsed = parse_wire_script(text, why);
    if (!parsed) why.insert(0, path + ", ");
    return parsed;
}

void strike_again(const StormOptions& options, WireStorm& wire) {
    std::string why;
    const auto steps = read_script(options.script_file, why);
    if (!steps) return log(LogLevel::kError, why + "; nothing has changed");
    if (!wire.strike(*steps)) log(LogLevel::kError, "too many steps are under way");
}

// Packets only, bytes only, or bytes in front of packets.
ExitStatus storm(const StormOptions& options) {
    AsioEventLoop loop;
    NativeListener listener(loop);
    NativeConnector connector(loop);
    AsioByteNetwork network(loop);
    const bool has_wire = !options.steps.empty() || !options.script_file.empty();
    const bool has_packets = !has_wire || options.has_packet_faults();
    const bool is_json = options.common.is_json;
    // It is printed, so that a run can be had again.
    const std::uint64_t seed = options.seed ? *options.seed : std::random_device{}();

    Storm::Options packet_options;
    packet_options.address = has_wire ? "127.0.0.1" : options.listen.host;
    packet_options.port = has_wire ? 0 : options.listen.port;
    packet_options.target_url = options.target;
    packet_options.faults = options.faults;
    packet_options.seed = seed;
    if (has_wire) packet_options.faults.reset_every = packet_options.faults.stall_every = {};
    if (is_json) {
        packet_options.on_fault = [&loop](std::string_view what, std::uint64_t connection,
                                          Direction direction, std::string_view packet) {
            print_packet_fault(loop, what, connection, direction, packet);
        };
    }
    Storm packets(loop, listener, connector, std::move(packet_options));
    std::optional<std::uint16_t> port;
    if (has_packets) {
        const auto opened = packets.start();
        if (!opened) {
            log(LogLevel::kError, "cannot listen: " + listener.last_error());
            return ExitStatus::kFailed;
        }
        port = *opened;
    }

    std::unique_ptr<WireStorm> wire;
    std::string scheme = "ws";
    if (has_wire) {
        std::string why;
        const auto target = parse_url(options.target, why);
        if (!target) {
            log(LogLevel::kError, why);
            return ExitStatus::kUsage;
        }
        WireStorm::Options wire_options;
        wire_options.address = options.listen.host;
        wire_options.port = options.listen.port;
        wire_options.target_host = port ? "127.0.0.1" : target->host;
        wire_options.target_port = port ? *port : target->port;
        wire_options.seed = seed;
        wire_options.steps = options.steps;
        for (const WireStep& step : to_steps(options.faults)) wire_options.steps.push_back(step);
        if (!port && target->is_tls) scheme = "wss";
        WireStorm::Observer observer;
        if (is_json) {
            observer = [&loop](const WireStorm::Event& event) { print_wire_event(loop, event); };
        }
        wire = std::make_unique<WireStorm>(loop, network, std::move(wire_options), observer);
        const auto opened = wire->start();
        if (!opened) {
            log(LogLevel::kError, "cannot listen: " + opened.error().message());
            return ExitStatus::kFailed;
        }
        port = *opened;
    }
    std::optional<HangUpSignal> hang_up;
    if (wire && !options.script_file.empty()) {
        hang_up.emplace(loop, [&] { strike_again(options, *wire); });
    }
    StopSignals signals(loop, [&] {
        if (wire) wire->stop();
        packets.stop();
        loop.stop();
    });
    std::string url = to_url({options.listen.host, *port});
    url.replace(0, url.find(':'), scheme);
    print_ready(options, url, *port, seed);
    loop.run();
    const WireStorm::Stats wire_stats = wire ? wire->stats() : WireStorm::Stats{};
    print_summary(is_json, packets.stats(), wire ? &wire_stats : nullptr);
    return ExitStatus::kDone;
}

// The steps of the file, then those of the command line. nullopt: `why` has a sentence.
std::optional<std::vector<WireStep>> read_steps(const StormOptions& options, std::string& why) {
    std::vector<WireStep> steps;
    if (!options.script_file.empty()) {
        auto parsed = read_script(options.script_file, why);
        if (!parsed) return std::nullopt;
        steps = std::move(*parsed);
    }
    for (const std::string& line : options.wire_lines) {
        std::string wrong;
        const auto step = parse_wire_step(line, wrong);
        if (!step) {
            why =
                "--wire '" + line + "': a step " + (wrong.empty() ? "is more than nothing" : wrong);
            return std::nullopt;
        }
        steps.push_back(*step);
    }
    return steps;
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
    app->add_option("--script", options->script_file,
                    "What to do to the bytes, and when; see below")
        ->type_name("FILE");
    app->add_option("--wire", options->wire_lines, "One line of such a script; may be repeated")
        ->type_name("STEP")
        ->allow_extra_args(false);
    app->footer(footer());
    app->callback([app, options, &exit] {
        std::string why;
        auto steps = read_steps(*options, why);
        if (!steps) {
            exit = usage_error(*app, why);
            return;
        }
        options->steps = std::move(*steps);
        exit = storm(*options);
    });
}

}  // namespace petrel::tools
