#include "tests/simulation/sim_client.hpp"

#include <algorithm>
#include <utility>

#include "core/store/memory_boxes.hpp"

namespace petrel::sim {
namespace {

std::string name_of(const Event& event) {
    if (std::get_if<MessageEvent>(&event) != nullptr) return "message to the app";
    if (std::get_if<OutcomeEvent>(&event) != nullptr) return "outcome to the app";
    return "event";
}

}  // namespace

SimClient::SimClient(Schedule& schedule, const Faults& faults, Checker& checker,
                     Checker::Device device, ProfileId profile, Dial dial)
    : schedule_(schedule),
      faults_(faults),
      checker_(checker),
      device_(std::move(device)),
      profile_(profile),
      dial_(std::move(dial)),
      fingerprints_(schedule.random()()),
      disk_(schedule, [this](const std::string& step) {
          if (crashes_at(step)) return true;
          // Now and then the process dies exactly between two durable steps.
          if (is_calm_ || !faults_.client_crash || device_.is_plain) return false;
          if (!schedule_.chance(0.002)) return false;
          schedule_.after({}, [this] { crash(); });
          disk_.crash();
          return true;
      }) {
    checker_.on_device(device_);
    token_ = device_.user + "/" + device_.device + " 0";
}

SimClient::~SimClient() { drop_connection(1006, ""); }

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
    if (device_.is_plain) {
        outbox_ = make_memory_outbox();
        inbox_ = make_memory_inbox();
    } else {
        outbox_ = make_sim_outbox(outbox_file_, disk_);
        inbox_ = make_sim_inbox(inbox_file_, disk_);
    }
    asleep_until_ = schedule_.now();
    deferred_.clear();
    engine_ = std::make_unique<Engine>(options, static_cast<EngineHost&>(*this), *outbox_, *inbox_,
                                       fingerprints_, schedule_.random()(), schedule_.now());
    input([this](Engine& engine) { engine.login(schedule_.now()); });
}

void SimClient::crash() {
    if (!engine_) return;
    ++life_;
    is_dying_ = false;
    disk_.crash();
    engine_.reset();
    outbox_.reset();
    inbox_.reset();
    if (connection_) {
        connection_->detach(Connection::End::kClient);
        connection_->cut(false, schedule_.chance(0.7));
        connection_.reset();
    }
    is_turn_end_due_ = false;
    wake_at_.reset();
    checker_.on_crash(device_);
    const Duration down = schedule_.random(std::chrono::milliseconds{1}, std::chrono::seconds{5});
    schedule_.after(down, [this, life = life_] {
        if (life == life_) start();
    });
}

void SimClient::suspend(Duration duration) {
    if (schedule_.now() + duration <= asleep_until_) return;
    asleep_until_ = schedule_.now() + duration;
    schedule_.at(asleep_until_, [this, life = life_] {
        if (life == life_) wake();
    });
}

bool SimClient::is_online() const { return engine_ && engine_->state() == ClientState::kOnline; }

