#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/store/inbox.hpp"
#include "core/store/outbox.hpp"
#include "daemons/auto_relogin.hpp"
#include "daemons/keepalive.hpp"
#include "daemons/qos_receive.hpp"
#include "daemons/qos_send.hpp"
#include "protocol/profile.hpp"

namespace petrel {

// ---- what the engine tells the app ----

enum class ClientState : std::uint8_t {
    kOffline,     // Not asked to log in, or logged out.
    kConnecting,  // Connecting, logging in, or waiting to try again.
    kOnline,      // Login accepted.
    kNoNetwork,   // network_lost() was called.
    kStopped,     // Refused or kicked for good; login() starts again.
};

struct StateEvent {
    ClientState state = ClientState::kOffline;
    int code = 0;  // Close or refusal code that led here; 0 when none did.
    std::string reason;
};

// Result of a login the app asked for, and of each automatic one.
struct LoginEvent {
    int code = 0;         // 0: online.
    std::string message;  // The server's words, of a refusal.
    bool will_retry = false;
    ProfileId profile = ProfileId::kPetrelV1;
    std::uint64_t generation = 0;
};

struct MessageEvent {
    std::uint64_t id = 0;  // For confirm(); grows, never reused in this process.
    std::string from;
    std::string to;
    Fingerprint fp;  // Empty without QoS, perhaps.
    bool qos = false;
    int typeu = 0;
    std::string conv;  // v1 only, as are the next three; empty / 0 otherwise.
    std::uint64_t cseq = 0;
    std::string epoch;
    Position seq = 0;
    std::optional<WallMillis> send_ts;
    std::string text;
    bool is_redelivered = false;  // Stored by an earlier process: may have been handed over before.
};

struct OutcomeEvent {
    OutcomeRecord record;
    bool is_correction = false;  // Plain: reported lost before, and now acked.
};

struct DeliveredEvent {  // v1 receipt (56).
    std::string conv;
    std::string user;
    std::uint64_t delivered = 0;
};

struct TokenNeededEvent {  // Answer with set_token().
    int code = 0;
};

struct KickedEvent {
    int code = 0;
    std::string reason;
    std::string device;
};

struct BreakEvent {
    enum class Side : std::uint8_t { kInbox, kOutbox };
    // kInbox: recovered=false. kOutbox: the gateway's store lost what it had accepted.
    Side side = Side::kInbox;
    std::string epoch;
    Position resumed_after = 0;
};

struct ErrorEvent {  // Nothing the app must act on by itself; for logs and people.
    int code = 0;
    std::string message;
};

struct EchoEvent {
    std::string text;
    Duration round_trip{0};
};

using Event = std::variant<StateEvent, LoginEvent, MessageEvent, OutcomeEvent, DeliveredEvent,
                           TokenNeededEvent, KickedEvent, BreakEvent, ErrorEvent, EchoEvent>;

// ---- what the app asks ----

struct SendRequest {
    std::string to;
    std::string text;
    int typeu = kTypeuSingle;
    bool qos = true;
    Fingerprint fp;                         // Empty: the engine makes one.
    std::optional<Duration> expires_after;  // Never above the engine's own limit.
};

struct EngineOptions {
    ProfileId profile = ProfileId::kPetrelV1;
    bool require_v1 = false;  // No petrel.v1 there: an ErrorEvent (205) and kStopped.
    std::string user;
    std::string token;
    std::string app;  // "": left out, the gateway's "default".
    std::string extra;
    std::string device;  // 1-64 characters; "": the inbox file's, or a fresh one.
    std::string device_class = "other";
    std::uint32_t window = 64;  // Taken unhandled; 0: nothing is pushed to us.
    std::uint32_t window_bytes = 1 << 20;
    bool manual_confirm = false;  // confirm(id) instead of "the callback returned".
    // Below half the dedup horizon once the login told it; the lower of the two counts.
    Duration expires_after = std::chrono::hours{12};
    std::size_t payload_max = 65'536;  // Until the login tells the gateway's.
    // Transmissions wait while so much is queued on the socket.
    std::size_t socket_packets_max = 256;
    std::size_t socket_bytes_max = 256 * 1024;
    std::size_t echoes_max = 1024;         // Echoes awaiting their answer; the oldest is forgotten.
    std::size_t confirm_ahead_max = 1024;  // Confirmed out of order, above h; confirm() refuses.
    // Messages taken and not yet handled, of all sessions together (at least `window`). What comes
    // beyond is dropped unacked and asked for again when there is room.
    std::size_t unhandled_max = 1024;
    // Events waiting that are neither messages nor outcomes; the oldest of them is forgotten.
    std::size_t notices_max = 1024;
    AutoReloginDaemon::Options relogin;
    KeepaliveDaemon::Options keepalive;
    QosSendDaemon::Options send;
    QosReceiveDaemon::Options receive;
};

// Everything the engine needs done. Never calls back into the engine from inside a call.
class EngineHost {
public:
    // Open a connection for `attempt`, asking for `subprotocol` ("" = none). Closes and drops an
    // earlier one. Its reports carry the attempt.
    virtual void connect(std::uint64_t attempt, std::string_view subprotocol) = 0;
    virtual void send_text(std::uint64_t attempt, std::string_view text) = 0;
    virtual void disconnect(std::uint64_t attempt, std::uint16_t code, std::string_view reason) = 0;
    virtual std::size_t queued_bytes() const = 0;  // Of the current connection.
    virtual std::size_t queued_packets() const = 0;
    virtual WallMillis wall_ms() const = 0;
    virtual void log(LogLevel level, std::string_view text) = 0;
    // A store answered outside of any input: call flush() soon, then take the events.
    virtual void on_turn_wanted() = 0;

protected:
    ~EngineHost() = default;
};

struct EngineStats {
    std::uint64_t sent = 0;  // Taken from the app with QoS.
    std::uint64_t accepted = 0, rejected = 0, expired = 0, cancelled = 0, lost = 0;
    std::uint64_t received = 0;  // Handed to the app.
    std::uint64_t packets_out = 0, packets_in = 0, bytes_out = 0, bytes_in = 0;
    std::uint64_t retransmitted = 0, duplicates = 0, gaps = 0;
    std::uint64_t malformed = 0, ignored = 0, unknown_acks = 0;
    std::uint64_t logins = 0, reconnects = 0;
    // Of reconnects, by how the connection before ended; the rest by this side: a hint of the
    // app's, a login without answer, a violation, a new token.
    std::uint64_t reconnects_broken = 0;  // Cut or reset: no close frame.
    std::uint64_t reconnects_closed = 0;  // By the server, with a close frame.
    std::uint64_t reconnects_silent = 0;  // Found dead by keepalive.
    Duration round_trip{0};               // Smoothed; 0 before any sample.
    std::size_t kept = 0, in_flight = 0, unhandled = 0;
};

// One user's session, I/O-free: a pure function of inputs, time and seed. The owner tells it what
// happened and when, does what EngineHost asks, takes the events, and calls flush() at the end of
// each turn. Thread-compatible.
//
//   input(now) ... input(now)   -> EngineHost calls, events queued
//   while (next_event()) { give it to the app; on_event_done(it); }
//   flush(now); arm one timer at next_deadline(); take what events the flush brought
//
// What goes to a store goes there in batches: inbox and outcomes when the events run out, all of it
// in flush(). The boxes must outlive the engine or drop its callbacks.
class Engine {
public:
    Engine(EngineOptions options, EngineHost& host, Outbox& outbox, Inbox& inbox,
           FingerprintSource& fingerprints, std::uint64_t seed, TimePoint now);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    // ---- of the app ----
    // A login that a person asked for: generation 0.
    void login(TimePoint now);
    // keep=false: what is unsent or unacked ends cancelled.
    void logout(TimePoint now, bool keep);
    // Checks limits, then `done` once: the fingerprint when the outbox has it (at once in memory),
    // or the reason: 3 full, 4 nonsense (no `to`, bad UTF-8), 304, 305, kNotLoggedIn for a message
    // without QoS while offline, the outbox's own error. The same fingerprint and payload again
    // while it is kept or its outcome waits to be told: its fingerprint, not queued twice. `done`
    // is called at the end of an input, when the state has settled: it may call any input.
    using SendDone = std::function<void(Result<Fingerprint>)>;
    void send(TimePoint now, SendRequest request, SendDone done);
    std::error_code cancel(TimePoint now, const Fingerprint& fp);  // kUnknown: not here any more.
    // Idempotent. kUnknown: never given out; kSendFailed: confirm_ahead_max.
    std::error_code confirm(TimePoint now, std::uint64_t message_id);
    // kNotLoggedIn while not connected.
    std::error_code echo(TimePoint now, std::string text);
    void set_token(TimePoint now, std::string token);
    void network_available(TimePoint now);
    void network_lost(TimePoint now);
    void suspend(TimePoint now);
    void resume(TimePoint now);
    // Before destruction: whatever has no outcome gets one (cancelled, unknown; nothing with a
    // durable outbox), as events.
    void shut_down(TimePoint now);

    // ---- of the connection ----
    void on_connected(TimePoint now, std::uint64_t attempt, std::string_view subprotocol);
    void on_text(TimePoint now, std::uint64_t attempt, std::string_view text);
    void on_binary(TimePoint now, std::uint64_t attempt);
    void on_drained(TimePoint now, std::uint64_t attempt);
    void on_closed(TimePoint now, std::uint64_t attempt, std::uint16_t code,
                   std::string_view reason, int http_status, std::optional<Duration> retry_after);

    // ---- time and events ----
    std::optional<TimePoint> next_deadline() const;
    void advance_to(TimePoint now);
    void flush(TimePoint now);  // End of a turn: acks leave.
    std::optional<Event> next_event();
    void on_event_done(TimePoint now, const Event& event);  // The app's callback has returned.

    ClientState state() const;
    ProfileId profile() const;  // As spoken now, or asked for while offline.
    EngineStats stats() const;
    bool is_consistent() const;

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace petrel
