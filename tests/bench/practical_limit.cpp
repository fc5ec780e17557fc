// The practical limit of `tools/dev bench`: what a relay of WebSocket frames with JSON in them
// costs when it does nothing else. It forwards a message to whoever it is for, acks it to its
// sender and reads the receiver's ack; it keeps nothing, repeats nothing and checks no UTF-8. One
// thread, one epoll, frames parsed where they lie, everything of a turn in one write a connection.
//
// usage: practical-limit PORT     (of 127.0.0.1; until it is killed)

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/bench/relay_wire.hpp"
#include "transport/http_head.hpp"
#include "transport/websocket_frame.hpp"
#include "transport/websocket_handshake.hpp"

namespace petrel::bench {
namespace {

constexpr std::size_t kReadBytes = 256 * 1024;      // A turn of one connection: a window of 1000.
constexpr std::size_t kFrameBytesMax = 128 * 1024;  // Above: it is closed.
constexpr std::size_t kHeadBytesMax = 8192;         // Of the HTTP request. Above: it is closed.
constexpr std::size_t kOutBytesMax = 8 << 20;       // What waits for one reader. See send_to().
constexpr std::size_t kConnectionsMax = 20'000;
constexpr int kEventsMax = 256;  // A turn.

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "practical-limit: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

struct Connection {
    int descriptor = -1;
    std::string user;  // "" before the login.
    std::string in;    // The beginning of a frame that is not whole yet.
    std::string out;   // To be written, from `written` on.
    std::size_t written = 0;
    bool is_upgraded = false;
    bool is_listed = false;  // In touched_.
    bool is_full = false;    // The socket: EPOLLOUT says when to go on.
    bool is_closed = false;  // In closed_: it lives until the end of the turn.
    std::size_t place = 0;   // In connections_.
};

class Relay {
public:
    explicit Relay(std::uint16_t port)
        : epoll_(::epoll_create1(EPOLL_CLOEXEC)),
          door_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
          buffer_(kFrameBytesMax + ws::kFrameHeaderBytesMax + kReadBytes) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const int one = 1;
        ::setsockopt(door_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (::bind(door_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
            ::listen(door_, SOMAXCONN) != 0) {
            fail("listen");
        }
        watch(EPOLL_CTL_ADD, door_, EPOLLIN, nullptr);
    }

    [[noreturn]] void run() {
        std::vector<epoll_event> events(kEventsMax);
        for (;;) {
            const int count = ::epoll_wait(epoll_, events.data(), kEventsMax, -1);
            if (count < 0 && errno != EINTR) fail("epoll");
            for (int i = 0; i < count; ++i) {
                const epoll_event& event = events[static_cast<std::size_t>(i)];
                if (event.data.ptr == nullptr) {
                    accept_all();
                    continue;
                }
                auto& connection = *static_cast<Connection*>(event.data.ptr);
                if ((event.events & EPOLLOUT) != 0) go_on_writing(connection);
                if ((event.events & ~unsigned{EPOLLOUT}) != 0) read(connection);
            }
            for (Connection* const connection : touched_) write(*connection);
            touched_.clear();
            for (Connection* const connection : closed_) forget(*connection);
            closed_.clear();
        }
    }

private:
    void watch(int operation, int descriptor, unsigned what, Connection* whose) const {
        epoll_event event{};
        event.events = what;
        event.data.ptr = whose;
        if (::epoll_ctl(epoll_, operation, descriptor, &event) != 0) fail("epoll_ctl");
    }

    void accept_all() {
        for (;;) {
            const int descriptor = ::accept4(door_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (descriptor < 0) {
                if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
                fail("accept");
            }
            if (connections_.size() >= kConnectionsMax) {
                ::close(descriptor);
                continue;
            }
            const int one = 1;
            ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            auto connection = std::make_unique<Connection>();
            connection->descriptor = descriptor;
            connection->place = connections_.size();
            watch(EPOLL_CTL_ADD, descriptor, EPOLLIN, connection.get());
            connections_.push_back(std::move(connection));
        }
    }

    // ---- in ----

    // Once a turn: what is left makes epoll tell again.
    void read(Connection& from) {
        if (from.is_closed) return;
        std::memcpy(buffer_.data(), from.in.data(), from.in.size());
        char* at = buffer_.data();
        char* end = at + from.in.size();
        const ssize_t size = ::recv(from.descriptor, end, kReadBytes, 0);
        if (size <= 0) {
            if (size == 0 || (errno != EAGAIN && errno != EINTR)) close(from);
            return;
        }
        end += size;
        if (!from.is_upgraded) upgrade(from, at, end);
        while (!from.is_closed && from.is_upgraded && take_frame(from, at, end)) {
        }
        from.in.assign(at, static_cast<std::size_t>(end - at));
    }

    void upgrade(Connection& from, char*& at, const char* end) {
        const std::string_view data(at, static_cast<std::size_t>(end - at));
        const auto size = find_http_head_end(data, 0);
        if (size.value_or(data.size()) > kHeadBytesMax) return close(from);
        if (!size) return;
        const ws::Asked asked = ws::judge_upgrade(data.substr(0, *size), {}, true);
        if (asked.refusal) return close(from);
        from.out += ws::make_response(asked);
        touch(from);
        from.is_upgraded = true;
        at += *size;
    }

    // False: there is no whole one, or the connection is closed.
    bool take_frame(Connection& from, char*& at, const char* end) {
        const auto left = static_cast<std::size_t>(end - at);
        const relay::FrameHead head = relay::read_frame_head({at, left});
        if (head.size == 0) return false;
        // A close frame too: no client of this benchmark waits for the answer.
        if (head.first_byte != relay::kWholeText || !head.is_masked ||
            head.length > kFrameBytesMax) {
            close(from);
            return false;
        }
        const auto length = static_cast<std::size_t>(head.length);
        if (left - head.size < length) return false;
        char* const text = at + head.size;
        ws::apply_mask(text, length, head.mask);
        at = text + length;
        on_text(from, {text, length});
        return !from.is_closed;
    }

    void on_text(Connection& from, std::string_view text) {
        relay::Packet packet;
        if (!relay::parse(text, packet)) return close(from);
        if (from.user.empty()) return log_in(from, packet.user);
        if (!packet.ack.empty()) return;  // The receiver has it: nothing is kept that would end.
        if (packet.to.empty() || packet.fp.empty()) return close(from);
        const auto found = users_.find(packet.to);
        const bool is_forwarded = found != users_.end() && send_to(*found->second, text);
        answer(from, is_forwarded ? R"({"ack":")" : R"({"refused":")", packet.fp);
    }

    void log_in(Connection& from, std::string_view user) {
        if (user.empty() || users_.count(user) > 0) return close(from);
        from.user = user;
        users_.emplace(from.user, &from);
        answer(from, R"({"user":")", user);
    }

    // ---- out ----

    void answer(Connection& to, std::string_view begin, std::string_view value) {
        answer_.assign(begin);
        answer_ += value;
        answer_ += R"("})";
        // Who sends and does not read has no use for it.
        if (!send_to(to, answer_)) close(to);
    }

    bool send_to(Connection& to, std::string_view text) {
        if (to.is_closed || to.out.size() > kOutBytesMax) return false;
        ws::append_frame(ws::Opcode::kText, text, nullptr, to.out);
        touch(to);
        return true;
    }

    void touch(Connection& connection) {
        if (connection.is_listed) return;
        connection.is_listed = true;
        touched_.push_back(&connection);
    }

    void go_on_writing(Connection& to) {
        if (to.is_closed || !to.is_full) return;
        to.is_full = false;
        watch(EPOLL_CTL_MOD, to.descriptor, EPOLLIN, &to);
        touch(to);
    }

    void write(Connection& to) {
        to.is_listed = false;
        while (!to.is_closed && !to.is_full && to.written < to.out.size()) {
            const ssize_t size = ::send(to.descriptor, to.out.data() + to.written,
                                        to.out.size() - to.written, MSG_NOSIGNAL);
            if (size >= 0) {
                to.written += static_cast<std::size_t>(size);
            } else if (errno == EAGAIN) {
                to.is_full = true;
                watch(EPOLL_CTL_MOD, to.descriptor, EPOLLIN | EPOLLOUT, &to);
            } else if (errno != EINTR) {
                close(to);
            }
        }
        // Not with each write: what is long would be moved again and again.
        if (to.written > to.out.size() / 2) {
            to.out.erase(0, to.written);
            to.written = 0;
        }
    }

    // ---- the end ----

    void close(Connection& connection) {
        if (connection.is_closed) return;
        connection.is_closed = true;
        closed_.push_back(&connection);
    }

    void forget(Connection& connection) {
        if (!connection.user.empty()) users_.erase(connection.user);
        ::close(connection.descriptor);
        const std::size_t place = connection.place;
        connections_.back()->place = place;
        std::swap(connections_[place], connections_.back());
        connections_.pop_back();
    }

    const int epoll_;
    const int door_;
    std::vector<char> buffer_;  // What is being read, of one connection at a time.
    std::vector<std::unique_ptr<Connection>> connections_;
    std::unordered_map<std::string_view, Connection*> users_;  // The names are the connections'.
    std::vector<Connection*> touched_;  // Something is to be written at the end of the turn.
    std::vector<Connection*> closed_;
    std::string answer_;
};

}  // namespace
}  // namespace petrel::bench

int main(int argc, char** argv) {
    const long port = argc == 2 ? std::strtol(argv[1], nullptr, 10) : 0;
    if (port < 1 || port > 65'535) {
        std::fputs("usage: practical-limit PORT\n", stderr);
        return 2;
    }
    petrel::bench::Relay(static_cast<std::uint16_t>(port)).run();
}
