#include <CLI/CLI.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/gateway/authenticator.hpp"
#include "core/gateway/gateway.hpp"
#include "core/gateway/trace_file.hpp"
#include "core/store/memory_message_store.hpp"
#include "core/store/sqlite_message_store.hpp"
#include "tools/petrel/check_report.hpp"
#include "tools/petrel/commands.hpp"
#include "tools/petrel/config_file.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/gateway_admin.hpp"
#include "tools/petrel/gateway_auth.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/limit_options.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/signals.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/handshake.hpp"
#include "transport/tls.hpp"

namespace petrel::tools {
namespace {

constexpr const char* kMemory = ":memory:";
constexpr const char* kFooter =
    "Users connect to ws://HOST:PORT/ws (also /websocket and /). It speaks petrel.v1, im-sdk and\n"
    "mobileimsdk on the same port. Ctrl-C or SIGTERM drains: clients are told to come back, what\n"
    "is queued is written, then it exits with 0.\n"
    "\n"
    "--auth open trusts whatever user id a client states. It is for trials on this machine.\n"
    "--auth jwt lets in who has a JSON Web Token of your own server: HS256 with\n"
    "--jwt-secret-file, RS256 or ES256 (as the key is) with --jwt-public-key-file. Its claims:\n"
    "sub (the user), exp, and when they are there app, nbf, dev (device), cls (device class).\n"
    "A session whose token ends is asked for a new one, and closed when none comes within\n"
    "--token-grace. 'petrel token' makes tokens for trials.\n"
    "\n"
    "SIGHUP reads --tls-cert and --tls-key again: new connections get the new certificate, those\n"
    "that are open stay. One that cannot be used is refused with the reason, and the one before\n"
    "stays in use. --log-file is opened anew.\n"
    "\n"
    "A plain GET of /ws or / is answered with a line about what this is. Frames are never\n"
    "compressed (no permessage-deflate).\n"
    "\n"
    "--admin ADDRESS: a second listener, HTTP, for /healthz, /readyz, /metrics (Prometheus),\n"
    "/v1/sessions, /v1/kick and /v1/drain. All but the first two want the header\n"
    "Authorization: Bearer TOKEN. It has no TLS: keep it on loopback or in a network you trust.\n"
    "\n"
    "--new-epoch: after the store file was restored from a copy. Every client is then told that\n"
    "it may have missed messages (a break), instead of losing them without a word.\n"
    "\n"
    "Examples:\n"
    "  petrel gateway\n"
    "  petrel gateway --listen 127.0.0.1:0 --store :memory: --json\n"
    "  petrel gateway --admin 127.0.0.1:9601 --admin-token-file admin.token\n"
    "  petrel gateway --store /var/lib/petrel/petrel.db --trace trace.jsonl\n"
    "  petrel gateway --auth jwt --jwt-secret-file secret\n"
    "  petrel gateway --tls-cert chain.pem --tls-key key.pem --listen 0.0.0.0:9600";

struct GatewayCommand {
    CommonOptions common;
    ListenAddress listen{"127.0.0.1", 9600};
    std::string store = "petrel.db";
    AuthOptions auth;
    std::string tls_cert;
    std::string tls_key;
    std::vector<std::string> origins;
    std::string transport = "native";
    unsigned shards = std::max(1U, std::thread::hardware_concurrency() / 2);
    std::string sessions = "multi";
    std::string trace;
    bool new_epoch = false;
    unsigned window = 64;
    std::chrono::nanoseconds heartbeat = std::chrono::seconds{25};
    std::string config;
    bool print_config = false;
    bool check = false;
    std::string log_format = "text";
    std::string log_file;
    std::optional<ListenAddress> admin;
    std::string admin_token_file;
    std::chrono::nanoseconds drain_timeout = std::chrono::seconds{8};
    LimitOptions limits;
};

// A connection is a file descriptor; the soft limit is often 1024.
void raise_descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        log(LogLevel::kWarning, "cannot raise the limit of open files");
    }
}

