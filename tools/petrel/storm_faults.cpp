#include "tools/petrel/storm_faults.hpp"

namespace petrel::tools {
namespace {

// splitmix64: small, and the same on every machine, which std's distributions are not.
std::uint64_t next_bits(std::uint64_t& state) {
    state += 0x9e3779b97f4a7c15ULL;
    std::uint64_t bits = state;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
    return bits ^ (bits >> 31);
}

// In [0, 1).
double next_share(std::uint64_t& state) {
    return static_cast<double>(next_bits(state) >> 11) * 0x1.0p-53;
}

std::uint64_t start_state(std::uint64_t seed, std::uint64_t connection, std::uint64_t lane) {
    std::uint64_t state = seed;
    state = next_bits(state) ^ connection;
    state = next_bits(state) ^ lane;
    return next_bits(state);
}

std::chrono::nanoseconds scaled(std::chrono::nanoseconds duration, double factor) {
    const double ns = static_cast<double>(duration.count()) * factor;
    return std::chrono::nanoseconds(static_cast<std::int64_t>(ns));
}

}  // namespace

FaultDice::FaultDice(std::uint64_t seed, std::uint64_t connection, Direction direction)
    : state_(start_state(seed, connection, static_cast<std::uint64_t>(direction))) {}

FaultDice::Decision FaultDice::next(const Faults& faults) {
    Decision decision;
    decision.is_dropped = next_share(state_) < faults.drop;
    decision.is_duplicated = next_share(state_) < faults.duplicate && !decision.is_dropped;
    decision.delay = faults.delay + scaled(faults.jitter, next_share(state_));
    decision.duplicate_delay = faults.delay + scaled(faults.jitter, next_share(state_));
    return decision;
}

TimeDice::TimeDice(std::uint64_t seed, std::uint64_t connection)
    : state_(start_state(seed, connection, 2)) {}

TimeDice::TimeDice(std::uint64_t seed, std::uint64_t connection, std::uint64_t step)
    : state_(start_state(seed, connection, 3 + step)) {}

std::chrono::nanoseconds TimeDice::around(std::chrono::nanoseconds mean) {
    return scaled(mean, 0.5 + next_share(state_));
}

}  // namespace petrel::tools
