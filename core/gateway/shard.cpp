#include "core/gateway/shard.hpp"

#include <algorithm>
#include <utility>

#include "transport/asio_event_loop.hpp"

namespace petrel {
namespace {

constexpr std::size_t kPushesAhead = 4;  // Messages for a session in a turn.

// A client may close with any number: only those that say something are told apart.
int kind_of_close(std::uint16_t code) {
    constexpr std::uint16_t kTold[] = {1000, 1001, 1002, 1005, 1006, 1007, 1008, 1009, 1011};
    return std::find(std::begin(kTold), std::end(kTold), code) != std::end(kTold) ? code : 0;
}

const char* name_of(Session::State state) {
    switch (state) {
        case Session::State::kFresh: return "fresh";
        case Session::State::kDeciding: return "deciding";
        case Session::State::kOnline: return "online";
        case Session::State::kClosed: return "closed";
    }
    return "?";
}

const char* name_of(ProfileId profile) {
    switch (profile) {
        case ProfileId::kPetrelV1: return "petrel.v1";
        case ProfileId::kImSdk: return "im-sdk";
        case ProfileId::kMobileImSdk: return "mobileimsdk";
        default: return "undecided";
    }
}

bool is_meant(const Identity& identity, std::string_view app, std::string_view user,
              std::string_view device) {
    return (app.empty() || identity.app() == app) && (user.empty() || identity.user() == user) &&
           (device.empty() || identity.device() == device);
}

}  // namespace

// A WebSocket connection and the session on it. Lives until the transport has closed, so that the
// session's last words get out.
class Shard::Connection final : public SessionHost, public Transport::Handler {
public:
    Connection(Shard& shard, std::uint64_t serial, std::unique_ptr<Transport> transport,
               const PeerInfo& peer)
        : shard_(shard),
          address_(peer.address),
          connected_at_(shard.wall_ms()),
          place_(peer.place),
          transport_(std::move(transport)),
          session_(*this, shard.router_, shard.shared_.session_options, shard.counters_, serial,
                   peer.subprotocol) {
        transport_->set_handler(*this);
    }

    std::uint64_t serial() const { return session_.connection(); }
    Session& session() { return session_; }
    const Session& session() const { return session_; }
    SessionInfo info() const;
    bool is_flush_wanted = false;

    // SessionHost
    void send_text(std::string_view text) override { transport_->send(text); }
    void close(std::uint16_t code, std::string_view reason) override {
        log(LogLevel::kDebug, "closing " + std::to_string(code) + ": " + std::string(reason));
        transport_->close(code, reason);
    }
    std::size_t queued_bytes() const override { return transport_->queued_bytes(); }
    std::size_t queued_packets() const override { return transport_->queued_packets(); }
    void want_flush(Session&) override {
        if (is_flush_wanted) return;
        is_flush_wanted = true;
        shard_.to_flush_.push_back(this);
    }
    TimerQueue& timers() override { return shard_.timers_; }
    std::uint64_t random(std::uint64_t low, std::uint64_t high) override {
        return std::uniform_int_distribution<std::uint64_t>(low, high)(shard_.random_);
    }
    FingerprintSource& fingerprints() override { return shard_.fingerprints_; }
    Authenticator& authenticator() override { return *shard_.shared_.authenticator; }
    std::string& scratch() override { return shard_.scratch_; }
    void log(LogLevel level, std::string_view text) override {
        if (!shard_.shared_.log) return;
        LogContext context;
        context.connection = serial();
        context.address = address_;
        const std::string session = session_.public_id();
        context.session = session;
        const Identity& identity = session_.identity();
        if (!identity.user().empty()) {
            context.app = identity.app();
            context.user = identity.user();
            context.device = identity.device();
        }
        shard_.shared_.log(level, text, context);
    }

    Duration take_login() override {
        return shard_.shared_.login_limits->take_address(address_, shard_.timers_.now());
    }
    Duration take_login(const UserKey& account) override {
        return shard_.shared_.login_limits->take_account(account, shard_.timers_.now());
    }
    void on_login() override {
        if (const auto place = place_.lock()) place->on_login();
    }