std::unique_ptr<MessageStore> open_store(const GatewayCommand& command, FingerprintSource& epochs) {
    StoreOptions options;
    apply(command.limits, options);
    if (command.store == kMemory) return make_memory_message_store(options, epochs);
    std::string why;
    SqliteTuning tuning;
    tuning.is_log_prepared = true;
    auto store = open_sqlite_message_store(command.store, options, epochs, why, tuning);
    if (!store) {
        log(LogLevel::kError, why);
        return nullptr;
    }
    return std::move(*store);
}

void reload(Gateway& gateway, const GatewayCommand& command) {
    reopen_log();
    if (command.tls_cert.empty()) {
        log(LogLevel::kInfo, "SIGHUP: there is nothing to reload");
        return;
    }
    std::string why;
    if (!gateway.reload_certificate(why)) {
        log(LogLevel::kError, "SIGHUP: the certificate from before stays in use: " + why);
    }
}

// A transaction of its own, before the writer has any. The store's clock goes on from where it was.
std::error_code renew_epochs(MessageStore& store) {
    const WallMillis wall = std::chrono::duration_cast<std::chrono::milliseconds>(
                                std::chrono::system_clock::now().time_since_epoch())
                                .count();
    if (const auto error = store.begin(std::max(store.last_now(), wall), wall)) return error;
    if (const auto error = store.renew_epochs()) {
        store.rollback();
        return error;
    }
    return store.commit();
}

// What is wrong with the options together; empty: nothing.
std::string objection(const GatewayCommand& command) {
    if (command.tls_cert.empty() != command.tls_key.empty()) {
        return "--tls-cert and --tls-key go together";
    }
    if (command.admin.has_value() != !command.admin_token_file.empty()) {
        return "--admin and --admin-token-file go together: whoever reaches the address could kick "
               "everybody out";
    }
    return {};
}

ExitStatus print_config(const CLI::App& app) {
    std::string why;
    const std::string text = write_config(app, why);
    if (text.empty()) {
        log(LogLevel::kError, why);
        return ExitStatus::kFailed;
    }
    std::fwrite(text.data(), 1, text.size(), stdout);
    return ExitStatus::kDone;
}

// --check: everything that start looks at, but for the addresses.
ExitStatus check(const CLI::App& app, const GatewayCommand& command) {
    if (const std::string problem = objection(command); !problem.empty()) {
        return usage_error(app, problem);
    }
    CheckReport report(command.common.is_json);
    std::string why;
    if (!command.config.empty()) report.good("config", command.config);
    if (command.admin) {
        read_admin_token(command.admin_token_file, why).empty()
            ? report.bad("admin", why)
            : report.good("admin", command.admin_token_file);
    }
    make_authenticator(command.auth, command.listen.host, why)
        ? report.good("auth", command.auth.auth)
        : report.bad("auth", why);
    if (!command.tls_cert.empty()) {
        const auto tls = TlsServer::load(command.tls_cert, command.tls_key, why);
        tls ? report.good("tls", (*tls)->summary()) : report.bad("tls", why);
    }
    if (!command.log_file.empty()) report.file_to_append("log", command.log_file);
    if (!command.trace.empty()) report.file_to_append("trace", command.trace);
    report.store(command.store);
    return report.status();
}

