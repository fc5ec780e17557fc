#pragma once

#include <memory>
#include <string>

#include "tests/transport/raw_socket.hpp"
#include "tests/transport/world.hpp"
#include "transport/websocket_handshake.hpp"

// A listener or a connector of ours whose peer is a bare socket, for bytes that no WebSocket of
// ours sends.

namespace petrel::test {

constexpr std::uint8_t kText = 0x81, kTextBegin = 0x01, kMore = 0x00, kEnd = 0x80, kBinary = 0x82,
                       kBinaryBegin = 0x02, kClose = 0x88, kPing = 0x89, kPong = 0x8a;

template <class Kind>
struct Server : World<Kind> {
    Server() { this->listen(); }

    std::unique_ptr<RawSocket> raw(int receive_buffer = 0) {
        return std::make_unique<RawSocket>(RawSocket::connect(this->port, receive_buffer));
    }

    // A raw client whose upgrade is done.
    std::unique_ptr<RawSocket> upgraded(int receive_buffer = 0) {
        auto socket = raw(receive_buffer);
        socket->send(upgrade_request());
        REQUIRE(this->run_until([&] { return socket->has("\r\n\r\n"); }));
        REQUIRE(socket->has("HTTP/1.1 101"));
        socket->in.erase(0, socket->in.find("\r\n\r\n") + 4);
        return socket;
    }

    std::string answer(const std::string& request) {
        const auto socket = raw();
        socket->send(request);
        REQUIRE(this->run_until([&] { return socket->has_ended(); }));
        return socket->in;
    }
};

// The code of the close frame that begins `bytes`; 0: they begin with none, -1: without a code.
inline int close_code(const std::string& bytes) {
    if (bytes.size() == 2 && static_cast<std::uint8_t>(bytes[0]) == kClose) return -1;
    if (bytes.size() < 4 || static_cast<std::uint8_t>(bytes[0]) != kClose) return 0;
    return static_cast<std::uint8_t>(bytes[2]) * 256 + static_cast<std::uint8_t>(bytes[3]);
}

// A connector with a raw server whose upgrade is done. Its frames must have no mask.
template <class Kind>
struct Client : World<Kind> {
    Client() {
        this->port = listener.port;
        side = this->connect();
        int fd = -1;
        REQUIRE(this->run_until([&] { return (fd = listener.accept()) >= 0; }));
        peer = std::make_unique<RawSocket>(fd);
        REQUIRE(this->run_until([&] { return peer->has("\r\n\r\n"); }));
        const std::string name = "Sec-WebSocket-Key: ";
        const std::size_t key = peer->in.find(name);
        REQUIRE(key != std::string::npos);
        peer->send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Accept: " +
            ws::accept_of(peer->in.substr(key + name.size(), 24)) + "\r\n\r\n");
        REQUIRE(this->run_until([&] { return side->handler.is_open; }));
        peer->in.clear();
    }

    RawListener listener;
    std::unique_ptr<Side> side;
    std::unique_ptr<RawSocket> peer;
};

}  // namespace petrel::test
