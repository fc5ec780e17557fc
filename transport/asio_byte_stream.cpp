#include "transport/asio_byte_stream.hpp"

#include <array>
#include <chrono>
#include <string>
#include <utility>

#include "transport/asio_event_loop_impl.hpp"

namespace petrel {
namespace {

using asio::ip::tcp;

std::string to_text(const tcp::endpoint& endpoint) {
    const std::string address = endpoint.address().to_string();
    const bool is_v6 = endpoint.address().is_v6();
    return (is_v6 ? "[" + address + "]" : address) + ":" + std::to_string(endpoint.port());
}

// Shared with what is under way in Asio, so that the stream may be destroyed in its own callback.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    explicit Connection(tcp::socket socket) : socket_(std::move(socket)) {}

    void set_handler(ByteStream::Handler& handler) { handler_ = &handler; }

    void begin() {
        if (!handler_) return;  // Dropped by who got it.
        std::error_code ignored;
        socket_.set_option(tcp::no_delay(true), ignored);
        is_open_ = true;
        read();
    }

    void connect(AsioEventLoop::Impl& loop, const std::string& host, std::uint16_t port) {
        loop.look_up(host, port,
                     [self = shared_from_this()](const AsioEventLoop::Impl::Endpoints& endpoints,
                                                 const std::string& failure) {
                         if (!self->handler_) return;
                         if (!failure.empty()) return self->fail();
                         self->connect_to(endpoints);
                     });
    }

    void write(std::string_view bytes) {
        if (!is_open_ || is_writing_) return;
        out_.assign(bytes);
        is_writing_ = true;
        asio::async_write(socket_, asio::buffer(out_),
                          [self = shared_from_this()](std::error_code error, std::size_t) {
                              self->is_writing_ = false;
                              if (!self->handler_) return;
                              if (error) return self->fail();
                              if (self->is_finish_wanted_) self->finish();
                              self->handler_->on_sent();
                          });
    }
    bool is_writing() const { return is_writing_; }

    void pause() { is_paused_ = true; }
    void resume() {
        if (!std::exchange(is_paused_, false)) return;
        read();
    }

    void finish() {
        is_finish_wanted_ = true;
        if (is_writing_ || !is_open_) return;
        std::error_code ignored;
        socket_.shutdown(tcp::socket::shutdown_send, ignored);
    }

    void reset() {
        std::error_code ignored;
        // Closing with a linger time of 0 sends RST (SO_LINGER, tcp(7)).
        if (is_open_) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
        abandon();
    }

    void abandon() {
        handler_ = nullptr;
        is_open_ = false;
        std::error_code ignored;
        socket_.close(ignored);
    }

private:
    void connect_to(const AsioEventLoop::Impl::Endpoints& endpoints) {
        asio::async_connect(
            socket_, endpoints,
            [self = shared_from_this()](std::error_code error, const tcp::endpoint&) {
                if (!self->handler_) return;
                if (error) return self->fail();
                self->begin();
                self->handler_->on_open();
            });
    }

    void read() {
        if (is_reading_ || is_paused_ || !is_open_ || has_ended_) return;
        is_reading_ = true;
        socket_.async_read_some(asio::buffer(in_), [self = shared_from_this()](
                                                       std::error_code error, std::size_t count) {
            self->is_reading_ = false;
            if (!self->handler_) return;
            if (error == asio::error::eof) {
                self->has_ended_ = true;
                return self->handler_->on_finished();
            }
            if (error) return self->fail();
            self->handler_->on_bytes(std::string_view(self->in_.data(), count));
            self->read();
        });
    }

    void fail() {
        ByteStream::Handler* const handler = std::exchange(handler_, nullptr);
        abandon();
        if (handler) handler->on_broken();
    }

