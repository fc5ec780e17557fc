#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "daemons/auto_relogin.hpp"
#include "tests/support/fake_context.hpp"

namespace petrel {

inline std::ostream& operator<<(std::ostream& out, AutoReloginDaemon::State state) {
    return out << to_string(state);
}

}  // namespace petrel

namespace petrel::test {

using namespace std::chrono_literals;
using State = AutoReloginDaemon::State;
using StopReason = AutoReloginDaemon::StopReason;
using Events = std::vector<std::string>;

inline AutoReloginDaemon::Closed closed_with(std::uint16_t code) {
    AutoReloginDaemon::Closed closed;
    closed.code = code;
    return closed;
}

inline AutoReloginDaemon::Closed upgrade_failed(int status,
                                                std::optional<Duration> retry_after = {}) {
    AutoReloginDaemon::Closed closed;
    closed.http_status = status;
    closed.retry_after = retry_after;
    return closed;
}

inline AutoReloginDaemon::Closed draining(std::optional<Duration> window) {
    AutoReloginDaemon::Closed closed = closed_with(4007);
    closed.drain_window = window;
    return closed;
}

// A worker, and everything that it asks for, written down.
struct ReloginWorld final : AutoReloginDaemon::Listener {
    explicit ReloginWorld(AutoReloginDaemon::Options options = {}, std::uint64_t seed = 1)
        : context(seed), relogin(context, *this, options) {}

    void on_connect_wanted(std::uint64_t attempt) override {
        note("connect " + std::to_string(attempt));
    }
    void on_login_wanted(std::uint64_t attempt) override {
        note("login " + std::to_string(attempt));
    }
    void on_disconnect_wanted(std::uint64_t attempt, std::uint16_t code,
                              std::string_view) override {
        note("disconnect " + std::to_string(attempt) + " " + std::to_string(code));
    }
    void on_token_wanted(int code) override { note("token " + std::to_string(code)); }
    void on_stopped(StopReason reason, int code) override {
        note((reason == StopReason::kKicked ? "kicked " : "refused ") + std::to_string(code));
    }
    void on_state_changed(State, State to) override {
        CHECK(relogin.state() == to);
        changes.emplace_back(to);
    }

    void note(const std::string& text) {
        CHECK(relogin.is_consistent());
        events.push_back(text);
        // Not of a reference into `events`: the callback may lead here again.
        if (on_event) on_event(text);
    }
    Events take() { return std::exchange(events, {}); }
    State state() const { return relogin.state(); }
    void connected() { relogin.on_connected(relogin.attempt()); }
    void closed(const AutoReloginDaemon::Closed& how = {}) {
        relogin.on_closed(relogin.attempt(), how);
    }
    void next_random(Duration value) {
        context.set_next_random(static_cast<std::uint64_t>(value.count()));
    }
    std::optional<Duration> time_left() {
        const auto next = context.timers().next_deadline();
        return next ? std::optional<Duration>(*next - context.now()) : std::nullopt;
    }
    // What is waited after the connection ended so, with the most that the jitter allows.
    std::optional<Duration> longest_wait_after(const AutoReloginDaemon::Closed& how) {
        context.set_next_random(UINT64_MAX);
        closed(how);
        return state() == State::kWaiting ? time_left() : std::nullopt;
    }

    void bring_to(State wanted) {
        if (wanted == State::kIdle) return;
        relogin.start();
        if (wanted == State::kConnecting) return;
        if (wanted == State::kNoNetwork) return relogin.network_lost();
        if (wanted == State::kWaiting) {
            next_random(400ms);
            return closed();
        }
        connected();
        if (wanted == State::kLoggingIn) return;
        if (wanted == State::kWaitingForToken) return relogin.on_login_refused(402, true, {});
        if (wanted == State::kStopped) return relogin.on_login_refused(401, false, {});
        relogin.on_login_accepted();
    }

    FakeContext context;
    Events events;
    std::vector<State> changes;
    std::function<void(const std::string&)> on_event;
    AutoReloginDaemon relogin;
};

}  // namespace petrel::test
