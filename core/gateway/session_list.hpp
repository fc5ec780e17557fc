#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// What an admin sees of sessions, and names them by.

namespace petrel {

struct SessionInfo {
    std::uint64_t connection = 0;  // As in the log.
    unsigned shard = 0;
    std::string address;
    std::string session;  // What a v1 client was told, else empty.
    std::string state;    // fresh, deciding, online.
    std::string profile;
    std::string app, user, device, device_class;  // From the login on.
    std::int64_t connected_at = 0;                // Wall clock, ms.
    std::uint64_t in_flight = 0;
    std::uint64_t backlog = 0;
    std::uint64_t queued_bytes = 0;
};

// An empty name stands for any.
struct SessionQuery {
    std::string app, user, device;
    std::uint64_t after = 0;  // Connections above it, in their order.
    std::size_t count_max = 100;
};

// Every session of a user, or of one device of that user.
struct KickOrder {
    std::string app, user, device;  // An empty device stands for any.
    std::string reason;             // Told to the client; at most 123 bytes.
};

// Who a log line is about; what is empty or 0 is not known.
struct LogContext {
    std::uint64_t connection = 0;
    std::string_view session;
    std::string_view address;
    std::string_view app, user, device;
};

}  // namespace petrel
