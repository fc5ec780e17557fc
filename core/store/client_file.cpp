#include "core/store/client_file.hpp"

#include <algorithm>
#include <filesystem>
#include <sqlite3.h>
#include <utility>

namespace petrel {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSuffixes[] = {"", "-wal", "-shm", "-journal"};
constexpr std::uintmax_t kHeaderBytes = 100;  // Of every SQLite file that is not empty.
constexpr int kSetAsideMax = 10'000;          // Files of one name.

// Files up to this are checked whole when they are opened; of larger ones only what is read.
constexpr std::uintmax_t kCheckedBytesMax = 64 << 20;

std::string app_of(const AccountId& account) {
    return account.app.empty() ? "default" : account.app;
}

bool is_there(const fs::path& path) {
    std::error_code error;
    return fs::exists(fs::symlink_status(path, error));
}

std::uintmax_t size_of(const fs::path& path) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    return error ? 0 : size;
}

fs::path with_suffix(fs::path path, const std::string& suffix) {
    path += suffix;
    return path;
}

// The log lies beside the file itself, not beside a link to it.
fs::path without_links(const std::string& path) {
    std::error_code error;
    const fs::path target = fs::canonical(path, error);
    return error ? fs::path(path) : target;
}

// What SQLite would overwrite without a word: a single byte, which it takes for an empty file, and
// the log of an empty file.
const char* hidden_damage(const std::string& name) {
    std::error_code error;
    const fs::path path = without_links(name);
    if (is_there(path) && !fs::is_regular_file(path, error)) return nullptr;
    const auto size = size_of(path);
    if (size > 0 && size < kHeaderBytes) return "it is too short for one of Petrel's";
    const bool has_log = size_of(with_suffix(path, "-wal")) > 0;
    return size == 0 && has_log ? "it is empty, but its log is not" : nullptr;
}

bool is_refusal(int code) { return (code & 0xff) == SQLITE_CONSTRAINT; }

}  // namespace

ClientFile::~ClientFile() { stop(); }

// ---- opening ----

std::error_code ClientFile::open(const std::string& path, SqliteFile::Schema schema,
                                 const AccountId& account, const ClientFileOptions& options,
                                 std::string& why) {
    path_ = path;
    what_ = schema.what;
    options_ = options;
    const std::string with_account =
        std::string(schema.create) +
        "; CREATE TABLE account(app TEXT NOT NULL, user TEXT NOT NULL) STRICT";
    schema.create = with_account.c_str();
    const std::string kind = "client's " + what_;
    schema.what = kind.c_str();
    schema.cache_kib = 4'096;       // A few thousand messages; more are read from the file.
    schema.checkpoint_pages = 256;  // 1 MiB of log: little to write back when the disk is full.

    if (path.empty()) {
        why = "The file name of the " + what_ + " is empty: name a file";
        return make_error_code(Errc::kUnknown);
    }
    if (const char* damage = hidden_damage(path)) return set_aside(damage, why);
    if (const auto error = file_.open(path, schema, why)) {
        if (file_.fault() == SqliteFile::Fault::kForeign) {
            return set_aside("it is not a Petrel " + what_, why);
        }
        if (file_.fault() == SqliteFile::Fault::kDamaged) return set_aside("it is damaged", why);
        return error;
    }
    int code = SQLITE_OK;
    if (size_of(path) <= kCheckedBytesMax) {
        SqliteStatement check;
        code = file_.prepare("PRAGMA integrity_check(1)", check);
        if (code == SQLITE_OK) code = check.step();
        if (code == SQLITE_ROW) code = check.text(0) == "ok" ? SQLITE_OK : SQLITE_CORRUPT;
    }
    if (code == SQLITE_OK) code = check_account(account, why);
    if (code != SQLITE_OK) return give_up(code, why);
    return {};
}

