#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>

#include "core/gateway/rate_limit.hpp"
#include "core/gateway/shard_message.hpp"

namespace petrel {

// How often one may log in. Shared by the shards of a gateway; thread-safe.
class LoginLimits {
public:
    struct Options {
        // Before anything is checked. 50 a second: an office behind one address is back within
        // seconds after a restart, and guessing tokens is slow.
        Rate per_address{std::chrono::milliseconds{20}, 1'000};
        // After the token was believed, so that nobody can lock somebody else out. One a second: a
        // device in a loop does no harm, and nobody who comes back from a tunnel waits.
        Rate per_account{std::chrono::seconds{1}, 60};
        std::size_t keys_max = 65'536;  // Addresses and accounts remembered, of each.
    };

    explicit LoginLimits(const Options& options);

    // Takes one: zero. Else the time after which to try again. `address`: as PeerInfo has it.
    Duration take_address(std::string_view address, TimePoint now);
    Duration take_account(const UserKey& account, TimePoint now);

private:
    std::mutex mutex_;
    RateTable addresses_;
    RateTable accounts_;
};

}  // namespace petrel