    tcp::socket socket_;
    ByteStream::Handler* handler_ = nullptr;  // Null once nobody is to be told anything.
    std::array<char, 16 * 1024> in_{};
    std::string out_;
    bool is_open_ = false;
    bool is_reading_ = false;
    bool is_writing_ = false;
    bool is_paused_ = false;
    bool has_ended_ = false;
    bool is_finish_wanted_ = false;
};

class AsioByteStream final : public ByteStream {
public:
    explicit AsioByteStream(std::shared_ptr<Connection> connection)
        : connection_(std::move(connection)) {}
    ~AsioByteStream() override { connection_->abandon(); }

    void set_handler(Handler& handler) override { connection_->set_handler(handler); }
    void write(std::string_view bytes) override { connection_->write(bytes); }
    bool is_writing() const override { return connection_->is_writing(); }
    void pause_reading() override { connection_->pause(); }
    void resume_reading() override { connection_->resume(); }
    void finish() override { connection_->finish(); }
    void reset() override { connection_->reset(); }

private:
    std::shared_ptr<Connection> connection_;
};

}  // namespace

struct AsioByteNetwork::Impl : std::enable_shared_from_this<AsioByteNetwork::Impl> {
    explicit Impl(AsioEventLoop::Impl& owner) : loop(owner), socket(owner.io), pause(owner.io) {}

    void accept() {
        socket.async_accept([self = shared_from_this()](std::error_code error, tcp::socket peer) {
            if (!self->acceptor) return;
            if (error) return self->accept_later();
            std::error_code gone;
            const tcp::endpoint endpoint = peer.remote_endpoint(gone);
            if (!gone) {
                const auto connection = std::make_shared<Connection>(std::move(peer));
                self->acceptor->on_accept(std::make_unique<AsioByteStream>(connection),
                                          to_text(endpoint));
                connection->begin();
            }
            if (self->acceptor) self->accept();
        });
    }

    // Out of descriptors, most likely: asking again at once would spin.
    void accept_later() {
        pause.expires_after(std::chrono::milliseconds{50});
        pause.async_wait([self = shared_from_this()](std::error_code error) {
            if (!error && self->acceptor) self->accept();
        });
    }

    AsioEventLoop::Impl& loop;
    tcp::acceptor socket;
    asio::steady_timer pause;
    ByteNetwork::Acceptor* acceptor = nullptr;  // Null: nobody listens.
};

AsioByteNetwork::AsioByteNetwork(AsioEventLoop& loop)
    : impl_(std::make_shared<Impl>(loop.impl())) {}

AsioByteNetwork::~AsioByteNetwork() { stop_listening(); }

Result<std::uint16_t> AsioByteNetwork::listen(const std::string& address, std::uint16_t port,
                                              Acceptor& acceptor) {
    std::error_code error;
    // Once, before the loop runs.
    tcp::resolver resolver(impl_->loop.io);
    const auto found = resolver.resolve(address, "", tcp::resolver::passive, error);
    if (error) return error;
    const tcp::endpoint endpoint(found.begin()->endpoint().address(), port);
    tcp::acceptor& socket = impl_->socket;
    socket.open(endpoint.protocol(), error);
    if (!error) socket.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) socket.bind(endpoint, error);
    if (!error) socket.listen(asio::socket_base::max_listen_connections, error);
    const tcp::endpoint bound = error ? endpoint : socket.local_endpoint(error);
    if (error) {
        std::error_code ignored;
        socket.close(ignored);
        return error;
    }
    impl_->acceptor = &acceptor;
    impl_->accept();
    return bound.port();
}

void AsioByteNetwork::stop_listening() {
    impl_->acceptor = nullptr;
    std::error_code ignored;
    impl_->socket.close(ignored);
    impl_->pause.cancel();
}

std::unique_ptr<ByteStream> AsioByteNetwork::connect(const std::string& host, std::uint16_t port,
                                                     ByteStream::Handler& handler) {
    const auto connection = std::make_shared<Connection>(tcp::socket(impl_->loop.io));
    connection->set_handler(handler);
    connection->connect(impl_->loop, host, port);
    return std::make_unique<AsioByteStream>(connection);
}

}  // namespace petrel
