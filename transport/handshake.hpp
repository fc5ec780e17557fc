#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

// `code` when RFC 6455 section 7.4 lets an endpoint send it, else 1000.
std::uint16_t sendable_close_code(std::uint16_t code);
// At most 123 bytes, cut between characters; "" when it is not UTF-8.
std::string_view cut_close_reason(std::string_view reason);

}  // namespace petrel
