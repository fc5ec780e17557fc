#include "tests/simulation/checker.hpp"

#include <algorithm>

namespace petrel::sim {
namespace {

std::string name(const Checker::Device& device) { return device.user + "/" + device.device; }

// PROTOCOL.md section 4.7: what settles a message, of all that a gateway or engine here can say.
bool is_refusal(int code) {
    switch (static_cast<Errc>(code)) {
        case Errc::kNoSuchGroup:
        case Errc::kTooLarge:
        case Errc::kInboxFull: return true;
        default: return false;
    }
}

}  // namespace

std::string Checker::key_of(const std::string& sender, const Fingerprint& fp) {
    return sender + " " + fp.to_string();
}

void Checker::fail(const std::string& what) {
    if (!violation_) violation_ = what;
}

void Checker::on_device(const Device& device) { devices_[device]; }

void Checker::on_taken(const Device& sender, const std::string& to, std::size_t size,
                       const Fingerprint& fp) {
    Message& message = messages_[key_of(sender.user, fp)];
    if (message.was_taken) return;
    message.was_taken = true;
    message.sender = sender;
    message.to = to;
    message.size = size;
    message.order = ++next_order_[sender];
}

void Checker::on_committed(const AppendRequest& request, const AppendResult& result,
                           const std::vector<Delivery>& deliveries) {
    if (result.fate != AppendResult::Fate::kAccepted) return;
    const std::string key = key_of(request.message->from, request.message->fp);
    schedule_.note(result.cseq);
    Message& message = messages_[key];
    if (message.is_committed && !message.was_lost) fail("accepted twice: " + key);
    message.was_lost = false;
    if (message.outcome == Outcome::kRejected) fail("accepted after it was rejected: " + key);
    message.is_committed = true;
    message.cseq = result.cseq;
    message.send_ts = result.send_ts;
    if (message.outcome == Outcome::kCancelled || message.outcome == Outcome::kExpired) {
        if (message.attempts == 0) fail("reported as never on the wire, then accepted: " + key);
    }
    for (const Delivery& delivery : deliveries) {
        std::vector<std::string>& inbox = committed_to_[delivery.message->to];
        inbox.push_back(key);
        if (delivery.seq != inbox.size()) fail("an inbox position was left out: " + key);
        if (!cseqs_[delivery.message->conv].emplace(result.cseq, key).second) {
            fail("a cseq was given twice in " + delivery.message->conv);
        }
    }
}

void Checker::on_outcome(const Device& sender, const OutcomeEvent& event) {
    const std::string key = key_of(sender.user, event.record.fp);
    Message& message = messages_[key];
    if (!message.was_taken) {
        // In the file, but send() had not returned when the process died.
        if (crashed_.count(sender) == 0) {
            return fail("an outcome for a message that nobody sent: " + key);
        }
        message.was_taken = true;
        message.sender = sender;
        message.to = event.record.to;
    }
    const Outcome outcome = event.record.outcome;
    if (event.is_correction) {
        if (message.outcome != Outcome::kLost || message.is_corrected) {
            fail("a correction of what was not lost: " + key);
        }
        message.is_corrected = true;
    } else if (message.outcome) {
        if (message.is_outcome_done) fail("a second outcome: " + key);
        if (*message.outcome != outcome) fail("a repeated outcome that differs: " + key);
    }
    if ((outcome == Outcome::kAccepted) && !message.is_committed) {
        fail("acked before it was durable: " + key);
    }
    if (outcome == Outcome::kAccepted && event.record.cseq && *event.record.cseq != message.cseq &&
        !was_store_lost_) {
        fail("acked with a cseq that is another's: " + key);
    }
    if (outcome == Outcome::kAccepted && event.record.send_ts &&
        *event.record.send_ts != message.send_ts && !was_store_lost_) {
        fail("acked with a time that is another's: " + key);
    }
    if (outcome == Outcome::kRejected && !is_refusal(event.record.code)) {
        fail("rejected with " + std::to_string(event.record.code) +
             ", which settles nothing: " + key);
    }
    if (outcome == Outcome::kRejected && message.is_committed && !message.was_lost) {
        fail("rejected, yet accepted: " + key);
    }
    const bool was_never_sent = event.record.attempts == 0;
    if (was_never_sent && message.is_committed && outcome != Outcome::kAccepted) {
        fail("reported as never on the wire, yet accepted: " + key);
    }
    if (outcome == Outcome::kLost && !sender.is_plain) fail("lost, in petrel.v1: " + key);
    message.outcome = outcome;
    message.attempts = event.record.attempts;
}

void Checker::on_outcome_done(const Device& sender, const Fingerprint& fp) {
    const auto found = messages_.find(key_of(sender.user, fp));
    if (found != messages_.end()) found->second.is_outcome_done = true;
}

void Checker::on_message(const Device& receiver, const MessageEvent& event) {
    const std::string key = key_of(event.from, event.fp);
    const auto found = messages_.find(key);
    if (found == messages_.end() || !found->second.is_committed) {
        return fail("handed up what was not accepted: " + key + " at " + name(receiver));
    }
    const Message& message = found->second;
    if (message.was_taken && message.to != receiver.user) {
        return fail("handed up to the wrong user: " + key + " at " + name(receiver));
    }
    ++handed_up_;
    schedule_.note(event.cseq);
    Arrivals& arrivals = devices_[receiver];
    const unsigned times = ++arrivals.times[key];
    if (event.is_redelivered) {
        ++redelivered_;
        if (crashed_.count(receiver) == 0) {
            fail("redelivered, yet its process never died: " + key + " at " + name(receiver));
        }
        if (arrivals.recorded.count(key) != 0 && !was_store_lost_) {
            fail("redelivered, yet recorded as handled: " + key + " at " + name(receiver));
        }
        return;
    }
    if (arrivals.is_break_due && !message.was_ever_lost) {
        return fail("a message after the store was lost, without a break before: " + key + " at " +
                    name(receiver));
    }
    if (times > 1 && !was_store_lost_)
        return fail("handed up twice: " + key + " at " + name(receiver));
    // What the lost store had accepted stands in an order of its own.
    if (message.was_ever_lost) return;
    if (!receiver.is_plain) {
        std::uint64_t& last_cseq = arrivals.last_cseq[event.conv];
        if (event.cseq <= last_cseq) {
            fail("out of order in " + event.conv + " at " + name(receiver));
        }
        last_cseq = event.cseq;
    }
    // A plain profile keeps the order as long as nothing is sent again.
    if ((receiver.is_plain || message.sender.is_plain) && !is_lossless_) return;
    if (message.order == 0) return;
    std::uint64_t& last_order = arrivals.last_order[name(message.sender)];
    if (message.order <= last_order && !was_store_lost_) {
        fail("not in the order of the send calls: " + key + " at " + name(receiver));
    }
    last_order = message.order;
}

void Checker::on_recorded(const Device& receiver, const InboxMessage& message) {
    devices_[receiver].recorded.insert(key_of(message.data.from, message.data.fp));
}

// The gateway may forget for a device what that one has handled, and nothing else.
void Checker::on_cursor(const CursorUpdate& update) {
    const Device id{update.user, update.device, update.is_plain};
    const auto found = devices_.find(id);
    if (found == devices_.end()) return;
    Arrivals& arrivals = found->second;
    const std::vector<std::string>& inbox = committed_to_[update.user];
    const Position first = update.is_plain ? update.position : arrivals.cursor + 1;
    for (Position seq = first; seq <= update.position; ++seq) {
        if (seq == 0 || seq > inbox.size()) {
            return fail("a cursor beyond the inbox of " + name(id));
        }
        const std::string& key = inbox[seq - 1];
        const bool is_handled =
            update.is_plain ? arrivals.times.count(key) != 0 : arrivals.recorded.count(key) != 0;
        if (!is_handled) return fail("acked before it was handled: " + key + " at " + name(id));
    }
    if (!update.is_plain) arrivals.cursor = std::max(arrivals.cursor, update.position);
}

void Checker::on_receipt(const DeliveredEvent& event) {
    if (was_store_lost_) return;  // One of the lost store's, with its own numbers, may come late.
    std::uint64_t& told = receipts_[{event.conv, event.user}];
    const auto conversation = cseqs_.find(event.conv);
    if (conversation == cseqs_.end()) return;
    const auto& messages = conversation->second;
    for (auto it = messages.upper_bound(told); it != messages.end() && it->first <= event.delivered;
         ++it) {
        const Message& message = messages_[it->second];
        if (!message.was_taken || message.to != event.user) continue;
        bool has_arrived = false;
        for (const auto& [device, arrivals] : devices_) {
            has_arrived |= device.user == event.user && arrivals.times.count(it->second) != 0;
        }
        if (!has_arrived) return fail("told as delivered before it arrived: " + it->second);
    }
    told = std::max(told, event.delivered);
}

void Checker::on_intruder(const Device& device) { intruded_.insert(device); }

// An outcome whose removal was not on the disk yet is told once more.
void Checker::on_crash(const Device& device, bool has_cursor) {
    crashed_.insert(device);
    // What never knew a store cannot miss it.
    if (!has_cursor) devices_[device].was_online = devices_[device].is_break_due = false;
    for (auto& [key, message] : messages_) {
        const bool is_of_device = !(message.sender < device) && !(device < message.sender);
        if (is_of_device) message.is_outcome_done = false;
    }
}

void Checker::on_store_lost() {
    was_store_lost_ = true;
    for (auto& [key, message] : messages_) {
        message.was_lost = message.is_committed;
        message.was_ever_lost = message.was_ever_lost || message.was_lost;
    }
    for (auto& [device, arrivals] : devices_) {
        arrivals.last_cseq.clear();
        arrivals.last_order.clear();
        arrivals.cursor = 0;
        arrivals.is_break_due = arrivals.was_online && !device.is_plain;
    }
    committed_to_.clear();
    cseqs_.clear();
    receipts_.clear();
}

void Checker::on_break(const Device& device, bool is_inbox) {
    if (!was_store_lost_) return fail("a break although no store was lost, at " + name(device));
    if (is_inbox) devices_[device].is_break_due = false;
}

void Checker::on_online(const Device& device) { devices_[device].was_online = true; }

bool Checker::is_settled() const { return missing().empty(); }

std::string Checker::missing() const {
    for (const auto& [key, message] : messages_) {
        if (message.was_taken && !message.outcome) return "no outcome for " + key;
    }
    for (const auto& [device, arrivals] : devices_) {
        const auto committed = committed_to_.find(device.user);
        if (committed == committed_to_.end()) continue;
        for (const std::string& key : committed->second) {
            if (arrivals.times.count(key) == 0) return key + " has not arrived at " + name(device);
        }
        if (!device.is_plain && arrivals.cursor < committed->second.size()) {
            return "the gateway does not know that " + name(device) + " has handled all";
        }
    }
    return {};
}

std::uint64_t Checker::bytes_needed() const {
    constexpr std::uint64_t kFrame = 500;  // Of the message, and of its ack.
    std::map<std::string, std::uint64_t> devices;
    for (const auto& [device, arrivals] : devices_) ++devices[device.user];
    std::uint64_t bytes = 0;
    for (const auto& [key, message] : messages_) {
        const auto found = devices.find(message.to);
        const std::uint64_t copies = 1 + (found == devices.end() ? 0 : found->second);
        bytes += copies * (message.size + kFrame);
    }
    return bytes;
}

void Checker::summarize(Report& report) const {
    for (const auto& [key, message] : messages_) {
        if (!message.was_taken) continue;
        ++report.sent;
        if (!message.outcome) continue;
        switch (*message.outcome) {
            case Outcome::kAccepted: ++report.accepted; break;
            case Outcome::kRejected: ++report.rejected; break;
            case Outcome::kExpired: ++report.expired; break;
            case Outcome::kCancelled: ++report.cancelled; break;
            case Outcome::kLost:
            case Outcome::kUnknown: ++report.lost; break;
        }
    }
    report.handed_up = handed_up_;
    report.redelivered = redelivered_;
    report.violation = violation_;
}

}  // namespace petrel::sim
