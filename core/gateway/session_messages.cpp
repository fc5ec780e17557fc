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

QosReceiveDaemon::Options receive_options() {
    QosReceiveDaemon::Options options;
    options.ack_delay_max = Duration::zero();  // What a commit brought is acked in the same turn.
    return options;
}

}  // namespace

// ---- traffic ----

QosSendDaemon::Options Session::send_options() const {
    QosSendDaemon::Options options;
    options.assigns_positions = false;
    options.strategy =
        is_v1() ? QosSendDaemon::Strategy::kPositions : QosSendDaemon::Strategy::kFingerprints;
    options.window_packets_max = is_v1() ? client_window_ : options_.plain_window;
    options.window_bytes_max = is_v1() ? client_window_bytes_ : options.window_bytes_max;
    options.kept_max = std::max<std::size_t>(1, options.window_packets_max);
    options.check_period = options_.plain_check_period;
    options.retry_not_younger = options_.plain_retry_not_younger;
    options.retries = std::nullopt;
    return options;
}

Session::Traffic::Traffic(Session& session, const Rest& rest)
    : send(session, session, session.send_options()),
      receive(session, session, receive_options()),
      feed(session.options_.feed) {
    const QosSendDaemon::Options options = session.send_options();
    send.on_online({rest.inbox, options.window_packets_max, options.window_bytes_max});
    send.set_writable(!session.is_socket_full());
    if (session.is_v1()) {
        receive.on_online(rest.taken, session.options_.window);
        stream = std::make_shared<const std::string>(session.identity_->stream());
    }
    feed.start(rest.inbox, rest.inbox, {});
    past.after = past.to = session.handled_;
}

Session::Traffic& Session::traffic() {
    if (!traffic_) traffic_ = std::make_unique<Traffic>(*this, rest_);
    return *traffic_;
}

// Whether one made anew would go on in the same way.
bool Session::is_traffic_over(TimePoint now) const {
    const Traffic& traffic = *traffic_;
    const bool is_pause_over = traffic.message_rate.is_full(now) && traffic.paused_until <= now;
    const bool is_all_taken = traffic.pending.empty() && !traffic.refused &&
                              traffic.accepted.empty() && traffic.receive.is_at_rest();
    const bool is_all_pushed = traffic.send.kept() == 0 && traffic.handled.empty() &&
                               traffic.held_back.empty() && traffic.past.is_over() &&
                               (traffic.feed.is_at_rest() || !is_receiving());
    return is_pause_over && is_all_taken && is_all_pushed && host_.queued_bytes() == 0;
}

void Session::rest_if_traffic_is_over() {
    if (!traffic_ || !is_traffic_over(now())) return;
    rest_.taken = traffic_->receive.rx();
    assert(!is_v1() || !is_receiving() || traffic_->send.highest_acked() == traffic_->feed.last());
    rest_.inbox = traffic_->feed.last();
    traffic_.reset();
    slow_.reset();
}

// ---- in ----

void Session::handle(Data& data, std::string_view text) {
    if (state_ != State::kOnline) return refuse_before_login(text);
    if (is_v1() && data.h && !on_handled_up_to(*data.h)) return;
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
    Traffic& traffic = this->traffic();
    const Position rx = traffic.receive.rx();
    const bool is_repeated = is_v1() && data.qos && data.seq != 0 && data.seq <= rx;
    if (is_repeated) return true;  // Acked again, no more.
    if (now() >= traffic.paused_until) {
        RateLimit& rate = traffic.message_rate;
        if (rate.take(now(), options_.message_rate)) return true;
        // Half a bucket at a time: who is let go on for one message asks again for each.
        traffic.paused_until = now() + rate.time_until((options_.message_rate.burst + 1) / 2, now(),
                                                       options_.message_rate);
        traffic.in_pause = 0;
        tell_pause(data, text);
        return false;
    }
    // What was under way when it was told is at most what the windows let out.
    if (++traffic.in_pause > 2 * std::size_t{options_.window}) {
        close(kCloseRateLimit, "told to pause, and went on");
        return false;
    }
    const Position before = data.prev.value_or(data.seq - 1);
    const bool is_behind_another = is_v1() && data.qos && before > rx;
    if (!is_behind_another) tell_pause(data, text);
    return false;
}

