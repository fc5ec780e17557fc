#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

namespace petrel::test {

inline sockaddr_in loopback_address(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// One end of a TCP connection with no WebSocket library behind it. Never blocks.
class RawSocket {
public:
    explicit RawSocket(int fd) : fd_(fd) { fcntl(fd_, F_SETFL, O_NONBLOCK); }
    ~RawSocket() { ::close(fd_); }
    RawSocket(const RawSocket&) = delete;
    RawSocket& operator=(const RawSocket&) = delete;

    // To a listening port of this machine: the kernel accepts at once.
    static int connect(std::uint16_t port, int receive_buffer = 0) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (receive_buffer > 0) {
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        }
        const sockaddr_in address = loopback_address(port);
        ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
        return fd;
    }

    bool send(std::string_view bytes) {
        return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
               static_cast<ssize_t>(bytes.size());
    }

    // As much of `bytes` as there is room for, `sent` counting on. False: no room.
    bool send_some(std::string_view bytes, std::size_t& sent) {
        bytes.remove_prefix(sent % bytes.size());
        const ssize_t size = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (size > 0) sent += static_cast<std::size_t>(size);
        return size > 0;
    }
    void end() { shutdown(fd_, SHUT_WR); }

    // Takes what is there.
    void read() {
        std::array<char, 65'536> buffer;
        for (;;) {
            const ssize_t size = recv(fd_, buffer.data(), buffer.size(), 0);
            if (size > 0) {
                in.append(buffer.data(), static_cast<std::size_t>(size));
                continue;
            }
            if (size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) is_ended = true;
            return;
        }
    }

    bool has(std::string_view text) {
        read();
        return in.find(text) != std::string::npos;
    }
    bool has_ended() {
        read();
        return is_ended;
    }

    std::string in;
    bool is_ended = false;

private:
    int fd_;
};

// A port on which nothing is answered but what the test sends.
class RawListener {
public:
    RawListener() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address = loopback_address(0);
        socklen_t size = sizeof address;
        bind(fd_, reinterpret_cast<sockaddr*>(&address), size);
        ::listen(fd_, 16);
        getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
        port = ntohs(address.sin_port);
        fcntl(fd_, F_SETFL, O_NONBLOCK);
    }
    ~RawListener() { ::close(fd_); }
    RawListener(const RawListener&) = delete;
    RawListener& operator=(const RawListener&) = delete;

    int accept() { return ::accept(fd_, nullptr, nullptr); }  // -1: nobody yet.

    std::uint16_t port = 0;

private:
    int fd_;
};

inline std::string upgrade_request(const std::string& path = "/ws",
                                   const std::string& version = "13") {
    return "GET " + path +
           " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: " +
           version + "\r\n\r\n";
}

// A client's frame, masked with zeros, or a server's. `first` is FIN and opcode; `announced` a
// false length.
inline std::string frame(std::uint8_t first, std::string_view payload,
                         std::uint64_t announced = UINT64_MAX, bool is_masked = true) {
    const unsigned mask_bit = is_masked ? 0x80 : 0;
    const bool is_true = announced == UINT64_MAX;
    const std::uint64_t size = is_true ? payload.size() : announced;
    std::string out(1, static_cast<char>(first));
    if (size < 126) {
        out += static_cast<char>(mask_bit | size);
    } else if (size <= 0xffff) {
        out += static_cast<char>(mask_bit | 126);
        out += static_cast<char>(size >> 8);
        out += static_cast<char>(size & 0xff);
    } else {
        out += static_cast<char>(mask_bit | 127);
        for (int shift = 56; shift >= 0; shift -= 8) {
            out += static_cast<char>((size >> shift) & 0xff);
        }
    }
    if (is_masked) out.append(4, '\0');
    out += payload;
    return out;
}

}  // namespace petrel::test
