#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

namespace petrel {

// How many connections may be open at once: in all, from one address, and without a login. Shared
// by the listeners of a gateway. Thread-safe; its places may outlive it.
class ConnectionLimits {
public:
    struct Options {
        std::size_t connections_max = 100'000;  // A connection costs some KB and a descriptor.
        // A tenth of all: one address cannot shut the others out. Behind a proxy all clients have
        // the proxy's address.
        std::size_t per_address_max = 10'000;
        // Handshakes under way included; each goes at its deadline.
        std::size_t before_login_max = 10'000;
    };

    // One connection's, given back when it is destroyed.
    class Place {
    public:
        virtual ~Place() = default;
        virtual void on_login() = 0;  // It does not count as one without a login. Idempotent.
    };

    explicit ConnectionLimits(const Options& options);
    ~ConnectionLimits();
    ConnectionLimits(const ConnectionLimits&) = delete;
    ConnectionLimits& operator=(const ConnectionLimits&) = delete;

    // `address`: an IP address, with or without a port. nullptr: no room.
    std::shared_ptr<Place> take(std::string_view address);

    const Options& options() const { return options_; }
    std::size_t connections() const;
    std::size_t before_login() const;
    std::size_t refused() const;  // Since the start.

private:
    struct Counts;
    class CountedPlace;

    const Options options_;
    const std::shared_ptr<Counts> counts_;
};

// What limits by address count by: an IPv4 address, or an IPv6 network of 64 bits, as one
// subscriber has it (RFC 6177). A port, brackets and a zone are cut off.
std::string address_group(std::string_view address);

}  // namespace petrel
