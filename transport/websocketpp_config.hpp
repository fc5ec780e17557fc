#pragma once

#include <asio.hpp>
#if PETREL_HAS_TLS
#include <asio/ssl.hpp>
#endif
#include <websocketpp/concurrency/none.hpp>
#include <websocketpp/config/core.hpp>
#include <websocketpp/logger/stub.hpp>
#include <websocketpp/random/random_device.hpp>
#include <websocketpp/transport/asio/endpoint.hpp>
#if PETREL_HAS_TLS
#include <websocketpp/transport/asio/security/tls.hpp>
#endif

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "transport/tls.hpp"

// How Petrel sets websocketpp up: one thread, no logs, no compression, and a few policies of its
// own where the library's have gaps. For transport/*.cpp only.

namespace petrel::wspp {

// No frame_bytes_max goes beyond it.
constexpr std::size_t kFrameBytesHardMax = 16 << 20;

class MessageManager;

// A frame or a whole message. Unlike the library's it cannot grow without end: the library's own
// size check is passed by a continuation frame whose 64-bit length makes the sum wrap.
class Message {
public:
    using ptr = std::shared_ptr<Message>;
    using Opcode = websocketpp::frame::opcode::value;

    Message() = default;
    Message(Opcode opcode, std::size_t size) : opcode_(opcode) {
        // What a header announces is not yet worth its memory.
        constexpr std::size_t kReserveMax = 65'536;
        payload_.reserve(std::min(size, kReserveMax));
    }

    bool get_prepared() const { return is_prepared_; }
    void set_prepared(bool value) { is_prepared_ = value; }
    bool get_compressed() const { return false; }
    void set_compressed(bool) {}
    bool get_terminal() const { return is_terminal_; }
    void set_terminal(bool value) { is_terminal_ = value; }
    bool get_fin() const { return is_fin_; }
    void set_fin(bool value) { is_fin_ = value; }
    Opcode get_opcode() const { return opcode_; }
    void set_opcode(Opcode opcode) { opcode_ = opcode; }
    const std::string& get_header() const { return header_; }
    void set_header(const std::string& header) { header_ = header; }
    const std::string& get_payload() const { return payload_; }
    std::string& get_raw_payload() {
        if (payload_.size() > kFrameBytesHardMax) payload_.clear();
        return payload_;
    }
    void set_payload(const std::string& payload) { payload_ = payload; }
    void set_payload(const void* payload, std::size_t size) {
        payload_.assign(static_cast<const char*>(payload), size);
    }
    void append_payload(const std::string& payload) { payload_ += payload; }
    void append_payload(const void* payload, std::size_t size) {
        payload_.append(static_cast<const char*>(payload), size);
    }

private:
    Opcode opcode_ = websocketpp::frame::opcode::text;
    bool is_prepared_ = false;
    bool is_terminal_ = false;
    bool is_fin_ = true;
    std::string header_;
    std::string payload_;
};

class MessageManager {
public:
    using ptr = std::shared_ptr<MessageManager>;
    using weak_ptr = std::weak_ptr<MessageManager>;
    using message_ptr = Message::ptr;

    Message::ptr get_message() { return std::make_shared<Message>(); }
    Message::ptr get_message(Message::Opcode opcode, std::size_t size) {
        return std::make_shared<Message>(opcode, size);
    }
};

class EndpointMessageManager {
public:
    using con_msg_man_ptr = MessageManager::ptr;
    MessageManager::ptr get_manager() const { return std::make_shared<MessageManager>(); }
};

// What every connection object carries along.
struct ConnectionBase {
    std::shared_ptr<void> endpoint;  // The connection refers to its endpoint's random source.
    std::shared_ptr<void> lease;     // Counts the socket at its listener.
};

// Ends a connection so that the peer can read the last frame: a close() with unread input makes
// the kernel send a reset, and that discards what the peer has not read yet. Sends the end, takes
// what still comes and drops it, until the peer's end or a limit.
class Linger : public std::enable_shared_from_this<Linger> {
public:
    Linger(std::shared_ptr<void> owner, asio::ip::tcp::socket& socket)
        : owner_(std::move(owner)), socket_(socket), timer_(socket.get_executor()) {}

    void start_timer() {
        timer_.expires_after(kTimeMax);
        timer_.async_wait([self = shared_from_this()](std::error_code error) {
            if (!error) self->end();
        });
    }

    void drain() {
        std::error_code error;
        socket_.shutdown(asio::ip::tcp::socket::shutdown_send, error);
        if (error) {
            end();
            return;
        }
        read();
    }

private:
    static constexpr std::chrono::seconds kTimeMax{2};
    static constexpr std::size_t kBytesMax = 32 << 20;