ExitStatus gateway(const CLI::App& app, const GatewayCommand& command) {
    if (const std::string problem = objection(command); !problem.empty()) {
        return usage_error(app, problem);
    }
    std::string why;
    if (!log_to(command.log_file,
                command.log_format == "json" ? LogFormat::kJson : LogFormat::kText, why)) {
        log(LogLevel::kError, why);
        return ExitStatus::kFailed;
    }
    std::string admin_token;
    if (command.admin) {
        admin_token = read_admin_token(command.admin_token_file, why);
        if (admin_token.empty()) return usage_error(app, why);
    }
    std::unique_ptr<Authenticator> authenticator =
        make_authenticator(command.auth, command.listen.host, why);
    if (!authenticator) return usage_error(app, why);
    raise_descriptor_limit();
    // A file at its limit of size is a full disk: an error of the write, not the end.
    std::signal(SIGXFSZ, SIG_IGN);
    UuidSource epochs;
    std::unique_ptr<MessageStore> store = open_store(command, epochs);
    if (!store) return ExitStatus::kFailed;
    if (command.new_epoch) {
        if (renew_epochs(*store)) {
            log(LogLevel::kError, "cannot renew the epochs: " + store->last_error());
            return ExitStatus::kFailed;
        }
    }
    std::unique_ptr<TraceFile> trace;
    if (!command.trace.empty()) {
        auto opened = TraceFile::open(command.trace);
        if (!opened) {
            log(LogLevel::kError,
                "cannot write " + command.trace + ": " + opened.error().message());
            return ExitStatus::kFailed;
        }
        trace = std::move(*opened);
    }

    GatewayOptions options;
    apply(command.limits, options);
    options.listen.address = command.listen.host;
    options.listen.port = command.listen.port;
    options.listen.tls_cert_file = command.tls_cert;
    options.listen.tls_key_file = command.tls_key;
    options.listen.origins = command.origins;
    options.listen.http_page =
        "This is Petrel, a gateway for messages. It speaks WebSocket (subprotocol petrel.v1), and\n"
        "there is nothing to see for a browser. Apps connect to the path /ws of this address,\n"
        "ws://.../ws or wss://.../ws.\n";
    options.websocket =
        command.transport == "websocketpp" ? WebSocketKind::kWebsocketpp : WebSocketKind::kNative;
    options.shards = command.shards;
    options.policy = command.sessions == "single"          ? SessionPolicy::kSingle
                     : command.sessions == "one-per-class" ? SessionPolicy::kOnePerClass
                                                           : SessionPolicy::kMulti;
    options.session.heartbeat = command.heartbeat;
    options.session.token_grace = command.auth.token_grace;
    options.session.window = command.window;
    options.session.push_window_max = std::max(options.session.push_window_max, command.window);
    options.drain_deadline =
        std::chrono::duration_cast<std::chrono::milliseconds>(command.drain_timeout);
    options.trace = trace.get();
    options.on_log = [](LogLevel level, std::string_view text, const LogContext& about) {
        log(level, text, about);
    };
    Gateway gateway(options, std::move(store), std::move(authenticator));

    // The signals first: whoever reads the line below may send one.
    AsioEventLoop loop;
    StopSignals signals(loop, [&loop] { loop.stop(); });
    const HangUpSignal hang_up(loop, [&gateway, &command] { reload(gateway, command); });
    const auto port = gateway.start(why);
    if (!port) {
        log(LogLevel::kError, "cannot listen: " + why);
        return ExitStatus::kFailed;
    }
    std::optional<std::int64_t> drain_window_ms;
    std::unique_ptr<GatewayAdmin> admin;
    std::string admin_url;
    if (command.admin) {
        admin = std::make_unique<GatewayAdmin>(
            gateway, command.store, std::move(admin_token),
            [&loop, &drain_window_ms](std::optional<std::int64_t> window_ms) {
                loop.post([&loop, &drain_window_ms, window_ms] {
                    drain_window_ms = window_ms;
                    loop.stop();
                });
            });
        const auto admin_port = admin->start(*command.admin, why);
        if (!admin_port) {
            log(LogLevel::kError, why);
            return ExitStatus::kFailed;
        }
        admin_url = to_http_url({command.admin->host, *admin_port});
    }
    std::string url = to_url({command.listen.host, *port});
    if (!command.tls_cert.empty()) url.replace(0, 2, "wss");
    if (command.common.is_json) {
        JsonLine line("listening");
        line.text("url", url).number("port", *port);
        if (!admin_url.empty()) line.text("admin", admin_url);
        line.print();
    } else {
        print_text("Listening at " + url + ", store " + command.store + ". Ctrl-C ends it.");
        if (!admin_url.empty()) print_text("Admins: " + admin_url);
    }
    loop.run();
    log(LogLevel::kInfo, "draining");
    gateway.stop(drain_window_ms);
    const bool is_admin_done = !admin || admin->stop();
    if (!command.common.is_json) print_text("Drained.");
    // Its last request is still being read: nothing here may be destroyed.
    if (!is_admin_done) std::_Exit(static_cast<int>(ExitStatus::kDone));
    return ExitStatus::kDone;
}

}  // namespace

