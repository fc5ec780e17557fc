#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/gateway/identity.hpp"
#include "core/store/message_store.hpp"
#include "protocol/packet.hpp"

// What routers of different shards tell one another. A session lives on the shard that accepted
// its connection; every user has a home shard, which knows all of that user's sessions and decides
// about logins.

namespace petrel {

// Unique in a gateway's life; the shard is in the upper 16 bits, so an answer finds its way home.
using SessionId = std::uint64_t;
constexpr unsigned kShardShift = 48;
constexpr unsigned shard_of(SessionId id) noexcept {
    return static_cast<unsigned>(id >> kShardShift);
}

// Session's shard -> home: may I?
struct LoginAsk {
    SessionId session = 0;
    std::uint64_t connection = 0;  // Serial of the connection: grows with each accept.
    std::shared_ptr<const Identity> identity;
    std::uint64_t generation = 0;
    std::optional<InboxCursor> inbox;
    OutboxHello outbox;
    bool receives = true;
};

// Home -> session's shard: the decision.
struct LoginVerdict {
    SessionId session = 0;
    int code = 0;
    std::string message;
    bool retry = false;
    std::optional<std::int64_t> retry_after_ms;
    OpenResult opened;  // When code is 0.
};

// Home -> loser's shard: close it; answered by Displaced, at once even when it is gone already.
struct Displace {
    SessionId session = 0;
    std::uint64_t login = 0;  // Echoed.
    UserKey user;
    bool is_same_login = false;  // Equal generation: the same client came back.
    std::string device;          // That took over.
};

struct Displaced {
    std::uint64_t login = 0;
    UserKey user;
};

// Session's shard -> home: the session has ended.
struct SessionGone {
    SessionId session = 0;
    UserKey user;
};

// Home -> session's shard: new in the user's inbox.
struct DeliverTo {
    SessionId session = 0;
    Delivery delivery;
};

// Sender's shard -> recipient's home -> session's shard (session != 0): QoS=false, at most once.
struct DirectMessage {
    SessionId session = 0;
    UserKey to;
    Data data;
};

// Recipient's shard -> recipient's home -> sender's home -> session's shard.
struct Handled {
    UserKey user;      // Who handled everything of `conv` up to `cseq`.
    Position seq = 0;  // In that user's inbox.
    std::string sender;
    std::string conv;
    std::uint64_t cseq = 0;
};
struct ReceiptFor {
    SessionId session = 0;  // 0: to the home of `to`.
    UserKey to;
    Receipt receipt;
};

using ShardMessage = std::variant<LoginAsk, LoginVerdict, Displace, Displaced, SessionGone,
                                  DeliverTo, DirectMessage, Handled, ReceiptFor>;

}  // namespace petrel
