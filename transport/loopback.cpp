#include "transport/loopback.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "protocol/utf8.hpp"
#include "transport/handshake.hpp"

namespace petrel {
namespace {

constexpr std::uint16_t kFirstPort = 1024;  // Where the search for a free one begins.

// One end of a connection. Lives as long as its Transport or a task that still delivers for it.
//
//   connecting -- open() --> open -- close() --> closing -- peer's close --> closed
//        \------------------- \---------------------\--- cut, refused -------^
class End : public std::enable_shared_from_this<End> {
public:
    End(EventLoop& loop, std::size_t frame_bytes_max, Transport::Handler* handler)
        : loop_(loop), frame_bytes_max_(frame_bytes_max), handler_(handler) {}

    static void join(const std::shared_ptr<End>& a, const std::shared_ptr<End>& b) {
        a->peer_ = b;
        b->peer_ = a;
    }

    bool is_connecting() const { return state_ == State::kConnecting; }
    void set_handler(Transport::Handler& handler) { handler_ = &handler; }
    void set_lease(std::shared_ptr<void> lease) { lease_ = std::move(lease); }
    std::size_t queued_bytes() const { return queued_bytes_; }
    std::size_t queued_packets() const { return queued_packets_; }

    void accept() { state_ = State::kOpen; }
    void open(const std::string& subprotocol) {
        if (state_ != State::kConnecting) return;
        state_ = State::kOpen;
        was_open_ = true;
        if (handler_) handler_->on_open(subprotocol);
    }
    void set_accepted() { was_open_ = true; }

    void send(std::string_view text) {
        if (state_ != State::kOpen) return;
        queued_bytes_ += text.size();
        ++queued_packets_;
        is_drain_due_ = is_drain_due_ || queued_bytes_ > 0;
        outbox_.push_back({false, 0, std::string(text)});
        schedule();
    }

    void close(std::uint16_t code, std::string_view reason) {
        if (state_ == State::kConnecting) {
            finish({1006, "abandoned", false, 0, {}});
        } else if (state_ == State::kOpen) {
            state_ = State::kClosing;
            outbox_.push_back(
                {true, sendable_close_code(code), std::string(cut_close_reason(reason))});
            schedule();
        }
    }

    // The Transport is gone.
    void detach() {
        handler_ = nullptr;
        if (state_ == State::kClosing || state_ == State::kClosed) return;
        const auto peer = peer_.lock();
        forget();
        if (peer) {
            loop_.post([peer] { peer->lose("the peer cut the connection"); });
        }
    }

    void finish(CloseInfo info) {
        if (state_ == State::kClosed) return;
        info.was_open = was_open_;
        forget();
        loop_.post([self = shared_from_this(), info = std::move(info)] {
            if (auto* handler = std::exchange(self->handler_, nullptr)) handler->on_closed(info);
        });
    }

private:
    enum class State { kConnecting, kOpen, kClosing, kClosed };

    struct Frame {
        bool is_close = false;
        std::uint16_t code = 0;
        std::string text;  // Or the reason.
    };

    void forget() {
        state_ = State::kClosed;
        outbox_.clear();
        queued_bytes_ = 0;
        queued_packets_ = 0;
        lease_.reset();
    }

    void lose(const char* reason) { finish({1006, reason, false, 0, {}}); }

    void schedule() {
        if (is_scheduled_) return;
        is_scheduled_ = true;
        loop_.post([self = shared_from_this()] { self->deliver(); });
    }

    void deliver() {
        is_scheduled_ = false;
        // What the peer answers to this batch waits for its own turn, and so does what is sent on
        // from inside its handler.
        for (std::size_t left = outbox_.size(); left > 0 && !outbox_.empty(); --left) {
            const Frame frame = std::move(outbox_.front());
            outbox_.pop_front();
            if (!frame.is_close) {
                queued_bytes_ -= frame.text.size();
                --queued_packets_;
            }
            const auto peer = peer_.lock();
            if (!peer) {
                lose("the peer is gone");
                return;
            }
            peer->receive(frame);
        }
        if (is_drain_due_ && queued_bytes_ == 0 && state_ == State::kOpen) {
            is_drain_due_ = false;
            if (handler_) handler_->on_drained();
        }
    }

