#include "tools/petrel/ledger.hpp"

#include <algorithm>
#include <optional>
#include <utility>

namespace petrel::tools {
namespace {

constexpr std::uint64_t pair_key(std::uint32_t a, std::uint32_t b) {
    return (static_cast<std::uint64_t>(a) << 32) | b;
}

constexpr int kFingerprintReused = 305;  // PROTOCOL.md section 2.

// The value below which a share `p` of them lies (nearest rank). Reorders them.
std::optional<double> percentile(std::vector<float>& values, double p) {
    if (values.empty()) return std::nullopt;
    auto rank = static_cast<std::size_t>(p * static_cast<double>(values.size()));
    rank = std::min(rank, values.size() - 1);
    const auto nth = values.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(values.begin(), nth, values.end());
    return static_cast<double>(*nth);
}

bool is_problem(Verdict verdict) {
    switch (verdict) {
        case Verdict::kDoubled:
        case Verdict::kDisordered:
        case Verdict::kLost:
        case Verdict::kUncommitted:
        case Verdict::kContradicted:
        case Verdict::kPending:
        case Verdict::kUnknown: return true;
        default: return false;
    }
}

}  // namespace

Ledger::Ledger(Options options) : options_(options), names_(options.names_bytes_max) {
    options_.messages_max = std::min<std::size_t>(options_.messages_max, kNone - 1);
}

Ledger::Source Ledger::open_source(std::string_view name) {
    SourceState state{};
    state.name = names_.intern(name);
    state.device = kNone;
    sources_.push_back(state);
    return static_cast<Source>(sources_.size() - 1);
}

std::uint32_t Ledger::party(std::string_view app, std::string_view user) {
    const std::uint32_t app_name = names_.intern(app);
    const std::uint32_t user_name = names_.intern(user);
    if (app_name == kNone || user_name == kNone) return kNone;
    const auto found = party_index_.find(pair_key(app_name, user_name));
    if (found != party_index_.end()) return found->second;
    if (!names_.take(kEntryBytes)) return kNone;
    const auto number = static_cast<std::uint32_t>(parties_.size());
    party_index_.emplace(pair_key(app_name, user_name), number);
    parties_.push_back({app_name, user_name});
    return number;
}

std::uint32_t Ledger::device(const DeviceKey& key) {
    const std::uint32_t owner = party(key.app, key.user);
    const std::uint32_t name = names_.intern(key.device);
    if (owner == kNone || name == kNone) return kNone;
    const auto found = device_index_.find(pair_key(owner, name));
    if (found != device_index_.end()) return found->second;
    if (!names_.take(kEntryBytes)) return kNone;
    const auto number = static_cast<std::uint32_t>(devices_.size());
    device_index_.emplace(pair_key(owner, name), number);
    devices_.push_back({owner, name});
    return number;
}

// The device named, or the last one that this source spoke of.
std::uint32_t Ledger::speaking_device(Source source, const DeviceKey& key) {
    SourceState& state = sources_[source];
    if (!key.user.empty()) state.device = device(key);
    return state.device;
}

std::uint32_t Ledger::find_or_add(const MessageKey& key) {
    return find_or_add(party(key.app, key.from), key.fp);
}

std::uint32_t Ledger::find_or_add(std::uint32_t sender, std::string_view fp) {
    const std::optional<FingerprintKey> made = FingerprintKey::make(fp, names_);
    if (sender == kNone || !made) return kNone;
    const FingerprintKey& fp_key = *made;
    const auto hash_of = [](std::uint32_t owner, const FingerprintKey& key_of) {
        return mix_bits(key_of.hash() + owner);
    };
    const std::uint32_t found =
        message_index_.find(hash_of(sender, fp_key), [&](std::uint32_t slot) {
            return messages_[slot].sender == sender && messages_[slot].fp == fp_key;
        });
    if (found != SlotIndex::kEmpty) return found;
    if (messages_.size() >= options_.messages_max) {
        ++overflow_;
        return kNone;
    }
    Message message;
    message.fp = fp_key;
    message.sender = sender;
    const auto index = static_cast<std::uint32_t>(messages_.size());
    messages_.push_back(message);
    message_index_.insert(index, [&](std::uint32_t slot) {
        return hash_of(messages_[slot].sender, messages_[slot].fp);
    });
    return index;
}

void Ledger::set_recipient(Message& message, std::string_view app, std::string_view to) {
    if (message.recipient == kNone && !to.empty()) message.recipient = party(app, to);
}

void Ledger::append_to_stream(Source source, std::uint32_t index, std::string_view device_name) {
    Message& message = messages_[index];
    const std::uint32_t name = names_.intern(device_name);
    if (name == kNone) return;
    // A stream lies within one source: what two runs queued is compared where both queued it.
    const auto key = std::make_tuple(source, pair_key(message.sender, name), message.recipient);
    auto entry = stream_index_.find(key);
    if (entry == stream_index_.end()) {
        if (!names_.take(kStreamBytes)) return;
        entry = stream_index_.emplace(key, static_cast<std::uint32_t>(streams_.size())).first;
        streams_.emplace_back();
    }
    if (message.stream == entry->second) return;
    message.stream = entry->second;
    streams_[entry->second].push_back(index);
}

void Ledger::queued(Source source, const MessageKey& key, std::string_view to,
                    std::string_view device_name, bool has_qos) {
    sources_[source].has_queued = true;
    const std::uint32_t index = find_or_add(key);
    if (index == kNone) return;
    Message& message = messages_[index];
    set_recipient(message, key.app, to);
    message.flags |= kQueued | kOpen;
    if (!has_qos) {
        message.flags |= kNoQos;
        return;
    }
    // The app's own second try after a bad outcome begins a new life.
    if (message.outcome != Outcome::kAccepted && message.outcome_source == source) {
        message.outcome = Outcome::kNone;
    }
    append_to_stream(source, index, device_name);
}

// One outcome each. A correction after "lost" is allowed, a new one after queueing again, and 305
// for another payload under the fingerprint of a message that was accepted.
void Ledger::note_outcome(Source source, Message& message, Outcome outcome, int code) {
    const Outcome earlier = message.outcome;
    const bool is_open = (message.flags & kOpen) != 0;
    message.flags = static_cast<std::uint16_t>(message.flags & ~kOpen);
    if (earlier == Outcome::kAccepted && outcome == Outcome::kRejected &&
        code == kFingerprintReused) {
        return;
    }
    const bool is_final =
        earlier != Outcome::kNone && earlier != Outcome::kLost && earlier != Outcome::kUnknown;
    if (is_final && !is_open && earlier != outcome && message.outcome_source == source) {
        message.flags |= kContradicted;
    }
    message.outcome_source = source;
    if (earlier == Outcome::kAccepted) return;
    message.outcome = outcome;
    message.code = static_cast<std::uint16_t>(std::clamp(code, 0, 65'535));
}

void Ledger::accepted(Source source, const MessageKey& key, const Accepted& event) {
    const std::uint32_t index = find_or_add(key);
    if (index == kNone) return;
    Message& message = messages_[index];
    set_recipient(message, key.app, event.to);
    note_outcome(source, message, Outcome::kAccepted, 0);
    message.flags |= kAccepted;
    message.attempts = std::max(message.attempts, event.attempts);
    if (event.ms) message.ms = static_cast<float>(*event.ms);
    if (!event.cseq) return;
    message.flags |= kAckHadCseq;
    if ((message.flags & kHasCseq) == 0) message.cseq = *event.cseq;
}

void Ledger::settled(Source source, const MessageKey& key, Outcome outcome, int code,
                     std::uint32_t attempts) {
    const std::uint32_t index = find_or_add(key);
    if (index == kNone) return;
    Message& message = messages_[index];
    note_outcome(source, message, outcome, code);
    message.attempts = std::max(message.attempts, attempts);
}

void Ledger::handed_up(Source source, const DeviceKey& key, const HandedUp& event) {
    const std::uint32_t device_number = speaking_device(source, key);
    if (device_number == kNone) return;
    const std::uint32_t owner = devices_[device_number].party;
    parties_[owner].has_listened = true;
    if (event.fp.empty()) return;
    const std::uint32_t index = find_or_add(party(event.app, event.from), event.fp);
    if (index == kNone) return;
    Message& message = messages_[index];
    set_recipient(message, event.app, event.to.empty() ? key.user : event.to);
    if (!event.has_qos) message.flags |= kNoQos;
    if (event.cseq && (message.flags & kHasCseq) == 0) message.cseq = *event.cseq;
    const bool is_group = event.conv.substr(0, 2) == "g:";
    if (message.recipient == owner || is_group) message.flags |= kDelivered;

    std::size_t count = 0;
    for (std::uint32_t i = message.deliveries; i != kNone; i = deliveries_[i].next, ++count) {
        if (deliveries_[i].device != device_number) continue;
        note_again(message, deliveries_[i], event.is_redelivered);
        return;
    }
    if (count >= options_.devices_per_message_max || deliveries_.size() >= kNone - 1) {
        ++overflow_;
        return;
    }
    note_first(message, device_number, event);
}

void Ledger::note_first(Message& message, std::uint32_t device_number, const HandedUp& event) {
    Device& taker = devices_[device_number];
    deliveries_.push_back({device_number, ++taker.deliveries, message.deliveries, taker.breaks});
    message.deliveries = static_cast<std::uint32_t>(deliveries_.size() - 1);
    if (!event.cseq || event.conv.empty()) return;
    // Behind a break the conversation may count from an older place.
    const std::uint32_t conversation = names_.intern(event.conv);
    if (conversation == kNone) return;
    const std::uint64_t key = pair_key(device_number, conversation);
    const auto entry = heights_.find(key);
    if (entry == heights_.end()) {
        if (names_.take(kEntryBytes)) heights_.emplace(key, Height{*event.cseq, taker.breaks});
        return;
    }
    Height& height = entry->second;
    if (height.breaks != taker.breaks) {
        height = {*event.cseq, taker.breaks};
        return;
    }
    if (*event.cseq <= height.cseq && !event.is_redelivered) message.flags |= kCseqFell;
    height.cseq = std::max(height.cseq, *event.cseq);
}

void Ledger::note_again(Message& message, Delivery& delivery, bool is_marked) {
    const std::uint32_t breaks = devices_[delivery.device].breaks;
    if (is_marked) {
        message.flags |= kRedelivered;
        ++again_marked_;
    } else if (breaks != delivery.breaks) {
        message.flags |= kAfterBreak;
        ++again_unmarked_;
    } else {
        message.flags |= kDoubled;
    }
    delivery.breaks = breaks;
}

void Ledger::online(Source source, const DeviceKey& key) {
    const std::uint32_t device_number = speaking_device(source, key);
    SourceState& state = sources_[source];
    ++state.onlines;
    if (device_number == kNone) return;
    const std::uint32_t owner = devices_[device_number].party;
    const std::uint64_t pair = pair_key(source, owner);
    if (onlines_.count(pair) == 0 && names_.take(kEntryBytes)) onlines_.insert(pair);
}

void Ledger::listening(Source source, const DeviceKey& key) {
    const std::uint32_t device_number = speaking_device(source, key);
    if (device_number != kNone) parties_[devices_[device_number].party].has_listened = true;
}

void Ledger::offline(Source source, const DeviceKey& key) { speaking_device(source, key); }

void Ledger::broke(Source source, const DeviceKey& key) {
    ++breaks_;
    const std::uint32_t device_number = speaking_device(source, key);
    if (device_number != kNone) ++devices_[device_number].breaks;
}

void Ledger::committed(Source, const MessageKey& key, std::string_view to,
                       std::optional<std::uint64_t> cseq) {
    has_trace_ = true;
    const std::uint32_t index = find_or_add(key);
    if (index == kNone) return;
    Message& message = messages_[index];
    set_recipient(message, key.app, to);
    const bool is_again = (message.flags & kHasCseq) != 0;
    if (is_again && cseq && *cseq != message.cseq) message.flags |= kDoubled;
    message.flags |= kCommitted;
    if (!cseq) return;
    message.flags |= kHasCseq;
    message.cseq = *cseq;
}

void Ledger::duplicate(Source, const MessageKey& key) {
    has_trace_ = true;
    ++duplicates_suppressed_;
    const std::uint32_t index = find_or_add(key);
    if (index != kNone) messages_[index].flags |= kCommitted;
}

void Ledger::pushed(Source, const MessageKey& key) {
    has_trace_ = true;
    const std::uint32_t index = find_or_add(key);
    if (index != kNone) messages_[index].flags |= kCommitted;
}

void Ledger::refused(Source, const MessageKey&, int) {
    has_trace_ = true;
    ++refused_;
}

bool Ledger::is_heard_of(const Message& message) const {
    return message.recipient != kNone && parties_[message.recipient].has_listened;
}

// A gateway killed between its commit and the trace of it leaves no line; at the next login the
// sender hears of the commit by the stream's height alone, which tells no cseq (PROTOCOL.md section
// 4.2). So only an acceptance with a cseq must have its line, and no delivered message needs one.
bool Ledger::is_uncommitted(const Message& message) const {
    const auto has = [&](int flags) { return (message.flags & flags) != 0; };
    return has_trace_ && has(kAckHadCseq) && !has(kCommitted) && !has(kDelivered);
}

void Ledger::mark_listeners() {
    for (const std::uint64_t pair : onlines_) {
        if (sources_[pair >> 32].has_queued) continue;
        parties_[pair & UINT32_MAX].has_listened = true;
    }
}

// In each stream from its newest message back: what a device got after one that was queued later
// is late.
void Ledger::mark_late() {
    for (Message& message : messages_) {
        message.flags = static_cast<std::uint16_t>(message.flags & ~kLate);
    }
    if (!options_.is_order_judged) return;
    std::unordered_map<std::uint32_t, std::uint32_t> earliest;  // Position by device.
    for (const auto& stream : streams_) {
        earliest.clear();
        for (auto index = stream.rbegin(); index != stream.rend(); ++index) {
            Message& message = messages_[*index];
            for (std::uint32_t i = message.deliveries; i != kNone; i = deliveries_[i].next) {
                const Delivery& delivery = deliveries_[i];
                const auto [entry, is_new] = earliest.emplace(delivery.device, delivery.position);
                if (delivery.position > entry->second) message.flags |= kLate;
                entry->second = std::min(entry->second, delivery.position);
            }
        }
    }
}

Verdict Ledger::judge(const Message& message) const {
    const auto has = [&](int flags) { return (message.flags & flags) != 0; };
    if (has(kNoQos)) return Verdict::kNotJudged;
    if (has(kDoubled)) return Verdict::kDoubled;
    if (options_.is_order_judged && has(kLate | kCseqFell)) return Verdict::kDisordered;
    const bool is_sent = has(kQueued | kAccepted | kCommitted) || message.outcome != Outcome::kNone;
    if (!is_sent) return Verdict::kNotJudged;
    const bool is_accepted = has(kAccepted | kCommitted);
    if (!has(kDelivered)) {
        if (is_accepted && is_heard_of(message)) return Verdict::kLost;
        if (!is_accepted && message.outcome == Outcome::kLost) return Verdict::kLost;
    }
    if (is_uncommitted(message)) return Verdict::kUncommitted;
    if (has(kContradicted)) return Verdict::kContradicted;
    if (has(kQueued) && message.outcome == Outcome::kNone) return Verdict::kPending;
    if (has(kRedelivered)) return Verdict::kRedelivered;
    if (has(kDelivered)) return Verdict::kDelivered;
    switch (message.outcome) {
        case Outcome::kRejected: return Verdict::kRejected;
        case Outcome::kExpired: return Verdict::kExpired;
        case Outcome::kCancelled: return Verdict::kCancelled;
        case Outcome::kUnknown: return is_accepted ? Verdict::kAccepted : Verdict::kUnknown;
        default: return Verdict::kAccepted;
    }
}

void Ledger::count(const Message& message, Report& report) const {
    const auto has = [&](int flags) { return (message.flags & flags) != 0; };
    const Verdict verdict = judge(message);
    if (message.attempts > 1) report.retransmitted += message.attempts - 1;
    if (has(kNoQos)) {
        ++report.not_judged;
        return;
    }
    const bool is_disordered = options_.is_order_judged && has(kLate | kCseqFell);
    if (has(kDoubled)) ++report.doubled;
    if (is_disordered) ++report.disordered;
    if (!has(kQueued | kAccepted | kCommitted) && message.outcome == Outcome::kNone) {
        ++report.not_judged;
        return;
    }
    ++report.sent;
    if (has(kAccepted | kCommitted)) ++report.accepted;
    if (is_heard_of(message) || has(kDelivered)) ++report.judged;
    if (has(kDelivered)) ++report.delivered;
    if (has(kDelivered) && !has(kDoubled) && !is_disordered) ++report.delivered_once;
    if (has(kContradicted)) ++report.contradicted;
    if (is_uncommitted(message)) ++report.uncommitted;
    if (has(kQueued) && message.outcome == Outcome::kNone) ++report.pending;
    switch (verdict) {
        case Verdict::kLost: ++report.lost; break;
        case Verdict::kRejected: ++report.rejected; break;
        case Verdict::kExpired: ++report.expired; break;
        case Verdict::kCancelled: ++report.cancelled; break;
        case Verdict::kUnknown: ++report.unknown; break;
        default: break;
    }
}

JudgedMessage Ledger::describe(const Message& message) const {
    JudgedMessage judged;
    const Party& sender = parties_[message.sender];
    judged.verdict = judge(message);
    judged.app = names_[sender.app];
    judged.from = names_[sender.user];
    judged.to = message.recipient == kNone ? "?" : names_[parties_[message.recipient].user];
    judged.fp = message.fp.to_string(names_);
    if (message.cseq > 0) judged.cseq = message.cseq;
    judged.attempts = message.attempts;
    if (message.ms >= 0) judged.ms = static_cast<double>(message.ms);
    judged.code = message.code;
    for (std::uint32_t i = message.deliveries; i != kNone; i = deliveries_[i].next) {
        ++judged.devices;
    }
    return judged;
}

Report Ledger::report() {
    mark_listeners();
    mark_late();
    Report report;
    report.is_order_judged = options_.is_order_judged;
    report.has_trace = has_trace_;
    report.duplicates_suppressed = duplicates_suppressed_;
    report.refused = refused_;
    report.redelivered = again_marked_;
    report.after_break = again_unmarked_;
    report.breaks = breaks_;
    report.overflow = overflow_ + names_.refused();
    for (const SourceState& state : sources_) {
        if (state.onlines > 1) report.reconnects += state.onlines - 1;
    }
    std::vector<float> times;
    for (const Message& message : messages_) {
        count(message, report);
        if (message.ms >= 0) times.push_back(message.ms);
        if (!is_problem(judge(message))) continue;
        ++report.problem_count;
        if (report.problems.size() < options_.problems_max) {
            report.problems.push_back(describe(message));
        }
    }
    report.p50_ms = percentile(times, 0.50);
    report.p99_ms = percentile(times, 0.99);
    return report;
}

void Ledger::for_each(const std::function<void(const JudgedMessage&)>& visit) const {
    for (const Message& message : messages_) visit(describe(message));
}

}  // namespace petrel::tools
