#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "core/client/engine_impl.hpp"
#include "protocol/utf8.hpp"

// What the server says: PROTOCOL.md sections 1, 2, 4.3-4.7.

namespace petrel {

namespace {

constexpr std::uint16_t kNormalClose = 1000;
constexpr std::uint16_t kViolationClose = 4006;

// Section 1: so many within a minute, and the connection is closed.
constexpr std::size_t kMalformedMax = 16;
constexpr std::chrono::minutes kMalformedPeriod{1};

// A 302 without a time: as long as the first gap of a backoff at its widest.
constexpr std::chrono::seconds kBusyPause{1};

}  // namespace

// ---- frames ----

bool Engine::Impl::on_frame(std::uint64_t attempt) {
    if (!is_current(attempt) || !connection_.is_open) {
        ++counts_.ignored;
        return false;
    }
    ++counts_.packets_in;
    keepalive_.on_inbound();
    return true;
}

void Engine::Impl::on_text(TimePoint now, std::uint64_t attempt, std::string_view text) {
    const Input input(*this, now);
    if (!on_frame(attempt)) return;
    counts_.bytes_in += text.size();
    auto decoded = decode(text, profile_);
    if (decoded) {
        on_packet(decoded->packet);
    } else {
        on_malformed();
    }
}

void Engine::Impl::on_binary(TimePoint now, std::uint64_t attempt) {
    const Input input(*this, now);
    if (on_frame(attempt)) on_malformed();
}

void Engine::Impl::on_malformed() {
    ++counts_.malformed;
    const TimePoint now = timers_.now();
    auto& recent = connection_.malformed;
    while (!recent.empty() && now - recent.front() >= kMalformedPeriod) recent.pop_front();
    recent.push_back(now);
    if (recent.size() >= kMalformedMax) {
        reconnect(kViolationClose, "too many frames that are no packets");
        return;
    }
    report_now_and_then(malformed_told_at_, static_cast<int>(Errc::kInvalidPacket),
                        "the server sent a frame that is no packet");
}

void Engine::Impl::on_packet(Packet& packet) {
    if (auto* data = std::get_if<Data>(&packet)) {
        on_data(*data);
    } else if (const auto* ack = std::get_if<Ack>(&packet)) {
        on_ack(*ack);
    } else if (const auto* beat = std::get_if<HeartbeatResponse>(&packet)) {
        on_positions(*beat);
    } else if (const auto* reply = std::get_if<LoginResponse>(&packet)) {
        on_login_response(*reply);
    } else if (const auto* error = std::get_if<ErrorPacket>(&packet)) {
        on_error(*error);
    } else if (const auto* kickout = std::get_if<Kickout>(&packet)) {
        on_kickout(*kickout);
    } else if (const auto* receipt = std::get_if<Receipt>(&packet)) {
        push(DeliveredEvent{receipt->conv, receipt->user, receipt->delivered});
    } else if (const auto* echo = std::get_if<Echo>(&packet)) {
        on_echo(*echo);
    } else {
        ++counts_.ignored;  // Unknown, reserved, or of the other direction.
    }
}

// ---- acks ----

void Engine::Impl::on_data(Data& data) {
    if (!is_online()) {
        ++counts_.ignored;
        return;
    }
    if (is_v1() && data.h) {
        take_ack(*data.h, data.acc);
        if (!is_online()) return;
    }
    if (!data.qos) {
        hand_up_unacked(data);
    } else if (!is_v1()) {
        take_plain(data);
    } else if (data.seq != 0) {
        take_position(data);
    } else {
        ++counts_.ignored;
    }
}

void Engine::Impl::on_ack(const Ack& ack) {
    if (!is_online() || ack.h.has_value() != is_v1()) {
        ++counts_.ignored;
        return;
    }
    if (!is_v1()) {
        const std::size_t kept = send_.kept();
        send_.on_fingerprint_ack(ack.fp);
        if (send_.kept() < kept) relogin_.on_progress();
        return;
    }
    take_ack(*ack.h, ack.acc);
    // An `rx` that was never sent is somebody's mistake that harms nobody.
    if (is_online() && ack.gap && ack.rx && !send_.on_gap(*ack.rx)) ++counts_.ignored;
}

void Engine::Impl::take_ack(Position h, const std::vector<Acceptance>& acc) {
    const Position acked = send_.highest_acked();
    if (!send_.on_ack(h, acc)) {
        reconnect(kViolationClose, "the server acked what was never sent");
    } else if (send_.highest_acked() > acked) {
        relogin_.on_progress();
    }
}

void Engine::Impl::on_positions(const HeartbeatResponse& response) {
    if (!is_online()) {
        ++counts_.ignored;
        return;
    }
    if (!is_v1() || !response.positions) {
        keepalive_.on_beat_answered(std::nullopt);
        return;
    }
    const Positions& positions = *response.positions;
    // An ack first: what it covers is not outstanding any more when the answer is judged.
    take_ack(positions.h, {});
    if (!is_online()) return;
    tell_outstanding();
    keepalive_.on_beat_answered(positions.rx);
    if (has_inbox_room(1)) {
        receive_.on_sent_mark(positions.sent);
    } else {
        dropped_ = std::max(dropped_, positions.sent);
    }
}

// ---- errors ----

void Engine::Impl::on_error(const ErrorPacket& error) {
    bool is_of_message = false;
    if (is_v1() && !error.fp.empty() && error.seq) {
        const auto pause = error.retry_after_ms
                               ? Duration(std::chrono::milliseconds{*error.retry_after_ms})
                               : Duration(kBusyPause);
        is_of_message = send_.on_refused(error.fp, *error.seq, error.code, pause);
        if (!is_of_message) {
            ++counts_.ignored;  // Settled already.
            return;
        }
    } else if (!is_v1()) {
        is_of_message = on_plain_error(error);
    }

    switch (static_cast<Errc>(error.code)) {
        case Errc::kLoginRequired:
            reconnect(kNormalClose, "the server says that we are not logged in");
            return;
        case Errc::kTokenExpired:
            if (is_of_message && error.seq) connection_.token_refused_at = *error.seq;
            want_token(error.code);
            return;
        default: break;
    }
    if (!is_of_message) {
        report_error(error.code,
                     error.message.empty() ? std::string(describe(error.code)) : error.message);
    }
}

// Plain: `errorMsg` may be the refused packet as text. True if it was one of ours that is kept.
bool Engine::Impl::on_plain_error(const ErrorPacket& error) {
    const auto refused = decode(error.message, profile_);
    const Data* data = refused ? std::get_if<Data>(&refused->packet) : nullptr;
    if (data == nullptr || data->fp.empty() || !send_.find(data->fp)) return false;
    const auto code = static_cast<Errc>(error.code);
    if (code == Errc::kLoginRequired || code == Errc::kBusy || code == Errc::kTokenExpired) {
        return true;
    }
    // Nothing ties a refusal to one copy: of two under way the first may find the inbox full, and
    // the second be accepted. The retries go on; without an ack it is lost in the end.
    if (code == Errc::kInboxFull) return true;
    const std::string to = send_.find(data->fp)->to;
    unsigned attempts = 0;
    send_.cancel(data->fp, &attempts);
    outcome(data->fp, to, Outcome::kRejected, attempts, error.code);
    return true;
}

void Engine::Impl::on_kickout(const Kickout& kickout) {
    is_kick_told_ = true;
    push(KickedEvent{kickout.code, kickout.reason, kickout.device});
    cause_ = {kickout.code, kickout.reason};
    relogin_.on_kicked(kickout.code);
}

// ---- echo ----

std::error_code Engine::Impl::echo(TimePoint now, std::string text) {
    const Input input(*this, now);
    if (!connection_.is_open) return Errc::kNotLoggedIn;
    if (text.size() > payload_max_) return Errc::kTooLarge;
    if (!is_valid_utf8(text)) return Errc::kInvalidPacket;
    if (options_.echoes_max == 0 || is_socket_full()) return Errc::kSendFailed;
    if (echoes_.size() >= options_.echoes_max) echoes_.pop_front();
    Echo echo;
    echo.fp = fingerprints_.next();
    echo.text = std::move(text);
    if (!is_v1()) {
        echo.from = options_.user;
        echo.to = kServerUser;
    }
    echoes_.push_back({echo.fp, timers_.now()});
    send(Packet(std::move(echo)));
    return {};
}

void Engine::Impl::on_echo(const Echo& echo) {
    const auto awaited =
        std::find_if(echoes_.begin(), echoes_.end(),
                     [&echo](const AwaitedEcho& candidate) { return candidate.fp == echo.fp; });
    if (!echo.is_response || awaited == echoes_.end()) {
        ++counts_.ignored;
        return;
    }
    const Duration round_trip = timers_.now() - awaited->sent_at;
    echoes_.erase(awaited);
    push(EchoEvent{echo.text, round_trip});
}

}  // namespace petrel