void Session::tell_pause(const Data& data, std::string_view text) {
    ++counters_.rate_limited;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(traffic_->paused_until - now());
    send_error(static_cast<int>(Errc::kBusy),
               is_v1() ? "too many messages, go on after the pause" : std::string(text), data.fp,
               data.qos ? data.seq : 0, left.count());
}

// What speaks against a message, whatever the store knows of its fingerprint; 0: nothing.
int Session::objection(const Data& data) const {
    const bool is_own_name =
        data.from.empty() || data.from == kNobody || data.from == identity_->user();
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
    out.from = identity_->user();
    out.to = std::move(data.to);
    out.fp = std::move(data.fp);
    out.typeu = data.typeu;
    out.bridge = data.bridge;
    out.send_ts = router_.wall_ms();
    out.text = std::move(data.text);
    UserKey to{std::string(identity_->app()), out.to};
    router_.send_direct(std::move(to), std::move(out));
}

void Session::take_v1(Data& data, std::size_t frame_bytes) {
    if (data.fp.empty() || data.seq == 0) {
        return send_error(static_cast<int>(Errc::kInvalidPacket),
                          "a message with QoS needs a fingerprint and a position", data.fp,
                          data.seq, {});
    }
    Traffic& traffic = this->traffic();
    const Position rx_before = traffic.receive.rx();
    if (traffic.refused && data.seq > rx_before && data.seq <= traffic.refused->seq) {
        return send_error(traffic.refused->code, std::string(refusal_text(traffic.refused->code)),
                          traffic.refused->fp, traffic.refused->seq, {});
    }
    const auto verdict = traffic.receive.on_data(data.seq, data.prev);
    if (verdict == QosReceiveDaemon::Verdict::kDuplicate) ++counters_.duplicates;
    if (verdict != QosReceiveDaemon::Verdict::kTake) return;
    if (traffic.refused && traffic.receive.rx() > traffic.refused->seq) traffic.refused.reset();
    trace("received", data);

    PendingAppend pending;
    pending.seq = data.seq;
    pending.rx_before = rx_before;
    pending.bytes = frame_bytes;
    const Fingerprint fp = data.fp;
    const Position seq = data.seq;
    // Twice the window: a client may free its place of a message that expired under way.
    const bool has_room = traffic.pending.size() < 2 * std::size_t{options_.window} &&
                          (traffic.pending.empty() || traffic.pending_bytes + frame_bytes <=
                                                          2 * std::size_t{options_.window_bytes});
    if (has_room && hand_to_store(data, std::move(pending))) return;
    traffic.receive.rewind(rx_before);
    send_error(static_cast<int>(Errc::kBusy), "busy, try again later", fp, seq,
               options_.busy_retry_ms);
}

void Session::take_plain(Data& data, std::string_view text) {
    Traffic& traffic = this->traffic();
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
        traffic.pending.size() < options_.plain_pending_max &&
        (traffic.pending.empty() || traffic.pending_bytes + text.size() <= options_.window_bytes);
    if (has_room && hand_to_store(data, std::move(pending))) return;
    send_error(static_cast<int>(Errc::kBusy), std::string(text), {}, 0, {});
}

bool Session::hand_to_store(Data& data, PendingAppend pending) {
    pending.take = traffic_->take;
    AppendRequest request;
    request.refusal = objection(data);
    request.ticket = id_;
    if (is_v1()) {
        request.stream = traffic_->stream;
        request.seq = data.seq;
        // Not the client's: what was taken before it must be accepted, too, or be sent again.
        request.prev = pending.rx_before;
        request.told = traffic_->receive.h();
    }
    request.message = std::make_shared<StoredMessage>();
    StoredMessage& message = *request.message;
    message.app = identity_->app();
    message.from = identity_->user();
    message.to = std::move(data.to);
    message.fp = std::move(data.fp);
    message.typeu = data.typeu;
    message.bridge = data.bridge;
    message.text = std::move(data.text);
    if (!router_.append(std::move(request))) return false;
    traffic_->pending_bytes += pending.bytes;
    traffic_->pending.push_back(std::move(pending));
    return true;
}

