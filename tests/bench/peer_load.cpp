// The load of `petrel bench` for other systems: pairs of a sender and a receiver, each sender with
// `window` messages that are not yet acked. One thread, one epoll, one line of JSON at the end.
//
// usage: peer-load PROTOCOL PORT SERVER_PID PAIRS WINDOW MESSAGES SIZE

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/peer_protocols.hpp"
#include "tools/petrel/child_gateway.hpp"
#include "tools/petrel/histogram.hpp"
#include "tools/petrel/json_line.hpp"

namespace petrel::bench {
namespace {

using std::chrono::nanoseconds;

constexpr int kSilenceMaxMs = 30'000;  // Without anything from the server: it is over.
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kHeader = 12 + 1 + 16 + 1;  // "NNNNNNNNNNNN DDDDDDDDDDDDDDDD "

nanoseconds now() { return std::chrono::steady_clock::now().time_since_epoch(); }

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "peer-load: %s\n", why.c_str());
    std::exit(1);
}

struct Options {
    std::string protocol;
    std::uint16_t port = 0;
    pid_t server = 0;
    std::uint32_t pairs = 1;
    PeerOptions peer;
    std::uint64_t messages = 0;
};

class Load;

class End final : public PeerConnection::Listener {
public:
    End(Load& load, std::size_t pair, bool is_sender);
    ~End() { ::close(descriptor_); }
    End(const End&) = delete;
    End& operator=(const End&) = delete;

    void connect(std::uint16_t port, int epoll);
    void read();
    void write();  // What there is, as far as the socket takes it.
    PeerConnection& protocol() { return *protocol_; }

private:
    void on_ready() override;
    void on_acked() override;
    void on_message(std::string_view payload) override;
    void on_refused(const std::string& why) override { fail(why); }

    Load& load_;
    const std::size_t pair_;
    const bool is_sender_;
    int descriptor_ = -1;
    std::unique_ptr<PeerConnection> protocol_;
    std::string in_;
};

class Load {
public:
    explicit Load(Options with) : options(std::move(with)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        for (std::size_t i = 0; i < options.pairs; ++i) {
            Pair pair;
            pair.share = options.messages / options.pairs + (i < options.messages % options.pairs);
            pairs_.push_back(std::move(pair));
        }
        // Receivers first: some systems keep nothing for who is not there.
        for (const bool is_sender : {false, true}) {
            const std::size_t wanted = ready_ + options.pairs;
            for (std::size_t i = 0; i < options.pairs; ++i) {
                ends_.push_back(std::make_unique<End>(*this, i, is_sender));
                if (is_sender) pairs_[i].sender = ends_.back().get();
                ends_.back()->connect(options.port, epoll_);
            }
            run([&] { return ready_ == wanted; });
        }
    }
    ~Load() {
        ends_.clear();
        ::close(epoll_);
    }
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;

    void measure() {
        const auto server_before = tools::cpu_time_of(options.server);
        const auto own_before = tools::cpu_time_of(::getpid());
        const nanoseconds started = now();
        for (std::size_t i = 0; i < pairs_.size(); ++i) {
            const auto first = std::min<std::uint64_t>(options.peer.window, pairs_[i].share);
            for (std::uint64_t n = 0; n < first; ++n) submit(i);
        }
        for (const auto& end : ends_) end->write();
        run([&] { return acked_ == options.messages && received_ == options.messages; });
        const double took = seconds(now() - started);
        const auto count = static_cast<double>(options.messages);
        const auto server_after = tools::cpu_time_of(options.server);
        const auto own_after = tools::cpu_time_of(::getpid());
        std::optional<double> server_cpu, own_cpu;
        if (server_before && server_after) {
            server_cpu = seconds(*server_after - *server_before) * 1e5 / count;
        }
        if (own_before && own_after) own_cpu = seconds(*own_after - *own_before) * 1e5 / count;
        tools::JsonLine("throughput")
            .text("protocol", options.protocol)
            .number("pairs", options.pairs)
            .number("window", options.peer.window)
            .number("received", received_)
            .real("seconds", took)
            .real("perSecond", count / took)
            .real("serverCpuSPer100k", server_cpu)
            .real("clientsCpuSPer100k", own_cpu)
            .real("receivedP50Us", static_cast<double>(times_.quantile(0.5)) / 1000)
            .real("receivedP99Us", static_cast<double>(times_.quantile(0.99)) / 1000)
            .print();
    }

