#include "core/client/client_impl.hpp"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <random>

#include "core/store/memory_boxes.hpp"

namespace petrel {

namespace {

// Events of one turn: other clients share the thread.
constexpr int kEventsPerTurn = 256;
// A callback that cannot keep up with the log misses the oldest lines.
constexpr std::size_t kLogsMax = 1024;
// Closed connections that wait for the peer's close frame, 5 s at most each.
constexpr std::size_t kRetiredMax = 4;
// Room for so many posted sends is kept while there are none.
constexpr std::size_t kSendsKept = 64;
// Of a wait without a timeout: far away, and no overflow.
constexpr std::chrono::hours kForever{24 * 365};

std::uint64_t system_seed() {
    std::random_device device;
    return (std::uint64_t{device()} << 32) | device();
}

// What on_event_done needs of an event; nothing for those that nobody waits for.
std::optional<Event> receipt_of(const Event& event) {
    if (const auto* message = std::get_if<MessageEvent>(&event)) {
        MessageEvent receipt;
        receipt.id = message->id;
        return receipt;
    }
    if (const auto* outcome = std::get_if<OutcomeEvent>(&event)) {
        OutcomeEvent receipt;
        receipt.record.fp = outcome->record.fp;
        receipt.is_correction = outcome->is_correction;
        return receipt;
    }
    return std::nullopt;
}

}  // namespace

Client::Impl::Impl(Runtime& runtime, ClientOptions options)
    : loop_(runtime.loop()),
      connector_(options.connector != nullptr ? *options.connector : runtime.connector()),
      options_(std::move(options)),
      lease_(runtime.lease()) {
    options_.events_max = std::max<std::size_t>(options_.events_max, 1);
    if (!options_.outbox) options_.outbox = make_memory_outbox();
    if (!options_.inbox) options_.inbox = make_memory_inbox();
    if (!options_.on_event) signal_ = std::make_unique<EventSignal>();
}

// ---- life ----

void Client::Impl::start() {
    self_ = shared_from_this();
    const auto begin = [this] {
        alarm_ = loop_.make_alarm([this] {
            armed_at_.reset();
            if (life_ == Life::kLingering) {
                release();
            } else {
                input([](Engine& engine, TimePoint now) { engine.advance_to(now); });
            }
        });
        // What the outbox holds is loaded here; the events of it come with the first turn.
        engine_ = std::make_unique<Engine>(std::move(options_.engine), *this, *options_.outbox,
                                           *options_.inbox, fingerprints_,
                                           options_.seed.value_or(0), loop_.now());
        input([](Engine&, TimePoint) {});
    };
    if (!options_.seed) options_.seed = system_seed();
    if (is_on_loop()) {
        begin();
    } else {
        post_to_loop(begin);
    }
}

void Client::Impl::destroy() {
    if (is_on_loop()) {
        is_destroy_wanted_ = true;
        if (depth_ == 0) finish();
        return;
    }
    post_to_loop([self = shared_from_this()] {
        self->is_destroy_wanted_ = true;
        assert(self->depth_ == 0);
        self->finish();
    });
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_gone_; });
}

bool Client::Impl::is_lingering() const {
    return std::any_of(retired_.begin(), retired_.end(),
                       [](const auto& link) { return !link->is_closed; });
}

void Client::Impl::finish() {
    if (life_ != Life::kRunning) return;
    ++depth_;
    run_posted_sends();
    engine_->shut_down(loop_.now());
    run_finished_sends();
    // Only how messages ended: what else waits would come too late to act on.
    while (options_.on_event) {
        std::optional<Event> event;
        if (extra_events_.empty()) {
            event = engine_->next_event();
        } else {
            event = std::move(extra_events_.front());
            extra_events_.pop_front();
        }
        if (!event) break;
        if (!std::holds_alternative<OutcomeEvent>(*event)) continue;
        options_.on_event(*event);
        engine_->on_event_done(loop_.now(), *event);
    }
    engine_->flush(loop_.now());
    run_finished_sends();
    --depth_;
    state_ = ClientState::kOffline;
    life_ = Life::kLingering;
    engine_.reset();
    options_.outbox.reset();
    options_.inbox.reset();
    if (link_) retire(std::move(link_));
    if (is_lingering() && options_.linger_max > std::chrono::milliseconds::zero()) {
        alarm_->arm(loop_.now() + options_.linger_max);
    } else {
        release();
    }
}

