#include "transport/native_server.hpp"

#include <utility>

#include "transport/listening_socket.hpp"
#include "transport/native_link.hpp"
#include "transport/tls_session.hpp"
#include "transport/websocket_handshake.hpp"

namespace petrel {
namespace {

// Sockets beyond the limits that may be on the way to their 503; more are closed at once.
constexpr std::size_t kRefusalsMax = 1024;
// After "too many open files" and the like: retrying at once would spin.
constexpr std::chrono::milliseconds kAcceptPause{100};

// What the connections of one listen() share.
struct Desk {
    ListenOptions options;
    Listener::Handler* handler = nullptr;  // nullptr once stopped.
    std::size_t sockets = 0;
};

// Counts a socket while it is open.
class SocketCount {
public:
    explicit SocketCount(std::shared_ptr<Desk> desk) : desk_(std::move(desk)) { ++desk_->sockets; }
    ~SocketCount() { reset(); }
    SocketCount(const SocketCount&) = delete;
    SocketCount& operator=(const SocketCount&) = delete;
    void reset() {
        if (desk_) --desk_->sockets;
        desk_.reset();
    }

private:
    std::shared_ptr<Desk> desk_;
};

std::string to_text(const asio::ip::tcp::endpoint& endpoint) {
    const std::string address = endpoint.address().to_string();
    const std::string host = endpoint.address().is_v6() ? "[" + address + "]" : address;
    return host + ":" + std::to_string(endpoint.port());
}

class ServerLink final : public NativeLink {
public:
    ServerLink(NativeLoop& loop, const std::shared_ptr<Desk>& desk)
        : NativeLink(loop, false, desk->options.frame_bytes_max, nullptr),
          socket_count_(desk),
          opening_(std::make_unique<Opening>()) {
        opening_->desk = desk;
    }

    TcpSocket& socket() { return stream().socket; }

    void start() {
        std::error_code error;
        const auto endpoint = socket().remote_endpoint(error);
        const ListenOptions& options = opening_->desk->options;
        if (!error) {
            opening_->peer.address = to_text(endpoint);
            place_ = options.limits->take(opening_->peer.address);
            opening_->peer.place = place_;
        }
        if (options.tls) {
            stream().secure = make_tls_server(socket(), options.tls->context());
            if (!stream().secure) {
                cut();
                return;
            }
        }
        start_timer(options.handshake_timeout);
        start_stream();
    }

protected:
    void on_secured() override {}

    void on_handshake(char* data, std::size_t size) override {
        std::string& head = opening_->head;
        const std::size_t searched = head.size();
        head.append(data, size);
        const auto head_end = find_http_head_end(head, searched);
        const Desk& desk = *opening_->desk;
        UpgradeQuestion endless;
        endless.header_bytes = head_end.value_or(head.size());
        if (endless.header_bytes > desk.options.header_bytes_max) {
            refuse(*judge_request(endless, desk.options, false));
            return;
        }
        if (!head_end) return;
        ws::Asked asked = ws::judge_upgrade(std::string_view(head).substr(0, *head_end),
                                            desk.options, desk.handler && place_);
        if (asked.refusal) {
            refuse(*asked.refusal);
        } else {
            welcome(asked, *head_end);
        }
    }

    void on_handshake_timeout() override {
        cut();
        finish(lost("no handshake in time"));
    }
    void on_handshake_lost(const std::string& why) override { finish(lost(why)); }
    void on_ended() override { place_.reset(); }
    void on_socket_closed() override { socket_count_.reset(); }

private:
    // What is needed until the connection is open.
    struct Opening {
        std::shared_ptr<Desk> desk;
        PeerInfo peer;
        std::string head;  // Of the request.
    };

    void refuse(const HttpAnswer& answer) {
        write_raw(ws::make_answer(answer));
        part(lost("refused"));
    }

    void welcome(ws::Asked& asked, std::size_t head_end) {
        const std::unique_ptr<Opening> opening = std::move(opening_);
        opening->peer.path = std::move(asked.path);
        opening->peer.subprotocol = std::move(asked.subprotocol);
        asked.subprotocol = opening->peer.subprotocol;
        write_raw(ws::make_response(asked));
        write_now();  // The peer is open whatever on_accept does.
        set_open();
        opening->desk->handler->on_accept(std::make_unique<NativeTransport>(self()), opening->peer);
        read_frames(opening->head.data() + head_end, opening->head.size() - head_end);
    }

