#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "transport/handshake.hpp"
#include "transport/http_head.hpp"
#include "transport/transport.hpp"

// The opening handshake of RFC 6455 section 4, both ends, without I/O.

namespace petrel::ws {

// ---- the client's ----

std::string make_key(const std::array<unsigned char, 16>& random);  // Sec-WebSocket-Key.
std::string make_request(const Url& url, std::string_view key, std::string_view subprotocol);

struct Upgraded {
    bool is_upgraded = false;
    std::string subprotocol;  // The server's choice.
    CloseInfo failure;        // Else.
};
Upgraded judge_response(std::string_view head, std::string_view key, std::string_view subprotocol);

// ---- the server's ----

std::string accept_of(std::string_view key);  // Sec-WebSocket-Accept.

struct Asked {
    std::optional<HttpAnswer> refusal;  // Else it is an upgrade:
    std::string path;
    std::string subprotocol;  // PeerInfo's.
    std::string accept;
};
Asked judge_upgrade(std::string_view head, const ListenOptions& options, bool has_room);
std::string make_response(const Asked& asked);
std::string make_answer(const HttpAnswer& answer);

}  // namespace petrel::ws
