#include "daemons/keepalive.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

namespace petrel {

KeepaliveDaemon::KeepaliveDaemon(DaemonContext& context, Listener& listener, Options options)
    : context_(context),
      listener_(listener),
      options_(options),
      round_trip_(options.round_trip),
      timer_(context.timers(), "keepalive", [this] { on_timer(); }),
      verdict_(options.late) {}

void KeepaliveDaemon::on_online(Duration interval) {
    const Duration wanted = interval > Duration::zero() ? interval : options_.interval;
    interval_ = std::max({wanted, options_.interval_min, kProbeMin});
    unanswered_beats_ = 0;
    is_answer_doubtful_ = false;
    last_inbound_ = context_.now();
    const auto first = context_.random(0, static_cast<std::uint64_t>(interval_.count()));
    next_beat_ = saturating_add(last_inbound_, Duration(static_cast<Duration::rep>(first)));
    set_state(State::kListening, "online");
    rearm();
}

void KeepaliveDaemon::on_offline() {
    forget_session();
    set_state(State::kOffline, "offline");
}

void KeepaliveDaemon::set_plain(Duration interval, Duration patience, bool since_answer) {
    options_.interval = interval;
    options_.patience = patience;
    options_.patience_since_answer = since_answer;
}

void KeepaliveDaemon::set_v1(Duration interval) {
    options_.interval = interval;
    options_.patience.reset();
}

void KeepaliveDaemon::on_inbound() {
    if (state_ == State::kOffline) return;
    last_inbound_ = context_.now();
    if (state_ == State::kListening) return;
    set_state(State::kListening, "alive");
    rearm();
}

void KeepaliveDaemon::on_beat_answered(std::optional<Position> rx) {
    if (state_ == State::kOffline) return;
    on_inbound();
    // Karn: with several beats out nobody knows which one this answers; nor, then, whether the next
    // answer is of the next beat.
    if (unanswered_beats_ == 1 && !is_answer_doubtful_) {
        round_trip_.on_sample(context_.now() - last_beat_);
    }
    is_answer_doubtful_ = unanswered_beats_ > 1;
    unanswered_beats_ = 0;

    const bool is_overdue = has_asked_for_ack_ || (outstanding_ && context_.now() >= overdue_at());
    if (rx && outstanding_ && *rx >= *outstanding_ && is_overdue) {
        // The packet arrived: the store is slow.
        if (!has_asked_for_ack_) outstanding_since_ = context_.now();
        has_asked_for_ack_ = false;
        if (ack_timeout() < options_.round_trip.timeout_max) ++slow_store_doublings_;
    }
    rearm();
}

void KeepaliveDaemon::on_outstanding(std::optional<Position> position, TimePoint left_at) {
    if (position != outstanding_) {
        outstanding_since_ = left_at;
        has_asked_for_ack_ = false;
        slow_store_doublings_ = 0;
    } else {
        // Sent again: its patience begins anew.
        outstanding_since_ = std::max(outstanding_since_, left_at);
    }
    outstanding_ = position;
    if (state_ != State::kOffline) rearm();
}

void KeepaliveDaemon::on_round_trip(Duration sample) {
    round_trip_.on_sample(sample);
    if (state_ != State::kOffline) rearm();
}

void KeepaliveDaemon::probe_now() {
    if (state_ == State::kListening && !is_suspended_) beat("asked for");
}

void KeepaliveDaemon::suspend() {
    is_suspended_ = true;
    // Its answer would measure the suspension.
    is_answer_doubtful_ = is_answer_doubtful_ || unanswered_beats_ > 0;
    timer_.stop();
}

void KeepaliveDaemon::resume() {
    if (!std::exchange(is_suspended_, false) || state_ == State::kOffline) return;
    // What was awaited may lie in the socket: it is read first, then asked for anew.
    if (state_ == State::kProbing) set_state(State::kListening, "resumed");
    const Duration grace = std::max(options_.late.late_grace, Duration::zero());
    next_beat_ =
        std::min(saturating_add(context_.now(), grace), saturating_add(context_.now(), interval_));
    outstanding_since_ = std::max(outstanding_since_, next_beat_);
    rearm();
}

Duration KeepaliveDaemon::ack_timeout() const noexcept {
    const Duration once = std::max(round_trip_.timeout(), kProbeMin);
    const Duration most = options_.round_trip.timeout_max;
    const std::int64_t factor = std::int64_t{1} << slow_store_doublings_;
    return std::max(once > most / factor ? most : once * factor, kProbeMin);
}

bool KeepaliveDaemon::is_consistent() const {
    if (slow_store_doublings_ > 0 && !outstanding_) return false;
    if (has_asked_for_ack_ && !outstanding_) return false;
    if (state_ == State::kOffline) return !timer_.is_running() && unanswered_beats_ == 0;
    if (interval_ < kProbeMin || last_inbound_ > context_.now()) return false;
    if (unanswered_beats_ > 0 && last_beat_ > context_.now()) return false;
    if (state_ == State::kProbing && unanswered_beats_ == 0) return false;
    if (is_suspended_) return !timer_.is_running();
    if (!timer_.is_running()) return false;
    // Nothing may be slept through; what is due already fires at the next advance.
    const TimePoint now = context_.now();
    if (timer_.deadline() > std::max(next_beat_, now)) return false;
    return state_ != State::kProbing || timer_.deadline() <= std::max(verdict_.look_at(), now);
}

void KeepaliveDaemon::set_state(State next, std::string_view reason) {
    if (state_ == next) return;
    context_.log(LogLevel::kDebug, std::string("keepalive: ")
                                       .append(to_string(state_))
                                       .append(" -> ")
                                       .append(to_string(next))
                                       .append(": ")
                                       .append(reason));
    state_ = next;
}

void KeepaliveDaemon::forget_session() {
    timer_.stop();
    unanswered_beats_ = 0;
    is_answer_doubtful_ = false;
    outstanding_.reset();
    has_asked_for_ack_ = false;
    slow_store_doublings_ = 0;
}

void KeepaliveDaemon::beat(std::string_view reason) {
    const TimePoint now = context_.now();
    last_beat_ = now;
    unanswered_beats_ = std::min(unanswered_beats_ + 1, 2u);
    if (state_ == State::kListening) {
        TimePoint dead_at = saturating_add(now, probe_time());
        if (options_.patience && options_.patience_since_answer) {
            // Since the last packet; when that leaves next to nothing for this beat's answer (a
            // patience below the interval), the least time of a probe.
            const Duration least = std::max(options_.round_trip.timeout_min, kProbeMin);
            dead_at = std::max(saturating_add(last_inbound_, *options_.patience),
                               saturating_add(now, least));
        }
        verdict_.start(dead_at);
        set_state(State::kProbing, reason);
    }
    rearm();
    listener_.on_beat_due();
}

Duration KeepaliveDaemon::probe_time() const {
    return std::max(options_.patience ? *options_.patience : round_trip_.timeout(), kProbeMin);
}

TimePoint KeepaliveDaemon::overdue_at() const {
    return saturating_add(outstanding_since_, ack_timeout());
}

void KeepaliveDaemon::rearm() {
    if (is_suspended_) return;
    TimePoint next = next_beat_;
    if (state_ == State::kProbing) {
        next = std::min(next, verdict_.look_at());
    } else if (outstanding_ && !options_.patience) {
        next = std::min(next, overdue_at());
    }
    timer_.start_at(next);
}

void KeepaliveDaemon::on_timer() {
    const TimePoint now = context_.now();
    if (state_ == State::kProbing && verdict_.is_over(now)) {
        forget_session();
        round_trip_.on_timeout();
        set_state(State::kOffline, "nothing came back");
        listener_.on_link_dead("nothing came back within the probe's time");
        return;
    }
    const bool is_regular = now >= next_beat_;
    const bool is_overdue =
        state_ == State::kListening && outstanding_ && !options_.patience && now >= overdue_at();
    if (is_regular) {
        next_beat_ = saturating_add(next_beat_, interval_);
        // After a pause one beat is enough, not one for each that was missed.
        if (next_beat_ <= now) next_beat_ = saturating_add(now, interval_);
    }
    if (is_overdue) {
        outstanding_since_ = now;
        has_asked_for_ack_ = true;
    }
    if (is_regular || is_overdue) {
        beat(is_overdue ? "ack overdue" : "interval");
    } else {
        rearm();
    }
}

std::string_view to_string(KeepaliveDaemon::State state) noexcept {
    switch (state) {
        case KeepaliveDaemon::State::kOffline: return "offline";
        case KeepaliveDaemon::State::kListening: return "listening";
        case KeepaliveDaemon::State::kProbing: return "probing";
    }
    return "unknown";
}

// ---- the gateway's half ----

SilenceCheck::SilenceCheck(DaemonContext& context, Listener& listener, Options options)
    : context_(context),
      listener_(listener),
      silence_max_(options.silence_max),
      patience_(options.late),
      timer_(context.timers(), "silence", [this] { on_timer(); }) {}

void SilenceCheck::start() {
    last_inbound_ = context_.now();
    patience_.start(deadline());
    timer_.start_at(patience_.look_at());
}

void SilenceCheck::start(Duration silence_max) {
    silence_max_ = silence_max;
    start();
}

void SilenceCheck::stop() { timer_.stop(); }

void SilenceCheck::on_inbound() { last_inbound_ = context_.now(); }

bool SilenceCheck::is_consistent() const {
    if (!timer_.is_running()) return true;
    return last_inbound_ <= context_.now() &&
           timer_.deadline() <= std::max(patience_.look_at(), context_.now());
}

TimePoint SilenceCheck::deadline() const {
    return saturating_add(last_inbound_, std::max(silence_max_, Duration::zero()));
}

void SilenceCheck::on_timer() {
    if (deadline() != patience_.deadline()) patience_.start(deadline());
    if (patience_.is_over(context_.now())) {
        listener_.on_silent();
        return;
    }
    timer_.start_at(patience_.look_at());
}

}  // namespace petrel
