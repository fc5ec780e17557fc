#include "tests/simulation/sim_client.hpp"

#include <algorithm>
#include <utility>

#include "core/store/memory_boxes.hpp"
#include "protocol/codec.hpp"

namespace petrel::sim {
namespace {

std::string name_of(const Event& event) {
    if (std::get_if<MessageEvent>(&event) != nullptr) return "message to the app";
    if (std::get_if<OutcomeEvent>(&event) != nullptr) return "outcome to the app";
    return "event";
}

std::string_view outcome_name(Outcome outcome) {
    switch (outcome) {
        case Outcome::kAccepted: return "accepted";
        case Outcome::kRejected: return "rejected";
        case Outcome::kExpired: return "expired";
        case Outcome::kCancelled: return "cancelled";
        case Outcome::kLost: return "lost";
        case Outcome::kUnknown: break;
    }
    return "unknown";
}

}  // namespace

class SimClient::Link final : public Endpoint {
public:
    Link(SimClient& client, std::uint64_t attempt, std::shared_ptr<Connection> connection)
        : client_(client), attempt_(attempt), connection_(std::move(connection)) {
        connection_->attach(Connection::End::kClient, this);
    }
    ~Link() { connection_->detach(Connection::End::kClient); }
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    bool is_open() const { return connection_->is_open(); }

private:
    void on_packet(std::string_view text) override { client_.on_packet(attempt_, text); }
    void on_drained() override { client_.on_drained(attempt_); }
    void on_closed(std::uint16_t code, std::string_view reason) override {
        client_.on_closed(attempt_, code, reason);
    }