int ClientFile::check_account(const AccountId& account, std::string& why) {
    const std::string app = app_of(account);
    SqliteStatement select;
    int code = file_.prepare("SELECT app, user FROM account", select);
    if (code != SQLITE_OK) return code;
    code = select.step();
    if (code == SQLITE_ROW) {
        const std::string owner(select.text(1));
        const std::string its_app(select.text(0));
        if (owner == account.user && its_app == app) return SQLITE_OK;
        why = path_ + " is the " + what_ + " of user '" + owner + "' (app '" + its_app +
              "'), not of '" + account.user + "' (app '" + app + "'): name another file";
        return SQLITE_AUTH;
    }
    if (code != SQLITE_DONE) return code;
    SqliteStatement insert;
    code = file_.prepare("INSERT INTO account(app, user) VALUES(?, ?)", insert);
    if (code != SQLITE_OK) return code;
    return insert.bind(std::string_view(app)).bind(std::string_view(account.user)).run();
}

std::error_code ClientFile::give_up(int code, std::string& why) {
    const int primary = code & 0xff;
    // SQLITE_ERROR: a table is not what it should be.
    if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || primary == SQLITE_ERROR) {
        return set_aside("it is damaged", why);
    }
    if (why.empty()) why = "The " + what_ + " cannot be used: " + file_.describe(code);
    file_.close_untouched();
    return make_error_code(Errc::kUnknown);
}

// With its log, which may hold most of it.
std::error_code ClientFile::set_aside(const std::string& reason, std::string& why) {
    file_.close_untouched();
    const fs::path path = without_links(path_);
    std::error_code error;
    for (int n = 1; n <= kSetAsideMax; ++n) {
        const fs::path target = with_suffix(path, ".corrupt-" + std::to_string(n));
        bool is_free = true;
        for (const char* suffix : kSuffixes) is_free &= !is_there(with_suffix(target, suffix));
        if (!is_free) continue;
        for (const char* suffix : kSuffixes) {
            const fs::path from = with_suffix(path, suffix);
            if (!is_there(from)) continue;
            fs::rename(from, with_suffix(target, suffix), error);
            if (error) {
                why = path_ + " cannot be used (" + reason + "), nor set aside (" +
                      error.message() + "): move it away, or name another file";
                return make_error_code(Errc::kUnknown);
            }
        }
        why = path_ + " cannot be used: " + reason + ". It was set aside as " + target.string() +
              "; start again to begin with an empty " + what_;
        return make_error_code(Errc::kUnknown);
    }
    why =
        path_ + " cannot be used (" + reason +
        "), and too many like it were set aside already: " + "move them away, or name another file";
    return make_error_code(Errc::kUnknown);
}

// ---- queue ----

void ClientFile::start() {
    thread_ = std::thread([this] { run(); });
}

void ClientFile::submit(Operation operation) {
    Answers answers;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const bool is_full = queue_.size() >= kQueueMax || queued_bytes_ >= kQueueBytesMax;
        if (operation.may_fail && is_full) {
            answers.push_back({std::move(operation.done), make_error_code(Errc::kSendFailed)});
        } else {
            is_try_wanted_ = is_try_wanted_ || operation.may_fail;
            queued_bytes_ += operation.bytes;
            queue_.push_back(std::move(operation));
        }
    }
    changed_.notify_one();
    post(std::move(answers));
}

void ClientFile::stop() {
    if (!is_alive_->exchange(false)) return;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_stopping_ = true;
        queue_.erase(std::remove_if(queue_.begin(), queue_.end(),
                                    [](const Operation& o) { return o.ends_with_owner; }),
                     queue_.end());
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
    queue_.clear();
}

std::string ClientFile::last_error() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_error_;
}

void ClientFile::post(Answers answers) {
    if (answers.empty()) return;
    auto shared = std::make_shared<Answers>(std::move(answers));
    options_.post([shared, is_alive = is_alive_] {
        for (Answer& answer : *shared) {
            // Each of them may be the one that destroys us.
            if (!*is_alive) return;
            if (answer.done) answer.done(answer.error);
        }
    });
}

// ---- the writer's thread ----

