#include "daemons/qos_send.hpp"

#include <algorithm>
#include <cassert>
#include <iterator>

namespace petrel {

namespace {

// A check every 0 ms would keep the owner's timer queue spinning.
constexpr Duration kCheckPeriodMin = std::chrono::milliseconds{1};

// After a pause of the process acks may lie unread in the socket: a check that comes so late gives
// them a moment before it judges (PROTOCOL.md section 4.5).
constexpr Duration kLateAfter = std::chrono::seconds{1};
constexpr Duration kLateGrace = std::chrono::milliseconds{200};

std::size_t frame_bytes(const Data& message) noexcept {
    return message.text.size() + QosSendDaemon::kFrameOverhead;
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
      next_(entries_.end()),
      fresh_(entries_.end()) {
    options_.check_period = std::max(options_.check_period, kCheckPeriodMin);
}

QosSendDaemon::~QosSendDaemon() = default;

// ---- the app's side ----

bool QosSendDaemon::is_given_positions() const noexcept {
    return options_.strategy == Strategy::kPositions && !options_.assigns_positions;
}

bool QosSendDaemon::is_indexed() const noexcept { return !is_given_positions(); }

std::error_code QosSendDaemon::submit(Data message, std::optional<TimePoint> expires_at,
                                      unsigned attempts, std::optional<TimePoint> taken_at) {
    const bool is_given = is_given_positions();
    if (is_given ? message.seq <= given_ : message.fp.empty()) return Errc::kInvalidPacket;
    if (!is_given && by_fp_.count(message.fp) != 0) return Errc::kFingerprintReused;
    const std::size_t bytes = message.text.size();
    if (entries_.size() >= options_.kept_max || kept_bytes_ > options_.kept_bytes_max ||
        bytes > options_.kept_bytes_max - kept_bytes_) {
        return Errc::kSendFailed;
    }

    Entry& added = entries_.emplace_back();
    const auto entry = std::prev(entries_.end());
    added.message = std::move(message);
    added.attempts = attempts;
    added.taken_at = taken_at.value_or(context_.now());
    if (is_given) {
        added.position = added.message.seq;
        given_ = added.position;
    } else {
        by_fp_.emplace(added.message.fp, entry);
        // From now on an ack speaks of this message, not of a lost one of the same name.
        const auto lost = lost_by_fp_.find(added.message.fp);
        if (lost != lost_by_fp_.end()) {
            lost_.erase(lost->second);
            lost_by_fp_.erase(lost);
        }
    }
    if (expires_at) added.expiry = expiries_.emplace_hint(expiries_.end(), *expires_at, entry);
    kept_bytes_ += bytes;
    if (next_ == entries_.end()) next_ = entry;
    if (fresh_ == entries_.end()) fresh_ = entry;
    settle();
    return {};
}

void QosSendDaemon::limit_age(Duration age_max) {
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
        const TimePoint latest = saturating_add(entry->taken_at, age_max);
        if (entry->expiry) {
            if ((*entry->expiry)->first <= latest) continue;
            expiries_.erase(*entry->expiry);
        }
        entry->expiry = expiries_.emplace(latest, entry);
    }
    settle();
}

bool QosSendDaemon::cancel(const Fingerprint& fp, unsigned* attempts) {
    const auto found = by_fp_.find(fp);
    if (found == by_fp_.end()) return false;
    if (attempts != nullptr) *attempts = found->second->attempts;
    Entries cancelled;
    detach(found->second, cancelled);
    settle();
    return true;
}

std::vector<std::pair<Data, unsigned>> QosSendDaemon::take_all() {
    std::vector<std::pair<Data, unsigned>> all;
    all.reserve(entries_.size());
    for (Entry& entry : entries_) all.emplace_back(std::move(entry.message), entry.attempts);
    entries_.clear();
    by_fp_.clear();
    expiries_.clear();
    next_ = entries_.end();
    fresh_ = entries_.end();
    in_flight_ = 0;
    in_flight_bytes_ = 0;
    kept_bytes_ = 0;
    settle();
    return all;
}

const Data* QosSendDaemon::find(const Fingerprint& fp) const {
    const auto found = by_fp_.find(fp);
    return found == by_fp_.end() ? nullptr : &found->second->message;
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

    Entries accepted;
    const Position first = acked_ + 1;
    const bool peer_lost = has_positions && resume.accepted < acked_;
    if (has_positions) {
        while (!entries_.empty() && entries_.front().position != 0 &&
               entries_.front().position <= resume.accepted) {
            detach(entries_.begin(), accepted);
        }
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
    for (const Entry& entry : accepted) listener_.on_accepted(settled(entry), nullptr);
    settle();
}

void QosSendDaemon::on_offline() {
    if (!is_online_) return;
    is_online_ = false;
    is_writable_ = true;
    ++session_;
    next_ = entries_.begin();
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
    assert(!is_online_ && (options_.assigns_positions || entries_.empty()));
    // Positions of the stream stay: whoever speaks petrel.v1 again must not see one used twice.
    if (!is_online_) options_.strategy = strategy;
}

void QosSendDaemon::start_new_stream() {
    assert(!is_online_);
    if (is_online_ || !options_.assigns_positions) return;
    for (Entry& entry : entries_) entry.position = 0;
    fresh_ = entries_.begin();
    given_ = 0;
    acked_ = 0;
    session_sent_ = 0;
}

void QosSendDaemon::set_writable(bool is_writable) {
    if (is_writable_ == is_writable || !is_online_) return;
    is_writable_ = is_writable;
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

    Entries accepted;
    std::optional<Duration> round_trip;
    while (!entries_.empty() && entries_.front().position != 0 && entries_.front().position <= h) {
        const Entry& entry = entries_.front();
        round_trip.reset();  // Only the newest: the others may have waited for it.
        if (is_in_flight(entry) && entry.session_sends == 1) {
            round_trip = context_.now() - entry.last_sent_at;
        }
        detach(entries_.begin(), accepted);
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
    if (round_trip) listener_.on_round_trip(*round_trip);
    auto detail = details->begin();
    for (const Entry& entry : accepted) {
        while (detail != details->end() && detail->seq < entry.position) ++detail;
        const bool is_named = detail != details->end() && detail->seq == entry.position;
        listener_.on_accepted(settled(entry), is_named ? &*detail : nullptr);
    }
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
    const auto found = by_fp_.find(fp);
    if (found == by_fp_.end() || found->second->position != seq) return false;
    const Entries::iterator entry = found->second;

    if (code == static_cast<int>(Errc::kBusy)) {
        go_back(seq - 1);
        // Not an attempt; yet it was on the wire, and none would say that it never was.
        entry->attempts = std::max(1U, entry->attempts - 1);
        const Duration pause =
            std::min(std::max(retry_after, Duration::zero()), options_.pause_max);
        paused_until_ = context_.now() + pause;
        context_.log(LogLevel::kInfo, "qos-send: the peer is busy, pausing");
        settle();
        return true;
    }
    if (!settles(code)) return true;

    go_back(seq);
    Entries rejected;
    detach(entry, rejected);
    step_after_ = seq;
    rearm();
    listener_.on_rejected(settled(rejected.front()), code);
    settle();
    return true;
}

void QosSendDaemon::go_back(Position rx) {
    while (next_ != entries_.begin() && std::prev(next_)->position > rx) {
        --next_;
        leave_flight(*next_);
    }
}

Position QosSendDaemon::sent_mark() const {
    return fresh_ == entries_.begin() ? acked_ : std::max(acked_, std::prev(fresh_)->position);
}

// ---- plain ----

void QosSendDaemon::on_fingerprint_ack(const Fingerprint& fp) {
    if (!is_online_ || options_.strategy != Strategy::kFingerprints) {
        ++unknown_acks_;
        return;
    }
    const auto found = by_fp_.find(fp);
    if (found != by_fp_.end() && found->second->attempts > 0) {
        Entries accepted;
        const Entry& entry = *found->second;
        std::optional<Duration> round_trip;
        if (is_in_flight(entry) && entry.session_sends == 1) {
            round_trip = context_.now() - entry.last_sent_at;
        }
        detach(found->second, accepted);
        rearm();
        if (round_trip) listener_.on_round_trip(*round_trip);
        listener_.on_accepted(settled(accepted.front()), nullptr);
        settle();
        return;
    }
    const auto lost = lost_by_fp_.find(fp);
    if (lost == lost_by_fp_.end()) {
        ++unknown_acks_;
        return;
    }
    // `fp` may live in what is erased. NOLINTNEXTLINE(performance-unnecessary-copy-initialization)
    const Fingerprint late = fp;
    lost_.erase(lost->second);
    lost_by_fp_.erase(lost);
    listener_.on_late_ack(late);
}

void QosSendDaemon::check_retries(TimePoint now, Entries& lost) {
    for (auto it = entries_.begin(); it != next_;) {
        const Entries::iterator entry = it++;
        if (now - entry->last_sent_at < options_.retry_not_younger) continue;
        if (options_.retries && entry->retries >= *options_.retries) {
            remember_lost(entry->message.fp);
            detach(entry, lost);
            continue;
        }
        ++entry->retries;
        transmit(entry);
    }
}

void QosSendDaemon::remember_lost(const Fingerprint& fp) {
    if (options_.late_ack_memory == 0) return;
    if (lost_.size() >= options_.late_ack_memory) {
        lost_by_fp_.erase(lost_.front());
        lost_.pop_front();
    }
    lost_.push_back(fp);
    lost_by_fp_.emplace(fp, std::prev(lost_.end()));
}

// ---- what both have in common ----

QosSendDaemon::Settled QosSendDaemon::settled(const Entry& entry) noexcept {
    return {entry.message, entry.attempts, entry.position};
}

bool QosSendDaemon::is_in_flight(const Entry& entry) const noexcept {
    return entry.is_in_flight && entry.session == session_;
}

bool QosSendDaemon::fits(std::size_t frame_bytes) const noexcept {
    if (window_ == 0) return false;
    if (in_flight_ == 0) return true;
    return in_flight_ < window_ && in_flight_bytes_ <= window_bytes_ &&
           frame_bytes <= window_bytes_ - in_flight_bytes_;
}

bool QosSendDaemon::can_send() const {
    if (!is_online_ || !is_writable_ || paused_until_) return false;
    // After a refusal: one packet above the refused one at a time.
    return !step_after_ || next_ == entries_.begin() || std::prev(next_)->position <= *step_after_;
}

bool QosSendDaemon::has_room(std::size_t payload_bytes) const {
    return can_send() && next_ == entries_.end() && fits(payload_bytes + kFrameOverhead);
}

std::optional<QosSendDaemon::Outstanding> QosSendDaemon::oldest_unacked() const {
    if (in_flight_ == 0 || paused_until_) return std::nullopt;
    return Outstanding{entries_.front().position, entries_.front().last_sent_at};
}

// Brings the entry into flight, if it isn't (a plain retry).
void QosSendDaemon::transmit(Entries::iterator entry) {
    const TimePoint now = context_.now();
    Data& message = entry->message;
    if (options_.strategy == Strategy::kPositions) {
        if (entry->position == 0) entry->position = ++given_;
        if (options_.assigns_positions) {
            // Kept ones are above acked_, so the one in front is the higher of the two.
            const Position prev = entry == entries_.begin() ? acked_ : std::prev(entry)->position;
            message.seq = entry->position;
            message.prev.reset();
            if (prev != entry->position - 1) message.prev = prev;
        }
        session_sent_ = std::max(session_sent_, entry->position);
        if (entry == fresh_) ++fresh_;
    } else {
        if (options_.assigns_positions) {
            message.seq = 0;
            message.prev.reset();
        }
        message.retry_count = static_cast<int>(std::min(entry->retries, 0x7fffffffU));
        if (!next_check_) next_check_ = now + options_.check_period;
    }
    if (!is_in_flight(*entry)) {
        in_flight_ += 1;
        in_flight_bytes_ += frame_bytes(message);
    }
    if (entry->session != session_) entry->session_sends = 0;
    entry->session = session_;
    entry->session_sends += 1;
    entry->is_in_flight = true;
    entry->last_sent_at = now;
    if (entry->attempts > 0) ++retransmissions_;
    entry->attempts += 1;
    context_.send(message);
}

void QosSendDaemon::leave_flight(Entry& entry) {
    if (!is_in_flight(entry)) return;
    entry.is_in_flight = false;
    in_flight_ -= 1;
    in_flight_bytes_ -= frame_bytes(entry.message);
}

// Takes the entry out of every table and moves it to `to`, from where its outcome is told once the
// state is settled: no callback can reach it any more.
void QosSendDaemon::detach(Entries::iterator entry, Entries& to) {
    leave_flight(*entry);
    if (next_ == entry) ++next_;
    if (fresh_ == entry) ++fresh_;
    if (entry->expiry) expiries_.erase(*entry->expiry);
    entry->expiry.reset();
    const auto found = by_fp_.find(entry->message.fp);
    if (found != by_fp_.end() && found->second == entry) by_fp_.erase(found);
    kept_bytes_ -= entry->message.text.size();
    to.splice(to.end(), entries_, entry);
}

// Ends every input: lets out what may leave, arms the timer, tells of the window. Comes after the
// callbacks; rearm() alone comes before them.
void QosSendDaemon::settle() {
    const TimePoint now = context_.now();
    while (next_ != entries_.end() && can_send() && fits(frame_bytes(next_->message))) {
        // The timer, due by now, ends it first.
        if (next_->expiry && (*next_->expiry)->first <= now) break;
        const Entries::iterator entry = next_++;
        transmit(entry);
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
    if (!expiries_.empty()) consider(expiries_.begin()->first);
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

    Entries expired;
    while (!expiries_.empty() && expiries_.begin()->first <= now) {
        detach(expiries_.begin()->second, expired);
    }
    Entries lost;
    if (next_check_ && *next_check_ <= now) {
        const bool is_late = now - *next_check_ > kLateAfter;
        next_check_ = now + (is_late ? kLateGrace : options_.check_period);
        // With a full socket neither a retry nor a verdict would mean anything.
        if (!is_late && is_writable_) check_retries(now, lost);
    }

    rearm();
    for (const Entry& entry : expired) listener_.on_expired(settled(entry));
    for (const Entry& entry : lost) listener_.on_lost(settled(entry));
    settle();
}

bool QosSendDaemon::is_consistent() const {
    const bool has_positions = options_.strategy == Strategy::kPositions;
    std::size_t in_flight = 0;
    std::size_t in_flight_bytes = 0;
    std::size_t kept_bytes = 0;
    std::size_t expiring = 0;
    Position last = acked_;
    bool is_before_next = true;
    bool is_before_fresh = true;
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
        if (it == next_) is_before_next = false;
        if (it == fresh_) is_before_fresh = false;
        if (has_positions && is_before_next && !is_before_fresh) return false;
        if (is_in_flight(*it) != (is_online_ && is_before_next)) return false;
        if (is_in_flight(*it)) {
            if (it->attempts == 0) return false;
            in_flight += 1;
            in_flight_bytes += frame_bytes(it->message);
        }
        if (is_before_fresh && (it->position <= last || it->position > given_)) return false;
        if (is_before_fresh) last = it->position;
        if (!is_before_fresh && options_.assigns_positions && it->position != 0) return false;
        if (is_indexed()) {
            const auto found = by_fp_.find(it->message.fp);
            if (found == by_fp_.end() || found->second != it) return false;
        }
        if (it->expiry) {
            ++expiring;
            if ((*it->expiry)->second != it) return false;
        }
        kept_bytes += it->message.text.size();
    }
    if (in_flight != in_flight_ || in_flight_bytes != in_flight_bytes_) return false;
    if (kept_bytes != kept_bytes_ || expiring != expiries_.size()) return false;
    if (entries_.size() > options_.kept_max || kept_bytes_ > options_.kept_bytes_max) return false;
    if (is_indexed() && by_fp_.size() != entries_.size()) return false;
    if (acked_ > given_ || (is_online_ && has_positions && session_sent_ < acked_)) return false;
    if (lost_.size() != lost_by_fp_.size() || lost_.size() > options_.late_ack_memory) return false;
    if (next_check_ && (has_positions || in_flight_ == 0)) return false;
    if (!is_online_ && (in_flight_ != 0 || next_check_ || paused_until_ || step_after_)) {
        return false;
    }
    return timer_.is_running() ==
           (!expiries_.empty() || paused_until_.has_value() || next_check_.has_value());
}

}  // namespace petrel
