// The messages of a session: from the client into the store, from the inbox to the client.

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "core/gateway/close_codes.hpp"
#include "core/gateway/session.hpp"

namespace petrel {
namespace {

std::string_view refusal_text(int code) { return describe(code); }

// Of the same conversation and sender.
std::vector<Handled>::iterator find_same(std::vector<Handled>& all, const std::string& conv,
                                         const std::string& sender) {
    return std::find_if(all.begin(), all.end(), [&](const Handled& each) {
        return each.conv == conv && each.sender == sender;
    });
}

Data to_data(const Delivery& delivery) {
    const StoredMessage& message = *delivery.message;
    Data data;
    data.from = message.from;
    data.to = message.to;
    data.fp = message.fp;
    data.qos = true;
    data.typeu = message.typeu;
    data.bridge = message.bridge;
    data.send_ts = message.send_ts;
    data.text = message.text;
    data.seq = delivery.seq;
    data.conv = message.conv;
    data.cseq = message.cseq;
    return data;
}

}  // namespace

// ---- in ----

void Session::handle(Data& data, std::string_view text) {
    if (state_ != State::kOnline) return refuse_before_login(text);
    if (is_v1() && data.h) {
        if (!send_->on_ack(*data.h, {})) return violate("h is above what was pushed");
        report_handled();
    }
    if (!is_within_rate(data, text)) return;
    if (!data.qos) return forward_direct(data, text);
    if (is_v1()) {
        take_v1(data, text.size());
    } else {
        take_plain(data, text);
    }
}

// Whether the session may send now (PROTOCOL.md sections 4.7 and 4.8).
bool Session::is_within_rate(const Data& data, std::string_view text) {
    const bool is_repeated = is_v1() && data.qos && data.seq != 0 && data.seq <= receive_.rx();
    if (is_repeated) return true;  // Acked again, no more.
    if (now() >= paused_until_) {
        if (message_rate_.take(now(), options_.message_rate)) return true;
        // Half a bucket at a time: who is let go on for one message asks again for each.
        paused_until_ = now() + message_rate_.time_until((options_.message_rate.burst + 1) / 2,
                                                         now(), options_.message_rate);
        in_pause_ = 0;
        tell_pause(data, text);
        return false;
    }
    // What was under way when it was told is at most what the windows let out.
    if (++in_pause_ > 2 * std::size_t{options_.window}) {
        close(kCloseRateLimit, "told to pause, and went on");
        return false;
    }
    const Position before = data.prev.value_or(data.seq - 1);
    const bool is_behind_another = is_v1() && data.qos && before > receive_.rx();
    if (!is_behind_another) tell_pause(data, text);
    return false;
}

void Session::tell_pause(const Data& data, std::string_view text) {
    ++counters_.rate_limited;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(paused_until_ - now());
    send_error(static_cast<int>(Errc::kBusy),
               is_v1() ? "too many messages, go on after the pause" : std::string(text), data.fp,
               data.qos ? data.seq : 0, left.count());
}

// What speaks against a message, whatever the store knows of its fingerprint; 0: nothing.
int Session::objection(const Data& data) const {
    const bool is_own_name =
        data.from.empty() || data.from == kNobody || data.from == identity_.user.user;
    if (!is_own_name) return static_cast<int>(Errc::kNotAllowed);
    if (data.to.empty() || data.to == kNobody) return static_cast<int>(Errc::kInvalidPacket);
    if (data.typeu == kTypeuGroup) return static_cast<int>(Errc::kNoSuchGroup);
    if (data.text.size() > options_.payload_max) return static_cast<int>(Errc::kTooLarge);
    return 0;
}

// Without QoS: to those online, at most once, nothing is kept.
void Session::forward_direct(Data& data, std::string_view text) {
    if (const int code = objection(data); code != 0) {
        ++counters_.refused;
        return send_error(code, is_v1() ? std::string(refusal_text(code)) : std::string(text),
                          data.fp, 0, {});
    }
    Data out;
    out.from = identity_.user.user;
    out.to = std::move(data.to);
    out.fp = std::move(data.fp);
    out.typeu = data.typeu;
    out.bridge = data.bridge;
    out.send_ts = router_.wall_ms();
    out.text = std::move(data.text);
    const UserKey to{identity_.user.app, out.to};
    router_.send_direct(to, std::move(out));
}

void Session::take_v1(Data& data, std::size_t frame_bytes) {
    if (data.fp.empty() || data.seq == 0) {
        return send_error(static_cast<int>(Errc::kInvalidPacket),
                          "a message with QoS needs a fingerprint and a position", data.fp,
                          data.seq, {});
    }
    const Position rx_before = receive_.rx();
    if (refused_ && data.seq > rx_before && data.seq <= refused_->seq) {
        return send_error(refused_->code, std::string(refusal_text(refused_->code)), refused_->fp,
                          refused_->seq, {});
    }
    const auto verdict = receive_.on_data(data.seq, data.prev);
    if (verdict == QosReceiveDaemon::Verdict::kDuplicate) ++counters_.duplicates;
    if (verdict != QosReceiveDaemon::Verdict::kTake) return;
    if (refused_ && receive_.rx() > refused_->seq) refused_.reset();
    trace("received", data);

    PendingAppend pending;
    pending.seq = data.seq;
    pending.rx_before = rx_before;
    pending.bytes = frame_bytes;
    const Fingerprint fp = data.fp;
    const Position seq = data.seq;
    // Twice the window: a client may free its place of a message that expired under way.
    const bool has_room = pending_.size() < 2 * std::size_t{options_.window} &&
                          (pending_.empty() ||
                           pending_bytes_ + frame_bytes <= 2 * std::size_t{options_.window_bytes});
    if (has_room && hand_to_store(data, std::move(pending))) return;
    receive_.rewind(rx_before);
    send_error(static_cast<int>(Errc::kBusy), "busy, try again later", fp, seq,
               options_.busy_retry_ms);
}

void Session::take_plain(Data& data, std::string_view text) {
    PendingAppend pending;
    pending.bytes = text.size();
    pending.plain = std::make_unique<PlainAnswer>();
    pending.plain->wants_ack = !data.fp.empty();
    pending.plain->bridge = data.bridge;
    pending.plain->to = data.to;
    pending.plain->refused_text = text;
    if (data.fp.empty()) data.fp = host_.fingerprints().next();
    trace("received", data);
    const bool has_room =
        pending_.size() < options_.plain_pending_max &&
        (pending_.empty() || pending_bytes_ + text.size() <= options_.window_bytes);
    if (has_room && hand_to_store(data, std::move(pending))) return;
    send_error(static_cast<int>(Errc::kBusy), std::string(text), {}, 0, {});
}

bool Session::hand_to_store(Data& data, PendingAppend pending) {
    pending.take = take_;
    AppendRequest request;
    request.refusal = objection(data);
    request.ticket = id_;
    if (is_v1()) {
        request.stream = stream_;
        request.seq = data.seq;
        // Not the client's: what was taken before it must be accepted, too, or be sent again.
        request.prev = pending.rx_before;
        request.told = receive_.h();
    }
    request.message = std::make_shared<StoredMessage>();
    StoredMessage& message = *request.message;
    message.app = identity_.user.app;
    message.from = identity_.user.user;
    message.to = std::move(data.to);
    message.fp = std::move(data.fp);
    message.typeu = data.typeu;
    message.bridge = data.bridge;
    message.text = std::move(data.text);
    if (!router_.append(std::move(request))) return false;
    pending_bytes_ += pending.bytes;
    pending_.push_back(std::move(pending));
    return true;
}

void Session::on_append_result(const AppendResult& result) {
    if (state_ != State::kOnline || pending_.empty()) return;
    const PendingAppend pending = std::move(pending_.front());
    assert(pending.seq == result.seq);
    pending_.pop_front();
    pending_bytes_ -= pending.bytes;
    switch (result.fate) {
        case AppendResult::Fate::kAccepted: ++counters_.accepted; break;
        case AppendResult::Fate::kDuplicate:
            ++counters_.duplicates;
            trace("duplicate", result);
            break;
        case AppendResult::Fate::kRefused:
            ++counters_.refused;
            trace("refused", result);
            break;
        case AppendResult::Fate::kFailed: ++counters_.failed; break;
        case AppendResult::Fate::kNotTaken: break;
    }
    if (is_v1()) {
        on_result_v1(result, pending);
    } else {
        on_result_plain(result, pending);
    }
    if (state_ == State::kOnline) host_.want_flush(*this);
}

void Session::on_result_v1(const AppendResult& result, const PendingAppend& pending) {
    // Behind a refused or failed one: the store did not take it, the client sends it again.
    if (pending.take != take_) return;
    switch (result.fate) {
        case AppendResult::Fate::kAccepted:
        case AppendResult::Fate::kDuplicate:
            accepted_.push_back(Acceptance{result.cseq, result.send_ts, result.seq});
            receive_.on_handled(result.seq);
            return;
        case AppendResult::Fate::kRefused:
            ++take_;
            receive_.rewind(pending.rx_before);
            refused_ = Refused{result.seq, result.fp, result.code};
            send_error(result.code, std::string(refusal_text(result.code)), result.fp, result.seq,
                       {});
            return;
        case AppendResult::Fate::kFailed:
            ++take_;
            receive_.rewind(pending.rx_before);
            send_error(static_cast<int>(Errc::kBusy), "the message store cannot write now",
                       result.fp, result.seq, options_.busy_retry_ms);
            return;
        case AppendResult::Fate::kNotTaken:
            // Two devices with one stream, say: only a login can tell both ends where it stands.
            log(LogLevel::kWarning, "the store's stream position differs from the session's");
            return close(kCloseGoingAway, "the outbox stream stands elsewhere, log in again");
    }
}

void Session::on_result_plain(const AppendResult& result, const PendingAppend& pending) {
    switch (result.fate) {
        case AppendResult::Fate::kAccepted:
        case AppendResult::Fate::kDuplicate: {
            if (!pending.plain->wants_ack) return;
            Ack ack;
            ack.fp = result.fp;
            ack.from = profile_ == ProfileId::kMobileImSdk ? pending.plain->to : kServerUser;
            ack.to = identity_.user.user;
            ack.bridge = pending.plain->bridge;
            ++counters_.acks_out;
            send(Packet(std::move(ack)));
            return;
        }
        case AppendResult::Fate::kRefused:
            return send_error(result.code, pending.plain->refused_text, {}, 0, {});
        case AppendResult::Fate::kFailed:
        case AppendResult::Fate::kNotTaken:
            return send_error(static_cast<int>(Errc::kBusy), pending.plain->refused_text, {}, 0,
                              {});
    }
}

void Session::on_ack_due(const QosReceiveDaemon::AckDue& due) {
    Ack ack;
    ack.h = due.h;
    ack.rx = due.rx;
    ack.gap = due.gap;
    ack.acc = std::move(accepted_);
    accepted_.clear();
    ack.to = identity_.user.user;
    ++counters_.acks_out;
    send(Packet(std::move(ack)));
}

void Session::send_error(int code, std::string message, const Fingerprint& fp, Position seq,
                         std::optional<std::int64_t> retry_after_ms) {
    counters_.errors.add(code);
    ErrorPacket error;
    error.code = code;
    error.message = std::move(message);
    error.to = state_ == State::kOnline ? identity_.user.user : kNobody;
    if (is_v1()) {
        error.fp = fp;
        if (seq != 0) error.seq = seq;
        error.retry_after_ms = retry_after_ms;
    }
    send(Packet(std::move(error)));
}

// ---- out ----

void Session::on_delivery(const Delivery& delivery) {
    if (state_ != State::kOnline || (is_v1() && client_window_ == 0)) return;
    feed_.on_delivery(delivery);
    host_.want_flush(*this);
}

void Session::on_page(const ReadResult& page) {
    if (state_ != State::kOnline) return;
    if (page.error) {
        feed_.on_page_failed();
        return;
    }
    if (!feed_.on_page(page)) {
        // Retention took what this session had still to get: the next login says so.
        return close(kCloseGoingAway, "older messages are gone, log in again");
    }
    host_.want_flush(*this);
}

void Session::push() {
    if (state_ != State::kOnline || (is_v1() && client_window_ == 0)) return;
    while (const Delivery* const next = feed_.front()) {
        if (!send_->has_room(next->message->text.size())) break;
        // A plain client's ack names only a fingerprint: two senders' equal ones go one by one.
        if (send_->submit(to_data(*next), std::nullopt)) break;
        feed_.pop();
    }
    if (!feed_.wants_page()) return;
    ReadRequest request;
    request.ticket = id_;
    request.app = identity_.user.app;
    request.user = identity_.user.user;
    request.after = feed_.page_after();
    if (router_.read(std::move(request))) feed_.on_page_requested();
}

// The client has handled it. The cursor follows, and the sender may be told.
void Session::on_accepted(const QosSendDaemon::Settled& settled, const Acceptance*) {
    const Data& message = settled.message;
    ++counters_.handled;
    if (is_v1()) return add_handled(message.seq, message.from, message.conv, message.cseq);
    router_.advance(
        CursorUpdate{identity_.user.app, identity_.user.user, identity_.device, true, message.seq});
    Handled handled{identity_.user, message.seq, message.from, message.conv, message.cseq};
    if (complete(handled)) {
        add_handled(handled.seq, handled.sender, handled.conv, handled.cseq);
    }
}

void Session::add_handled(Position seq, const std::string& sender, const std::string& conv,
                          std::uint64_t cseq) {
    const auto same = find_same(handled_, conv, sender);
    if (same == handled_.end()) {
        handled_.push_back(Handled{identity_.user, seq, sender, conv, cseq});
    } else {
        same->seq = std::max(same->seq, seq);
        same->cseq = std::max(same->cseq, cseq);
    }
}

// A receipt says that everything up to it was handled, and plain acks come in any order: raises
// `handled` to what was held back, or holds it back while a lower one of its conversation is
// unacked. Held back are at most as many conversations as are in flight.
bool Session::complete(Handled& handled) {
    std::optional<std::uint64_t> open;  // The lowest.
    send_->for_each_kept([&](const Data& kept, unsigned) {
        if (kept.conv != handled.conv || kept.from != handled.sender) return;
        open = std::min(kept.cseq, open.value_or(kept.cseq));
    });
    const auto held = find_same(held_back_, handled.conv, handled.sender);
    if (open && *open < handled.cseq) {
        if (held == held_back_.end()) {
            held_back_.push_back(handled);
        } else if (held->cseq < handled.cseq) {
            *held = handled;
        }
        return false;
    }
    if (held != held_back_.end() && (!open || held->cseq < *open)) {
        if (held->cseq > handled.cseq) handled = std::move(*held);
        held_back_.erase(held);
    }
    return true;
}

void Session::report_handled() {
    if (handled_.empty()) return;
    std::vector<Handled> handled = std::move(handled_);
    handled_.clear();
    // In inbox order: the home counts upwards.
    std::sort(handled.begin(), handled.end(),
              [](const Handled& a, const Handled& b) { return a.seq < b.seq; });
    const Position highest = handled.back().seq;
    if (is_v1()) {
        router_.advance(CursorUpdate{identity_.user.app, identity_.user.user, identity_.device,
                                     false, highest});
    }
    if (TraceSink* const sink = router_.trace()) {
        TraceEvent event = trace_event("handled");
        event.h = highest;
        sink->on_trace(event);
    }
    for (Handled& item : handled) router_.handled(std::move(item));
    host_.want_flush(*this);
}

void Session::on_direct(const Data& data) {
    if (state_ != State::kOnline) return;
    if (host_.queued_bytes() >= options_.push_bytes_max) {
        ++counters_.direct_dropped;
        return;
    }
    send(Packet(data));
    host_.want_flush(*this);
}

void Session::on_receipt(const Receipt& receipt) {
    if (state_ != State::kOnline || !is_v1()) return;
    Receipt out = receipt;
    out.to = identity_.user.user;
    send(Packet(std::move(out)));
    host_.want_flush(*this);
}

}  // namespace petrel
