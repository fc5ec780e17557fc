#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "protocol/error.hpp"
#include "protocol/fingerprint.hpp"
#include "protocol/packet.hpp"

// The gateway's memory: messages, conversations, inboxes, cursors, streams and the dedup table
// (DESIGN.md section 5, PROTOCOL.md section 4). Everything goes in and out as values.

namespace petrel {

// A message from the session that took it to the sessions that push it: made once, passed on by
// pointer. The first part is the sender's, and the store adds the second when it accepts it.
struct StoredMessage {
    std::string app;
    std::string from;
    std::string to;
    Fingerprint fp;
    int typeu = 0;
    bool bridge = false;
    std::string text;

    std::string conv;
    std::uint64_t cseq = 0;
    WallMillis send_ts = 0;
};

// A position of its recipient's inbox.
struct Delivery {
    Position seq = 0;
    std::shared_ptr<const StoredMessage> message;
};

// `ticket` in requests is the caller's own and comes back in the result.

struct AppendRequest {
    std::uint64_t ticket = 0;
    std::shared_ptr<StoredMessage> message;     // The store's from here on. Its fp is never empty.
    std::shared_ptr<const std::string> stream;  // nullptr for plain: no positions are looked at.
    Position seq = 0;
    Position prev = 0;
    // The session's own objection (303, 304, 306; 0: none). The dedup key is looked up before it.
    int refusal = 0;
    // What this store has told the session of its stream: it stands there at least, even when it
    // was forgotten since.
    Position told = 0;
};

struct AppendResult {
    enum class Fate : std::uint8_t {
        kAccepted,   // Committed: cseq, send_ts.
        kDuplicate,  // Same fingerprint and payload as before: the original's cseq, send_ts. A
                     // stream position moves on as with kAccepted.
        kRefused,    // `code`: 305, 308 or the request's own refusal. Nothing changed.
        kNotTaken,   // The stream stands elsewhere (prev > stored, or seq <= stored). Nothing
                     // changed.
        kFailed,     // The store could not commit it: 302. Nothing changed.
    };
    std::uint64_t ticket = 0;
    Fate fate = Fate::kFailed;
    int code = 0;
    Position seq = 0;  // Of the request.
    Fingerprint fp;    // Of the request.
    std::uint64_t cseq = 0;
    WallMillis send_ts = 0;
};

struct OpenRequest {
    std::uint64_t ticket = 0;
    std::string app;
    std::string user;
    std::string device;  // "-" for plain.
    bool is_plain = false;
    bool receives = true;          // False (window 0): the device gets no cursor of its own.
    std::uint64_t generation = 0;  // 0: give a new one.
    WallMillis wall = 0;           // For a new generation.
    std::optional<InboxCursor> inbox;
    std::string stream;  // "" for plain.
    Position first = 1;
};

struct OpenResult {
    std::uint64_t ticket = 0;
    std::error_code error;  // kLoginBusy when the store failed; the rest is then empty.
    std::uint64_t generation = 0;
    InboxResume inbox;                  // PROTOCOL.md section 4.2, "Inbox".
    Position handled = 0;               // By the device, as far as its acks told.
    Position accepted = 0;              // Highest accepted of the stream, 0 if none.
    std::vector<Position> acked_above;  // Plain: acked positions above inbox.seq, ascending.
};

struct ReadRequest {
    std::uint64_t ticket = 0;
    std::string app;
    std::string user;
    Position after = 0;
    std::size_t messages_max = 512;
    std::size_t bytes_max = 256 * 1024;  // Of text; one message always fits.
};

struct ReadResult {
    std::uint64_t ticket = 0;
    Position after = 0;  // As asked for.
    std::error_code error;
    // Dense from after + 1, unless positions there are gone: then from the oldest that is kept.
    std::vector<Delivery> deliveries;
    Position last = 0;  // Highest ever given in this inbox.
};

// A device has handled: v1 everything up to `position`; plain that one position.
struct CursorUpdate {
    std::string app;
    std::string user;
    std::string device;
    bool is_plain = false;
    Position position = 0;
};

struct StoreOptions {
    std::chrono::milliseconds message_retention = std::chrono::hours{24 * 7};
    std::chrono::milliseconds dedup_horizon = std::chrono::hours{24};
    std::chrono::milliseconds device_retention = std::chrono::hours{24 * 30};  // And streams.
    std::size_t inbox_max = 1'000'000;   // Messages a user; 308 when none of them may go.
    std::size_t devices_max = 16;        // A user, those that receive; the longest unused goes.
    std::size_t streams_max = 1024;      // A user; the longest unused goes.
    std::size_t plain_acked_max = 1024;  // Acked positions above a plain cursor's floor.
    // Estimated bytes of messages and dedup rows that a store in memory holds. From three quarters
    // of it on the oldest messages go that at least one device has handled; beyond it, 302.
    std::size_t memory_max = std::size_t{1} << 30;
};

// What kept the last commit from succeeding.
enum class StoreFault : std::uint8_t { kOther, kFull, kReadOnly, kIo, kInUse, kDamaged };
constexpr std::size_t kStoreFaults = 6;

// Synchronous, single-threaded, transactional: begin, any number of operations, commit. When
// commit (or anything before it) fails, all since begin is undone, in memory too; nothing is left
// behind, no number is used up. Reads see what the open transaction did.
class MessageStore {
public:
    virtual ~MessageStore() = default;

    // `now` is the store's clock in ms (section 5: steady while running, never backwards), for
    // retention and horizon; `wall` stamps sendTs.
    virtual std::error_code begin(std::int64_t now, WallMillis wall) = 0;
    virtual std::error_code commit() = 0;
    virtual void rollback() = 0;

    // An error is the disk's: the caller rolls back. Deliveries of an accepted message (every
    // recipient but the sender's own inbox, unless it is to oneself) are added to `deliveries`.
    virtual std::error_code append(const AppendRequest& request, AppendResult& result,
                                   std::vector<Delivery>& deliveries) = 0;
    virtual std::error_code open_session(const OpenRequest& request, OpenResult& result) = 0;
    virtual std::error_code advance(const CursorUpdate& update) = 0;
    virtual std::error_code read(const ReadRequest& request, ReadResult& result) = 0;

    // Removes what retention and horizon no longer keep, at most `rows_max` rows; true while there
    // may be more. Only the low end of an inbox is ever removed; `last` and the epoch stay.
    virtual std::error_code trim(std::size_t rows_max, bool& has_more) = 0;

    // True: nothing that it does waits for anything.
    virtual bool is_immediate() const { return false; }

    // True: call trim() soon.
    virtual bool wants_trim() const { return false; }

    // `petrel gateway --new-epoch`: every inbox gets a new epoch.
    virtual std::error_code renew_epochs() = 0;

    // The store's clock when it was last committed (0: never), to go on from after a restart.
    virtual std::int64_t last_now() const = 0;
    // Why messages are refused though every commit succeeds, for a log line; "": they are not.
    virtual std::string complaint() const { return {}; }
    // What the disk said last, for a log line.
    virtual std::string last_error() const = 0;
    // The same as one of a few words, for metrics.
    virtual StoreFault last_fault() const { return StoreFault::kOther; }
};

}  // namespace petrel
