#include "daemons/timer.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace petrel {

Timer::Timer(TimerQueue& queue, std::string_view name, std::function<void()> on_expired)
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
    stop();
    // Not before now: what a callback starts then sorts behind all that was due already, which is
    // how advance_to knows where to end.
    deadline_ = std::max(deadline, queue_.now());
    order_ = queue_.next_order_++;
    queue_.insert(*this);
}

void Timer::stop() {
    if (is_running()) queue_.remove(*this);
}

std::optional<TimePoint> TimerQueue::next_deadline() const {
    if (heap_.empty()) return std::nullopt;
    return heap_.front()->deadline_;
}

void TimerQueue::set_now(TimePoint now) { now_ = std::max(now_, now); }

void TimerQueue::advance_to(TimePoint now) {
    set_now(now);
    if (is_advancing_) return;
    is_advancing_ = true;
    const TimePoint due = now_;
    const std::uint64_t first_new_order = next_order_;
    while (!heap_.empty()) {
        Timer& timer = *heap_.front();
        if (timer.deadline_ > due || timer.order_ >= first_new_order) break;
        remove(timer);
        fire(timer);
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

void TimerQueue::insert(Timer& timer) {
    assert(!timer.is_running());
    timer.heap_index_ = heap_.size();
    heap_.push_back(&timer);
    sift_up(timer.heap_index_);
}

void TimerQueue::remove(Timer& timer) {
    const std::size_t index = timer.heap_index_;
    assert(index < heap_.size() && heap_[index] == &timer);
    Timer* last = heap_.back();
    heap_.pop_back();
    timer.heap_index_ = Timer::kNotQueued;
    if (last == &timer) return;
    heap_[index] = last;
    last->heap_index_ = index;
    sift_up(index);
    sift_down(last->heap_index_);
}

void TimerQueue::sift_up(std::size_t index) {
    while (index > 0) {
        const std::size_t parent = (index - 1) / 2;
        if (!is_before(*heap_[index], *heap_[parent])) return;
        swap_entries(index, parent);
        index = parent;
    }
}

void TimerQueue::sift_down(std::size_t index) {
    for (;;) {
        std::size_t first = index;
        for (const std::size_t child : {2 * index + 1, 2 * index + 2}) {
            if (child < heap_.size() && is_before(*heap_[child], *heap_[first])) first = child;
        }
        if (first == index) return;
        swap_entries(index, first);
        index = first;
    }
}

void TimerQueue::swap_entries(std::size_t a, std::size_t b) {
    std::swap(heap_[a], heap_[b]);
    heap_[a]->heap_index_ = a;
    heap_[b]->heap_index_ = b;
}

bool TimerQueue::is_before(const Timer& a, const Timer& b) noexcept {
    return a.deadline_ != b.deadline_ ? a.deadline_ < b.deadline_ : a.order_ < b.order_;
}

}  // namespace petrel
