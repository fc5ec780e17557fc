#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "core/store/client_file.hpp"
#include "core/store/sqlite_inbox.hpp"
#include "core/store/sqlite_outbox.hpp"
#include "tests/core/store/store_support.hpp"

namespace petrel::test {

// The thread of the test, as an engine's thread: runs what is posted while it waits for something.
class TaskLoop {
public:
    std::function<void(std::function<void()>)> poster() {
        return [this](std::function<void()> task) {
            const std::lock_guard<std::mutex> lock(mutex_);
            tasks_.push_back(std::move(task));
            changed_.notify_one();
        };
    }
    template <class Predicate>
    void run_until(Predicate predicate) {
        while (!predicate()) {
            std::function<void()> task;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                // Only a test that fails waits so long.
                const bool is_there = changed_.wait_for(lock, std::chrono::minutes{1},
                                                        [this] { return !tasks_.empty(); });
                REQUIRE(is_there);
                task = std::move(tasks_.front());
                tasks_.pop_front();
            }
            task();
        }
    }
    void run_what_is_there() {
        for (;;) {
            std::function<void()> task;
            {
                const std::lock_guard<std::mutex> lock(mutex_);
                if (tasks_.empty()) return;
                task = std::move(tasks_.front());
                tasks_.pop_front();
            }
            task();
        }
    }
    std::size_t waiting() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return tasks_.size();
    }
    // Without running anything.
    void wait_for_a_task() {
        std::unique_lock<std::mutex> lock(mutex_);
        const bool is_there =
            changed_.wait_for(lock, std::chrono::minutes{1}, [this] { return !tasks_.empty(); });
        REQUIRE(is_there);
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> tasks_;
};

// A folder, a loop, and what a box says.
class BoxWorld {
public:
    BoxWorld() {
        options.post = loop.poster();
        options.on_health = [this](const std::string& text) { health.push_back(text); };
        options.retry_pause = std::chrono::milliseconds{1};
    }

    // Counts the answers, in their order.
    std::function<void(std::error_code)> answer(std::string name = {}) {
        ++asked;
        return [this, name = std::move(name)](std::error_code error) {
            answers.push_back(error);
            if (!name.empty()) {
                told += (told.empty() ? "" : " ") + name + (error ? "!" : "");
            }
        };
    }
    void settle() {
        loop.run_until([this] { return answers.size() == asked; });
    }

    Result<std::unique_ptr<Outbox>> try_outbox(const std::string& path) {
        return open_sqlite_outbox(path, account, options, why);
    }
    std::unique_ptr<Outbox> outbox(const std::string& path) {
        auto opened = try_outbox(path);
        REQUIRE_MESSAGE(bool(opened), why);
        return std::move(*opened);
    }
    std::unique_ptr<Outbox> outbox() { return outbox(path()); }

    Result<std::unique_ptr<Inbox>> try_inbox(const std::string& path) {
        return open_sqlite_inbox(path, account, device, options, why);
    }
    std::unique_ptr<Inbox> inbox(const std::string& path) {
        auto opened = try_inbox(path);
        REQUIRE_MESSAGE(bool(opened), why);
        return std::move(*opened);
    }
    std::unique_ptr<Inbox> inbox() { return inbox(path()); }

    std::string path() const { return folder.file("box"); }
    bool why_says(const std::string& text) const { return why.find(text) != std::string::npos; }

    TemporaryFolder folder;
    TaskLoop loop;
    ClientFileOptions options;
    AccountId account{"", "alice"};
    std::string device;
    std::string why;
    std::vector<std::string> health;
    std::vector<std::error_code> answers;
    std::size_t asked = 0;
    std::string told;
};

inline std::string content_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

inline OutboxRecord outgoing(const std::string& fp, const std::string& text = "hello") {
    OutboxRecord record;
    record.message.to = "bob";
    record.message.fp = fingerprint(fp);
    record.message.qos = true;
    record.message.typeu = kTypeuSingle;
    record.message.text = text;
    return record;
}

inline OutcomeRecord outcome_of(const std::string& fp, Outcome what = Outcome::kAccepted) {
    OutcomeRecord record;
    record.fp = fingerprint(fp);
    record.to = "bob";
    record.outcome = what;
    record.attempts = 1;
    return record;
}

// "a b | c=0": the messages, and the outcomes with their numbers.
inline std::string to_string(const Outbox::Kept& kept) {
    std::string text;
    for (const OutboxRecord& record : kept.messages) {
        text += (text.empty() ? "" : " ") + record.message.fp.to_string();
    }
    text += " |";
    for (const OutcomeRecord& record : kept.outcomes) {
        text +=
            " " + record.fp.to_string() + "=" + std::to_string(static_cast<int>(record.outcome));
    }
    return text;
}

inline Data incoming(Position seq) {
    Data data;
    data.from = "bob";
    data.to = "alice";
    data.fp = fingerprint("m" + std::to_string(seq));
    data.qos = true;
    data.typeu = kTypeuSingle;
    data.seq = seq;
    data.conv = "u:alice:bob";
    data.cseq = 100 + seq;
    data.send_ts = 1'700'000'000'000;
    data.text = "text " + std::to_string(seq);
    return data;
}

inline std::vector<Data> incoming(Position first, Position last) {
    std::vector<Data> batch;
    for (Position seq = first; seq <= last; ++seq) batch.push_back(incoming(seq));
    return batch;
}

// "e/3 m3: e1 e2 e3": the cursor, then what is stored and not handled.
inline std::string to_string(Inbox& inbox) {
    std::string text = "none";
    if (const auto cursor = inbox.cursor()) {
        text = cursor->epoch + "/" + std::to_string(cursor->seq);
        if (!cursor->fp.empty()) text += " " + cursor->fp.to_string();
    }
    text += ":";
    for (const InboxMessage& message : inbox.load_unhandled()) {
        text += " " + message.epoch + std::to_string(message.data.seq);
    }
    return text;
}

}  // namespace petrel::test
