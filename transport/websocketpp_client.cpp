#include "transport/websocketpp_client.hpp"

#include <vector>

#include "transport/tls.hpp"
#include "transport/websocketpp_link.hpp"

#include <websocketpp/client.hpp>

namespace petrel {
namespace {

using namespace wspp;

// An attempt that fails before there is a connection object.
class FailedLink final : public LinkBase, public std::enable_shared_from_this<FailedLink> {
public:
    explicit FailedLink(Transport::Handler& handler) : handler_(&handler) {}

    void fail(asio::io_context& io, std::string reason) {
        asio::post(io, [link = shared_from_this(), reason = std::move(reason)] {
            CloseInfo info;
            info.reason = reason;
            if (auto* handler = std::exchange(link->handler_, nullptr)) handler->on_closed(info);
        });
    }

    void set_handler(Transport::Handler& handler) override { handler_ = &handler; }
    void send(std::string_view) override {}
    void close(std::uint16_t, std::string_view) override {}
    void detach() override { handler_ = nullptr; }
    std::size_t queued_bytes() const override { return 0; }
    std::size_t queued_packets() const override { return 0; }

private:
    Transport::Handler* handler_;
};

template <class Config>
class ClientLink final : public Link<Config> {
public:
    using Base = Link<Config>;
    using typename Base::Connection;
    using typename Base::ConnectionPtr;
    using typename Base::State;

    ClientLink(AsioEventLoop::Impl& loop, const Url& url, const ConnectOptions& options,
               Transport::Handler& handler)
        : Base(loop.io, true, &handler),
          loop_(loop),
          url_(url),
          timeout_(std::max(options.handshake_timeout, std::chrono::milliseconds::zero())) {}

    void start(ConnectionPtr con, const ConnectOptions& options) {
        if (!options.subprotocol.empty()) {
            std::error_code ignored;  // The caller has checked it.
            con->add_subprotocol(options.subprotocol, ignored);
        }
        this->attach(std::move(con), options.frame_bytes_max);
        this->start_timer(timeout_);
        loop_.look_up(url_.host, url_.port,
                      [weak = weak_self()](const Endpoints& endpoints, const std::string& failure) {
                          if (const auto link = weak.lock()) link->on_lookup(endpoints, failure);
                      });
    }

protected:
    void on_opened() override {
        if (this->state() != State::kConnecting) return;
        const std::string subprotocol = this->con()->get_response_header("Sec-WebSocket-Protocol");
        this->set_open();
        if (this->handler()) this->handler()->on_open(subprotocol);
    }

    void on_handshake_timeout() override {
        fail(std::string(stage_) + ": no answer within " + std::to_string(timeout_.count()) +
             " ms");
    }

    CloseInfo describe_failure(Connection& con) override {
        constexpr int kSwitchingProtocols = 101;
        const int status = con.get_response_code();
        if (status > kSwitchingProtocols) {
            CloseInfo info = Base::lost("the server answered HTTP " + std::to_string(status) + " " +
                                        con.get_response_msg());
            info.http_status = status;
            info.retry_after = parse_retry_after(con.get_response_header("Retry-After"));
            return info;
        }
        const std::string tls_failure = con.handshake_failure();
        return Base::lost(std::string(stage_) + " with " + url_.authority() + ": " +
                          (tls_failure.empty() ? con.get_ec().message() : tls_failure));
    }

private:
    using Endpoints = AsioEventLoop::Impl::Endpoints;

    std::weak_ptr<ClientLink> weak_self() {
        return std::static_pointer_cast<ClientLink>(this->self());
    }

    void fail(std::string reason) {
        this->cut();
        this->finish(Base::lost(std::move(reason)));
    }

    void on_lookup(const Endpoints& endpoints, const std::string& failure) {
        if (this->state() != State::kConnecting) return;
        if (endpoints.empty()) {
            fail("looking up " + url_.host + ": " + failure);
            return;
        }
        stage_ = "connecting";
        const ConnectionPtr con = this->con();
        asio::async_connect(
            con->get_raw_socket(), endpoints,
            [weak = weak_self(), con](std::error_code error, const asio::ip::tcp::endpoint&) {
                if (const auto link = weak.lock()) link->on_connected(error);
            });
    }

