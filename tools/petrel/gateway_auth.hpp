#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/gateway/authenticator.hpp"

namespace CLI {
class App;
}

// `petrel gateway --auth`: who may log in.

namespace petrel::tools {

struct AuthOptions {
    std::string auth = "open";
    std::string jwt_secret_file;
    std::string jwt_public_key_file;
    std::chrono::nanoseconds jwt_leeway = std::chrono::seconds{30};
    std::chrono::nanoseconds token_grace = std::chrono::seconds{60};
};

// --auth, --jwt-secret-file, --jwt-public-key-file, --jwt-leeway, --token-grace.
void add_auth_options(CLI::App& app, AuthOptions& options);

// nullptr: the command line is wrong, for the reason in `why`. One that believes everybody is
// warned about, the louder when others reach `host`.
std::unique_ptr<Authenticator> make_authenticator(const AuthOptions& options,
                                                  const std::string& host, std::string& why);

}  // namespace petrel::tools
