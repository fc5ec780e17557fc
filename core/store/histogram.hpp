#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace petrel {

// How many values there were up to each of some fixed bounds, and their sum. Plain data: its owner
// guards it.
class Histogram {
public:
    static constexpr std::size_t kBoundsMax = 16;

    explicit Histogram(std::initializer_list<double> bounds) : size_(bounds.size()) {
        assert(size_ <= kBoundsMax && std::is_sorted(bounds.begin(), bounds.end()));
        std::copy(bounds.begin(), bounds.end(), bounds_.begin());
    }

    void add(double value) {
        std::size_t bucket = 0;
        while (bucket < size_ && value > bounds_[bucket]) ++bucket;
        ++counts_[bucket];
        sum_ += value;
    }

    std::size_t size() const noexcept { return size_; }  // Of the bounds.
    double bound(std::size_t index) const { return bounds_[index]; }
    // Of values up to bound(index); index size(): of all.
    std::uint64_t count_up_to(std::size_t index) const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i <= index; ++i) sum += counts_[i];
        return sum;
    }
    std::uint64_t count() const { return count_up_to(size_); }
    double sum() const noexcept { return sum_; }

private:
    std::size_t size_;
    std::array<double, kBoundsMax> bounds_{};
    std::array<std::uint64_t, kBoundsMax + 1> counts_{};  // The last: above all bounds.
    double sum_ = 0;
};

}  // namespace petrel