void Client::Impl::release() {
    if (life_ == Life::kGone) return;
    life_ = Life::kGone;
    alarm_.reset();
    // Later: a Link or a callback may be on the stack.
    loop_.post([self = std::move(self_)] {
        self->retired_.clear();
        self->options_.on_event = nullptr;
        self->options_.on_log = nullptr;
        std::shared_ptr<void> lease;
        {
            const std::lock_guard lock(self->mutex_);
            lease.swap(self->lease_);
        }
        lease.reset();
        {
            const std::lock_guard lock(self->mutex_);
            self->is_gone_ = true;
        }
        self->changed_.notify_all();
    });
}

// ---- the loop ----

void Client::Impl::leave() {
    if (depth_ == 1) run_finished_sends();
    --depth_;
    if (life_ != Life::kRunning) return;
    state_ = engine_->state();
    if (depth_ > 0) return;
    if (is_destroy_wanted_) {
        finish();
    } else if (is_turn_wanted_) {
        schedule_turn();
    }
}

// What it does on the loop may end the runtime while this thread still tells the loop of it.
void Client::Impl::post_to_loop(std::function<void()> task) {
    std::shared_ptr<void> lease;
    {
        const std::lock_guard lock(mutex_);
        lease = lease_;
    }
    loop_.post(std::move(task));
}

void Client::Impl::post(std::function<void(Engine&, TimePoint)> work) {
    post_to_loop([self = shared_from_this(), work = std::move(work)] { self->input(work); });
}

void Client::Impl::tell(std::function<void(Engine&, TimePoint)> work) {
    if (is_on_loop()) {
        input(work);
    } else {
        post(std::move(work));
    }
}

void Client::Impl::schedule_turn() {
    if (is_turn_posted_) return;
    is_turn_posted_ = true;
    loop_.post([self = shared_from_this()] {
        self->is_turn_posted_ = false;
        self->enter([&self] {
            if (self->life_ == Life::kRunning) self->turn();
        });
    });
}

void Client::Impl::turn() {
    is_turn_wanted_ = false;
    bury();
    run_posted_sends();
    deliver_logs();
    deliver_events();
    if (is_destroy_wanted_) return;
    engine_->flush(loop_.now());
    // What they bring about leaves with the next flush.
    if (deliver_events()) is_turn_wanted_ = true;
    if (is_destroy_wanted_) return;
    arm();
}

void Client::Impl::arm() {
    const auto deadline = engine_->next_deadline();
    // An alarm that comes too early is cheaper than moving it with every packet.
    if (!deadline || (armed_at_ && *armed_at_ <= *deadline)) return;
    armed_at_ = deadline;
    alarm_->arm(*deadline);
}

void Client::Impl::on_turn_wanted() {
    // In the middle of whatever the store's answer interrupts.
    is_turn_wanted_ = true;
    if (life_ == Life::kRunning) schedule_turn();
}

// ---- what the app hears ----

void Client::Impl::log(LogLevel level, std::string_view text) {
    if (!options_.on_log) return;
    if (logs_.size() >= kLogsMax) logs_.pop_front();
    logs_.emplace_back(level, text);
    is_turn_wanted_ = true;
}

void Client::Impl::deliver_logs() {
    while (!logs_.empty() && !is_destroy_wanted_) {
        const auto [level, text] = std::move(logs_.front());
        logs_.pop_front();
        options_.on_log(level, text);
    }
}

bool Client::Impl::deliver_events() {
    if (!options_.on_event) return deliver_to_queue();
    int count = 0;
    for (; count < kEventsPerTurn && !is_destroy_wanted_; ++count) {
        if (!extra_events_.empty()) {
            const Event event = std::move(extra_events_.front());
            extra_events_.pop_front();
            options_.on_event(event);
            continue;
        }
        const auto event = engine_->next_event();
        if (!event) return count > 0;
        options_.on_event(*event);
        engine_->on_event_done(loop_.now(), *event);
    }
    is_turn_wanted_ = true;
    return true;
}

bool Client::Impl::deliver_to_queue() {
    std::vector<Event> done;
    {
        const std::lock_guard lock(mutex_);
        done.swap(done_);
    }
    for (const Event& event : done) engine_->on_event_done(loop_.now(), event);

    const std::lock_guard lock(mutex_);
    const std::size_t before = queue_.size();
    while (queue_.size() < options_.events_max) {
        if (!extra_events_.empty()) {
            queue_.push_back(std::move(extra_events_.front()));
            extra_events_.pop_front();
        } else if (auto event = engine_->next_event()) {
            queue_.push_back(std::move(*event));
        } else {
            break;
        }
    }
    if (before == 0 && !queue_.empty()) {
        signal_->set();
        changed_.notify_all();
    }
    return !done.empty() || queue_.size() > before;
}

