#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "daemons/context.hpp"
#include "daemons/id_table.hpp"
#include "daemons/pending_table.hpp"
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
        // Unacked at once, packets and bytes of frames (estimated: the text + kFrameOverhead); the
        // peer may lower both. One packet may always be under way, unless the peer's window is 0.
        std::size_t window_packets_max = 64;
        std::size_t window_bytes_max = std::size_t{1} << 20;
        // All that is kept, messages and bytes of their texts; submit() refuses beyond.
        std::size_t kept_max = 10'000;
        std::size_t kept_bytes_max = std::size_t{64} << 20;
        // The client gives positions at the first transmission; the gateway's messages bring the
        // inbox position in Data::seq.
        bool assigns_positions = true;
        // A 302 pauses no longer than this, whatever it asks for.
        Duration pause_max = std::chrono::minutes{10};
        // Plain, section 3. retries nullopt: until acked (the gateway's pushes). The period is at
        // least 1 ms.
        Duration check_period = std::chrono::seconds{5};
        Duration retry_not_younger = std::chrono::seconds{3};
        std::optional<unsigned> retries = 2;
        // Fingerprints of lost messages whose ack may yet come.
        std::size_t late_ack_memory = 1024;
    };

    // What a frame has besides its text: keys, fingerprint, user ids. Only for the window.
    static constexpr std::size_t kFrameOverhead = 256;

    // What a message looked like when it ended.
    struct Settled {
        const Data& message;    // Valid during the call only.
        unsigned attempts = 0;  // 0: it was never on the wire.
        Position position = 0;  // 0: it never had one, or plain.
    };

    class Listener {
    public:
        // `at` is nullptr when the ack came without details (covered by h, or by a login reply).
        virtual void on_accepted(const Settled& message, const Acceptance* at) = 0;
        virtual void on_rejected(const Settled& message, int code) = 0;
        virtual void on_expired(const Settled& message) = 0;
        virtual void on_lost(const Settled& message) = 0;     // Plain.
        virtual void on_late_ack(const Fingerprint& fp) = 0;  // Plain: lost, yet acked.
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

    // Errc::kInvalidPacket without a fingerprint (strategy kFingerprints, or assigns_positions) or,
    // with positions that it doesn't assign, if Data::seq is not above all before;
    // Errc::kFingerprintReused if the fingerprint is here already (find() shows the payload);
    // Errc::kSendFailed (3, "full") at kept_max or kept_bytes_max. None of them changes anything.
    // Given positions identify the message alone: two senders may have chosen one fingerprint, so
    // those are not looked up by it. `attempts`: transmissions that an earlier process has made.
    // `taken_at`: when the app gave it away, if that was not now. `is_fresh`: the fingerprint was
    // made for this message, so that none can have it already.
    [[nodiscard]] std::error_code submit(Data&& message, std::optional<TimePoint> expires_at,
                                         unsigned attempts = 0,
                                         std::optional<TimePoint> taken_at = std::nullopt,
                                         bool is_fresh = false);

    // What is kept expires at the latest `age_max` after it was taken; expiries only get earlier.
    void limit_age(Duration age_max);

    // True if it was here: it is gone, nobody is notified; `attempts` tells how often it was sent.
    bool cancel(const Fingerprint& fp, unsigned* attempts);
    // take(const Data&, unsigned attempts), of everything that is still kept, in order; nobody is
    // notified (destroy, logout with discard). It must not call back.
    template <class Take>
    void take_all(Take take) {
        for_each_kept(take);
        drop_all();
    }

    void on_online(const Resume& resume);
    void on_offline();                     // Idempotent.
    void set_strategy(Strategy strategy);  // While offline: the server turned out to be plain.
    void start_new_stream();               // While offline: positions begin at 1 again.

    // The inputs below mean nothing while offline or for the other strategy: ignored.

    // False: `h` is above everything sent in this session (and the resume position): a protocol
    // violation (4.3), nothing has changed.
    [[nodiscard]] bool on_ack(Position h, const std::vector<Acceptance>& acc);
    void on_fingerprint_ack(const Fingerprint& fp);
    // Go back to the first kept after `rx`. The `h` in the same packet goes to on_ack first.
    // Ignored while paused and when it is older than the last ack. `rx` above everything sent in
    // this session: ignored, false.
    bool on_gap(Position rx);
    // 52 with fp and seq (4.7). Code 302 pauses for retry_after and settles nothing; 301 and 402
    // settle nothing; any other rejects the message. Returns false for an unknown or settled one
    // (then nothing has changed).
    bool on_refused(const Fingerprint& fp, Position seq, int code, Duration retry_after);

    // The socket's queue is too long (section 4.6): first transmissions and retransmissions wait.
    // on_offline makes it true again.
    void set_writable(bool is_writable);

    // What has ended is not yet written down, and would come again if the process died now: nothing
    // may leave behind it meanwhile, or the order is lost. Plain retries go on. Stays over
    // sessions.
    void set_held(bool is_held);
    bool is_held() const noexcept { return is_held_; }

    std::size_t kept() const noexcept { return table_.size(); }
    std::size_t in_flight() const noexcept { return in_flight_; }
    std::size_t kept_bytes() const noexcept { return kept_bytes_; }
    std::optional<Data> find(const Fingerprint& fp);
    // visit(const Data&, unsigned attempts), in order; it must not call back.
    template <class Visit>
    void for_each_kept(Visit visit) const {
        Data scratch;
        for (Slot slot = table_.front(); slot != kNoSlot; slot = table_.next(slot)) {
            visit(std::as_const(table_.message(slot, scratch)), attempts(slot));
        }
    }
    Position highest_acked() const noexcept { return acked_; }  // `first` of a login is this + 1.
    Position highest_given() const noexcept { return given_; }
    Position sent_mark() const;  // Highest sent that is still kept or acked (4.5).
    struct Outstanding {
        Position position = 0;
        TimePoint sent_at{};
    };
    // None while paused by a 302: an overdue ack means nothing then (4.7).
    std::optional<Outstanding> oldest_unacked() const;
    // Whether one more message with that much text would leave at once.
    bool has_room(std::size_t payload_bytes) const;
    std::uint64_t retransmissions() const noexcept { return retransmissions_; }
    std::uint64_t unknown_acks() const noexcept { return unknown_acks_; }
    bool is_consistent() const;

private:
    using Sent = PendingTable::Sent;

    // What on_outstanding_changed tells a change of.
    struct Reported {
        bool has_room = false;
        std::size_t in_flight = 0;
        std::optional<Outstanding> oldest;
    };

    bool is_given_positions() const noexcept;
    bool is_in_flight(Slot slot) const;
    bool is_sent(Slot slot, Position up_to) const;
    Position position(Slot slot) const;
    unsigned attempts(Slot slot) const;
    bool fits(std::size_t frame_bytes) const noexcept;
    bool can_send() const;
    std::optional<Duration> round_trip(Slot slot);
    void transmit(Slot slot, Data& scratch);
    void leave_flight(Slot slot);
    void go_back(Position rx);
    void detach(Slot slot, SlotList& to);
    void drop_all();
    enum class Ending : std::uint8_t { kAccepted, kRejected, kExpired, kLost };
    // Tells what became of each of them, and they are gone. `code` of kRejected; `details` of
    // kAccepted, by position.
    void end(const SlotList& ended, Ending how, int code = 0,
             const std::vector<Acceptance>* details = nullptr);
    void settle();
    void rearm();
    void report();
    void on_timer();
    void check_retries(TimePoint now, SlotList& lost);
    void remember_lost(Slot slot);
    bool forget_lost(const Fingerprint& fp);

    DaemonContext& context_;
    Listener& listener_;
    Options options_;
    Timer timer_;                // The earliest of expiry, end of pause, plain check.
    PendingTable table_;         // In order; those before next_ are in flight.
    Slot next_ = kNoSlot;        // The next to leave; kNoSlot: none waits.
    Slot fresh_ = kNoSlot;       // The first not yet sent in this stream; >= next_ (positions).
    std::uint32_t session_ = 1;  // Changes whenever one ends.
    Duration age_limit_ = Duration::max();  // Of limit_age(), while it holds for all.
    bool is_online_ = false;
    bool is_writable_ = true;
    bool is_held_ = false;
    bool is_reporting_ = false;              // Inside on_outstanding_changed.
    std::optional<Position> step_after_;     // Refused: one packet above it at a time (4.7).
    std::optional<TimePoint> paused_until_;  // 302.
    std::optional<TimePoint> next_check_;    // Plain, while online and something is in flight.
    std::size_t window_ = 0;                 // While online; 0: nothing may leave.
    std::size_t window_bytes_ = 0;
    std::size_t in_flight_ = 0;
    std::size_t in_flight_bytes_ = 0;  // Of frames, estimated.
    std::size_t kept_bytes_ = 0;       // Of texts.
    Position given_ = 0;               // Highest position ever given in this stream.
    Position acked_ = 0;         // Highest position an ack has covered; all kept are above it.
    Position session_sent_ = 0;  // Highest sent or resumed in this session.
    Reported reported_;
    std::unique_ptr<IdTable> lost_;  // Plain: the last late_ack_memory lost ones, if any.
    std::uint64_t retransmissions_ = 0;
    std::uint64_t unknown_acks_ = 0;
};

}  // namespace petrel
