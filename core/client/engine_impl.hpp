#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/client/engine.hpp"
#include "daemons/context.hpp"
#include "daemons/id_table.hpp"
#include "protocol/codec.hpp"

namespace petrel {

// The four workers' world: tells each of them what the others, the server, the stores and the app
// did, and puts what comes of it into the queue of events. By files: engine.cpp (the app's inputs,
// time, events), engine_session.cpp (connection and login), engine_inbound.cpp (what the server
// says), engine_receive.cpp (inbox), engine_send.cpp (outbox).
class Engine::Impl final : DaemonContext,
                           AutoReloginDaemon::Listener,
                           KeepaliveDaemon::Listener,
                           QosSendDaemon::Listener,
                           QosReceiveDaemon::Listener {
public:
    Impl(EngineOptions options, EngineHost& host, Outbox& outbox, Inbox& inbox,
         FingerprintSource& fingerprints, std::uint64_t seed, TimePoint now);

    // ---- engine.cpp ----
    void login(TimePoint now);
    void logout(TimePoint now, bool keep);
    void network_available(TimePoint now);
    void network_lost(TimePoint now);
    void suspend(TimePoint now);
    void resume(TimePoint now);
    void shut_down(TimePoint now);
    std::optional<TimePoint> next_deadline() const { return timers_.next_deadline(); }
    void advance_to(TimePoint now);
    void flush(TimePoint now);
    std::optional<Event> next_event();
    void on_event_done(TimePoint now, const Event& event);
    ClientState state() const;
    ProfileId spoken_profile() const;
    EngineStats stats() const;
    bool is_consistent() const;

    // ---- engine_session.cpp ----
    void set_token(TimePoint now, std::string token);
    void on_connected(TimePoint now, std::uint64_t attempt, std::string_view subprotocol);
    void on_drained(TimePoint now, std::uint64_t attempt);
    void on_closed(TimePoint now, std::uint64_t attempt, std::uint16_t code,
                   std::string_view reason, int http_status, std::optional<Duration> retry_after);

    // ---- engine_inbound.cpp ----
    std::error_code echo(TimePoint now, std::string text);
    void on_text(TimePoint now, std::uint64_t attempt, std::string_view text);
    void on_binary(TimePoint now, std::uint64_t attempt);

    // ---- engine_receive.cpp ----
    std::error_code confirm(TimePoint now, std::uint64_t message_id);

    // ---- engine_send.cpp ----
    void send(TimePoint now, SendRequest&& request, SendDone&& done);
    std::error_code cancel(TimePoint now, const Fingerprint& fp);

private:
    // One input: the clock moves, what the stores have answered is done first, and the state is
    // settled at the end.
    class Input {
    public:
        Input(Impl& engine, TimePoint now);
        ~Input();
        Input(const Input&) = delete;
        Input& operator=(const Input&) = delete;

    private:
        Impl& engine_;
    };

    // How an open connection came to its end.
    enum class LinkEnd : std::uint8_t { kOurs, kBroken, kClosed, kSilent };

    // A message on its way into the outbox.
    struct Pending {
        OutboxRecord record;
        TimePoint expires_at{};
        TimePoint taken_at{};
        SendDone done;
        bool is_fresh = false;  // We have made its fingerprint.
        bool is_cancelled = false;
    };
    using PendingList = std::list<Pending>;

    // A message that wants to be handled: in the queue of events, or with the app.
    struct Unhandled {
        std::uint64_t id = 0;
        std::uint64_t era = 0;  // v1
        Position seq = 0;       // v1
        std::string from;       // Plain, as are the next two.
        Fingerprint fp;
        bool bridge = false;
        bool is_handled = false;
    };

    struct AwaitedEcho {
        Fingerprint fp;
        TimePoint sent_at{};
    };

    // The connection that the relogin daemon wants.
    struct Connection {
        std::uint64_t attempt = 0;
        bool is_wanted = false;  // From connect() until it ended or was given up.
        bool is_open = false;
        bool is_login_awaited = false;      // Its 50 decides whether we are online.
        unsigned refreshes_awaited = 0;     // 50s of which only the code counts.
        std::uint64_t token_sent = 0;       // In the last login: which one, as token_ counts.
        bool is_renewal_refused = false;    // By 402, since a token was last accepted.
        std::uint64_t generation_sent = 0;  // In the login.
        std::optional<InboxCursor> cursor_sent;
        std::deque<TimePoint> malformed;           // The last ones.
        std::optional<Position> token_refused_at;  // 402 with a position: goes on from there.
    };

    // Why the next StateEvent will say what it says.
    struct Cause {
        int code = 0;
        std::string reason;
    };

    // ---- DaemonContext ----
    void send(const Packet& packet) override;
    void send(const Data& data) override;
    TimerQueue& timers() override { return timers_; }
    std::uint64_t random(std::uint64_t low, std::uint64_t high) override;
    void log(LogLevel level, std::string_view text) override { host_.log(level, text); }

    // ---- AutoReloginDaemon::Listener ----
    void on_connect_wanted(std::uint64_t attempt) override;
    void on_login_wanted(std::uint64_t attempt) override;
    void on_disconnect_wanted(std::uint64_t attempt, std::uint16_t code,
                              std::string_view reason) override;
    void on_token_wanted(int code) override;
    void on_stopped(AutoReloginDaemon::StopReason reason, int code) override;
    void on_state_changed(AutoReloginDaemon::State from, AutoReloginDaemon::State to) override;

    // ---- KeepaliveDaemon::Listener ----
    void on_beat_due() override;
    void on_link_dead(std::string_view reason) override;

    // ---- QosSendDaemon::Listener ----
    void on_accepted(const QosSendDaemon::Settled& message, const Acceptance* at) override;
    void on_rejected(const QosSendDaemon::Settled& message, int code) override;
    void on_expired(const QosSendDaemon::Settled& message) override;
    void on_lost(const QosSendDaemon::Settled& message) override;
    void on_late_ack(const Fingerprint& fp) override;
    void on_peer_lost_accepted(Position accepted, Position first) override;
    void on_new_stream_wanted() override;
    void on_outstanding_changed() override { is_outstanding_stale_ = true; }
    void on_round_trip(Duration sample) override { keepalive_.on_round_trip(sample); }

    // ---- QosReceiveDaemon::Listener ----
    void on_ack_due(const QosReceiveDaemon::AckDue& ack) override;
    void on_ack_due(std::string_view sender, const Fingerprint& fp) override;

    // ---- engine.cpp ----
    void settle();
    // The answer of a store: at once inside an input, else at the start of the next.
    void complete(std::function<void()> work);
    // What to hand a store: the callback is void once the engine is gone.
    template <class Work>
    std::function<void(std::error_code)> answer_to(Work work) {
        return [this, alive = std::weak_ptr<char>(alive_), work](std::error_code error) {
            if (alive.expired()) return;
            complete([work, error] { work(error); });
        };
    }
    void run_completions();
    void run_dones();
    void push(Event event);
    void push(OutcomeEvent&& event) { events_.emplace_back(std::move(event)); }
    const Event* begin_of_events() const { return events_.data() + taken_events_; }
    const Event* end_of_events() const { return events_.data() + events_.size(); }
    bool has_events() const { return taken_events_ < events_.size(); }
    void report_error(int code, std::string message);
    // As report_error, at most once a minute for each of them.
    void report_now_and_then(std::optional<TimePoint>& last, int code, std::string message);
    void report_state();
    bool is_online() const { return relogin_.state() == AutoReloginDaemon::State::kOnline; }
    bool is_v1() const { return profile_ == ProfileId::kPetrelV1; }

    // ---- engine_session.cpp ----
    static EngineOptions checked(EngineOptions options, const Inbox& inbox,
                                 FingerprintSource& fingerprints);
    bool is_current(std::uint64_t attempt) const {
        return connection_.is_wanted && connection_.attempt == attempt;
    }
    void set_profile(ProfileId id);
    void send_login(bool is_refresh);
    void on_login_response(const LoginResponse& reply);
    void on_login_accepted(const LoginResponse& reply);
    void on_login_refused(const LoginResponse& reply);
    void on_token_refreshed(const LoginResponse& reply);
    void refuse_plain_server();
    void go_online(const LoginReplyV1& reply);
    void go_online_plain();
    void end_session();
    void reconnect(std::uint16_t code, std::string_view reason);
    void count_reconnect(LinkEnd before);
    void want_token(int code);
    void write_frame();
    bool is_socket_full() const;
    void tell_outstanding();
    void tell_writable();

    // ---- engine_inbound.cpp ----
    bool on_frame(std::uint64_t attempt);
    void on_malformed();
    void on_packet(Packet& packet);
    void on_data(Data& data);
    void on_ack(const Ack& ack);
    void take_ack(Position h, const std::vector<Acceptance>& acc);
    void on_positions(const HeartbeatResponse& response);
    void on_error(const ErrorPacket& error);
    bool on_plain_error(const ErrorPacket& error);
    void on_kickout(const Kickout& kickout);
    void on_echo(const Echo& echo);

    // ---- engine_receive.cpp ----
    void load_inbox();
    void resume_inbox(const InboxResume& resume);
    void take_position(Data& data);
    void take_plain(Data& data);
    void hand_up(Data& data, Unhandled entry, const std::string& epoch, bool is_redelivered);
    void hand_up_unacked(Data& data);
    MessageEvent& add_message_event(Data& data);
    void commit_inbox(bool even_if_busy);
    void on_stored(std::error_code error, std::uint64_t era, const std::string& epoch,
                   std::vector<Data>& batch);
    void on_inbox_failed(std::error_code error);
    void record_handled();
    void on_handled_recorded(std::error_code error, std::uint64_t era, Position seq,
                             std::size_t count);
    void set_handled(const std::deque<Unhandled>::iterator& entry);
    std::deque<Unhandled>::iterator find_unhandled(std::uint64_t id);
    void tell_handled();
    void say_handled();
    bool has_inbox_room(std::size_t more) const;
    void ask_again_for_dropped();

    // ---- engine_send.cpp ----
    void load_outbox();
    std::error_code check(const SendRequest& request) const;
    void send_unreliable(SendRequest request, SendDone done);
    // nullopt: not here. Else what a second send of it gets.
    std::optional<Result<Fingerprint>> find_kept(const SendRequest& request);
    Pending* find_pending(const Fingerprint& fp);
    const OutcomeRecord* find_untold(const Fingerprint& fp) const;
    static void remember(IdTable& table, const Fingerprint& fp);
    static bool forget(IdTable& table, const Fingerprint& fp);
    void commit_outbox();
    void on_appended(std::error_code error);
    void submit(Pending& pending);
    void settle_all(Outcome without_attempts, Outcome with_attempts);
    void apply_limits(Position accepted);
    void outcome(const Fingerprint& fp, const std::string& to, Outcome what, unsigned attempts,
                 int code = 0, const Acceptance* at = nullptr);
    // Of what is kept; false: it is not.
    bool give_up(const Fingerprint& fp, Outcome what, int code = 0);
    void hold_sends();
    void release_sends();
    void commit_outcomes();
    void on_outcomes_recorded(std::error_code error);
    void commit_removals();
    void push_corrections();
    void finish(SendDone&& done, Result<Fingerprint> result);

    // Expires with the engine: what a store answers later goes nowhere.
    std::shared_ptr<char> alive_ = std::make_shared<char>();
    EngineOptions options_;
    EngineHost& host_;
    Outbox& outbox_;
    Inbox& inbox_;
    FingerprintSource& fingerprints_;
    Outbox::Kept loaded_;  // Until the end of the constructor.
    TimerQueue timers_;
    std::mt19937_64 random_;
    AutoReloginDaemon relogin_;
    KeepaliveDaemon keepalive_;
    QosSendDaemon send_;
    QosReceiveDaemon receive_;

    unsigned depth_ = 0;  // Inputs under way.
    bool is_shut_down_ = false;
    std::deque<std::function<void()>> completions_;  // Answers of stores, between inputs.
    std::deque<std::pair<SendDone, Result<Fingerprint>>> dones_;
    std::vector<Event> events_;  // The first taken_events_ are with the app, or gone.
    std::size_t taken_events_ = 0;
    std::size_t notices_ = 0;  // Of events_: neither messages nor outcomes.
    std::string text_;         // The frame that is being written.

    // Session.
    Connection connection_;
    ProfileId profile_;  // As spoken, or to be asked for.
    Cause cause_;
    LinkEnd link_end_ = LinkEnd::kOurs;  // Of the last connection that was open.
    ClientState reported_state_ = ClientState::kOffline;
    std::uint64_t generation_ = 0;                  // 0: the app has asked, and no reply came yet.
    std::optional<std::int64_t> first_login_time_;  // mobileimsdk; none: as generation_ 0.
    std::string stream_;
    bool is_new_stream_wanted_ = false;
    std::uint64_t token_ = 0;       // Grows with each set_token().
    bool is_token_wanted_ = false;  // The app is asked; until set_token().
    int token_code_to_tell_ = 0;    // The TokenNeededEvent that leaves when this input settles.
    bool is_kick_told_ = false;     // Of this connection.
    bool is_connect_failure_told_ = false;  // Since the last connection that opened.
    bool has_connected_ = false;
    bool is_outstanding_stale_ = false;
    std::optional<QosSendDaemon::Outstanding> told_outstanding_;  // To keepalive.
    TimePoint drained_at_{};          // The socket's queue was last seen empty.
    std::deque<AwaitedEcho> echoes_;  // In order of sending.
    std::optional<TimePoint> malformed_told_at_;
    std::optional<TimePoint> store_error_told_at_;
    std::size_t payload_max_;
    std::size_t kept_payload_max_;  // What payload_max_ was when the kept ones were looked at last.
    Duration age_max_;              // The lower of the option and half the dedup horizon.

    // Receiving. An era is a run of logins in which the inbox's positions mean the same.
    std::uint64_t era_ = 1;
    std::string epoch_;           // Of this era; "" before any login, and in plain profiles.
    Position taken_ = 0;          // Highest of this era taken: handed up, or on its way.
    Position stored_ = 0;         // Highest of this era that the inbox has.
    Position handled_ = 0;        // End of the unbroken run that the app has handled.
    Position recorded_ = 0;       // The same, recorded by the inbox.
    Position said_ = 0;           // The highest `h` that the gateway was told.
    Position dropped_ = 0;        // Highest dropped for want of room; 0: none.
    std::size_t unrecorded_ = 0;  // Handled, of any era, and not yet recorded.
    bool is_recording_handled_ = false;
    std::vector<Data> inbox_batch_;    // Taken, not yet given to the inbox.
    std::size_t appending_inbox_ = 0;  // Messages with the inbox.
    std::size_t inbox_appends_ = 0;    // Calls.
    Timer inbox_retry_timer_;          // The inbox failed: nothing is taken until it fires.
    std::deque<Unhandled> unhandled_;  // By id.
    std::size_t confirmed_ahead_ = 0;  // Handled ones among them.
    std::size_t unacked_events_ = 0;   // MessageEvents in events_ that nobody acks.
    std::uint64_t last_message_id_ = 0;
    bool ack_bridge_ = false;  // Of the plain message now being looked at.

    // Sending.
    PendingList pending_;  // In order; the first appending_ are with the outbox.
    std::size_t appending_ = 0;
    std::size_t pending_bytes_ = 0;
    IdTable pending_ids_;                            // Of their fingerprints.
    std::vector<OutcomeRecord> outcome_batch_;       // Not yet given to the outbox.
    std::vector<OutcomeRecord> recording_outcomes_;  // With the outbox.
    std::vector<OutcomeEvent> corrections_;          // Of outcomes on their way to the app.
    bool is_recording_outcomes_ = false;
    IdTable untold_outcomes_;  // Their fingerprints, until the app has them.
    IdTable told_outcomes_;    // With the app, not yet to be removed from the outbox.
    std::vector<Fingerprint> removals_;

    EngineStats counts_;  // What the workers don't count.
};

}  // namespace petrel
