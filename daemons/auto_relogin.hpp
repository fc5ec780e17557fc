#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "daemons/backoff.hpp"
#include "daemons/context.hpp"
#include "daemons/patience.hpp"
#include "daemons/timer.hpp"

namespace petrel {

// Keeps a user logged in: decides when to connect, when to give an attempt up, and when to stop
// for good (PROTOCOL.md sections 4.8 and 4.9; fixed pace of section 3 in plain profiles).
//
//            start                 on_connected            on_login_accepted
//   kIdle ---------> kConnecting ---------------> kLoggingIn ----------------> kOnline
//     ^                 ^    |  connect_timeout,      |  login_timeout,           |
//     |          backoff|    v  on_closed             v  on_closed, refused       v on_closed
//   stop             kWaiting <------------------------------------------------- '
//     |                 |  ^
//     |     network_lost v  | network_available        402: kWaitingForToken until on_token
//     |               kNoNetwork                       final refusals, kick-out: kStopped
//
// A suspend freezes whatever timer runs; a resume from kWaiting connects at once, and nothing else
// begins a connection while suspended. After network_lost none is begun before network_available.
// Every connection attempt has a number, growing from 1; what is reported of an older one, or of
// one that was given up, is dropped and counted.
// The listener is called when the state has settled, and may call any input. Thread-compatible.
class AutoReloginDaemon {
public:
    enum class State : std::uint8_t {
        kIdle,             // Not asked to log in, or logged out.
        kWaiting,          // Backoff runs (frozen while suspended).
        kConnecting,       // on_connect_wanted was called; connect_timeout runs.
        kLoggingIn,        // on_login_wanted was called; login_timeout runs.
        kOnline,           // Login accepted; stable_after runs until the backoff is reset.
        kNoNetwork,        // The app said so; nothing runs.
        kWaitingForToken,  // on_token_wanted was called; nothing runs until on_token.
        kStopped,          // For good: only start() leaves it.
    };

    enum class StopReason : std::uint8_t {
        kRefused,  // Login refused with retry:false, or close 4003 / 3500-3999 / 4500-4999.
        kKicked,   // Kick-out packet or close 4004.
    };

    struct Options {
        Duration backoff_base = std::chrono::milliseconds{500};  // PROTOCOL.md section 4.9.
        Duration backoff_max = std::chrono::seconds{30};
        Duration stable_after = std::chrono::seconds{30};  // Online so long resets the backoff.
        Duration connect_timeout = std::chrono::seconds{10};
        Duration login_timeout = std::chrono::seconds{10};
        // Plain profiles: fixed pace after a broken link (section 3). Who was turned away (login
        // refused, upgrade failed, close codes from 3000 on) still backs off. fixed_first counts
        // once until the backoff is reset, so that "at once" can't become a loop.
        std::optional<Duration> fixed_first;
        std::optional<Duration> fixed_interval;
        // Longest wait a server can impose (retryAfterMs, Retry-After, drain window): a mistake
        // there must not keep a client away for good. Zero: none is honoured.
        Duration told_max = std::chrono::hours{24};
        // A token refused as expired so long after it was given may have ended while there was no
        // network: another is asked for. One that is refused sooner was no good to begin with.
        Duration token_fresh = std::chrono::seconds{30};
        Patience::Options patience;  // Of the two timeouts: a paused process reads first.
    };

    class Listener {
    public:
        virtual void on_connect_wanted(std::uint64_t attempt) = 0;
        virtual void on_login_wanted(std::uint64_t attempt) = 0;
        // Close that attempt's connection, in whatever state it is; nothing of it counts any more.
        virtual void on_disconnect_wanted(std::uint64_t attempt, std::uint16_t code,
                                          std::string_view reason) = 0;
        // Ask the app's token provider, once; on_token answers.
        virtual void on_token_wanted(int code) = 0;
        virtual void on_stopped(StopReason reason, int code) = 0;
        virtual void on_state_changed(State from, State to) = 0;

