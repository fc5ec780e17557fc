#include "core/gateway/inbox_feed.hpp"

#include <algorithm>
#include <cassert>

namespace petrel {

void InboxFeed::start(Position after, Position last, std::vector<Position> skip) {
    queue_.clear();
    queue_bytes_ = 0;
    is_reading_ = false;
    next_ = after + 1;
    queued_to_ = after;
    last_ = std::max(last, after);
    skip_.assign(skip.rbegin(), skip.rend());
    skip_acked();
}

void InboxFeed::on_delivery(const Delivery& delivery) {
    if (delivery.seq <= queued_to_) return;
    const bool was_complete = queued_to_ == last_;
    last_ = std::max(last_, delivery.seq);
    const bool has_room = queue_.size() < options_.queue_max &&
                          queue_bytes_ + bytes_of(delivery) <= options_.queue_bytes_max;
    if (was_complete && !is_reading_ && delivery.seq == queued_to_ + 1 && has_room) {
        enqueue(delivery);
    }
}

bool InboxFeed::on_page(const ReadResult& page) {
    is_reading_ = false;
    last_ = std::max(last_, page.last);
    for (const Delivery& delivery : page.deliveries) {
        if (delivery.seq <= queued_to_) continue;
        skip_acked();
        if (delivery.seq <= queued_to_) continue;
        if (delivery.seq != queued_to_ + 1) return false;
        enqueue(delivery);
    }
    // An empty page although there should be something: all of it is gone.
    return !page.deliveries.empty() || queued_to_ >= last_;
}

void InboxFeed::enqueue(const Delivery& delivery) {
    queue_.push_back(delivery);
    queue_bytes_ += bytes_of(delivery);
    queued_to_ = delivery.seq;
    skip_acked();
}

void InboxFeed::skip_acked() {
    while (!skip_.empty() && skip_.back() <= queued_to_ + 1) {
        queued_to_ = std::max(queued_to_, skip_.back());
        skip_.pop_back();
    }
    if (queue_.empty()) next_ = queued_to_ + 1;
}

void InboxFeed::pop() {
    assert(!queue_.empty());
    queue_bytes_ -= bytes_of(queue_.front());
    queue_.pop_front();
    next_ = queue_.empty() ? queued_to_ + 1 : queue_.front().seq;
}

bool InboxFeed::wants_page() const {
    const bool is_half_empty =
        queue_.size() <= options_.queue_max / 2 && queue_bytes_ <= options_.queue_bytes_max / 2;
    return !is_reading_ && is_half_empty && queued_to_ < last_;
}

}  // namespace petrel
