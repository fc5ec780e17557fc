#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace petrel {

// A queue that holds no memory until it is used, and little once it is empty again: std::deque
// takes half a kilobyte for nothing, which ten thousand idle sessions feel. At most 2^31 items. T()
// must be cheap and hold nothing. Thread-compatible.
template <class T>
class Ring {
public:
    bool empty() const noexcept { return size_ == 0; }
    std::size_t size() const noexcept { return size_; }
    T& front() { return slots_[head_]; }
    const T& front() const { return slots_[head_]; }
    T& operator[](std::size_t index) { return slots_[place_of(index)]; }
    const T& operator[](std::size_t index) const { return slots_[place_of(index)]; }

    void push_back(T value) {
        if (size_ == capacity_) grow();
        slots_[place_of(size_)] = std::move(value);
        ++size_;
    }
    void pop_front() {
        slots_[head_] = T();
        head_ = place_of(1);
        if (--size_ == 0) clear();
    }
    void clear() {
        if (capacity_ > kKept) {
            slots_.reset();
            capacity_ = 0;
        } else {
            for (; size_ > 0; --size_) slots_[place_of(size_ - 1)] = T();
        }
        head_ = size_ = 0;
    }

private:
    static constexpr std::uint32_t kFirst = 4;  // Slots; doubled from there.
    static constexpr std::uint32_t kKept = 64;  // More go once it is empty.

    std::uint32_t place_of(std::size_t index) const {
        return static_cast<std::uint32_t>(head_ + index) & (capacity_ - 1);
    }
    void grow() {
        const std::uint32_t capacity = capacity_ == 0 ? kFirst : capacity_ * 2;
        auto larger = std::make_unique<T[]>(capacity);
        for (std::uint32_t i = 0; i < size_; ++i) larger[i] = std::move(slots_[place_of(i)]);
        slots_ = std::move(larger);
        capacity_ = capacity;
        head_ = 0;
    }

    std::unique_ptr<T[]> slots_;
    std::uint32_t capacity_ = 0;  // A power of two, or none.
    std::uint32_t head_ = 0;
    std::uint32_t size_ = 0;
};

}  // namespace petrel
