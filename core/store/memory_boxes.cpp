#include "core/store/memory_boxes.hpp"

#include <algorithm>
#include <utility>

namespace petrel {
namespace {

void call(const std::function<void(std::error_code)>& done, std::error_code error = {}) {
    if (done) done(error);
}

class MemoryOutbox final : public Outbox {
public:
    bool is_durable() const override { return false; }
    bool keeps_nothing() const override { return true; }
    Kept load() override { return {}; }
    void append(std::vector<OutboxRecord>, Done done) override { call(done); }
    void record_outcomes(std::vector<OutcomeRecord>, Done done) override { call(done); }
    void remove_outcomes(std::vector<Fingerprint>) override {}
};

class MemoryInbox final : public Inbox {
public:
    bool is_durable() const override { return false; }
    std::string device() const override { return {}; }
    std::optional<InboxCursor> cursor() const override { return cursor_; }
    std::vector<InboxMessage> load_unhandled() override { return {}; }

    void on_resume(const std::string& epoch, Position seq) override {
        if (cursor_ && cursor_->epoch == epoch && cursor_->seq == seq) return;
        cursor_ = InboxCursor{epoch, seq, {}};
    }

    void append(std::vector<Data> batch, Done done) override {
        Position next = cursor_ ? cursor_->seq + 1 : 0;
        for (const Data& message : batch) {
            if (!cursor_ || message.seq != next++) {
                call(done, make_error_code(Errc::kInvalidPacket));
                return;
            }
        }
        if (!batch.empty()) {
            cursor_->seq = batch.back().seq;
            cursor_->fp = std::move(batch.back().fp);
        }
        call(done);
    }

    void record_handled(std::size_t, Done done) override { call(done); }

private:
    std::optional<InboxCursor> cursor_;
};

}  // namespace

std::unique_ptr<Outbox> make_memory_outbox() { return std::make_unique<MemoryOutbox>(); }

std::unique_ptr<Inbox> make_memory_inbox() { return std::make_unique<MemoryInbox>(); }

}  // namespace petrel