std::optional<Event> Client::Impl::next_event(std::chrono::milliseconds timeout) {
    if (!signal_) return std::nullopt;
    std::unique_lock lock(mutex_);
    if (taken_) {
        done_.push_back(std::move(*taken_));
        taken_.reset();
        if (done_.size() == 1) {
            lock.unlock();
            post([](Engine&, TimePoint) {});
            lock.lock();
        }
    }
    const auto is_over = [this] { return !queue_.empty() || is_woken_ || is_gone_; };
    if (!is_on_loop() && timeout != std::chrono::milliseconds::zero()) {
        const auto wait = timeout < std::chrono::milliseconds::zero()
                              ? std::chrono::milliseconds{kForever}
                              : std::min<std::chrono::milliseconds>(timeout, kForever);
        changed_.wait_for(lock, wait, is_over);
    }
    if (queue_.empty()) {
        is_woken_ = false;
        return std::nullopt;
    }
    const bool was_full = queue_.size() >= options_.events_max;
    Event event = std::move(queue_.front());
    queue_.pop_front();
    if (queue_.empty()) signal_->clear();
    taken_ = receipt_of(event);
    lock.unlock();
    if (was_full) post([](Engine&, TimePoint) {});  // What waits in the engine.
    return event;
}

void Client::Impl::wake() {
    {
        const std::lock_guard lock(mutex_);
        is_woken_ = true;
    }
    changed_.notify_all();
}

// ---- sending ----

Result<Fingerprint> Client::Impl::send(SendRequest request) {
    struct Answer {
        std::mutex mutex;
        std::condition_variable is_there;
        std::optional<Result<Fingerprint>> result;
        bool is_late = false;  // Nobody waits any more.
    };
    auto answer = std::make_shared<Answer>();
    if (is_on_loop()) {
        if (request.fp.empty()) request.fp = fingerprints_.next();
        const Fingerprint fp = request.fp;
        input([&](Engine& engine, TimePoint now) {
            const auto to = request.to;
            engine.send(now, std::move(request),
                        [this, answer, fp, to](Result<Fingerprint> result) {
                            if (answer->is_late) {
                                if (!result) report_late_failure(fp, to, result.error());
                                return;
                            }
                            answer->result.emplace(std::move(result));
                        });
            if (!answer->result) engine.flush(now);  // A file: its commit.
        });
        answer->is_late = true;
        if (answer->result) return std::move(*answer->result);
        if (life_ != Life::kRunning) return Errc::kNotInitialised;
        return fp;
    }
    const auto settle = [answer](Result<Fingerprint> result) {
        {
            const std::lock_guard lock(answer->mutex);
            answer->result.emplace(std::move(result));
        }
        answer->is_there.notify_all();
    };
    post_to_loop([self = shared_from_this(), settle, request = std::move(request)]() mutable {
        if (self->life_ != Life::kRunning) {
            settle(Errc::kNotInitialised);
            return;
        }
        self->input(
            [&](Engine& engine, TimePoint now) { engine.send(now, std::move(request), settle); });
    });
    std::unique_lock lock(answer->mutex);
    answer->is_there.wait(lock, [&answer] { return answer->result.has_value(); });
    return std::move(*answer->result);
}

void Client::Impl::report_late_failure(const Fingerprint& fp, const std::string& to,
                                       std::error_code error) {
    OutcomeEvent event;
    event.record.fp = fp;
    event.record.to = to;
    // Ended while the outbox was busy: it may have it.
    const bool is_unknown = error == Errc::kNotInitialised;
    event.record.outcome = is_unknown ? Outcome::kUnknown : Outcome::kRejected;
    event.record.code = is_unknown ? 0 : static_cast<int>(Errc::kSendFailed);
    log(LogLevel::kError, "the outbox failed: " + error.message());
    extra_events_.push_back(std::move(event));
    is_turn_wanted_ = true;
}

void Client::Impl::send_async(SendRequest request, Engine::SendDone done) {
    bool is_first = false;
    {
        const std::lock_guard lock(mutex_);
        PostedSend& posted = posted_sends_.emplace_back();
        posted.done = std::move(done);
        posted.is_refused = posted_sends_.size() > options_.posted_sends_max;
        if (!posted.is_refused) posted.request = std::move(request);
        is_first = posted_sends_.size() == 1;
        has_posted_sends_ = true;
    }
    if (is_first) post([](Engine&, TimePoint) {});
}

