#include "core/gateway/session.hpp"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "core/gateway/close_codes.hpp"

namespace petrel {
namespace {

constexpr std::size_t kScratchKept = 65'536;  // Of a shard's buffer, between packets.
constexpr int kTypeAck = 4;                   // A client's; an Ack of another type is a server's.
constexpr std::string_view kPlainDevice = "-";
constexpr std::string_view kDefaultApp = "default";

SilenceCheck::Options silence_options() { return {}; }

std::shared_ptr<const Identity> nobody() {
    static const auto identity = std::make_shared<const Identity>();
    return identity;
}

Duration two_and_a_half(Duration interval) { return interval * 5 / 2; }

}  // namespace

Session::Session(SessionHost& host, Router& router, const SessionOptions& options,
                 SessionCounters& counters, std::uint64_t connection, std::string_view subprotocol)
    : host_(host),
      router_(router),
      options_(options),
      counters_(counters),
      connection_(connection),
      identity_(nobody()),
      opening_(std::make_unique<Opening>(*this)),
      silence_(*this, *this, silence_options()) {
    if (subprotocol == kSubprotocolV1) profile_ = ProfileId::kPetrelV1;
    id_ = router_.add(*this);
    opening_->deadline.start(saturating_add(now(), options_.login_deadline));
}

Session::Opening::Opening(Session& session)
    : deadline(session.timers(), "login deadline", [&session] { session.on_login_deadline(); }) {}

Session::TokenClock::TokenClock(Session& session, TimePoint ends_at)
    : ends(ends_at), grace(session.timers(), "token", [&session] { session.on_token_timer(); }) {}

Session::SlowCheck::SlowCheck(Session& session)
    : deadline(session.timers(), "slow reader", [&session] { session.on_slow_check(); }),
      sent_bytes(session.host_.queued_bytes()) {}

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
        if (opening_->waiting.size() >= options_.waiting_packets_max ||
            opening_->waiting_bytes + text.size() > options_.waiting_bytes_max) {
            return violate("too much sent behind a login that is not decided yet");
        }
        opening_->waiting_bytes += text.size();
        opening_->waiting.emplace_back(text);
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
    if (!traffic_) return slow_.reset();
    traffic_->send.set_writable(true);
    host_.want_flush(*this);
}

void Session::on_connection_closed(std::uint16_t code) {
    if (state_ == State::kClosed) return;
    trace("closed", code);
    const bool has_asked = state_ != State::kFresh;
    state_ = State::kClosed;
    opening_.reset();
    token_.reset();
    slow_.reset();
    silence_.stop();
    if (traffic_) {
        // It stays: the caller may be in the middle of it.
        traffic_->receive.on_offline();
        traffic_->send.on_offline();
    }
    router_.remove(id_, has_asked ? identity_.get() : nullptr);
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
    if (traffic_) {
        push();
        traffic_->receive.flush();
    }
    if (state_ == State::kOnline && host_.queued_bytes() > 0 && !slow_) {
        slow_ = std::make_unique<SlowCheck>(*this);
        watch_queue();
    }
}

void Session::on_login_deadline() {
    if (opening_->deadline.is_over(now())) close(kCloseNoLogin, "no login in time");
}

void Session::watch_queue() { slow_->deadline.start(saturating_add(now(), silence_max())); }

void Session::drain(std::optional<std::int64_t> window_ms) {
    if (state_ == State::kClosed) return;
    if (traffic_) traffic_->receive.flush();
    if (is_v1()) {
        close(kCloseDraining, std::to_string(window_ms.value_or(options_.drain_window_ms)));
    } else {
        close(kCloseGoingAway, "shutting down");
    }
}

void Session::on_slow_check() {
    const std::size_t queued = host_.queued_bytes();
    if (queued == 0) return slow_.reset();
    if (!slow_->deadline.is_over(now())) return;
    const std::uint64_t sent = slow_->sent_bytes;
    const std::uint64_t drained = sent - std::min<std::uint64_t>(queued, sent);
    if (drained <= slow_->drained_bytes)
        return close(kCloseSlowReader, "nothing was read for too long");
    slow_->drained_bytes = drained;
    watch_queue();
}

void Session::on_silent() { close(kCloseSilent, "silent for too long"); }

Duration Session::silence_max() const {
    if (!is_plain(profile_)) return two_and_a_half(options_.heartbeat);
    return two_and_a_half(std::chrono::milliseconds(profile(profile_).heartbeat_interval_ms));
}

void Session::send(const Packet& packet) {
    std::string& text = host_.scratch();
    text.clear();
    encode(packet, profile_, Side::kServer, text);
    transmit(text);
    if (text.capacity() > kScratchKept) std::string().swap(text);
}

void Session::send(const Data& data) {
    std::string& text = host_.scratch();
    text.clear();
    encode(data, profile_, Side::kServer, text);
    ++counters_.pushed;
    const std::uint64_t retransmissions = traffic_->send.retransmissions();
    counters_.retransmitted += retransmissions - traffic_->retransmissions;
    traffic_->retransmissions = retransmissions;
    trace("pushed", data);
    transmit(text);
    if (text.capacity() > kScratchKept) std::string().swap(text);
}

