#pragma once

#include <memory>

#include "transport/asio_event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel {

// The implementations of WebSocket. libpetrel has the first only.
enum class WebSocketKind { kNative, kWebsocketpp };

std::unique_ptr<Listener> make_listener(WebSocketKind kind, AsioEventLoop& loop);

}  // namespace petrel
