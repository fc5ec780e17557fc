#include "transport/websocket_kind.hpp"

#include "transport/native_server.hpp"
#include "transport/websocketpp_server.hpp"

namespace petrel {

std::unique_ptr<Listener> make_listener(WebSocketKind kind, AsioEventLoop& loop) {
    if (kind == WebSocketKind::kWebsocketpp) return std::make_unique<WebsocketppListener>(loop);
    return std::make_unique<NativeListener>(loop);
}

}  // namespace petrel
