#include "daemons/qos_receive.hpp"

#include <algorithm>
#include <chrono>

namespace petrel {

namespace {

// A sweep every 0 ms would keep the owner's timer queue spinning.
constexpr Duration kSweepMin = std::chrono::milliseconds{1};
// What one sweep forgets at most, some 100 us of work; the next one comes after kSweepMin.
constexpr int kSweptAtOnce = 1024;

// Half of what 31 bits of milliseconds reach: what is older is seen to be so, whatever the clock
// has come to.
constexpr Duration kMemoryMax = std::chrono::hours{24 * 10};

std::uint32_t to_millis(TimePoint at) noexcept {
    const auto millis = std::chrono::floor<std::chrono::milliseconds>(at.time_since_epoch());
    return static_cast<std::uint32_t>(millis.count()) & IdTable::kTimeMax;
}

}  // namespace

QosReceiveDaemon::QosReceiveDaemon(DaemonContext& context, Listener& listener, Options options)
    : context_(context),
      listener_(listener),
      options_(options),
      ack_timer_(context.timers(), "qos-receive-ack", [this] { say(false); }),
      sweep_timer_(context.timers(), "qos-receive-sweep", [this] { sweep(); }) {
    options_.dedup_sweep = std::max(options_.dedup_sweep, kSweepMin);
    options_.dedup_memory = std::min(options_.dedup_memory, kMemoryMax);
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

QosReceiveDaemon::Plain::Plain(DaemonContext& context)
    : secret{context.random(0, UINT64_MAX), context.random(0, UINT64_MAX)} {}

IdTable::Id QosReceiveDaemon::id_of(std::string_view sender, const Fingerprint& fp) const {
    // The fingerprint first, behind its length, so that it cannot run into the sender.
    KeyedHash hash(plain_->secret);
    const char head = static_cast<char>(fp.text().size());  // 0: a UUID.
    hash.add({&head, 1});
    if (fp.is_uuid()) {
        hash.add({reinterpret_cast<const char*>(fp.uuid().data()), fp.uuid().size()});
    } else {
        hash.add(fp.text());
    }
    hash.add(sender);
    return hash.finish();
}

Slot QosReceiveDaemon::find_seen(std::string_view sender, const Fingerprint& fp) const {
    return plain_ ? plain_->seen.find(id_of(sender, fp)) : kNoSlot;
}

QosReceiveDaemon::Verdict QosReceiveDaemon::on_data(std::string_view sender,
                                                    const Fingerprint& fp) {
    if (options_.dedup_entries_max == 0) return Verdict::kTake;
    if (!plain_) plain_ = std::make_unique<Plain>(context_);
    IdTable& seen = plain_->seen;
    const IdTable::Id id = id_of(sender, fp);
    const std::uint32_t now = to_millis(context_.now());
    const Slot found = seen.find(id);
    if (found == kNoSlot) {
        while (seen.size() >= options_.dedup_entries_max) forget_oldest();
        seen.add(id, now);
        if (!sweep_timer_.is_running()) sweep_timer_.start(options_.dedup_sweep);
        return Verdict::kTake;
    }
    ++duplicates_;
    // Who still retransmits it needs the memory from now on.
    seen.touch(found, now);
    if (seen.is_marked(found) && is_online_) listener_.on_ack_due(sender, fp);
    return Verdict::kDuplicate;
}

void QosReceiveDaemon::on_handled(std::string_view sender, const Fingerprint& fp) {
    const Slot found = find_seen(sender, fp);
    if (found != kNoSlot) {
        if (plain_->seen.is_marked(found)) return;
        plain_->seen.mark(found, to_millis(context_.now()));
    }
    if (is_online_) listener_.on_ack_due(sender, fp);
}

void QosReceiveDaemon::forget(std::string_view sender, const Fingerprint& fp) {
    const Slot found = find_seen(sender, fp);
    if (found == kNoSlot) return;
    plain_->seen.remove(found);
    if (plain_->seen.size() == 0) sweep_timer_.stop();
}

void QosReceiveDaemon::forget_oldest() {
    IdTable& seen = plain_->seen;
    const Slot handled = seen.oldest(true);
    seen.remove(handled != kNoSlot ? handled : seen.oldest(false));
}

void QosReceiveDaemon::sweep() {
    IdTable& seen = plain_->seen;
    const std::uint32_t now = to_millis(context_.now());
    const auto memory = std::chrono::ceil<std::chrono::milliseconds>(options_.dedup_memory);
    int left = kSweptAtOnce;
    for (const bool is_handled : {false, true}) {
        while (left > 0) {
            const Slot oldest = seen.oldest(is_handled);
            if (oldest == kNoSlot) break;
            const std::uint32_t age = (now - seen.at(oldest)) & IdTable::kTimeMax;
            if (age < memory.count()) break;
            seen.remove(oldest);
            --left;
        }
    }
    if (seen.size() == 0) return;
    sweep_timer_.start(left == 0 ? kSweepMin : options_.dedup_sweep);
}

bool QosReceiveDaemon::is_consistent() const {
    if (h_ > rx_ || h_said_ > h_) return false;
    if (!is_online_ && (must_say_ || ack_timer_.is_running() || gap_said_at_)) return false;
    if (ack_timer_.is_running() && h_said_ == h_) return false;
    if (plain_ && !plain_->seen.is_consistent()) return false;
    if (dedup_size() > options_.dedup_entries_max) return false;
    return sweep_timer_.is_running() == (dedup_size() > 0);
}

}  // namespace petrel
