#include "tests/simulation/boxes.hpp"

#include <algorithm>
#include <iterator>
#include <list>
#include <utility>

#include "protocol/error.hpp"

namespace petrel::sim {

TimePoint Disk::next_time() {
    return std::max(last_, schedule_.now() + schedule_.random(Duration{0}, slowest_));
}

void Disk::write(std::string what, std::function<void()> effect, std::function<void()> report) {
    last_ = std::max(next_time(), full_until_);
    run(last_, std::move(what), std::move(effect), std::move(report));
}

void Disk::try_write(std::string what, std::function<bool()> effect,
                     std::function<void(std::error_code)> report) {
    const auto is_done = std::make_shared<bool>(false);
    TimePoint when = next_time();
    // It does not wait behind what waits for room.
    if (is_full()) when = schedule_.now();
    last_ = std::max(last_, when);
    run(
        when, std::move(what),
        [this, is_done, effect = std::move(effect)] { *is_done = !is_full() && effect(); },
        [is_done, report = std::move(report)] {
            report(*is_done ? std::error_code() : make_error_code(Errc::kSendFailed));
        });
}

void Disk::run(TimePoint when, std::string what, std::function<void()> effect,
               std::function<void()> report) {
    schedule_.at(when, [this, life = life_, what = std::move(what), effect = std::move(effect),
                        report = std::move(report)]() mutable {
        if (life != life_ || on_step_("write " + what)) return;
        effect();
        schedule_.after({}, [this, life, what = std::move(what), report = std::move(report)] {
            if (life != life_ || on_step_("told " + what)) return;
            report();
        });
    });
}

void Disk::crash() { ++life_; }

namespace {

class SimOutbox final : public Outbox {
public:
    SimOutbox(OutboxFile& file, Disk& disk) : file_(file), disk_(disk) {}

    bool is_durable() const override { return true; }
    Kept load() override {
        return {{file_.messages.begin(), file_.messages.end()},
                {file_.outcomes.begin(), file_.outcomes.end()}};
    }
    void append(std::vector<OutboxRecord> batch, Done done) override {
        disk_.try_write(
            "append",
            [this, batch = std::move(batch)] {
                file_.messages.insert(file_.messages.end(), batch.begin(), batch.end());
                return true;
            },
            std::move(done));
    }
    void record_outcomes(std::vector<OutcomeRecord> batch, Done done) override {
        disk_.write(
            "outcome",
            [this, batch = std::move(batch)] {
                for (const OutcomeRecord& outcome : batch) {
                    file_.messages.remove_if([&](const OutboxRecord& record) {
                        return record.message.fp == outcome.fp;
                    });
                    file_.outcomes.push_back(outcome);
                }
            },
            [done = std::move(done)] { done({}); });
    }
    void remove_outcomes(std::vector<Fingerprint> batch) override {
        disk_.write(
            "removal",
            [this, batch = std::move(batch)] {
                for (const Fingerprint& fp : batch) {
                    file_.outcomes.remove_if(
                        [&](const OutcomeRecord& record) { return record.fp == fp; });
                }
            },
            [] {});
    }

private:
    OutboxFile& file_;
    Disk& disk_;
};

class SimInbox final : public Inbox {
public:
    SimInbox(InboxFile& file, Disk& disk, std::function<void(const InboxMessage&)> on_recorded)
        : file_(file), disk_(disk), on_recorded_(std::move(on_recorded)), cursor_(file.cursor) {}

    bool is_durable() const override { return true; }
    std::string device() const override { return {}; }
    std::optional<InboxCursor> cursor() const override { return cursor_; }
    std::vector<InboxMessage> load_unhandled() override {
        return {file_.unhandled.begin(), file_.unhandled.end()};
    }
    void on_resume(const std::string& epoch, Position seq) override {
        if (cursor_ && cursor_->epoch == epoch && cursor_->seq == seq) return;
        cursor_ = stored_ = InboxCursor{epoch, seq, {}};
        disk_.write(
            "cursor", [this, cursor = *cursor_] { file_.cursor = cursor; }, [] {});
    }
    void append(std::vector<Data> batch, Done done) override {
        if (batch.empty() || !cursor_) return done({});
        const std::uint64_t number = ++appends_;
        const InboxCursor before = *cursor_;
        cursor_->seq = batch.back().seq;
        cursor_->fp = batch.back().fp;
        open_.push_back({number, *cursor_, std::move(done)});
        disk_.try_write(
            "message",
            [this, before, cursor = *cursor_, batch = std::move(batch)] {
                // Behind one that failed: nothing is stored behind a gap.
                if (!file_.cursor || file_.cursor->epoch != before.epoch ||
                    file_.cursor->seq != before.seq) {
                    return false;
                }
                for (const Data& data : batch) file_.unhandled.push_back({cursor.epoch, data});
                file_.cursor = cursor;
                return true;
            },
            [this, number](std::error_code error) { close(number, error); });
    }
    void record_handled(std::size_t count, Done done) override {
        disk_.write(
            "handled",
            [this, count] {
                for (std::size_t i = 0; i < count && !file_.unhandled.empty(); ++i) {
                    on_recorded_(file_.unhandled.front());
                    file_.unhandled.pop_front();
                }
            },
            [done = std::move(done)] { done({}); });
    }

private:
    struct Open {
        std::uint64_t number = 0;
        InboxCursor cursor;  // Behind it.
        Done done;
    };

    // With one that failed those behind it fail, at once: whoever begins again there must not hear
    // of it later.
    void close(std::uint64_t number, std::error_code error) {
        const auto found = std::find_if(open_.begin(), open_.end(),
                                        [&](const Open& one) { return one.number == number; });
        if (found == open_.end()) return;
        const std::string epoch = found->cursor.epoch;
        std::list<Open> closed;
        closed.splice(closed.end(), open_, found);
        if (error) {
            for (auto one = open_.begin(); one != open_.end();) {
                const auto next = std::next(one);
                if (one->number > number && one->cursor.epoch == epoch) {
                    closed.splice(closed.end(), open_, one);
                }
                one = next;
            }
            if (cursor_ && cursor_->epoch == epoch) cursor_ = stored_;
        } else if (stored_ && stored_->epoch == epoch) {
            stored_ = closed.front().cursor;
        }
        for (Open& one : closed) one.done(error);
    }

    InboxFile& file_;
    Disk& disk_;
    std::function<void(const InboxMessage&)> on_recorded_;
    std::uint64_t appends_ = 0;
    std::list<Open> open_;
    std::optional<InboxCursor> cursor_;  // Ahead of the file by what is being written.
    std::optional<InboxCursor> stored_ = file_.cursor;  // And by nothing.
};

}  // namespace

std::unique_ptr<Outbox> make_sim_outbox(OutboxFile& file, Disk& disk) {
    return std::make_unique<SimOutbox>(file, disk);
}

std::unique_ptr<Inbox> make_sim_inbox(InboxFile& file, Disk& disk,
                                      std::function<void(const InboxMessage&)> on_recorded) {
    return std::make_unique<SimInbox>(file, disk, std::move(on_recorded));
}

}  // namespace petrel::sim
