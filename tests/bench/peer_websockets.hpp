#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tests/bench/peer_protocols.hpp"

namespace petrel::bench {

// Those that speak over WebSocket: "relay" (practical_limit.cpp) and "petrel"; nullptr for any
// other.
std::unique_ptr<PeerConnection> make_websocket_peer(std::string_view protocol,
                                                    const PeerOptions& options,
                                                    PeerConnection::Listener& listener,
                                                    const std::string& channel);

}  // namespace petrel::bench
