#include "tools/petrel/histogram.hpp"

#include <algorithm>
#include <cmath>

namespace petrel::tools {

std::size_t Histogram::cell_of(std::uint64_t value) noexcept {
    if (value < kSteps) return static_cast<std::size_t>(value);
    const auto highest = static_cast<unsigned>(63 - __builtin_clzll(value));
    const unsigned shift = highest - kStepBits;
    // The bits behind the highest one number the step.
    return (std::size_t{shift} + 1) * kSteps +
           static_cast<std::size_t>((value >> shift) & (kSteps - 1));
}

std::uint64_t Histogram::last_of(std::size_t cell) noexcept {
    if (cell < kSteps) return cell;
    const std::size_t shift = cell / kSteps - 1;
    const std::uint64_t first = (std::uint64_t{kSteps} + cell % kSteps) << shift;
    return first + ((std::uint64_t{1} << shift) - 1);
}

void Histogram::record(std::uint64_t value) noexcept {
    ++cells_[cell_of(value)];
    ++count_;
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
    sum_ += static_cast<double>(value);
}

void Histogram::add(const Histogram& other) noexcept {
    for (std::size_t i = 0; i < kCells; ++i) cells_[i] += other.cells_[i];
    count_ += other.count_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
    sum_ += other.sum_;
}

double Histogram::mean() const noexcept {
    return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
}

std::uint64_t Histogram::quantile(double share) const noexcept {
    if (count_ == 0) return 0;
    const double rank = std::ceil(std::clamp(share, 0.0, 1.0) * static_cast<double>(count_));
    const auto wanted = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(rank));
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < kCells; ++i) {
        below += cells_[i];
        if (below >= wanted) return std::min(last_of(i), max_);
    }
    return max_;
}

}  // namespace petrel::tools
