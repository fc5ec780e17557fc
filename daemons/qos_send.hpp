#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "daemons/context.hpp"
#include "daemons/timer.hpp"
#include "protocol/error.hpp"
#include "protocol/packet.hpp"

namespace petrel {

// Sends a message until its ack arrives or it expires.
//
//   submit -> waiting -- window has room --> in flight -- on_ack ----> on_accepted
//                ^                               |  \---- on_refused -> on_rejected
//                '--- on_offline, on_gap --------'   \--- expires_at -> on_expired
//                                                     \-- retries used -> on_lost (plain)
//
// Every submitted message ends in exactly one of those, or in cancel() / take_all(). Two
// strategies: positions with cumulative acks, where only a gap, a refusal or a new session makes a
// packet leave again (petrel.v1, PROTOCOL.md sections 4.1-4.7), and fingerprints with a retry clock
// (plain, section 3). Order: messages leave in the order of submit, those with a position first.
// Offline time counts against the expiry only. Thread-compatible.
class QosSendDaemon {
public:
    enum class Strategy : std::uint8_t { kPositions, kFingerprints };

    struct Options {
        Strategy strategy = Strategy::kPositions;
        // Unacked at once, packets and bytes of payload; the peer may lower both. One packet may
        // always be under way; window 0 from the peer of a gateway: nothing is sent.
        std::size_t window_packets_max = 64;
        std::size_t window_bytes_max = std::size_t{1} << 20;
        // All that is kept; submit() refuses beyond.
        std::size_t kept_max = 10'000;
        std::size_t kept_bytes_max = std::size_t{64} << 20;
        // The client gives positions at the first transmission; the gateway's messages bring the
        // inbox position in Data::seq.
        bool assigns_positions = true;
        // Plain, section 3. retries nullopt: until acked (the gateway's pushes).
        Duration check_period = std::chrono::seconds{5};
        Duration retry_not_younger = std::chrono::seconds{3};
        std::optional<unsigned> retries = 2;
        std::size_t late_ack_memory = 1024;  // Fingerprints of lost messages whose ack may yet come.
    };

    // What a message looked like when it ended.
    struct Settled {
        const Data& message;     // Valid during the call only.
        unsigned attempts = 0;   // 0: it was never on the wire.
        Position position = 0;   // 0: it never had one, or plain.
    };

    class Listener {
    public:
        // `at` is nullptr when the ack came without details (covered by h, or by a login reply).
        virtual void on_accepted(const Settled& message, const Acceptance* at) = 0;
        virtual void on_rejected(const Settled& message, int code) = 0;
        virtual void on_expired(const Settled& message) = 0;
        virtual void on_lost(const Settled& message) = 0;             // Plain.
        virtual void on_late_ack(const Fingerprint& fp) = 0;          // Plain: lost, yet acked.
        // The peer's store has lost what it had accepted (resume below `first` - 1).
        virtual void on_peer_lost_accepted(Position accepted, Position first) = 0;
        // The peer knows more of this stream than was ever sent: log in again with a new stream;
        // start_new_stream() has been called by then.
        virtual void on_new_stream_wanted() = 0;
        // Window or oldest unacked changed: see oldest_unacked().
        virtual void on_outstanding_changed() = 0;
        // First transmission of an ack's packet answered: a round-trip sample (Karn).
        virtual void on_round_trip(Duration sample) = 0;

    protected:
        ~Listener() = default;
    };

    // What the login told. Plain: only window and window_bytes count.
    struct Resume {
        Position accepted = 0;
        std::size_t window = 64;
        std::size_t window_bytes = std::size_t{1} << 20;
    };

    QosSendDaemon(DaemonContext& context, Listener& listener, Options options);
    ~QosSendDaemon();

    // Errc::kSendFailed (3, "full") at kept_max or kept_bytes_max, Errc::kFingerprintReused if the
    // fingerprint is here already (find() shows the payload), Errc::kInvalidPacket without a
    // fingerprint (strategy kFingerprints, or assigns_positions) or, when it doesn't assign
    // positions, if Data::seq is not above all before. None of them changes anything.
    [[nodiscard]] std::error_code submit(Data message, std::optional<TimePoint> expires_at);

