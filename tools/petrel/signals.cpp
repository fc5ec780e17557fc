#include "tools/petrel/signals.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <thread>
#include <utility>

#include "transport/event_loop.hpp"

namespace petrel::tools {
namespace {

constexpr std::array<int, 2> kSignals{SIGINT, SIGTERM};

// The handler may touch nothing but these.
std::atomic<int> raised_count{0};
std::atomic<int> raised_descriptor{-1};
std::atomic<int> hung_up_descriptor{-1};

void notify(int descriptor) noexcept {
    const std::uint64_t one = 1;
    // It fails only when the counter is full, and then the descriptor is readable anyway.
    [[maybe_unused]] const auto written = ::write(descriptor, &one, sizeof one);
}

void handle_signal(int number) {
    const int saved_errno = errno;
    if (raised_count.fetch_add(1) > 0) ::_exit(128 + number);
    if (const int descriptor = raised_descriptor.load(); descriptor >= 0) notify(descriptor);
    errno = saved_errno;
}

void handle_hang_up(int) {
    const int saved_errno = errno;
    if (const int descriptor = hung_up_descriptor.load(); descriptor >= 0) notify(descriptor);
    errno = saved_errno;
}

}  // namespace

struct StopSignals::Impl {
    explicit Impl(std::function<void()> callback) : on_stop(std::move(callback)) {
        raised = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        quit = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert(raised_descriptor.load() == -1);
        raised_count = 0;
        raised_descriptor = raised;
        if (raised >= 0 && quit >= 0) watcher = std::thread([this] { watch(); });
        struct sigaction action {};
        action.sa_handler = handle_signal;
        sigemptyset(&action.sa_mask);
        for (std::size_t i = 0; i < kSignals.size(); ++i) {
            ::sigaction(kSignals[i], &action, &earlier[i]);
        }
    }

    ~Impl() {
        for (std::size_t i = 0; i < kSignals.size(); ++i) {
            ::sigaction(kSignals[i], &earlier[i], nullptr);
        }
        raised_descriptor = -1;
        if (watcher.joinable()) {
            notify(quit);
            watcher.join();
        }
        if (raised >= 0) ::close(raised);
        if (quit >= 0) ::close(quit);
    }

    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    void watch() {
        std::array<pollfd, 2> watched{{{raised, POLLIN, 0}, {quit, POLLIN, 0}}};
        while (::poll(watched.data(), watched.size(), -1) < 0 && errno == EINTR) {
        }
        if (watched[1].revents == 0 && on_stop) on_stop();
    }

    std::function<void()> on_stop;
    int raised = -1;
    int quit = -1;
    std::thread watcher;
    std::array<struct sigaction, kSignals.size()> earlier{};
};

StopSignals::StopSignals(EventLoop& loop, std::function<void()> on_stop)
    : impl_(std::make_unique<Impl>([&loop, stop = std::move(on_stop)] { loop.post(stop); })) {}

StopSignals::StopSignals(std::function<void()> on_stop)
    : impl_(std::make_unique<Impl>(std::move(on_stop))) {}

StopSignals::~StopSignals() = default;

bool StopSignals::is_raised() const noexcept { return raised_count > 0; }

int StopSignals::descriptor() const noexcept { return impl_->raised; }

struct HangUpSignal::Impl {
    Impl(EventLoop& event_loop, std::function<void()> callback)
        : loop(event_loop), on_hang_up(std::move(callback)) {
        hung_up = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        quit = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert(hung_up_descriptor.load() == -1);
        hung_up_descriptor = hung_up;
        if (hung_up >= 0 && quit >= 0) watcher = std::thread([this] { watch(); });
        struct sigaction action {};
        action.sa_handler = handle_hang_up;
        action.sa_flags = SA_RESTART;  // It interrupts nobody's work.
        sigemptyset(&action.sa_mask);
        ::sigaction(SIGHUP, &action, &earlier);
    }

    ~Impl() {
        ::sigaction(SIGHUP, &earlier, nullptr);
        hung_up_descriptor = -1;
        if (watcher.joinable()) {
            notify(quit);
            watcher.join();
        }
        if (hung_up >= 0) ::close(hung_up);
        if (quit >= 0) ::close(quit);
    }

    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    void watch() {
        std::array<pollfd, 2> watched{{{hung_up, POLLIN, 0}, {quit, POLLIN, 0}}};
        while (watched[1].revents == 0) {
            if (::poll(watched.data(), watched.size(), -1) < 0) continue;
            std::uint64_t count = 0;
            if (watched[0].revents == 0 || ::read(hung_up, &count, sizeof count) < 0) continue;
            loop.post(on_hang_up);
        }
    }

    EventLoop& loop;
    std::function<void()> on_hang_up;
    int hung_up = -1;
    int quit = -1;
    std::thread watcher;
    struct sigaction earlier {};
};

HangUpSignal::HangUpSignal(EventLoop& loop, std::function<void()> on_hang_up)
    : impl_(std::make_unique<Impl>(loop, std::move(on_hang_up))) {}

HangUpSignal::~HangUpSignal() = default;

}  // namespace petrel::tools
