#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "core/client/engine_impl.hpp"

// The Engine's connection and login: PROTOCOL.md sections 3, 4.2, 4.5, 4.8, 4.9.

namespace petrel {

namespace {

constexpr std::uint16_t kNormalClose = 1000;
constexpr std::uint16_t kNoCloseFrame = 1006;  // RFC 6455 section 7.1.5.
constexpr std::uint16_t kTooLargeClose = 1009;
constexpr std::uint16_t kSilentClose = 4002;
constexpr std::uint16_t kViolationClose = 4006;
constexpr std::uint16_t kDrainClose = 4007;
constexpr int kAppCodeMin = 1025;  // PROTOCOL.md section 2: an app's own refusals.

Duration milliseconds(std::int64_t count) {
    constexpr auto kMax = std::chrono::duration_cast<std::chrono::milliseconds>(Duration::max());
    return std::chrono::milliseconds{std::clamp<std::int64_t>(count, 0, kMax.count())};
}

// When a refusal doesn't say it.
bool is_worth_retrying(int code, ProfileId profile) {
    switch (static_cast<Errc>(code)) {
        case Errc::kBadToken:
        case Errc::kForbidden:
        case Errc::kUnknownApp:
        case Errc::kSuperseded: return false;
        default: return !is_plain(profile) || code < kAppCodeMin;
    }
}

std::optional<std::string> unless_empty(const std::string& text) {
    return text.empty() ? std::nullopt : std::optional(text);
}

// The `reason` of a 4007.
std::optional<Duration> drain_window(std::string_view reason) {
    std::int64_t count = 0;
    const char* const end = reason.data() + reason.size();
    const auto [rest, error] = std::from_chars(reason.data(), end, count);
    if (error != std::errc() || rest != end) return std::nullopt;
    return milliseconds(count);
}

}  // namespace

EngineOptions Engine::Impl::checked(EngineOptions options, const Inbox& inbox,
                                    FingerprintSource& fingerprints) {
    if (options.profile == ProfileId::kUndecided) options.profile = ProfileId::kPetrelV1;
    if (options.device.empty()) options.device = inbox.device();
    if (options.device.empty()) options.device = fingerprints.next().to_string();
    // One packet may always be under way, one message be with the app, one event wait.
    options.socket_packets_max = std::max<std::size_t>(options.socket_packets_max, 1);
    options.socket_bytes_max = std::max<std::size_t>(options.socket_bytes_max, 1);
    options.unhandled_max = std::max<std::size_t>({options.unhandled_max, options.window, 1});
    options.notices_max = std::max<std::size_t>(options.notices_max, 1);
    return options;
}

// ---- connection ----

void Engine::Impl::on_connect_wanted(std::uint64_t attempt) {
    connection_ = {};
    connection_.attempt = attempt;
    connection_.is_wanted = true;
    is_kick_told_ = false;
    const bool asks_for_v1 = options_.profile == ProfileId::kPetrelV1;
    host_.connect(attempt, asks_for_v1 ? kSubprotocolV1 : std::string_view());
}

void Engine::Impl::on_connected(TimePoint now, std::uint64_t attempt,
                                std::string_view subprotocol) {
    const Input input(*this, now);
    if (!is_current(attempt)) {
        ++counts_.ignored;
        return;
    }
    connection_.is_open = true;
    is_connect_failure_told_ = false;
    drained_at_ = now;
    if (std::exchange(has_connected_, true)) count_reconnect(std::exchange(link_end_, {}));
    const bool falls_back =
        options_.profile == ProfileId::kPetrelV1 && subprotocol != kSubprotocolV1;
    set_profile(falls_back ? ProfileId::kImSdk : options_.profile);
    relogin_.on_connected(attempt);
}

void Engine::Impl::count_reconnect(LinkEnd before) {
    ++counts_.reconnects;
    switch (before) {
        case LinkEnd::kOurs: break;
        case LinkEnd::kBroken: ++counts_.reconnects_broken; break;
        case LinkEnd::kClosed: ++counts_.reconnects_closed; break;
        case LinkEnd::kSilent: ++counts_.reconnects_silent; break;
    }
}

void Engine::Impl::on_disconnect_wanted(std::uint64_t attempt, std::uint16_t code,
                                        std::string_view reason) {
    end_session();
    host_.disconnect(attempt, code, reason);
}

void Engine::Impl::on_closed(TimePoint now, std::uint64_t attempt, std::uint16_t code,
                             std::string_view reason, int http_status,
                             std::optional<Duration> retry_after) {
    const Input input(*this, now);
    if (!is_current(attempt)) {
        ++counts_.ignored;
        return;
    }
    const bool was_open = connection_.is_open;
    if (was_open) link_end_ = code == kNoCloseFrame ? LinkEnd::kBroken : LinkEnd::kClosed;
    end_session();
    cause_ = {code, std::string(reason)};
    if (code == kTooLargeClose || code == kViolationClose) {
        report_error(
            code, "closed by the server with " + std::to_string(code) + ": " + std::string(reason));
    } else if (!was_open && !std::exchange(is_connect_failure_told_, true)) {
        report_error(static_cast<int>(Errc::kBadConnection),
                     "could not connect: " + std::string(reason));
    }
    AutoReloginDaemon::Closed closed;
    closed.code = code;
    closed.http_status = http_status;
    closed.retry_after = retry_after;
    if (code == kDrainClose) closed.drain_window = drain_window(reason);
    relogin_.on_closed(attempt, closed);
}

void Engine::Impl::on_drained(TimePoint now, std::uint64_t attempt) {
    const Input input(*this, now);
    if (!is_current(attempt)) return;
    drained_at_ = now;
    is_outstanding_stale_ = true;
    tell_writable();
}

// Nothing of the session counts any more; what was taken and what is kept stays.
void Engine::Impl::end_session() {
    connection_.is_wanted = false;
    connection_.is_open = false;
    connection_.is_login_awaited = false;
    connection_.refreshes_awaited = 0;
    connection_.malformed.clear();
    connection_.token_refused_at.reset();
    send_.on_offline();
    receive_.on_offline();
    keepalive_.on_offline();
    told_outstanding_.reset();
    dropped_ = 0;
    echoes_.clear();
}

void Engine::Impl::reconnect(std::uint16_t code, std::string_view reason) {
    cause_ = {code == kNormalClose ? 0 : code, std::string(reason)};
    if (code == kViolationClose) report_error(code, std::string(reason));
    relogin_.reconnect(code, reason);
}

void Engine::Impl::on_state_changed(AutoReloginDaemon::State, AutoReloginDaemon::State) {
    // Told when the input has settled: what lies between is nobody's business.
}

void Engine::Impl::on_stopped(AutoReloginDaemon::StopReason reason, int code) {
    if (cause_.code == 0) cause_.code = code;
    const bool is_kick = reason == AutoReloginDaemon::StopReason::kKicked;
    if (is_kick && !std::exchange(is_kick_told_, true)) {
        push(KickedEvent{code, cause_.reason, {}});
    }
}

// ---- what leaves ----

void Engine::Impl::send(const Packet& packet) {
    if (!connection_.is_open) return;
    text_.clear();
    encode(packet, profile_, Side::kClient, text_);
    write_frame();
}

void Engine::Impl::send(const Data& data) {
    if (!connection_.is_open) return;
    const auto riding = is_v1() ? receive_.take_riding_ack() : std::nullopt;
    text_.clear();
    if (riding || !is_v1()) {
        Data whole = data;
        whole.h = riding;
        if (riding) said_ = std::max(said_, *riding);
        // In petrel.v1 the session says who sends.
        if (!is_v1()) whole.from = options_.user;
        encode(whole, profile_, Side::kClient, text_);
    } else {
        encode(data, profile_, Side::kClient, text_);
    }
    write_frame();
    if (is_socket_full()) send_.set_writable(false);
}

void Engine::Impl::write_frame() {
    ++counts_.packets_out;
    counts_.bytes_out += text_.size();
    host_.send_text(connection_.attempt, text_);
}

bool Engine::Impl::is_socket_full() const {
    return host_.queued_packets() >= options_.socket_packets_max ||
           host_.queued_bytes() >= options_.socket_bytes_max;
}

void Engine::Impl::tell_writable() {
    if (connection_.is_open) send_.set_writable(!is_socket_full());
}

// The clock of an ack runs from when its packet left the send buffer (section 4.5): with something
// queued, only what was sent before the queue was last empty is sure to have left.
void Engine::Impl::tell_outstanding() {
    if (!std::exchange(is_outstanding_stale_, false)) return;
    auto oldest = is_online() && is_v1() ? send_.oldest_unacked() : std::nullopt;
    if (oldest && oldest->sent_at >= drained_at_ && host_.queued_bytes() > 0) oldest.reset();
    if (!oldest) {
        if (told_outstanding_) keepalive_.on_outstanding(std::nullopt, timers_.now());
        told_outstanding_.reset();
        return;
    }
    if (told_outstanding_ && told_outstanding_->position == oldest->position &&
        told_outstanding_->sent_at == oldest->sent_at) {
        return;
    }
    told_outstanding_ = oldest;
    keepalive_.on_outstanding(oldest->position, std::max(oldest->sent_at, drained_at_));
}

// ---- keepalive ----

void Engine::Impl::on_beat_due() {
    Heartbeat heartbeat;
    if (is_v1()) {
        heartbeat.positions = Positions{send_.sent_mark(), receive_.rx(), receive_.h()};
        said_ = std::max(said_, receive_.h());
    } else {
        heartbeat.from = options_.user;
    }
    send(Packet(std::move(heartbeat)));
}

void Engine::Impl::on_link_dead(std::string_view reason) {
    link_end_ = LinkEnd::kSilent;
    reconnect(kSilentClose, reason);
}

// ---- login ----

void Engine::Impl::set_profile(ProfileId id) {
    profile_ = id;
    const Profile& spoken = petrel::profile(id);
    send_.set_strategy(is_v1() ? QosSendDaemon::Strategy::kPositions
                               : QosSendDaemon::Strategy::kFingerprints);
    if (is_v1()) {
        keepalive_.set_v1(options_.keepalive.interval);
        relogin_.set_fixed_pace(options_.relogin.fixed_first, options_.relogin.fixed_interval);
        return;
    }
    payload_max_ = options_.payload_max;
    // The app's own plain timings, else the profile's.
    if (options_.keepalive.patience) {
        keepalive_.set_plain(options_.keepalive.interval, *options_.keepalive.patience,
                             options_.keepalive.patience_since_answer);
    } else {
        keepalive_.set_plain(milliseconds(spoken.heartbeat_interval_ms),
                             milliseconds(spoken.heartbeat_patience_ms),
                             spoken.patience_since_last_answer);
    }
    relogin_.set_fixed_pace(
        options_.relogin.fixed_first.value_or(milliseconds(spoken.relogin_first_ms)),
        options_.relogin.fixed_interval.value_or(milliseconds(spoken.relogin_ms)));
}

void Engine::Impl::on_login_wanted(std::uint64_t) {
    if (options_.require_v1 && !is_v1() && options_.profile == ProfileId::kPetrelV1) {
        refuse_plain_server();
        return;
    }
    send_login(false);
}

void Engine::Impl::refuse_plain_server() {
    constexpr int kCode = static_cast<int>(Errc::kNoServerAddress);
    const std::string why = "the server does not speak petrel.v1, which this client requires";
    report_error(kCode, why);
    cause_ = {kCode, why};
    relogin_.on_login_refused(kCode, false, std::nullopt);
}

void Engine::Impl::send_login(bool is_refresh) {
    // The cursor must cover what was taken, or the gateway would push it again.
    commit_inbox(true);
    Login login;
    login.user = options_.user;
    login.token = options_.token;
    login.app = unless_empty(options_.app);
    login.extra = unless_empty(options_.extra);
    if (profile_ == ProfileId::kMobileImSdk) login.first_login_time = first_login_time_.value_or(0);
    if (is_v1()) {
        LoginV1& v1 = login.v1.emplace();
        v1.device = options_.device;
        v1.device_class = options_.device_class;
        v1.generation = generation_;
        v1.inbox = inbox_.cursor();
        v1.outbox = {stream_, send_.highest_acked() + 1};
        v1.window = options_.window;
        v1.window_bytes = options_.window_bytes;
    }
    connection_.token_sent = token_;
    if (is_refresh) {
        ++connection_.refreshes_awaited;
    } else {
        connection_.is_login_awaited = true;
        connection_.generation_sent = generation_;
        if (login.v1) connection_.cursor_sent = login.v1->inbox;
    }
    send(Packet(std::move(login)));
}

void Engine::Impl::on_login_response(const LoginResponse& reply) {
    if (std::exchange(connection_.is_login_awaited, false)) {
        if (reply.code == 0) {
            on_login_accepted(reply);
        } else {
            on_login_refused(reply);
        }
    } else if (connection_.refreshes_awaited > 0) {
        --connection_.refreshes_awaited;
        on_token_refreshed(reply);
    } else {
        ++counts_.ignored;
    }
}

void Engine::Impl::on_login_accepted(const LoginResponse& reply) {
    if (is_v1() && !reply.v1) {
        // A plain server that echoes any subprotocol.
        if (options_.require_v1) {
            refuse_plain_server();
            return;
        }
        set_profile(ProfileId::kImSdk);
    }
    ++counts_.logins;
    if (reply.v1 && generation_ == connection_.generation_sent) generation_ = reply.v1->generation;
    if (reply.first_login_time && !first_login_time_) first_login_time_ = reply.first_login_time;
    is_token_wanted_ = false;
    cause_ = {};
    relogin_.on_login_accepted();
    report_state();
    push(LoginEvent{0, {}, false, profile_, generation_});
    if (is_v1()) {
        go_online(*reply.v1);
        // One that came while the login was under way.
        if (is_online() && connection_.token_sent != token_) send_login(true);
    } else {
        go_online_plain();
    }
}

void Engine::Impl::go_online(const LoginReplyV1& reply) {
    if (reply.max_payload > 0) payload_max_ = static_cast<std::size_t>(reply.max_payload);
    if (reply.dedup_horizon_ms > 0) {
        age_max_ = std::min(options_.expires_after, milliseconds(reply.dedup_horizon_ms) / 2);
    }
    keepalive_.on_online(milliseconds(reply.heartbeat_ms));
    resume_inbox(reply.inbox);
    apply_limits(reply.accepted);
    send_.on_online({reply.accepted, reply.window, reply.window_bytes});
    if (std::exchange(is_new_stream_wanted_, false)) {
        reconnect(kNormalClose, "the gateway knows more of the outbox than was ever sent");
    }
}

void Engine::Impl::go_online_plain() {
    keepalive_.on_online(Duration::zero());
    receive_.on_online(0, options_.window);
    send_.on_online({0, options_.send.window_packets_max, options_.send.window_bytes_max});
}

void Engine::Impl::on_login_refused(const LoginResponse& reply) {
    const int code = reply.code;
    const bool retry = reply.retry.value_or(is_worth_retrying(code, profile_));
    std::optional<Duration> retry_after;
    if (reply.retry_after_ms) retry_after = milliseconds(*reply.retry_after_ms);
    const std::string why = reply.error_msg.empty() ? std::string(describe(code)) : reply.error_msg;
    cause_ = {code, why};
    const ProfileId refused_in = profile_;
    relogin_.on_login_refused(code, retry, retry_after);
    const bool will_retry = relogin_.state() != AutoReloginDaemon::State::kStopped;
    push(LoginEvent{code, why, will_retry, refused_in, generation_});
}

// ---- token ----

void Engine::Impl::set_token(TimePoint now, std::string token) {
    const Input input(*this, now);
    options_.token = std::move(token);
    ++token_;
    const bool was_wanted = std::exchange(is_token_wanted_, false);
    token_code_to_tell_ = 0;
    if (!is_online()) {
        relogin_.on_token();
    } else if (is_v1()) {
        // Section 4.2: a second login on a live connection refreshes the token.
        send_login(true);
    } else if (was_wanted) {
        reconnect(kNormalClose, "new token");
    }
}

// A login was refused. Nothing goes on without a token now: also who was asked on a live connection
// and has not answered is told.
void Engine::Impl::on_token_wanted(int code) {
    if (connection_.token_sent != token_) {
        relogin_.on_token();  // A newer one came while the login was under way.
        return;
    }
    is_token_wanted_ = true;
    token_code_to_tell_ = code;
}

// On a live connection: once, until there is another token.
void Engine::Impl::want_token(int code) {
    if (connection_.refreshes_awaited > 0) return;  // The next one is on its way already.
    if (connection_.token_sent != token_) {
        reconnect(kNormalClose, "new token");  // Plain: it waited for the next login.
        return;
    }
    if (std::exchange(is_token_wanted_, true)) return;
    token_code_to_tell_ = code;
}

void Engine::Impl::on_token_refreshed(const LoginResponse& reply) {
    if (reply.code != 0) {
        report_error(reply.code, "the new token was refused: " +
                                     (reply.error_msg.empty() ? std::string(describe(reply.code))
                                                              : reply.error_msg));
        // Once: an app that has only expired ones would be asked without end. The gateway closes
        // in time, and the login behind that is the last.
        if (reply.code == static_cast<int>(Errc::kTokenExpired) &&
            !std::exchange(connection_.is_renewal_refused, true)) {
            want_token(reply.code);
        }
        return;
    }
    connection_.is_renewal_refused = false;
    // The stream stands where the old token ended.
    if (const auto at = std::exchange(connection_.token_refused_at, std::nullopt)) {
        if (!send_.on_gap(*at - 1)) ++counts_.ignored;
    }
}

void Engine::Impl::on_new_stream_wanted() {
    stream_ = fingerprints_.next().to_string();
    is_new_stream_wanted_ = true;
}

}  // namespace petrel