    // True if it was here: it is gone, nobody is notified; `attempts` tells how often it was sent.
    bool cancel(const Fingerprint& fp, unsigned* attempts);
    // Everything that is still kept, in order; nobody is notified (destroy, logout with discard).
    std::vector<std::pair<Data, unsigned>> take_all();

    void on_online(const Resume& resume);
    void on_offline();                       // Idempotent.
    void set_strategy(Strategy strategy);    // While offline: the server turned out to be plain.
    void start_new_stream();                 // While offline: positions begin at 1 again.

    // False: `h` is above everything sent (and the resume position): a protocol violation (4.3).
    [[nodiscard]] bool on_ack(Position h, const std::vector<Acceptance>& acc);
    void on_fingerprint_ack(const Fingerprint& fp);
    // Go back to the first kept after `rx`. The `h` in the same packet goes to on_ack first.
    // Ignored while paused. `rx` above everything sent: ignored, false.
    bool on_gap(Position rx);
    // 52 with fp and seq (4.7). Code 302 pauses for retry_after and settles nothing; 301 and 402
    // settle nothing; any other rejects the message. Returns false for an unknown or settled one.
    bool on_refused(const Fingerprint& fp, Position seq, int code, Duration retry_after);

    // The socket's queue is too long (section 4.6): first transmissions and retransmissions wait.
    void set_writable(bool is_writable);

    std::size_t kept() const noexcept { return entries_.size(); }
    std::size_t in_flight() const noexcept { return in_flight_; }
    std::size_t kept_bytes() const noexcept { return kept_bytes_; }
    const Data* find(const Fingerprint& fp) const;
    Position highest_acked() const noexcept { return acked_; }      // `first` of a login is this + 1.
    Position highest_given() const noexcept { return given_; }
    Position sent_mark() const;              // Highest sent that is still kept or acked (4.5).
    struct Outstanding {
        Position position = 0;
        TimePoint sent_at{};
    };
    std::optional<Outstanding> oldest_unacked() const;
    bool has_room(std::size_t payload_bytes) const;   // For one more in the window, now.
    std::uint64_t retransmissions() const noexcept { return retransmissions_; }
    std::uint64_t unknown_acks() const noexcept { return unknown_acks_; }
    bool is_consistent() const;

private:
    struct Entry {
        Data message;
        std::optional<TimePoint> expires_at;
        TimePoint first_sent_at{};   // When attempts > 0.
        TimePoint last_sent_at{};
        unsigned attempts = 0;
        unsigned session_sends = 0;  // In this session: > 1 gives no round-trip sample.
    };
    using Entries = std::list<Entry>;
    using Expiries = std::multimap<TimePoint, Entries::iterator>;

    void pump();
    void transmit(Entries::iterator entry);
    void remove(Entries::iterator entry);
    void rearm();
    void on_timer();
    void expire();
    void check_retries();

    DaemonContext& context_;
    Listener& listener_;
    Options options_;
    Timer timer_;                  // The earliest of expiry, end of pause, plain check.
    Entries entries_;              // In order; those before next_ are in flight.
    Entries::iterator next_;       // The next to leave.
    std::unordered_map<Fingerprint, Entries::iterator> by_fp_;
    Expiries expiries_;
    bool is_online_ = false;
    bool is_writable_ = true;
    bool is_single_step_ = false;  // After a refusal, until the next ack (4.7).
    std::optional<TimePoint> paused_until_;  // 302.
    std::optional<TimePoint> next_check_;    // Plain, while online and something is in flight.
    std::size_t window_ = 0;       // While online.
    std::size_t window_bytes_ = 0;
    std::size_t in_flight_ = 0;
    std::size_t in_flight_bytes_ = 0;
    std::size_t kept_bytes_ = 0;
    Position given_ = 0;           // Highest position ever given in this stream.
    Position acked_ = 0;           // Highest position an ack has covered.
    Position session_sent_ = 0;    // Highest sent or resumed in this session.
    std::deque<Fingerprint> lost_; // Plain: the last late_ack_memory lost ones.
    std::uint64_t retransmissions_ = 0;
    std::uint64_t unknown_acks_ = 0;
};

}  // namespace petrel
