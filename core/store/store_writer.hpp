#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/store/histogram.hpp"
#include "core/store/message_store.hpp"

namespace petrel {

// Owns a MessageStore and the thread that uses it: takes everything that is queued, does it in one
// transaction (group commit), then tells the observer. Requests are done in the order in which
// they were queued. Cursor updates are merged by device, ride with the next transaction, and wait
// at most cursor_delay_max for one; an open_session or the end flushes them first.
//
// With a store that is_immediate() a small batch is done by the thread that submits it, when the
// writer's own has nothing to do.
//
// A transaction that fails is undone and done again, then in halves, down to single requests; what
// fails alone is kFailed. Cursors that fail wait for the next transaction. Thread-safe.
class StoreWriter {
public:
    struct Options {
        // Appends, and as many of the others together; refused beyond.
        std::size_t queue_max = 65'536;
        std::size_t queue_bytes_max = 256 << 20;  // Of the texts queued.
        std::size_t batch_max = 4'096;            // Requests a transaction: bounds its latency.
        std::size_t batch_bytes_max = 16 << 20;   // Of its texts; one more message fits.
        std::chrono::milliseconds cursor_delay_max{50};
        std::chrono::milliseconds trim_interval{60'000};
        std::size_t trim_rows_max = 10'000;
    };

    // Called by the thread that works, after the commit, in commit order.
    class Observer {
    public:
        virtual void on_committed(std::vector<AppendResult>&& results,
                                  std::vector<Delivery>&& deliveries) = 0;
        virtual void on_opened(OpenResult&& result) = 0;
        virtual void on_read(ReadResult&& result) = 0;
        // The disk failed, or works again (`error` empty). Once a change.
        virtual void on_store_health(const std::string& error) = 0;

    protected:
        ~Observer() = default;
    };

    struct Stats {
        std::uint64_t commits = 0;
        std::uint64_t appended = 0;
        std::uint64_t failed = 0;
        std::uint64_t queued = 0;  // Now.
        std::uint64_t queued_bytes = 0;
        std::uint64_t commit_ns = 0;                                // Sum.
        std::array<std::uint64_t, kStoreFaults> commit_failures{};  // By StoreFault.
        std::string error;  // What the disk says while it fails, else empty.
        // From an SSD's sync to a disk that hangs; and up to Options::batch_max.
        Histogram commit_seconds{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                 0.1,    0.25,  0.5,    1,     2.5,  5,     10};
        Histogram batch_requests{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
    };

    // What one thread collects and hands over in one piece: one lock and one wake for all of it.
    class Batch {
        friend class StoreWriter;
        std::vector<std::variant<AppendRequest, OpenRequest, ReadRequest>> requests_;
        std::vector<CursorUpdate> cursors_;
    };

    StoreWriter(std::unique_ptr<MessageStore> store, Observer& observer, Options options);
    ~StoreWriter();  // stop().

    // False: the queue is full (302) or the writer has stopped; nothing was queued.
    [[nodiscard]] bool append(AppendRequest request);
    [[nodiscard]] bool open_session(OpenRequest request);
    [[nodiscard]] bool read(ReadRequest request);
    void advance(CursorUpdate update);

    // The same by way of a batch; true: there is room, and it is kept. Queued by submit(), which
    // leaves the batch empty, in the order of the calls, the cursors ahead of the requests. What is
    // submitted after stop() is dropped, unanswered.
    [[nodiscard]] bool append(AppendRequest request, Batch& batch);
    [[nodiscard]] bool open_session(OpenRequest request, Batch& batch);
    [[nodiscard]] bool read(ReadRequest request, Batch& batch);
    void advance(CursorUpdate update, Batch& batch);
    void submit(Batch& batch);
    // Submits when the writer has nothing to do and the batch is worth a transaction: what comes
    // next is then collected while the disk syncs, and the two take turns.
    bool submit_part(Batch& batch);

    // Finishes what is queued, then ends the thread. Idempotent. The observer is called until it
    // returns; called by the observer it only takes no more.
    void stop();
    Stats stats() const;
    bool is_idle() const;  // Its thread waits for something to do.

private:
    // Half of what a client sends at once by default (PROTOCOL.md section 4.3: a window of 64).
    static constexpr std::size_t kPartMin = 32;
    static constexpr std::size_t kNowMax = 16;  // More are worth waking a thread.

    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace petrel
