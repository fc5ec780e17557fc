#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "core/client/engine_impl.hpp"
#include "protocol/utf8.hpp"

// The Engine's outbox. A message is pending (on its way into the Outbox), kept (by QosSend), then
// its outcome is recorded (by the Outbox), told (to the app) and removed.

namespace petrel {

namespace {

constexpr std::size_t kRecipientBytesMax = 256;  // As the codec's CodecLimits::id_bytes_max.

// Section 4.6: the gateway takes frames of 6 x maxPayload; what is longer could never arrive.
constexpr std::size_t kFrameFactor = 6;

WallMillis to_millis(Duration time) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
}

bool is_same_payload(const Data& kept, const SendRequest& request) {
    return kept.to == request.to && kept.typeu == request.typeu && kept.text == request.text;
}

}  // namespace

// ---- taking from the app ----

void Engine::Impl::send(TimePoint now, SendRequest&& request, SendDone&& done) {
    const Input input(*this, now);
    if (const auto error = check(request)) {
        finish(std::move(done), error);
        return;
    }
    if (!request.qos) {
        send_unreliable(std::move(request), std::move(done));
        return;
    }
    if (auto kept = find_kept(request)) {
        finish(std::move(done), *kept);
        return;
    }
    const std::size_t kept = send_.kept() + pending_.size() + untold_outcomes_.size();
    const std::size_t bytes = send_.kept_bytes() + pending_bytes_;
    if (kept >= options_.send.kept_max || bytes > options_.send.kept_bytes_max ||
        request.text.size() > options_.send.kept_bytes_max - bytes) {
        finish(std::move(done), Errc::kSendFailed);
        return;
    }

    Duration life = age_max_;
    if (request.expires_after) {
        life = std::clamp(*request.expires_after, Duration::zero(), age_max_);
    }
    const WallMillis wall = host_.wall_ms();
    Pending pending;
    pending.taken_at = timers_.now();
    pending.expires_at = saturating_add(timers_.now(), life);
    pending.record.taken_at = wall;
    pending.record.expires_at = wall + to_millis(life);
    pending.done = std::move(done);
    pending.is_fresh = request.fp.empty();
    Data& message = pending.record.message;
    message.to = std::move(request.to);
    message.fp = pending.is_fresh ? fingerprints_.next() : std::move(request.fp);
    message.qos = true;
    message.typeu = request.typeu;
    message.text = std::move(request.text);
    if (outbox_.keeps_nothing()) {
        submit(pending);
        return;
    }
    if (forget(told_outcomes_, message.fp)) removals_.push_back(message.fp);
    pending_bytes_ += message.text.size();
    remember(pending_ids_, message.fp);
    pending_.push_back(std::move(pending));
    // A file gets all of a turn in one commit.
    if (!outbox_.is_durable()) commit_outbox();
}

std::error_code Engine::Impl::check(const SendRequest& request) const {
    if (is_shut_down_) return Errc::kNotInitialised;
    if (request.to.empty() || request.to.size() > kRecipientBytesMax ||
        !is_valid_utf8(request.to) || !is_valid_utf8(request.text)) {
        return Errc::kInvalidPacket;
    }
    if (request.text.size() > payload_max_) return Errc::kTooLarge;
    return {};
}

void Engine::Impl::send_unreliable(SendRequest request, SendDone done) {
    if (!is_online()) {
        finish(std::move(done), Errc::kNotLoggedIn);
        return;
    }
    if (is_socket_full()) {
        finish(std::move(done), Errc::kSendFailed);
        return;
    }
    Data message;
    message.to = std::move(request.to);
    message.fp = request.fp.empty() ? fingerprints_.next() : std::move(request.fp);
    message.typeu = request.typeu;
    message.text = std::move(request.text);
    send(message);
    finish(std::move(done), message.fp);
}