    void receive(const Frame& frame) {
        if (state_ == State::kClosed) return;
        if (frame.is_close) {
            // The answer; to the other end's own close it is one too.
            if (const auto peer = peer_.lock()) {
                loop_.post([peer, code = frame.code, reason = frame.text] {
                    peer->finish({code, reason, false, 0, {}});
                });
            }
            finish({frame.code, frame.text, false, 0, {}});
        } else if (state_ != State::kOpen) {
            return;
        } else if (frame.text.size() > frame_bytes_max_) {
            close(1009, "A message was too large");
        } else if (!is_valid_utf8(frame.text)) {
            close(1007, "Invalid UTF-8");
        } else if (handler_) {
            handler_->on_text(frame.text);
        }
    }

    EventLoop& loop_;
    const std::size_t frame_bytes_max_;
    Transport::Handler* handler_;
    std::weak_ptr<End> peer_;
    State state_ = State::kConnecting;
    bool was_open_ = false;
    bool is_scheduled_ = false;
    bool is_drain_due_ = false;
    std::size_t queued_bytes_ = 0;
    std::size_t queued_packets_ = 0;
    std::deque<Frame> outbox_;
    std::shared_ptr<void> lease_;  // Counts at the listener while connected.
};

class LoopbackTransport final : public Transport {
public:
    explicit LoopbackTransport(std::shared_ptr<End> end) : end_(std::move(end)) {}
    ~LoopbackTransport() override { end_->detach(); }
    void set_handler(Handler& handler) override { end_->set_handler(handler); }
    void send(std::string_view text) override { end_->send(text); }
    void close(std::uint16_t code, std::string_view reason) override { end_->close(code, reason); }
    std::size_t queued_bytes() const override { return end_->queued_bytes(); }
    std::size_t queued_packets() const override { return end_->queued_packets(); }

private:
    std::shared_ptr<End> end_;
};

struct Port {
    ListenOptions options;
    Listener::Handler* handler = nullptr;
};

}  // namespace

struct LoopbackNetwork::Impl {
    explicit Impl(EventLoop& event_loop) : loop(event_loop) {}

    std::shared_ptr<Port> find(std::uint16_t number) {
        const auto it = ports.find(number);
        if (it == ports.end()) return nullptr;
        auto& shared = it->second;  // In turn, as the kernel spreads them.
        std::rotate(shared.begin(), shared.begin() + 1, shared.end());
        return shared.back();
    }

    std::uint16_t free_port() const {
        for (std::uint32_t number = kFirstPort; number <= UINT16_MAX; ++number) {
            if (ports.count(static_cast<std::uint16_t>(number)) == 0) {
                return static_cast<std::uint16_t>(number);
            }
        }
        return 0;
    }

    void connect(const std::shared_ptr<End>& client, const Url& url,
                 const std::string& subprotocol) {
        if (!client->is_connecting()) return;
        const auto refuse = [&client](std::string reason, int status) {
            client->finish({1006, std::move(reason), false, status, {}});
        };
        const auto port = find(url.port);
        const std::string path(path_of(url.resource));
        if (!port) return refuse("connection refused", 0);
        if (!is_known_path(port->options.paths, path)) {
            return refuse("the server answered HTTP 404", 404);
        }
        const std::string address = "loopback:" + std::to_string(next_peer++);
        std::shared_ptr<ConnectionLimits::Place> place = port->options.limits->take(address);
        if (!place) {
            refuse("the server answered HTTP 503", 503);
        } else {
            PeerInfo peer;
            peer.address = address;
            peer.place = place;
            peer.path = path;
            if (!subprotocol.empty()) peer.subprotocol = choose_subprotocol({subprotocol});
            const auto server = std::make_shared<End>(loop, port->options.frame_bytes_max, nullptr);
            End::join(client, server);
            server->set_lease(std::move(place));
            server->accept();
            server->set_accepted();
            port->handler->on_accept(std::make_unique<LoopbackTransport>(server), peer);
            client->open(peer.subprotocol);
        }
    }