void ClientFile::run() {
    std::deque<Operation> batch;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        if (is_stuck_) {
            changed_.wait_for(lock, options_.retry_pause,
                              [this] { return is_stopping_ || is_try_wanted_; });
        } else {
            changed_.wait(lock, [this] { return is_stopping_ || !queue_.empty(); });
        }
        is_try_wanted_ = false;
        const bool is_last = is_stopping_;
        if (queue_.empty()) {
            if (is_last) return;
            is_stuck_ = false;
            continue;
        }
        take_batch(batch);
        lock.unlock();
        Answers answers;
        const std::optional<int> health = write(batch, answers);
        if (health) set_health(*health);
        lock.lock();
        is_stuck_ = !batch.empty();
        if (is_stuck_) fail_what_may(queue_, *health, answers);
        for (; !batch.empty(); batch.pop_back()) {
            queued_bytes_ += batch.back().bytes;
            queue_.push_front(std::move(batch.back()));
        }
        const bool is_over = is_last && is_stuck_;  // It had its chance.
        lock.unlock();
        post(std::move(answers));
        lock.lock();
        if (is_over) return;
    }
}

void ClientFile::take_batch(std::deque<Operation>& batch) {
    while (!queue_.empty() && batch.size() < kBatchMax) {
        queued_bytes_ -= queue_.front().bytes;
        batch.push_back(std::move(queue_.front()));
        queue_.pop_front();
    }
}

std::optional<int> ClientFile::write(std::deque<Operation>& batch, Answers& answers) {
    int code = write_all(batch);
    if ((code & 0xff) == SQLITE_FULL) {
        // The log holds old copies of pages: written back, it may leave the room that is wanted.
        (void)file_.execute("PRAGMA wal_checkpoint(TRUNCATE)");
        code = write_all(batch);
    }
    if (code == SQLITE_OK) {
        for (Operation& operation : batch) answers.push_back({std::move(operation.done), {}});
        batch.clear();
        return code;
    }
    // What one of them cannot have must not be the others' fault.
    std::optional<int> health;
    while (!batch.empty()) {
        Operation& operation = batch.front();
        code = write_one(operation);
        const bool is_failure = code != SQLITE_OK && !is_refusal(code);
        if (is_failure && !operation.may_fail) {
            fail_what_may(batch, code, answers);
            return code;
        }
        if (is_failure || (code == SQLITE_OK && !health)) health = code;
        answers.push_back({std::move(operation.done), error_of(operation, code)});
        batch.pop_front();
    }
    return health;
}

int ClientFile::write_all(const std::deque<Operation>& batch) {
    int code = file_.execute("BEGIN IMMEDIATE");
    for (const Operation& operation : batch) {
        if (code != SQLITE_OK) break;
        code = operation.apply();
    }
    if (code == SQLITE_OK) code = file_.execute("COMMIT");
    if (code != SQLITE_OK) undo();
    return code;
}

int ClientFile::write_one(const Operation& operation) {
    int code = file_.execute("BEGIN IMMEDIATE");
    if (code == SQLITE_OK) code = operation.apply();
    if (code == SQLITE_OK) code = file_.execute("COMMIT");
    if (code != SQLITE_OK) undo();
    return code;
}

void ClientFile::undo() {
    // SQLite itself has ended it after some errors. With nothing to write, this cannot fail.
    if (file_.is_in_transaction()) (void)file_.execute("ROLLBACK");
}

void ClientFile::fail_what_may(std::deque<Operation>& operations, int code, Answers& answers) {
    std::deque<Operation> kept;
    for (Operation& operation : operations) {
        if (operation.may_fail) {
            answers.push_back({std::move(operation.done), error_of(operation, code)});
            if (&operations == &queue_) queued_bytes_ -= operation.bytes;
        } else {
            kept.push_back(std::move(operation));
        }
    }
    operations = std::move(kept);
}

std::error_code ClientFile::error_of(const Operation& operation, int code) const {
    if (code == SQLITE_OK) return {};
    return make_error_code(is_refusal(code) ? operation.refusal : Errc::kSendFailed);
}

void ClientFile::set_health(int code) {
    std::string error;
    if (code != SQLITE_OK) error = "the " + what_ + " cannot be written: " + file_.describe(code);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (last_error_ == error) return;
        last_error_ = error;
    }
    if (!options_.on_health) return;
    options_.post([error, is_alive = is_alive_, on_health = options_.on_health] {
        if (*is_alive) on_health(error);
    });
}

}  // namespace petrel
