#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "core/gateway/gateway.hpp"
#include "core/store/message_store.hpp"

namespace CLI {
class App;
}  // namespace CLI

// The gateway's limits on the command line: what one client, one address or everybody together may
// do. Each has a default that is safe for a small machine, and an answer at the limit.

namespace petrel::tools {

struct LimitOptions {
    std::size_t connections_max = ConnectionLimits::Options{}.connections_max;
    std::size_t per_address_max = ConnectionLimits::Options{}.per_address_max;
    std::size_t before_login_max = ConnectionLimits::Options{}.before_login_max;
    std::chrono::nanoseconds handshake_timeout = ListenOptions{}.handshake_timeout;
    std::size_t header_bytes_max = ListenOptions{}.header_bytes_max;
    std::chrono::nanoseconds login_deadline = SessionOptions{}.login_deadline;
    double logins_per_address = 50;  // A second; 0: no limit. As LoginLimits::Options.
    std::size_t logins_per_address_burst = LoginLimits::Options{}.per_address.burst;
    double logins_per_account = 1;
    std::size_t logins_per_account_burst = LoginLimits::Options{}.per_account.burst;
    double message_rate = 0;        // A second and session; 0: no limit.
    std::size_t message_burst = 0;  // 0: a second's worth.
    std::size_t payload_max = SessionOptions{}.payload_max;
    std::size_t queued_bytes_max = SessionOptions{}.queued_bytes_max;
    std::size_t malformed_max = SessionOptions{}.malformed_max;
    std::size_t inbox_max = StoreOptions{}.inbox_max;
    std::size_t devices_max = StoreOptions{}.devices_max;
    std::chrono::nanoseconds message_retention = StoreOptions{}.message_retention;
    std::chrono::nanoseconds dedup_horizon = StoreOptions{}.dedup_horizon;
    std::chrono::nanoseconds device_retention = StoreOptions{}.device_retention;
    std::size_t store_memory_max = StoreOptions{}.memory_max;
    std::size_t store_queue_max = StoreWriter::Options{}.queue_max;
};

void add_limits(CLI::App& app, LimitOptions& limits);
void apply(const LimitOptions& limits, GatewayOptions& gateway);
void apply(const LimitOptions& limits, StoreOptions& store);

}  // namespace petrel::tools
