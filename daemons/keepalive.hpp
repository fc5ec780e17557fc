#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "daemons/context.hpp"
#include "daemons/patience.hpp"
#include "daemons/round_trip.hpp"
#include "daemons/timer.hpp"
#include "protocol/packet.hpp"

namespace petrel {

// The client's half of PROTOCOL.md section 4.5 (plain: section 3): beats at a fixed interval, beats
// at once when an ack is overdue, and declares the link dead when nothing at all comes back.
//
//   kOffline -- on_online --> kListening -- beat sent --> kProbing -- any packet --> kListening
//                                                            '-- timeout --> on_link_dead
//
// Every beat starts a probe unless one runs. After a pause of the process it lets the socket be
// read before it judges (daemons/patience.hpp). The listener may call any input. Thread-compatible.
class KeepaliveDaemon {
public:
    enum class State : std::uint8_t { kOffline, kListening, kProbing };

    struct Options {
        Duration interval = std::chrono::seconds{25};  // v1: on_online brings the server's.
        Duration interval_min = std::chrono::milliseconds{100};  // Whatever the server says.
        RoundTrip::Options round_trip;                           // Bounds of the probe's time, v1.
        // Plain: the fixed patience instead of the estimate. With patience_since_answer it runs
        // since the last packet (mobileimsdk), else since the first unanswered beat (im-sdk).
        std::optional<Duration> patience;
        bool patience_since_answer = false;
        Patience::Options late;
    };
    // A probe or an overdue ack gets this long at least: zero would beat in a loop.
    static constexpr Duration kProbeMin = std::chrono::milliseconds{10};

    class Listener {
    public:
        virtual void on_beat_due() = 0;  // Send a heartbeat with the current positions, now.
        virtual void on_link_dead(std::string_view reason) = 0;  // State is kOffline by then.

    protected:
        ~Listener() = default;
    };

    KeepaliveDaemon(DaemonContext& context, Listener& listener, Options options);

    // Login accepted. The first beat comes at a random time within the interval; zero or less
    // stands for Options::interval.
    void on_online(Duration interval);
    void on_offline();  // Idempotent; forgets everything but the round trip.
    // While offline: the fixed patience, or the estimate again.
    void set_plain(Duration interval, Duration patience, bool since_answer);
    void set_v1(Duration interval);

    void on_inbound();  // Any packet at all.
    // A 51. `rx` is its position taken in order, when it has one: when it covers the overdue
    // position, the store is slow and not the link, and the next probe waits twice as long.
    void on_beat_answered(std::optional<Position> rx);

    // The oldest unacked packet on the wire: its position and when it left the send buffer (not
    // before). nullopt: nothing is outstanding. Called whenever that changes; what is said while
    // offline counts for the session that follows.
    void on_outstanding(std::optional<Position> position, TimePoint left_at);
    void on_round_trip(Duration sample);  // Of an ack of a packet that was sent once.

    // A hint (network changed): beats at once if online. Nothing while a probe runs already.
    void probe_now();
    void suspend();  // Freezes: no beat, no verdict.
    void resume();   // Reads first (late_grace), then probes.

    State state() const noexcept { return state_; }
    const RoundTrip& round_trip() const noexcept { return round_trip_; }
    Duration ack_timeout() const noexcept;  // Doubled while the store is slow.
    bool is_consistent() const;

private:
    void set_state(State next, std::string_view reason);
    void forget_session();
    void beat(std::string_view reason);
    Duration probe_time() const;
    TimePoint overdue_at() const;  // While outstanding_.
    void rearm();
    void on_timer();

    DaemonContext& context_;
    Listener& listener_;
    Options options_;
    RoundTrip round_trip_;
    Timer timer_;  // The earliest of next beat, overdue ack, verdict.
    State state_ = State::kOffline;
    bool is_suspended_ = false;
    Duration interval_{0};                 // While online.
    TimePoint next_beat_{};                // While online.
    TimePoint last_inbound_{};             // While online.
    TimePoint last_beat_{};                // While unanswered_beats_ > 0: the last one.
    Patience verdict_;                     // While kProbing: when the link is dead.
    unsigned unanswered_beats_ = 0;        // 2 stands for more, too.
    bool is_answer_doubtful_ = false;      // The next answer may be of an earlier beat.
    std::optional<Position> outstanding_;  // While an ack is awaited.
    TimePoint outstanding_since_{};        // It left, or the last beat because of it.
    bool has_asked_for_ack_ = false;       // By a beat since the outstanding position moved.
    unsigned slow_store_doublings_ = 0;    // Until the outstanding position moves.
};

std::string_view to_string(KeepaliveDaemon::State state) noexcept;

// The gateway's half: a session silent for `silence_max` is reported once, after a pause of the
// process only when its socket has been read. Thread-compatible.
class SilenceCheck {
public:
    struct Options {
        Duration silence_max = std::chrono::milliseconds{62'500};  // 2.5 x heartbeatMs.
        Patience::Options late;
    };

    class Listener {
    public:
        virtual void on_silent() = 0;

    protected:
        ~Listener() = default;
    };

    SilenceCheck(DaemonContext& context, Listener& listener, Options options);
    void start();  // From now on.
    void start(Duration silence_max);
    void stop();        // Idempotent.
    void on_inbound();  // Cheap: moves a value, not a timer.

    bool is_consistent() const;

private:
    TimePoint deadline() const;
    void on_timer();

    DaemonContext& context_;
    Listener& listener_;
    Duration silence_max_;
    TimePoint last_inbound_{};  // While the timer runs.
    Patience patience_;         // Of the deadline as it was when the timer was armed.
    Timer timer_;
};

}  // namespace petrel
