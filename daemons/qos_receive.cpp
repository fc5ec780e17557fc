#include "daemons/qos_receive.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace petrel {

namespace {

// A sweep every 0 ms would keep the owner's timer queue spinning.
constexpr Duration kSweepMin = std::chrono::milliseconds{1};

}  // namespace

QosReceiveDaemon::QosReceiveDaemon(DaemonContext& context, Listener& listener, Options options)
    : context_(context),
      listener_(listener),
      options_(options),
      ack_timer_(context.timers(), "qos-receive-ack", [this] { say(false); }),
      sweep_timer_(context.timers(), "qos-receive-sweep", [this] { sweep(); }) {
    options_.dedup_sweep = std::max(options_.dedup_sweep, kSweepMin);
}

void QosReceiveDaemon::on_online(Position resume, std::size_t window,
                                 std::optional<Position> handled) {
    on_offline();
    is_online_ = true;
    window_ = window;
    rx_ = resume;
    h_ = std::min(handled.value_or(resume), resume);
    h_said_ = h_;
}

void QosReceiveDaemon::on_offline() {
    is_online_ = false;
    must_say_ = false;
    gap_said_at_.reset();
    ack_timer_.stop();
}

QosReceiveDaemon::Verdict QosReceiveDaemon::on_data(Position seq, std::optional<Position> prev) {
    if (!is_online_ || seq == 0) {
        ++duplicates_;
        return Verdict::kDuplicate;
    }
    if (seq <= rx_) {
        ++duplicates_;
        must_say_ = true;
        return Verdict::kDuplicate;
    }
    if (prev.value_or(seq - 1) > rx_) {
        ++gaps_;
        answer_gap();
        return Verdict::kGap;
    }
    rx_ = seq;
    gap_said_at_.reset();
    return Verdict::kTake;
}

void QosReceiveDaemon::on_handled(Position h) {
    h = std::min(h, rx_);
    if (!is_online_ || h <= h_) return;
    h_ = h;
    // With delay 0 every flush says it; a running timer means that an earlier one waits already.
    if (options_.ack_delay_max > Duration::zero() && !ack_timer_.is_running()) {
        ack_timer_.start(options_.ack_delay_max);
    }
}

void QosReceiveDaemon::on_sent_mark(Position sent) {
    if (!is_online_ || sent <= rx_) return;
    ++gaps_;
    answer_gap();
}

void QosReceiveDaemon::rewind(Position rx) {
    if (!is_online_ || rx >= rx_) return;
    rx_ = std::max(rx, h_);
    gap_said_at_.reset();
}

std::optional<Position> QosReceiveDaemon::take_riding_ack() {
    if (!is_online_ || (h_ == h_said_ && !must_say_)) return std::nullopt;
    h_said_ = h_;
    must_say_ = false;
    ack_timer_.stop();
    return h_;
}

void QosReceiveDaemon::flush() {
    if (!is_online_) return;
    const Position unsaid = h_ - h_said_;
    const bool is_due =
        unsaid > 0 && (options_.ack_delay_max <= Duration::zero() || unsaid >= ack_threshold());
    if (must_say_ || is_due) say(false);
}

std::size_t QosReceiveDaemon::ack_threshold() const noexcept {
    return std::max<std::size_t>(1, std::min(options_.ack_every_max, window_ / 2));
}

void QosReceiveDaemon::answer_gap() {
    const TimePoint now = context_.now();
    if (gap_said_at_ && now - *gap_said_at_ < options_.gap_interval) return;
    gap_said_at_ = now;
    say(true);
}

void QosReceiveDaemon::say(bool with_gap) {
    h_said_ = h_;
    must_say_ = false;
    ack_timer_.stop();
    AckDue ack;
    ack.h = h_;
    if (with_gap) {
        ack.rx = rx_;
        ack.gap = true;
    }
    listener_.on_ack_due(ack);
}

std::string QosReceiveDaemon::key_of(std::string_view sender, const Fingerprint& fp) {
    std::string key;
    key.reserve(sender.size() + 1 + Fingerprint::kTextMax);
    key.append(sender);
    key.push_back('\0');  // A fingerprint has none, so the last one always ends the sender.
    fp.append_to(key);
    return key;
}

QosReceiveDaemon::Verdict QosReceiveDaemon::on_data(std::string_view sender,
                                                    const Fingerprint& fp) {
    std::string key = key_of(sender, fp);
    const auto found = seen_.find(key);
    if (found == seen_.end()) {
        if (options_.dedup_entries_max == 0) return Verdict::kTake;
        while (seen_.size() >= options_.dedup_entries_max) forget_oldest();
        in_hand_.push_back(Seen{std::move(key), context_.now(), false});
        seen_.emplace(in_hand_.back().key, std::prev(in_hand_.end()));
        if (!sweep_timer_.is_running()) sweep_timer_.start(options_.dedup_sweep);
        return Verdict::kTake;
    }
    ++duplicates_;
    // Who still retransmits it needs the memory from now on.
    const SeenList::iterator seen = found->second;
    seen->at = context_.now();
    SeenList& list = list_of(*seen);
    list.splice(list.end(), list, seen);
    if (seen->is_handled && is_online_) listener_.on_ack_due(sender, fp);
    return Verdict::kDuplicate;
}

void QosReceiveDaemon::on_handled(std::string_view sender, const Fingerprint& fp) {
    const auto found = seen_.find(key_of(sender, fp));
    if (found != seen_.end()) {
        const SeenList::iterator seen = found->second;
        if (seen->is_handled) return;
        seen->is_handled = true;
        seen->at = context_.now();
        handled_.splice(handled_.end(), in_hand_, seen);
    }
    if (is_online_) listener_.on_ack_due(sender, fp);
}

void QosReceiveDaemon::forget(std::string_view sender, const Fingerprint& fp) {
    const auto found = seen_.find(key_of(sender, fp));
    if (found == seen_.end()) return;
    const SeenList::iterator seen = found->second;
    seen_.erase(found);
    list_of(*seen).erase(seen);
    if (seen_.empty()) sweep_timer_.stop();
}

void QosReceiveDaemon::forget_oldest() {
    SeenList& list = handled_.empty() ? in_hand_ : handled_;
    seen_.erase(list.front().key);
    list.pop_front();
}

void QosReceiveDaemon::sweep() {
    const TimePoint now = context_.now();
    for (SeenList* list : {&in_hand_, &handled_}) {
        while (!list->empty() && now - list->front().at >= options_.dedup_memory) {
            seen_.erase(list->front().key);
            list->pop_front();
        }
    }
    if (!seen_.empty()) sweep_timer_.start(options_.dedup_sweep);
}

bool QosReceiveDaemon::is_consistent() const {
    if (h_ > rx_ || h_said_ > h_) return false;
    if (!is_online_ && (must_say_ || ack_timer_.is_running() || gap_said_at_)) return false;
    if (ack_timer_.is_running() && h_said_ == h_) return false;
    if (seen_.size() != in_hand_.size() + handled_.size()) return false;
    if (seen_.size() > options_.dedup_entries_max) return false;
    return sweep_timer_.is_running() == !seen_.empty();
}

}  // namespace petrel