void SimClient::become_calm() {
    is_calm_ = true;
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

void SimClient::send(const std::string& to, std::size_t size,
                     std::optional<Duration> expires_after) {
    SendRequest request;
    request.to = to;
    request.text = device_.user + " " + device_.device + " " + std::to_string(++texts_);
    if (request.text.size() < size) request.text.resize(size, 'x');
    request.expires_after = expires_after;
    input([this, request = std::move(request)](Engine& engine) {
        engine.send(schedule_.now(), request, [this, to = request.to](Result<Fingerprint> fp) {
            if (!fp) return;
            checker_.on_taken(device_, to, *fp);
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
    what(*engine_);
    after_input();
}

// Overdue timers run first, before the socket is read: as unkind as a real wake-up can be.
void SimClient::wake() {
    if (!engine_ || is_asleep()) return;
    std::deque<std::function<void(Engine&)>> deferred = std::move(deferred_);
    deferred_.clear();
    const std::uint64_t life = life_;
    input([this](Engine& engine) { engine.advance_to(schedule_.now()); });
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
        engine_->on_event_done(schedule_.now(), *event);
        if (const auto* outcome = std::get_if<OutcomeEvent>(&*event)) {
            checker_.on_outcome_done(device_, outcome->record.fp);
        }
    }
    is_pumping_ = false;
}

void SimClient::after_input() {
    take_events();
    on_turn_wanted();
}

void SimClient::on_turn_wanted() {
    if (is_turn_end_due_) return;
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
    take_events();
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
    schedule_.note(event.index());
    if (const auto* message = std::get_if<MessageEvent>(&event)) {
        checker_.on_message(device_, *message);
    } else if (const auto* outcome = std::get_if<OutcomeEvent>(&event)) {
        checker_.on_outcome(device_, *outcome);
    } else if (const auto* gap = std::get_if<BreakEvent>(&event)) {
        checker_.on_break(device_, gap->side == BreakEvent::Side::kInbox);
    } else if (std::get_if<TokenNeededEvent>(&event) != nullptr) {
        renew_token();
    } else if (const auto* login = std::get_if<LoginEvent>(&event)) {
        if (login->code == 0) checker_.on_online(device_);
    } else if (std::get_if<KickedEvent>(&event) != nullptr) {
        checker_.fail("kicked although nobody else logged in: " + device_.user);
    }
}

// ---- the connection ----

void SimClient::connect(std::uint64_t attempt, std::string_view subprotocol) {
    drop_connection(1006, "");
    attempt_ = attempt;
    const Duration delay =
        schedule_.random(std::chrono::milliseconds{1}, std::chrono::milliseconds{300});
    schedule_.after(delay, [this, life = life_, attempt, asked = std::string(subprotocol)] {
        if (life != life_ || attempt != attempt_) return;
        connection_ = dial_(asked);
        if (!connection_) {
            input([this, attempt](Engine& engine) {
                engine.on_closed(schedule_.now(), attempt, 1006, "refused", 0, {});
            });
            return;
        }
        connection_->attach(Connection::End::kClient, this);
        input([this, attempt, asked](Engine& engine) {
            engine.on_connected(schedule_.now(), attempt, asked);
        });
    });
}

void SimClient::send_text(std::uint64_t attempt, std::string_view text) {
    if (attempt != attempt_ || !connection_) return;
    const std::string kind = packet_name(text);
    if (crashes_at("send " + kind)) return;
    ++packets_out_;
    connection_->send(Connection::End::kClient, text);
    (void)crashes_at("sent " + kind);
}

void SimClient::disconnect(std::uint64_t attempt, std::uint16_t code, std::string_view reason) {
    if (attempt != attempt_) return;
    attempt_ = 0;
    drop_connection(code, reason);
}

void SimClient::drop_connection(std::uint16_t code, std::string_view reason) {
    if (!connection_) return;
    connection_->detach(Connection::End::kClient);
    connection_->close(Connection::End::kClient, code, reason);
    connection_.reset();
}

std::size_t SimClient::queued_bytes() const {
    return connection_ ? connection_->queued_bytes(Connection::End::kClient) : 0;
}

std::size_t SimClient::queued_packets() const {
    return connection_ ? connection_->queued_packets(Connection::End::kClient) : 0;
}

void SimClient::on_packet(std::string_view text) {
    if (crashes_at("take " + packet_name(text))) return;
    input([this, attempt = attempt_, packet = std::string(text)](Engine& engine) {
        engine.on_text(schedule_.now(), attempt, packet);
    });
}

void SimClient::on_drained() {
    input([this, attempt = attempt_](Engine& engine) {
        engine.on_drained(schedule_.now(), attempt);
    });
}

void SimClient::on_closed(std::uint16_t code, std::string_view reason) {
    input([this, attempt = attempt_, code, why = std::string(reason)](Engine& engine) {
        engine.on_closed(schedule_.now(), attempt, code, why, 0, {});
    });
}

}  // namespace petrel::sim
