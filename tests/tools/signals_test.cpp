#include "tools/petrel/signals.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "transport/asio_event_loop.hpp"

namespace petrel::tools {
namespace {

TEST_CASE("StopSignals: the first signal runs the callback on the loop") {
    AsioEventLoop loop;
    bool was_on_loop = false;
    StopSignals signals(loop, [&] {
        was_on_loop = loop.is_loop_thread();
        loop.stop();
    });
    CHECK_FALSE(signals.is_raised());
    ::raise(SIGTERM);
    loop.run();
    CHECK(was_on_loop);
    CHECK(signals.is_raised());
}

TEST_CASE("StopSignals: its descriptor tells a program that polls") {
    StopSignals signals(std::function<void()>{});
    pollfd watched{signals.descriptor(), POLLIN, 0};
    CHECK(::poll(&watched, 1, 0) == 0);
    ::raise(SIGINT);
    CHECK(::poll(&watched, 1, 0) == 1);
    CHECK(::poll(&watched, 1, 0) == 1);
}

TEST_CASE("StopSignals: a new one begins unraised, and gives the signals back") {
    struct sigaction before {};
    ::sigaction(SIGINT, nullptr, &before);
    { StopSignals first(std::function<void()>{}); }
    struct sigaction after {};
    ::sigaction(SIGINT, nullptr, &after);
    const bool is_restored = before.sa_handler == after.sa_handler;
    CHECK(is_restored);
    StopSignals second(std::function<void()>{});
    CHECK_FALSE(second.is_raised());
}

TEST_CASE("HangUpSignal: each hang-up runs the callback on the loop, and ends nothing") {
    struct sigaction before {};
    ::sigaction(SIGHUP, nullptr, &before);
    AsioEventLoop loop;
    int count = 0;
    {
        HangUpSignal signal(loop, [&] {
            CHECK(loop.is_loop_thread());
            if (++count == 3) {
                loop.stop();
            } else {
                ::raise(SIGHUP);
            }
        });
        ::raise(SIGHUP);
        loop.run();
    }
    CHECK(count == 3);
    struct sigaction after {};
    ::sigaction(SIGHUP, nullptr, &after);
    const bool is_restored = before.sa_handler == after.sa_handler;
    CHECK(is_restored);
}

TEST_CASE("HangUpSignal: one without a signal ends with its object") {
    AsioEventLoop loop;
    int count = 0;
    {
        const HangUpSignal signal(loop, [&] { ++count; });
    }
    loop.post([&] { loop.stop(); });
    loop.run();
    CHECK(count == 0);
}

TEST_CASE("StopSignals: the second signal ends the process at once") {
    const pid_t child = ::fork();
    if (child == 0) {
        StopSignals signals(std::function<void()>{});
        ::raise(SIGTERM);
        ::raise(SIGTERM);
        ::_exit(0);
    }
    REQUIRE(child > 0);
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 128 + SIGTERM);
}

}  // namespace
}  // namespace petrel::tools
