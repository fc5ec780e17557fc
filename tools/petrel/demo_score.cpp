#include "tools/petrel/demo_score.hpp"

#include <algorithm>
#include <utility>
#include <variant>

#include "tools/petrel/ledger_reader.hpp"

namespace petrel::tools {
namespace {

constexpr std::string_view kApp = "default";

// The ledger has its own names for the engine's outcomes.
tools::Outcome to_ledger(petrel::Outcome outcome) {
    switch (outcome) {
        case petrel::Outcome::kAccepted: return tools::Outcome::kAccepted;
        case petrel::Outcome::kRejected: return tools::Outcome::kRejected;
        case petrel::Outcome::kExpired: return tools::Outcome::kExpired;
        case petrel::Outcome::kCancelled: return tools::Outcome::kCancelled;
        case petrel::Outcome::kLost: return tools::Outcome::kLost;
        case petrel::Outcome::kUnknown: return tools::Outcome::kUnknown;
    }
    return tools::Outcome::kUnknown;
}

}  // namespace

Ledger::Source DemoScore::open_source(const std::string& name) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return ledger_.open_source(name);
}

void DemoScore::on_queued(Ledger::Source source, const std::string& from, const std::string& device,
                          const Fingerprint& fp, const std::string& to, const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ledger_.queued(source, {kApp, from, fp.to_string()}, to, device);
    Message message;
    message.name = from + " to " + to + ": " + text;
    message.queued_at = std::chrono::steady_clock::now();
    if (open_.emplace(fp, std::move(message)).second) ++progress_.queued;
}

void DemoScore::on_event(Ledger::Source source, const std::string& user, const std::string& device,
                         const Event& event) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const DeviceKey key{kApp, user, device};
    if (const auto* state = std::get_if<StateEvent>(&event)) {
        if (state->state == ClientState::kOnline) {
            ledger_.online(source, key);
            ledger_.listening(source, key);
        } else {
            ledger_.offline(source, key);
        }
    } else if (const auto* outcome = std::get_if<OutcomeEvent>(&event)) {
        on_outcome(source, user, outcome->record);
    } else if (const auto* message = std::get_if<MessageEvent>(&event)) {
        on_message(source, user, device, *message);
    } else if (std::get_if<BreakEvent>(&event) != nullptr) {
        ledger_.broke(source, key);
    }
    if (is_complete_locked()) changed_.notify_all();
}

void DemoScore::on_outcome(Ledger::Source source, const std::string& user,
                           const OutcomeRecord& record) {
    const std::string fp = record.fp.to_string();
    const auto found = open_.find(record.fp);
    if (record.outcome == petrel::Outcome::kAccepted) {
        Ledger::Accepted accepted;
        accepted.to = record.to;
        accepted.cseq = record.cseq;
        accepted.attempts = record.attempts;
        if (found != open_.end()) {
            accepted.ms = std::chrono::duration<double, std::milli>(
                              std::chrono::steady_clock::now() - found->second.queued_at)
                              .count();
        }
        ledger_.accepted(source, {kApp, user, fp}, accepted);
    } else {
        ledger_.settled(source, {kApp, user, fp}, to_ledger(record.outcome), record.code,
                        record.attempts);
    }
    if (found != open_.end() && !std::exchange(found->second.is_settled, true)) {
        ++progress_.settled;
    }
}

void DemoScore::on_message(Ledger::Source source, const std::string& user,
                           const std::string& device, const MessageEvent& message) {
    const std::string fp = message.fp.to_string();
    Ledger::HandedUp handed_up;
    handed_up.from = message.from;
    handed_up.to = message.to;
    handed_up.fp = fp;
    handed_up.conv = message.conv;
    if (message.cseq != 0) handed_up.cseq = message.cseq;
    handed_up.is_redelivered = message.is_redelivered;
    handed_up.has_qos = message.qos;
    ledger_.handed_up(source, {kApp, user, device}, handed_up);
    const auto found = open_.find(message.fp);
    if (found != open_.end() && !std::exchange(found->second.is_delivered, true)) {
        ++progress_.delivered;
    }
}

bool DemoScore::read_trace(const std::string& path, std::string& why) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return LedgerReader(ledger_).read_file(path, why);
}

DemoScore::Progress DemoScore::progress() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return progress_;
}

void DemoScore::wait_for(std::chrono::milliseconds patience) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, patience, [this] { return is_woken_ || is_complete_locked(); });
}

void DemoScore::wake() {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_woken_ = true;
    changed_.notify_all();
}

bool DemoScore::is_complete() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return is_complete_locked();
}

std::vector<std::string> DemoScore::missing(std::size_t sentences_max) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::string> result;
    if (progress_.queued < messages_) {
        result.push_back(std::to_string(messages_ - progress_.queued) + " were never queued");
    }
    for (const auto& [fp, message] : open_) {
        if (message.is_settled && message.is_delivered) continue;
        if (result.size() >= sentences_max) {
            result.push_back("...");
            break;
        }
        result.push_back(message.name + " (" + fp.to_string() +
                         "): " + (message.is_settled ? "has an outcome" : "has no outcome") + ", " +
                         (message.is_delivered ? "was delivered" : "was not delivered"));
    }
    return result;
}

Report DemoScore::report() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return ledger_.report();
}

}  // namespace petrel::tools
