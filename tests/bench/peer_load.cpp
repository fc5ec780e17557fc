// The load of `petrel bench` without its engines, for any system's server: pairs of a sender and a
// receiver. Closed loop: each sender has WINDOW messages unacked, and an ack brings the next. Open
// loop (RATE, messages a second of all pairs): messages are due at fixed times, whatever became of
// those before, and their time runs from when they were due. One thread, one epoll, one line of
// JSON at the end.
//
// usage: peer-load PROTOCOL PORT SERVER_PID PAIRS WINDOW MESSAGES SIZE [RATE]

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/bench/peer_protocols.hpp"
#include "tools/petrel/child_gateway.hpp"
#include "tools/petrel/histogram.hpp"
#include "tools/petrel/json_line.hpp"

namespace petrel::bench {
namespace {

using std::chrono::nanoseconds;

constexpr int kSilenceMaxMs = 30'000;  // Without anything from the server: it is over.
// Petrel's gateway closes after 62.5 seconds without a word; a turn may wait for kSilenceMaxMs.
constexpr std::chrono::seconds kKeepAliveInterval{20};
constexpr std::size_t kReadBytes = 256 * 1024;
constexpr int kEventsMax = 256;                   // A turn.
constexpr std::size_t kHeader = 12 + 1 + 16 + 1;  // "NNNNNNNNNNNN DDDDDDDDDDDDDDDD "
// Of a pair, in an open loop that the server cannot follow: MQTT has 65,535 packet ids.
constexpr std::size_t kUnackedMax = 60'000;

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
    double per_second = 0;  // Of all pairs together; 0: closed loop.
};

// By hand: printf would be a good part of what sending a message costs.
void write_hex(std::uint64_t value, int digits, char* to) {
    while (digits-- > 0) *to++ = "0123456789abcdef"[value >> (4 * digits) & 0xf];
}

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
    std::string in_;  // The beginning of a packet that is not whole yet.
};

class Load {
public:
    explicit Load(Options with)
        : options(std::move(with)),
          epoll_(::epoll_create1(EPOLL_CLOEXEC)),
          timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)),
          padding_(options.peer.size, '.') {
        epoll_event event{};
        event.events = EPOLLIN;
        ::epoll_ctl(epoll_, EPOLL_CTL_ADD, timer_, &event);
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
        ::close(timer_);
        ::close(epoll_);
    }
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;

    void measure() {
        const auto server_before = tools::cpu_time_of(options.server);
        const auto own_before = tools::cpu_time_of(::getpid());
        started_ = now();
        if (options.per_second > 0) {
            submit_due();
        } else {
            submit_windows();
        }
        run([&] { return acked_ == options.messages && received_ == options.messages; });
        const double took = seconds(now() - started_);
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
            .real("askedPerSecond", options.per_second)
            .number("received", received_)
            .real("seconds", took)
            .real("perSecond", count / took)
            .real("serverCpuSPer100k", server_cpu)
            .real("clientsCpuSPer100k", own_cpu)
            .real("ackedP50Us", static_cast<double>(to_acked_.quantile(0.5)) / 1000)
            .real("ackedP99Us", static_cast<double>(to_acked_.quantile(0.99)) / 1000)
            .real("receivedP50Us", static_cast<double>(to_received_.quantile(0.5)) / 1000)
            .real("receivedP99Us", static_cast<double>(to_received_.quantile(0.99)) / 1000)
            .print();
    }

    void on_ready() { ++ready_; }
    void on_acked(std::size_t index) {
        Pair& pair = pairs_[index];
        if (pair.unacked.empty()) fail("an ack for nothing");
        const nanoseconds at = now();
        to_acked_.record(static_cast<std::uint64_t>((at - pair.unacked.front()).count()));
        pair.unacked.pop_front();
        ++acked_;
        if (options.per_second <= 0 && pair.submitted < pair.share) submit(pair, at);
    }
    void on_message(std::size_t pair, std::string_view payload) {
        std::uint64_t number = 0, due = 0;
        if (payload.size() != options.peer.size) fail("a message of another size");
        std::from_chars(payload.data(), payload.data() + 12, number, 16);
        std::from_chars(payload.data() + 13, payload.data() + 29, due, 16);
        if (number != pairs_[pair].received) fail("a message is lost, doubled or out of order");
        ++pairs_[pair].received;
        ++received_;
        to_received_.record(static_cast<std::uint64_t>(now().count()) - due);
    }
    // What is read, of one end at a time.
    std::string& buffer() { return buffer_; }

    const Options options;