    SocketCount socket_count_;
    std::shared_ptr<ConnectionLimits::Place> place_;  // nullptr: it is only answered.
    std::unique_ptr<Opening> opening_;
};

// The accepting socket. Lives as long as its owner or what it waits for.
class Acceptor : public std::enable_shared_from_this<Acceptor> {
public:
    Acceptor(NativeLoop& loop, TcpAcceptor socket, std::shared_ptr<Desk> desk)
        : loop_(loop), socket_(std::move(socket)), pause_(loop.io()), desk_(std::move(desk)) {}

    void accept() {
        socket_.async_accept(
            [acceptor = shared_from_this()](std::error_code error, TcpSocket accepted) {
                acceptor->on_accepted(error, std::move(accepted));
            });
    }

    void stop() {
        desk_->handler = nullptr;
        pause_.cancel();
        std::error_code ignored;
        socket_.close(ignored);
    }

private:
    void on_accepted(std::error_code error, TcpSocket accepted) {
        if (!socket_.is_open()) return;
        if (error && error != asio::error::connection_aborted) {
            pause();
            return;
        }
        const std::size_t sockets_max =
            desk_->options.limits->options().connections_max + kRefusalsMax;
        if (!error && desk_->sockets < sockets_max) {
            const auto link = std::make_shared<ServerLink>(loop_, desk_);
            link->socket() = std::move(accepted);
            link->start();
        }
        accept();
    }

    void pause() {
        pause_.expires_after(kAcceptPause);
        pause_.async_wait([acceptor = shared_from_this()](std::error_code error) {
            if (!error && acceptor->socket_.is_open()) acceptor->accept();
        });
    }

    NativeLoop& loop_;
    TcpAcceptor socket_;
    SteadyTimer pause_;
    std::shared_ptr<Desk> desk_;
};

}  // namespace

struct NativeListener::Impl {
    explicit Impl(AsioEventLoop::Impl& event_loop) : loop(event_loop) {}

    Result<std::uint16_t> listen(const ListenOptions& options, Handler& handler) {
        if (acceptor) {
            return fail(std::make_error_code(std::errc::already_connected), "already listening");
        }
        std::string why;
        std::shared_ptr<TlsServer> tls = options.tls;
        if (!tls && (!options.tls_cert_file.empty() || !options.tls_key_file.empty())) {
            auto loaded = TlsServer::load(options.tls_cert_file, options.tls_key_file, why);
            if (!loaded) return fail(loaded.error(), why);
            tls = *loaded;
        }
        std::error_code error;
        TcpAcceptor socket = open_listening_socket(loop.io, options, error, why);
        if (error) return fail(error, std::move(why));
        const std::uint16_t port = socket.local_endpoint(error).port();
        if (error) return fail(error, options.address + ": " + error.message());
        const auto desk = std::make_shared<Desk>();
        desk->options = options;
        desk->options.tls = std::move(tls);
        desk->handler = &handler;
        acceptor = std::make_shared<Acceptor>(NativeLoop::of(loop), std::move(socket), desk);
        acceptor->accept();
        return port;
    }

    std::error_code fail(std::error_code error, std::string text) {
        last_error = std::move(text);
        return error;
    }

    void stop() {
        if (const auto stopped = std::exchange(acceptor, nullptr)) stopped->stop();
    }

    AsioEventLoop::Impl& loop;
    std::shared_ptr<Acceptor> acceptor;  // While listening.
    std::string last_error;
};

NativeListener::NativeListener(AsioEventLoop& loop) : impl_(std::make_unique<Impl>(loop.impl())) {}

NativeListener::~NativeListener() { impl_->stop(); }

Result<std::uint16_t> NativeListener::listen(const ListenOptions& options, Handler& handler) {
    return impl_->listen(options, handler);
}

std::string NativeListener::last_error() const { return impl_->last_error; }

void NativeListener::stop() { impl_->stop(); }

}  // namespace petrel