    SimClient& client_;
    const std::uint64_t attempt_;
    std::shared_ptr<Connection> connection_;
};

SimClient::SimClient(Schedule& schedule, const Faults& faults, Checker& checker,
                     Checker::Device device, ProfileId profile, Dial dial,
                     std::function<void(const std::string&)> chart)
    : schedule_(schedule),
      faults_(faults),
      checker_(checker),
      device_(std::move(device)),
      profile_(profile),
      slowest_write_(faults.disk_slow ? std::chrono::seconds{2} : Disk::kSlowestWrite),
      window_(faults.narrow ? kNarrowWindow : EngineOptions{}.window),
      dial_(std::move(dial)),
      chart_(std::move(chart)),
      fingerprints_(schedule.random()()),
      disk_(schedule,
            [this](const std::string& step) {
                if (crashes_at(step)) return true;
                // Now and then the process dies exactly between two durable steps.
                if (is_calm_ || !faults_.client_crash || device_.is_plain) return false;
                if (!schedule_.chance(faults_.disk_slow ? 0.02 : 0.002)) return false;
                schedule_.after({}, [this] { crash(); });
                disk_.crash();
                return true;
            }),
      is_manual_(faults.manual && !device_.is_plain && schedule.chance(0.5)) {
    checker_.on_device(device_);
    disk_.set_slowest(slowest_write_);
    token_ = device_.user + "/" + device_.device + " 0";
}

SimClient::~SimClient() { drop_connection(1006, "", false); }

void SimClient::chart(const std::string& what) {
    std::string line = device_.user + "/" + device_.device;
    line.resize(std::max<std::size_t>(line.size(), 6), ' ');
    chart_(line + " ***     " + what);
}

bool SimClient::crashes_at(const std::string& step) {
    if (is_dying_ || !probe_ || !probe_(step)) return is_dying_;
    // Not from within the engine that goes with it.
    is_dying_ = true;
    disk_.crash();
    schedule_.after({}, [this] { crash(); });
    return true;
}

void SimClient::start() {
    ++life_;
    renewals_ = 0;
    EngineOptions options;
    options.profile = profile_;
    options.user = device_.user;
    options.token = token_;
    options.device = device_.device;
    options.window = window_;
    options.manual_confirm = is_manual_;
    confirmed_.clear();
    suspend_told_at_.reset();
    if (device_.is_plain) {
        outbox_ = make_memory_outbox();
        inbox_ = make_memory_inbox();
    } else {
        outbox_ = make_sim_outbox(outbox_file_, disk_);
        inbox_ = make_sim_inbox(inbox_file_, disk_, [this](const InboxMessage& message) {
            checker_.on_recorded(device_, message);
            if (!is_manual_) return;
            const auto confirmed = confirmed_.find(message.data.fp);
            if (confirmed == confirmed_.end()) {
                return checker_.fail("recorded as handled, and never confirmed: " + device_.user +
                                     " " + message.data.fp.to_string());
            }
            confirmed_.erase(confirmed);
        });
    }
    asleep_until_ = schedule_.now();
    deferred_.clear();
    dials_ = 0;
    online_since_.reset();
    quick_since_.reset();
    engine_ = std::make_unique<Engine>(options, static_cast<EngineHost&>(*this), *outbox_, *inbox_,
                                       fingerprints_, schedule_.random()(), schedule_.now());
    input([this](Engine& engine) { engine.login(schedule_.now()); });
}

void SimClient::crash() {
    if (!engine_) return;
    chart("process killed");
    expiries_.clear();  // The next one goes by the wall clock, which jumps.
    ++life_;
    is_dying_ = false;
    disk_.crash();
    engine_.reset();
    outbox_.reset();
    inbox_.reset();
    links_.clear();
    attempt_ = 0;
    if (connection_) {
        const bool is_late = faults_.reorder && schedule_.chance(0.5);
        connection_->cut(
            false, schedule_.chance(0.7),
            is_late ? schedule_.random(Duration{0}, std::chrono::seconds{4}) : Duration{0});
        connection_.reset();
    }
    is_pumping_ = false;
    is_turn_end_due_ = false;
    wake_at_.reset();
    checker_.on_crash(device_, inbox_file_.cursor.has_value());
    const Duration down = schedule_.random(std::chrono::milliseconds{1}, std::chrono::seconds{5});
    schedule_.after(down, [this, life = life_] {
        if (life == life_) start();
    });
}

void SimClient::suspend(Duration duration) {
    if (schedule_.now() + duration <= asleep_until_) return;
    has_slept_ = true;
    if (faults_.hints && !is_asleep() && schedule_.chance(0.5)) {
        suspend_told_at_ = schedule_.now();
        input([this](Engine& engine) { engine.suspend(schedule_.now()); });
    }
    asleep_until_ = schedule_.now() + duration;
    schedule_.at(asleep_until_, [this, life = life_] {
        if (life == life_) wake();
    });
}

void SimClient::log_out(Duration duration) {
    if (!engine_ || is_asleep()) return;
    chart("logs out");
    input([this](Engine& engine) { engine.logout(schedule_.now(), true); });
    schedule_.after(duration, [this, life = life_, logout = ++logouts_] {
        if (life == life_ && logout == logouts_) log_in_again();
    });
}

void SimClient::log_in_again() {
    input([this](Engine& engine) {
        dials_ = 0;
        quick_since_.reset();
        engine.login(schedule_.now());
    });
}

void SimClient::lose_network(Duration duration) {
    if (!engine_ || is_asleep()) return;
    chart("no network, says the system");
    quick_since_.reset();
    input([this](Engine& engine) { engine.network_lost(schedule_.now()); });
    schedule_.after(duration, [this, life = life_] {
        if (life != life_) return;
        input([this](Engine& engine) {
            dials_ = 0;
            quick_since_.reset();
            engine.network_available(schedule_.now());
        });
    });
}

void SimClient::fill_disk(Duration duration) {
    chart("disk full");
    disk_.fill(duration);
}

// Most at once, others so late that later ones are confirmed before them.
void SimClient::confirm_later(const MessageEvent& message) {
    const Duration delay = schedule_.chance(0.5)
                               ? Duration{0}
                               : schedule_.random(Duration{0}, std::chrono::seconds{2});
    schedule_.after(delay, [this, life = life_, id = message.id, fp = message.fp] {
        if (life != life_) return;
        input([this, id, fp](Engine& engine) {
            confirmed_.insert(fp);
            if (const std::error_code error = engine.confirm(schedule_.now(), id)) {
                checker_.fail("a confirmation was refused: " + error.message());
            }
        });
    });
}

void SimClient::expect_kick() {
    checker_.on_intruder(device_);
    chart("somebody else logs in with this account");
}

std::string SimClient::login_of_another_process() {
    Login login;
    login.user = device_.user;
    login.token = device_.user + " elsewhere";
    if (profile_ == ProfileId::kMobileImSdk) login.first_login_time = 0;
    if (profile_ == ProfileId::kImSdk) login.app = "default";
    if (profile_ == ProfileId::kPetrelV1) {
        LoginV1& v1 = login.v1.emplace();
        v1.device = device_.device;
        v1.device_class = "other";
        v1.outbox = {fingerprints_.next().to_string(), 1};
        v1.window = 0;
    }
    std::string text;
    encode(Packet(std::move(login)), profile_, Side::kClient, text);
    return text;
}

std::string_view SimClient::subprotocol() const {
    return profile_ == ProfileId::kPetrelV1 ? kSubprotocolV1 : std::string_view();
}

// Nothing under way in the process or to its files.
bool SimClient::is_idle() const {
    return engine_ && engine_->stats().kept == 0 && outbox_file_.messages.empty() &&
           outbox_file_.outcomes.empty() && inbox_file_.unhandled.empty();
}

void SimClient::check_end(bool is_lossless) {
    if (!engine_) return;
    const EngineStats stats = engine_->stats();
    // A timer that is late by less than a second judges before the socket is read (section 4.5).
    const bool may_send_in_vain = device_.is_plain && has_slept_;
    if (is_lossless && stats.retransmitted != 0 && !may_send_in_vain) {
        checker_.fail("nothing was lost, yet " + std::to_string(stats.retransmitted) +
                      " packets were sent again by " + device_.user + "/" + device_.device);
    }
    if (is_lossless && stats.reconnects != 0) {
        checker_.fail("no connection was touched, yet one was given up by " + device_.user + "/" +
                      device_.device);
    }
}

bool SimClient::is_online() const { return engine_ && engine_->state() == ClientState::kOnline; }

void SimClient::become_calm() {
    is_calm_ = true;
    disk_.set_slowest(Disk::kSlowestWrite);
    if (!is_asleep()) return;
    asleep_until_ = schedule_.now();
    wake();
}

void SimClient::renew_token() {
    token_ = device_.user + "/" + device_.device + " " + std::to_string(++tokens_);
    Duration delay = schedule_.random(Duration{0}, std::chrono::seconds{3});
    // Now and then longer than the gateway waits.
    if (faults_.token_end && schedule_.chance(0.2)) delay *= 8;
    ++renewals_;
    schedule_.after(delay, [this, life = life_, token = token_] {
        if (life != life_) return;
        --renewals_;
        input([this, token](Engine& engine) { engine.set_token(schedule_.now(), token); });
    });
}

void SimClient::send(const std::string& to, int typeu, std::size_t size,
                     std::optional<Duration> expires_after) {
    SendRequest request;
    request.to = to;
    request.typeu = typeu;
    request.text = device_.user + " " + device_.device + " " + std::to_string(++texts_);
    if (request.text.size() < size) request.text.resize(size, 'x');
    request.expires_after = expires_after;
    input([this, request = std::move(request)](Engine& engine) {
        const std::size_t bytes = request.text.size();
        std::optional<TimePoint> expires_at;
        if (request.expires_after) expires_at = schedule_.now() + *request.expires_after;
        engine.send(schedule_.now(), request, [this, to = request.to, bytes, expires_at](auto fp) {
            if (!fp) return;
            if (expires_at) expiries_[*fp] = *expires_at;
            checker_.on_taken(device_, to, bytes, *fp);
            chart("send() took " + fp->to_string() + " to " + to);
            recent_.push_back(*fp);
            if (recent_.size() > 8) recent_.pop_front();
        });
    });
}

void SimClient::cancel_something() {
    if (recent_.empty()) return;
    const Fingerprint fp = recent_[schedule_.random(0, recent_.size() - 1)];
    input([this, fp](Engine& engine) { (void)engine.cancel(schedule_.now(), fp); });
}

void SimClient::input(std::function<void(Engine&)> what) {
    if (!engine_ || is_dying_) return;
    if (is_asleep()) {
        deferred_.push_back(std::move(what));
        return;
    }
    const std::uint64_t life = life_;
    what(*engine_);
    if (life != life_) return;
    if (!engine_->is_consistent()) checker_.fail("an engine's state is inconsistent");
    after_input();
}

// Overdue timers run first, before the socket is read: as unkind as a real wake-up can be.
void SimClient::wake() {
    if (!engine_ || is_asleep()) return;
    std::deque<std::function<void(Engine&)>> deferred = std::move(deferred_);
    deferred_.clear();
    const std::uint64_t life = life_;
    input([this](Engine& engine) {
        if (const auto told_at = std::exchange(suspend_told_at_, std::nullopt)) {
            // Its clocks stood still.
            if (online_since_) *online_since_ += schedule_.now() - *told_at;
            engine.resume(schedule_.now());
        }
        engine.advance_to(schedule_.now());
    });
    for (auto& what : deferred) {
        if (life == life_) input(std::move(what));
    }
    on_turn_wanted();
}

void SimClient::take_events() {
    if (is_pumping_) return;
    is_pumping_ = true;
    while (std::optional<Event> event = engine_->next_event()) {
        const std::string kind = name_of(*event);
        if (crashes_at("tell " + kind)) break;
        give(*event);
        if (crashes_at("told " + kind)) break;
        // Within the app's callback, or right behind it.
        if (!is_calm_ && faults_.client_crash && !device_.is_plain && schedule_.chance(0.002)) {
            return crash();
        }
        engine_->on_event_done(schedule_.now(), *event);
        if (const auto* outcome = std::get_if<OutcomeEvent>(&*event)) {
            checker_.on_outcome_done(device_, outcome->record.fp);
        }
    }
    is_pumping_ = false;
}

void SimClient::after_input() {
    const std::uint64_t life = life_;
    take_events();
    if (life == life_) on_turn_wanted();
}

void SimClient::on_turn_wanted() {
    if (!engine_ || is_turn_end_due_) return;
    is_turn_end_due_ = true;
    schedule_.after({}, [this, life = life_] {
        if (life == life_) end_turn();
    });
}

void SimClient::end_turn() {
    is_turn_end_due_ = false;
    if (is_dying_) return;
    if (is_asleep()) return;  // wake() asks for a turn.
    engine_->flush(schedule_.now());
    if (!engine_->is_consistent()) checker_.fail("an engine's state is inconsistent");
    check_limits();
    const std::uint64_t before = life_;
    take_events();
    if (before != life_) return;
    const std::optional<TimePoint> next = engine_->next_deadline();
    if (!next || next == wake_at_) return;
    wake_at_ = next;
    schedule_.at(*next, [this, life = life_, at = *next] {
        if (life != life_ || wake_at_ != at) return;
        wake_at_.reset();
        if (!is_asleep()) {
            input([this](Engine& engine) { engine.advance_to(schedule_.now()); });
        }
    });
}

void SimClient::give(const Event& event) {
    if (observer_) observer_(event);
    schedule_.note(std::uint64_t{event.index()});
    if (const auto* message = std::get_if<MessageEvent>(&event)) {
        chart("handed up " + message->fp.to_string() + " of " + message->from +
              (message->is_redelivered ? ", redelivered" : ""));
        checker_.on_message(device_, *message);
        if (is_manual_) confirm_later(*message);
    } else if (const auto* outcome = std::get_if<OutcomeEvent>(&event)) {
        chart("outcome of " + outcome->record.fp.to_string() + ": " +
              std::string(outcome_name(outcome->record.outcome)) + " after " +
              std::to_string(outcome->record.attempts) + " attempts");
        checker_.on_outcome(device_, *outcome);
        if (outcome->record.outcome == Outcome::kExpired) check_expiry(outcome->record.fp);
    } else if (const auto* gap = std::get_if<BreakEvent>(&event)) {
        chart("break");
        checker_.on_break(device_, gap->side == BreakEvent::Side::kInbox);
    } else if (std::get_if<TokenNeededEvent>(&event) != nullptr) {
        renew_token();
    } else if (const auto* login = std::get_if<LoginEvent>(&event)) {
        if (login->code != 0) return;
        checker_.on_online(device_);
        dials_ = 0;
        online_since_ = schedule_.now();
        quick_since_.reset();
    } else if (const auto* receipt = std::get_if<DeliveredEvent>(&event)) {
        checker_.on_receipt(*receipt);
    } else if (const auto* state = std::get_if<StateEvent>(&event)) {
        on_state(*state);
    } else if (std::get_if<KickedEvent>(&event) != nullptr) {
        chart("kicked out");
        if (!checker_.had_intruder(device_)) {
            checker_.fail("kicked although nobody else logged in: " + device_.user);
        } else if (engine_->state() == ClientState::kConnecting) {
            checker_.fail("kicked out, and tries again by itself: " + device_.user);
        }
    }
}

void SimClient::on_state(const StateEvent& event) {
    if (event.state != ClientState::kStopped) return;
    if (!checker_.had_intruder(device_)) {
        checker_.fail("stopped for good without a reason: " + device_.user + ", " +
                      std::to_string(event.code) + " " + event.reason);
    }
    // The person at the device wants it back.
    const Duration delay = schedule_.random(Duration{0}, std::chrono::seconds{3});
    schedule_.after(delay, [this, life = life_] {
        if (life == life_) log_in_again();
    });
}

// Awake all the time, a process tells it in time: a second, and what the disk takes for the append
// before its own, for its own, for the outcomes before its own, and for its own.
void SimClient::check_expiry(const Fingerprint& fp) {
    const auto found = expiries_.find(fp);
    if (found == expiries_.end() || asleep_until_ > found->second) return;
    if (disk_.full_until() > found->second) return;
    if (schedule_.now() - found->second > std::chrono::seconds{1} + 4 * slowest_write_) {
        checker_.fail("told as expired too late: " + device_.user + " " + fp.to_string());
    }
}

// PROTOCOL.md section 3: no retry on a connection of what is younger than 3 s.
void SimClient::check_plain_retry(std::string_view text) {
    constexpr std::string_view kFp = R"("fp":")";
    const std::size_t at = text.find(kFp);
    if (packet_name(text) != "data" || at == std::string_view::npos) return;
    std::string fp(text.substr(at + kFp.size(), 36));
    const auto [last, is_new] = plain_sent_.try_emplace(std::move(fp), attempt_, schedule_.now());
    if (!is_new && last->second.first == attempt_ &&
        schedule_.now() - last->second.second < std::chrono::seconds{3}) {
        checker_.fail("sent again too soon: " + device_.user + " " + last->first);
    }
    last->second = {attempt_, schedule_.now()};
}