std::optional<Result<Fingerprint>> Engine::Impl::find_kept(const SendRequest& request) {
    const Fingerprint& fp = request.fp;
    if (fp.empty()) return std::nullopt;
    const Result<Fingerprint> known(fp);
    const Result<Fingerprint> reused(Errc::kFingerprintReused);
    if (const Pending* const pending = find_pending(fp)) {
        return is_same_payload(pending->record.message, request) ? known : reused;
    }
    if (const auto kept = send_.find(fp)) return is_same_payload(*kept, request) ? known : reused;
    const OutcomeRecord* const untold = find_untold(fp);
    if (untold == nullptr) return std::nullopt;
    // Of an ended message only the recipient is known.
    return untold->to == request.to ? known : reused;
}

// The tables say whether it is there at all; where, is asked too rarely for a table of that.
Engine::Impl::Pending* Engine::Impl::find_pending(const Fingerprint& fp) {
    if (pending_ids_.find(IdTable::id_of(fp)) == kNoSlot) return nullptr;
    const auto found = std::find_if(pending_.begin(), pending_.end(), [&](const Pending& pending) {
        return pending.record.message.fp == fp;
    });
    return found == pending_.end() ? nullptr : &*found;
}

const OutcomeRecord* Engine::Impl::find_untold(const Fingerprint& fp) const {
    if (untold_outcomes_.find(IdTable::id_of(fp)) == kNoSlot) return nullptr;
    for (const Event* event = begin_of_events(); event != end_of_events(); ++event) {
        const auto* const told = std::get_if<OutcomeEvent>(event);
        if (told != nullptr && told->record.fp == fp) return &told->record;
    }
    for (const auto* const batch : {&recording_outcomes_, &outcome_batch_}) {
        for (const OutcomeRecord& record : *batch) {
            if (record.fp == fp) return &record;
        }
    }
    return nullptr;
}

void Engine::Impl::remember(IdTable& table, const Fingerprint& fp) {
    const IdTable::Id id = IdTable::id_of(fp);
    if (table.find(id) == kNoSlot) table.add(id, 0);
}

bool Engine::Impl::forget(IdTable& table, const Fingerprint& fp) {
    const Slot found = table.find(IdTable::id_of(fp));
    if (found == kNoSlot) return false;
    table.remove(found);
    return true;
}

// ---- the outbox ----

void Engine::Impl::load_outbox() {
    const TimePoint now = timers_.now();
    const WallMillis wall = host_.wall_ms();
    for (OutboxRecord& record : loaded_.messages) {
        // By the wall clock, which may have jumped: never later than a message taken now.
        TimePoint expires_at = saturating_add(now, age_max_);
        if (record.expires_at) {
            const WallMillis left =
                std::clamp<WallMillis>(*record.expires_at - wall, 0, to_millis(age_max_));
            expires_at = now + std::chrono::milliseconds{left};
        }
        TimePoint taken_at = now;
        if (record.taken_at) {
            const WallMillis age = std::clamp<WallMillis>(wall - *record.taken_at, 0,
                                                          to_millis(options_.expires_after));
            taken_at = now - std::chrono::milliseconds{age};
        }
        record.message.seq = 0;  // Of another stream.
        record.message.prev.reset();
        const Fingerprint fp = record.message.fp;
        const std::string to = record.message.to;
        // Whether it was on the wire nobody knows: one attempt is the honest answer.
        const auto error = send_.submit(std::move(record.message), expires_at, 1, taken_at);
        if (error) outcome(fp, to, Outcome::kRejected, 1, error.value());
    }
    // Of another process, whose limits are not known.
    if (send_.kept() > 0) kept_payload_max_ = SIZE_MAX;
    for (OutcomeRecord& record : loaded_.outcomes) {
        remember(untold_outcomes_, record.fp);
        push(OutcomeEvent{std::move(record), false});
    }
    loaded_ = {};
}

void Engine::Impl::commit_outbox() {
    commit_removals();
    if (pending_.empty() || appending_ > 0) return;
    appending_ = pending_.size();
    std::vector<OutboxRecord> batch;
    batch.reserve(appending_);
    for (const Pending& pending : pending_) batch.push_back(pending.record);
    outbox_.append(std::move(batch),
                   answer_to([this](std::error_code error) { on_appended(error); }));
}

