#include "core/store/store_writer.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <variant>

#include "protocol/error.hpp"

namespace petrel {
namespace {

using Clock = std::chrono::steady_clock;
using Request = std::variant<AppendRequest, OpenRequest, ReadRequest>;

WallMillis wall_now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// What is known of a device's acks and not yet in the store.
struct PendingCursor {
    std::string app;
    std::string user;
    std::string device;
    Position v1 = 0;              // Highest.
    std::vector<Position> plain;  // Each.
};

// By device; what is over the bound is left out: it is acked again after the next login.
class PendingCursors {
public:
    static constexpr std::size_t kDevicesMax = 262'144;
    static constexpr std::size_t kPlainMax = 4096;  // Acks of a device.

    bool empty() const { return by_device_.empty(); }

    void add(CursorUpdate&& update) {
        const auto number = [](std::size_t size) { return std::to_string(size) + ':'; };
        std::string key = number(update.app.size()) + update.app + number(update.user.size()) +
                          update.user + update.device;
        auto it = by_device_.find(key);
        if (it == by_device_.end()) {
            if (by_device_.size() >= kDevicesMax) return;
            it = by_device_.emplace(std::move(key), PendingCursor()).first;
            it->second.app = std::move(update.app);
            it->second.user = std::move(update.user);
            it->second.device = std::move(update.device);
        }
        PendingCursor& cursor = it->second;
        if (!update.is_plain) {
            cursor.v1 = std::max(cursor.v1, update.position);
        } else if (cursor.plain.size() < kPlainMax) {
            cursor.plain.push_back(update.position);
        }
    }

    // Takes those of `other` in.
    void merge(PendingCursors&& other) {
        by_device_.merge(other.by_device_);
        for (auto& [key, cursor] : other.by_device_) {
            PendingCursor& mine = by_device_[key];
            mine.v1 = std::max(mine.v1, cursor.v1);
            for (const Position position : cursor.plain) {
                if (mine.plain.size() < kPlainMax) mine.plain.push_back(position);
            }
        }
    }

    std::error_code apply(MessageStore& store) const {
        CursorUpdate update;
        for (const auto& [key, cursor] : by_device_) {
            update.app = cursor.app;
            update.user = cursor.user;
            update.device = cursor.device;
            if (cursor.v1 > 0) {
                update.is_plain = false;
                update.position = cursor.v1;
                if (auto error = store.advance(update)) return error;
            }
            update.is_plain = true;
            for (const Position position : cursor.plain) {
                update.position = position;
                if (auto error = store.advance(update)) return error;
            }
        }
        return {};
    }

private:
    std::unordered_map<std::string, PendingCursor> by_device_;
};

}  // namespace

struct StoreWriter::Impl {
    Impl(std::unique_ptr<MessageStore> owned, Observer& to, Options with)
        : store(std::move(owned)),
          is_immediate(store->is_immediate()),
          observer(to),
          options(with),
          clock_start(Clock::now()),
          clock_base(std::max<std::int64_t>(store->last_now(), wall_now())) {
        options.batch_max = std::max<std::size_t>(options.batch_max, 1);
        options.batch_bytes_max = std::max<std::size_t>(options.batch_bytes_max, 1);
    }

    // ---- the callers' threads ----

    static std::size_t text_bytes(const Request& request) {
        const auto* appended = std::get_if<AppendRequest>(&request);
        return appended ? appended->message->text.size() : 0;
    }

    // Keeps room for one more, or says that there is none.
    bool reserve(const Request& request) {
        if (is_stopping) return false;
        const bool is_append = std::holds_alternative<AppendRequest>(request);
        std::atomic<std::size_t>& count = is_append ? appends_queued : others_queued;
        if (count.fetch_add(1) >= options.queue_max) {
            --count;
            return false;
        }
        const std::size_t bytes = text_bytes(request);
        if (bytes_queued.fetch_add(bytes) + bytes > options.queue_bytes_max && is_append) {
            --count;
            bytes_queued -= bytes;
            return false;
        }
        return true;
    }

