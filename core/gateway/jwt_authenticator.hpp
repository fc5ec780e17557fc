#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/gateway/authenticator.hpp"

namespace petrel {

// `--auth jwt`: whoever has a token of the app's own server (RFC 7519), signed with the key that
// both know (HS256) or with the private half of a key pair (RS256, ES256).
//
//   sub  the user                     required
//   exp  the end, seconds of 1970     required: a stolen token must stop working by itself
//   app  the app                      "default" when absent, as in a login
//   nbf  not before                   if there
//   dev  the only device, cls the only class that it is good for, if there
//
// A key is for one algorithm, whatever a token says of itself: a token of another, "none" included,
// is refused. Thread-safe: nothing of it changes.
class JwtAuthenticator final : public Authenticator {
public:
    enum class Algorithm : std::uint8_t { kHs256, kRs256, kEs256 };

    struct Options {
        Algorithm algorithm = Algorithm::kHs256;
        std::string
            key;  // kHs256: the secret, at least kJwtSecretMin bytes; else a public key, PEM.
        // Clocks of two machines differ; exp and nbf are stretched by it.
        std::chrono::seconds leeway{30};
        // Longer ones are not even looked at. Real tokens have some hundred bytes; and libjwt keeps
        // a copy on the stack.
        std::size_t token_bytes_max = 8'192;
    };

    explicit JwtAuthenticator(Options options) : options_(std::move(options)) {}

    // 401 not a good token, 402 expired, 403 of another user, device or class, 404 of another app.
    Verdict verify(const Credentials& who, WallMillis now) override;

private:
    Options options_;
};

// RFC 7518 section 3.2: a key of HS256 has at least as many bits as its hash.
constexpr std::size_t kJwtSecretMin = 32;

struct JwtClaims {
    std::string user;
    std::string app;  // The last three: left out when empty.
    std::string device;
    std::string device_class;
    std::chrono::seconds not_before{0};  // Since 1970, as is the next.
    std::chrono::seconds expires{0};
};

// A token signed by HS256; "" when memory is short or a claim is not UTF-8.
std::string mint_jwt(const JwtClaims& claims, std::string_view secret);

}  // namespace petrel
