#include "core/client/c_events.hpp"

#include <chrono>
#include <variant>

namespace petrel {

namespace {

std::int64_t microseconds(Duration duration) {
    return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

std::int32_t number(Outcome outcome) {
    switch (outcome) {
        case Outcome::kAccepted: return PETREL_OUTCOME_ACCEPTED;
        case Outcome::kRejected: return PETREL_OUTCOME_REJECTED;
        case Outcome::kExpired: return PETREL_OUTCOME_EXPIRED;
        case Outcome::kCancelled: return PETREL_OUTCOME_CANCELLED;
        case Outcome::kLost: return PETREL_OUTCOME_LOST;
        case Outcome::kUnknown: return PETREL_OUTCOME_UNKNOWN;
    }
    return PETREL_OUTCOME_UNKNOWN;
}

}  // namespace

std::int32_t state_number(ClientState state) {
    switch (state) {
        case ClientState::kOffline: return PETREL_STATE_OFFLINE;
        case ClientState::kConnecting: return PETREL_STATE_CONNECTING;
        case ClientState::kOnline: return PETREL_STATE_ONLINE;
        case ClientState::kNoNetwork: return PETREL_STATE_NO_NETWORK;
        case ClientState::kStopped: return PETREL_STATE_STOPPED;
    }
    return PETREL_STATE_OFFLINE;
}

petrel_stats show_stats(const EngineStats& stats) {
    petrel_stats out{};
    out.struct_size = sizeof out;
    out.sent = stats.sent;
    out.accepted = stats.accepted;
    out.rejected = stats.rejected;
    out.expired = stats.expired;
    out.cancelled = stats.cancelled;
    out.lost = stats.lost;
    out.received = stats.received;
    out.packets_out = stats.packets_out;
    out.packets_in = stats.packets_in;
    out.bytes_out = stats.bytes_out;
    out.bytes_in = stats.bytes_in;
    out.retransmitted = stats.retransmitted;
    out.duplicates = stats.duplicates;
    out.gaps = stats.gaps;
    out.malformed = stats.malformed;
    out.ignored = stats.ignored;
    out.unknown_acks = stats.unknown_acks;
    out.logins = stats.logins;
    out.reconnects = stats.reconnects;
    out.round_trip_us = microseconds(stats.round_trip);
    out.kept = stats.kept;
    out.in_flight = stats.in_flight;
    out.unhandled = stats.unhandled;
    out.reconnects_broken = stats.reconnects_broken;
    out.reconnects_closed = stats.reconnects_closed;
    out.reconnects_silent = stats.reconnects_silent;
    return out;
}

const petrel_event* CEvent::show(const Event& event) {
    event_ = {};
    event_.struct_size = sizeof event_;
    std::visit([this](const auto& of_kind) { fill(of_kind); }, event);
    return &event_;
}

void CEvent::fill(const StateEvent& event) {
    petrel_state_event& out = body_.state = {};
    out.struct_size = sizeof out;
    out.state = state_number(event.state);
    out.code = event.code;
    out.reason = event.reason.c_str();
    event_.type = PETREL_EVENT_STATE;
    event_.as.state = &out;
}

void CEvent::fill(const LoginEvent& event) {
    petrel_login_event& out = body_.login = {};
    out.struct_size = sizeof out;
    out.code = event.code;
    out.message = event.message.c_str();
    out.profile = profile(event.profile).name.data();
    out.generation = event.generation;
    out.will_retry = event.will_retry ? 1 : 0;
    event_.type = PETREL_EVENT_LOGIN;
    event_.as.login = &out;
}

void CEvent::fill(const MessageEvent& event) {
    fingerprint_ = event.fp.to_string();
    petrel_message_event& out = body_.message = {};
    out.struct_size = sizeof out;
    out.typeu = event.typeu;
    out.id = event.id;
    out.from = event.from.c_str();
    out.to = event.to.c_str();
    out.fingerprint = fingerprint_.c_str();
    out.text = event.text.c_str();
    out.text_size = event.text.size();
    out.conversation = event.conv.c_str();
    out.cseq = event.cseq;
    out.epoch = event.epoch.c_str();
    out.seq = event.seq;
    out.send_ts = event.send_ts.value_or(0);
    out.qos = event.qos ? 1 : 0;
    out.is_redelivered = event.is_redelivered ? 1 : 0;
    event_.type = PETREL_EVENT_MESSAGE;
    event_.as.message = &out;
}

void CEvent::fill(const OutcomeEvent& event) {
    const OutcomeRecord& record = event.record;
    fingerprint_ = record.fp.to_string();
    petrel_outcome_event& out = body_.outcome = {};
    out.struct_size = sizeof out;
    out.outcome = number(record.outcome);
    out.fingerprint = fingerprint_.c_str();
    out.to = record.to.c_str();
    out.code = record.code;
    out.attempts = record.attempts;
    out.cseq = record.cseq.value_or(0);
    out.send_ts = record.send_ts.value_or(0);
    out.is_correction = event.is_correction ? 1 : 0;
    event_.type = PETREL_EVENT_OUTCOME;
    event_.as.outcome = &out;
}

void CEvent::fill(const DeliveredEvent& event) {
    petrel_delivered_event& out = body_.delivered = {};
    out.struct_size = sizeof out;
    out.conversation = event.conv.c_str();
    out.user = event.user.c_str();
    out.delivered = event.delivered;
    event_.type = PETREL_EVENT_DELIVERED;
    event_.as.delivered = &out;
}

void CEvent::fill(const TokenNeededEvent& event) {
    petrel_token_needed_event& out = body_.token_needed = {};
    out.struct_size = sizeof out;
    out.code = event.code;
    event_.type = PETREL_EVENT_TOKEN_NEEDED;
    event_.as.token_needed = &out;
}

void CEvent::fill(const KickedEvent& event) {
    petrel_kicked_event& out = body_.kicked = {};
    out.struct_size = sizeof out;
    out.code = event.code;
    out.reason = event.reason.c_str();
    out.device = event.device.c_str();
    event_.type = PETREL_EVENT_KICKED;
    event_.as.kicked = &out;
}

void CEvent::fill(const BreakEvent& event) {
    petrel_break_event& out = body_.broken = {};
    out.struct_size = sizeof out;
    out.side = event.side == BreakEvent::Side::kInbox ? PETREL_BREAK_INBOX : PETREL_BREAK_OUTBOX;
    out.epoch = event.epoch.c_str();
    out.resumed_after = event.resumed_after;
    event_.type = PETREL_EVENT_BREAK;
    event_.as.broken = &out;
}

void CEvent::fill(const ErrorEvent& event) {
    petrel_error_event& out = body_.error = {};
    out.struct_size = sizeof out;
    out.code = event.code;
    out.message = event.message.c_str();
    event_.type = PETREL_EVENT_ERROR;
    event_.as.error = &out;
}

void CEvent::fill(const EchoEvent& event) {
    petrel_echo_event& out = body_.echo = {};
    out.struct_size = sizeof out;
    out.text = event.text.c_str();
    out.text_size = event.text.size();
    out.round_trip_us = microseconds(event.round_trip);
    event_.type = PETREL_EVENT_ECHO;
    event_.as.echo = &out;
}

}  // namespace petrel
