#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemons/timer.hpp"

namespace petrel::sim {

// What may go wrong, each switchable by name (--faults). Rates are per packet, or a mean time
// between occurrences.
struct Faults {
    bool drop = true;           // 5 % of packets.
    bool duplicate = true;      // 3 %.
    bool delay = true;          // 5 to 200 ms, else 1 ms.
    bool cut = true;            // Each connection lives 20 s on average.
    bool half_open = true;      // A third of the cuts tell only one side, or neither.
    bool stall = true;          // A direction stands still for up to 8 s.
    bool partition = true;      // Every 90 s nobody reaches anybody, for up to 40 s.
    bool garbage = true;        // 0.2 % of packets arrive truncated or garbled.
    bool large = true;          // Some messages are as large as they may be.
    bool gateway_crash = true;  // Every 60 s on average.
    bool drain = true;          // Every 120 s.
    bool client_crash = true;   // Each client every 60 s; durable boxes survive.
    bool suspend = true;        // Each client every 40 s, for 0.1 to 60 s, now and then for 600 s.
    bool wall_jump = true;      // Every 60 s, by up to an hour either way.
    bool store_busy = true;     // 1 % of the commits fail.
    bool store_lost = false;    // Once the store comes back empty (on in every fifth seed).
    bool token = true;          // Tokens expire: each client's every 60 s on average.
    bool token_end = false;     // And end while online (on in two of seven seeds).
    bool second_device = true;  // Some users have two.
    bool expiry = true;         // Some messages expire within seconds.
    bool cancel = true;         // Some are cancelled.

    static const std::vector<std::string_view>& names();
    // False for a name that is none.
    bool set(std::string_view name, bool value);
    bool get(std::string_view name) const;
    static Faults none();
};

struct Options {
    std::uint64_t seed = 1;
    unsigned clients = 4;     // Users.
    unsigned messages = 200;  // A run.
    Faults faults;
    bool with_plain = true;  // Every fourth seed has users with plain clients.
    bool with_rare = true;   // Every fifth seed loses the store.
};

struct Report {
    std::optional<std::string> violation;  // The first one; nullopt: all held.
    std::uint64_t trace_hash = 0;
    Duration simulated{0};
    unsigned sent = 0, accepted = 0, rejected = 0, expired = 0, cancelled = 0, lost = 0;
    std::uint64_t handed_up = 0, redelivered = 0, packets = 0, connections = 0;
    std::vector<std::string> last_packets;  // A chart of what led to the violation.
};

// The faults of that run: those asked for, and the rare ones that its seed adds.
Faults faults_of(const Options& options);

Report run(const Options& options);

}  // namespace petrel::sim