    void read() {
        socket_.async_read_some(asio::buffer(sink_), [self = shared_from_this()](
                                                         std::error_code error, std::size_t size) {
            self->bytes_ += size;
            if (error || self->bytes_ > kBytesMax) {
                self->end();
            } else {
                self->read();
            }
        });
    }

    void end() {
        timer_.cancel();
        std::error_code ignored;
        socket_.close(ignored);
    }

    std::shared_ptr<void> owner_;  // Of the socket.
    asio::ip::tcp::socket& socket_;
    asio::steady_timer timer_;
    std::size_t bytes_ = 0;
    std::array<char, 4096> sink_;
};

namespace library_plain = websocketpp::transport::asio::basic_socket;

class PlainSocket : public library_plain::connection {
public:
    std::string handshake_failure() const { return {}; }

protected:
    void async_shutdown(websocketpp::transport::asio::socket::shutdown_handler handler) {
        const auto linger = std::make_shared<Linger>(get_shared(), get_next_layer());
        linger->start_timer();
        linger->drain();
        handler(std::error_code());
    }
};

class PlainEndpoint : public library_plain::endpoint {
public:
    using socket_con_type = PlainSocket;
    using socket_con_ptr = PlainSocket::ptr;
};

#if PETREL_HAS_TLS

namespace library_tls = websocketpp::transport::asio::tls_socket;

class TlsSocket : public library_tls::connection {
public:
    // A sentence; "" while nothing failed.
    const std::string& handshake_failure() const { return failure_; }

protected:
    std::error_code init_asio(io_service_ptr service, strand_ptr strand, bool is_server) {
        is_server_ = is_server;
        return library_tls::connection::init_asio(service, strand, is_server);
    }

    // The library's would send SNI with an IP address, which RFC 6066 section 3 forbids.
    void pre_init(websocketpp::transport::init_handler callback) { callback(std::error_code()); }

    void post_init(websocketpp::transport::init_handler callback) {
        auto self = std::static_pointer_cast<TlsSocket>(get_shared());
        get_socket().async_handshake(
            is_server_ ? asio::ssl::stream_base::server : asio::ssl::stream_base::client,
            [self, callback](std::error_code error) {
                self->is_up_ = !error;
                if (error) {
                    self->failure_ =
                        describe_tls_failure(self->get_socket().native_handle(), error);
                }
                callback(error);
            });
    }

    // Does not wait for the peer's close_notify: nothing is read after it anyway.
    void async_shutdown(websocketpp::transport::asio::socket::shutdown_handler handler) {
        const auto linger = std::make_shared<Linger>(get_shared(), get_next_layer());
        linger->start_timer();
        if (is_up_ && get_next_layer().is_open()) {
            get_socket().async_shutdown([linger](std::error_code) { linger->drain(); });
        } else {
            linger->drain();
        }
        handler(std::error_code());
    }

private:
    bool is_server_ = false;
    bool is_up_ = false;
    std::string failure_;
};

class TlsEndpoint : public library_tls::endpoint {
public:
    using socket_con_type = TlsSocket;
    using socket_con_ptr = TlsSocket::ptr;
};

#endif  // PETREL_HAS_TLS

template <class SocketEndpoint>
struct Config : public websocketpp::config::core {
    using type = Config;
    using base = websocketpp::config::core;

    using concurrency_type = websocketpp::concurrency::none;
    using request_type = base::request_type;
    using response_type = base::response_type;
    using message_type = Message;
    using con_msg_manager_type = MessageManager;
    using endpoint_msg_manager_type = EndpointMessageManager;
    using alog_type = websocketpp::log::stub;
    using elog_type = websocketpp::log::stub;
    using rng_type =
        websocketpp::random::random_device::int_generator<std::uint32_t, concurrency_type>;
    using connection_base = ConnectionBase;
    static bool const enable_multithreading = false;
    static std::size_t const connection_read_buffer_size = 8192;

    struct transport_config : public base::transport_config {
        using concurrency_type = type::concurrency_type;
        using alog_type = type::alog_type;
        using elog_type = type::elog_type;
        using request_type = type::request_type;
        using response_type = type::response_type;
        using socket_type = SocketEndpoint;
        static bool const enable_multithreading = false;
        // One timer of ours covers the whole opening handshake.
        static const long timeout_socket_post_init = 0;
    };
    using transport_type = websocketpp::transport::asio::endpoint<transport_config>;
};

using PlainConfig = Config<PlainEndpoint>;
#if PETREL_HAS_TLS
using TlsConfig = Config<TlsEndpoint>;
#endif

}  // namespace petrel::wspp
