#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "core/store/message_store.hpp"
#include "daemons/ring.hpp"

namespace petrel {

// What of a user's inbox still has to go to one session, in order and without a hole: fresh
// deliveries while the session keeps up, pages read from the store when it fell behind.
//
//   following: queue holds next.. up to the last known  -- queue full --> behind
//   behind:    a page is read while the second half of the queue goes out
//                                                      -- page reaches the last --> following
//
// Thread-compatible.
class InboxFeed {
public:
    struct Options {
        // Deliveries kept ready, and bytes of them (estimated: the text + kMessageOverhead). What a
        // full window of the sender brings at once should fit: what does not is read again from
        // the store, page by page.
        std::size_t queue_max = 2048;
        std::size_t queue_bytes_max = 1024 * 1024;
    };
    // What a message in memory has besides its text.
    static constexpr std::size_t kMessageOverhead = 320;

    explicit InboxFeed(Options options) : options_(options) {}

    // Login: positions after `after` are to come, `last` is the highest there is. `skip`: acked
    // ones above it (plain), ascending.
    void start(Position after, Position last, std::vector<Position> skip);
    void on_delivery(const Delivery& delivery);
    // Returns false when positions that should have come are gone from the store: the session
    // cannot go on without telling its client.
    [[nodiscard]] bool on_page(const ReadResult& page);
    void on_page_failed() { is_reading_ = false; }

    const Delivery* front() const { return queue_.empty() ? nullptr : &queue_.front(); }
    std::size_t ready() const { return queue_.size(); }
    void pop();
    // True when a page should be read now; the caller then reads after page_after(), once.
    bool wants_page() const;
    Position page_after() const { return queued_to_; }
    void on_page_requested() { is_reading_ = true; }

    Position popped_to() const noexcept { return next_ - 1; }
    Position last() const noexcept { return last_; }
    // Nothing is to come but fresh deliveries: one started at last() would do as well.
    bool is_at_rest() const { return !is_reading_ && queue_.empty() && queued_to_ == last_; }

private:
    static std::size_t bytes_of(const Delivery& delivery) {
        return delivery.message->text.size() + kMessageOverhead;
    }
    void enqueue(const Delivery& delivery);
    void skip_acked();

    Options options_;
    Position next_ = 1;  // First position not yet popped.
    Position last_ = 0;  // Highest known to exist.
    bool is_reading_ = false;
    Ring<Delivery> queue_;    // Dense from next_, but for skipped ones.
    Position queued_to_ = 0;  // Highest position queued or skipped; next_ - 1 when empty.
    std::size_t queue_bytes_ = 0;
    std::vector<Position> skip_;  // Descending, all above queued_to_.
};

}  // namespace petrel