    void on_ready() { ++ready_; }
    void on_acked(std::size_t pair) {
        ++acked_;
        if (pairs_[pair].submitted < pairs_[pair].share) submit(pair);
    }
    void on_message(std::size_t pair, std::string_view payload) {
        std::uint64_t number = 0, due = 0;
        if (payload.size() != options.peer.size) fail("a message of another size");
        std::from_chars(payload.data(), payload.data() + 12, number, 16);
        std::from_chars(payload.data() + 13, payload.data() + 29, due, 16);
        if (number != pairs_[pair].received) fail("a message is lost, doubled or out of order");
        ++pairs_[pair].received;
        ++received_;
        times_.record(static_cast<std::uint64_t>(now().count()) - due);
    }

    const Options options;

private:
    struct Pair {
        End* sender = nullptr;
        std::uint64_t share = 0, submitted = 0, received = 0;
    };

    static double seconds(nanoseconds time) { return std::chrono::duration<double>(time).count(); }

    void submit(std::size_t index) {
        Pair& pair = pairs_[index];
        char header[kHeader + 1];
        std::snprintf(header, sizeof header, "%012llx %016llx ",
                      static_cast<unsigned long long>(pair.submitted++),
                      static_cast<unsigned long long>(now().count()));
        payload_.assign(options.peer.size, '.');
        payload_.replace(0, kHeader, header, kHeader);
        pair.sender->protocol().publish(payload_);
    }

    template <class IsDone>
    void run(IsDone is_done) {
        std::vector<epoll_event> events(256);
        while (!is_done()) {
            const int count = ::epoll_wait(epoll_, events.data(), 256, kSilenceMaxMs);
            if (count == 0) fail("nothing comes any more");
            if (count < 0 && errno != EINTR) fail("epoll");
            for (int i = 0; i < count; ++i) {
                auto& end = *static_cast<End*>(events[static_cast<std::size_t>(i)].data.ptr);
                if ((events[static_cast<std::size_t>(i)].events & ~unsigned{EPOLLOUT}) != 0) {
                    end.read();
                }
            }
            for (int i = 0; i < count; ++i) {
                static_cast<End*>(events[static_cast<std::size_t>(i)].data.ptr)->write();
            }
        }
    }

    const int epoll_;
    std::vector<Pair> pairs_;
    std::vector<std::unique_ptr<End>> ends_;
    std::size_t ready_ = 0;
    std::uint64_t acked_ = 0, received_ = 0;
    tools::Histogram times_;
    std::string payload_;
};

End::End(Load& load, std::size_t pair, bool is_sender)
    : load_(load),
      pair_(pair),
      is_sender_(is_sender),
      protocol_(
          make_peer(load.options.protocol, load.options.peer, *this, "p" + std::to_string(pair))) {
    if (!protocol_) fail("no protocol " + load.options.protocol);
}

void End::connect(std::uint16_t port, int epoll) {
    descriptor_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        fail(std::string("connect: ") + std::strerror(errno));
    }
    const int one = 1;
    ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) | O_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.ptr = this;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor_, &event);
    protocol_->on_connected(is_sender_);
    write();
}

void End::read() {
    for (;;) {
        const std::size_t had = in_.size();
        in_.resize(had + kReadBytes);
        const ssize_t size = ::recv(descriptor_, in_.data() + had, kReadBytes, 0);
        in_.resize(had + static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
        if (size == 0) fail("the server has closed");
        if (size < 0) return;
        in_.erase(0, protocol_->take(in_));
    }
}

void End::write() {
    std::string& out = protocol_->out;
    std::size_t written = 0;
    while (written < out.size()) {
        const ssize_t size =
            ::send(descriptor_, out.data() + written, out.size() - written, MSG_NOSIGNAL);
        if (size < 0) break;  // Full: EPOLLOUT says when to go on.
        written += static_cast<std::size_t>(size);
    }
    out.erase(0, written);
}

void End::on_ready() { load_.on_ready(); }
void End::on_acked() { load_.on_acked(pair_); }
void End::on_message(std::string_view payload) { load_.on_message(pair_, payload); }

}  // namespace
}  // namespace petrel::bench

int main(int argc, char** argv) {
    using namespace petrel::bench;
    if (argc != 8) fail("PROTOCOL PORT SERVER_PID PAIRS WINDOW MESSAGES SIZE");
    Options options;
    options.protocol = argv[1];
    options.port = static_cast<std::uint16_t>(std::strtoul(argv[2], nullptr, 10));
    options.server = static_cast<pid_t>(std::strtol(argv[3], nullptr, 10));
    options.pairs = static_cast<std::uint32_t>(std::strtoul(argv[4], nullptr, 10));
    options.peer.window = static_cast<std::uint32_t>(std::strtoul(argv[5], nullptr, 10));
    options.messages = std::strtoull(argv[6], nullptr, 10);
    options.peer.size = std::strtoull(argv[7], nullptr, 10);
    if (options.pairs == 0 || options.peer.size < kHeader) fail("nothing to do");
    Load(std::move(options)).measure();
    return 0;
}
