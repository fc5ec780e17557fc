#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/gateway/shard_message.hpp"

namespace petrel {

// Which sessions of one user exclude each other, beside those of the same device.
enum class SessionPolicy : std::uint8_t {
    kMulti,        // One session a device.
    kOnePerClass,  // And one a device class.
    kSingle,       // One session a user.
};

struct LiveSession {
    SessionId session = 0;
    std::uint64_t connection = 0;
    std::uint64_t generation = 0;
    std::shared_ptr<const Identity> identity;
};

struct LoginDecision {
    int code = 0;  // 0: admitted once the losers are gone.
    bool retry = false;
    std::string message;
    std::vector<LiveSession> losers;
};

// PROTOCOL.md section 4.2, "Sessions": the higher generation stays, of equal ones the newer
// connection; a login on a connection older than that of the session it would displace is stale.
// Generation 0 stands for a new one, higher than any before.
LoginDecision decide_login(SessionPolicy policy, const LoginAsk& ask,
                           const std::vector<LiveSession>& live);

}  // namespace petrel
