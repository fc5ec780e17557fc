#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// What the ledger says in the end.

namespace petrel::tools {

// How a message ended for its sender. kLost is that of the plain profiles, and of a send without
// an outbox file whose patience ended; kUnknown that of a client destroyed without a durable one.
enum class Outcome : std::uint8_t {
    kNone,
    kAccepted,
    kRejected,
    kExpired,
    kCancelled,
    kLost,
    kUnknown,
};

// One for each message; of several that apply, the first.
enum class Verdict : std::uint8_t {
    kDoubled,       // A device got it twice, the second time unmarked and not after a break.
    kDisordered,    // A device got it after a later one.
    kLost,          // Accepted or given up as lost, and no device of the recipient has it.
    kUncommitted,   // Accepted with a cseq, not seen delivered, and in no gateway's trace.
    kContradicted,  // Two outcomes that exclude each other.
    kPending,       // Queued, no outcome.
    kUnknown,
    kRejected,
    kExpired,
    kCancelled,
    kRedelivered,  // Delivered, and again with the mark for it.
    kDelivered,    // Once, in order.
    kAccepted,     // No log of the recipient to look into.
    kNotJudged,    // Sent without QoS, or only a recipient speaks of it.
};
std::string_view to_string(Verdict verdict) noexcept;

struct JudgedMessage {
    Verdict verdict = Verdict::kPending;
    std::string app;
    std::string from;
    std::string to;  // "?" when nobody said.
    std::string fp;
    std::optional<std::uint64_t> cseq;
    std::uint32_t attempts = 0;
    std::optional<double> ms;
    int code = 0;               // Of a rejection.
    std::uint32_t devices = 0;  // That have it.
};

struct Report {
    // Messages.
    std::uint64_t sent = 0;            // Known from a sender or a gateway, with QoS.
    std::uint64_t accepted = 0;        // By the sender's log, or committed by a trace.
    std::uint64_t judged = 0;          // Of `sent`: a log of the recipient is given.
    std::uint64_t delivered = 0;       // Of `sent`, to one device of the recipient or more.
    std::uint64_t delivered_once = 0;  // Of `delivered`: neither doubled nor disordered.
    std::uint64_t lost = 0;
    std::uint64_t doubled = 0;
    std::uint64_t disordered = 0;
    std::uint64_t pending = 0;
    std::uint64_t rejected = 0;
    std::uint64_t expired = 0;
    std::uint64_t cancelled = 0;
    std::uint64_t unknown = 0;
    std::uint64_t uncommitted = 0;
    std::uint64_t contradicted = 0;
    std::uint64_t not_judged = 0;  // Beside `sent`: without QoS, or known from a recipient only.
    std::uint64_t overflow = 0;    // Events of messages beyond the ledger's limit.

    // Events.
    std::uint64_t retransmitted = 0;          // Attempts beyond the first.
    std::uint64_t duplicates_suppressed = 0;  // By gateways, from their traces.
    std::uint64_t refused = 0;                // By gateways, from their traces.
    std::uint64_t redelivered = 0;            // Times a device got a message again, marked.
    std::uint64_t after_break = 0;            // Times a device got a message again after a break.
    std::uint64_t reconnects = 0;             // Logins of each source but its first.
    std::uint64_t breaks = 0;
    std::uint64_t crashes = 0;  // Processes killed; only a demo knows.
    bool has_trace = false;
    bool is_order_judged = true;
    bool is_redelivered_told = true;  // In the verdict, too.
    std::optional<double> p50_ms;     // From queueing to the ack.
    std::optional<double> p99_ms;

    std::uint64_t problem_count = 0;
    std::vector<JudgedMessage> problems;  // The first few that make is_ok() false.

    bool is_ok(bool is_pending_allowed = false) const noexcept;
    // "1000 of 1000 messages delivered exactly once, in order", and what is to be said besides.
    std::string verdict() const;
    // The table under it, one line a figure, no newline at the end.
    std::string table() const;
    // {"event":"verdict","ok":true,"sent":...} without a newline.
    std::string json(bool is_pending_allowed = false) const;
};

}  // namespace petrel::tools
