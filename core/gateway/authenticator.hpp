#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "daemons/timer.hpp"
#include "protocol/packet.hpp"

namespace petrel {

// Whom a login says that it is, and what is to prove it.
struct Credentials {
    std::string_view app, user, device, device_class;  // Plain: device "-", class "other".
    std::string_view token;
};

// Who may log in as whom. Called on the session's shard, on several at once; must not block.
class Authenticator {
public:
    struct Verdict {
        int code = 0;         // 0, or a login code of PROTOCOL.md section 2.
        std::string message;  // For a person; never holds anything of the token.
        // How long from `now` on the token is good; nullopt: for ever.
        std::optional<Duration> lasts = std::nullopt;
    };

    virtual ~Authenticator() = default;
    // `now` is the wall clock's: what tokens are dated by.
    virtual Verdict verify(const Credentials& who, WallMillis now) = 0;
};

// `--auth open`: trusts everybody. For trials on loopback.
class OpenAuthenticator final : public Authenticator {
public:
    Verdict verify(const Credentials&, WallMillis) override { return {}; }
};

}  // namespace petrel
