#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/error.hpp"

// Connections as bytes, below the WebSocket: for a relay that does to bytes what networks do.

namespace petrel {

// One TCP connection. Single-threaded: lives on its EventLoop. Handler calls come from the loop
// only, never from inside a call to this object.
class ByteStream {
public:
    class Handler {
    public:
        virtual void on_open() = 0;  // A connecting one only.
        virtual void on_bytes(std::string_view bytes) = 0;
        virtual void on_sent() = 0;  // What write() was given has gone to the kernel.
        // The peer says no more; it may still listen. Once.
        virtual void on_finished() = 0;
        virtual void on_broken() = 0;  // Reset, or never opened. Once, and last.

    protected:
        ~Handler() = default;
    };

    // Destroying is allowed at any time, also from inside a Handler call: no call follows. The
    // socket closes as sockets close.
    virtual ~ByteStream() = default;

    // Accepted streams only, before returning from on_accept.
    virtual void set_handler(Handler& handler) = 0;

    // One write at a time: the next after on_sent(). Copied. Leaves at once, alone (TCP_NODELAY).
    virtual void write(std::string_view bytes) = 0;
    virtual bool is_writing() const = 0;
    // At most one on_bytes more until resume_reading(): the kernel's buffers fill, and the peer
    // feels it.
    virtual void pause_reading() = 0;
    virtual void resume_reading() = 0;
    virtual void finish() = 0;  // FIN, behind what was written.
    virtual void reset() = 0;   // RST. No call follows.
};

class ByteNetwork {
public:
    class Acceptor {
    public:
        virtual void on_accept(std::unique_ptr<ByteStream> stream, const std::string& peer) = 0;

    protected:
        ~Acceptor() = default;
    };

    virtual ~ByteNetwork() = default;
    // The port; 0 picks one. One listen() a network.
    virtual Result<std::uint16_t> listen(const std::string& address, std::uint16_t port,
                                         Acceptor& acceptor) = 0;
    virtual void stop_listening() = 0;  // No further on_accept. Idempotent.
    virtual std::unique_ptr<ByteStream> connect(const std::string& host, std::uint16_t port,
                                                ByteStream::Handler& handler) = 0;
};

}  // namespace petrel
