#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "protocol/error.hpp"
#include "protocol/packet.hpp"

namespace petrel {

enum class Outcome : std::uint8_t { kAccepted, kRejected, kExpired, kCancelled, kLost, kUnknown };

// What became of a message, as the app is told.
struct OutcomeRecord {
    Fingerprint fp;
    std::string to;
    Outcome outcome = Outcome::kUnknown;
    int code = 0;                       // kRejected.
    std::optional<std::uint64_t> cseq;  // kAccepted, when the ack told.
    std::optional<WallMillis> send_ts;
    unsigned attempts = 0;
};

struct OutboxRecord {
    Data message;
    // Milliseconds of the wall clock: the only clock that crosses a restart.
    std::optional<WallMillis> expires_at;
    std::optional<WallMillis> taken_at;  // Of send(); none: not known.
};

// The client's unsent and unacked messages. The Engine keeps its own working copy; this is what
// survives. `done` is called on the engine's thread, at once or later; never after destruction.
// Operations take effect in call order.
class Outbox {
public:
    using Done = std::function<void(std::error_code)>;

    struct Kept {
        std::vector<OutboxRecord> messages;   // In the order of the send calls.
        std::vector<OutcomeRecord> outcomes;  // Recorded, perhaps reported, not yet removed.
    };

    virtual ~Outbox() = default;

    virtual bool is_durable() const = 0;
    // True: nothing reaches it, the Engine's working copy is all there is, and of the calls below
    // only load() need be made.
    virtual bool keeps_nothing() const { return false; }
    // What an earlier process left; once, before anything else.
    virtual Kept load() = 0;

    // All of the batch is kept, or none.
    virtual void append(std::vector<OutboxRecord> batch, Done done) = 0;
    // Before an outcome is reported; the messages themselves are gone with it.
    virtual void record_outcomes(std::vector<OutcomeRecord> batch, Done done) = 0;
    // After the app's callback returned.
    virtual void remove_outcomes(std::vector<Fingerprint> batch) = 0;

    // What the disk failed with last, for a person; "" when it works.
    virtual std::string last_error() const { return {}; }
};

}  // namespace petrel
