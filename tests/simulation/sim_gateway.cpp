#include "tests/simulation/sim_gateway.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include "core/store/memory_message_store.hpp"

namespace petrel::sim {

class SimGateway::SimSession final : public SessionHost, public Endpoint {
public:
    SimSession(SimGateway& gateway, std::uint64_t serial, std::shared_ptr<Connection> connection,
               std::string_view subprotocol)
        : gateway_(gateway),
          serial_(serial),
          connection_(std::move(connection)),
          session_(*this, *gateway.router_, gateway.session_options_, gateway.counters_, serial,
                   subprotocol) {
        connection_->attach(Connection::End::kServer, this);
    }
    ~SimSession() { connection_->detach(Connection::End::kServer); }

    Session& session() { return session_; }
    const Session& session() const { return session_; }
    Connection& connection() { return *connection_; }
    bool is_flush_wanted = false;

    void send_text(std::string_view text) override {
        const std::string kind = packet_name(text);
        if (gateway_.crashes_at("send " + kind)) return;
        connection_->send(Connection::End::kServer, text);
        (void)gateway_.crashes_at("sent " + kind);
    }
    void close(std::uint16_t code, std::string_view reason) override {
        connection_->close(Connection::End::kServer, code, reason);
        gateway_.to_bury_.push_back(serial_);
        gateway_.begin_input();
    }
    std::size_t queued_bytes() const override {
        return connection_->queued_bytes(Connection::End::kServer);
    }
    std::size_t queued_packets() const override {
        return connection_->queued_packets(Connection::End::kServer);
    }
    void want_flush(Session&) override {
        if (is_flush_wanted) return;
        is_flush_wanted = true;
        gateway_.to_flush_.push_back(serial_);
    }
    TimerQueue& timers() override { return *gateway_.timers_; }
    std::uint64_t random(std::uint64_t low, std::uint64_t high) override {
        return gateway_.schedule_.random(low, high);
    }
    FingerprintSource& fingerprints() override { return gateway_.fingerprints_; }
    Authenticator& authenticator() override { return gateway_.authenticator_; }
    std::string& scratch() override { return gateway_.scratch_; }
    void log(LogLevel, std::string_view) override {}

