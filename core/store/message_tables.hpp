#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/store/flat_table.hpp"
#include "core/store/message_store.hpp"
#include "core/store/payload_digest.hpp"

// The rows under MessageRules. A form of the store (memory, SQLite) is an implementation of
// MessageTables; what the rows mean is decided in MessageRules only.

namespace petrel {

using UserId = std::int64_t;  // 1, 2, 3...; stands for (app, user) in every other row.

struct UserRow {
    UserId id = 0;
    std::string app;
    std::string name;
    std::string epoch;
    Position last = 0;             // Highest position ever given.
    Position floor = 0;            // Positions up to here are gone; kept: (floor, last], dense.
    std::uint64_t generation = 0;  // Highest given or seen.
};

struct DeviceRow {
    std::string device;
    Position cursor = 0;          // Handled up to here.
    std::vector<Position> acked;  // Plain: handled above it, ascending.
    std::int64_t used_at = 0;     // Store clock, as all `_at`.
};

struct StreamRow {
    std::string stream;
    Position position = 0;
    std::int64_t used_at = 0;
};

struct ConversationKey {
    UserId low = 0;
    UserId high = 0;
    friend bool operator==(const ConversationKey& a, const ConversationKey& b) noexcept {
        return a.low == b.low && a.high == b.high;
    }
};

struct DedupKey {
    UserId sender = 0;
    Fingerprint fp;
    friend bool operator==(const DedupKey& a, const DedupKey& b) noexcept {
        return a.sender == b.sender && a.fp == b.fp;
    }
    friend bool operator<(const DedupKey& a, const DedupKey& b) noexcept {
        return a.sender != b.sender ? a.sender < b.sender : a.fp < b.fp;
    }
};

// A device or a stream of a user, by its name.
struct NamedKey {
    UserId user = 0;
    std::string name;
    friend bool operator==(const NamedKey& a, const NamedKey& b) noexcept {
        return a.user == b.user && a.name == b.name;
    }
};

struct RowHash {
    static std::size_t mix(std::uint64_t x) noexcept {
        x *= 0x9e3779b97f4a7c15ULL;
        return static_cast<std::size_t>(x ^ (x >> 32));
    }
    std::size_t operator()(const ConversationKey& key) const noexcept {
        return mix(static_cast<std::uint64_t>(key.low) * 0x100000001b3ULL ^
                   static_cast<std::uint64_t>(key.high));
    }
    std::size_t operator()(const DedupKey& key) const noexcept {
        return mix(static_cast<std::uint64_t>(key.sender) ^ key.fp.hash());
    }
    std::size_t operator()(const NamedKey& key) const noexcept {
        return mix(static_cast<std::uint64_t>(key.user) ^ std::hash<std::string>()(key.name));
    }
};

struct DedupRow {
    Digest128 digest{};
    std::uint64_t cseq = 0;
    WallMillis send_ts = 0;
    std::int64_t accepted_at = 0;
};
using DedupTable = FlatTable<DedupKey, DedupRow, RowHash>;

struct MessageRow {
    UserId user = 0;  // Whose inbox.
    Position seq = 0;
    UserId sender = 0;
    std::int64_t accepted_at = 0;
    std::shared_ptr<const StoredMessage> message;
    bool is_gone = false;  // Came and went within the transaction: in no inbox.
};

// Everything that a transaction changes. Pointers hold during apply().
struct WriteSet {
    struct User {
        const UserRow* row = nullptr;
        bool is_new = false;
        bool only_last = false;  // Nothing but `last` changed, by rows in `messages`.
    };
    struct Device {
        UserId user = 0;
        const DeviceRow* row = nullptr;
    };
    struct Stream {
        UserId user = 0;
        const StreamRow* row = nullptr;
    };