void Session::transmit(std::string_view text) {
    if (state_ == State::kClosed) return;
    ++counters_.packets_out;
    counters_.bytes_out += text.size();
    if (slow_) slow_->sent_bytes += text.size();
    host_.send_text(text);
    const std::size_t queued = host_.queued_bytes();
    if (queued > options_.queued_bytes_max) {
        // Not from in here: a worker may be in the middle of its own sending.
        is_overflowing_ = true;
        host_.want_flush(*this);
    }
    if (traffic_ && is_socket_full()) traffic_->send.set_writable(false);
}

bool Session::is_socket_full() const {
    return host_.queued_bytes() >= options_.push_bytes_max ||
           host_.queued_packets() >= options_.push_packets_max;
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
    if (!malformed_at_) malformed_at_ = std::make_unique<std::vector<TimePoint>>();
    std::vector<TimePoint>& times = *malformed_at_;
    times.push_back(now());
    const auto is_recent = [&](TimePoint at) { return at + options_.malformed_span >= now(); };
    times.erase(times.begin(), std::find_if(times.begin(), times.end(), is_recent));
    send_error(static_cast<int>(Errc::kInvalidPacket), "this is not a valid packet", {}, 0, {});
    if (times.size() >= options_.malformed_max) {
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
    response.to = identity_->user();
    if (is_v1() && heartbeat.positions) {
        const Positions& told = *heartbeat.positions;
        if (!on_handled_up_to(told.h)) return;
        if (traffic_ || told.sent > rest_.taken) traffic().receive.on_sent_mark(told.sent);
    }
    if (traffic_)
        traffic_->receive.flush();  // First: only the ack has the details of what h covers.
    rest_if_traffic_is_over();
    if (is_v1()) {
        response.positions = traffic_ ? Positions{traffic_->send.sent_mark(),
                                                  traffic_->receive.rx(), traffic_->receive.h()}
                                      : Positions{rest_.inbox, rest_.taken, rest_.taken};
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
    QosSendDaemon& out = traffic().send;
    if (!is_v1()) {
        const std::uint64_t unknown = out.unknown_acks();
        if (!ack.fp.empty()) out.on_fingerprint_ack(ack.fp);
        counters_.unknown_acks += out.unknown_acks() - unknown;
        send_receipts();
        return;
    }
    if (!ack.h) {
        ++counters_.unknown_acks;
        return;
    }
    if (!on_handled_up_to(*ack.h)) return;
    if (ack.gap && ack.rx) out.on_gap(*ack.rx);
}

// ---- login ----

void Session::handle(Login& login) {
    if (state_ == State::kOnline) return login_again(login);
    Identity::Names names;
    names.app = login.app ? std::string_view(*login.app) : kDefaultApp;
    names.user = login.user;
    LoginAsk ask;
    if (is_v1()) {
        if (!login.v1 || login.v1->device == kPlainDevice || login.v1->outbox.stream.empty()) {
            identity_ = std::make_shared<Identity>(names, ProfileId::kUndecided);
            return refuse_login(static_cast<int>(Errc::kInvalidPacket),
                                "a petrel.v1 login needs a petrel object with a device other "
                                "than \"-\" and an outbox stream",
                                false, {});
        }
        names.device = login.v1->device;
        names.device_class = login.v1->device_class;
        names.stream = login.v1->outbox.stream;
        ask.generation = login.v1->generation;
        ask.inbox = std::move(login.v1->inbox);
        ask.outbox = login.v1->outbox;
        ask.receives = login.v1->window > 0;
        client_window_ = std::min(login.v1->window, options_.push_window_max);
        client_window_bytes_ = std::min(login.v1->window_bytes, options_.push_window_bytes_max);
        opening_->stream_first = std::max<Position>(1, ask.outbox.first);
    } else {
        profile_ = login.first_login_time ? ProfileId::kMobileImSdk : ProfileId::kImSdk;
        const std::int64_t first = login.first_login_time.value_or(0);
        ask.generation = first > 0 ? static_cast<std::uint64_t>(first) : 0;
    }
    identity_ = std::make_shared<Identity>(names, profile_);
    if (names.user == kNobody || names.app.empty()) {
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
    if (const Duration wait = host_.take_login(identity_->user_key()); wait > Duration::zero()) {
        return refuse_busy_login("too many logins of this account", wait);
    }
    host_.on_login();
    state_ = State::kDeciding;
    opening_->deadline.timer.stop();
    keep_token_end(verdict);
    ask.session = id_;
    ask.connection = connection_;
    ask.identity = identity_;
    router_.login(std::move(ask));
}

// On a logged-in socket: refreshes the token, restarts nothing (section 4.2).
void Session::login_again(const Login& login) {
    const bool is_same = login.user == identity_->user() &&
                         login.app.value_or(std::string(kDefaultApp)) == identity_->app() &&
                         (!is_v1() || (login.v1 && login.v1->device == identity_->device()));
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
    response.to = identity_->user();
    // The client may have sent it twice and missed the first answer: it is said again as it was.
    if (verdict.code == 0) {
        if (is_v1()) response.v1 = login_reply();
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
    return host_.authenticator().verify(
        Credentials{identity_->app(), identity_->user(), identity_->device(),
                    identity_->device_class(), token},
        router_.wall_ms());
}

// From here on the steady clock counts: a jump of the wall clock ends no session.
void Session::keep_token_end(const Authenticator::Verdict& verdict) {
    token_.reset();
    if (!verdict.lasts) return;
    token_ = std::make_unique<TokenClock>(*this, saturating_add(now(), *verdict.lasts));
}

void Session::start_token_clock() {
    if (token_) token_->grace.timer.start_at(token_->ends);
}

void Session::on_token_timer() {
    if (!token_->is_expired) {
        token_->is_expired = true;
        log(LogLevel::kInfo, "the token has expired, a new one is asked for");
        token_->grace.start(saturating_add(now(), options_.token_grace));
        send_error(static_cast<int>(Errc::kTokenExpired),
                   "the token has expired, log in with a new one on this connection", {}, 0, {});
        return;
    }
    if (token_->grace.is_over(now())) close(kCloseNoLogin, "no new token in time");
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
        response.to = identity_->user();
        response.error_msg = message;
        response.retry = retry;
        response.retry_after_ms = retry_after_ms;
    } else if (profile_ == ProfileId::kMobileImSdk) {
        response.to = kNobody;
        response.first_login_time = -1;
    } else {
        response.to = identity_->user();
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

    const std::unique_ptr<Opening> opening = std::move(opening_);
    const InboxResume& inbox = opened.inbox;
    if (is_v1()) rest_.taken = std::max(opened.accepted, opening->stream_first - 1);
    rest_.inbox = inbox.seq;
    handled_ = opened.handled;
    if (inbox.last > inbox.seq && is_receiving()) {
        traffic().feed.start(inbox.seq, inbox.last, opened.acked_above);
    }

    LoginResponse response;
    response.to = identity_->user();
    if (is_v1()) {
        told_.session = host_.fingerprints().next();
        told_.epoch = Fingerprint::parse(inbox.epoch).value_or(Fingerprint());  // The store's own.
        told_.seq = inbox.seq;
        told_.last = inbox.last;
        told_.accepted = opened.accepted;
        told_.server_ts = router_.wall_ms();
        told_.is_recovered = inbox.recovered;
        response.v1 = login_reply();
    } else if (profile_ == ProfileId::kMobileImSdk) {
        response.first_login_time = static_cast<std::int64_t>(generation_);
    }
    send(Packet(std::move(response)));
    trace("login");
    silence_.start(silence_max());
    start_token_clock();

    for (const std::string& text : opening->waiting) {
        if (state_ != State::kOnline) return;
        dispatch(text);
    }
    if (state_ == State::kOnline) host_.want_flush(*this);
}

LoginReplyV1 Session::login_reply() const {
    LoginReplyV1 reply;
    reply.session = told_.session.to_string();
    reply.generation = generation_;
    reply.inbox.epoch = told_.epoch.to_string();
    reply.inbox.seq = told_.seq;
    reply.inbox.last = told_.last;
    reply.inbox.recovered = told_.is_recovered;
    reply.accepted = told_.accepted;
    reply.heartbeat_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(options_.heartbeat).count();
    reply.dedup_horizon_ms = options_.dedup_horizon_ms;
    reply.window = options_.window;
    reply.window_bytes = options_.window_bytes;
    reply.max_payload = options_.payload_max;
    reply.server_ts = told_.server_ts;
    return reply;
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
        kickout.to = identity_->user();
        if (is_v1()) kickout.device = device;
        send(Packet(std::move(kickout)));
    }
    close(kCloseKicked, reason);
}

std::size_t Session::in_flight() const { return traffic_ ? traffic_->send.in_flight() : 0; }

std::uint64_t Session::backlog() const {
    if (state_ != State::kOnline || !is_receiving() || !traffic_) return 0;
    const InboxFeed& feed = traffic_->feed;
    return feed.last() - std::min(feed.popped_to(), feed.last()) + traffic_->send.kept();
}

TraceEvent Session::trace_event(std::string_view event) const {
    TraceEvent record;
    record.event = event;
    record.connection = connection_;
    record.app = identity_->app();
    record.user = identity_->user();
    record.device = identity_->device();
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
    record.from = identity_->user();
    record.fp = &result.fp;
    record.seq = result.seq;
    record.cseq = result.cseq;
    record.code = result.code;
    sink->on_trace(record);
}

bool Session::is_consistent() const {
    const bool is_opening = state_ == State::kFresh || state_ == State::kDeciding;
    if (is_opening != (opening_ != nullptr)) return false;
    if (is_opening && traffic_) return false;
    if (state_ == State::kFresh && !opening_->waiting.empty()) return false;
    if (traffic_ && !(traffic_->send.is_consistent() && traffic_->receive.is_consistent())) {
        return false;
    }
    const std::size_t malformed = malformed_at_ ? malformed_at_->size() : 0;
    return malformed <= std::max<std::size_t>(1, options_.malformed_max);
}

}  // namespace petrel
