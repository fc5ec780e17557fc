#include "tests/simulation/boxes.hpp"

#include <algorithm>

namespace petrel::sim {

void Disk::write(std::string what, std::function<void()> effect, std::function<void()> report) {
    const TimePoint when = std::max(
        last_, schedule_.now() + schedule_.random(Duration{0}, std::chrono::milliseconds{4}));
    last_ = when;
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
        disk_.write(
            "append",
            [this, batch = std::move(batch)] {
                file_.messages.insert(file_.messages.end(), batch.begin(), batch.end());
            },
            [done = std::move(done)] { done({}); });
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
        cursor_ = InboxCursor{epoch, seq, {}};
        disk_.write(
            "cursor", [this, cursor = *cursor_] { file_.cursor = cursor; }, [] {});
    }
    void append(std::vector<Data> batch, Done done) override {
        if (batch.empty() || !cursor_) return done({});
        cursor_->seq = batch.back().seq;
        cursor_->fp = batch.back().fp;
        disk_.write(
            "message",
            [this, cursor = *cursor_, batch = std::move(batch)] {
                for (const Data& data : batch) file_.unhandled.push_back({cursor.epoch, data});
                file_.cursor = cursor;
            },
            [done = std::move(done)] { done({}); });
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
    InboxFile& file_;
    Disk& disk_;
    std::function<void(const InboxMessage&)> on_recorded_;
    std::optional<InboxCursor> cursor_;  // Ahead of the file by what is being written.
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
