#pragma once

#include <string>
#include <string_view>

namespace petrel {

// Who may log in as whom. Called on the session's shard; must not block.
class Authenticator {
public:
    struct Verdict {
        int code = 0;         // 0, or a login code of PROTOCOL.md section 2.
        std::string message;  // For a person; never holds anything of the token.
    };

    virtual ~Authenticator() = default;
    virtual Verdict verify(std::string_view app, std::string_view user, std::string_view device,
                           std::string_view token) = 0;
};

// `--auth open`: trusts everybody. For trials on loopback.
class OpenAuthenticator final : public Authenticator {
public:
    Verdict verify(std::string_view, std::string_view, std::string_view,
                   std::string_view) override {
        return {};
    }
};

}  // namespace petrel
