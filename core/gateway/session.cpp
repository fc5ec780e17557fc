#include "core/gateway/session.hpp"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "core/gateway/close_codes.hpp"

namespace petrel {
namespace {

constexpr std::size_t kScratchKept = 4096;  // Of a session's buffer, between packets.
constexpr int kTypeAck = 4;                 // A client's; an Ack of another type is a server's.
constexpr std::string_view kPlainDevice = "-";
constexpr std::string_view kDefaultApp = "default";

QosReceiveDaemon::Options receive_options() {
    QosReceiveDaemon::Options options;
    options.ack_delay_max = Duration::zero();  // What a commit brought is acked in the same turn.
    return options;
}

SilenceCheck::Options silence_options() { return {}; }

Duration two_and_a_half(Duration interval) { return interval * 5 / 2; }

}  // namespace

Session::Session(SessionHost& host, Router& router, Authenticator& authenticator,
                 const SessionOptions& options, SessionCounters& counters, std::uint64_t connection,
                 std::string_view subprotocol)
    : host_(host),
      router_(router),
      authenticator_(authenticator),
      options_(options),
      counters_(counters),
      connection_(connection),
      login_patience_(Patience::Options{}),
      login_timer_(host.timers(), "login deadline", [this] { on_login_deadline(); }),
      token_patience_(Patience::Options{}),
      token_timer_(host.timers(), "token", [this] { on_token_timer(); }),
      slow_patience_(Patience::Options{}),
      slow_timer_(host.timers(), "slow reader", [this] { on_slow_check(); }),
      silence_(*this, *this, silence_options()),
      receive_(*this, *this, receive_options()),
      feed_(options.feed) {
    if (subprotocol == kSubprotocolV1) profile_ = ProfileId::kPetrelV1;
    id_ = router_.add(*this);
    login_patience_.start(saturating_add(now(), options_.login_deadline));
    login_timer_.start_at(login_patience_.look_at());
}

Session::~Session() {
    if (state_ != State::kClosed) on_connection_closed(kCloseAbnormal);
}

// ---- the connection ----

void Session::on_text(std::string_view text) {
    if (state_ == State::kClosed || is_overflowing_) return;
    ++counters_.packets_in;
    counters_.bytes_in += text.size();
    silence_.on_inbound();
    if (state_ == State::kDeciding) {
        if (waiting_.size() >= options_.waiting_packets_max ||
            waiting_bytes_ + text.size() > options_.waiting_bytes_max) {
            return violate("too much sent behind a login that is not decided yet");
        }
        waiting_bytes_ += text.size();
        waiting_.emplace_back(text);
        return;
    }
    dispatch(text);
}

void Session::on_binary() {
    if (state_ == State::kClosed) return;
    ++counters_.packets_in;
    silence_.on_inbound();
    on_malformed();
}

void Session::on_drained() {
    if (state_ != State::kOnline) return;
    send_->set_writable(true);
    host_.want_flush(*this);
}

void Session::on_connection_closed(std::uint16_t code) {
    if (state_ == State::kClosed) return;
    trace("closed", code);
    const bool has_asked = state_ != State::kFresh;
    state_ = State::kClosed;
    login_timer_.stop();
    token_timer_.stop();
    slow_timer_.stop();
    silence_.stop();
    receive_.on_offline();
    if (send_) send_->on_offline();
    waiting_ = {};
    router_.remove(id_, has_asked ? &identity_.user : nullptr);
}

void Session::close(std::uint16_t code, std::string_view reason) {
    if (state_ == State::kClosed) return;
    counters_.closes.add(code);
    on_connection_closed(code);
    host_.close(code, reason);
}

void Session::flush() {
    if (state_ == State::kClosed) return;
    if (is_overflowing_) return close(kCloseSlowReader, "too slow a reader");
    if (state_ != State::kOnline) return;
    push();
    receive_.flush();
    if (state_ == State::kOnline && host_.queued_bytes() > 0 && !slow_timer_.is_running()) {
        watch_queue(sent_bytes_ - host_.queued_bytes());
    }
}

void Session::on_login_deadline() {
    if (login_patience_.is_over(now())) return close(kCloseNoLogin, "no login in time");
    login_timer_.start_at(login_patience_.look_at());
}

void Session::watch_queue(std::uint64_t drained) {
    drained_bytes_ = drained;
    slow_patience_.start(saturating_add(now(), silence_max()));
    slow_timer_.start_at(slow_patience_.look_at());
}

void Session::drain(std::optional<std::int64_t> window_ms) {
    if (state_ == State::kClosed) return;
    if (state_ == State::kOnline) receive_.flush();
    if (is_v1()) {
        close(kCloseDraining, std::to_string(window_ms.value_or(options_.drain_window_ms)));
    } else {
        close(kCloseGoingAway, "shutting down");
    }
}

void Session::on_slow_check() {
    const std::size_t queued = host_.queued_bytes();
    if (queued == 0) return;
    if (!slow_patience_.is_over(now())) return slow_timer_.start_at(slow_patience_.look_at());
    const std::uint64_t drained = sent_bytes_ - std::min<std::uint64_t>(queued, sent_bytes_);
    if (drained <= drained_bytes_) return close(kCloseSlowReader, "nothing was read for too long");
    watch_queue(drained);
}

void Session::on_silent() { close(kCloseSilent, "silent for too long"); }

Duration Session::silence_max() const {
    if (!is_plain(profile_)) return two_and_a_half(options_.heartbeat);
    return two_and_a_half(std::chrono::milliseconds(profile(profile_).heartbeat_interval_ms));
}

void Session::send(const Packet& packet) {
    scratch_.clear();
    encode(packet, profile_, Side::kServer, scratch_);
    transmit(scratch_);
}

void Session::send(const Data& data) {
    scratch_.clear();
    encode(data, profile_, Side::kServer, scratch_);
    ++counters_.pushed;
    counters_.retransmitted += send_->retransmissions() - retransmissions_;
    retransmissions_ = send_->retransmissions();
    trace("pushed", data);
    transmit(scratch_);
}

void Session::transmit(std::string_view text) {
    if (state_ == State::kClosed) return;
    ++counters_.packets_out;
    counters_.bytes_out += text.size();
    sent_bytes_ += text.size();
    host_.send_text(text);
    const std::size_t queued = host_.queued_bytes();
    if (queued > options_.queued_bytes_max) {
        // Not from in here: a worker may be in the middle of its own sending.
        is_overflowing_ = true;
        host_.want_flush(*this);
    }
    if (scratch_.capacity() > kScratchKept) std::string().swap(scratch_);
    const bool is_full =
        queued >= options_.push_bytes_max || host_.queued_packets() >= options_.push_packets_max;
    if (is_full && send_) send_->set_writable(false);
}

// ---- packets ----

void Session::dispatch(std::string_view text) {
    Result<Decoded> decoded = decode(text, profile_);
    if (!decoded) return on_malformed();
    const bool was_undecided = profile_ == ProfileId::kUndecided;
    if (was_undecided) {
        // Until the login says more, the spelling of one key is all there is (section 2).
        profile_ = decoded->spelling == Spelling::kMobileImSdk ? ProfileId::kMobileImSdk
                                                               : ProfileId::kImSdk;
    }
    Packet& packet = decoded->packet;
    if (auto* data = std::get_if<Data>(&packet)) {
        handle(*data, text);
    } else if (auto* ack = std::get_if<Ack>(&packet); ack != nullptr && decoded->type == kTypeAck) {
        handle(*ack, text);
    } else if (auto* heartbeat = std::get_if<Heartbeat>(&packet)) {
        handle(*heartbeat, text);
    } else if (auto* echo = std::get_if<Echo>(&packet)) {
        handle(*echo);
    } else if (auto* login = std::get_if<Login>(&packet)) {
        handle(*login);
    } else if (auto* logout = std::get_if<Logout>(&packet)) {
        handle(*logout);
    } else {
        ++counters_.ignored;  // Unknown, reserved, or a type of the other direction.
    }
    if (was_undecided && state_ == State::kFresh) profile_ = ProfileId::kUndecided;
    if (state_ == State::kOnline) host_.want_flush(*this);
}

void Session::on_malformed() {
    ++counters_.malformed;
    malformed_at_.push_back(now());
    const auto is_recent = [&](TimePoint at) { return at + options_.malformed_span >= now(); };
    malformed_at_.erase(malformed_at_.begin(),
                        std::find_if(malformed_at_.begin(), malformed_at_.end(), is_recent));
    send_error(static_cast<int>(Errc::kInvalidPacket), "this is not a valid packet", {}, 0, {});
    if (malformed_at_.size() >= options_.malformed_max) {
        violate("too many frames that are not valid packets");
    }
}

void Session::violate(std::string_view what) {
    log(LogLevel::kWarning, what);
    close(kCloseViolation, what);
}

void Session::refuse_before_login(std::string_view text) {
    send_error(static_cast<int>(Errc::kLoginRequired), std::string(text), {}, 0, {});
    if (profile(profile_).closes_before_login) close(kCloseNoLogin, "not logged in");
}

void Session::handle(Heartbeat& heartbeat, std::string_view text) {
    if (state_ != State::kOnline) return refuse_before_login(text);
    HeartbeatResponse response;
    response.to = identity_.user.user;
    if (is_v1() && heartbeat.positions) {
        if (!send_->on_ack(heartbeat.positions->h, {})) {
            return violate("h is above what was pushed");
        }
        report_handled();
        receive_.on_sent_mark(heartbeat.positions->sent);
    }
    if (is_v1()) {
        receive_.flush();  // First: only the ack has the details of what h covers.
        response.positions = Positions{send_->sent_mark(), receive_.rx(), receive_.h()};
    }
    send(Packet(std::move(response)));
}

void Session::handle(Logout&) { close(kCloseNormal, "logged out"); }

void Session::handle(Echo& echo) {
    if (echo.is_response) {
        ++counters_.ignored;
        return;
    }
    echo.is_response = true;
    echo.send_ts = router_.wall_ms();
    send(Packet(std::move(echo)));
}

void Session::handle(Ack& ack, std::string_view text) {
    if (state_ != State::kOnline) return refuse_before_login(text);
    ++counters_.acks_in;
    if (!is_v1()) {
        const std::uint64_t unknown = send_->unknown_acks();
        if (!ack.fp.empty()) send_->on_fingerprint_ack(ack.fp);
        counters_.unknown_acks += send_->unknown_acks() - unknown;
        report_handled();
        return;
    }
    if (!ack.h) {
        ++counters_.unknown_acks;
        return;
    }
    if (!send_->on_ack(*ack.h, {})) return violate("h is above what was pushed");
    report_handled();
    if (ack.gap && ack.rx) send_->on_gap(*ack.rx);
}

// ---- login ----

void Session::handle(Login& login) {
    if (state_ == State::kOnline) return login_again(login);
    identity_ = Identity{};
    identity_.user.app = login.app.value_or(std::string(kDefaultApp));
    identity_.user.user = login.user;
    LoginAsk ask;
    if (is_v1()) {
        if (!login.v1 || login.v1->device == kPlainDevice || login.v1->outbox.stream.empty()) {
            return refuse_login(static_cast<int>(Errc::kInvalidPacket),
                                "a petrel.v1 login needs a petrel object with a device other "
                                "than \"-\" and an outbox stream",
                                false, {});
        }
        identity_.device = login.v1->device;
        identity_.device_class = login.v1->device_class;
        ask.generation = login.v1->generation;
        ask.inbox = std::move(login.v1->inbox);
        ask.outbox = std::move(login.v1->outbox);
        ask.receives = login.v1->window > 0;
        client_window_ = std::min(login.v1->window, options_.push_window_max);
        client_window_bytes_ = std::min(login.v1->window_bytes, options_.push_window_bytes_max);
        stream_ = std::make_shared<const std::string>(ask.outbox.stream);
        stream_first_ = std::max<Position>(1, ask.outbox.first);
    } else {
        profile_ = login.first_login_time ? ProfileId::kMobileImSdk : ProfileId::kImSdk;
        const std::int64_t first = login.first_login_time.value_or(0);
        ask.generation = first > 0 ? static_cast<std::uint64_t>(first) : 0;
    }
    identity_.profile = profile_;
    if (identity_.user.user == kNobody || identity_.user.app.empty()) {
        return refuse_login(static_cast<int>(Errc::kForbidden), "this user id is reserved", false,
                            {});
    }
    // The address first: whoever guesses tokens is not to cost more than this.
    if (const Duration wait = host_.take_login(); wait > Duration::zero()) {
        return refuse_busy_login("too many logins from this address", wait);
    }
    const Authenticator::Verdict verdict = verify(login.token);
    if (verdict.code != 0) {
        const bool may_retry = verdict.code == static_cast<int>(Errc::kTokenExpired) ||
                               verdict.code == static_cast<int>(Errc::kLoginBusy);
        return refuse_login(verdict.code, verdict.message, may_retry, {});
    }
    if (const Duration wait = host_.take_login(identity_.user); wait > Duration::zero()) {
        return refuse_busy_login("too many logins of this account", wait);
    }
    host_.on_login();
    state_ = State::kDeciding;
    login_timer_.stop();
    keep_token_end(verdict);
    ask.session = id_;
    ask.connection = connection_;
    ask.identity = identity_;
    router_.login(std::move(ask));
}

// On a logged-in socket: refreshes the token, restarts nothing (section 4.2).
void Session::login_again(const Login& login) {
    const bool is_same = login.user == identity_.user.user &&
                         login.app.value_or(std::string(kDefaultApp)) == identity_.user.app &&
                         (!is_v1() || (login.v1 && login.v1->device == identity_.device));
    if (!is_same) {
        return send_error(static_cast<int>(Errc::kNotAllowed),
                          "somebody else is logged in on this connection", {}, 0, {});
    }
    const bool is_too_often = host_.take_login() > Duration::zero();
    const Authenticator::Verdict verdict =
        is_too_often ? Authenticator::Verdict{static_cast<int>(Errc::kLoginBusy),
                                              "too many logins from this address",
                                              {}}
                     : verify(login.token);
    LoginResponse response;
    response.code = verdict.code;
    response.error_msg = verdict.message;
    response.to = identity_.user.user;
    // The client may have sent it twice and missed the first answer: it is said again as it was.
    if (verdict.code == 0) {
        response.v1 = login_reply_;
        keep_token_end(verdict);
        start_token_clock();
        log(LogLevel::kInfo, "the token was renewed");
    } else {
        log(LogLevel::kInfo, "a new token was refused: " + verdict.message);
    }
    if (profile_ == ProfileId::kMobileImSdk) {
        response.first_login_time =
            verdict.code == 0 ? static_cast<std::int64_t>(generation_) : std::int64_t{-1};
    }
    send(Packet(std::move(response)));
}

Authenticator::Verdict Session::verify(const std::string& token) const {
    return authenticator_.verify(Credentials{identity_.user.app, identity_.user.user,
                                             identity_.device, identity_.device_class, token},
                                 router_.wall_ms());
}

// From here on the steady clock counts: a jump of the wall clock ends no session.
void Session::keep_token_end(const Authenticator::Verdict& verdict) {
    token_ends_.reset();
    if (verdict.lasts) token_ends_ = saturating_add(now(), *verdict.lasts);
}

void Session::start_token_clock() {
    is_token_expired_ = false;
    token_timer_.stop();
    if (token_ends_) token_timer_.start_at(*token_ends_);
}

void Session::on_token_timer() {
    if (!is_token_expired_) {
        is_token_expired_ = true;
        log(LogLevel::kInfo, "the token has expired, a new one is asked for");
        token_patience_.start(saturating_add(now(), options_.token_grace));
        token_timer_.start_at(token_patience_.look_at());
        send_error(static_cast<int>(Errc::kTokenExpired),
                   "the token has expired, log in with a new one on this connection", {}, 0, {});
        return;
    }
    if (token_patience_.is_over(now())) return close(kCloseNoLogin, "no new token in time");
    token_timer_.start_at(token_patience_.look_at());
}

void Session::refuse_busy_login(const std::string& message, Duration wait) {
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(wait);
    refuse_login(static_cast<int>(Errc::kLoginBusy), message, true, ms.count());
}

void Session::refuse_login(int code, const std::string& message, bool retry,
                           std::optional<std::int64_t> retry_after_ms) {
    ++counters_.logins_refused;
    counters_.logins.add(code);
    log(LogLevel::kInfo, "login refused: " + message);
    LoginResponse response;
    response.code = code;
    if (is_v1()) {
        response.to = identity_.user.user;
        response.error_msg = message;
        response.retry = retry;
        response.retry_after_ms = retry_after_ms;
    } else if (profile_ == ProfileId::kMobileImSdk) {
        response.to = kNobody;
        response.first_login_time = -1;
    } else {
        response.to = identity_.user.user;
    }
    send(Packet(std::move(response)));
    close(retry ? kCloseNoLogin : kCloseRefused, message);
}

void Session::on_login_verdict(const LoginVerdict& verdict) {
    if (state_ != State::kDeciding) return;
    if (verdict.code != 0) {
        return refuse_login(verdict.code, verdict.message, verdict.retry, verdict.retry_after_ms);
    }
    ++counters_.logins_accepted;
    counters_.logins.add(0);
    const OpenResult& opened = verdict.opened;
    state_ = State::kOnline;
    generation_ = opened.generation;

    QosSendDaemon::Options send_options;
    send_options.assigns_positions = false;
    send_options.strategy =
        is_v1() ? QosSendDaemon::Strategy::kPositions : QosSendDaemon::Strategy::kFingerprints;
    send_options.window_packets_max = is_v1() ? client_window_ : options_.plain_window;
    send_options.window_bytes_max = is_v1() ? client_window_bytes_ : send_options.window_bytes_max;
    send_options.kept_max = std::max<std::size_t>(1, send_options.window_packets_max);
    send_options.check_period = options_.plain_check_period;
    send_options.retry_not_younger = options_.plain_retry_not_younger;
    send_options.retries = std::nullopt;
    send_.emplace(static_cast<DaemonContext&>(*this), static_cast<QosSendDaemon::Listener&>(*this),
                  send_options);
    QosSendDaemon::Resume resume;
    resume.accepted = opened.inbox.seq;
    resume.window = send_options.window_packets_max;
    resume.window_bytes = send_options.window_bytes_max;
    send_->on_online(resume);
    feed_.start(opened.inbox.seq, opened.inbox.last, opened.acked_above);
    if (is_v1()) receive_.on_online(std::max(opened.accepted, stream_first_ - 1), options_.window);

    LoginResponse response;
    response.to = identity_.user.user;
    if (is_v1()) {
        LoginReplyV1 reply;
        reply.session = host_.fingerprints().next().to_string();
        reply.generation = generation_;
        reply.inbox = opened.inbox;
        reply.accepted = opened.accepted;
        reply.heartbeat_ms =
            std::chrono::duration_cast<std::chrono::milliseconds>(options_.heartbeat).count();
        reply.dedup_horizon_ms = options_.dedup_horizon_ms;
        reply.window = options_.window;
        reply.window_bytes = options_.window_bytes;
        reply.max_payload = options_.payload_max;
        reply.server_ts = router_.wall_ms();
        login_reply_ = std::move(reply);
        response.v1 = login_reply_;
    } else if (profile_ == ProfileId::kMobileImSdk) {
        response.first_login_time = static_cast<std::int64_t>(generation_);
    }
    send(Packet(std::move(response)));
    trace("login");
    silence_.start(silence_max());
    start_token_clock();

    const std::vector<std::string> waiting = std::exchange(waiting_, {});
    waiting_bytes_ = 0;
    for (const std::string& text : waiting) {
        if (state_ != State::kOnline) return;
        dispatch(text);
    }
    if (state_ == State::kOnline) host_.want_flush(*this);
}

void Session::on_displaced(bool is_same_login, const std::string& device) {
    if (profile_ == ProfileId::kMobileImSdk && is_same_login) {
        return close(kCloseKicked, "logged in elsewhere");
    }
    kick_out(kKickedByLogin, "logged in elsewhere", device);
}

void Session::kick(std::string_view reason) { kick_out(kKickedByAdmin, reason, {}); }

void Session::kick_out(int code, std::string_view reason, const std::string& device) {
    if (state_ == State::kOnline && profile(profile_).kickout_type != 0) {
        Kickout kickout;
        kickout.code = code;
        kickout.reason = reason;
        kickout.to = identity_.user.user;
        if (is_v1()) kickout.device = device;
        send(Packet(std::move(kickout)));
    }
    close(kCloseKicked, reason);
}

std::size_t Session::in_flight() const { return send_ ? send_->in_flight() : 0; }

std::uint64_t Session::backlog() const {
    if (state_ != State::kOnline || (is_v1() && client_window_ == 0)) return 0;
    return feed_.last() - std::min(feed_.page_after(), feed_.last()) + send_->kept();
}

TraceEvent Session::trace_event(std::string_view event) const {
    TraceEvent record;
    record.event = event;
    record.connection = connection_;
    record.app = identity_.user.app;
    record.user = identity_.user.user;
    record.device = identity_.device;
    return record;
}

void Session::trace(std::string_view event, int code) const {
    TraceSink* const sink = router_.trace();
    if (sink == nullptr) return;
    TraceEvent record = trace_event(event);
    record.code = code;
    sink->on_trace(record);
}

void Session::trace(std::string_view event, const Data& data) const {
    TraceSink* const sink = router_.trace();
    if (sink == nullptr) return;
    TraceEvent record = trace_event(event);
    record.from = data.from;
    record.to = data.to;
    record.fp = &data.fp;
    record.seq = data.seq;
    sink->on_trace(record);
}

void Session::trace(std::string_view event, const AppendResult& result) const {
    TraceSink* const sink = router_.trace();
    if (sink == nullptr) return;
    TraceEvent record = trace_event(event);
    record.from = identity_.user.user;
    record.fp = &result.fp;
    record.seq = result.seq;
    record.cseq = result.cseq;
    record.code = result.code;
    sink->on_trace(record);
}

bool Session::is_consistent() const {
    if (!receive_.is_consistent() || (send_ && !send_->is_consistent())) return false;
    if (state_ == State::kOnline && !send_) return false;
    if (state_ != State::kDeciding && !waiting_.empty()) return false;
    return malformed_at_.size() <= std::max<std::size_t>(1, options_.malformed_max);
}

}  // namespace petrel