void Engine::Impl::on_appended(std::error_code error) {
    for (; appending_ > 0 && !pending_.empty(); --appending_) {
        Pending pending = std::move(pending_.front());
        forget(pending_ids_, pending.record.message.fp);
        pending_bytes_ -= pending.record.message.text.size();
        pending_.pop_front();
        if (error) {
            finish(std::move(pending.done), error);
        } else {
            submit(pending);
        }
    }
    appending_ = 0;
}

void Engine::Impl::submit(Pending& pending) {
    ++counts_.sent;
    Data& message = pending.record.message;
    finish(std::move(pending.done), message.fp);
    if (pending.is_cancelled) {
        outcome(message.fp, message.to, Outcome::kCancelled, 0);
        return;
    }
    const TimePoint expires_at =
        std::min(pending.expires_at, saturating_add(pending.taken_at, age_max_));
    const auto error =
        message.text.size() > payload_max_
            ? std::error_code(Errc::kTooLarge)
            : send_.submit(std::move(message), expires_at, 0, pending.taken_at, pending.is_fresh);
    // The login told a lower limit while the outbox was busy. What was not taken is still whole.
    // NOLINTNEXTLINE(bugprone-use-after-move)
    if (error) outcome(message.fp, message.to, Outcome::kRejected, 0, error.value());
}

// What a login has told counts for what is kept, too. Positions up to `accepted` are settled by the
// login itself. Nothing is looked at while the limits have not become lower.
void Engine::Impl::apply_limits(Position accepted) {
    if (age_max_ < options_.expires_after) send_.limit_age(age_max_);
    if (payload_max_ >= std::exchange(kept_payload_max_, payload_max_)) return;
    std::vector<Fingerprint> too_large;
    send_.for_each_kept([&](const Data& message, unsigned attempts) {
        const bool is_accepted = message.seq != 0 && message.seq <= accepted;
        // Sent before, it may have been accepted: the server answers as it did then.
        const bool was_never_sent = attempts == 0 && message.text.size() > payload_max_;
        if (!is_accepted && (was_never_sent || message.text.size() / kFrameFactor > payload_max_)) {
            too_large.push_back(message.fp);
        }
    });
    for (const Fingerprint& fp : too_large) {
        give_up(fp, Outcome::kRejected, static_cast<int>(Errc::kTooLarge));
    }
}

// ---- outcomes ----

std::error_code Engine::Impl::cancel(TimePoint now, const Fingerprint& fp) {
    const Input input(*this, now);
    if (Pending* const pending = find_pending(fp)) {
        if (std::exchange(pending->is_cancelled, true)) return Errc::kUnknown;
        return {};
    }
    return give_up(fp, Outcome::kCancelled) ? std::error_code() : Errc::kUnknown;
}

bool Engine::Impl::give_up(const Fingerprint& fp, Outcome what, int code) {
    const auto kept = send_.find(fp);
    if (!kept) return false;
    unsigned attempts = 0;
    hold_sends();  // First: with room in the window, what is behind it would leave at once.
    send_.cancel(kept->fp, &attempts);
    outcome(kept->fp, kept->to, what, attempts, code);
    return true;
}

void Engine::Impl::settle_all(Outcome without_attempts, Outcome with_attempts) {
    for (Pending& pending : pending_) pending.is_cancelled = true;
    send_.take_all([&](const Data& message, unsigned attempts) {
        outcome(message.fp, message.to, attempts == 0 ? without_attempts : with_attempts, attempts);
    });
}

void Engine::Impl::on_accepted(const QosSendDaemon::Settled& message, const Acceptance* at) {
    outcome(message.message.fp, message.message.to, Outcome::kAccepted, message.attempts, 0, at);
}

void Engine::Impl::on_rejected(const QosSendDaemon::Settled& message, int code) {
    outcome(message.message.fp, message.message.to, Outcome::kRejected, message.attempts, code);
}

void Engine::Impl::on_expired(const QosSendDaemon::Settled& message) {
    outcome(message.message.fp, message.message.to, Outcome::kExpired, message.attempts);
}

