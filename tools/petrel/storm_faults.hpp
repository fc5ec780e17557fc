#pragma once

#include <chrono>
#include <cstdint>

namespace petrel::tools {

// What a storm does to the packets of a connection. Zero: nothing of the kind.
struct Faults {
    double drop = 0;       // Share of the packets, 0 to 1.
    double duplicate = 0;  // Share of those not dropped.
    std::chrono::nanoseconds delay{0};
    std::chrono::nanoseconds jitter{0};       // Up to so much more, at random.
    std::chrono::nanoseconds reset_every{0};  // A connection lives between half and 1.5 times this.
    std::chrono::nanoseconds stall_every{0};  // Between half and 1.5 times this lies between stalls
    std::chrono::nanoseconds stall{0};        // of this length.
};

enum class Direction : std::uint8_t { kToTarget = 0, kToClient = 1 };

// The dice of one connection and direction: the same seed, connection number and direction give
// the same decisions, whatever happens elsewhere. Every packet takes the same number of throws, so
// that another share or delay changes nothing about the others.
class FaultDice {
public:
    struct Decision {
        bool is_dropped = false;
        bool is_duplicated = false;
        std::chrono::nanoseconds delay{0};            // Of the packet.
        std::chrono::nanoseconds duplicate_delay{0};  // Of its second copy.
    };

    FaultDice(std::uint64_t seed, std::uint64_t connection, Direction direction);

    Decision next(const Faults& faults);

private:
    std::uint64_t state_;
};

// The dice of when a connection is reset and stalls.
class TimeDice {
public:
    TimeDice(std::uint64_t seed, std::uint64_t connection);
    // Those of one step of a script, so that another step changes nothing about it.
    TimeDice(std::uint64_t seed, std::uint64_t connection, std::uint64_t step);

    // Between half and 1.5 times `mean`.
    std::chrono::nanoseconds around(std::chrono::nanoseconds mean);

private:
    std::uint64_t state_;
};

}  // namespace petrel::tools
