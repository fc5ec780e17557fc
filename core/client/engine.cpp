#include "core/client/engine.hpp"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

#include "core/client/engine_impl.hpp"

namespace petrel {

namespace {

// Room for so many events is kept while there are none: what one turn brings.
constexpr std::size_t kEventsKept = 64;

constexpr int kNoNetworkCode = static_cast<int>(Errc::kNoLocalNetwork);

bool is_notice(const Event& event) {
    return !std::holds_alternative<MessageEvent>(event) &&
           !std::holds_alternative<OutcomeEvent>(event);
}

// By position or by fingerprint; what has neither is not waited for.
bool is_acked(const MessageEvent& message) {
    return message.qos && (message.seq != 0 || !message.fp.empty());
}

// What an outbox file still holds is kept even if the limits have become lower since.
QosSendDaemon::Options send_options(const EngineOptions& options, const Outbox::Kept& loaded) {
    QosSendDaemon::Options send = options.send;
    std::size_t bytes = 0;
    for (const OutboxRecord& record : loaded.messages) bytes += record.message.text.size();
    send.kept_max = std::max(send.kept_max, loaded.messages.size());
    send.kept_bytes_max = std::max(send.kept_bytes_max, bytes);
    send.assigns_positions = true;
    send.strategy = QosSendDaemon::Strategy::kPositions;
    return send;
}

ClientState client_state(AutoReloginDaemon::State state) {
    using State = AutoReloginDaemon::State;
    switch (state) {
        case State::kIdle: return ClientState::kOffline;
        case State::kOnline: return ClientState::kOnline;
        case State::kNoNetwork: return ClientState::kNoNetwork;
        case State::kStopped: return ClientState::kStopped;
        case State::kWaiting:
        case State::kConnecting:
        case State::kLoggingIn:
        case State::kWaitingForToken: break;
    }
    return ClientState::kConnecting;
}

}  // namespace

// ---- inputs ----

Engine::Impl::Input::Input(Impl& engine, TimePoint now) : engine_(engine) {
    assert(engine_.depth_ == 0);
    ++engine_.depth_;
    engine_.timers_.set_now(now);
    engine_.run_completions();
}

Engine::Impl::Input::~Input() {
    engine_.settle();
    --engine_.depth_;
    assert(engine_.is_consistent());
    engine_.run_dones();
}

Engine::Impl::Impl(EngineOptions options, EngineHost& host, Outbox& outbox, Inbox& inbox,
                   FingerprintSource& fingerprints, std::uint64_t seed, TimePoint now)
    : options_(checked(std::move(options), inbox, fingerprints)),
      host_(host),
      outbox_(outbox),
      inbox_(inbox),
      fingerprints_(fingerprints),
      loaded_(outbox.load()),
      timers_(now),
      random_(seed),
      relogin_(*this, *this, options_.relogin),
      keepalive_(*this, *this, options_.keepalive),
      send_(*this, *this, send_options(options_, loaded_)),
      receive_(*this, *this, options_.receive),
      profile_(ProfileId::kPetrelV1),
      payload_max_(options_.payload_max),
      kept_payload_max_(payload_max_),
      age_max_(options_.expires_after),
      inbox_retry_timer_(timers_, "inbox-retry", [this] { ask_again_for_dropped(); }) {
    ++depth_;
    stream_ = fingerprints_.next().to_string();
    set_profile(options_.profile);
    load_outbox();
    load_inbox();
    --depth_;
    assert(is_consistent());
}

void Engine::Impl::login(TimePoint now) {
    const Input input(*this, now);
    if (is_shut_down_) return;
    if (!is_online()) {
        generation_ = 0;
        first_login_time_.reset();
        cause_ = {};
    }
    is_token_wanted_ =
        is_token_wanted_ && relogin_.state() == AutoReloginDaemon::State::kWaitingForToken;
    keepalive_.resume();
    relogin_.start();
}

void Engine::Impl::logout(TimePoint now, bool keep) {
    const Input input(*this, now);
    if (is_shut_down_) return;
    if (is_online()) {
        record_handled();
        say_handled();
        send(Packet(Logout{is_v1() ? std::string() : options_.user}));
    }
    cause_ = {};
    relogin_.stop();
    if (!keep) settle_all(Outcome::kCancelled, Outcome::kCancelled);
}

void Engine::Impl::network_available(TimePoint now) {
    const Input input(*this, now);
    relogin_.network_available();
    keepalive_.probe_now();
}

void Engine::Impl::network_lost(TimePoint now) {
    const Input input(*this, now);
    cause_ = {kNoNetworkCode, std::string(describe(kNoNetworkCode))};
    relogin_.network_lost();
}

void Engine::Impl::suspend(TimePoint now) {
    const Input input(*this, now);
    relogin_.suspend();
    keepalive_.suspend();
}

void Engine::Impl::resume(TimePoint now) {
    const Input input(*this, now);
    keepalive_.resume();
    relogin_.resume();
}

void Engine::Impl::shut_down(TimePoint now) {
    const Input input(*this, now);
    if (is_shut_down_) return;
    commit_outbox();
    commit_inbox(true);
    record_handled();
    if (is_online()) say_handled();
    relogin_.stop();
    is_shut_down_ = true;
    // What the outbox has not confirmed was never taken from the app.
    while (!pending_.empty()) {
        forget(pending_ids_, pending_.front().record.message.fp);
        finish(std::move(pending_.front().done), Errc::kNotInitialised);
        pending_.pop_front();
    }
    pending_bytes_ = 0;
    appending_ = 0;
    if (!outbox_.is_durable()) settle_all(Outcome::kCancelled, Outcome::kUnknown);
    commit_outcomes();
    commit_removals();
}

// ---- time and events ----

void Engine::Impl::advance_to(TimePoint now) {
    const Input input(*this, now);
    timers_.advance_to(now);
}

void Engine::Impl::flush(TimePoint now) {
    const Input input(*this, now);
    commit_outbox();
    commit_inbox(false);
    record_handled();
    commit_outcomes();
    commit_removals();
    tell_writable();
    is_outstanding_stale_ = true;
    receive_.flush();
}

std::optional<Event> Engine::Impl::next_event() {
    if (!has_events() && depth_ == 0) {
        // Not an input: no time passes, and nothing leaves.
        ++depth_;
        commit_inbox(false);
        commit_outcomes();
        --depth_;
    }
    if (!has_events()) return std::nullopt;
    std::optional<Event> taken(std::move(events_[taken_events_++]));
    if (!has_events()) {
        events_.clear();
        if (events_.capacity() > kEventsKept) std::vector<Event>().swap(events_);
        taken_events_ = 0;
    } else if (taken_events_ >= kEventsKept && taken_events_ >= events_.size() / 2) {
        events_.erase(events_.begin(),
                      events_.begin() + static_cast<std::ptrdiff_t>(taken_events_));
        taken_events_ = 0;
    }
    const Event& event = *taken;
    if (const auto* message = std::get_if<MessageEvent>(&event)) {
        ++counts_.received;
        if (!is_acked(*message)) --unacked_events_;
    } else if (const auto* told = std::get_if<OutcomeEvent>(&event)) {
        // What the outbox does not have needs no removal from it.
        if (!told->is_correction && forget(untold_outcomes_, told->record.fp) &&
            !outbox_.keeps_nothing()) {
            remember(told_outcomes_, told->record.fp);
        }
    } else {
        --notices_;
    }
    return taken;
}

void Engine::Impl::on_event_done(TimePoint now, const Event& event) {
    const Input input(*this, now);
    if (const auto* message = std::get_if<MessageEvent>(&event)) {
        if (options_.manual_confirm) return;
        const auto entry = find_unhandled(message->id);
        if (entry != unhandled_.end()) set_handled(entry);
    } else if (const auto* told = std::get_if<OutcomeEvent>(&event)) {
        // Not when the same fingerprint was sent anew from the callback.
        if (!told->is_correction && forget(told_outcomes_, told->record.fp)) {
            removals_.push_back(told->record.fp);
        }
    }
}

ClientState Engine::Impl::state() const { return client_state(relogin_.state()); }

ProfileId Engine::Impl::spoken_profile() const {
    const bool is_speaking =
        is_online() || relogin_.state() == AutoReloginDaemon::State::kLoggingIn;
    return is_speaking ? profile_ : options_.profile;
}

EngineStats Engine::Impl::stats() const {
    EngineStats stats = counts_;
    stats.retransmitted = send_.retransmissions();
    stats.unknown_acks = send_.unknown_acks();
    stats.duplicates += receive_.duplicates();
    stats.gaps = receive_.gaps();
    stats.round_trip = keepalive_.round_trip().smoothed();
    stats.kept = send_.kept() + pending_.size();
    stats.in_flight = send_.in_flight();
    stats.unhandled = unhandled_.size() - confirmed_ahead_;
    return stats;
}

// ---- inside ----

void Engine::Impl::settle() {
    tell_outstanding();
    report_state();
    // Behind the LoginEvent and StateEvent that it belongs to.
    if (is_token_wanted_ && token_code_to_tell_ != 0) {
        push(TokenNeededEvent{std::exchange(token_code_to_tell_, 0)});
    }
}

void Engine::Impl::complete(std::function<void()> work) {
    if (depth_ > 0) {
        work();
        return;
    }
    completions_.push_back(std::move(work));
    if (completions_.size() == 1) host_.on_turn_wanted();
}

void Engine::Impl::run_completions() {
    while (!completions_.empty()) {
        const auto work = std::move(completions_.front());
        completions_.pop_front();
        work();
    }
}

void Engine::Impl::run_dones() {
    while (!dones_.empty()) {
        auto [done, result] = std::move(dones_.front());
        dones_.pop_front();
        done(std::move(result));
    }
}

void Engine::Impl::push(Event event) {
    if (is_notice(event)) {
        if (notices_ >= options_.notices_max) {
            const Event* const oldest = std::find_if(begin_of_events(), end_of_events(), is_notice);
            if (oldest == end_of_events()) return;
            events_.erase(events_.begin() + (oldest - events_.data()));
            --notices_;
        }
        ++notices_;
    }
    events_.push_back(std::move(event));
}

void Engine::Impl::report_error(int code, std::string message) {
    log(LogLevel::kWarning, message);
    push(ErrorEvent{code, std::move(message)});
}

void Engine::Impl::report_now_and_then(std::optional<TimePoint>& last, int code,
                                       std::string message) {
    const TimePoint now = timers_.now();
    if (last && now - *last < std::chrono::minutes{1}) return;
    last = now;
    report_error(code, std::move(message));
}

void Engine::Impl::report_state() {
    const ClientState current = state();
    if (current == reported_state_ || is_shut_down_) return;
    reported_state_ = current;
    push(StateEvent{current, cause_.code, cause_.reason});
    cause_ = {};
}

std::uint64_t Engine::Impl::random(std::uint64_t low, std::uint64_t high) {
    assert(low <= high);
    const std::uint64_t span = high - low + 1;
    if (span == 0) return random_();
    // Below a multiple of the span every value is as likely as another. Not std::uniform_int_
    // distribution: a seed must give the same run with any library.
    const std::uint64_t limit = UINT64_MAX - UINT64_MAX % span;
    std::uint64_t value = random_();
    while (value >= limit) value = random_();
    return low + value % span;
}

bool Engine::Impl::is_consistent() const {
    if (!relogin_.is_consistent() || !keepalive_.is_consistent() || !send_.is_consistent() ||
        !receive_.is_consistent()) {
        return false;
    }
    if (is_online() && !connection_.is_open) return false;
    if (connection_.is_open && !connection_.is_wanted) return false;
    if (keepalive_.state() != KeepaliveDaemon::State::kOffline && !is_online()) return false;

    // Receiving.
    if (recorded_ > handled_ || handled_ > stored_ || stored_ > taken_) return false;
    if (appending_inbox_ > 0 && inbox_appends_ == 0) return false;
    std::size_t ahead = 0;
    std::uint64_t last_id = 0;
    for (const Unhandled& entry : unhandled_) {
        if (entry.id <= last_id || entry.id > last_message_id_ || entry.era > era_) return false;
        last_id = entry.id;
        ahead += entry.is_handled ? 1 : 0;
    }
    if (ahead != confirmed_ahead_) return false;
    if (!unhandled_.empty() && unhandled_.front().is_handled) return false;

    // Sending.
    if (pending_.size() != pending_ids_.size() || appending_ > pending_.size()) return false;
    std::size_t pending_bytes = 0;
    for (const Pending& pending : pending_) pending_bytes += pending.record.message.text.size();
    if (pending_bytes != pending_bytes_) return false;

    const auto notices = std::count_if(begin_of_events(), end_of_events(), is_notice);
    return static_cast<std::size_t>(notices) == notices_ && notices_ <= options_.notices_max;
}

// ---- Engine ----

Engine::Engine(EngineOptions options, EngineHost& host, Outbox& outbox, Inbox& inbox,
               FingerprintSource& fingerprints, std::uint64_t seed, TimePoint now)
    : impl_(std::make_unique<Impl>(std::move(options), host, outbox, inbox, fingerprints, seed,
                                   now)) {}
Engine::~Engine() = default;

void Engine::login(TimePoint now) { impl_->login(now); }
void Engine::logout(TimePoint now, bool keep) { impl_->logout(now, keep); }
void Engine::send(TimePoint now, SendRequest request, SendDone done) {
    impl_->send(now, std::move(request), std::move(done));
}
std::error_code Engine::cancel(TimePoint now, const Fingerprint& fp) {
    return impl_->cancel(now, fp);
}
std::error_code Engine::confirm(TimePoint now, std::uint64_t message_id) {
    return impl_->confirm(now, message_id);
}
std::error_code Engine::echo(TimePoint now, std::string text) {
    return impl_->echo(now, std::move(text));
}
void Engine::set_token(TimePoint now, std::string token) {
    impl_->set_token(now, std::move(token));
}
void Engine::network_available(TimePoint now) { impl_->network_available(now); }
void Engine::network_lost(TimePoint now) { impl_->network_lost(now); }
void Engine::suspend(TimePoint now) { impl_->suspend(now); }
void Engine::resume(TimePoint now) { impl_->resume(now); }
void Engine::shut_down(TimePoint now) { impl_->shut_down(now); }

void Engine::on_connected(TimePoint now, std::uint64_t attempt, std::string_view subprotocol) {
    impl_->on_connected(now, attempt, subprotocol);
}
void Engine::on_text(TimePoint now, std::uint64_t attempt, std::string_view text) {
    impl_->on_text(now, attempt, text);
}
void Engine::on_binary(TimePoint now, std::uint64_t attempt) { impl_->on_binary(now, attempt); }
void Engine::on_drained(TimePoint now, std::uint64_t attempt) { impl_->on_drained(now, attempt); }
void Engine::on_closed(TimePoint now, std::uint64_t attempt, std::uint16_t code,
                       std::string_view reason, int http_status,
                       std::optional<Duration> retry_after) {
    impl_->on_closed(now, attempt, code, reason, http_status, retry_after);
}

std::optional<TimePoint> Engine::next_deadline() const { return impl_->next_deadline(); }
void Engine::advance_to(TimePoint now) { impl_->advance_to(now); }
void Engine::flush(TimePoint now) { impl_->flush(now); }
std::optional<Event> Engine::next_event() { return impl_->next_event(); }
void Engine::on_event_done(TimePoint now, const Event& event) { impl_->on_event_done(now, event); }

ClientState Engine::state() const { return impl_->state(); }
ProfileId Engine::profile() const { return impl_->spoken_profile(); }
EngineStats Engine::stats() const { return impl_->stats(); }
bool Engine::is_consistent() const { return impl_->is_consistent(); }

}  // namespace petrel