void Session::on_append_result(const AppendResult& result) {
    if (state_ != State::kOnline || !traffic_ || traffic_->pending.empty()) return;
    const PendingAppend pending = std::move(traffic_->pending.front());
    assert(pending.seq == result.seq);
    traffic_->pending.pop_front();
    traffic_->pending_bytes -= pending.bytes;
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
    if (pending.take != traffic_->take) return;
    switch (result.fate) {
        case AppendResult::Fate::kAccepted:
        case AppendResult::Fate::kDuplicate:
            traffic_->accepted.push_back(Acceptance{result.cseq, result.send_ts, result.seq});
            traffic_->receive.on_handled(result.seq);
            return;
        case AppendResult::Fate::kRefused:
            ++traffic_->take;
            traffic_->receive.rewind(pending.rx_before);
            traffic_->refused = Refused{result.seq, result.fp, result.code};
            send_error(result.code, std::string(refusal_text(result.code)), result.fp, result.seq,
                       {});
            return;
        case AppendResult::Fate::kFailed:
            ++traffic_->take;
            traffic_->receive.rewind(pending.rx_before);
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
            ack.to = identity_->user();
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
    ack.acc = std::move(traffic_->accepted);
    traffic_->accepted.clear();
    ack.to = identity_->user();
    ++counters_.acks_out;
    send(Packet(std::move(ack)));
}

void Session::send_error(int code, std::string message, const Fingerprint& fp, Position seq,
                         std::optional<std::int64_t> retry_after_ms) {
    counters_.errors.add(code);
    ErrorPacket error;
    error.code = code;
    error.message = std::move(message);
    error.to = state_ == State::kOnline ? identity_->user() : std::string_view(kNobody);
    if (is_v1()) {
        error.fp = fp;
        if (seq != 0) error.seq = seq;
        error.retry_after_ms = retry_after_ms;
    }
    send(Packet(std::move(error)));
}

// ---- out ----

void Session::on_delivery(const Delivery& delivery) {
    if (state_ != State::kOnline || !is_receiving()) return;
    traffic().feed.on_delivery(delivery);
    host_.want_flush(*this);
}

void Session::on_page(const ReadResult& page) {
    if (state_ != State::kOnline || !traffic_) return;
    if (is_v1() && page.after < told_.seq) return on_past(page);
    InboxFeed& feed = traffic_->feed;
    if (page.error) {
        feed.on_page_failed();
        return;
    }
    if (!feed.on_page(page)) {
        // Retention took what this session had still to get: the next login says so.
        return close(kCloseGoingAway, "older messages are gone, log in again");
    }
    host_.want_flush(*this);
}

void Session::push() {
    read_past();
    if (!is_receiving()) return;
    QosSendDaemon& out = traffic_->send;
    InboxFeed& feed = traffic_->feed;
    while (const Delivery* const next = feed.front()) {
        if (!out.has_room(next->message->text.size())) break;
        // A plain client's ack names only a fingerprint: two senders' equal ones go one by one.
        if (out.submit(to_data(*next), std::nullopt)) break;
        feed.pop();
    }
    if (!feed.wants_page()) return;
    ReadRequest request;
    request.ticket = id_;
    request.app = identity_->app();
    request.user = identity_->user();
    request.after = feed.page_after();
    if (router_.read(std::move(request))) feed.on_page_requested();
}

CursorUpdate Session::cursor_update(bool is_plain, Position position) const {
    return {std::string(identity_->app()), std::string(identity_->user()),
            std::string(identity_->device()), is_plain, position};
}

// The client has handled it. The cursor follows, and the sender may be told.
void Session::on_accepted(const QosSendDaemon::Settled& settled, const Acceptance*) {
    const Data& message = settled.message;
    ++counters_.handled;
    if (is_v1()) return add_handled(message.seq, message.from, message.conv, message.cseq);
    router_.advance(cursor_update(true, message.seq));
    trace("handled", message);
    Handled handled{identity_->user_key(), message.seq, message.from, message.conv, message.cseq};
    if (complete(handled)) {
        add_handled(handled.seq, handled.sender, handled.conv, handled.cseq);
    }
}

void Session::add_handled(Position seq, const std::string& sender, const std::string& conv,
                          std::uint64_t cseq) {
    std::vector<Handled>& handled = traffic_->handled;
    const auto same = find_same(handled, conv, sender);
    if (same == handled.end()) {
        handled.push_back(Handled{identity_->user_key(), seq, sender, conv, cseq});
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
    traffic_->send.for_each_kept([&](const Data& kept, unsigned) {
        if (kept.conv != handled.conv || kept.from != handled.sender) return;
        open = std::min(kept.cseq, open.value_or(kept.cseq));
    });
    std::vector<Handled>& held_back = traffic_->held_back;
    const auto held = find_same(held_back, handled.conv, handled.sender);
    if (open && *open < handled.cseq) {
        if (held == held_back.end()) {
            held_back.push_back(handled);
        } else if (held->cseq < handled.cseq) {
            *held = handled;
        }
        return false;
    }
    if (held != held_back.end() && (!open || held->cseq < *open)) {
        if (held->cseq > handled.cseq) handled = std::move(*held);
        held_back.erase(held);
    }
    return true;
}

// What a v1 client says it has handled, with an ack, a message or a heartbeat. False: it cannot be,
// the session is over.
bool Session::on_handled_up_to(Position h) {
    const bool is_news = h > handled_;
    if (!traffic_ && !is_news && h <= rest_.inbox) return true;
    Traffic& traffic = this->traffic();
    if (!traffic.send.on_ack(h, {})) {
        violate("h is above what was pushed");
        return false;
    }
    if (is_news) {
        if (handled_ < told_.seq) traffic.past.end_at(std::min(h, told_.seq));
        handled_ = h;
        router_.advance(cursor_update(false, h));
    }
    TraceSink* const sink = router_.trace();
    if (sink != nullptr && (is_news || !traffic.handled.empty())) {
        TraceEvent event = trace_event("handled");
        event.h = h;
        sink->on_trace(event);
    }
    send_receipts();
    return true;
}

void Session::send_receipts() {
    std::vector<Handled> handled = std::exchange(traffic_->handled, {});
    // In inbox order: the home counts upwards.
    std::sort(handled.begin(), handled.end(),
              [](const Handled& a, const Handled& b) { return a.seq < b.seq; });
    for (Handled& item : handled) router_.handled(std::move(item));
}

void Session::read_past() {
    Past& past = traffic_->past;
    if (past.reading_to != 0 || past.is_over()) return;
    ReadRequest request;
    request.ticket = id_;
    request.app = identity_->app();
    request.user = identity_->user();
    request.after = past.after;
    request.messages_max = std::min<std::size_t>(request.messages_max, past.to - past.after);
    if (router_.read(std::move(request))) past.reading_to = past.to;
}

void Session::on_past(const ReadResult& page) {
    Past& past = traffic_->past;
    // Receipts are not kept: without the store these are not sent.
    const Position end = std::exchange(past.reading_to, 0);
    Position read = end;
    for (const Delivery& delivery : page.deliveries) {
        if (delivery.seq > end) break;
        read = delivery.seq;
        const StoredMessage& message = *delivery.message;
        add_handled(delivery.seq, message.from, message.conv, message.cseq);
    }
    past.after = std::max(past.after, read);
    send_receipts();
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
    out.to = identity_->user();
    send(Packet(std::move(out)));
    host_.want_flush(*this);
}

}  // namespace petrel
