#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/transport/harness.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/loopback.hpp"
#include "transport/native_client.hpp"
#include "transport/native_server.hpp"
#include "transport/websocketpp_client.hpp"
#include "transport/websocketpp_server.hpp"
#if defined(PETREL_TEST_HOST_TRANSPORT)
#include "tests/transport/host_kind.hpp"
#elif PETREL_HAS_TLS
#include "tests/transport/certificates.hpp"
#endif

// The implementations that the conformance suite runs on, and a world for one test.

namespace petrel::test {

struct OnNative {
    static constexpr bool kIsWebsocketpp = false;
    explicit OnNative(AsioEventLoop& event_loop) : loop(event_loop) {}
    std::unique_ptr<Listener> make_listener() { return std::make_unique<NativeListener>(loop); }
    std::unique_ptr<Connector> make_connector() { return std::make_unique<NativeConnector>(loop); }
    void adjust(ListenOptions&) {}
    void adjust(ConnectOptions&) {}
    static std::string url(std::uint16_t port) { return "ws://127.0.0.1:" + std::to_string(port); }
    AsioEventLoop& loop;
};

struct OnWebsocketpp {
    static constexpr bool kIsWebsocketpp = true;
    explicit OnWebsocketpp(AsioEventLoop& event_loop) : loop(event_loop) {}
    std::unique_ptr<Listener> make_listener() {
        return std::make_unique<WebsocketppListener>(loop);
    }
    std::unique_ptr<Connector> make_connector() {
        return std::make_unique<WebsocketppConnector>(loop);
    }
    void adjust(ListenOptions&) {}
    void adjust(ConnectOptions&) {}
    static std::string url(std::uint16_t port) { return "ws://127.0.0.1:" + std::to_string(port); }
    AsioEventLoop& loop;
};

// What has sockets.
#define SOCKET_KINDS OnNative, OnWebsocketpp

struct OnLoopback {
    explicit OnLoopback(AsioEventLoop& loop) : network(loop) {}
    std::unique_ptr<Listener> make_listener() { return network.make_listener(); }
    std::unique_ptr<Connector> make_connector() { return network.make_connector(); }
    void adjust(ListenOptions&) {}
    void adjust(ConnectOptions&) {}
    static std::string url(std::uint16_t port) { return "ws://loopback:" + std::to_string(port); }
    LoopbackNetwork network;
};

#if defined(PETREL_TEST_HOST_TRANSPORT)
#define ALL_KINDS OnHost
#elif PETREL_HAS_TLS
template <class Plain>
struct OnTls : Plain {
    explicit OnTls(AsioEventLoop& event_loop) : Plain(event_loop) {
        CertificateOptions options;
        options.alternative_names = "IP:127.0.0.1";
        Certificate(options).write(cert_file, key_file);
    }
    void adjust(ListenOptions& options) {
        options.tls_cert_file = cert_file;
        options.tls_key_file = key_file;
    }
    void adjust(ConnectOptions& options) { options.tls.ca_file = cert_file; }
    static std::string url(std::uint16_t port) { return "wss://127.0.0.1:" + std::to_string(port); }
    TemporaryFolder folder;
    std::string cert_file = folder.file("cert.pem");
    std::string key_file = folder.file("key.pem");
};
#define ALL_KINDS OnNative, OnWebsocketpp, OnLoopback, OnTls<OnNative>, OnTls<OnWebsocketpp>
#else
#define ALL_KINDS OnNative, OnWebsocketpp, OnLoopback
#endif

template <class Kind>
struct World {
    World() { listen_options.port = 0; }

    void listen() {
        kind.adjust(listen_options);
        listener = kind.make_listener();
        const auto result = listener->listen(listen_options, accepted);
        REQUIRE(static_cast<bool>(result));
        port = *result;
    }

    std::unique_ptr<Side> connect() {
        ConnectOptions options = connect_options;
        kind.adjust(options);
        options.url = kind.url(port) + path;
        auto side = std::make_unique<Side>();
        side->transport = connector->connect(options, side->handler);
        return side;
    }

    bool run_until(const std::function<bool()>& is_done) {
        return petrel::test::run_until(loop, is_done);
    }

    // Opens client() and server().
    void open() {
        if (!listener) listen();
        const std::size_t before = accepted.sides.size();
        clients.push_back(connect());
        REQUIRE(run_until(
            [&] { return clients.back()->handler.is_open && accepted.sides.size() > before; }));
    }

    Side& client() { return *clients.back(); }
    Side& server() { return *accepted.sides.back(); }

    bool run_until_closed(const Side& side) {
        return run_until([&] { return side.handler.closed.has_value(); });
    }

    // A round trip on a connection of its own: whatever was under way has arrived.
    void settle() {
        Recorder handler;
        ConnectOptions options;
        kind.adjust(options);
        AcceptAll others;
        others.when_accepted = [](Side& side) {
            side.handler.when_text = [&side] { side.transport->send("pong"); };
        };
        ListenOptions other_options;
        kind.adjust(other_options);
        const auto other = kind.make_listener();
        const auto result = other->listen(other_options, others);
        REQUIRE(static_cast<bool>(result));
        options.url = kind.url(*result);
        const auto transport = connector->connect(options, handler);
        handler.when_open = [&] { transport->send("ping"); };
        REQUIRE(run_until([&] { return handler.texts.size() == 1; }));
    }

    AsioEventLoop loop;
    Kind kind{loop};
    ListenOptions listen_options;
    ConnectOptions connect_options;
    std::string path = "/ws";
    std::uint16_t port = 0;
    AcceptAll accepted;
    std::vector<std::unique_ptr<Side>> clients;
    std::unique_ptr<Connector> connector = kind.make_connector();
    std::unique_ptr<Listener> listener;
};

}  // namespace petrel::test
