#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/fingerprint.hpp"

// The typed packets of PROTOCOL.md section 2. A packet is what one WebSocket text frame carries;
// how it is written there depends on the profile (protocol/profile.hpp) and is the codec's job.

namespace petrel {

// A place in a stream or an inbox: 1, 2, 3...; 0 is "before the first". Below 2^53 (section 4).
using Position = std::uint64_t;
constexpr std::uint64_t kNumberMax = (std::uint64_t{1} << 53) - 1;

// Milliseconds since the epoch of the wall clock, as stamped by the server.
using WallMillis = std::int64_t;

// `typeu` of a type 2 (section 1). Others than these belong to the app.
constexpr int kTypeuSingle = 0;
constexpr int kTypeuGroup = 1;
constexpr int kTypeuNone = -1;

// User "0" is the server / the app's own backend (section 3).
inline constexpr char kServerUser[] = "0";
inline constexpr char kNobody[] = "-1";

// ---- login (section 4.2) ----

struct InboxCursor {
    std::string epoch;
    Position seq = 0;  // Highest stored (with a file) or taken in order.
    Fingerprint fp;    // Of that message; empty when seq is 0 or it is not known.
};

struct OutboxHello {
    std::string stream;  // UUID of this opening of the outbox.
    Position first = 1;  // 1 + the highest position that an ack has covered.
};

struct LoginV1 {
    std::string device;                  // 1-64 characters, stable per install.
    std::string device_class = "other";  // mobile, desktop, web, other.
    std::uint64_t generation = 0;        // 0: a person asks for this login now.
    std::optional<InboxCursor> inbox;    // None: resume at the gateway's cursor.
    OutboxHello outbox;
    std::uint32_t window = 64;             // Packets it takes unhandled; 0: nothing is pushed.
    std::uint32_t window_bytes = 1 << 20;  // Bytes of frames.
};

struct Login {
    std::string user;
    std::string token;
    std::optional<std::string> app;
    std::optional<std::string> extra;
    std::optional<std::int64_t> first_login_time;  // mobileimsdk; its presence decides the profile.
    std::optional<LoginV1> v1;
};

struct InboxResume {
    std::string epoch;
    Position seq = 0;   // The server pushes what comes after it; the client sets its rx to it.
    Position last = 0;  // Highest ever given.
    bool recovered = true;
};

struct LoginReplyV1 {
    std::string session;
    std::uint64_t generation = 0;
    InboxResume inbox;
    Position accepted = 0;  // Highest accepted of the outbox stream; 0 if none.
    std::int64_t heartbeat_ms = 25'000;
    std::int64_t dedup_horizon_ms = 86'400'000;
    std::uint32_t window = 64;
    std::uint32_t window_bytes = 1 << 20;
    std::uint64_t max_payload = 65'536;
    WallMillis server_ts = 0;
};

struct LoginResponse {
    int code = 0;
    std::string to;                                // User, or "-1" for a refused mobileimsdk login.
    std::optional<std::int64_t> first_login_time;  // mobileimsdk; -1 when refused.
    std::optional<LoginReplyV1> v1;
    // Of a v1 refusal.
    std::string error_msg;
    std::optional<bool> retry;
    std::optional<std::int64_t> retry_after_ms;
};

// ---- the rest ----

// v1 positions of a heartbeat and its response (section 4.5).
struct Positions {
    Position sent = 0;  // Highest position sent that is still kept or acked.
    Position rx = 0;    // Highest taken in order.
    Position h = 0;     // An ack like any other.
};

struct Heartbeat {
    std::string from;
    std::optional<Positions> positions;  // None in plain profiles.
};

struct HeartbeatResponse {
    std::string to;
    std::optional<Positions> positions;
};

struct Logout {
    std::string from;
};

// [cseq, sendTs, seq]: what became of the message at outbox position `seq`.
struct Acceptance {
    std::uint64_t cseq = 0;
    WallMillis send_ts = 0;
    Position seq = 0;
};

// Common data: what the app sends. The server's and the client's half share the struct.
struct Data {
    std::string from;  // "" when absent.
    std::string to;
    Fingerprint fp;  // Empty when absent.
    bool qos = false;
    int typeu = kTypeuNone;
    bool bridge = false;
    int retry_count = 0;
    std::optional<WallMillis> send_ts;
    std::string text;  // dataContent, untouched; "" when null.

    // petrel.v1
    Position seq = 0;              // 0 when absent.
    std::optional<Position> prev;  // Absent: seq - 1.
    std::string conv;              // S>C.
    std::uint64_t cseq = 0;        // S>C.
    std::optional<Position> h;     // A riding ack (section 4.3).
    std::vector<Acceptance> acc;   // S>C, with h.
};

// v1: cumulative positions. Plain: one fingerprint.
struct Ack {
    std::optional<Position> h;
    std::optional<Position> rx;  // With gap (section 4.4).
    bool gap = false;
    std::vector<Acceptance> acc;  // S>C.

    Fingerprint fp;  // Plain.
    std::string from;
    std::string to;
    bool bridge = false;
};

// Type 5 and, with is_response, type 53: everything but the type (and the server's time) is kept.
struct Echo {
    bool is_response = false;
    std::string from;
    std::string to;
    Fingerprint fp;
    bool qos = false;
    int typeu = kTypeuNone;
    bool bridge = false;
    int retry_count = 0;
    std::optional<WallMillis> send_ts;
    std::string text;
};

struct ErrorPacket {
    int code = 0;
    std::string message;
    std::string to;
    Fingerprint fp;                              // v1: the message it names.
    std::optional<Position> seq;                 // v1
    std::optional<std::int64_t> retry_after_ms;  // v1
};

struct Kickout {
    int code = 0;
    std::string reason;
    std::string device;  // v1: the device that took over, if one did.
    std::string to;
};

// 56: any device of `user` has handled everything of `conv` up to `delivered` (a cseq).
struct Receipt {
    std::string conv;
    std::string user;
    std::uint64_t delivered = 0;
    std::string to;
};

// A well-formed packet of a type that is reserved or that nobody defined: counted and ignored.
struct UnknownPacket {
    std::int64_t type = 0;
};

using Packet = std::variant<Login, LoginResponse, Heartbeat, HeartbeatResponse, Data, Logout, Ack,
                            Echo, ErrorPacket, Kickout, Receipt, UnknownPacket>;

}  // namespace petrel