// Plain profiles, too: a full window and no more than is with the app.
void SimClient::check_limits() {
    const EngineOptions defaults;
    const EngineStats stats = engine_->stats();
    // A plain server states no window: the client's own limit counts.
    const std::size_t window = device_.is_plain ? defaults.send.window_packets_max : window_;
    if (stats.in_flight > window) {
        checker_.fail("more in flight than the window takes: " + std::to_string(stats.in_flight));
    }
    if (stats.unhandled > defaults.unhandled_max || stats.kept > defaults.send.kept_max) {
        checker_.fail("a table above its limit");
    }
}

// PROTOCOL.md section 4.9. Dials may be a second apart for a while, and rarer the longer nothing
// works; behind a session that was online for more than 30 s the first one comes within 0.5 s.
void SimClient::check_pace() {
    const TimePoint now = schedule_.now();
    if (dials_ == 0) first_dial_at_ = now;
    ++dials_;
    const auto elapsed = std::chrono::duration_cast<std::chrono::seconds>(now - first_dial_at_);
    if (dials_ > 20 + elapsed.count()) {
        checker_.fail("dials like a storm: " + std::to_string(dials_) + " times in " +
                      std::to_string(elapsed.count()) + " s");
    }
    const auto quick = std::exchange(quick_since_, std::nullopt);
    if (quick && asleep_until_ <= *quick && now - *quick > std::chrono::milliseconds{501}) {
        checker_.fail("the backoff of an earlier outage goes on: " + device_.user + "/" +
                      device_.device);
    }
}

