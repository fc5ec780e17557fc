#include "daemons/auto_relogin.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace petrel {

namespace {

using State = AutoReloginDaemon::State;
using StopReason = AutoReloginDaemon::StopReason;

constexpr std::uint16_t kNormalClose = 1000;
constexpr int kTokenExpired = 402;

bool has_connection(State state) {
    return state == State::kConnecting || state == State::kLoggingIn || state == State::kOnline;
}

// The times that are a judgement on the other side's silence.
bool is_judging(State state) { return state == State::kConnecting || state == State::kLoggingIn; }

// PROTOCOL.md section 4.8, unknown codes included; nullopt: try again.
std::optional<StopReason> final_reason(std::uint16_t close_code) {
    if (close_code == 4004) return StopReason::kKicked;
    const bool is_final = close_code == 4003 || (close_code >= 3500 && close_code <= 3999) ||
                          (close_code >= 4500 && close_code <= 4999);
    return is_final ? std::optional(StopReason::kRefused) : std::nullopt;
}

}  // namespace

AutoReloginDaemon::AutoReloginDaemon(DaemonContext& context, Listener& listener, Options options)
    : context_(context),
      listener_(listener),
      options_(options),
      backoff_(options.backoff_base, options.backoff_max),
      timer_(context.timers(), "relogin", [this] { on_timer(); }),
      patience_(options.patience) {}

// ---- of the app ----

void AutoReloginDaemon::start() {
    if (state_ != State::kIdle && state_ != State::kStopped) {
        resume();
        return;
    }
    is_suspended_ = false;
    asked_for_token_ = false;
    reset_backoff();
    connect_now("login wanted");
}

void AutoReloginDaemon::stop() {
    if (state_ == State::kIdle) return;
    const bool was_open = has_connection(state_);
    context_.log(LogLevel::kInfo, "relogin: stopped by the app");
    ++turn_;
    state_ = State::kIdle;
    set_clock(std::nullopt);
    if (was_open) listener_.on_disconnect_wanted(attempt_, kNormalClose, "logout");
}

void AutoReloginDaemon::network_available() {
    has_network_ = true;
    if (state_ == State::kNoNetwork || state_ == State::kWaiting) connect_now("network available");
}

void AutoReloginDaemon::network_lost() {
    has_network_ = false;
    if (has_connection(state_) || state_ == State::kWaiting) {
        change(State::kNoNetwork, std::nullopt, "network lost", kNormalClose);
    }
}

void AutoReloginDaemon::suspend() {
    if (is_suspended_) return;
    is_suspended_ = true;
    if (timer_.is_running()) {
        frozen_ = std::max(clock_end_ - context_.now(), Duration::zero());
        timer_.stop();
    }
}

void AutoReloginDaemon::resume() {
    is_suspended_ = false;
    if (state_ == State::kWaiting) {
        connect_now("resumed");
    } else if (frozen_) {
        set_clock(frozen_);
    }
}

void AutoReloginDaemon::on_token() {
    token_at_ = context_.now();
    if (state_ == State::kWaitingForToken) connect_now("new token");
}

// ---- of the connection ----

void AutoReloginDaemon::on_connected(std::uint64_t attempt) {
    if (!is_current(attempt)) return;
    if (state_ != State::kConnecting) {
        ++stale_reports_;
        return;
    }
    if (change(State::kLoggingIn, options_.login_timeout, "connected", std::nullopt)) {
        listener_.on_login_wanted(attempt_);
    }
}

void AutoReloginDaemon::on_closed(std::uint64_t attempt, const Closed& closed) {
    if (!is_current(attempt)) return;
    if (const auto reason = final_reason(closed.code)) {
        stop_for_good(*reason, closed.code, std::nullopt);
        return;
    }
    const std::string why = closed.http_status != 0
                                ? "upgrade failed with HTTP " + std::to_string(closed.http_status)
                                : "closed with " + std::to_string(closed.code);
    Duration delay{0};
    if (const auto window = told(closed.drain_window); window && closed.code == 4007) {
        delay = Duration(static_cast<Duration::rep>(
            context_.random(0, static_cast<std::uint64_t>(window->count()))));
    } else if (const auto wanted = told(closed.retry_after)) {
        delay = *wanted;
    } else if (closed.http_status != 0 || closed.code >= 3000) {
        delay = backoff_.next(context_);
    } else {
        delay = broken_link_delay();
    }
    wait(delay, why, std::nullopt);
}