    void release(const Request& request) {
        --(std::holds_alternative<AppendRequest>(request) ? appends_queued : others_queued);
        bytes_queued -= text_bytes(request);
    }

    bool push(Request&& request) {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            if (!reserve(request)) return false;
            queue.push_back(std::move(request));
            is_waiting = false;
        }
        wake.notify_one();
        return true;
    }

    bool collect(Request&& request, std::vector<Request>& batch) {
        if (!reserve(request)) return false;
        batch.push_back(std::move(request));
        return true;
    }

    // With the lock. Whether the writer's thread has to know.
    bool add_cursor(CursorUpdate&& update) {
        const bool is_first = cursors.empty();
        if (is_first) cursors_due = Clock::now() + options.cursor_delay_max;
        cursors.add(std::move(update));
        has_cursors_come = true;
        return is_first && is_waiting && waits_until > cursors_due;
    }

    void submit(std::vector<Request>& requests, std::vector<CursorUpdate>& updates) {
        if (is_immediate && !requests.empty() && requests.size() <= kNowMax &&
            work_now(requests, updates)) {
            return;
        }
        bool is_woken = !requests.empty();
        {
            const std::lock_guard<std::mutex> lock(mutex);
            if (is_stopping) {
                for (const Request& request : requests) release(request);
                is_woken = false;
            } else {
                for (CursorUpdate& update : updates) {
                    if (add_cursor(std::move(update))) is_woken = true;
                }
                if (queue.empty()) {
                    queue.swap(requests);
                } else {
                    std::move(requests.begin(), requests.end(), std::back_inserter(queue));
                }
            }
            if (is_woken) is_waiting = false;
        }
        requests.clear();
        updates.clear();
        if (is_woken) wake.notify_one();
    }

    // For a few requests, when the thread has nothing to do: to wake it, and to be woken again,
    // would take longer. False: it has.
    bool work_now(std::vector<Request>& requests, std::vector<CursorUpdate>& updates) {
        if (!is_waiting || worker.load() == std::this_thread::get_id()) return false;
        const Working working(*this);
        PendingCursors acks;
        {
            const std::lock_guard<std::mutex> lock(mutex);
            if (is_stopping || !is_waiting || !queue.empty()) return false;
            for (CursorUpdate& update : updates) add_cursor(std::move(update));
            std::swap(acks, cursors);
        }
        Request* next = requests.data();
        Request* const end = next + requests.size();
        while (next != end) {
            Request* const begin = next;
            next += batch_size(begin, end);
            work(begin, next, acks);
            acks = PendingCursors();
        }
        if (store->wants_trim()) trim();
        requests.clear();
        updates.clear();
        return true;
    }

    // ---- whoever works: the writer's thread, or a caller's with a store that never waits ----

    // While it lives, its thread alone uses the store. Before the mutex, if both are held.
    class Working {
    public:
        explicit Working(Impl& impl) : impl_(impl), lock_(impl.work_mutex) {
            impl_.worker = std::this_thread::get_id();
        }
        ~Working() { impl_.worker = std::thread::id(); }
        Working(const Working&) = delete;
        Working& operator=(const Working&) = delete;

    private:
        Impl& impl_;
        const std::lock_guard<std::mutex> lock_;
    };