// ---- the connection ----

void SimClient::connect(std::uint64_t attempt, std::string_view asked_for) {
    drop_connection(1006, "", false);
    check_pace();
    attempt_ = attempt;
    const Duration delay =
        schedule_.random(std::chrono::milliseconds{1}, std::chrono::milliseconds{300});
    schedule_.after(delay, [this, life = life_, attempt, asked = std::string(asked_for)] {
        if (life != life_ || attempt != attempt_) return;
        connection_ = dial_(asked);
        if (!connection_) {
            input([this, attempt](Engine& engine) {
                engine.on_closed(schedule_.now(), attempt, 1006, "refused", 0, {});
            });
            return;
        }
        links_.push_back(std::make_unique<Link>(*this, attempt, connection_));
        input([this, attempt, asked](Engine& engine) {
            engine.on_connected(schedule_.now(), attempt, asked);
        });
    });
}

void SimClient::send_text(std::uint64_t attempt, std::string_view text) {
    if (attempt != attempt_ || !connection_) {
        checker_.fail("a packet for a connection that is over, of " + device_.user + "/" +
                      device_.device);
        return;
    }
    const std::string kind = packet_name(text);
    if (crashes_at("send " + kind)) return;
    if (device_.is_plain) check_plain_retry(text);
    ++packets_out_;
    connection_->send(Connection::End::kClient, text);
    (void)crashes_at("sent " + kind);
}

