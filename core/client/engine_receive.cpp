#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "core/client/engine_impl.hpp"

// The Engine's inbox. A position is taken (rx), stored (by the Inbox), handed up, handled (the app
// is done with it), recorded (by the Inbox), said (`h`): in this order, each of them a height.

namespace petrel {

namespace {

// After the inbox failed: a full disk may have room again.
constexpr std::chrono::seconds kInboxRetry{2};

}  // namespace

// ---- sessions ----

void Engine::Impl::load_inbox() {
    if (const auto cursor = inbox_.cursor()) {
        epoch_ = cursor->epoch;
        taken_ = cursor->seq;
        stored_ = cursor->seq;
        handled_ = cursor->seq;
    }
    for (InboxMessage& message : inbox_.load_unhandled()) {
        Unhandled entry;
        const bool is_of_this_era = message.epoch == epoch_ && message.data.seq <= taken_;
        entry.era = is_of_this_era ? era_ : 0;
        entry.seq = message.data.seq;
        if (is_of_this_era) handled_ = std::min(handled_, entry.seq - 1);
        hand_up(message.data, std::move(entry), message.epoch, true);
    }
    recorded_ = said_ = handled_;
}

void Engine::Impl::resume_inbox(const InboxResume& resume) {
    const auto& sent = connection_.cursor_sent;
    // What lies behind the cursor has been taken: whatever is pushed of it again is known. Anything
    // else is another run of positions, of which nothing was taken.
    const bool is_same_era =
        !epoch_.empty() && resume.epoch == epoch_ && resume.recovered && resume.seq <= taken_;
    if (!is_same_era) {
        ++era_;
        epoch_ = resume.epoch;
        taken_ = stored_ = handled_ = recorded_ = said_ = resume.seq;
        inbox_.on_resume(epoch_, resume.seq);
        if (sent || !resume.recovered) {
            push(BreakEvent{BreakEvent::Side::kInbox, epoch_, resume.seq});
        }
    } else {
        said_ = 0;  // The last ack of the connection before may be lost.
    }
    dropped_ = 0;
    receive_.on_online(resume.seq, options_.window, recorded_);
    say_handled();
}

// ---- taking ----

bool Engine::Impl::has_inbox_room(std::size_t more) const {
    return !inbox_retry_timer_.is_running() &&
           unhandled_.size() + inbox_batch_.size() + appending_inbox_ + more <=
               options_.unhandled_max;
}

void Engine::Impl::take_position(Data& data) {
    if (data.seq > receive_.rx() && !has_inbox_room(1)) {
        // As if the network had lost it: asked for again when there is room.
        dropped_ = std::max(dropped_, data.seq);
        return;
    }
    if (data.prev && *data.prev <= receive_.rx() && data.seq > taken_ + 1) {
        // The gateway skips what it has no more. What comes before must be stored first: if that
        // fails, the inbox must not stand behind it.
        commit_inbox(true);
        if (inbox_appends_ > 0) {
            dropped_ = std::max(dropped_, data.seq);
            return;
        }
    }
    if (receive_.on_data(data.seq, data.prev) != QosReceiveDaemon::Verdict::kTake) return;
    relogin_.on_progress();
    if (data.seq <= taken_) {
        ++counts_.duplicates;  // Of an earlier session.
        tell_handled();
        return;
    }
    // The inbox wants dense positions.
    if (data.seq != taken_ + 1) inbox_.on_resume(epoch_, data.seq - 1);
    taken_ = data.seq;
    inbox_batch_.push_back(std::move(data));
}

void Engine::Impl::take_plain(Data& data) {
    relogin_.on_progress();
    if (data.fp.empty()) {
        hand_up_unacked(data);  // There is nothing to ack it with.
        return;
    }
    ack_bridge_ = data.bridge;
    if (receive_.on_data(data.from, data.fp) != QosReceiveDaemon::Verdict::kTake) return;
    if (!has_inbox_room(1)) {
        receive_.forget(data.from, data.fp);  // It will be sent again.
        return;
    }
    Unhandled entry;
    entry.from = data.from;
    entry.fp = data.fp;
    entry.bridge = data.bridge;
    hand_up(data, std::move(entry), {}, false);
}

void Engine::Impl::ask_again_for_dropped() {
    if (dropped_ == 0 || !is_online() || !is_v1()) return;
    // With half the room free, so that one round trip brings more than one message.
    if (!has_inbox_room((options_.unhandled_max + 1) / 2)) return;
    receive_.on_sent_mark(std::exchange(dropped_, 0));
}

// ---- storing ----

void Engine::Impl::commit_inbox(bool even_if_busy) {
    if (inbox_batch_.empty() || (inbox_appends_ > 0 && !even_if_busy)) return;
    auto batch = std::make_shared<std::vector<Data>>(std::exchange(inbox_batch_, {}));
    std::vector<Data> copies;
    if (inbox_.is_durable()) {
        copies = *batch;
    } else {
        // All that a cursor is made of.
        copies.resize(batch->size());
        for (std::size_t i = 0; i < batch->size(); ++i) {
            copies[i].seq = (*batch)[i].seq;
            copies[i].fp = (*batch)[i].fp;
        }
    }
    ++inbox_appends_;
    appending_inbox_ += batch->size();
    inbox_.append(std::move(copies),
                  answer_to([this, batch, era = era_, epoch = epoch_](std::error_code error) {
                      on_stored(error, era, epoch, *batch);
                  }));
}

void Engine::Impl::on_stored(std::error_code error, std::uint64_t era, const std::string& epoch,
                             std::vector<Data>& batch) {
    --inbox_appends_;
    appending_inbox_ -= batch.size();
    if (error) {
        // Of an earlier era: the break has been told, and nothing here counts on those positions.
        if (era == era_) on_inbox_failed(error);
        return;
    }
    // Behind a batch that failed: it is asked for again.
    if (era == era_ && batch.front().seq > taken_) return;
    // Also when the session that brought it is over: it was taken, and comes only once.
    for (Data& data : batch) {
        if (era == era_) stored_ = std::max(stored_, data.seq);
        Unhandled entry;
        entry.era = era;
        entry.seq = data.seq;
        hand_up(data, std::move(entry), epoch, false);
    }
    ask_again_for_dropped();
}

// Nothing behind `stored_` was taken after all: it is left with the gateway until the inbox works.
void Engine::Impl::on_inbox_failed(std::error_code error) {
    report_now_and_then(store_error_told_at_, static_cast<int>(Errc::kSendFailed),
                        "the inbox cannot store messages: " + error.message());
    dropped_ = std::max(dropped_, taken_);
    inbox_batch_.clear();
    taken_ = stored_;
    receive_.rewind(stored_);
    inbox_retry_timer_.start(kInboxRetry);
}

// ---- handing up ----

void Engine::Impl::hand_up(Data& data, Unhandled entry, const std::string& epoch,
                           bool is_redelivered) {
    MessageEvent& event = add_message_event(data);
    event.epoch = epoch;
    event.seq = data.seq;
    event.is_redelivered = is_redelivered;
    entry.id = event.id;
    unhandled_.push_back(std::move(entry));
}

MessageEvent& Engine::Impl::add_message_event(Data& data) {
    auto& event = std::get<MessageEvent>(events_.emplace_back(std::in_place_type<MessageEvent>));
    event.id = ++last_message_id_;
    event.from = std::move(data.from);
    event.to = std::move(data.to);
    event.fp = std::move(data.fp);
    event.qos = data.qos;
    event.typeu = data.typeu;
    event.conv = std::move(data.conv);
    event.cseq = data.cseq;
    event.send_ts = data.send_ts;
    event.text = std::move(data.text);
    return event;
}

// Without QoS: nobody waits for an ack, and nobody sends it again.
void Engine::Impl::hand_up_unacked(Data& data) {
    if (unacked_events_ >= options_.unhandled_max) {
        ++counts_.ignored;
        return;
    }
    ++unacked_events_;
    add_message_event(data);
}

// ---- handled ----

std::error_code Engine::Impl::confirm(TimePoint now, std::uint64_t message_id) {
    const Input input(*this, now);
    if (message_id == 0 || message_id > last_message_id_) return Errc::kUnknown;
    const auto entry = find_unhandled(message_id);
    if (entry == unhandled_.end() || entry->is_handled) return {};
    const bool is_ahead = entry != unhandled_.begin();
    if (is_ahead && confirmed_ahead_ >= options_.confirm_ahead_max) return Errc::kSendFailed;
    set_handled(entry);
    return {};
}

std::deque<Engine::Impl::Unhandled>::iterator Engine::Impl::find_unhandled(std::uint64_t id) {
    // The app mostly takes them in order.
    if (!unhandled_.empty() && unhandled_.front().id == id) return unhandled_.begin();
    const auto found = std::lower_bound(
        unhandled_.begin(), unhandled_.end(), id,
        [](const Unhandled& entry, std::uint64_t wanted) { return entry.id < wanted; });
    return found != unhandled_.end() && found->id == id ? found : unhandled_.end();
}

void Engine::Impl::set_handled(const std::deque<Unhandled>::iterator& entry) {
    if (entry->is_handled) return;
    entry->is_handled = true;
    ++confirmed_ahead_;
    if (!entry->fp.empty()) {
        ack_bridge_ = entry->bridge;
        receive_.on_handled(entry->from, entry->fp);
    }
    while (!unhandled_.empty() && unhandled_.front().is_handled) {
        const Unhandled& first = unhandled_.front();
        if (first.seq != 0) ++unrecorded_;
        if (first.seq != 0 && first.era == era_) handled_ = std::max(handled_, first.seq);
        unhandled_.pop_front();
        --confirmed_ahead_;
    }
    ask_again_for_dropped();
}

// Once a turn: with a file each of them is a commit.
void Engine::Impl::record_handled() {
    if (unrecorded_ == 0 || is_recording_handled_) return;
    is_recording_handled_ = true;
    inbox_.record_handled(unrecorded_, answer_to([this, era = era_, seq = handled_,
                                                  count = unrecorded_](std::error_code error) {
                              on_handled_recorded(error, era, seq, count);
                          }));
}

void Engine::Impl::on_handled_recorded(std::error_code error, std::uint64_t era, Position seq,
                                       std::size_t count) {
    is_recording_handled_ = false;
    if (error) {
        // The next turn tries again; until then nothing of it is acked.
        report_now_and_then(store_error_told_at_, static_cast<int>(Errc::kSendFailed),
                            "the inbox cannot record what was handled: " + error.message());
        return;
    }
    unrecorded_ -= count;
    if (era != era_) return;
    recorded_ = std::max(recorded_, seq);
    tell_handled();
}

void Engine::Impl::tell_handled() {
    if (is_online() && is_v1()) receive_.on_handled(std::min(recorded_, receive_.rx()));
}

// At once, if the gateway doesn't know yet: the session begins, or ends.
void Engine::Impl::say_handled() {
    if (!is_v1() || receive_.h() <= said_) return;
    Ack ack;
    ack.h = receive_.h();
    said_ = receive_.h();
    send(Packet(std::move(ack)));
}

void Engine::Impl::on_ack_due(const QosReceiveDaemon::AckDue& due) {
    Ack ack;
    ack.h = due.h;
    ack.rx = due.rx;
    ack.gap = due.gap;
    said_ = std::max(said_, due.h);
    send(Packet(std::move(ack)));
}

void Engine::Impl::on_ack_due(std::string_view sender, const Fingerprint& fp) {
    Ack ack;
    ack.fp = fp;
    ack.from = options_.user;
    ack.to = sender;
    ack.bridge = ack_bridge_;
    send(Packet(std::move(ack)));
}

}  // namespace petrel