// ---- of the session ----

void AutoReloginDaemon::on_login_accepted() {
    if (state_ != State::kLoggingIn) {
        ++stale_reports_;
        return;
    }
    asked_for_token_ = false;
    change(State::kOnline, options_.stable_after, "login accepted", std::nullopt);
}

void AutoReloginDaemon::on_login_refused(int code, bool retry,
                                         std::optional<Duration> retry_after) {
    if (state_ != State::kLoggingIn) {
        ++stale_reports_;
        return;
    }
    // The refusal decides, not the close code behind it: the connection is given up here, and what
    // is reported of it later comes too late.
    const bool may_ask = !asked_for_token_ || context_.now() - token_at_ >= options_.token_fresh;
    if (code == kTokenExpired && may_ask) {
        asked_for_token_ = true;
        if (change(State::kWaitingForToken, std::nullopt, "token expired", kNormalClose)) {
            listener_.on_token_wanted(code);
        }
    } else if (code == kTokenExpired || !retry) {
        stop_for_good(StopReason::kRefused, code, kNormalClose);
    } else {
        const auto wanted = told(retry_after);
        wait(wanted ? *wanted : backoff_.next(context_),
             "login refused with " + std::to_string(code), kNormalClose);
    }
}

void AutoReloginDaemon::on_progress() {
    if (state_ != State::kOnline) return;
    reset_backoff();
    set_clock(std::nullopt);
}

void AutoReloginDaemon::on_kicked(int code) {
    if (state_ != State::kLoggingIn && state_ != State::kOnline) {
        ++stale_reports_;
        return;
    }
    stop_for_good(StopReason::kKicked, code, kNormalClose);
}

void AutoReloginDaemon::reconnect(std::uint16_t code, std::string_view reason,
                                  std::optional<Duration> retry_after) {
    if (!has_connection(state_)) return;
    const auto wanted = told(retry_after);
    wait(wanted ? *wanted : broken_link_delay(), reason, code);
}

void AutoReloginDaemon::set_fixed_pace(std::optional<Duration> first,
                                       std::optional<Duration> interval) {
    options_.fixed_first = first;
    options_.fixed_interval = interval;
}

bool AutoReloginDaemon::is_consistent() const {
    const bool has_clock = timer_.is_running() || frozen_.has_value();
    const bool needs_clock = is_judging(state_) || state_ == State::kWaiting;
    if (needs_clock && !has_clock) return false;
    if (has_clock && !needs_clock && state_ != State::kOnline) return false;
    if (is_suspended_ ? timer_.is_running() : frozen_.has_value()) return false;
    if (frozen_ && *frozen_ < Duration::zero()) return false;
    if (timer_.is_running() && is_judging(state_) && timer_.deadline() < patience_.look_at()) {
        return false;
    }
    if (has_connection(state_) && attempt_ == 0) return false;
    if (!has_network_ && (has_connection(state_) || state_ == State::kWaiting)) return false;
    if (has_network_ && state_ == State::kNoNetwork) return false;
    return asked_for_token_ || state_ != State::kWaitingForToken;
}

// ---- inside ----

// Settles everything, then tells the listener: first to close the connection that `next` ends, if
// it isn't closed yet (`close_code`), then of the change. False when the listener made another
// change meanwhile: whatever else was to be said is void then.
bool AutoReloginDaemon::change(State next, std::optional<Duration> clock, std::string_view reason,
                               std::optional<std::uint16_t> close_code) {
    const State from = std::exchange(state_, next);
    const std::uint64_t turn = ++turn_;
    set_clock(clock);
    context_.log(LogLevel::kInfo, std::string("relogin: ")
                                      .append(to_string(from))
                                      .append(" -> ")
                                      .append(to_string(next))
                                      .append(": ")
                                      .append(reason));
    if (close_code && has_connection(from) && !has_connection(next)) {
        listener_.on_disconnect_wanted(attempt_, *close_code, reason);
    }
    if (from != next && turn == turn_) listener_.on_state_changed(from, next);
    return turn == turn_;
}

