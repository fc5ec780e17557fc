#include "tools/petrel/options.hpp"

#include <CLI/CLI.hpp>

#include <charconv>
#include <functional>
#include <map>
#include <utility>

#include "tools/petrel/log.hpp"

namespace petrel::tools {
namespace {

std::optional<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, port);
    if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
    return port;
}

}  // namespace

void add_common(CLI::App& app, CommonOptions& common) {
    app.add_flag("--json", common.is_json, "One JSON object a line on stdout, nothing else");
    static const std::map<std::string, LogLevel> kLevels{{"debug", LogLevel::kDebug},
                                                         {"info", LogLevel::kInfo},
                                                         {"warn", LogLevel::kWarning},
                                                         {"error", LogLevel::kError}};
    app.add_option_function<std::string>(
           "--log-level", [](const std::string& name) { set_log_level(kLevels.at(name)); },
           "What is logged on stderr: debug, info, warn or error")
        ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
        ->type_name("LEVEL")
        ->default_str("warn");
}

CLI::Option* add_probability(CLI::App& app, const std::string& names, double& value,
                             const std::string& description) {
    return app.add_option(names, value, description)
        ->check([](const std::string& text) {
            double share = 0;
            const bool is_number = CLI::detail::lexical_cast(text, share);
            if (is_number && share >= 0 && share <= 1) return std::string();
            return "'" + text + "' is no share between 0 and 1 (0.05 is 5 %)";
        })
        ->type_name("SHARE")
        ->capture_default_str();
}

std::optional<ListenAddress> parse_listen_address(std::string_view text) {
    ListenAddress address;
    const std::size_t colon = text.rfind(':');
    std::string_view host;
    if (colon != std::string_view::npos) host = text.substr(0, colon);
    const auto port = parse_port(colon == std::string_view::npos ? text : text.substr(colon + 1));
    if (!port) return std::nullopt;
    address.port = *port;
    if (!host.empty() && host.front() == '[') {
        if (host.size() < 3 || host.back() != ']') return std::nullopt;
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return std::nullopt;  // An IPv6 address needs its brackets.
    }
    if (!host.empty()) address.host = host;
    return address;
}

namespace {

std::string to_authority(const ListenAddress& address) {
    const bool is_ipv6 = address.host.find(':') != std::string::npos;
    return (is_ipv6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

CLI::Option* add_address(CLI::App& app, const std::string& names, const std::string& description,
                         std::function<void(const ListenAddress&)> set) {
    return app
        .add_option_function<std::string>(
            names,
            [set = std::move(set)](const std::string& text) {
                if (const auto address = parse_listen_address(text)) set(*address);
            },
            description)
        ->check([](const std::string& text) {
            if (parse_listen_address(text)) return std::string();
            return "'" + text +
                   "' is no address to listen on: write 127.0.0.1:9600, [::1]:9600 "
                   "or just the port";
        })
        ->type_name("ADDRESS");
}

}  // namespace

std::string to_url(const ListenAddress& address, std::string_view path) {
    return "ws://" + to_authority(address) + std::string(path);
}

std::string to_http_url(const ListenAddress& address) { return "http://" + to_authority(address); }

CLI::Option* add_listen_address(CLI::App& app, const std::string& names, ListenAddress& value,
                                const std::string& description) {
    return add_address(app, names, description,
                       [&value](const ListenAddress& address) { value = address; })
        ->default_str(to_authority(value));
}

CLI::Option* add_listen_address(CLI::App& app, const std::string& names,
                                std::optional<ListenAddress>& value,
                                const std::string& description) {
    return add_address(app, names, description,
                       [&value](const ListenAddress& address) { value = address; });
}

bool is_websocket_url(std::string_view text) {
    std::string_view rest;
    if (text.substr(0, 5) == "ws://") rest = text.substr(5);
    if (text.substr(0, 6) == "wss://") rest = text.substr(6);
    return !rest.empty() && rest.front() != '/' && rest.front() != ':' &&
           rest.find_first_of(" \t\r\n") == std::string_view::npos;
}

CLI::Option* add_websocket_url(CLI::App& app, const std::string& names, std::string& value,
                               const std::string& description) {
    return app.add_option(names, value, description)
        ->check([](const std::string& text) {
            if (is_websocket_url(text)) return std::string();
            return "'" + text + "' is no WebSocket URL: write ws://127.0.0.1:9600/ws or wss://...";
        })
        ->type_name("URL");
}

ExitStatus usage_error(const CLI::App& app, std::string_view what) {
    const std::string& name = app.get_name();
    std::fprintf(stderr, "petrel %s: %.*s\nRun 'petrel %s --help' for more information.\n",
                 name.c_str(), static_cast<int>(what.size()), what.data(), name.c_str());
    return ExitStatus::kUsage;
}

}  // namespace petrel::tools
