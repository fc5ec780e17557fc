#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transport/transport.hpp"

// What every implementation of the Transport contract decides in the same way.

namespace petrel {

struct Url {
    bool is_tls = false;
    std::string host;  // An IPv6 literal without its brackets.
    std::uint16_t port = 0;
    std::string resource;  // Path and query; "/" when the URL has neither.

    std::string authority() const;  // host:port, an IPv6 literal in brackets.
    std::string bracketed_host() const;
};

// ws://host[:port][/path][?query] or wss://. nullopt: `why` gets a sentence.
std::optional<Url> parse_url(std::string_view text, std::string& why);

// RFC 7230 token, what a subprotocol's name must be.
bool is_token(std::string_view text);

// PeerInfo::subprotocol.
std::string choose_subprotocol(const std::vector<std::string>& asked);

// `resource` without its query.
std::string_view path_of(std::string_view resource);
bool is_known_path(const std::vector<std::string>& paths, std::string_view path);

// A web page's origin as browsers write it: lower case, no default port. "" when `text` is none
// (scheme://host[:port], http or https, nothing behind it).
std::string normal_origin(std::string_view text);

// What an HTTP request to a listener asks for. A header that is not there is "".
struct UpgradeQuestion {
    std::string_view method;
    std::string_view path;  // Without the query.
    std::string_view websocket_version;
    std::string_view origin;
    std::size_t header_bytes = 0;  // Request line and headers.
    bool is_upgrade = false;       // Else plain HTTP.
};

// An answer other than the upgrade. It has a Content-Length and ends the connection.
struct HttpAnswer {
    int status = 0;
    std::string body;
    std::string field_name;  // One more field; "" = none.
    std::string field_value;
};

// The one place that decides who may come in. nullopt: welcome. `has_room`: for one more
// connection.
std::optional<HttpAnswer> judge_request(const UpgradeQuestion& question,
                                        const ListenOptions& options, bool has_room);

// Of a refused upgrade; nullopt for what is not a number of seconds. At most a day.
std::optional<std::chrono::seconds> parse_retry_after(std::string_view text);

// `code` when RFC 6455 section 7.4 lets an endpoint send it, else 1000.
std::uint16_t sendable_close_code(std::uint16_t code);
// At most 123 bytes, cut between characters; "" when it is not UTF-8.
std::string_view cut_close_reason(std::string_view reason);

}  // namespace petrel