void AutoReloginDaemon::connect_now(std::string_view reason) {
    if (!has_network_) {
        if (state_ != State::kNoNetwork) {
            change(State::kNoNetwork, std::nullopt, reason, std::nullopt);
        }
        return;
    }
    if (is_suspended_) {
        change(State::kWaiting, Duration::zero(), reason, std::nullopt);
        return;
    }
    ++attempt_;
    if (change(State::kConnecting, options_.connect_timeout, reason, std::nullopt)) {
        listener_.on_connect_wanted(attempt_);
    }
}

void AutoReloginDaemon::wait(Duration delay, std::string_view reason,
                             std::optional<std::uint16_t> close_code) {
    change(State::kWaiting, delay, reason, close_code);
}

void AutoReloginDaemon::stop_for_good(StopReason reason, int code,
                                      std::optional<std::uint16_t> close_code) {
    const std::string why =
        (reason == StopReason::kKicked ? "kicked out, " : "refused, ") + std::to_string(code);
    if (change(State::kStopped, std::nullopt, why, close_code)) listener_.on_stopped(reason, code);
}

Duration AutoReloginDaemon::broken_link_delay() {
    if (options_.fixed_first && !fixed_first_used_) {
        fixed_first_used_ = true;
        return *options_.fixed_first;
    }
    return options_.fixed_interval ? *options_.fixed_interval : backoff_.next(context_);
}

std::optional<Duration> AutoReloginDaemon::told(std::optional<Duration> time) const {
    if (!time) return std::nullopt;
    const Duration bounded = std::min(*time, options_.told_max);
    return bounded > Duration::zero() ? std::optional(bounded) : std::nullopt;
}

void AutoReloginDaemon::reset_backoff() {
    backoff_.reset();
    fixed_first_used_ = false;
}

// nullopt: nothing runs. Else the time that the state lasts at most; frozen while suspended.
void AutoReloginDaemon::set_clock(std::optional<Duration> clock) {
    timer_.stop();
    frozen_.reset();
    if (!clock) return;
    if (is_suspended_) {
        frozen_ = std::max(*clock, Duration::zero());
        return;
    }
    clock_end_ = saturating_add(context_.now(), std::max(*clock, Duration::zero()));
    if (is_judging(state_)) {
        patience_.start(clock_end_);
        timer_.start_at(patience_.look_at());
    } else {
        timer_.start_at(clock_end_);
    }
}

bool AutoReloginDaemon::is_current(std::uint64_t attempt) {
    if (attempt == attempt_ && has_connection(state_)) return true;
    ++stale_reports_;
    return false;
}

void AutoReloginDaemon::on_timer() {
    if (is_judging(state_) && !patience_.is_over(context_.now())) {
        timer_.start_at(patience_.look_at());
        return;
    }
    switch (state_) {
        case State::kWaiting: connect_now("backoff over"); break;
        case State::kConnecting:
            wait(broken_link_delay(), "not connected in time", kNormalClose);
            break;
        case State::kLoggingIn:
            wait(broken_link_delay(), "no login response in time", kNormalClose);
            break;
        case State::kOnline: reset_backoff(); break;
        case State::kIdle:
        case State::kNoNetwork:
        case State::kWaitingForToken:
        case State::kStopped: break;
    }
}

std::string_view to_string(AutoReloginDaemon::State state) noexcept {
    switch (state) {
        case State::kIdle: return "idle";
        case State::kWaiting: return "waiting";
        case State::kConnecting: return "connecting";
        case State::kLoggingIn: return "logging in";
        case State::kOnline: return "online";
        case State::kNoNetwork: return "no network";
        case State::kWaitingForToken: return "waiting for token";
        case State::kStopped: return "stopped";
    }
    return "unknown";
}

}  // namespace petrel
