#include "tools/petrel/client_options.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdint>
#include <variant>

#include "protocol/codec.hpp"
#include "protocol/fingerprint.hpp"
#include "protocol/profile.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/secret_file.hpp"
#include "transport/tls.hpp"

namespace petrel::tools {
namespace {

// The fingerprint of a message's packet; "" when it is none.
std::string data_fingerprint(std::string_view packet, ProfileId profile) {
    const auto decoded = decode(packet, profile);
    if (!decoded) return {};
    const auto* const data = std::get_if<Data>(&decoded->packet);
    return data != nullptr && !data->fp.empty() ? data->fp.to_string() : std::string();
}

}  // namespace

namespace {

void warn_insecure(bool has_pins) {
    log(LogLevel::kWarning,
        has_pins ? "--insecure: neither authority nor host name is verified, only the pinned key"
                 : "--insecure: no certificate is verified. Whoever is in between can pose as the "
                   "gateway, read and change every message, and take the token");
}

}  // namespace

void add_client_options(CLI::App& app, ClientCommand& command, bool is_user_required) {
    add_common(app, command.common);
    add_websocket_url(app, "--url", command.url, "The gateway, ws://HOST:PORT/ws or wss://...")
        ->required();
    CLI::Option* const user = app.add_option("--user", command.user, "Log in as this user");
    if (is_user_required) {
        user->required();
    } else {
        user->default_str("a fresh one");
    }
    app.add_option("--token", command.token,
                   "What proves it (see petrel gateway --auth); everybody on this machine can see "
                   "it in the list of processes, --token-file hides it");
    app.add_option_function<std::string>(
           "--token-file",
           [&command](const std::string& path) {
               std::string why;
               auto token = read_token_file(path, why);
               if (!token) throw CLI::ValidationError("--token-file", why);
               command.token = std::move(*token);
               command.token_file = path;
           },
           "The same from a file, which is read again when the token has expired")
        ->excludes("--token")
        ->type_name("FILE");
    app.add_option("--app", command.app, "The app: users of different apps never meet")
        ->default_str("default");
    app.add_option("--device", command.device, "Device id, 1-64 characters")
        ->check([](const std::string& text) {
            const bool is_good = !text.empty() && text.size() <= 64 && text != "-";
            return is_good ? std::string() : "a device id has 1 to 64 characters and is not \"-\"";
        });
    app.add_option("--profile", command.profile, "petrel.v1, im-sdk or mobileimsdk")
        ->check([](const std::string& name) {
            return profile_by_name(name)
                       ? std::string()
                       : "'" + name + "' is none of petrel.v1, im-sdk, mobileimsdk";
        })
        ->capture_default_str();
    app.add_flag(
        "--require-v1", command.require_v1,
        "Fail when the server does not speak petrel.v1, instead of falling back to im-sdk");
    app.add_option("--ca", command.ca_file, "PEM file of the CAs to trust for wss://")
        ->check(CLI::ExistingFile)
        ->default_str("the system's");
    app.add_option("--pin", command.pins,
                   "Public key that wss:// must show, beside a good certificate: base64 of its "
                   "SHA-256 (RFC 7469); repeat it for others that may be shown instead")
        ->check([](const std::string& text) {
            return is_key_pin(text)
                       ? std::string()
                       : "'" + text + "' is no pin: the base64 of a SHA-256 has 44 characters";
        })
        ->type_name("HASH")
        ->allow_extra_args(false);
    app.add_flag("--insecure", command.is_insecure,
                 "Verify no certificate, --pin apart: anybody in between can pose as the gateway, "
                 "read and change everything");
    app.parse_complete_callback([&command] {
        // Else it would be given and never looked at.
        if (!command.pins.empty() && command.url.rfind("ws://", 0) == 0) {
            throw CLI::ValidationError("--pin", "ws:// shows no key, give a wss:// URL");
        }
    });
    app.add_option_function<std::string>(
           "--trace",
           [&command](const std::string& path) {
               std::string why;
               command.trace = LineWriter::open(path, why);
               if (!command.trace) throw CLI::ValidationError("--trace", why);
           },
           "Append when each transmission left and came, by which connection, and with --json "
           "when each of its lines was true; for petrel track")
        ->type_name("FILE");
    add_duration(app, "--timeout", command.timeout, "How long to wait without any progress",
                 {std::chrono::milliseconds{1}, std::chrono::hours{24}});
}

ClientOptions make_client_options(const ClientCommand& command, const std::string& device) {
    ClientOptions options;
    options.engine.profile = profile_by_name(command.profile).value_or(ProfileId::kPetrelV1);
    options.engine.require_v1 = command.require_v1;
    options.engine.user = command.user;
    options.engine.token = command.token;
    options.engine.app = command.app;
    options.engine.device = command.device.empty() ? device : command.device;
    options.engine.device_class = "desktop";
    options.connect.url = command.url;
    options.connect.tls.ca_file = command.ca_file;
    options.connect.tls.is_insecure = command.is_insecure;
    options.connect.tls.pins = command.pins;
    if (command.is_insecure) warn_insecure(!command.pins.empty());
    options.on_log = [](LogLevel level, std::string_view text) { log(level, text); };
    if (command.trace) {
        options.on_packet = [trace = command.trace, user = command.user, app = app_of(command),
                             device = options.engine.device, profile = options.engine.profile](
                                bool is_out, std::uint64_t attempt, std::string_view packet) {
            const std::string fp = data_fingerprint(packet, profile);
            if (fp.empty()) return;
            JsonLine(is_out ? "attempt" : "arrived")
                .number("ts", wall_now_ms())
                .number("conn", attempt)
                .text("app", app)
                .text("user", user)
                .text("device", device)
                .text("fp", fp)
                .print(*trace);
        };
    }
    return options;
}

bool renew_token(TokenSource& tokens, Client* client, const Event& event) {
    if (client == nullptr || !std::holds_alternative<TokenNeededEvent>(event)) return false;
    auto token = tokens.next();
    if (!token) return false;
    log(LogLevel::kInfo, "the token has expired, going on with the next one");
    client->set_token(std::move(*token));
    return true;
}

std::string fresh_device() { return UuidSource().next().to_string(); }

std::string app_of(const ClientCommand& command) {
    return command.app.empty() ? "default" : command.app;
}

}  // namespace petrel::tools
