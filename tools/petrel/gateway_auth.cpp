#include "tools/petrel/gateway_auth.hpp"

#include <CLI/CLI.hpp>

#include <cstddef>
#include <optional>
#include <utility>

#include "core/gateway/jwt_authenticator.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/secret_file.hpp"
#include "transport/public_key.hpp"

namespace petrel::tools {
namespace {

bool is_loopback(const std::string& host) {
    return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

std::optional<JwtAuthenticator::Options> read_jwt_options(const AuthOptions& from,
                                                          std::string& why) {
    constexpr std::size_t kKeyBytesMax = 64 * 1024;  // PEM may have comments around the key.
    JwtAuthenticator::Options options;
    options.leeway = std::chrono::duration_cast<std::chrono::seconds>(from.jwt_leeway);
    if (!from.jwt_secret_file.empty()) {
        auto secret = read_jwt_secret(from.jwt_secret_file, why);
        if (!secret) return std::nullopt;
        options.key = std::move(*secret);
        return options;
    }
    auto pem = read_small_file(from.jwt_public_key_file, kKeyBytesMax, why);
    if (!pem) return std::nullopt;
    const auto kind = inspect_public_key(*pem, why);
    if (!kind) {
        why = from.jwt_public_key_file + " " + why;
        return std::nullopt;
    }
    options.algorithm = *kind == PublicKeyKind::kRsa ? JwtAuthenticator::Algorithm::kRs256
                                                     : JwtAuthenticator::Algorithm::kEs256;
    options.key = std::move(*pem);
    return options;
}

void warn_about_open_door(const std::string& host) {
    if (!is_loopback(host)) {
        log(LogLevel::kWarning,
            "--auth open on " + host + ": EVERYBODY who reaches it can log in as ANYBODY");
    } else {
        log(LogLevel::kWarning, "--auth open: every user id is believed; for trials only");
    }
}

}  // namespace

void add_auth_options(CLI::App& app, AuthOptions& options) {
    app.add_option("--auth", options.auth,
                   "Who may log in: open (everybody, as anybody), jwt (who has a token)")
        ->check(CLI::IsMember({"open", "jwt"}))
        ->capture_default_str();
    app.add_option("--jwt-secret-file", options.jwt_secret_file,
                   "Secret of HS256 tokens, 32 bytes to 4 KiB; a newline at the end is not of it")
        ->type_name("FILE");
    app.add_option("--jwt-public-key-file", options.jwt_public_key_file,
                   "PEM public key of RS256 (RSA from 2048 bits) or ES256 (P-256) tokens")
        ->type_name("FILE");
    add_duration(app, "--jwt-leeway", options.jwt_leeway,
                 "How far the clocks of the token's issuer and this machine may differ",
                 {std::chrono::nanoseconds{0}, std::chrono::minutes{10}});
    add_duration(app, "--token-grace", options.token_grace,
                 "How long a session whose token has ended waits for a new one",
                 {std::chrono::nanoseconds{0}, std::chrono::hours{1}});
}

std::unique_ptr<Authenticator> make_authenticator(const AuthOptions& options,
                                                  const std::string& host, std::string& why) {
    const bool has_secret = !options.jwt_secret_file.empty();
    const bool has_public_key = !options.jwt_public_key_file.empty();
    if (options.auth != "jwt") {
        if (has_secret || has_public_key) {
            why = "a key for tokens needs --auth jwt: --auth open asks nobody for a token";
            return nullptr;
        }
        warn_about_open_door(host);
        return std::make_unique<OpenAuthenticator>();
    }
    if (has_secret == has_public_key) {
        why =
            "--auth jwt needs one key: --jwt-secret-file FILE (HS256; 'openssl rand -hex 32' makes "
            "a secret) or --jwt-public-key-file FILE (RS256, ES256)";
        return nullptr;
    }
    auto jwt = read_jwt_options(options, why);
    if (!jwt) return nullptr;
    return std::make_unique<JwtAuthenticator>(std::move(*jwt));
}

}  // namespace petrel::tools
