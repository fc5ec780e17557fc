#include "daemons/qos_send.hpp"

#include <algorithm>
#include <cassert>

namespace petrel {

namespace {

// A check every 0 ms would keep the owner's timer queue spinning.
constexpr Duration kCheckPeriodMin = std::chrono::milliseconds{1};

// After a pause of the process acks may lie unread in the socket: a check that comes so late gives
// them a moment before it judges (PROTOCOL.md section 4.5).
constexpr Duration kLateAfter = std::chrono::seconds{1};
constexpr Duration kLateGrace = std::chrono::milliseconds{200};

// Slots have 31 bits in places; kept_max is far below, for want of memory.
constexpr std::size_t kKeptMax = 0x7fff'ffff;

std::size_t frame_bytes(std::size_t text_bytes) noexcept {
    return text_bytes + QosSendDaemon::kFrameOverhead;
}

bool is_lower(const Acceptance& a, const Acceptance& b) noexcept { return a.seq < b.seq; }

// Codes that name a message and still say nothing about its fate (section 4.7).
bool settles(int code) noexcept {
    return code != static_cast<int>(Errc::kLoginRequired) &&
           code != static_cast<int>(Errc::kBusy) && code != static_cast<int>(Errc::kTokenExpired);
}

}  // namespace

QosSendDaemon::QosSendDaemon(DaemonContext& context, Listener& listener, Options options)
    : context_(context),
      listener_(listener),
      options_(options),
      timer_(context.timers(), "qos-send", [this] { on_timer(); }),
      table_(context.now()) {
    options_.check_period = std::max(options_.check_period, kCheckPeriodMin);
    options_.kept_max = std::min(options_.kept_max, kKeptMax);
}

QosSendDaemon::~QosSendDaemon() = default;

// ---- the app's side ----

bool QosSendDaemon::is_given_positions() const noexcept {
    return options_.strategy == Strategy::kPositions && !options_.assigns_positions;
}

std::error_code QosSendDaemon::submit(Data&& message, std::optional<TimePoint> expires_at,
                                      unsigned attempts, std::optional<TimePoint> taken_at,
                                      bool is_fresh) {
    const bool is_given = is_given_positions();
    if (is_given ? message.seq <= given_ : message.fp.empty()) return Errc::kInvalidPacket;
    if (!is_given && !is_fresh && table_.find(message.fp) != kNoSlot) {
        return Errc::kFingerprintReused;
    }
    const std::size_t bytes = message.text.size();
    if (table_.size() >= options_.kept_max || kept_bytes_ > options_.kept_bytes_max ||
        bytes > options_.kept_bytes_max - kept_bytes_) {
        return Errc::kSendFailed;
    }

    if (is_given) given_ = message.seq;
    // From now on an ack speaks of this message, not of a lost one of the same name.
    if (!is_given && !is_fresh) forget_lost(message.fp);
    const TimePoint taken = taken_at.value_or(context_.now());
    const Slot added = table_.add(std::move(message), taken);
    if (is_given) table_.make_sent(added).position = given_;
    if (attempts > 0) table_.make_sent(added).attempts = attempts;
    if (expires_at) table_.set_expiry(added, *expires_at);
    if (table_.expiry(added) > saturating_add(taken, age_limit_)) age_limit_ = Duration::max();
    kept_bytes_ += bytes;
    if (next_ == kNoSlot) next_ = added;
    if (fresh_ == kNoSlot) fresh_ = added;
    settle();
    return {};
}

void QosSendDaemon::limit_age(Duration age_max) {
    if (age_max >= age_limit_) return;
    age_limit_ = age_max;
    for (Slot slot = table_.front(); slot != kNoSlot; slot = table_.next(slot)) {
        const TimePoint latest = saturating_add(table_.taken_at(slot), age_max);
        if (table_.expiry(slot) > latest) table_.set_expiry(slot, latest);
    }
    settle();
}

bool QosSendDaemon::cancel(const Fingerprint& fp, unsigned* attempts) {
    const Slot found = is_given_positions() ? kNoSlot : table_.find(fp);
    if (found == kNoSlot) return false;
    if (attempts != nullptr) *attempts = this->attempts(found);
    SlotList cancelled;
    detach(found, cancelled);
    table_.free(found);
    settle();
    return true;
}

void QosSendDaemon::drop_all() {
    while (!table_.empty()) {
        SlotList dropped;
        table_.detach(table_.front(), dropped);
        table_.free(dropped.front);
    }
    next_ = kNoSlot;
    fresh_ = kNoSlot;
    in_flight_ = 0;
    in_flight_bytes_ = 0;
    kept_bytes_ = 0;
    settle();
}

std::optional<Data> QosSendDaemon::find(const Fingerprint& fp) {
    const Slot found = is_given_positions() ? kNoSlot : table_.find(fp);
    if (found == kNoSlot) return std::nullopt;
    Data scratch;
    const Data& message = table_.message(found, scratch);
    if (&message == &scratch) return scratch;  // Moved, as the name of a local is.
    return message;
}

// ---- sessions ----

void QosSendDaemon::on_online(const Resume& resume) {
    on_offline();
    const bool has_positions = options_.strategy == Strategy::kPositions;
    if (has_positions && options_.assigns_positions && resume.accepted > given_) {
        context_.log(LogLevel::kWarning, "qos-send: the peer knows more than was ever sent");
        start_new_stream();
        listener_.on_new_stream_wanted();
        return;
    }

    SlotList accepted;
    const Position first = acked_ + 1;
    const bool peer_lost = has_positions && resume.accepted < acked_;
    if (has_positions) {
        while (is_sent(table_.front(), resume.accepted)) detach(table_.front(), accepted);
        acked_ = std::max(acked_, resume.accepted);
        given_ = std::max(given_, acked_);
        session_sent_ = acked_;
    }
    is_online_ = true;
    window_ = resume.window == 0
                  ? 0
                  : std::max<std::size_t>(1, std::min(resume.window, options_.window_packets_max));
    window_bytes_ = std::min(resume.window_bytes, options_.window_bytes_max);

    rearm();
    if (peer_lost) {
        context_.log(LogLevel::kError, "qos-send: the peer's store lost what it had accepted");
        listener_.on_peer_lost_accepted(resume.accepted, first);
    }
    end(accepted, Ending::kAccepted);
    settle();
}

void QosSendDaemon::on_offline() {
    if (!is_online_) return;
    is_online_ = false;
    is_writable_ = true;
    ++session_;
    next_ = table_.front();
    in_flight_ = 0;
    in_flight_bytes_ = 0;
    window_ = 0;
    window_bytes_ = 0;
    step_after_.reset();
    paused_until_.reset();
    next_check_.reset();
    settle();
}

void QosSendDaemon::set_strategy(Strategy strategy) {
    assert(!is_online_ && (options_.assigns_positions || table_.empty()));
    // Positions of the stream stay: whoever speaks petrel.v1 again must not see one used twice.
    if (!is_online_) options_.strategy = strategy;
}

void QosSendDaemon::start_new_stream() {
    assert(!is_online_);
    if (is_online_ || !options_.assigns_positions) return;
    for (Slot slot = table_.front(); slot != fresh_; slot = table_.next(slot)) {
        table_.sent(slot)->position = 0;
    }
    fresh_ = table_.front();
    given_ = 0;
    acked_ = 0;
    session_sent_ = 0;
}

void QosSendDaemon::set_writable(bool is_writable) {
    if (is_writable_ == is_writable || !is_online_) return;
    is_writable_ = is_writable;
    settle();
}

void QosSendDaemon::set_held(bool is_held) {
    if (is_held_ == is_held) return;
    is_held_ = is_held;
    settle();
}

// ---- positions ----

bool QosSendDaemon::on_ack(Position h, const std::vector<Acceptance>& acc) {
    if (!is_online_ || options_.strategy != Strategy::kPositions) {
        ++unknown_acks_;
        return true;
    }
    if (h > session_sent_) return false;
    if (h <= acked_) return true;

    SlotList accepted;
    std::optional<Duration> sample;  // Only of the newest: the others may have waited for it.
    while (is_sent(table_.front(), h)) {
        sample = round_trip(table_.front());
        detach(table_.front(), accepted);
    }
    acked_ = h;
    step_after_.reset();

    // Written in order by the gateway; sorted here only if somebody else wrote it.
    std::vector<Acceptance> sorted;
    const std::vector<Acceptance>* details = &acc;
    if (!std::is_sorted(acc.begin(), acc.end(), is_lower)) {
        sorted = acc;
        std::stable_sort(sorted.begin(), sorted.end(), is_lower);
        details = &sorted;
    }
    rearm();
    if (sample) listener_.on_round_trip(*sample);
    end(accepted, Ending::kAccepted, 0, details);
    settle();
    return true;
}

bool QosSendDaemon::on_gap(Position rx) {
    if (!is_online_ || options_.strategy != Strategy::kPositions) return true;
    if (rx > session_sent_) return false;
    if (paused_until_ || rx < acked_) return true;
    go_back(rx);
    settle();
    return true;
}

bool QosSendDaemon::on_refused(const Fingerprint& fp, Position seq, int code,
                               Duration retry_after) {
    if (!is_online_ || options_.strategy != Strategy::kPositions || seq == 0) return false;
    if (is_given_positions()) return false;
    Slot entry = table_.front();
    while (is_sent(entry, seq - 1)) entry = table_.next(entry);
    if (!is_sent(entry, seq) || !table_.is_named(entry, fp)) return false;

    if (code == static_cast<int>(Errc::kBusy)) {
        go_back(seq - 1);
        // Not an attempt; yet it was on the wire, and none would say that it never was.
        Sent& sent = *table_.sent(entry);
        sent.attempts = std::max(1U, sent.attempts - 1);
        const Duration pause =
            std::min(std::max(retry_after, Duration::zero()), options_.pause_max);
        paused_until_ = context_.now() + pause;
        context_.log(LogLevel::kInfo, "qos-send: the peer is busy, pausing");
        settle();
        return true;
    }
    if (!settles(code)) return true;

    go_back(seq);
    SlotList rejected;
    detach(entry, rejected);
    step_after_ = seq;
    rearm();
    end(rejected, Ending::kRejected, code);
    settle();
    return true;
}

void QosSendDaemon::go_back(Position rx) {
    while (next_ != table_.front() && position(table_.prev(next_)) > rx) {
        next_ = table_.prev(next_);
        leave_flight(next_);
    }
}

Position QosSendDaemon::sent_mark() const {
    return fresh_ == table_.front() ? acked_ : std::max(acked_, position(table_.prev(fresh_)));
}

// ---- plain ----

void QosSendDaemon::on_fingerprint_ack(const Fingerprint& fp) {
    if (!is_online_ || options_.strategy != Strategy::kFingerprints) {
        ++unknown_acks_;
        return;
    }
    const Slot found = table_.find(fp);
    if (found != kNoSlot && attempts(found) > 0) {
        SlotList accepted;
        const std::optional<Duration> sample = round_trip(found);
        detach(found, accepted);
        rearm();
        if (sample) listener_.on_round_trip(*sample);
        end(accepted, Ending::kAccepted);
        settle();
        return;
    }
    if (!forget_lost(fp)) {
        ++unknown_acks_;
        return;
    }
    listener_.on_late_ack(Fingerprint(fp));  // `fp` may live in what the callback changes.
}

void QosSendDaemon::check_retries(TimePoint now, SlotList& lost) {
    Data scratch;
    for (Slot slot = table_.front(); slot != next_;) {
        const Slot entry = slot;
        slot = table_.next(slot);
        Sent& sent = *table_.sent(entry);
        if (now - sent.last_sent_at < options_.retry_not_younger) continue;
        if (options_.retries && sent.retries >= *options_.retries) {
            remember_lost(entry);
            detach(entry, lost);
            continue;
        }
        ++sent.retries;
        transmit(entry, scratch);
    }
}

void QosSendDaemon::remember_lost(Slot slot) {
    if (options_.late_ack_memory == 0) return;
    if (!lost_) lost_ = std::make_unique<IdTable>();
    if (lost_->size() >= options_.late_ack_memory) lost_->remove(lost_->oldest());
    lost_->add(IdTable::id_of(table_.fingerprint(slot)), 0);
}

bool QosSendDaemon::forget_lost(const Fingerprint& fp) {
    const Slot found = lost_ ? lost_->find(IdTable::id_of(fp)) : kNoSlot;
    if (found == kNoSlot) return false;
    lost_->remove(found);
    return true;
}

// ---- what both have in common ----

void QosSendDaemon::end(const SlotList& ended, Ending how, int code,
                        const std::vector<Acceptance>* details) {
    Data scratch;
    std::size_t detail = 0;
    for (Slot slot = ended.front; slot != kNoSlot;) {
        const Slot entry = slot;
        slot = table_.next(slot);
        const Settled message{table_.message(entry, scratch), attempts(entry), position(entry)};
        const Acceptance* at = nullptr;
        if (details != nullptr) {
            while (detail < details->size() && (*details)[detail].seq < message.position) ++detail;
            const bool is_named =
                detail < details->size() && (*details)[detail].seq == message.position;
            if (is_named) at = &(*details)[detail];
        }
        switch (how) {
            case Ending::kAccepted: listener_.on_accepted(message, at); break;
            case Ending::kRejected: listener_.on_rejected(message, code); break;
            case Ending::kExpired: listener_.on_expired(message); break;
            case Ending::kLost: listener_.on_lost(message); break;
        }
        table_.free(entry);
    }
}

Position QosSendDaemon::position(Slot slot) const {
    const Sent* const sent = table_.sent(slot);
    return sent == nullptr ? 0 : sent->position;
}

unsigned QosSendDaemon::attempts(Slot slot) const {
    const Sent* const sent = table_.sent(slot);
    return sent == nullptr ? 0 : sent->attempts;
}

// Whether it has a position, `up_to` at the highest.
bool QosSendDaemon::is_sent(Slot slot, Position up_to) const {
    return slot != kNoSlot && position(slot) != 0 && position(slot) <= up_to;
}

bool QosSendDaemon::is_in_flight(Slot slot) const {
    const Sent* const sent = table_.sent(slot);
    return sent != nullptr && sent->is_in_flight && sent->session == session_;
}

// Nothing of what was sent twice: nobody knows which of the two was acked (Karn).
std::optional<Duration> QosSendDaemon::round_trip(Slot slot) {
    if (!is_in_flight(slot) || table_.sent(slot)->session_sends != 1) return std::nullopt;
    return context_.now() - table_.sent(slot)->last_sent_at;
}

bool QosSendDaemon::fits(std::size_t frame_bytes) const noexcept {
    if (window_ == 0) return false;
    if (in_flight_ == 0) return true;
    return in_flight_ < window_ && in_flight_bytes_ <= window_bytes_ &&
           frame_bytes <= window_bytes_ - in_flight_bytes_;
}

bool QosSendDaemon::can_send() const {
    if (!is_online_ || !is_writable_ || is_held_ || paused_until_) return false;
    // After a refusal: one packet above the refused one at a time.
    return !step_after_ || next_ == table_.front() || position(table_.prev(next_)) <= *step_after_;
}

bool QosSendDaemon::has_room(std::size_t payload_bytes) const {
    return can_send() && next_ == kNoSlot && fits(frame_bytes(payload_bytes));
}

std::optional<QosSendDaemon::Outstanding> QosSendDaemon::oldest_unacked() const {
    if (in_flight_ == 0 || paused_until_) return std::nullopt;
    const Sent& first = *table_.sent(table_.front());
    return Outstanding{first.position, first.last_sent_at};
}

// Brings the message into flight, if it isn't (a plain retry).
void QosSendDaemon::transmit(Slot slot, Data& scratch) {
    const TimePoint now = context_.now();
    Sent& sent = table_.make_sent(slot);
    Data& message = table_.message(slot, scratch);
    if (options_.strategy == Strategy::kPositions) {
        if (sent.position == 0) sent.position = ++given_;
        if (options_.assigns_positions) {
            // Kept ones are above acked_, so the one in front is the higher of the two.
            const Slot before = table_.prev(slot);
            const Position prev = before == kNoSlot ? acked_ : position(before);
            message.seq = sent.position;
            message.prev.reset();
            if (prev != sent.position - 1) message.prev = prev;
        }
        session_sent_ = std::max(session_sent_, sent.position);
        if (slot == fresh_) fresh_ = table_.next(slot);
    } else {
        if (options_.assigns_positions) {
            message.seq = 0;
            message.prev.reset();
        }
        message.retry_count = static_cast<int>(std::min(sent.retries, 0x7fffffffU));
        if (!next_check_) next_check_ = now + options_.check_period;
    }
    if (!is_in_flight(slot)) {
        in_flight_ += 1;
        in_flight_bytes_ += frame_bytes(message.text.size());
    }
    if (sent.session != session_) sent.session_sends = 0;
    sent.session = session_;
    sent.session_sends += 1;
    sent.is_in_flight = true;
    sent.last_sent_at = now;
    if (sent.attempts > 0) ++retransmissions_;
    sent.attempts += 1;
    context_.send(message);
}

void QosSendDaemon::leave_flight(Slot slot) {
    if (!is_in_flight(slot)) return;
    table_.sent(slot)->is_in_flight = false;
    in_flight_ -= 1;
    in_flight_bytes_ -= frame_bytes(table_.text_size(slot));
}

// Takes the message out of every table and moves it to `to`, from where its outcome is told once
// the state is settled: no callback can reach it any more.
void QosSendDaemon::detach(Slot slot, SlotList& to) {
    leave_flight(slot);
    if (next_ == slot) next_ = table_.next(slot);
    if (fresh_ == slot) fresh_ = table_.next(slot);
    kept_bytes_ -= table_.text_size(slot);
    table_.detach(slot, to);
}

// Ends every input: lets out what may leave, arms the timer, tells of the window. Comes after the
// callbacks; rearm() alone comes before them.
void QosSendDaemon::settle() {
    if (next_ != kNoSlot && can_send() && fits(frame_bytes(table_.text_size(next_)))) {
        Data scratch;
        const TimePoint now = context_.now();
        do {
            // The timer, due by now, ends it first.
            if (table_.expiry(next_) <= now) break;
            const Slot slot = next_;
            next_ = table_.next(slot);
            transmit(slot, scratch);
        } while (next_ != kNoSlot && can_send() && fits(frame_bytes(table_.text_size(next_))));
    }
    rearm();
    report();
}

void QosSendDaemon::rearm() {
    if (in_flight_ == 0) next_check_.reset();
    std::optional<TimePoint> earliest;
    const auto consider = [&earliest](TimePoint at) {
        if (!earliest || at < *earliest) earliest = at;
    };
    if (table_.has_expiries()) consider(table_.no_expiry_before());
    if (paused_until_) consider(*paused_until_);
    if (next_check_) consider(*next_check_);
    if (!earliest) {
        timer_.stop();
    } else {
        // A start never lies in the past: what is due already stays as it was started.
        const TimePoint at = std::max(*earliest, context_.now());
        if (!timer_.is_running() || timer_.deadline() > at || timer_.deadline() < *earliest) {
            timer_.start_at(at);
        }
    }
}

void QosSendDaemon::report() {
    if (is_reporting_) return;
    is_reporting_ = true;
    const auto is_same = [](const Reported& a, const Reported& b) {
        return a.has_room == b.has_room && a.in_flight == b.in_flight &&
               a.oldest.has_value() == b.oldest.has_value() &&
               (!a.oldest || (a.oldest->position == b.oldest->position &&
                              a.oldest->sent_at == b.oldest->sent_at));
    };
    // What the callback itself changes is told by the next round, not by a deeper call.
    for (;;) {
        Reported current;
        current.has_room = has_room(0);
        current.in_flight = in_flight_;
        current.oldest = oldest_unacked();
        if (is_same(current, reported_)) break;
        reported_ = current;
        listener_.on_outstanding_changed();
    }
    is_reporting_ = false;
}

void QosSendDaemon::on_timer() {
    const TimePoint now = context_.now();
    if (paused_until_ && *paused_until_ <= now) paused_until_.reset();

    SlotList expired;
    table_.take_due(now, [&](Slot slot) { detach(slot, expired); });
    SlotList lost;
    if (next_check_ && *next_check_ <= now) {
        const bool is_late = now - *next_check_ > kLateAfter;
        next_check_ = now + (is_late ? kLateGrace : options_.check_period);
        // With a full socket neither a retry nor a verdict would mean anything.
        if (!is_late && is_writable_) check_retries(now, lost);
    }

    rearm();
    end(expired, Ending::kExpired);
    end(lost, Ending::kLost);
    settle();
}

bool QosSendDaemon::is_consistent() const {
    const bool has_positions = options_.strategy == Strategy::kPositions;
    std::size_t in_flight = 0;
    std::size_t in_flight_bytes = 0;
    std::size_t kept_bytes = 0;
    Position last = acked_;
    bool is_before_next = true;
    bool is_before_fresh = true;
    for (Slot slot = table_.front(); slot != kNoSlot; slot = table_.next(slot)) {
        if (slot == next_) is_before_next = false;
        if (slot == fresh_) is_before_fresh = false;
        if (has_positions && is_before_next && !is_before_fresh) return false;
        if (is_in_flight(slot) != (is_online_ && is_before_next)) return false;
        const std::size_t text_bytes = table_.text_size(slot);
        if (is_in_flight(slot)) {
            if (attempts(slot) == 0) return false;
            in_flight += 1;
            in_flight_bytes += frame_bytes(text_bytes);
        }
        const Position at = position(slot);
        if (is_before_fresh && (at <= last || at > given_)) return false;
        if (is_before_fresh) last = at;
        if (!is_before_fresh && options_.assigns_positions && at != 0) return false;
        const TimePoint taken_by = table_.taken_at(slot) + PendingTable::kTakenRounding;
        if (table_.expiry(slot) > saturating_add(taken_by, age_limit_)) return false;
        kept_bytes += text_bytes;
    }
    if (!table_.is_consistent()) return false;
    if (in_flight != in_flight_ || in_flight_bytes != in_flight_bytes_) return false;
    if (kept_bytes != kept_bytes_) return false;
    if (table_.size() > options_.kept_max || kept_bytes_ > options_.kept_bytes_max) return false;
    if (acked_ > given_ || (is_online_ && has_positions && session_sent_ < acked_)) return false;
    if (lost_ && (!lost_->is_consistent() || lost_->size() > options_.late_ack_memory)) {
        return false;
    }
    if (next_check_ && (has_positions || in_flight_ == 0)) return false;
    if (!is_online_ && (in_flight_ != 0 || next_check_ || paused_until_ || step_after_)) {
        return false;
    }
    return timer_.is_running() ==
           (table_.has_expiries() || paused_until_.has_value() || next_check_.has_value());
}

}  // namespace petrel
