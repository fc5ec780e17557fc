#include "transport/native_client.hpp"

#include <algorithm>
#include <utility>

#include "transport/handshake.hpp"
#include "transport/native_link.hpp"
#include "transport/tls_session.hpp"
#include "transport/websocket_handshake.hpp"

namespace petrel {
namespace {

using Endpoints = AsioEventLoop::Impl::Endpoints;

class ClientLink final : public NativeLink {
public:
    ClientLink(AsioEventLoop::Impl& event_loop, std::size_t message_bytes_max,
               Transport::Handler& handler)
        : NativeLink(NativeLoop::of(event_loop), true, message_bytes_max, &handler),
          event_loop_(event_loop) {}

    void start(const Url& url, const ConnectOptions& options) {
        opening_ = std::make_unique<Opening>();
        opening_->url = url;
        opening_->subprotocol = options.subprotocol;
        opening_->key = ws::make_key(loop().masks().nonce());
        opening_->timeout = std::max(options.handshake_timeout, std::chrono::milliseconds::zero());
        start_timer(opening_->timeout);
        event_loop_.look_up(url.host, url.port,
                            [weak = std::weak_ptr<NativeLink>(self())](const Endpoints& endpoints,
                                                                       const std::string& failure) {
                                if (const auto link = weak.lock()) {
                                    static_cast<ClientLink&>(*link).on_lookup(endpoints, failure);
                                }
                            });
    }

    // Before start(). False: `why` gets a sentence.
    bool secure(TlsClientContexts& contexts, const Url& url, const TlsClientOptions& options,
                std::string& why) {
        stream().secure = make_tls_client(stream().socket, contexts, url.host, options, why);
        return stream().secure != nullptr;
    }

    // Before there is anything to connect.
    void fail(std::string reason) { end(std::move(reason)); }

protected:
    void on_secured() override {
        opening_->stage = "WebSocket handshake with ";
        write_raw(ws::make_request(opening_->url, opening_->key, opening_->subprotocol));
    }

    void on_handshake(char* data, std::size_t size) override {
        std::string& head = opening_->head;
        const std::size_t searched = head.size();
        head.append(data, size);
        const auto head_end = find_http_head_end(head, searched);
        if (head_end.value_or(head.size()) > kHttpHeadBytesMax) {
            end(opening_->stage + opening_->url.authority() + ": an endless answer");
            return;
        }
        if (!head_end) return;
        ws::Upgraded upgraded = ws::judge_response(std::string_view(head).substr(0, *head_end),
                                                   opening_->key, opening_->subprotocol);
        if (!upgraded.is_upgraded) {
            cut();
            finish(std::move(upgraded.failure));
            return;
        }
        const std::unique_ptr<Opening> opening = std::move(opening_);
        set_open();
        if (handler()) handler()->on_open(upgraded.subprotocol);
        read_frames(opening->head.data() + *head_end, opening->head.size() - *head_end);
    }

    void on_handshake_timeout() override {
        const std::string to =
            opening_->has_address ? opening_->url.authority() : opening_->url.host;
        end(opening_->stage + to + ": no answer within " +
            std::to_string(opening_->timeout.count()) + " ms");
    }

    void on_handshake_lost(const std::string& why) override {
        end(opening_->stage + opening_->url.authority() + ": " + why);
    }

private:
    // What is needed until the connection is open.
    struct Opening {
        Url url;
        std::string key;
        std::string subprotocol;
        std::string head;  // Of the answer.
        std::string stage = "looking up ";
        bool has_address = false;
        std::chrono::milliseconds timeout{0};
    };

    void end(std::string reason) {
        cut();
        finish(lost(std::move(reason)));
    }

    void on_lookup(const Endpoints& endpoints, const std::string& failure) {
        if (state() != State::kConnecting) return;
        if (endpoints.empty()) {
            end(opening_->stage + opening_->url.host + ": " + failure);
            return;
        }
        opening_->has_address = true;
        opening_->stage = "connecting to ";
        asio::async_connect(stream().socket, endpoints,
                            [link = self()](std::error_code error, const auto&) {
                                static_cast<ClientLink&>(*link).on_connected(error);
                            });
    }

    void on_connected(std::error_code error) {
        if (state() != State::kConnecting) return;
        if (error) {
            on_handshake_lost(error.message());
            return;
        }
        if (stream().secure) opening_->stage = "TLS handshake with ";
        start_stream();
    }

    AsioEventLoop::Impl& event_loop_;
    std::unique_ptr<Opening> opening_;
};

}  // namespace

struct NativeConnector::Impl {
    explicit Impl(AsioEventLoop::Impl& event_loop) : loop(event_loop) {}

    std::shared_ptr<NativeLink> connect(const ConnectOptions& options,
                                        Transport::Handler& handler) {
        const auto link = std::make_shared<ClientLink>(loop, options.frame_bytes_max, handler);
        std::string why;
        const auto url = parse_url(options.url, why);
        if (!url) {
            link->fail(why);
        } else if (!options.subprotocol.empty() && !is_token(options.subprotocol)) {
            link->fail("the subprotocol is not a token");
        } else if (url->is_tls && !link->secure(contexts, *url, options.tls, why)) {
            link->fail(why);
        } else {
            link->start(*url, options);
        }
        return link;
    }

    AsioEventLoop::Impl& loop;
    TlsClientContexts contexts;
};

NativeConnector::NativeConnector(AsioEventLoop& loop)
    : impl_(std::make_unique<Impl>(loop.impl())) {}

NativeConnector::~NativeConnector() = default;

std::unique_ptr<Transport> NativeConnector::connect(const ConnectOptions& options,
                                                    Transport::Handler& handler) {
    return std::make_unique<NativeTransport>(impl_->connect(options, handler));
}

}  // namespace petrel