void Client::Impl::run_posted_sends() {
    // Whoever posted an input after a send has made this true before: none is missed.
    if (!has_posted_sends_) return;
    std::vector<PostedSend> posted = std::move(spare_sends_);
    {
        const std::lock_guard lock(mutex_);
        posted.swap(posted_sends_);
        has_posted_sends_ = false;
    }
    for (PostedSend& send : posted) {
        is_turn_wanted_ = true;
        if (send.is_refused) {
            finish_send(std::move(send.done), Result<Fingerprint>(Errc::kSendFailed));
            continue;
        }
        engine_->send(loop_.now(), std::move(send.request),
                      [this, done = std::move(send.done)](Result<Fingerprint> result) mutable {
                          finish_send(std::move(done), std::move(result));
                      });
    }
    posted.clear();
    if (posted.capacity() <= kSendsKept) spare_sends_ = std::move(posted);
}

void Client::Impl::finish_send(Engine::SendDone&& done, Result<Fingerprint>&& result) {
    if (done) finished_sends_.emplace_back(std::move(done), std::move(result));
}

// Not from inside the engine's input: what a callback sends must not nest without end.
void Client::Impl::run_finished_sends() {
    if (std::exchange(is_finishing_sends_, true)) return;
    while (!finished_sends_.empty()) {
        auto [done, result] = std::move(finished_sends_.front());
        finished_sends_.pop_front();
        done(std::move(result));
    }
    is_finishing_sends_ = false;
}

// ---- the connection ----

void Client::Impl::connect(std::uint64_t attempt, std::string_view subprotocol) {
    if (link_) retire(std::move(link_));
    ConnectOptions options = options_.connect;
    options.subprotocol = subprotocol;
    link_ = std::make_unique<Link>(*this, attempt);
    link_->transport = connector_.connect(options, *link_);
    if (link_->transport) return;
    post([attempt](Engine& engine, TimePoint now) {
        engine.on_closed(now, attempt, 1006, "no transport", 0, std::nullopt);
    });
}

void Client::Impl::send_text(std::uint64_t attempt, std::string_view text) {
    if (!link_ || link_->attempt != attempt || !link_->transport) return;
    if (options_.on_packet) options_.on_packet(true, attempt, text);
    link_->transport->send(text);
}

void Client::Impl::disconnect(std::uint64_t attempt, std::uint16_t code, std::string_view reason) {
    if (!link_ || link_->attempt != attempt) return;
    if (link_->transport) link_->transport->close(code, reason);
    retire(std::move(link_));
}

std::size_t Client::Impl::queued_bytes() const {
    return link_ && link_->transport ? link_->transport->queued_bytes() : 0;
}

std::size_t Client::Impl::queued_packets() const {
    return link_ && link_->transport ? link_->transport->queued_packets() : 0;
}

// It may be the one that is calling us: it is destroyed later, and not before its goodbye has left.
void Client::Impl::retire(std::unique_ptr<Link> link) {
    link->is_retired = true;
    if (!link->is_open) link->is_closed = true;
    retired_.push_back(std::move(link));
    is_turn_wanted_ = true;
}

// From the loop itself only, never from inside a Link's call.
void Client::Impl::bury() {
    const auto is_dead = [](const std::unique_ptr<Link>& link) { return link->is_closed; };
    retired_.erase(std::remove_if(retired_.begin(), retired_.end(), is_dead), retired_.end());
    if (retired_.size() > kRetiredMax) {
        const auto extra = static_cast<std::ptrdiff_t>(retired_.size() - kRetiredMax);
        retired_.erase(retired_.begin(), retired_.begin() + extra);
    }
}

void Client::Impl::Link::on_open(std::string_view subprotocol) {
    is_open = true;
    if (is_retired) return;
    owner_.input(
        [&](Engine& engine, TimePoint now) { engine.on_connected(now, attempt, subprotocol); });
}

void Client::Impl::Link::on_text(std::string_view text) {
    if (is_retired) return;
    if (owner_.options_.on_packet) owner_.options_.on_packet(false, attempt, text);
    owner_.input([&](Engine& engine, TimePoint now) { engine.on_text(now, attempt, text); });
}

void Client::Impl::Link::on_binary(std::size_t) {
    if (is_retired) return;
    owner_.input([&](Engine& engine, TimePoint now) { engine.on_binary(now, attempt); });
}

void Client::Impl::Link::on_drained() {
    if (is_retired) return;
    owner_.input([&](Engine& engine, TimePoint now) { engine.on_drained(now, attempt); });
}

void Client::Impl::Link::on_closed(const CloseInfo& info) {
    is_closed = true;
    if (!is_retired) {
        owner_.input([&](Engine& engine, TimePoint now) {
            engine.on_closed(
                now, attempt, info.code, info.reason, info.http_status,
                info.retry_after ? std::optional<Duration>(*info.retry_after) : std::nullopt);
        });
    } else if (owner_.life_ == Life::kLingering && !owner_.is_lingering()) {
        owner_.release();
    }
}

}  // namespace petrel
