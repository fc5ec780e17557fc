#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/store/inbox.hpp"
#include "core/store/outbox.hpp"

// The client's stores as a test wants them: answering at once or when told to, durable or not,
// failing or not.

namespace petrel::test {

// Calls waiting for their answer.
class AnswerQueue {
public:
    bool is_delayed = false;
    std::error_code error;  // Of the calls from now on.

    // `apply` when it succeeds.
    void take(std::function<void(std::error_code)> done, std::function<void()> apply) {
        calls_.push_back({std::move(done), std::move(apply), error});
        if (!is_delayed) answer();
    }
    void answer(std::size_t count = SIZE_MAX) {
        for (; count > 0 && !calls_.empty(); --count) {
            Call call = std::move(calls_.front());
            calls_.pop_front();
            if (!call.error) call.apply();
            call.done(call.error);
        }
    }
    std::size_t waiting() const { return calls_.size(); }

private:
    struct Call {
        std::function<void(std::error_code)> done;
        std::function<void()> apply;
        std::error_code error;
    };
    std::deque<Call> calls_;
};

class FakeOutbox final : public Outbox {
public:
    AnswerQueue answers;
    bool durable = false;
    Kept kept;                         // What a reopened one would load.
    std::vector<std::size_t> appends;  // Sizes of the batches.
    std::vector<std::size_t> records;

    bool is_durable() const override { return durable; }
    Kept load() override { return kept; }
    void append(std::vector<OutboxRecord> batch, Done done) override {
        appends.push_back(batch.size());
        answers.take(std::move(done), [this, batch = std::move(batch)] {
            kept.messages.insert(kept.messages.end(), batch.begin(), batch.end());
        });
    }
    void record_outcomes(std::vector<OutcomeRecord> batch, Done done) override {
        records.push_back(batch.size());
        answers.take(std::move(done), [this, batch = std::move(batch)] {
            for (const OutcomeRecord& outcome : batch) {
                erase(kept.messages,
                      [&](const OutboxRecord& r) { return r.message.fp == outcome.fp; });
                kept.outcomes.push_back(outcome);
            }
        });
    }
    void remove_outcomes(std::vector<Fingerprint> batch) override {
        answers.take([](std::error_code) {},
                     [this, batch = std::move(batch)] {
                         for (const Fingerprint& fp : batch) {
                             erase(kept.outcomes,
                                   [&](const OutcomeRecord& r) { return r.fp == fp; });
                         }
                     });
    }

private:
    template <class List, class Predicate>
    static void erase(List& list, Predicate predicate) {
        list.erase(std::remove_if(list.begin(), list.end(), predicate), list.end());
    }
};

class FakeInbox final : public Inbox {
public:
    AnswerQueue answers;
    bool durable = false;
    std::string device_id;
    std::optional<InboxCursor> at;
    std::size_t handled_count = 0;
    std::vector<InboxMessage> stored;  // Not handled.
    std::vector<std::size_t> appends;  // Sizes of the batches.
    bool was_dense = true;

    bool is_durable() const override { return durable; }
    std::string device() const override { return device_id; }
    std::optional<InboxCursor> cursor() const override { return at; }
    std::vector<InboxMessage> load_unhandled() override { return stored; }
    void on_resume(const std::string& epoch, Position seq) override {
        at = InboxCursor{epoch, seq, {}};
    }
    void append(std::vector<Data> batch, Done done) override {
        appends.push_back(batch.size());
        answers.take(std::move(done), [this, batch = std::move(batch)] {
            for (const Data& data : batch) {
                if (!at || data.seq != at->seq + 1) was_dense = false;
                if (at) at->seq = data.seq;
                if (at) at->fp = data.fp;
                stored.push_back({at ? at->epoch : std::string(), data});
            }
        });
    }
    void record_handled(std::size_t count, Done done) override {
        answers.take(std::move(done), [this, count] {
            handled_count += count;
            stored.erase(stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(
                                                              std::min(count, stored.size())));
        });
    }
};

}  // namespace petrel::test