    EventLoop& loop;
    std::map<std::uint16_t, std::vector<std::shared_ptr<Port>>> ports;
    std::uint64_t next_peer = 1;
};

namespace {

class LoopbackConnector final : public Connector {
public:
    explicit LoopbackConnector(std::shared_ptr<LoopbackNetwork::Impl> network)
        : network_(std::move(network)) {}

    std::unique_ptr<Transport> connect(const ConnectOptions& options,
                                       Transport::Handler& handler) override {
        const auto client =
            std::make_shared<End>(network_->loop, options.frame_bytes_max, &handler);
        std::string why;
        const auto url = parse_url(options.url, why);
        if (url && url->is_tls) why = "the loopback network has no TLS";
        if (!options.subprotocol.empty() && !is_token(options.subprotocol)) {
            why = "the subprotocol is not a token";
        }
        if (why.empty()) {
            network_->loop.post(
                [network = network_, client, url = *url, subprotocol = options.subprotocol] {
                    network->connect(client, url, subprotocol);
                });
        } else {
            client->finish({1006, why, false, 0, {}});
        }
        return std::make_unique<LoopbackTransport>(client);
    }

private:
    std::shared_ptr<LoopbackNetwork::Impl> network_;
};

class LoopbackListener final : public Listener {
public:
    explicit LoopbackListener(std::shared_ptr<LoopbackNetwork::Impl> network)
        : network_(std::move(network)) {}
    ~LoopbackListener() override { stop(); }

    Result<std::uint16_t> listen(const ListenOptions& options, Handler& handler) override {
        if (port_) return fail(options, std::errc::already_connected);
        number_ = options.port != 0 ? options.port : network_->free_port();
        if (number_ == 0) return fail(options, std::errc::address_not_available);
        const auto it = network_->ports.find(number_);
        if (it != network_->ports.end() &&
            !(options.reuse_port && it->second.front()->options.reuse_port)) {
            return fail(options, std::errc::address_in_use);
        }
        port_ = std::make_shared<Port>(Port{options, &handler});
        network_->ports[number_].push_back(port_);
        return number_;
    }

    std::string last_error() const override { return last_error_; }

    void stop() override {
        if (!port_) return;
        const auto it = network_->ports.find(number_);
        auto& shared = it->second;
        shared.erase(std::remove(shared.begin(), shared.end(), port_), shared.end());
        if (shared.empty()) network_->ports.erase(it);
        port_.reset();
    }

private:
    std::error_code fail(const ListenOptions& options, std::errc code) {
        const std::error_code error = std::make_error_code(code);
        last_error_ = "loopback:" + std::to_string(options.port) + ": " + error.message();
        return error;
    }

    std::shared_ptr<LoopbackNetwork::Impl> network_;
    std::shared_ptr<Port> port_;  // While listening.
    std::uint16_t number_ = 0;
    std::string last_error_;
};

}  // namespace

LoopbackNetwork::LoopbackNetwork(EventLoop& loop) : impl_(std::make_shared<Impl>(loop)) {}
LoopbackNetwork::~LoopbackNetwork() = default;

std::unique_ptr<Connector> LoopbackNetwork::make_connector() {
    return std::make_unique<LoopbackConnector>(impl_);
}

std::unique_ptr<Listener> LoopbackNetwork::make_listener() {
    return std::make_unique<LoopbackListener>(impl_);
}

}  // namespace petrel
