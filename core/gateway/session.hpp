#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/gateway/authenticator.hpp"
#include "core/gateway/inbox_feed.hpp"
#include "core/gateway/metrics.hpp"
#include "core/gateway/rate_limit.hpp"
#include "core/gateway/router.hpp"
#include "daemons/keepalive.hpp"
#include "daemons/patience.hpp"
#include "daemons/qos_receive.hpp"
#include "daemons/qos_send.hpp"
#include "daemons/ring.hpp"
#include "protocol/codec.hpp"

namespace petrel {

class Session;

// The connection that a session lives on, and what its shard lends it. Never calls back from
// inside a call.
class SessionHost {
public:
    virtual void send_text(std::string_view text) = 0;
    // The last call that a session makes: from now on it only waits to be destroyed.
    virtual void close(std::uint16_t code, std::string_view reason) = 0;
    virtual std::size_t queued_bytes() const = 0;
    virtual std::size_t queued_packets() const = 0;
    virtual void want_flush(Session& session) = 0;  // Call flush() at the end of this turn.
    virtual TimerQueue& timers() = 0;
    virtual std::uint64_t random(std::uint64_t low, std::uint64_t high) = 0;
    virtual FingerprintSource& fingerprints() = 0;
    virtual Authenticator& authenticator() = 0;
    virtual void log(LogLevel level, std::string_view text) = 0;
    // For what one packet needs while it is written; all sessions of a shard share it.
    virtual std::string& scratch() = 0;
    // One login of this connection's address, or of an account: zero, or how long to wait.
    virtual Duration take_login() { return Duration::zero(); }
    virtual Duration take_login(const UserKey&) { return Duration::zero(); }
    virtual void on_login() {}  // The connection is not a stranger's any more.

protected:
    ~SessionHost() = default;
};

struct SessionOptions {
    Duration heartbeat = std::chrono::seconds{25};       // Told to v1 clients.
    Duration login_deadline = std::chrono::seconds{10};  // PROTOCOL.md section 4.5.
    // From 402 to the end of a session whose token has expired: an app asks a server of its own for
    // the next one, over a phone's network.
    Duration token_grace = std::chrono::seconds{60};
    std::uint32_t window = 64;             // Taken and not yet decided, packets...
    std::uint32_t window_bytes = 1 << 20;  // ...and bytes of frames.
    std::size_t payload_max = 65'536;      // UTF-8 bytes of dataContent.
    std::int64_t dedup_horizon_ms = 86'400'000;
    std::size_t waiting_packets_max = 64;  // Behind a login under decision.
    std::size_t waiting_bytes_max = 1 << 20;
    std::size_t plain_pending_max = 1024;           // Plain: not yet decided, then 302.
    std::uint32_t push_window_max = 1024;           // Unhandled, whatever window...
    std::uint32_t push_window_bytes_max = 4 << 20;  // ...the client would take.
    std::size_t push_packets_max = 256;             // Queued on the socket: pushes wait.
    std::size_t push_bytes_max = 256 * 1024;
    std::size_t queued_bytes_max = 1 << 20;  // Of what cannot wait: close 4005.
    std::size_t malformed_max = 16;          // Within malformed_span: close 4006.
    Duration malformed_span = std::chrono::minutes{1};
    std::int64_t busy_retry_ms = 1'000;  // Told with 302.
    // Messages of one session: beyond, 302. None by default: a window's worth and the store's pace
    // bound a session already.
    Rate message_rate;
    Duration plain_check_period = std::chrono::seconds{5};  // Section 3: pushes to plain clients.
    Duration plain_retry_not_younger = std::chrono::seconds{2};
    std::size_t plain_window = 64;
    std::int64_t drain_window_ms = 5'000;  // Told with close 4007.
    InboxFeed::Options feed;
};

// One connection's end in the gateway.
//
//   kFresh -- login asked --> kDeciding -- accepted --> kOnline
//      |  login deadline          | refused                | logout, displaced, silence, slow
//      '--------------------------'---------> kClosed <----'  reader, violation, connection lost
//
// It speaks the profile of its client, takes messages into the store (QoS receive), pushes the
// user's inbox (QoS send), and acts in nobody's name but its own user's. Most sessions are idle
// most of the time: what messages need is made when one comes, and goes when a heartbeat finds
// nothing left of it. I/O-free, thread-compatible; lives and dies on one shard.
class Session final : public RoutedSession,
                      private DaemonContext,
                      private QosSendDaemon::Listener,
                      private QosReceiveDaemon::Listener,
                      private SilenceCheck::Listener {
public:
    enum class State : std::uint8_t { kFresh, kDeciding, kOnline, kClosed };

    // `connection` grows with every accepted connection of the gateway. `subprotocol` is what the
    // handshake echoed.
    Session(SessionHost& host, Router& router, const SessionOptions& options,
            SessionCounters& counters, std::uint64_t connection, std::string_view subprotocol);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // ---- of the connection ----
    void on_text(std::string_view text);
    void on_binary();
    void on_drained();
    void on_connection_closed(std::uint16_t code);
    void flush();
    // Tell the client to come back elsewhere, close 4007. Without `window_ms`: the option's.
    void drain(std::optional<std::int64_t> window_ms = std::nullopt);
    void kick(std::string_view reason);  // By an admin: kick-out packet, close 4004.

    // ---- of the router ----
    void on_login_verdict(const LoginVerdict& verdict) override;
    void on_displaced(bool is_same_login, const std::string& device) override;
    void on_append_result(const AppendResult& result) override;
    void on_delivery(const Delivery& delivery) override;
    void on_page(const ReadResult& page) override;
    void on_direct(const Data& data) override;
    void on_receipt(const Receipt& receipt) override;

    State state() const noexcept { return state_; }
    SessionId id() const noexcept { return id_; }
    std::uint64_t connection() const noexcept { return connection_; }
    const Identity& identity() const noexcept { return *identity_; }
    ProfileId profile_id() const noexcept { return profile_; }
    // What the client of a v1 session was told it is, else empty.
    std::string public_id() const { return told_.session.to_string(); }
    std::size_t pushes_ready() const noexcept { return traffic_ ? traffic_->feed.ready() : 0; }
    bool is_at_rest() const noexcept { return !traffic_; }  // Nothing kept of any message.
    std::size_t in_flight() const;
    std::uint64_t backlog() const;  // Messages of the inbox that it has not acked yet.
    bool is_consistent() const;

private:
    struct PlainAnswer {        // What the ack or the refusal says.
        bool wants_ack = true;  // It had a fingerprint of its own.
        bool bridge = false;
        std::string to;
        std::string refused_text;  // The packet.
    };
    // A message handed to the store whose result has not come yet; results come in this order.
    struct PendingAppend {
        Position seq = 0;        // 0: plain.
        Position rx_before = 0;  // The last position taken before it.
        std::uint64_t take = 0;  // Of `take`: an older one was rewound meanwhile.
        std::size_t bytes = 0;
        std::unique_ptr<PlainAnswer> plain;  // nullptr for v1.
    };
    struct Refused {  // v1: where the stream stands still (section 4.7).
        Position seq = 0;
        Fingerprint fp;
        int code = 0;
    };
    // A deadline of the client's. After a pause of the process it waits until the socket was looked
    // at (section 4.5).
    struct Deadline {
        Deadline(TimerQueue& timers, const char* name, std::function<void()> on_look)
            : timer(timers, name, std::move(on_look)) {}
        void start(TimePoint at) {
            patience.start(at);
            timer.start_at(patience.look_at());
        }
        bool is_over(TimePoint now) {  // False: it looks again.
            if (patience.is_over(now)) return true;
            timer.start_at(patience.look_at());
            return false;
        }
        Patience patience{Patience::Options{}};
        Timer timer;
    };
    struct Opening {  // Until the login is decided.
        explicit Opening(Session& session);
        Deadline deadline;                 // While kFresh.
        std::vector<std::string> waiting;  // While kDeciding: packets behind the login.
        std::size_t waiting_bytes = 0;
        Position stream_first = 1;  // v1, of the login.
    };
    // What the reply to a v1 login told, but for what is the same for all: it may be asked again.
    struct LoginTold {
        Fingerprint session;
        Fingerprint epoch;
        Position seq = 0;
        Position last = 0;
        Position accepted = 0;
        WallMillis server_ts = 0;
        bool is_recovered = true;
    };
    struct TokenClock {
        TokenClock(Session& session, TimePoint ends_at);
        TimePoint ends;
        bool is_expired = false;  // It was told, the grace period runs.
        Deadline grace;           // Its timer runs for `ends`, too.
    };
    struct SlowCheck {
        explicit SlowCheck(Session& session);
        Deadline deadline;
        std::uint64_t sent_bytes = 0;     // Since it was made, and what was queued then.
        std::uint64_t drained_bytes = 0;  // Of them, when the deadline was started.
    };
    // Where a session without traffic stands: everything taken is acked, everything pushed is
    // handled.
    struct Rest {
        Position taken = 0;  // v1: of the client's stream.
        Position inbox = 0;  // Handled up to here; for whom it is meant, nothing comes behind.
    };
    // v1: what the client has handled now and was pushed to an earlier session of its device, where
    // the ack got lost. It is read once more, for the receipts of its senders.
    struct Past {
        Position after = 0;       // Up to here they were told...
        Position to = 0;          // ...and up to here they are to be.
        Position reading_to = 0;  // While a page is read; 0: none is.
        bool is_over() const { return after >= to && reading_to == 0; }
        void end_at(Position end) {
            to = end;
            after = std::max(after, end - std::min(end, kPositionsMax));
        }
        // An honest gap is about a window; the rest of a longer one goes without.
        static constexpr Position kPositionsMax = 4096;
    };
    // What messages under way need.
    struct Traffic {
        Traffic(Session& session, const Rest& rest);
        QosSendDaemon send;
        std::uint64_t retransmissions = 0;  // Of `send`, as counted.
        QosReceiveDaemon receive;
        std::shared_ptr<const std::string> stream;  // v1: its name, for the store.
        InboxFeed feed;
        Ring<PendingAppend> pending;
        std::size_t pending_bytes = 0;
        std::uint64_t take = 0;
        std::optional<Refused> refused;
        RateLimit message_rate;
        TimePoint paused_until{};          // By message_rate, and told with 302.
        std::size_t in_pause = 0;          // Messages that came all the same.
        std::vector<Acceptance> accepted;  // v1: for the next ack.
        std::vector<Handled> handled;      // Of one ack: the highest of each conversation.
        std::vector<Handled> held_back;    // Plain: acked before a lower one of theirs.
        Past past;
    };

    // DaemonContext
    void send(const Packet& packet) override;
    void send(const Data& data) override;
    TimerQueue& timers() override { return host_.timers(); }
    std::uint64_t random(std::uint64_t low, std::uint64_t high) override {
        return host_.random(low, high);
    }
    void log(LogLevel level, std::string_view text) override { host_.log(level, text); }

    // Workers
    void on_accepted(const QosSendDaemon::Settled& message, const Acceptance* at) override;
    void on_rejected(const QosSendDaemon::Settled&, int) override {}
    void on_expired(const QosSendDaemon::Settled&) override {}
    void on_lost(const QosSendDaemon::Settled&) override {}
    void on_late_ack(const Fingerprint&) override {}
    void on_peer_lost_accepted(Position, Position) override {}
    void on_new_stream_wanted() override {}
    void on_outstanding_changed() override {}
    void on_round_trip(Duration) override {}
    void on_ack_due(const QosReceiveDaemon::AckDue& ack) override;
    void on_ack_due(std::string_view, const Fingerprint&) override {}
    void on_silent() override;

    // Lifecycle and dispatch (session.cpp)
    void dispatch(std::string_view text);
    void on_malformed();
    void handle(Login& login);
    void handle(Heartbeat& heartbeat, std::string_view text);
    void handle(Logout& logout);
    void handle(Ack& ack, std::string_view text);
    void handle(Echo& echo);
    void refuse_before_login(std::string_view text);
    void login_again(const Login& login);
    LoginReplyV1 login_reply() const;
    void refuse_busy_login(const std::string& message, Duration wait);
    void refuse_login(int code, const std::string& message, bool retry,
                      std::optional<std::int64_t> retry_after_ms);
    void close(std::uint16_t code, std::string_view reason);
    void kick_out(int code, std::string_view reason, const std::string& device);
    void transmit(std::string_view text);
    void on_login_deadline();
    Authenticator::Verdict verify(const std::string& token) const;
    void keep_token_end(const Authenticator::Verdict& verdict);
    void start_token_clock();
    void on_token_timer();
    void on_slow_check();
    void watch_queue();
    bool is_v1() const noexcept { return profile_ == ProfileId::kPetrelV1; }
    // Whether its client wants the messages of its inbox.
    bool is_receiving() const noexcept { return !is_v1() || client_window_ > 0; }
    QosSendDaemon::Options send_options() const;
    Traffic& traffic();
    bool is_traffic_over(TimePoint now) const;
    void rest_if_traffic_is_over();
    bool is_socket_full() const;
    Duration silence_max() const;
    TraceEvent trace_event(std::string_view event) const;
    void trace(std::string_view event, int code = 0) const;
    void trace(std::string_view event, const Data& data) const;
    void trace(std::string_view event, const AppendResult& result) const;

    // Messages in and out (session_messages.cpp)
    void handle(Data& data, std::string_view text);
    int objection(const Data& data) const;
    bool is_within_rate(const Data& data, std::string_view text);
    void tell_pause(const Data& data, std::string_view text);
    void take_v1(Data& data, std::size_t frame_bytes);
    void take_plain(Data& data, std::string_view text);
    void forward_direct(Data& data, std::string_view text);
    bool hand_to_store(Data& data, PendingAppend pending);
    void on_result_v1(const AppendResult& result, const PendingAppend& pending);
    void on_result_plain(const AppendResult& result, const PendingAppend& pending);
    void send_error(int code, std::string message, const Fingerprint& fp, Position seq,
                    std::optional<std::int64_t> retry_after_ms);
    void violate(std::string_view what);
    void push();
    CursorUpdate cursor_update(bool is_plain, Position position) const;
    bool on_handled_up_to(Position h);
    void read_past();
    void on_past(const ReadResult& page);
    void send_receipts();
    void add_handled(Position seq, const std::string& sender, const std::string& conv,
                     std::uint64_t cseq);
    bool complete(Handled& handled);

    SessionHost& host_;
    Router& router_;
    const SessionOptions& options_;
    SessionCounters& counters_;
    const std::uint64_t connection_;
    SessionId id_ = 0;
    State state_ = State::kFresh;
    bool is_overflowing_ = false;                // queued_bytes_max passed: closed at the flush.
    ProfileId profile_ = ProfileId::kUndecided;  // v1 from the handshake, plain from the login.
    std::shared_ptr<const Identity> identity_;   // Nobody's before the login.
    std::uint64_t generation_ = 0;               // While online.
    LoginTold told_;                             // v1, while online.
    Position handled_ = 0;                       // v1, while online: as the client has told.
    std::uint32_t client_window_ = 64;           // v1, of its login.
    std::uint32_t client_window_bytes_ = 1 << 20;
    std::unique_ptr<std::vector<TimePoint>> malformed_at_;  // The last malformed_max.
    std::unique_ptr<Opening> opening_;                      // While kFresh or kDeciding.
    std::unique_ptr<TokenClock> token_;  // From kDeciding on, of a token that ends.
    std::unique_ptr<SlowCheck> slow_;    // While something may be stuck on the socket.
    SilenceCheck silence_;
    Rest rest_;                         // While there is no traffic_.
    std::unique_ptr<Traffic> traffic_;  // While online, from the first message on.
};

}  // namespace petrel