    std::int64_t now = 0;
    // First these go, known or not...
    std::vector<NamedKey> forgotten_devices;
    std::vector<NamedKey> forgotten_streams;
    std::vector<std::pair<UserId, Position>> forgotten_messages;  // Of an inbox, up to a position.
    // ...then these are written, over what is there.
    std::vector<User> users;
    std::vector<std::pair<UserId, std::string>> epochs;
    std::vector<Device> devices;
    std::vector<Stream> streams;
    std::vector<std::pair<ConversationKey, std::uint64_t>> conversations;
    const DedupTable* dedup = nullptr;
    std::vector<MessageRow> messages;  // In the order of acceptance; of each row in `dedup`, one.
};

// What is committed. Reads leave their output alone where there is nothing; an error is the
// disk's, told in last_error(). Thread-compatible.
class MessageTables {
public:
    virtual ~MessageTables() = default;

    // Whether a row is as near here as in a cache.
    virtual bool is_in_memory() const { return false; }

    // Around the reads of a transaction; end() when it has nothing to apply.
    virtual std::error_code begin() = 0;
    virtual void end() = 0;
    // All or nothing, durably; ends the transaction either way.
    virtual std::error_code apply(WriteSet& set) = 0;
    // Whether apply() has something to do of its own, though nothing has changed.
    virtual bool has_upkeep() const { return false; }

    virtual std::error_code find_user(std::string_view app, std::string_view name, UserRow& row,
                                      bool& is_found) = 0;
    virtual std::error_code find_devices(UserId user, std::vector<DeviceRow>& rows) = 0;
    virtual std::error_code find_streams(UserId user, std::vector<StreamRow>& rows) = 0;
    virtual std::error_code find_conversation(const ConversationKey& key, std::uint64_t& cseq) = 0;
    virtual std::error_code find_dedup(const DedupKey& key, DedupRow& row, bool& is_found) = 0;
    // Empty when there is no such row.
    virtual std::error_code find_fingerprint(UserId user, Position seq, Fingerprint& fp) = 0;
    // Positions after `after` in order, within both limits; one always fits into bytes_max.
    virtual std::error_code find_messages(
        const UserRow& user, Position after, std::size_t messages_max, std::size_t bytes_max,
        std::vector<std::pair<Position, std::shared_ptr<const StoredMessage>>>& rows) = 0;
    virtual std::error_code find_user_ids(std::vector<UserId>& ids) = 0;

    struct ExpiredMessage {
        std::string app;
        std::string name;
        Position seq = 0;
    };
    struct FilledInbox {
        UserId user = 0;
        std::string app;
        std::string name;
    };
    // Messages accepted before `before`, oldest first without the first `skip`, at most `rows_max`.
    virtual std::error_code find_expired_messages(std::int64_t before, std::size_t skip,
                                                  std::size_t rows_max,
                                                  std::vector<ExpiredMessage>& rows) = 0;
    // Of a store in memory: about what its messages and dedup rows take; 0 of any other.
    virtual std::size_t memory_bytes() const { return 0; }
    // Users after `after` whose inbox holds something, by id, at most `rows_max`. Only
    // asked when memory_bytes() is high.
    virtual void find_filled_inboxes(UserId /*after*/, std::size_t /*rows_max*/,
                                     std::vector<FilledInbox>& /*rows*/) {}
    // Dedup rows accepted before `before` may go; many at once, when it suits the form. Not
    // `is_finished`: apply() has more to do about it.
    virtual std::error_code expire_dedup(std::int64_t before, bool& is_finished) = 0;
    // Go on through a table from where the last call stopped and name what was last used before
    // `before`, looking at some times `rows_max` rows. `is_finished` at the end of the table: the
    // next call starts again.
    virtual std::error_code sweep_streams(std::int64_t before, std::size_t rows_max,
                                          std::vector<NamedKey>& keys, bool& is_finished) = 0;
    virtual std::error_code sweep_devices(std::int64_t before, std::size_t rows_max,
                                          std::vector<NamedKey>& keys, bool& is_finished) = 0;

    virtual bool is_immediate() const { return false; }  // As of MessageStore.
    virtual std::int64_t last_now() const = 0;
    virtual UserId last_user_id() const = 0;
    virtual std::string last_error() const = 0;
    virtual StoreFault last_fault() const { return StoreFault::kOther; }
};

}  // namespace petrel
