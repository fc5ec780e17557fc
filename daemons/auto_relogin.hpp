#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "daemons/backoff.hpp"
#include "daemons/context.hpp"
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
// A suspend freezes whatever timer runs; a resume from kWaiting connects at once. Every connection
// attempt has a number, growing from 1; what is reported of an older one is dropped and counted.
// Thread-compatible.
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
        kRefused,     // Login refused with retry:false, or close 4003 / 3500-3999 / 4500-4999.
        kKicked,      // Kick-out packet or close 4004.
    };

    struct Options {
        Duration backoff_base = std::chrono::milliseconds{500};  // PROTOCOL.md section 4.9.
        Duration backoff_max = std::chrono::seconds{30};
        Duration stable_after = std::chrono::seconds{30};        // Online so long resets the backoff.
        Duration connect_timeout = std::chrono::seconds{10};
        Duration login_timeout = std::chrono::seconds{10};
        // Plain profiles: fixed pace after a broken link (section 3); refusals still back off.
        std::optional<Duration> fixed_first;
        std::optional<Duration> fixed_interval;
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

    // What is known of a connection that ended or never came to be.
    struct Closed {
        std::uint16_t code = 1006;                 // Close code; 1006 when there was none.
        int http_status = 0;                       // Of a failed upgrade, else 0.
        std::optional<Duration> retry_after;       // Retry-After of a failed upgrade.
        std::optional<Duration> drain_window;      // 4007: relogin at a random time within it.
    };

    AutoReloginDaemon(DaemonContext& context, Listener& listener, Options options);

    // ---- of the app ----
    void start();                 // Log in now; leaves kIdle and kStopped. Otherwise as resume().
    void stop();                  // Own logout. Idempotent; closes 1000 what is open; notifies nobody else.
    void network_available();     // Retry at once.
    void network_lost();          // Stops the clock; the connection, if any, is given up.
    void suspend();
    void resume();
    void on_token();              // A new token is there: connect at once from kWaitingForToken.

    // ---- of the connection; of another attempt than the current one: dropped ----
    void on_connected(std::uint64_t attempt);
    void on_closed(std::uint64_t attempt, const Closed& closed);

    // ---- of the session ----
    void on_login_accepted();
    // retry:false stops for good; 402 asks for a token the first time in a row and stops the
    // second. `retry_after` wins over the backoff.
    void on_login_refused(int code, bool retry, std::optional<Duration> retry_after);
    void on_progress();           // First ack or message of the session: resets the backoff.
    void on_kicked(int code);     // Kick-out packet: final.
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
    void set_state(State next, std::string_view reason);
    void connect_now(std::string_view reason);
    void wait(Duration delay, std::string_view reason);
    void wait_backoff(std::optional<Duration> told, std::string_view reason);
    void give_up_connection(std::uint16_t code, std::string_view reason);
    void stop_for_good(StopReason reason, int code);
    void on_timer();

    DaemonContext& context_;
    Listener& listener_;
    Options options_;
    Backoff backoff_;
    Timer timer_;                    // Backoff, connect or login timeout, or stable time: by state.
    State state_ = State::kIdle;
    std::uint64_t attempt_ = 0;      // Current, or the last one.
    bool is_open_ = false;           // A connection of `attempt_` may exist (kConnecting..kOnline).
    bool is_suspended_ = false;
    std::optional<Duration> frozen_; // While suspended: what was left on the timer.
    bool asked_for_token_ = false;   // Since the last accepted login.
    bool fixed_first_used_ = false;  // Since the last accepted login.
    std::uint64_t stale_reports_ = 0;
};

std::string_view to_string(AutoReloginDaemon::State state) noexcept;

}  // namespace petrel
