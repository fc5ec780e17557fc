#include "transport/websocketpp_server.hpp"

#include "transport/listening_socket.hpp"
#include "transport/tls.hpp"
#include "transport/websocketpp_link.hpp"

#include <websocketpp/server.hpp>

namespace petrel {
namespace {

using namespace wspp;
namespace http_status = websocketpp::http::status_code;

// Sockets beyond the limits that may be on the way to their 503; more are closed at once.
constexpr std::size_t kRefusalsMax = 1024;
// After "too many open files" and the like: retrying at once would spin.
constexpr std::chrono::milliseconds kAcceptPause{100};

// Counts one while the returned pointer lives.
std::shared_ptr<void> count_in(const std::shared_ptr<std::size_t>& counter) {
    ++*counter;
    return std::shared_ptr<void>(counter.get(), [counter](void*) { --*counter; });
}

// What the connections of one listen() share.
struct Desk {
    ListenOptions options;
    Listener::Handler* handler = nullptr;  // nullptr once stopped.
    std::shared_ptr<std::size_t> sockets = std::make_shared<std::size_t>(0);
};

template <class Config>
class ServerLink final : public Link<Config> {
public:
    using Base = Link<Config>;
    using typename Base::Connection;
    using typename Base::ConnectionPtr;
    using typename Base::State;

    ServerLink(asio::io_context& io, std::shared_ptr<Desk> desk)
        : Base(io, false, nullptr), desk_(std::move(desk)) {}

    // Without a place it is only answered.
    void start(ConnectionPtr con, std::shared_ptr<ConnectionLimits::Place> place) {
        this->attach(con, desk_->options.frame_bytes_max);
        peer_.address = con->get_remote_endpoint();
        place_ = std::move(place);
        peer_.place = place_;
        const std::weak_ptr<ServerLink> weak = shared();
        con->set_validate_handler([weak](websocketpp::connection_hdl) {
            const auto link = weak.lock();
            return link && link->validate();
        });
        con->set_http_handler([weak](websocketpp::connection_hdl) {
            if (const auto link = weak.lock()) link->answer_http();
        });
        this->start_timer(desk_->options.handshake_timeout);
        con->start();
    }

protected:
    void on_opened() override {
        if (this->state() != State::kConnecting) return;
        if (!desk_->handler) {
            this->detach();
            return;
        }
        this->set_open();
        Listener::Handler& handler = *desk_->handler;
        handler.on_accept(std::make_unique<WebsocketppTransport>(shared()), peer_);
    }

    void on_handshake_timeout() override {
        this->cut();
        this->finish(Base::lost("no handshake in time"));
    }

    CloseInfo describe_failure(Connection& con) override {
        return Base::lost(con.get_ec().message());
    }

    void on_finished() override { place_.reset(); }

private:
    std::shared_ptr<ServerLink> shared() {
        return std::static_pointer_cast<ServerLink>(this->self());
    }

    std::optional<HttpAnswer> judge(bool is_upgrade) {
        const auto& request = this->con()->get_request();
        UpgradeQuestion question;
        question.method = request.get_method();
        question.path = path_of(request.get_uri());
        question.websocket_version = request.get_header("Sec-WebSocket-Version");
        question.origin = request.get_header("Origin");
        question.header_bytes = request.raw_head().size();
        question.is_upgrade = is_upgrade;
        const bool has_room = desk_->handler && place_;
        return judge_request(question, desk_->options, has_room);
    }

    void answer(const HttpAnswer& answer) {
        const ConnectionPtr& con = this->con();
        con->set_status(static_cast<http_status::value>(answer.status));
        if (!answer.field_name.empty()) con->replace_header(answer.field_name, answer.field_value);
        con->replace_header("Content-Type", "text/plain; charset=utf-8");
        con->replace_header("Connection", "close");
        con->set_body(answer.body);
    }

    // Answers false, with a status, to an upgrade that is not wanted.
    bool validate() {
        const ConnectionPtr& con = this->con();
        if (!con) return false;
        if (const auto refusal = judge(true)) {
            answer(*refusal);
            return false;
        }
        peer_.path = std::string(path_of(con->get_resource()));
        peer_.subprotocol = choose_subprotocol(con->get_requested_subprotocols());
        std::error_code ignored;  // It is one of those requested.
        con->select_subprotocol(peer_.subprotocol, ignored);
        return true;
    }

    void answer_http() {
        if (!this->con()) return;
        if (const auto page = judge(false)) answer(*page);
    }

