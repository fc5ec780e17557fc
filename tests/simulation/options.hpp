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
    // The network.
    bool drop = true;            // 5 % of packets.
    bool duplicate = true;       // 3 %.
    bool delay = true;           // 5 to 200 ms, else 1 ms.
    bool truncated = true;       // 0.1 % of packets arrive cut short.
    bool garbage = true;         // 0.1 % arrive as something else.
    bool cut = true;             // Each connection lives 20 s on average.
    bool silent_cut = true;      // A third of the cuts tell only one side, or neither.
    bool reorder = true;         // Half of the old connections go on for up to 8 s beside the new.
    bool half_open_up = true;    // Each 60 s: nothing of what the client sends arrives any more.
    bool half_open_down = true;  // Each 60 s: nothing arrives at the client any more.
    bool stall = true;           // Each 30 s a direction stands still for up to 8 s.
    bool slow_reader = true;     // Each 60 s a direction carries 2 to 64 KiB/s for up to 20 s.
    bool partition = true;       // Every 90 s nobody reaches anybody, for up to 40 s.
    // The gateway.
    bool gateway_crash = true;  // Every 60 s on average.
    bool drain = true;          // Every 120 s.
    bool store_busy = true;     // 1 % of the commits fail.
    bool store_full = true;     // Every 60 s none succeeds, for up to 10 s.
    bool store_lost = false;    // Once the store comes back empty (on in every fifth seed).
    bool inbox_full = false;    // An inbox holds 8 messages (on in every seventh seed).
    bool limits = true;         // Every other life of it takes at most 20,000 bytes a message.
    bool narrow = false;        // Windows of 4 in both directions (on in every third seed).
    // The clients.
    bool client_crash = true;  // Each every 60 s, and at 0.2 % of the durable steps and callbacks.
    bool suspend = true;       // Each every 40 s, for 0.1 to 60 s, now and then for 600 s.
    bool wall_jump = true;     // Every 60 s, by up to an hour either way.
    bool token = true;         // Each one's token expires every 60 s on average.
    bool token_end = false;    // And end while online (on in two of seven seeds).
    bool kick = true;          // Each is kicked out every 80 s: its account logs in elsewhere.
    bool logout = true;        // Each logs out every 80 s, for up to 10 s.
    // On in six of thirteen seeds, each in two at least: the others stay the runs that they were.
    bool hints = false;  // Each is told every 40 s that there is no network, for up to 10 s, and
                         // half the time that it will be suspended.
    bool disk_full = false;  // Each one's disk takes nothing every 60 s, for up to 10 s.
    bool disk_slow = false;  // A write takes up to 2 s, and more processes die within one.
    bool manual = false;  // Half the v1 clients confirm what they have handled, later, any order.
    // The app.
    bool second_device = true;  // Some users have two.
    bool large = true;          // Some messages are as large as they may be.
    bool refused = true;        // 3 % of the messages go to a group, which there is none of.
    bool expiry = true;         // Some messages expire within seconds.
    bool cancel = true;         // Some are cancelled.

    static const std::vector<std::string_view>& names();
    // False for a name that is none.
    bool set(std::string_view name, bool value);
    bool get(std::string_view name) const;
    static Faults none();
    // Nothing that loses, refuses or ends anything: every packet is needed once.
    bool is_lossless() const;
};

struct Options {
    std::uint64_t seed = 1;
    unsigned clients = 4;     // Users.
    unsigned messages = 200;  // A run.
    Faults faults;
    bool with_plain = true;  // Every fourth seed has users with plain clients.
    bool with_rare = true;   // Seeds with what would drown the rest: faults_of().
};

struct Report {
    std::optional<std::string> violation;  // The first one; nullopt: all held.
    std::uint64_t trace_hash = 0;
    Duration simulated{0};
    unsigned sent = 0, accepted = 0, rejected = 0, expired = 0, cancelled = 0, lost = 0;
    std::uint64_t handed_up = 0, redelivered = 0, packets = 0, connections = 0;
    std::uint64_t bytes = 0;                // Given to the network, in both directions.
    std::uint64_t bytes_needed = 0;         // Had nothing gone wrong.
    std::vector<std::string> last_packets;  // A chart of what led to the violation.
};

// The faults of that run: those asked for, and the rare ones that its seed adds.
Faults faults_of(const Options& options);

Report run(const Options& options);

}  // namespace petrel::sim
