#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace petrel::tools {

// How often each value came, in a memory that does not grow: 58 KiB for any 64-bit value, each
// known to within 1/128 of itself (as HdrHistogram does it: every power of two has as many steps).
// For durations the unit is the caller's, nanoseconds here. Thread-compatible.
class Histogram {
public:
    void record(std::uint64_t value) noexcept;
    void add(const Histogram& other) noexcept;

    std::uint64_t count() const noexcept { return count_; }
    std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }  // Exact.
    std::uint64_t max() const noexcept { return max_; }                    // Exact.
    double mean() const noexcept;
    // The value that `share` (0 to 1) of all do not exceed, by nearest rank: the upper end of its
    // step, at most max(). 0 when there is none.
    std::uint64_t quantile(double share) const noexcept;

private:
    static constexpr unsigned kStepBits = 7;
    static constexpr std::size_t kSteps = std::size_t{1} << kStepBits;  // In each power of two.
    // Values below kSteps one by one, then kSteps for each power of two up to 2^63.
    static constexpr std::size_t kCells = (64 - kStepBits + 1) * kSteps;

    static std::size_t cell_of(std::uint64_t value) noexcept;
    static std::uint64_t last_of(std::size_t cell) noexcept;

    std::array<std::uint64_t, kCells> cells_{};
    std::uint64_t count_ = 0;
    std::uint64_t min_ = UINT64_MAX;
    std::uint64_t max_ = 0;
    double sum_ = 0;
};

}  // namespace petrel::tools
