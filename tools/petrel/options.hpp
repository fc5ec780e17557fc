#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tools/petrel/exit_status.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

// What the subcommands have in common on the command line.

namespace petrel::tools {

struct CommonOptions {
    bool is_json = false;
};

// --json and --log-level debug|info|warn|error (which takes effect by itself).
void add_common(CLI::App& app, CommonOptions& common);

// A share between 0 and 1.
CLI::Option* add_probability(CLI::App& app, const std::string& names, double& value,
                             const std::string& description);

// "127.0.0.1:9600", "[::1]:9600", ":9600" or "9600" (both 127.0.0.1). Port 0 picks one.
struct ListenAddress {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
};
std::optional<ListenAddress> parse_listen_address(std::string_view text);
std::string to_url(const ListenAddress& address, std::string_view path = "/ws");  // ws://...
CLI::Option* add_listen_address(CLI::App& app, const std::string& names, ListenAddress& value,
                                const std::string& description);

// The same for an option without a default.
CLI::Option* add_listen_address(CLI::App& app, const std::string& names,
                                std::optional<ListenAddress>& value,
                                const std::string& description);
std::string to_http_url(const ListenAddress& address);  // http://..., without a path.

// A URL with the scheme ws:// or wss:// and a host.
bool is_websocket_url(std::string_view text);
CLI::Option* add_websocket_url(CLI::App& app, const std::string& names, std::string& value,
                               const std::string& description);

// For what only the callback can see to be wrong: says it on stderr, with a pointer to --help.
ExitStatus usage_error(const CLI::App& app, std::string_view what);

}  // namespace petrel::tools