void add_gateway(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<GatewayCommand>();
    CLI::App* const app =
        root.add_subcommand("gateway", "Accept messages durably and deliver them exactly once");
    app->footer(kFooter);
    add_common(*app, command->common);
    add_listen_address(*app, "--listen", command->listen, "Where to listen; port 0 picks one");
    app->add_option("--store", command->store, "SQLite file, or :memory:")->capture_default_str();
    add_auth_options(*app, command->auth);
    app->add_option("--tls-cert", command->tls_cert,
                    "PEM certificate chain: wss:// instead of ws://");
    app->add_option("--tls-key", command->tls_key, "PEM private key, without a password");
    app->add_option("--origin", command->origins,
                    "A web site whose pages may connect (https://chat.example), can be repeated; "
                    "others get 403. Default: any, since a login needs more than a page's origin, "
                    "and apps send none and are always let in")
        ->check([](const std::string& text) {
            return !normal_origin(text).empty()
                       ? std::string()
                       : "'" + text +
                             "' is no origin: write https://chat.example or "
                             "http://127.0.0.1:8080, with nothing behind it";
        })
        ->type_name("ORIGIN")
        ->allow_extra_args(false);
    app->add_option("--transport", command->transport,
                    "Whose WebSocket: native (Petrel's own), websocketpp")
        ->check(CLI::IsMember({"native", "websocketpp"}))
        ->capture_default_str();
    app->add_option("--shards", command->shards, "Threads with sockets")
        ->check(CLI::Range(1U, 64U))
        ->capture_default_str();
    app->add_option("--sessions", command->sessions,
                    "Sessions of one user that live side by side: multi (one a device), "
                    "one-per-class, single")
        ->check(CLI::IsMember({"multi", "one-per-class", "single"}))
        ->capture_default_str();
    app->add_option("--trace", command->trace,
                    "Append every message's life to FILE, for petrel track")
        ->type_name("FILE");
    app->add_flag("--new-epoch", command->new_epoch,
                  "The store was restored from a copy: say so to all")
        ->configurable(false);  // Once, not at every start.
    add_duration(*app, "--heartbeat", command->heartbeat,
                 "How often clients of petrel.v1 say that they live",
                 {std::chrono::milliseconds{100}, std::chrono::hours{1}});
    app->add_option("--window", command->window,
                    "Messages that a client may have sent and not yet acked, at most")
        ->check(CLI::Range(1U, 65'536U))
        ->capture_default_str();
    add_listen_address(*app, "--admin", command->admin,
                       "Where admins look, kick and drain by HTTP; off without it");
    app->add_option("--admin-token-file", command->admin_token_file,
                    "Their token, at least 16 characters in one line: Authorization: Bearer TOKEN")
        ->type_name("FILE");
    add_duration(*app, "--drain-timeout", command->drain_timeout,
                 "How long connections may take to close when the gateway ends; then they are cut",
                 {std::chrono::milliseconds{0}, std::chrono::hours{1}});
    add_limits(*app, command->limits);
    app->add_option("--log-format", command->log_format,
                    "Lines for people (text), or an object a line (json)")
        ->check(CLI::IsMember({"text", "json"}))
        ->capture_default_str();
    app->add_option("--log-file", command->log_file,
                    "Append the log to FILE instead of stderr; SIGHUP opens it anew")
        ->type_name("FILE");
    app->add_option("--config", command->config,
                    "Read options from FILE, TOML or INI: each has the key of its name. What "
                    "stands here wins")
        ->type_name("FILE")
        ->configurable(false);
    app->add_flag("--print-config", command->print_config,
                  "Print all options as they are in effect, as a file for --config, and end")
        ->configurable(false);
    app->add_flag("--check", command->check,
                  "Look at options, key files and store, change nothing, and end: 0 it would "
                  "start, 1 a file is not as it should be, 2 an option")
        ->configurable(false);
    app->callback([app, command, &exit] {
        if (!command->config.empty()) read_config_file(*app, command->config);
        exit = command->print_config ? print_config(*app)
               : command->check      ? check(*app, *command)
                                     : gateway(*app, *command);
    });
}

}  // namespace petrel::tools
