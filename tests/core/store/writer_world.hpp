#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/store/store_writer.hpp"
#include "tests/core/store/store_support.hpp"

// A StoreWriter on a store that does as the test says.

namespace petrel::test {

// A memory store that fails and stands still as told, and remembers what it was asked.
class ScriptedStore final : public MessageStore {
public:
    // Shared with the test; under the mutex.
    struct Script {
        std::mutex mutex;
        std::condition_variable changed;
        bool is_closed = false;   // begin() waits while it is.
        bool is_waiting = false;  // A begin() does.
        int failing_begins = 0;
        int failing_commits = 0;     // The next ones.
        bool is_disk_dead = false;   // All of them.
        std::string poison;          // Commits with this text fail.
        std::string poison_at_once;  // Appends of this text fail.
        bool are_opens_failing = false;
        bool are_reads_failing = false;
        bool are_advances_failing = false;
        int trims_with_more = 0;
        std::atomic<bool> is_trim_wanted{false};
        int begins = 0;
        int commits = 0;
        int trims = 0;
        std::vector<std::pair<std::string, Position>> advances;  // Committed.
        std::vector<std::int64_t> clocks;

        template <class Condition>
        void wait(Condition&& condition) {
            std::unique_lock<std::mutex> lock(mutex);
            changed.wait(lock, condition);
        }
        void set(const std::function<void()>& change) {
            const std::lock_guard<std::mutex> lock(mutex);
            change();
            changed.notify_all();
        }
        // The writer stands in begin() from then on, with the batch it has taken.
        void close() {
            set([this] { is_closed = true; });
        }
        void wait_for_writer() {
            wait([this] { return is_waiting; });
        }
        void open() {
            set([this] { is_closed = false; });
        }
    };

    explicit ScriptedStore(std::shared_ptr<Script> script, std::int64_t last_now = 0,
                           bool is_immediate = false)
        : script_(std::move(script)),
          inner_(make_memory_message_store({}, epochs_)),
          last_now_(last_now),
          is_immediate_(is_immediate) {}

    std::error_code begin(std::int64_t now, WallMillis wall) override {
        std::unique_lock<std::mutex> lock(script_->mutex);
        script_->is_waiting = true;
        script_->changed.notify_all();
        script_->changed.wait(lock, [this] { return !script_->is_closed; });
        script_->is_waiting = false;
        ++script_->begins;
        script_->clocks.push_back(now);
        script_->changed.notify_all();
        is_poisoned_ = false;
        advances_.clear();
        if (script_->failing_begins > 0) {
            --script_->failing_begins;
            return make_error_code(Errc::kBusy);
        }
        return inner_->begin(now, wall);
    }

    std::error_code commit() override {
        const std::lock_guard<std::mutex> lock(script_->mutex);
        if (script_->is_disk_dead || script_->failing_commits > 0 || is_poisoned_) {
            if (script_->failing_commits > 0) --script_->failing_commits;
            inner_->rollback();
            return make_error_code(Errc::kBusy);
        }
        ++script_->commits;
        for (auto& advance : advances_) script_->advances.push_back(std::move(advance));
        script_->changed.notify_all();
        return inner_->commit();
    }

    void rollback() override { inner_->rollback(); }

