#include <CLI/CLI.hpp>

#include <chrono>
#include <memory>
#include <string>

#include "core/gateway/jwt_authenticator.hpp"
#include "protocol/utf8.hpp"
#include "tools/petrel/commands.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/secret_file.hpp"

namespace petrel::tools {
namespace {

constexpr const char* kFooter =
    "Prints a JSON Web Token (HS256) for a gateway with --auth jwt and the same "
    "--jwt-secret-file.\n"
    "Whoever has it can log in as that user until it ends: there is no way to take it back.\n"
    "In production the app's own server makes the tokens, for whom it has checked.\n"
    "\n"
    "Claims: sub (user), app, exp, nbf and iat (now), dev (device) and cls (class) when given.\n"
    "\n"
    "Examples:\n"
    "  (umask 077; openssl rand -hex 32 > secret)\n"
    "  petrel gateway --auth jwt --jwt-secret-file secret\n"
    "  (umask 077; petrel token --secret-file secret --user alice --ttl 10m > alice.token)\n"
    "  petrel send --url ws://127.0.0.1:9600/ws --user alice --token-file alice.token --to bob hi";

struct TokenCommand {
    CommonOptions common;
    std::string secret_file;
    std::string user;
    std::string app = "default";
    std::string device;
    std::string device_class;
    std::chrono::nanoseconds ttl = std::chrono::hours{1};
};

ExitStatus token(const CLI::App& app, const TokenCommand& command) {
    for (const std::string* name : {&command.user, &command.app, &command.device}) {
        if (!is_valid_utf8(*name)) return usage_error(app, "a name is not UTF-8");
    }
    std::string why;
    const auto secret = read_jwt_secret(command.secret_file, why);
    if (!secret) return usage_error(app, why);
    const auto now = std::chrono::duration_cast<std::chrono::seconds>(
        std::chrono::system_clock::now().time_since_epoch());
    JwtClaims claims;
    claims.user = command.user;
    claims.app = command.app;
    claims.device = command.device;
    claims.device_class = command.device_class;
    claims.not_before = now;
    claims.expires = now + std::chrono::duration_cast<std::chrono::seconds>(command.ttl);
    const std::string text = mint_jwt(claims, *secret);
    if (text.empty()) {
        log(LogLevel::kError, "no token could be made: out of memory");
        return ExitStatus::kFailed;
    }
    if (!command.common.is_json) {
        print_text(text);
    } else {
        JsonLine("token")
            .text("token", text)
            .text("user", command.user)
            .text("app", command.app)
            .number("exp", claims.expires.count())
            .print();
    }
    return LineWriter::standard_output().has_failed() ? ExitStatus::kFailed : ExitStatus::kDone;
}

}  // namespace

void add_token(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<TokenCommand>();
    CLI::App* const app =
        root.add_subcommand("token", "Make a token for a gateway with --auth jwt, for trials");
    app->footer(kFooter);
    add_common(*app, command->common);
    const auto is_name = [](const std::string& text) {
        return text.empty() ? std::string("an empty name is none") : std::string();
    };
    app->add_option("--secret-file", command->secret_file,
                    "The gateway's --jwt-secret-file: at least 32 bytes")
        ->required()
        ->type_name("FILE");
    app->add_option("--user", command->user, "Who may log in with it")->required()->check(is_name);
    app->add_option("--app", command->app, "Of which app")->check(is_name)->capture_default_str();
    app->add_option("--device", command->device, "Only from this device")->check(is_name);
    app->add_option("--class", command->device_class, "Only as mobile, desktop, web or other")
        ->check(CLI::IsMember({"mobile", "desktop", "web", "other"}));
    add_duration(*app, "--ttl", command->ttl, "How long it is good",
                 {std::chrono::seconds{1}, std::chrono::hours{24 * 366}});
    app->callback([app, command, &exit] { exit = token(*app, *command); });
}

}  // namespace petrel::tools
