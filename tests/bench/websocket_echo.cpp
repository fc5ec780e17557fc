#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "transport/asio_event_loop.hpp"
#include "transport/native_client.hpp"
#include "transport/native_server.hpp"
#include "transport/websocketpp_client.hpp"
#include "transport/websocketpp_server.hpp"

// Echo through the WebSocket layer alone, both implementations in turn, and what an idle connection
// takes: client and server in one thread. Only the ratios mean something. Not a test.
//
//   websocket-echo [MESSAGES] [ROUNDS]

namespace {

using namespace petrel;

constexpr std::size_t kPayloadBytes = 200;
constexpr int kIdleConnections = 1000;

struct Echo final : Transport::Handler {
    void on_open(std::string_view) override {}
    void on_text(std::string_view text) override { transport->send(text); }
    void on_binary(std::size_t) override {}
    void on_drained() override {}
    void on_closed(const CloseInfo&) override {}
    std::unique_ptr<Transport> transport;
};

struct Door final : Listener::Handler {
    void on_accept(std::unique_ptr<Transport> transport, const PeerInfo&) override {
        echoes.push_back(std::make_unique<Echo>());
        transport->set_handler(*echoes.back());
        echoes.back()->transport = std::move(transport);
        on_count();
    }
    std::function<void()> on_count = [] {};
    std::vector<std::unique_ptr<Echo>> echoes;
};

// Sends again whatever comes back, until all together have done enough.
struct Sender final : Transport::Handler {
    void on_open(std::string_view) override { on_opened(); }
    void on_text(std::string_view text) override {
        if (--*left == 0) return loop->stop();
        if (*left > 0) transport->send(text);
    }
    void on_binary(std::size_t) override {}
    void on_drained() override {}
    void on_closed(const CloseInfo& info) override {
        std::fprintf(stderr, "closed: %s\n", info.reason.c_str());
        std::exit(1);
    }
    std::function<void()> on_opened;
    long* left = nullptr;
    AsioEventLoop* loop = nullptr;
    std::unique_ptr<Transport> transport;
};

template <class ListenerKind, class ConnectorKind>
class World {
public:
    explicit World(int connections) : listener_(loop_), connector_(loop_) {
        const ListenOptions listen;
        const auto port = listener_.listen(listen, door_);
        if (!port) std::exit(1);
        ConnectOptions options;
        options.url = "ws://127.0.0.1:" + std::to_string(*port) + "/ws";
        int waiting = 2 * connections;
        const auto count = [this, &waiting] {
            if (--waiting == 0) loop_.stop();
        };
        door_.on_count = count;
        for (int i = 0; i < connections; ++i) {
            senders_.push_back(std::make_unique<Sender>());
            senders_.back()->on_opened = count;
            senders_.back()->left = &left_;
            senders_.back()->loop = &loop_;
            senders_.back()->transport = connector_.connect(options, *senders_.back());
        }
        loop_.run();
    }

    // Messages a second, there and back.
    double echo(long messages, int in_flight) {
        left_ = messages;
        const std::string text(kPayloadBytes, 'x');
        const auto begin = std::chrono::steady_clock::now();
        for (const auto& sender : senders_) {
            for (int i = 0; i < in_flight; ++i) sender->transport->send(text);
        }
        loop_.run();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        return static_cast<double>(messages) / took.count();
    }

private:
    AsioEventLoop loop_;
    ListenerKind listener_;
    ConnectorKind connector_;
    Door door_;
    std::vector<std::unique_ptr<Sender>> senders_;
    long left_ = 0;
};

template <class ListenerKind, class ConnectorKind>
double echo(int connections, int in_flight, long messages) {
    World<ListenerKind, ConnectorKind> world(connections);
    return world.echo(messages, in_flight);
}

// Heap of one idle connection, both of its ends.
template <class ListenerKind, class ConnectorKind>
double idle_bytes() {
    const auto used = [] { return static_cast<double>(mallinfo2().uordblks); };
    World<ListenerKind, ConnectorKind> few(1);
    const double before = used();
    World<ListenerKind, ConnectorKind> many(kIdleConnections);
    return (used() - before) / kIdleConnections;
}

}  // namespace

int main(int argc, char** argv) {
    const long messages = argc > 1 ? std::atol(argv[1]) : 300'000;
    const int rounds = argc > 2 ? std::atoi(argv[2]) : 3;
    for (int round = 0; round < rounds; ++round) {
        for (const auto& [connections, in_flight] : {std::pair{1, 1000}, std::pair{100, 10}}) {
            const double native =
                echo<NativeListener, NativeConnector>(connections, in_flight, messages);
            const double other =
                echo<WebsocketppListener, WebsocketppConnector>(connections, in_flight, messages);
            std::printf("%3d x %4d in flight: native %.0f/s, websocketpp %.0f/s, ratio %.2f\n",
                        connections, in_flight, native, other, native / other);
        }
    }
    std::printf("heap of an idle connection, both ends: native %.0f, websocketpp %.0f bytes\n",
                idle_bytes<NativeListener, NativeConnector>(),
                idle_bytes<WebsocketppListener, WebsocketppConnector>());
    return 0;
}