void Engine::Impl::on_lost(const QosSendDaemon::Settled& message) {
    outcome(message.message.fp, message.message.to, Outcome::kLost, message.attempts);
}

void Engine::Impl::on_late_ack(const Fingerprint& fp) {
    OutcomeEvent correction;
    correction.record.fp = fp;
    correction.record.outcome = Outcome::kAccepted;
    correction.is_correction = true;
    // Not before what it corrects.
    corrections_.push_back(std::move(correction));
    push_corrections();
}

void Engine::Impl::push_corrections() {
    if (is_recording_outcomes_ || !outcome_batch_.empty()) return;
    for (OutcomeEvent& correction : corrections_) push(std::move(correction));
    corrections_.clear();
}

void Engine::Impl::on_peer_lost_accepted(Position accepted, Position first) {
    log(LogLevel::kError, "the gateway's store has lost positions " + std::to_string(accepted + 1) +
                              " to " + std::to_string(first - 1) +
                              " of the outbox, which it had accepted");
    push(BreakEvent{BreakEvent::Side::kOutbox, {}, accepted});
}

void Engine::Impl::outcome(const Fingerprint& fp, const std::string& to, Outcome what,
                           unsigned attempts, int code, const Acceptance* at) {
    OutcomeRecord record;
    record.fp = fp;
    record.to = to;
    record.outcome = what;
    record.code = code;
    record.attempts = attempts;
    if (at != nullptr) {
        record.cseq = at->cseq;
        record.send_ts = at->send_ts;
    }
    switch (what) {
        case Outcome::kAccepted: ++counts_.accepted; break;
        case Outcome::kRejected: ++counts_.rejected; break;
        case Outcome::kExpired: ++counts_.expired; break;
        case Outcome::kCancelled: ++counts_.cancelled; break;
        case Outcome::kLost: ++counts_.lost; break;
        case Outcome::kUnknown: break;
    }
    if (what != Outcome::kAccepted) hold_sends();
    remember(untold_outcomes_, fp);
    outcome_batch_.push_back(std::move(record));
}

// What ends without being accepted is still in the outbox's file until its outcome is recorded: a
// crash before that sends it again, behind whatever had left meanwhile.
void Engine::Impl::hold_sends() {
    if (outbox_.is_durable()) send_.set_held(true);
}

void Engine::Impl::release_sends() {
    if (!send_.is_held()) return;
    const bool is_all_accepted = std::all_of(
        outcome_batch_.begin(), outcome_batch_.end(),
        [](const OutcomeRecord& record) { return record.outcome == Outcome::kAccepted; });
    if (is_all_accepted) send_.set_held(false);
}

void Engine::Impl::commit_outcomes() {
    if (is_recording_outcomes_ || outcome_batch_.empty()) return;
    is_recording_outcomes_ = true;
    recording_outcomes_.swap(outcome_batch_);
    if (outbox_.keeps_nothing()) {
        on_outcomes_recorded({});
        return;
    }
    auto done = answer_to([this](std::error_code error) { on_outcomes_recorded(error); });
    outbox_.record_outcomes(recording_outcomes_, std::move(done));
}

void Engine::Impl::on_outcomes_recorded(std::error_code error) {
    is_recording_outcomes_ = false;
    if (error) {
        // Told all the same: a crash now would send them again, and the dedup key absorbs that.
        report_now_and_then(store_error_told_at_, static_cast<int>(Errc::kSendFailed),
                            "the outbox cannot record outcomes: " + error.message());
    }
    for (OutcomeRecord& record : recording_outcomes_) push(OutcomeEvent{std::move(record), false});
    recording_outcomes_.clear();
    push_corrections();
    release_sends();
}

void Engine::Impl::commit_removals() {
    if (!removals_.empty()) outbox_.remove_outcomes(std::exchange(removals_, {}));
}

void Engine::Impl::finish(SendDone&& done, Result<Fingerprint> result) {
    if (done) dones_.emplace_back(std::move(done), std::move(result));
}

}  // namespace petrel