    std::error_code append(const AppendRequest& request, AppendResult& result,
                           std::vector<Delivery>& deliveries) override {
        const std::lock_guard<std::mutex> lock(script_->mutex);
        if (!script_->poison.empty() && request.message->text == script_->poison)
            is_poisoned_ = true;
        if (!script_->poison_at_once.empty() && request.message->text == script_->poison_at_once) {
            return make_error_code(Errc::kBusy);
        }
        return inner_->append(request, result, deliveries);
    }
    std::error_code open_session(const OpenRequest& request, OpenResult& result) override {
        const std::lock_guard<std::mutex> lock(script_->mutex);
        if (script_->are_opens_failing) return make_error_code(Errc::kBusy);
        return inner_->open_session(request, result);
    }
    std::error_code advance(const CursorUpdate& update) override {
        const std::lock_guard<std::mutex> lock(script_->mutex);
        if (script_->are_advances_failing) return make_error_code(Errc::kBusy);
        advances_.emplace_back(update.device, update.position);
        return inner_->advance(update);
    }
    std::error_code read(const ReadRequest& request, ReadResult& result) override {
        const std::lock_guard<std::mutex> lock(script_->mutex);
        if (script_->are_reads_failing) return make_error_code(Errc::kBusy);
        return inner_->read(request, result);
    }
    std::error_code trim(std::size_t rows_max, bool& has_more) override {
        const std::lock_guard<std::mutex> lock(script_->mutex);
        ++script_->trims;
        const std::error_code error = inner_->trim(rows_max, has_more);
        has_more = script_->trims_with_more-- > 0;
        script_->changed.notify_all();
        return error;
    }
    bool is_immediate() const override { return is_immediate_; }
    bool wants_trim() const override { return script_->is_trim_wanted; }
    std::error_code renew_epochs() override { return inner_->renew_epochs(); }
    std::int64_t last_now() const override { return last_now_; }
    std::string last_error() const override { return "the disk said no"; }

private:
    NumberedSource epochs_;
    const std::shared_ptr<Script> script_;
    const std::unique_ptr<MessageStore> inner_;
    const std::int64_t last_now_;
    const bool is_immediate_;
    bool is_poisoned_ = false;
    std::vector<std::pair<std::string, Position>> advances_;
};

// Keeps what it was told; read it after stop().
struct Listener final : StoreWriter::Observer {
    void on_committed(std::vector<AppendResult>&& told, std::vector<Delivery>&& given) override {
        order += 'c';
        for (AppendResult& result : told) results.push_back(std::move(result));
        for (Delivery& delivery : given) deliveries.push_back(std::move(delivery));
        if (on_event) on_event();
    }
    void on_opened(OpenResult&& result) override {
        order += 'o';
        opened.push_back(std::move(result));
    }
    void on_read(ReadResult&& result) override {
        order += 'r';
        reads.push_back(std::move(result));
    }
    void on_store_health(const std::string& error) override { health.push_back(error); }

    std::string order;
    std::vector<AppendResult> results;
    std::vector<Delivery> deliveries;
    std::vector<OpenResult> opened;
    std::vector<ReadResult> reads;
    std::vector<std::string> health;
    std::function<void()> on_event;
};

struct WriterWorld {
    explicit WriterWorld(StoreWriter::Options options = quiet(), std::int64_t last_now = 0,
                         bool is_immediate = false)
        : writer(std::make_unique<ScriptedStore>(script, last_now, is_immediate), listener,
                 options) {}

    // Neither cursors nor trim on their own, unless the test says so.
    static StoreWriter::Options quiet() {
        StoreWriter::Options options;
        options.cursor_delay_max = std::chrono::hours{1};
        options.trim_interval = std::chrono::hours{1};
        return options;
    }

    void wait_until_idle() const {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{30};
        while (!writer.is_idle()) {
            REQUIRE(std::chrono::steady_clock::now() < deadline);
            std::this_thread::yield();
        }
    }
    AppendRequest message(const std::string& text = "x", Position seq = 0) {
        AppendRequest request;
        request.ticket = ++ticket;
        request.message = message_of("a", "alice", "bob", text, fingerprints.next());
        if (seq > 0) {
            request.stream = stream_named("s");
            request.seq = seq;
            request.prev = seq - 1;
        }
        return request;
    }
    static OpenRequest login(const std::string& device = "phone") {
        OpenRequest request;
        request.app = "a";
        request.user = "bob";
        request.device = device;
        request.generation = 1;
        return request;
    }
    static ReadRequest reading() {
        ReadRequest request;
        request.app = "a";
        request.user = "bob";
        return request;
    }
    static CursorUpdate acked(Position position, const std::string& device = "phone") {
        return {"a", "bob", device, false, position};
    }
    std::vector<Fate> fates() const {
        std::vector<Fate> found;
        for (const AppendResult& result : listener.results) found.push_back(result.fate);
        return found;
    }

    std::shared_ptr<ScriptedStore::Script> script = std::make_shared<ScriptedStore::Script>();
    Listener listener;
    NumberedSource fingerprints{1};
    std::uint64_t ticket = 0;
    StoreWriter writer;
};

}  // namespace petrel::test
