#include "transport/asio_event_loop.hpp"

#include <netdb.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "transport/asio_event_loop_impl.hpp"
#include "transport/native_loop.hpp"

namespace petrel {
namespace {

using TimePoint = EventLoop::TimePoint;

TimePoint steady_now() {
#ifdef CLOCK_BOOTTIME
    timespec time{};
    if (clock_gettime(CLOCK_BOOTTIME, &time) == 0) {
        return TimePoint(std::chrono::seconds(time.tv_sec) +
                         std::chrono::nanoseconds(time.tv_nsec));
    }
#endif
    return std::chrono::time_point_cast<TimePoint::duration>(std::chrono::steady_clock::now());
}

// The kernel timer stands still while the machine sleeps, now() does not: after a sleep a deadline
// is noticed this late at most.
constexpr std::chrono::seconds kWaitMax{10};

// Shared with the pending wait, so that on_alarm may destroy its own Alarm.
struct AlarmState : std::enable_shared_from_this<AlarmState> {
    AlarmState(asio::io_context& io, std::function<void()> callback)
        : timer(io), on_alarm(std::move(callback)) {}

    void wait() {
        const auto left = std::max(deadline - steady_now(), TimePoint::duration::zero());
        const auto wait = std::min<TimePoint::duration>(left, kWaitMax);
        wakes_at = steady_now() + wait;
        timer.expires_after(wait);
        timer.async_wait([self = shared_from_this(), number = ++wait_number](std::error_code) {
            if (number == self->wait_number) self->wake();
        });
    }

    void wake() {
        is_waiting = false;
        if (!is_armed) return;
        if (steady_now() < deadline) {
            is_waiting = true;
            wait();
            return;
        }
        is_armed = false;
        on_alarm();
    }

    asio::steady_timer timer;
    std::function<void()> on_alarm;
    TimePoint deadline;
    TimePoint wakes_at;
    std::uint64_t wait_number = 0;  // A wait of an earlier number is stale.
    bool is_armed = false;
    bool is_waiting = false;
};

class AsioAlarm final : public EventLoop::Alarm {
public:
    AsioAlarm(asio::io_context& io, std::function<void()> on_alarm)
        : state_(std::make_shared<AlarmState>(io, std::move(on_alarm))) {}
    ~AsioAlarm() override {
        state_->is_armed = false;
        ++state_->wait_number;
        state_->timer.cancel();
    }

    void arm(TimePoint deadline) override {
        state_->deadline = deadline;
        state_->is_armed = true;
        // A wait that ends earlier goes on by itself: moving a deadline back costs nothing. One
        // that has ended is about to wake: to begin it anew at every turn of a busy loop would put
        // off an overdue alarm for as long as the loop is busy.
        if (state_->is_waiting && state_->wakes_at <= std::max(deadline, steady_now())) return;
        state_->is_waiting = true;
        state_->wait();
    }
    void disarm() override { state_->is_armed = false; }

private:
    std::shared_ptr<AlarmState> state_;
};

AsioEventLoop::Impl::Endpoints get_addresses(const std::string& host, std::uint16_t port,
                                             std::string& failure) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    AsioEventLoop::Impl::Endpoints endpoints;
    const int status = getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (status != 0) {
        failure = gai_strerror(status);
        return endpoints;
    }
    constexpr std::size_t kEndpointsMax = 16;
    for (addrinfo* it = found; it && endpoints.size() < kEndpointsMax; it = it->ai_next) {
        asio::ip::tcp::endpoint endpoint;
        if (it->ai_addrlen > endpoint.capacity()) continue;
        std::memcpy(endpoint.data(), it->ai_addr, it->ai_addrlen);
        endpoint.port(port);
        endpoints.push_back(endpoint);
    }
    freeaddrinfo(found);
    if (endpoints.empty()) failure = "no address";
    return endpoints;
}

}  // namespace

AsioEventLoop::Impl::Impl() { mailbox->loop = this; }

AsioEventLoop::Impl::~Impl() {
    const std::lock_guard<std::mutex> lock(mailbox->mutex);
    mailbox->loop = nullptr;
    if (native) native->forget_links();
}

void AsioEventLoop::Impl::look_up(const std::string& host, std::uint16_t port, OnLookup on_lookup) {
    std::error_code error;
    const asio::ip::address address = asio::ip::make_address(host, error);
    if (!error) {
        asio::post(io, [address, port, on_lookup = std::move(on_lookup)] {
            on_lookup({asio::ip::tcp::endpoint(address, port)}, {});
        });
        return;
    }
    if (lookups.size() >= kLookupsMax) {
        asio::post(
            io, [on_lookup = std::move(on_lookup)] { on_lookup({}, "too many lookups at once"); });
        return;
    }
    const std::uint64_t id = next_lookup++;
    lookups.emplace(id, std::move(on_lookup));
    waiting_lookups.push_back({id, host, port});
    start_lookups();
}

void AsioEventLoop::Impl::start_lookups() {
    while (lookup_threads < kLookupsAtOnceMax && !waiting_lookups.empty()) {
        Lookup lookup = std::move(waiting_lookups.front());
        waiting_lookups.pop_front();
        const std::uint64_t id = lookup.id;
        ++lookup_threads;
        try {
            std::thread([box = mailbox, lookup = std::move(lookup)] {
                std::string failure;
                const Endpoints endpoints = get_addresses(lookup.host, lookup.port, failure);
                const std::lock_guard<std::mutex> lock(box->mutex);
                if (!box->loop) return;
                asio::post(box->loop->io, [loop = box->loop, id = lookup.id, endpoints, failure] {
                    loop->finish_lookup(id, endpoints, failure);
                });
            }).detach();
        } catch (const std::system_error& error) {
            asio::post(io, [this, id, failure = error.code().message()] {
                finish_lookup(id, {}, failure);
            });
        }
    }
}

void AsioEventLoop::Impl::finish_lookup(std::uint64_t id, const Endpoints& endpoints,
                                        const std::string& failure) {
    --lookup_threads;
    const auto it = lookups.find(id);
    const OnLookup on_lookup = std::move(it->second);
    lookups.erase(it);
    start_lookups();
    on_lookup(endpoints, failure);
}

AsioEventLoop::AsioEventLoop() : impl_(std::make_unique<Impl>()) {}
AsioEventLoop::~AsioEventLoop() = default;

void AsioEventLoop::post(std::function<void()> task) { asio::post(impl_->io, std::move(task)); }

EventLoop::TimePoint AsioEventLoop::now() const { return steady_now(); }

std::int64_t AsioEventLoop::wall_ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::unique_ptr<EventLoop::Alarm> AsioEventLoop::make_alarm(std::function<void()> on_alarm) {
    return std::make_unique<AsioAlarm>(impl_->io, std::move(on_alarm));
}

void AsioEventLoop::run() {
    impl_->io.run();
    // Afterwards, not before: a stop() that comes ahead of run() must end it.
    impl_->io.restart();
}

void AsioEventLoop::stop() { impl_->io.stop(); }

bool AsioEventLoop::is_loop_thread() const {
    return impl_->io.get_executor().running_in_this_thread();
}

}  // namespace petrel
