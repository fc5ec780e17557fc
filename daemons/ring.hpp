#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace petrel {

// A queue that holds no memory until it is used, and little once it is empty again: std::deque
// takes half a kilobyte for nothing, which ten thousand idle sessions feel. T() must be cheap and
// hold nothing. Thread-compatible.
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
        if (size_ == slots_.size()) grow();
        slots_[place_of(size_)] = std::move(value);
        ++size_;
    }
    void pop_front() {
        slots_[head_] = T();
        head_ = place_of(1);
        if (--size_ == 0) clear();
    }
    void clear() {
        if (slots_.size() > kKept) {
            std::vector<T>().swap(slots_);
        } else {
            for (; size_ > 0; --size_) slots_[place_of(size_ - 1)] = T();
        }
        head_ = size_ = 0;
    }

private:
    static constexpr std::size_t kFirst = 4;  // Slots; doubled from there.
    static constexpr std::size_t kKept = 64;  // More go once it is empty.

    std::size_t place_of(std::size_t index) const { return (head_ + index) & (slots_.size() - 1); }
    void grow() {
        std::vector<T> larger(slots_.empty() ? kFirst : slots_.size() * 2);
        for (std::size_t i = 0; i < size_; ++i) larger[i] = std::move(slots_[place_of(i)]);
        slots_ = std::move(larger);
        head_ = 0;
    }

    std::vector<T> slots_;  // A power of two, or none.
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

}  // namespace petrel
