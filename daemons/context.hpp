#pragma once

#include <cstdint>
#include <string_view>

#include "daemons/timer.hpp"
#include "protocol/packet.hpp"

namespace petrel {

enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// The workers' whole world. Implemented by the Engine, by the gateway's Session, and by the tests.
class DaemonContext {
public:
    // Puts the packet on the current connection; dropped when there is none.
    virtual void send(const Packet& packet) = 0;
    virtual void send(const Data& data) = 0;  // Without a copy into a Packet.

    virtual TimerQueue& timers() = 0;
    TimePoint now() { return timers().now(); }

    // Uniform in [low, high], both included, from the owner's seed.
    virtual std::uint64_t random(std::uint64_t low, std::uint64_t high) = 0;

    virtual void log(LogLevel level, std::string_view text) = 0;

protected:
    ~DaemonContext() = default;
};

}  // namespace petrel
