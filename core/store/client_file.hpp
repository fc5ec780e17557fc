#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "core/store/sqlite_file.hpp"
#include "protocol/error.hpp"

namespace petrel {

// Whose messages a client's file holds.
struct AccountId {
    std::string app;  // "": "default", as the gateway names it.
    std::string user;
};

struct ClientFileOptions {
    // Runs a task later on the engine's thread: EventLoop::post. Called from any thread.
    std::function<void(std::function<void()>)> post;
    // On the engine's thread, once a change: what is wrong with the disk, and what becomes of it;
    // "" when it works again. Until then appends fail, and the rest waits.
    std::function<void(const std::string&)> on_health;
    std::chrono::milliseconds retry_pause{1000};
    // Appends to an outbox wait for a disk that fails, instead of failing. Its caller bounds them.
    bool appends_wait = false;
};

// An SQLite file of one account, and the one thread that writes it. What is queued while a commit
// is under way goes into the next one (group commit), in order. Answers are posted.
//
//   submit -> queue -> apply() of all, COMMIT ---------------------> done(ok)
//                         \-- failed: one by one -- may_fail ------> done(error)
//                                               \-- others: wait, again; meanwhile what may fail
//                                                   behind them fails
//
// All but the writing is called on the engine's thread, or while it doesn't run. Thread-compatible.
class ClientFile {
public:
    using Done = std::function<void(std::error_code)>;

    struct Operation {
        // An SQLite result code. On the writer's thread, in a transaction; perhaps more than once,
        // after what it did was rolled back. SQLITE_CONSTRAINT: what is asked for is wrong.
        std::function<int()> apply;
        Done done;                      // May be empty.
        Errc refusal = Errc::kUnknown;  // Of SQLITE_CONSTRAINT.
        bool may_fail = false;          // Else it is tried until it succeeds.
        bool ends_with_owner = false;   // stop() drops it if it has not begun.
        std::size_t bytes = 0;          // Of what it holds.
    };

    ClientFile() = default;
    ~ClientFile();
    ClientFile(const ClientFile&) = delete;
    ClientFile& operator=(const ClientFile&) = delete;

    // A file that is damaged or not ours is set aside, as PATH.corrupt-N, and `why` says so. Any
    // other failure leaves it untouched. kBusy: in use.
    std::error_code open(const std::string& path, SqliteFile::Schema schema,
                         const AccountId& account, const ClientFileOptions& options,
                         std::string& why);
    // For an owner who found out, by an SQLite code or else (SQLITE_CORRUPT), that it cannot use
    // the file it has opened; its statements must be gone.
    std::error_code give_up(int code, std::string& why);

    SqliteFile& file() { return file_; }
    void start();
    void submit(Operation operation);
    // Finishes what is queued, as far as the disk allows, and ends the thread. No `done` is called
    // from here on. Idempotent. Then the file may be used by the caller's thread again.
    void stop();

    // What the disk failed with last, for a person; "" when it works. Thread-safe.
    std::string last_error() const;

private:
    static constexpr std::size_t kQueueMax = 65'536;  // Of what may fail.
    static constexpr std::size_t kQueueBytesMax = 256 << 20;
    static constexpr std::size_t kBatchMax = 4'096;  // Operations a transaction.

    struct Answer {
        Done done;
        std::error_code error;
    };
    using Answers = std::vector<Answer>;

    int check_account(const AccountId& account, std::string& why);
    std::error_code set_aside(const std::string& reason, std::string& why);
    void run();
    void take_batch(std::deque<Operation>& batch);
    // What must be tried again stays in `batch`. What the disk said; a refusal doesn't ask it.
    std::optional<int> write(std::deque<Operation>& batch, Answers& answers);
    int write_all(const std::deque<Operation>& batch);
    int write_one(const Operation& operation);
    void undo();
    void fail_what_may(std::deque<Operation>& operations, int code, Answers& answers);
    std::error_code error_of(const Operation& operation, int code) const;
    void set_health(int code);
    void post(Answers answers);

    std::string path_;
    std::string what_;  // "outbox"
    ClientFileOptions options_;
    SqliteFile file_;
    std::shared_ptr<std::atomic<bool>> is_alive_ = std::make_shared<std::atomic<bool>>(true);
    std::thread thread_;

    mutable std::mutex mutex_;  // Guards all below.
    std::condition_variable changed_;
    std::deque<Operation> queue_;
    std::size_t queued_bytes_ = 0;
    bool is_stuck_ = false;       // The first of the queue failed: wait before the next try.
    bool is_try_wanted_ = false;  // Somebody waits for the answer.
    bool is_stopping_ = false;
    std::string last_error_;
};

}  // namespace petrel