void SimClient::disconnect(std::uint64_t attempt, std::uint16_t code, std::string_view reason) {
    if (attempt != attempt_) return;
    chart("gives the connection up: " + std::string(reason));
    attempt_ = 0;
    on_session_end(code);
    drop_connection(code, reason, faults_.reorder && schedule_.chance(0.5));
}

void SimClient::drop_connection(std::uint16_t code, std::string_view reason,
                                bool goes_on_listening) {
    if (connection_) {
        connection_->close(Connection::End::kClient, code, reason, goes_on_listening);
        connection_.reset();
        if (!goes_on_listening && !links_.empty()) links_.pop_back();
    }
    links_.erase(std::remove_if(links_.begin(), links_.end(),
                                [](const auto& link) { return !link->is_open(); }),
                 links_.end());
}

// Of a v1 client that was online for long: what follows the loss of such a connection begins anew.
void SimClient::on_session_end(std::uint16_t code) {
    const auto since = std::exchange(online_since_, std::nullopt);
    const bool was_stable =
        since && schedule_.now() - *since > std::chrono::seconds{31} && !is_asleep();
    if (was_stable && !device_.is_plain && (code == 1006 || code == 4002)) {
        quick_since_ = schedule_.now();
    }
}

std::size_t SimClient::queued_bytes() const {
    return connection_ ? connection_->queued_bytes(Connection::End::kClient) : 0;
}

std::size_t SimClient::queued_packets() const {
    return connection_ ? connection_->queued_packets(Connection::End::kClient) : 0;
}

void SimClient::on_packet(std::uint64_t attempt, std::string_view text) {
    if (crashes_at("take " + packet_name(text))) return;
    input([this, attempt, packet = std::string(text)](Engine& engine) {
        engine.on_text(schedule_.now(), attempt, packet);
    });
}

void SimClient::on_drained(std::uint64_t attempt) {
    input([this, attempt](Engine& engine) { engine.on_drained(schedule_.now(), attempt); });
}

void SimClient::on_closed(std::uint64_t attempt, std::uint16_t code, std::string_view reason) {
    input([this, attempt, code, why = std::string(reason)](Engine& engine) {
        if (attempt == attempt_) {
            attempt_ = 0;
            on_session_end(code);
        }
        engine.on_closed(schedule_.now(), attempt, code, why, 0, {});
    });
}

}  // namespace petrel::sim