    // Transport::Handler
    void on_open(std::string_view) override {}
    void on_text(std::string_view text) override {
        shard_.begin_input();
        session_.on_text(text);
    }
    void on_binary(std::size_t) override {
        shard_.begin_input();
        session_.on_binary();
    }
    void on_drained() override {
        shard_.begin_input();
        session_.on_drained();
    }
    void on_closed(const CloseInfo& info) override {
        shard_.begin_input();
        if (session_.state() != Session::State::kClosed) {
            shard_.counters_.closes_by_peer.add(kind_of_close(info.code));
        }
        session_.on_connection_closed(info.code);
        shard_.bury(*this);
    }

private:
    Shard& shard_;
    const std::string address_;
    const WallMillis connected_at_;
    const std::weak_ptr<ConnectionLimits::Place> place_;
    std::unique_ptr<Transport> transport_;
    Session session_;
};

SessionInfo Shard::Connection::info() const {
    SessionInfo info;
    info.connection = serial();
    info.shard = shard_of(session_.id());
    info.address = address_;
    info.session = session_.public_id();
    info.state = name_of(session_.state());
    info.profile = name_of(session_.profile_id());
    const Identity& identity = session_.identity();
    if (session_.state() != Session::State::kFresh) {
        info.app = identity.app();
        info.user = identity.user();
        info.device = identity.device();
        info.device_class = identity.device_class();
    }
    info.connected_at = connected_at_;
    info.in_flight = session_.in_flight();
    info.backlog = session_.backlog();
    info.queued_bytes = queued_bytes();
    return info;
}

Shard::Shard(Shared shared, Router::Options options, std::uint64_t seed)
    : shared_(std::move(shared)),
      loop_(std::make_unique<AsioEventLoop>()),
      timers_(loop_->now()),
      random_(seed),
      router_(*this, options),
      listener_(make_listener(shared_.websocket, *loop_)),
      outgoing_(options.shards) {
    alarm_ = loop_->make_alarm([this] {
        armed_.reset();
        begin_input();
        timers_.advance_to(loop_->now());
    });
}

Shard::~Shard() {
    stop();
    to_flush_.clear();
    connections_.clear();
}

Result<std::uint16_t> Shard::listen(const ListenOptions& options, std::string& why) {
    Result<std::uint16_t> port = listener_->listen(options, *this);
    if (!port) why = listener_->last_error();
    return port;
}

void Shard::start() {
    thread_ = std::thread([this] {
        owner_ = std::this_thread::get_id();
        loop_->run();
    });
}

void Shard::post(std::function<void()> task) {
    // What waits on the loop goes first.
    if (owner_ == std::this_thread::get_id() && is_submitting_ && posted_ == 0) {
        answers_.push_back(std::move(task));
        return;
    }
    ++posted_;
    loop_->post([this, task = std::move(task)] {
        --posted_;
        begin_input();
        task();
    });
}

void Shard::drain(std::optional<std::int64_t> window_ms, std::function<void()> done) {
    post([this, window_ms, done = std::move(done)]() mutable {
        listener_->stop();
        on_drained_ = std::move(done);
        for (auto& [serial, connection] : connections_) connection->session().drain(window_ms);
    });
}

void Shard::stop() {
    if (!thread_.joinable()) return;
    loop_->stop();
    thread_.join();
}

ShardFigures Shard::figures() const {
    ShardFigures figures;
    figures.counters = counters_;
    figures.connections = connections_.size();
    figures.users = router_.user_count();
    for (const auto& [serial, connection] : connections_) {
        const Session& session = connection->session();
        const std::uint64_t queued = connection->queued_bytes();
        figures.queued_bytes += queued;
        figures.queued_bytes_max = std::max(figures.queued_bytes_max, queued);
        if (session.state() != Session::State::kOnline) continue;
        switch (session.profile_id()) {
            case ProfileId::kImSdk: ++figures.sessions_im_sdk; break;
            case ProfileId::kMobileImSdk: ++figures.sessions_mobileimsdk; break;
            default: ++figures.sessions_v1; break;
        }
        const std::uint64_t backlog = session.backlog();
        figures.in_flight += session.in_flight();
        figures.backlog += backlog;
        figures.backlog_max = std::max(figures.backlog_max, backlog);
    }
    return figures;
}

std::vector<SessionInfo> Shard::sessions(const SessionQuery& query) const {
    std::vector<const Connection*> found;
    for (const auto& [serial, connection] : connections_) {
        const Session& session = connection->session();
        if (serial <= query.after || session.state() == Session::State::kClosed) continue;
        if (is_meant(session.identity(), query.app, query.user, query.device)) {
            found.push_back(connection.get());
        }
    }
    const auto end =
        found.begin() + static_cast<std::ptrdiff_t>(std::min(found.size(), query.count_max));
    std::partial_sort(found.begin(), end, found.end(),
                      [](const auto* a, const auto* b) { return a->serial() < b->serial(); });
    std::vector<SessionInfo> infos;
    for (auto it = found.begin(); it != end; ++it) infos.push_back((*it)->info());
    return infos;
}

std::size_t Shard::kick(const KickOrder& order) {
    std::size_t kicked = 0;
    for (auto& [serial, connection] : connections_) {
        Session& session = connection->session();
        const bool has_asked = session.state() == Session::State::kDeciding ||
                               session.state() == Session::State::kOnline;
        if (!has_asked || !is_meant(session.identity(), order.app, order.user, order.device)) {
            continue;
        }
        session.kick(order.reason);
        ++kicked;
    }
    return kicked;
}

void Shard::on_accept(std::unique_ptr<Transport> transport, const PeerInfo& peer) {
    begin_input();
    const std::uint64_t serial = shared_.next_connection();
    ++counters_.connections;
    auto connection = std::make_unique<Connection>(*this, serial, std::move(transport), peer);
    connections_.emplace(serial, std::move(connection));
}

void Shard::begin_input() {
    timers_.set_now(loop_->now());
    if (is_turn_end_posted_) return;
    is_turn_end_posted_ = true;
    loop_->post([this] { end_turn(); });
}

void Shard::end_turn() {
    is_turn_end_posted_ = false;
    timers_.set_now(loop_->now());
    submit();  // It begins while the sessions write, or has answered.
    // A flush may wake other sessions of this shard: until nobody has anything left to say.
    while (!to_flush_.empty()) {
        std::vector<Connection*> batch = std::move(to_flush_);
        to_flush_.clear();
        // A few messages leave ahead of acks; many would hold up their sender's next window.
        std::stable_partition(batch.begin(), batch.end(), [](Connection* each) {
            const std::size_t pushes = each->session().pushes_ready();
            return pushes > 0 && pushes <= kPushesAhead;
        });
        for (Connection* const connection : batch) {
            connection->is_flush_wanted = false;
            connection->session().flush();
        }
    }
    for (const std::uint64_t serial : to_bury_) connections_.erase(serial);
    to_bury_.clear();
    // Again, for the pages they want, and ahead of the other shards: a login that those decide
    // comes behind the messages of its losers.
    shared_.writer->submit(to_store_);
    for (unsigned shard = 0; shard < outgoing_.size(); ++shard) {
        if (outgoing_[shard].empty()) continue;
        shared_.post(shard, std::move(outgoing_[shard]));
        outgoing_[shard].clear();
    }
    const std::optional<TimePoint> next = timers_.next_deadline();
    if (next != armed_) {
        armed_ = next;
        if (next) {
            alarm_->arm(*next);
        } else {
            alarm_->disarm();
        }
    }
    if (on_drained_ && connections_.empty()) std::exchange(on_drained_, nullptr)();
}

// A store in memory may do it on this thread: what it answers belongs to this turn.
void Shard::submit() {
    is_submitting_ = true;
    shared_.writer->submit(to_store_);
    is_submitting_ = false;
    for (const std::function<void()>& answer : answers_) answer();
    answers_.clear();
}

void Shard::bury(Connection& connection) { to_bury_.push_back(connection.serial()); }

bool Shard::store_append(AppendRequest request) {
    const bool is_kept = shared_.writer->append(std::move(request), to_store_);
    shared_.writer->submit_part(to_store_);
    return is_kept;
}
bool Shard::store_open(OpenRequest request) {
    return shared_.writer->open_session(std::move(request), to_store_);
}
bool Shard::store_read(ReadRequest request) {
    return shared_.writer->read(std::move(request), to_store_);
}
void Shard::store_advance(CursorUpdate update) {
    shared_.writer->advance(std::move(update), to_store_);
}

void Shard::post(unsigned shard, ShardMessage message) {
    outgoing_[shard].push_back(std::move(message));
}

WallMillis Shard::wall_ms() const { return loop_->wall_ms(); }

}  // namespace petrel