    void on_packet(std::string_view text) override {
        const std::string kind = packet_name(text);
        if (gateway_.crashes_at("take " + kind)) return;
        gateway_.begin_input();
        session_.on_text(text);
        (void)gateway_.crashes_at("took " + kind);
        gateway_.check(this);
    }
    void on_drained() override {
        gateway_.begin_input();
        session_.on_drained();
        gateway_.check(this);
    }
    void on_closed(std::uint16_t code, std::string_view) override {
        gateway_.begin_input();
        session_.on_connection_closed(code);
        gateway_.check(this);
        gateway_.to_bury_.push_back(serial_);
    }

private:
    SimGateway& gateway_;
    const std::uint64_t serial_;
    std::shared_ptr<Connection> connection_;
    Session session_;
};

SimGateway::SimGateway(Schedule& schedule, const Faults& faults, Checker& checker)
    : schedule_(schedule),
      faults_(faults),
      checker_(checker),
      authenticator_(schedule, faults),
      fingerprints_(schedule.random()()),
      epochs_(schedule.random()()) {
    if (faults_.inbox_full) store_options_.inbox_max = 8;
    if (faults_.narrow) session_options_.window = session_options_.plain_window = kNarrowWindow;
    store_ = make_memory_message_store(store_options_, epochs_);
    session_options_.token_grace = std::chrono::seconds{10};
    session_options_.feed.queue_max = 128;  // So that who is behind reads pages of the store.
    restart();
}

SimGateway::~SimGateway() { crash(); }

void SimGateway::restart() {
    if (router_) return;
    session_options_.payload_max = faults_.limits && life_ % 2 == 1 ? 20'000 : 65'536;
    timers_ = std::make_unique<TimerQueue>(schedule_.now());
    router_.reset(new Router(*this, Router::Options{}));
}

bool SimGateway::crashes_at(const std::string& step) {
    if (is_dying_ || !probe_ || !probe_(step)) return is_dying_;
    // Not from within the sessions that go with it.
    is_dying_ = true;
    schedule_.after({}, [this] {
        crash();
        schedule_.after(std::chrono::seconds{1}, [this] { restart(); });
    });
    return true;
}

void SimGateway::crash() {
    ++life_;
    is_dying_ = false;
    queue_.clear();
    is_commit_due_ = false;
    is_turn_end_due_ = false;
    wake_at_.reset();
    to_flush_.clear();
    to_bury_.clear();
    for (auto& [serial, session] : sessions_) {
        // Some clients get a reset from the dead host's kernel, others silence.
        session->connection().cut(schedule_.chance(0.7), false);
    }
    sessions_.clear();
    router_.reset();
    timers_.reset();
}

bool SimGateway::accept(std::shared_ptr<Connection> connection, std::string_view subprotocol) {
    if (!router_) return false;
    begin_input();
    const std::uint64_t serial = next_connection_++;
    sessions_.emplace(
        serial, std::make_unique<SimSession>(*this, serial, std::move(connection), subprotocol));
    return true;
}

void SimGateway::lose_store() {
    store_ = make_memory_message_store(store_options_, epochs_);
    checker_.on_store_lost();
}

void SimGateway::drain() {
    if (!router_) return;
    begin_input();
    for (auto& [serial, session] : sessions_) session->session().drain();
}

void SimGateway::fill_store(Duration duration) { store_full_until_ = schedule_.now() + duration; }

void SimGateway::become_calm() {
    store_full_until_ = schedule_.now();
    restart();
}

void SimGateway::check(const SimSession* session) {
    if (router_ && !router_->is_consistent()) checker_.fail("the router's state is inconsistent");
    if (session != nullptr && !session->session().is_consistent()) {
        checker_.fail("a session's state is inconsistent");
    }
}

// ---- the store ----

bool SimGateway::store_append(AppendRequest request) {
    enqueue(std::move(request));
    return true;
}
bool SimGateway::store_open(OpenRequest request) {
    enqueue(std::move(request));
    return true;
}
bool SimGateway::store_read(ReadRequest request) {
    enqueue(std::move(request));
    return true;
}
void SimGateway::store_advance(CursorUpdate update) { enqueue(std::move(update)); }

void SimGateway::enqueue(Request request) {
    queue_.push_back(std::move(request));
    if (is_commit_due_) return;
    is_commit_due_ = true;
    const Duration delay = schedule_.random(Duration{0}, std::chrono::milliseconds{20});
    schedule_.after(delay, [this, life = life_] {
        if (life == life_) commit();
    });
}

const char* SimGateway::name_of(const Request& request) {
    if (std::get_if<AppendRequest>(&request) != nullptr) return "append";
    if (std::get_if<OpenRequest>(&request) != nullptr) return "login";
    return std::get_if<CursorUpdate>(&request) != nullptr ? "cursor" : "read";
}

void SimGateway::commit() {
    is_commit_due_ = false;
    std::vector<Request> batch = std::move(queue_);
    queue_.clear();
    for (const Request& request : batch) {
        if (crashes_at(std::string("write ") + name_of(request))) return;
    }
    const bool fails =
        schedule_.now() < store_full_until_ || (faults_.store_busy && schedule_.chance(0.01));
    struct Outcome {
        std::vector<AppendResult> results;
        std::vector<Delivery> deliveries;
        std::vector<OpenResult> opened;
        std::vector<ReadResult> pages;
    };
    // Results go back in the order of the requests: one step a request.
    auto steps = std::make_shared<std::vector<Outcome>>();
    const auto now =
        std::chrono::duration_cast<std::chrono::milliseconds>(schedule_.now().time_since_epoch())
            .count();
    std::error_code error = store_->begin(now, schedule_.wall_ms());
    std::vector<Request> again;
    for (Request& request : batch) {
        Outcome step;
        if (auto* append = std::get_if<AppendRequest>(&request)) {
            AppendResult result;
            if (fails) {
                result.ticket = append->ticket;
                result.seq = append->seq;
                result.fp = append->message->fp;
                result.fate = AppendResult::Fate::kFailed;
            } else {
                error = store_->append(*append, result, step.deliveries);
                checker_.on_committed(*append, result, step.deliveries);
            }
            step.results.push_back(std::move(result));
        } else if (auto* open = std::get_if<OpenRequest>(&request)) {
            OpenResult result;
            result.ticket = open->ticket;
            if (fails) {
                result.error = Errc::kLoginBusy;
            } else {
                error = store_->open_session(*open, result);
            }
            step.opened.push_back(std::move(result));
        } else if (auto* read = std::get_if<ReadRequest>(&request)) {
            ReadResult result;
            error = store_->read(*read, result);
            step.pages.push_back(std::move(result));
        } else if (fails) {
            again.push_back(std::move(request));  // As the writer does: nobody hears of it.
        } else {
            const auto& update = std::get<CursorUpdate>(request);
            checker_.on_cursor(update);
            error = store_->advance(update);
        }
        if (error) checker_.fail("the memory store failed: " + error.message());
        steps->push_back(std::move(step));
    }
    error = store_->commit();
    if (error) checker_.fail("the memory store failed: " + error.message());
    for (Request& update : again) enqueue(std::move(update));
    for (const Request& request : batch) {
        if (crashes_at(std::string("told ") + name_of(request))) return;
    }
    // Never before those of an earlier commit.
    results_at_ = std::max(
        results_at_, schedule_.now() + schedule_.random(Duration{0}, std::chrono::milliseconds{2}));
    schedule_.at(results_at_, [this, life = life_, steps] {
        if (life != life_) return;
        begin_input();
        for (Outcome& step : *steps) {
            router_->on_append_results(step.results);
            router_->on_deliveries(step.deliveries);
            for (OpenResult& opened : step.opened) router_->on_opened(std::move(opened));
            for (const ReadResult& page : step.pages) router_->on_read(page);
        }
    });
}

// ---- turns and time ----

void SimGateway::begin_input() {
    timers_->set_now(schedule_.now());
    if (is_turn_end_due_) return;
    is_turn_end_due_ = true;
    schedule_.after({}, [this, life = life_] {
        if (life == life_) end_turn();
    });
}

void SimGateway::end_turn() {
    is_turn_end_due_ = false;
    if (is_dying_) return;
    timers_->set_now(schedule_.now());
    while (!to_flush_.empty()) {
        const std::vector<std::uint64_t> batch = std::exchange(to_flush_, {});
        for (const std::uint64_t serial : batch) {
            const auto found = sessions_.find(serial);
            if (found == sessions_.end()) continue;
            found->second->is_flush_wanted = false;
            found->second->session().flush();
        }
    }
    for (const std::uint64_t serial : to_bury_) sessions_.erase(serial);
    to_bury_.clear();
    check(nullptr);
    wake_at_next_deadline();
}

void SimGateway::wake_at_next_deadline() {
    const std::optional<TimePoint> next = timers_->next_deadline();
    if (!next || next == wake_at_) return;
    wake_at_ = next;
    schedule_.at(*next, [this, life = life_, at = *next] {
        if (life != life_ || wake_at_ != at) return;
        wake_at_.reset();
        begin_input();
        timers_->advance_to(schedule_.now());
        check(nullptr);
    });
}

}  // namespace petrel::sim
