#include "tools/petrel/limit_options.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <string>

#include "tools/petrel/duration.hpp"

namespace petrel::tools {
namespace {

constexpr double kRateMax = 1e9;
constexpr std::size_t kCountMax = 1'000'000'000;
constexpr const char* kGroup = "Limits";

void add_count(CLI::App& app, const char* name, std::size_t& value, const char* description,
               std::size_t min = 1) {
    app.add_option(name, value, description)
        ->check(CLI::Range(min, kCountMax))
        ->capture_default_str()
        ->group(kGroup);
}

void add_rate(CLI::App& app, const char* name, double& value, const char* description) {
    app.add_option(name, value, description)
        ->check(CLI::Range(0.0, kRateMax))
        ->capture_default_str()
        ->group(kGroup);
}

Rate to_rate(double a_second, std::size_t burst) {
    if (a_second <= 0) return {};
    const auto interval = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(1.0 / std::max(a_second, 1e-6)));
    return {std::max(interval, Duration{1}), std::max<std::size_t>(1, burst)};
}

}  // namespace

void add_limits(CLI::App& app, LimitOptions& limits) {
    add_count(app, "--connections-max", limits.connections_max,
              "Connections in all; beyond: HTTP 503");
    add_count(app, "--connections-per-address-max", limits.per_address_max,
              "From one IPv4 address or IPv6 /64; beyond: 503. Behind a proxy all clients have its "
              "address: raise it");
    add_count(app, "--before-login-max", limits.before_login_max,
              "Connections that have not logged in; beyond: 503");
    add_duration(app, "--handshake-timeout", limits.handshake_timeout,
                 "For TLS and the HTTP upgrade together; then the connection is cut",
                 {std::chrono::milliseconds{100}, std::chrono::minutes{5}})
        ->group(kGroup);
    app.add_option("--header-max", limits.header_bytes_max,
                   "Bytes of an HTTP request's line and headers; beyond: 431")
        ->check(CLI::Range(std::size_t{256}, std::size_t{16'000}))
        ->capture_default_str()
        ->group(kGroup);
    add_duration(app, "--login-deadline", limits.login_deadline,
                 "From the connection to its login; then closed with 4001",
                 {std::chrono::milliseconds{100}, std::chrono::minutes{5}})
        ->group(kGroup);
    add_rate(app, "--login-rate-per-address", limits.logins_per_address,
             "Logins a second of one address; beyond: 503 with a time. 0: no limit");
    add_count(app, "--login-burst-per-address", limits.logins_per_address_burst, "So many at once");
    add_rate(app, "--login-rate-per-account", limits.logins_per_account,
             "Logins a second of one account, its token being good; beyond: 503 with a time. 0: no "
             "limit");
    add_count(app, "--login-burst-per-account", limits.logins_per_account_burst, "So many at once");
    add_rate(app, "--message-rate", limits.message_rate,
             "Messages a second of one session; beyond: 302 with a time, and 4008 for who goes on. "
             "0: no limit but the window");
    add_count(app, "--message-burst", limits.message_burst, "So many at once; 0: a second's worth",
              0);
    app.add_option(
           "--payload-max", limits.payload_max,
           "Bytes of a message's text; beyond: 304, and 1009 for frames that cannot hold it")
        ->check(CLI::Range(std::size_t{1}, std::size_t{16} << 20))
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--queued-bytes-max", limits.queued_bytes_max,
                   "Unread bytes of one session; beyond: closed with 4005")
        ->check(CLI::Range(std::size_t{64} << 10, std::size_t{1} << 30))
        ->capture_default_str()
        ->group(kGroup);
    add_count(app, "--malformed-max", limits.malformed_max,
              "Frames in a minute that are no packets; then closed with 4006");
    add_count(app, "--inbox-max", limits.inbox_max,
              "Messages waiting for one user; beyond: 308 to the sender");
    add_count(app, "--devices-max", limits.devices_max,
              "Devices of one user that receive; beyond, the longest unused is forgotten");
    add_duration(
        app, "--message-retention", limits.message_retention,
        "How long a message waits in an inbox; then it goes, and who has not had it is told "
        "(recovered=false)",
        {std::chrono::seconds{1}, std::chrono::hours{24 * 365}})
        ->group(kGroup);
    add_duration(app, "--dedup-horizon", limits.dedup_horizon,
                 "How long a fingerprint is known. Senders give a message up after half of it",
                 {std::chrono::seconds{10}, std::chrono::hours{24 * 365}})
        ->group(kGroup);
    add_duration(app, "--device-retention", limits.device_retention,
                 "After so long unused, a device or an outbox stream is forgotten",
                 {std::chrono::seconds{10}, std::chrono::hours{24 * 365}})
        ->group(kGroup);
    app.add_option("--store-memory-max", limits.store_memory_max,
                   "Bytes of messages and fingerprints that --store :memory: holds, roughly. From "
                   "three quarters on the oldest go that a device has handled; beyond: 302 with a "
                   "time")
        ->check(CLI::Range(std::size_t{1} << 20, std::size_t{1} << 44))
        ->capture_default_str()
        ->group(kGroup);
    add_count(app, "--store-queue-max", limits.store_queue_max,
              "Messages waiting for the store; beyond: 302 with a time");
}

void apply(const LimitOptions& limits, GatewayOptions& gateway) {
    using std::chrono::milliseconds;
    gateway.connections.connections_max = limits.connections_max;
    gateway.connections.per_address_max = limits.per_address_max;
    gateway.connections.before_login_max = limits.before_login_max;
    gateway.listen.handshake_timeout =
        std::chrono::duration_cast<milliseconds>(limits.handshake_timeout);
    gateway.listen.header_bytes_max = limits.header_bytes_max;
    gateway.listen.frame_bytes_max = 6 * limits.payload_max + 4096;  // PROTOCOL.md section 4.6.
    gateway.logins.per_address =
        to_rate(limits.logins_per_address, limits.logins_per_address_burst);
    gateway.logins.per_account =
        to_rate(limits.logins_per_account, limits.logins_per_account_burst);
    const std::size_t second_worth = static_cast<std::size_t>(std::ceil(limits.message_rate));
    gateway.session.message_rate = to_rate(
        limits.message_rate, limits.message_burst != 0 ? limits.message_burst : second_worth);
    gateway.session.login_deadline = limits.login_deadline;
    gateway.session.payload_max = limits.payload_max;
    gateway.session.queued_bytes_max = limits.queued_bytes_max;
    gateway.session.malformed_max = limits.malformed_max;
    // Logins tell it: clients give a message up before.
    gateway.session.dedup_horizon_ms =
        std::chrono::duration_cast<milliseconds>(limits.dedup_horizon).count();
    gateway.writer.queue_max = limits.store_queue_max;
}

void apply(const LimitOptions& limits, StoreOptions& store) {
    using std::chrono::milliseconds;
    store.inbox_max = limits.inbox_max;
    store.devices_max = limits.devices_max;
    store.message_retention = std::chrono::duration_cast<milliseconds>(limits.message_retention);
    store.dedup_horizon = std::chrono::duration_cast<milliseconds>(limits.dedup_horizon);
    store.device_retention = std::chrono::duration_cast<milliseconds>(limits.device_retention);
    store.memory_max = limits.store_memory_max;
}

}  // namespace petrel::tools