    void on_connected(std::error_code error) {
        if (this->state() != State::kConnecting) return;
        if (error) {
            fail("connecting to " + url_.authority() + ": " + error.message());
            return;
        }
        std::error_code ignored;
        this->con()->get_raw_socket().set_option(asio::ip::tcp::no_delay(true), ignored);
        stage_ = url_.is_tls ? "TLS or WebSocket handshake" : "WebSocket handshake";
        const ConnectionPtr con = this->con();
        con->start();
    }

    AsioEventLoop::Impl& loop_;
    const Url url_;
    const std::chrono::milliseconds timeout_;
    const char* stage_ = "looking up the host";
};

template <class Config>
std::shared_ptr<websocketpp::client<Config>> make_endpoint(asio::io_context& io) {
    auto endpoint = std::make_shared<websocketpp::client<Config>>();
    std::error_code ignored;  // Fails for a second call only.
    endpoint->init_asio(&io, ignored);
    endpoint->set_user_agent("petrel");
    return endpoint;
}

}  // namespace

struct WebsocketppConnector::Impl {
    explicit Impl(AsioEventLoop::Impl& event_loop) : loop(event_loop) {}

    std::shared_ptr<LinkBase> connect(const ConnectOptions& options, Transport::Handler& handler) {
        std::string why;
        const auto url = parse_url(options.url, why);
        if (!url) return fail(handler, why);
        if (!options.subprotocol.empty() && !is_token(options.subprotocol)) {
            return fail(handler, "the subprotocol is not a token");
        }
        if (!url->is_tls) {
            if (!plain) plain = make_endpoint<PlainConfig>(loop.io);
            std::error_code error;
            const auto con = plain->get_connection(library_url(*url), error);
            return con ? start<PlainConfig>(con, plain, *url, options, handler)
                       : fail(handler, error.message());
        }
        const TlsContext context = tls_contexts.find(options.tls, why);
        if (!context) return fail(handler, why);
#if PETREL_HAS_TLS
        if (!tls) tls = make_endpoint<TlsConfig>(loop.io);
        tls->set_tls_init_handler([context](websocketpp::connection_hdl) { return context; });
        std::error_code error;
        const auto con = tls->get_connection(library_url(*url), error);
        if (!con) return fail(handler, error.message());
        if (!prepare_tls_client(con->get_socket().native_handle(), url->host, options.tls, why)) {
            return fail(handler, why);
        }
        return start<TlsConfig>(con, tls, *url, options, handler);
#else
        return nullptr;  // Without TLS there is no context.
#endif
    }

    template <class Config>
    std::shared_ptr<LinkBase> start(const std::shared_ptr<websocketpp::connection<Config>>& con,
                                    const std::shared_ptr<void>& endpoint, const Url& url,
                                    const ConnectOptions& options, Transport::Handler& handler) {
        con->endpoint = endpoint;
        const auto link = std::make_shared<ClientLink<Config>>(loop, url, options, handler);
        link->start(con, options);
        return link;
    }

    std::shared_ptr<LinkBase> fail(Transport::Handler& handler, std::string reason) {
        const auto link = std::make_shared<FailedLink>(handler);
        link->fail(loop.io, std::move(reason));
        return link;
    }

    static websocketpp::uri_ptr library_url(const Url& url) {
        return std::make_shared<websocketpp::uri>(url.is_tls, url.bracketed_host(), url.port,
                                                  url.resource);
    }

    AsioEventLoop::Impl& loop;
    std::shared_ptr<websocketpp::client<PlainConfig>> plain;
    TlsClientContexts tls_contexts;
#if PETREL_HAS_TLS
    std::shared_ptr<websocketpp::client<TlsConfig>> tls;
#endif
};

WebsocketppConnector::WebsocketppConnector(AsioEventLoop& loop)
    : impl_(std::make_shared<Impl>(loop.impl())) {}

WebsocketppConnector::~WebsocketppConnector() = default;

std::unique_ptr<Transport> WebsocketppConnector::connect(const ConnectOptions& options,
                                                         Transport::Handler& handler) {
    return std::make_unique<WebsocketppTransport>(impl_->connect(options, handler));
}

}  // namespace petrel