private:
    struct Pair {
        End* sender = nullptr;
        std::uint64_t share = 0, submitted = 0, received = 0;
        std::deque<nanoseconds> unacked;  // When each was due, in the order of the acks.
    };

    static double seconds(nanoseconds time) { return std::chrono::duration<double>(time).count(); }

    void submit_windows() {
        for (Pair& pair : pairs_) {
            const auto first = std::min<std::uint64_t>(options.peer.window, pair.share);
            for (std::uint64_t n = 0; n < first; ++n) submit(pair, now());
            pair.sender->write();
        }
    }

    // Open loop: everything that is due by now.
    void submit_due() {
        const double interval_ns = 1e9 / options.per_second;
        const nanoseconds at = now();
        const std::uint64_t before = submitted_;
        for (; submitted_ < options.messages; ++submitted_) {
            const nanoseconds due = started_ + nanoseconds(static_cast<std::int64_t>(
                                                   static_cast<double>(submitted_) * interval_ns));
            if (due > at) {
                wake_at(due);
                break;
            }
            Pair& pair = pairs_[submitted_ % pairs_.size()];
            if (pair.unacked.size() >= kUnackedMax) fail("the server cannot keep up with the rate");
            submit(pair, due);
        }
        const std::uint64_t touched = std::min<std::uint64_t>(submitted_ - before, pairs_.size());
        for (std::uint64_t n = 0; n < touched; ++n) {
            pairs_[(before + n) % pairs_.size()].sender->write();
        }
    }

    // steady_clock is CLOCK_MONOTONIC. epoll's own timeout knows milliseconds only.
    void wake_at(nanoseconds time) const {
        const auto whole = std::chrono::duration_cast<std::chrono::seconds>(time);
        itimerspec when{};
        when.it_value.tv_sec = whole.count();
        when.it_value.tv_nsec = (time - whole).count();
        ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
    }

    void submit(Pair& pair, nanoseconds due) {
        payload_ = padding_;
        write_hex(pair.submitted++, 12, payload_.data());
        payload_[12] = ' ';
        write_hex(static_cast<std::uint64_t>(due.count()), 16, payload_.data() + 13);
        payload_[kHeader - 1] = ' ';
        pair.unacked.push_back(due);
        pair.sender->protocol().publish(payload_);
    }

    void on_event(const epoll_event& event) {
        if (event.data.ptr == nullptr) {
            std::uint64_t expirations = 0;
            if (::read(timer_, &expirations, sizeof expirations) > 0) submit_due();
            return;
        }
        auto& end = *static_cast<End*>(event.data.ptr);
        if ((event.events & EPOLLIN) != 0) end.read();
        if ((event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
            fail("the server has closed");
        }
    }

    void keep_alive() {
        const nanoseconds at = now();
        if (at - kept_alive_ < kKeepAliveInterval) return;
        kept_alive_ = at;
        for (const auto& end : ends_) {
            end->protocol().keep_alive();
            end->write();
        }
    }

    template <class IsDone>
    void run(IsDone is_done) {
        std::vector<epoll_event> events(kEventsMax);
        while (!is_done()) {
            const int count = ::epoll_wait(epoll_, events.data(), kEventsMax, kSilenceMaxMs);
            if (count == 0) fail("nothing comes any more");
            if (count < 0 && errno != EINTR) fail("epoll");
            for (int i = 0; i < count; ++i) on_event(events[static_cast<std::size_t>(i)]);
            keep_alive();
            for (int i = 0; i < count; ++i) {
                auto* const end = static_cast<End*>(events[static_cast<std::size_t>(i)].data.ptr);
                if (end != nullptr) end->write();
            }
        }
    }

    const int epoll_;
    const int timer_;  // Open loop: the next message. Its events have no End.
    std::vector<Pair> pairs_;
    std::vector<std::unique_ptr<End>> ends_;
    std::size_t ready_ = 0;
    nanoseconds started_{0};
    nanoseconds kept_alive_ = now();
    std::uint64_t submitted_ = 0;  // In an open loop.
    std::uint64_t acked_ = 0, received_ = 0;
    tools::Histogram to_acked_;     // Nanoseconds from due to the sender's ack...
    tools::Histogram to_received_;  // ...and to the receiver.
    const std::string padding_;
    std::string payload_;
    std::string buffer_ = std::string(kReadBytes, '\0');
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
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = this;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor_, &event);
    protocol_->on_connected(is_sender_);
    write();
}

void End::read() {
    std::string& buffer = load_.buffer();
    for (;;) {
        const ssize_t size = ::recv(descriptor_, buffer.data(), buffer.size(), 0);
        if (size == 0) fail("the server has closed");
        if (size < 0) return;
        std::string_view data(buffer.data(), static_cast<std::size_t>(size));
        if (in_.empty()) {
            in_.assign(data.substr(protocol_->take(data)));
        } else {
            in_.append(data);
            in_.erase(0, protocol_->take(in_));
        }
        // There was no more: epoll tells when there is.
        if (data.size() < buffer.size()) return;
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
    if (argc != 8 && argc != 9) fail("PROTOCOL PORT SERVER_PID PAIRS WINDOW MESSAGES SIZE [RATE]");
    Options options;
    options.protocol = argv[1];
    options.port = static_cast<std::uint16_t>(std::strtoul(argv[2], nullptr, 10));
    options.server = static_cast<pid_t>(std::strtol(argv[3], nullptr, 10));
    options.pairs = static_cast<std::uint32_t>(std::strtoul(argv[4], nullptr, 10));
    options.peer.window = static_cast<std::uint32_t>(std::strtoul(argv[5], nullptr, 10));
    options.messages = std::strtoull(argv[6], nullptr, 10);
    options.peer.size = std::strtoull(argv[7], nullptr, 10);
    if (argc == 9) options.per_second = std::strtod(argv[8], nullptr);
    if (options.pairs == 0 || options.peer.size < kHeader || !(options.per_second >= 0) ||
        (options.peer.window == 0 && options.per_second <= 0)) {
        fail("nothing to do");
    }
    Load(std::move(options)).measure();
    return 0;
}
