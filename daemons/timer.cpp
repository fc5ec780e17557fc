#include "daemons/timer.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace petrel {

namespace {

constexpr std::size_t kChildren = 4;  // Of a heap's entry: half the levels of two.

}  // namespace

Timer::Timer(TimerQueue& queue, const char* name, std::function<void()> on_expired)
    : queue_(queue), name_(name), on_expired_(std::move(on_expired)) {
    assert(on_expired_);
}

Timer::~Timer() {
    stop();
    if (queue_.firing_ == this) queue_.firing_ = nullptr;
}

void Timer::start(Duration after) {
    start_at(saturating_add(queue_.now(), std::max(after, Duration::zero())));
}

void Timer::start_at(TimePoint deadline) {
    // Not before now: what a callback starts then sorts behind all that was due already, which is
    // how advance_to knows where to end.
    queue_.start(*this, std::max(deadline, queue_.now()));
}

TimePoint Timer::deadline() const {
    assert(is_running());
    return queue_.heap_[heap_index_].deadline;
}

void Timer::stop() {
    if (is_running()) queue_.remove(*this);
}

std::optional<TimePoint> TimerQueue::next_deadline() const {
    if (heap_.empty()) return std::nullopt;
    return heap_.front().deadline;
}

void TimerQueue::set_now(TimePoint now) { now_ = std::max(now_, now); }

void TimerQueue::advance_to(TimePoint now) {
    set_now(now);
    if (is_advancing_) return;
    is_advancing_ = true;
    const TimePoint due = now_;
    const std::uint64_t first_new_order = next_order_;
    while (!heap_.empty()) {
        const Entry first = heap_.front();
        if (first.deadline > due || first.order >= first_new_order) break;
        remove(*first.timer);
        fire(*first.timer);
    }
    is_advancing_ = false;
}

void TimerQueue::fire(Timer& timer) {
    // The callback may destroy its own timer: the function must outlive that.
    firing_ = &timer;
    auto on_expired = std::exchange(timer.on_expired_, nullptr);
    on_expired();
    if (firing_ == &timer) timer.on_expired_ = std::move(on_expired);
    firing_ = nullptr;
}

void TimerQueue::start(Timer& timer, TimePoint deadline) {
    const Entry entry{deadline, next_order_++, &timer};
    if (!timer.is_running()) {
        heap_.emplace_back();
        sift_up(heap_.size() - 1, entry);
    } else if (is_before(entry, heap_[timer.heap_index_])) {
        sift_up(timer.heap_index_, entry);
    } else {
        sift_down(timer.heap_index_, entry);
    }
}

void TimerQueue::remove(Timer& timer) {
    const std::size_t index = timer.heap_index_;
    assert(index < heap_.size() && heap_[index].timer == &timer);
    timer.heap_index_ = Timer::kNotQueued;
    const Entry last = heap_.back();
    heap_.pop_back();
    if (last.timer == &timer) return;
    if (is_before(last, heap_[index])) {
        sift_up(index, last);
    } else {
        sift_down(index, last);
    }
}

void TimerQueue::place(std::size_t index, const Entry& entry) {
    heap_[index] = entry;
    entry.timer->heap_index_ = static_cast<std::uint32_t>(index);
}

void TimerQueue::sift_up(std::size_t index, const Entry& entry) {
    while (index > 0) {
        const std::size_t parent = (index - 1) / kChildren;
        if (!is_before(entry, heap_[parent])) break;
        place(index, heap_[parent]);
        index = parent;
    }
    place(index, entry);
}

void TimerQueue::sift_down(std::size_t index, const Entry& entry) {
    for (;;) {
        const std::size_t begin = kChildren * index + 1;
        const std::size_t end = std::min(begin + kChildren, heap_.size());
        if (begin >= end) break;
        std::size_t first = begin;
        for (std::size_t child = begin + 1; child < end; ++child) {
            if (is_before(heap_[child], heap_[first])) first = child;
        }
        if (!is_before(heap_[first], entry)) break;
        place(index, heap_[first]);
        index = first;
    }
    place(index, entry);
}

bool TimerQueue::is_before(const Entry& a, const Entry& b) noexcept {
    return a.deadline != b.deadline ? a.deadline < b.deadline : a.order < b.order;
}

}  // namespace petrel
