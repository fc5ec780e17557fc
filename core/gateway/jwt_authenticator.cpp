#include "core/gateway/jwt_authenticator.hpp"

#include <jwt.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "protocol/error.hpp"

namespace petrel {
namespace {

using Algorithm = JwtAuthenticator::Algorithm;
using Verdict = Authenticator::Verdict;
using std::chrono::seconds;

constexpr std::string_view kDefaultApp = "default";
// Beyond the year 9999 nobody dates a token; and no sum of such times overflows.
constexpr double kTimeMax = 253'402'300'800;

struct JwtFree {
    void operator()(jwt_t* jwt) const { jwt_free(jwt); }
};
struct Free {
    void operator()(char* text) const { std::free(text); }
};
using Jwt = std::unique_ptr<jwt_t, JwtFree>;
using Text = std::unique_ptr<char, Free>;

std::string_view name_of(Algorithm algorithm) {
    switch (algorithm) {
        case Algorithm::kHs256: return "HS256";
        case Algorithm::kRs256: return "RS256";
        case Algorithm::kEs256: return "ES256";
    }
    return "";
}

bool is_base64url(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

// Three parts of base64url, none empty. libjwt 1.10 reads others, too, and writes past the end of
// what it allocates for an empty part.
bool has_shape(std::string_view token) {
    for (int part = 0; part < 3; ++part) {
        const auto end = std::find_if_not(token.begin(), token.end(), is_base64url);
        const auto length = static_cast<std::size_t>(end - token.begin());
        if (length == 0 || length % 4 == 1) return false;
        token.remove_prefix(length);
        if (part == 2) return token.empty();
        if (token.empty() || token.front() != '.') return false;
        token.remove_prefix(1);
    }
    return false;
}

enum class Presence : std::uint8_t { kAbsent, kGood, kBad };

// libjwt's own reader of numbers takes every other type for 0, and cuts fractions, which RFC 7519
// allows, to 0 as well.
Presence read_time(jwt_t* jwt, const char* claim, seconds& time) {
    const Text json(jwt_get_grants_json(jwt, claim));
    if (!json) return Presence::kAbsent;
    const std::string_view text(json.get());
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool is_number = error == std::errc() && end == text.data() + text.size();
    if (!is_number || !(value >= 0) || value > kTimeMax) return Presence::kBad;
    time = seconds{static_cast<std::int64_t>(std::floor(value))};
    return Presence::kGood;
}

Presence read_text(jwt_t* jwt, const char* claim, std::string_view& value) {
    const Text json(jwt_get_grants_json(jwt, claim));
    if (!json) return Presence::kAbsent;
    const char* const text = jwt_get_grant(jwt, claim);
    if (text == nullptr) return Presence::kBad;
    value = text;
    return Presence::kGood;
}

Verdict refuse(Errc code, std::string message) {
    return {static_cast<int>(code), std::move(message)};
}

// Absent: good for all.
bool is_good_for(jwt_t* jwt, const char* claim, std::string_view wanted) {
    std::string_view value;
    const Presence presence = read_text(jwt, claim, value);
    return presence == Presence::kAbsent || (presence == Presence::kGood && value == wanted);
}

Verdict judge(jwt_t* jwt, const Credentials& who, seconds now, seconds leeway) {
    std::string_view user;
    if (read_text(jwt, "sub", user) != Presence::kGood) {
        return refuse(Errc::kBadToken, "the token has no sub (the user) that is text");
    }
    seconds expires{0};
    if (read_time(jwt, "exp", expires) != Presence::kGood) {
        return refuse(Errc::kBadToken, "the token has no exp (its end) that is a time");
    }
    seconds not_before{0};
    if (read_time(jwt, "nbf", not_before) == Presence::kBad) {
        return refuse(Errc::kBadToken, "the token's nbf is no time");
    }
    std::string_view app = kDefaultApp;
    if (read_text(jwt, "app", app) == Presence::kBad || app != who.app) {
        return refuse(Errc::kUnknownApp, "the token is for another app");
    }
    if (user != who.user) return refuse(Errc::kForbidden, "the token is for another user");
    if (!is_good_for(jwt, "dev", who.device)) {
        return refuse(Errc::kForbidden, "the token is for another device");
    }
    if (!is_good_for(jwt, "cls", who.device_class)) {
        return refuse(Errc::kForbidden, "the token is for another class of devices");
    }
    // Last: 402 asks for a new one, which helps only him whom it is for.
    if (now >= expires + leeway) {
        return refuse(Errc::kTokenExpired, "the token has expired, log in with a new one");
    }
    if (now + leeway < not_before) {
        return refuse(Errc::kBadToken,
                      "the token is not valid yet: compare the issuer's clock with the gateway's");
    }
    Verdict verdict;
    verdict.lasts = expires + leeway - now;
    return verdict;
}

}  // namespace

Verdict JwtAuthenticator::verify(const Credentials& who, WallMillis now) {
    if (who.token.empty()) return refuse(Errc::kBadToken, "no token: this gateway asks for one");
    if (who.token.size() > options_.token_bytes_max) {
        return refuse(Errc::kBadToken, "the token is longer than " +
                                           std::to_string(options_.token_bytes_max) + " bytes");
    }
    // Without a key libjwt verifies nothing.
    if (options_.key.empty() || !has_shape(who.token)) {
        return refuse(Errc::kBadToken, "this is no JSON Web Token");
    }
    jwt_t* decoded = nullptr;
    const int error = jwt_decode(&decoded, std::string(who.token).c_str(),
                                 reinterpret_cast<const unsigned char*>(options_.key.data()),
                                 static_cast<int>(options_.key.size()));
    const Jwt jwt(decoded);
    // libjwt goes by the algorithm that the token names: one signed with the public key as if that
    // were a secret would pass.
    const char* const algorithm = error == 0 ? jwt_get_header(jwt.get(), "alg") : nullptr;
    if (algorithm == nullptr || algorithm != name_of(options_.algorithm)) {
        return refuse(Errc::kBadToken, "the token is not signed with this gateway's key by " +
                                           std::string(name_of(options_.algorithm)));
    }
    // RFC 7515 section 4.1.11: who does not understand what it lists must refuse.
    if (const Text critical{jwt_get_headers_json(jwt.get(), "crit")}) {
        return refuse(Errc::kBadToken, "the token demands extensions that are not known here");
    }
    return judge(jwt.get(), who, std::chrono::floor<seconds>(std::chrono::milliseconds{now}),
                 options_.leeway);
}

std::string mint_jwt(const JwtClaims& claims, std::string_view secret) {
    jwt_t* made = nullptr;
    if (jwt_new(&made) != 0) return {};
    const Jwt jwt(made);
    int failed =
        jwt_set_alg(jwt.get(), JWT_ALG_HS256, reinterpret_cast<const unsigned char*>(secret.data()),
                    static_cast<int>(secret.size()));
    const auto add = [&](const char* claim, const std::string& value) {
        if (!value.empty()) failed |= jwt_add_grant(jwt.get(), claim, value.c_str());
    };
    add("sub", claims.user);
    add("app", claims.app);
    add("dev", claims.device);
    add("cls", claims.device_class);
    failed |= jwt_add_grant_int(jwt.get(), "iat", claims.not_before.count());
    failed |= jwt_add_grant_int(jwt.get(), "nbf", claims.not_before.count());
    failed |= jwt_add_grant_int(jwt.get(), "exp", claims.expires.count());
    if (failed != 0) return {};
    const Text token(jwt_encode_str(jwt.get()));
    return token ? std::string(token.get()) : std::string();
}

}  // namespace petrel
