#pragma once

#include <cstddef>
#include <memory>
#include <system_error>

#include "transport/asio_types.hpp"

// A TCP socket that never blocks, with or without TLS on it. For transport/*.cpp only.

namespace petrel {

// What became of one attempt to read or write.
struct Io {
    enum class Status { kDone, kWantRead, kWantWrite, kEnded, kFailed };
    Status status = Status::kDone;
    std::size_t size = 0;   // kDone: at least 1.
    std::error_code error;  // kFailed.
};

// TLS over a socket. Whichever call wants to read or to write is to be repeated once the socket
// can.
class SecureSession {
public:
    virtual ~SecureSession() = default;
    virtual Io shake_hands() = 0;  // kDone: reading and writing may begin.
    virtual Io read(char* data, std::size_t size) = 0;
    virtual Io write(const char* data, std::size_t size) = 0;
    virtual void say_goodbye() = 0;  // close_notify, if there is room for it.
    virtual std::string describe(std::error_code why) = 0;  // Why shake_hands() failed.
};

class NativeStream {
public:
    explicit NativeStream(asio::io_context& io) : socket(io) {}

    // Of a connected socket, before anything else.
    void prepare();
    Io read(char* data, std::size_t size);
    Io write(const char* data, std::size_t size);
    void end_writing();
    void close();

    TcpSocket socket;
    std::unique_ptr<SecureSession> secure;  // nullptr: plain.
};

}  // namespace petrel