    std::int64_t store_now() const {
        return clock_base +
               std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - clock_start)
                   .count();
    }

    void run() {
        Clock::time_point next_trim = Clock::now() + options.trim_interval;
        std::vector<Request> taken;
        std::size_t next = 0;  // Of `taken`: those before it are done.
        PendingCursors acks;
        for (;;) {
            if (taken.empty()) wait(next_trim);
            const Working working(*this);
            {
                const std::lock_guard<std::mutex> lock(mutex);
                if (taken.empty()) taken.swap(queue);
                const bool is_over = is_stopping && taken.empty();
                if (!taken.empty() || is_over || Clock::now() >= cursors_due) {
                    std::swap(acks, cursors);
                }
                if (is_over && acks.empty()) return;
            }
            Request* const begin = taken.data() + next;
            Request* const end = begin + batch_size(begin, taken.data() + taken.size());
            if (begin != end || !acks.empty()) work(begin, end, acks);
            next += static_cast<std::size_t>(end - begin);
            if (next == taken.size()) {  // At once: nothing may follow for long.
                taken.clear();
                next = 0;
            }
            acks = PendingCursors();
            if (Clock::now() >= next_trim || store->wants_trim()) {
                const bool has_more = trim();
                next_trim = Clock::now();
                if (!has_more) next_trim += options.trim_interval;
            }
        }
    }

    // For something to do. While cursors come it looks for them by itself: they need not wake it.
    void wait(Clock::time_point next_trim) {
        std::unique_lock<std::mutex> lock(mutex);
        waits_until = next_trim;
        if (std::exchange(has_cursors_come, false)) {
            waits_until = std::min(next_trim, Clock::now() + options.cursor_delay_max);
        }
        while (!is_stopping && queue.empty()) {
            if (!cursors.empty()) waits_until = std::min(waits_until, cursors_due);
            is_waiting = true;
            if (wake.wait_until(lock, waits_until) == std::cv_status::timeout) break;
        }
        is_waiting = false;
    }

    // How many go into one transaction; they are queued no more.
    std::size_t batch_size(const Request* begin, const Request* end) {
        std::size_t bytes = 0;
        const Request* at = begin;
        while (at != end && static_cast<std::size_t>(at - begin) < options.batch_max &&
               bytes < options.batch_bytes_max) {
            bytes += text_bytes(*at);
            release(*at);
            ++at;
        }
        return static_cast<std::size_t>(at - begin);
    }

    // Everything in one transaction. When that fails, the cursors alone and then the requests in
    // halves, down to the single one: only what fails alone has failed.
    void work(Request* begin, Request* end, PendingCursors& acks) {
        if (transact(&acks, begin, end)) return;
        if (!acks.empty() && (begin == end || !transact(&acks, nullptr, nullptr))) {
            const std::lock_guard<std::mutex> lock(mutex);
            // Later ones may have come meanwhile. At the end there is no other time to try.
            if (!is_stopping) {
                cursors.merge(std::move(acks));
                cursors_due = Clock::now() + options.cursor_delay_max;
            }
        }
        do_again(begin, end);
    }

    // After a transaction of more than these has failed.
    void do_again(Request* begin, Request* end) {
        if (begin == end) return;
        if (transact(nullptr, begin, end)) return;
        if (end - begin == 1) {
            fail(*begin);
            return;
        }
        Request* const middle = begin + (end - begin) / 2;
        do_again(begin, middle);
        do_again(middle, end);
    }

    // False: undone, and nobody was told but on_store_health().
    bool transact(const PendingCursors* acks, Request* begin, Request* end) {
        results.clear();
        deliveries.clear();
        const Clock::time_point started = Clock::now();
        const WallMillis wall = wall_now();
        std::error_code error = store->begin(store_now(), wall);
        if (!error) {
            if (acks) error = acks->apply(*store);
            for (Request* request = begin; request != end && !error; ++request) {
                error = std::visit([&](auto& one) { return operate(one); }, *request);
            }
            if (error) {
                store->rollback();
            } else {
                error = store->commit();
            }
        }
        const auto took = Clock::now() - started;
        commit_time_ns += static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
        {
            const std::lock_guard<std::mutex> lock(figures_mutex);
            figures.commit_seconds.add(std::chrono::duration<double>(took).count());
            figures.batch_requests.add(static_cast<double>(end - begin));
        }
        tell_health(error);
        if (error) return false;
        ++commits_done;
        tell_results();
        return true;
    }

    std::error_code operate(const AppendRequest& request) {
        AppendResult result;
        const std::error_code error = store->append(request, result, deliveries);
        results.emplace_back(std::move(result), deliveries.size());
        return error;
    }

    std::error_code operate(const OpenRequest& request) {
        OpenResult result;
        const std::error_code error = store->open_session(request, result);
        results.emplace_back(std::move(result), deliveries.size());
        return error;
    }

    std::error_code operate(const ReadRequest& request) {
        ReadResult result;
        const std::error_code error = store->read(request, result);
        results.emplace_back(std::move(result), deliveries.size());
        return error;
    }

    void tell_health(std::error_code error) {
        if (error) {
            const std::lock_guard<std::mutex> lock(figures_mutex);
            ++figures.commit_failures[static_cast<std::size_t>(store->last_fault())];
        }
        std::string words = error ? store->last_error() : store->complaint();
        if (error && words.empty()) words = error.message();
        if (!words.empty() == is_ill) return;
        is_ill = !words.empty();
        {
            const std::lock_guard<std::mutex> lock(figures_mutex);
            figures.error = words;
        }
        observer.on_store_health(words);
    }

    // In the order of the requests: appends that stand together are told together.
    void tell_results() {
        std::vector<AppendResult> told;
        std::vector<Delivery> delivered;
        std::size_t next = 0;
        const bool are_all_appends = std::all_of(
            results.begin(), results.end(),
            [](const auto& result) { return std::holds_alternative<AppendResult>(result.first); });
        const auto tell_appends = [&] {
            if (told.empty()) return;
            observer.on_committed(std::move(told), std::move(delivered));
            told = {};
            delivered = {};
        };
        for (auto& [value, delivery_end] : results) {
            if (auto* result = std::get_if<AppendResult>(&value)) {
                using Fate = AppendResult::Fate;
                if (result->fate == Fate::kAccepted) ++appends_done;
                if (told.empty() && are_all_appends) {
                    told.reserve(results.size());
                    delivered.reserve(deliveries.size());
                }
                told.push_back(std::move(*result));
                for (; next < delivery_end; ++next) {
                    delivered.push_back(std::move(deliveries[next]));
                }
                continue;
            }
            tell_appends();
            if (auto* opened = std::get_if<OpenResult>(&value)) {
                observer.on_opened(std::move(*opened));
            } else {
                observer.on_read(std::move(std::get<ReadResult>(value)));
            }
        }
        tell_appends();
        results.clear();
        deliveries.clear();
    }

    void fail(const Request& request) {
        ++requests_failed;
        if (const auto* append = std::get_if<AppendRequest>(&request)) {
            AppendResult result;
            result.ticket = append->ticket;
            result.fate = AppendResult::Fate::kFailed;
            result.code = static_cast<int>(Errc::kBusy);
            result.seq = append->seq;
            result.fp = append->message->fp;
            std::vector<AppendResult> told;
            told.push_back(std::move(result));
            observer.on_committed(std::move(told), {});
        } else if (const auto* open = std::get_if<OpenRequest>(&request)) {
            OpenResult result;
            result.ticket = open->ticket;
            result.error = make_error_code(Errc::kLoginBusy);
            observer.on_opened(std::move(result));
        } else {
            ReadResult result;
            result.ticket = std::get<ReadRequest>(request).ticket;
            result.after = std::get<ReadRequest>(request).after;
            result.error = make_error_code(Errc::kBusy);
            observer.on_read(std::move(result));
        }
    }

    // Whether there may be more to trim. A failure is tried again after the interval.
    bool trim() {
        bool has_more = false;
        std::error_code error = store->begin(store_now(), wall_now());
        if (!error) {
            error = store->trim(options.trim_rows_max, has_more);
            if (error) {
                store->rollback();
            } else {
                error = store->commit();
            }
        }
        tell_health(error);
        return has_more && !error;
    }

    const std::unique_ptr<MessageStore> store;
    const bool is_immediate;
    Observer& observer;
    Options options;

    std::mutex mutex;
    std::condition_variable wake;
    // Under the mutex.
    std::vector<Request> queue;
    PendingCursors cursors;
    Clock::time_point cursors_due;
    Clock::time_point waits_until;  // The thread, while it is_waiting.
    bool has_cursors_come = false;  // Since it began to wait.

    // Changed with the mutex, or by whoever still collects a batch.
    std::atomic<std::size_t> appends_queued{0};
    std::atomic<std::size_t> others_queued{0};
    std::atomic<std::size_t> bytes_queued{0};
    std::atomic<bool> is_stopping{false};  // Set with the mutex.
    // The thread, for something to do. Set with the mutex.
    std::atomic<bool> is_waiting{false};

    std::mutex work_mutex;  // Working
    std::atomic<std::thread::id> worker;

    // While Working only.
    const Clock::time_point clock_start;
    const std::int64_t clock_base;
    // Each with the number of deliveries up to and including its own.
    std::vector<std::pair<std::variant<AppendResult, OpenResult, ReadResult>, std::size_t>> results;
    std::vector<Delivery> deliveries;
    bool is_ill = false;

    mutable std::mutex figures_mutex;  // Once a commit: nobody waits for it.
    Stats figures;                     // What is not below; under figures_mutex.
    std::atomic<std::uint64_t> commits_done{0};
    std::atomic<std::uint64_t> appends_done{0};
    std::atomic<std::uint64_t> requests_failed{0};
    std::atomic<std::uint64_t> commit_time_ns{0};

    std::mutex join_mutex;
    std::thread thread;
};