    protected:
        ~Listener() = default;
    };

    // What is known of a connection that ended or never came to be. Told times of zero or less are
    // as none: the backoff counts, else a server could make a loop.
    struct Closed {
        std::uint16_t code = 1006;             // Close code; 1006 when there was none.
        int http_status = 0;                   // Of a failed upgrade, else 0.
        std::optional<Duration> retry_after;   // Retry-After of a failed upgrade.
        std::optional<Duration> drain_window;  // 4007: relogin at a random time within it.
    };

    AutoReloginDaemon(DaemonContext& context, Listener& listener, Options options);

    // ---- of the app ----
    void start();  // Log in now; leaves kIdle and kStopped. Ends a suspension, and
                   // is as resume() in the other states.
    // Own logout. Idempotent; closes 1000 what is open and notifies nobody else.
    void stop();
    void network_available();  // Retry at once.
    void network_lost();       // Stops the clock; the connection, if any, is given up.
    void suspend();
    void resume();
    void on_token();  // A new token is there: connect at once from kWaitingForToken.

    // ---- of the connection; of another attempt than the current one: dropped ----
    void on_connected(std::uint64_t attempt);
    void on_closed(std::uint64_t attempt, const Closed& closed);

    // ---- of the session ----
    void on_login_accepted();
    // retry:false stops for good; 402 asks for a token the first time in a row and stops the
    // second, unless that token had time to end by itself. `retry_after` wins over the backoff.
    void on_login_refused(int code, bool retry, std::optional<Duration> retry_after);
    void on_progress();        // First ack or message of the session: resets the backoff.
    void on_kicked(int code);  // Kick-out packet: final.
    // The workers found the session broken (dead link, protocol violation): close with `code`,
    // relogin with backoff; `retry_after` wins.
    void reconnect(std::uint16_t code, std::string_view reason,
                   std::optional<Duration> retry_after = std::nullopt);
    // The profile turned out to be another: from the next wait on.
    void set_fixed_pace(std::optional<Duration> first, std::optional<Duration> interval);

    State state() const noexcept { return state_; }
    std::uint64_t attempt() const noexcept { return attempt_; }
    std::uint64_t stale_reports() const noexcept { return stale_reports_; }
    bool is_consistent() const;

private:
    bool change(State next, std::optional<Duration> clock, std::string_view reason,
                std::optional<std::uint16_t> close_code);
    void connect_now(std::string_view reason);
    void wait(Duration delay, std::string_view reason, std::optional<std::uint16_t> close_code);
    void stop_for_good(StopReason reason, int code, std::optional<std::uint16_t> close_code);
    Duration broken_link_delay();
    std::optional<Duration> told(std::optional<Duration> time) const;
    void reset_backoff();
    void set_clock(std::optional<Duration> clock);
    bool is_current(std::uint64_t attempt);
    void on_timer();

    DaemonContext& context_;
    Listener& listener_;
    Options options_;
    Backoff backoff_;
    Timer timer_;        // Backoff, a timeout or the stable time: by state.
    Patience patience_;  // While connect or login timeout runs.
    State state_ = State::kIdle;
    std::uint64_t attempt_ = 0;       // Current, or the last one.
    std::uint64_t turn_ = 0;          // Of state changes: tells whether a listener made another.
    TimePoint clock_end_{};           // While timer_ runs.
    std::optional<Duration> frozen_;  // While suspended: what was left on the timer.
    bool is_suspended_ = false;
    bool has_network_ = true;        // As the app said last.
    bool asked_for_token_ = false;   // Since the last accepted login.
    TimePoint token_at_{};           // When the last one was given.
    bool fixed_first_used_ = false;  // Since the backoff was reset.
    std::uint64_t stale_reports_ = 0;
};

std::string_view to_string(AutoReloginDaemon::State state) noexcept;

}  // namespace petrel