    std::shared_ptr<Desk> desk_;
    std::shared_ptr<ConnectionLimits::Place> place_;
    PeerInfo peer_;
};

// The accepting socket. Lives as long as its owner or the pending accept.
class Acceptor {
public:
    virtual ~Acceptor() = default;
    virtual void stop() = 0;
};

// Accepts by itself: the library's own loop never pauses when accept() fails for want of files.
template <class Config>
class AcceptorFor final : public Acceptor,
                          public std::enable_shared_from_this<AcceptorFor<Config>> {
public:
    using Endpoint = websocketpp::server<Config>;
    using ConnectionPtr = typename Endpoint::connection_ptr;

    AcceptorFor(asio::io_context& io, TcpAcceptor socket, std::shared_ptr<Desk> desk)
        : io_(io),
          socket_(std::move(socket)),
          incoming_(io),
          pause_(io),
          desk_(std::move(desk)),
          endpoint_(std::make_shared<Endpoint>()) {
        std::error_code ignored;  // Fails for a second call only.
        endpoint_->init_asio(&io, ignored);
        endpoint_->set_user_agent("");
    }

    Endpoint& endpoint() { return *endpoint_; }

    // The connection object comes after its socket: it takes the certificate of its making.
    void accept() {
        socket_.async_accept(incoming_,
                             [acceptor = this->shared_from_this()](std::error_code error) {
                                 acceptor->on_accepted(error);
                             });
    }

    void stop() override {
        desk_->handler = nullptr;
        pause_.cancel();
        std::error_code ignored;
        socket_.close(ignored);
    }

private:
    void on_accepted(std::error_code error) {
        if (!socket_.is_open()) return;
        if (error) {
            if (error == asio::error::connection_aborted) {
                accept();
            } else {
                pause();
            }
            return;
        }
        take();
        std::error_code ignored;
        incoming_.close(ignored);
        accept();
    }

    void take() {
        if (*desk_->sockets >= desk_->options.limits->options().connections_max + kRefusalsMax)
            return;
        std::error_code ignored;
        const auto peer = incoming_.remote_endpoint(ignored);
        if (ignored) return;
        const ConnectionPtr con = endpoint_->get_connection();
        if (!con) return;
        con->get_raw_socket() = std::move(incoming_);
        con->endpoint = endpoint_;
        con->lease = count_in(desk_->sockets);
        con->get_raw_socket().set_option(asio::ip::tcp::no_delay(true), ignored);
        std::make_shared<ServerLink<Config>>(io_, desk_)
            ->start(con, desk_->options.limits->take(peer.address().to_string()));
    }

    void pause() {
        pause_.expires_after(kAcceptPause);
        pause_.async_wait([acceptor = this->shared_from_this()](std::error_code error) {
            if (!error && acceptor->socket_.is_open()) acceptor->accept();
        });
    }

    asio::io_context& io_;
    TcpAcceptor socket_;
    asio::ip::tcp::socket incoming_;  // Of the pending accept.
    asio::steady_timer pause_;
    std::shared_ptr<Desk> desk_;
    std::shared_ptr<Endpoint> endpoint_;
};

}  // namespace

struct WebsocketppListener::Impl {
    explicit Impl(AsioEventLoop::Impl& event_loop) : loop(event_loop) {}

    Result<std::uint16_t> listen(const ListenOptions& options, Handler& handler) {
        if (acceptor) {
            return fail(std::make_error_code(std::errc::already_connected), "already listening");
        }
        std::error_code error;
        std::shared_ptr<TlsServer> tls_server = options.tls;
        if (!tls_server && (!options.tls_cert_file.empty() || !options.tls_key_file.empty())) {
            std::string why;
            auto loaded = TlsServer::load(options.tls_cert_file, options.tls_key_file, why);
            if (!loaded) return fail(loaded.error(), why);
            tls_server = *loaded;
        }
        std::string why;
        TcpAcceptor socket = open_listening_socket(loop.io, options, error, why);
        if (error) return fail(error, std::move(why));
        const std::uint16_t port = socket.local_endpoint(error).port();
        if (error) return fail(error, options.address + ": " + error.message());

        const auto desk = std::make_shared<Desk>();
        desk->options = options;
        desk->handler = &handler;
#if PETREL_HAS_TLS
        if (tls_server) {
            const auto tls =
                std::make_shared<AcceptorFor<TlsConfig>>(loop.io, std::move(socket), desk);
            tls->endpoint().set_tls_init_handler(
                [tls_server](websocketpp::connection_hdl) { return tls_server->context(); });
            tls->accept();
            acceptor = tls;
            return port;
        }
#endif
        const auto plain =
            std::make_shared<AcceptorFor<PlainConfig>>(loop.io, std::move(socket), desk);
        plain->accept();
        acceptor = plain;
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

WebsocketppListener::WebsocketppListener(AsioEventLoop& loop)
    : impl_(std::make_shared<Impl>(loop.impl())) {}

WebsocketppListener::~WebsocketppListener() { impl_->stop(); }

Result<std::uint16_t> WebsocketppListener::listen(const ListenOptions& options, Handler& handler) {
    return impl_->listen(options, handler);
}

std::string WebsocketppListener::last_error() const { return impl_->last_error; }

void WebsocketppListener::stop() { impl_->stop(); }

}  // namespace petrel