StoreWriter::StoreWriter(std::unique_ptr<MessageStore> store, Observer& observer, Options options)
    : impl_(std::make_unique<Impl>(std::move(store), observer, options)) {
    impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

StoreWriter::~StoreWriter() { stop(); }

bool StoreWriter::append(AppendRequest request) { return impl_->push(std::move(request)); }

bool StoreWriter::open_session(OpenRequest request) { return impl_->push(std::move(request)); }

bool StoreWriter::read(ReadRequest request) { return impl_->push(std::move(request)); }

void StoreWriter::advance(CursorUpdate update) {
    bool is_first = false;
    {
        const std::lock_guard<std::mutex> lock(impl_->mutex);
        if (impl_->is_stopping) return;
        is_first = impl_->add_cursor(std::move(update));
        if (is_first) impl_->is_waiting = false;
    }
    if (is_first) impl_->wake.notify_one();
}

bool StoreWriter::append(AppendRequest request, Batch& batch) {
    return impl_->collect(std::move(request), batch.requests_);
}

bool StoreWriter::open_session(OpenRequest request, Batch& batch) {
    return impl_->collect(std::move(request), batch.requests_);
}

bool StoreWriter::read(ReadRequest request, Batch& batch) {
    return impl_->collect(std::move(request), batch.requests_);
}

void StoreWriter::advance(CursorUpdate update, Batch& batch) {
    batch.cursors_.push_back(std::move(update));
}

bool StoreWriter::submit_part(Batch& batch) {
    if (batch.requests_.size() < kPartMin || !impl_->is_waiting || impl_->is_immediate)
        return false;
    impl_->submit(batch.requests_, batch.cursors_);
    return true;
}

void StoreWriter::submit(Batch& batch) {
    if (batch.requests_.empty() && batch.cursors_.empty()) return;
    impl_->submit(batch.requests_, batch.cursors_);
}

void StoreWriter::stop() {
    {
        const std::lock_guard<std::mutex> lock(impl_->mutex);
        impl_->is_stopping = true;
    }
    impl_->wake.notify_one();
    if (impl_->worker.load() == std::this_thread::get_id()) return;
    const std::lock_guard<std::mutex> lock(impl_->join_mutex);
    if (impl_->thread.joinable()) impl_->thread.join();
    const Impl::Working behind_the_last(*impl_);
}

bool StoreWriter::is_idle() const { return impl_->is_waiting; }

StoreWriter::Stats StoreWriter::stats() const {
    Stats stats;
    {
        const std::lock_guard<std::mutex> lock(impl_->figures_mutex);
        stats = impl_->figures;
    }
    stats.commits = impl_->commits_done;
    stats.appended = impl_->appends_done;
    stats.failed = impl_->requests_failed;
    stats.commit_ns = impl_->commit_time_ns;
    stats.queued = impl_->appends_queued + impl_->others_queued;
    stats.queued_bytes = impl_->bytes_queued;
    return stats;
}

}  // namespace petrel
