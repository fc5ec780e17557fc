#include "core/gateway/shard.hpp"

#include <algorithm>
#include <utility>

#include "transport/asio_event_loop.hpp"
#include "transport/websocketpp_server.hpp"

namespace petrel {

// A WebSocket connection and the session on it. Lives until the transport has closed, so that the
// session's last words get out.
class Shard::Connection final : public SessionHost, public Transport::Handler {
public:
    Connection(Shard& shard, std::uint64_t serial, std::unique_ptr<Transport> transport,
               const PeerInfo& peer)
        : shard_(shard),
          serial_(serial),
          address_(peer.address),
          transport_(std::move(transport)),
          session_(*this, shard.router_, *shard.shared_.authenticator,
                   shard.shared_.session_options, shard.counters_, serial, peer.subprotocol) {
        transport_->set_handler(*this);
    }

    std::uint64_t serial() const { return serial_; }
    Session& session() { return session_; }
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
    void log(LogLevel level, std::string_view text) override {
        if (!shard_.shared_.log) return;
        std::string line = "connection " + std::to_string(serial_) + " " + address_;
        if (!session_.identity().user.user.empty())
            line += " user " + session_.identity().user.user;
        line += ": ";
        line += text;
        shard_.shared_.log(level, line);
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
        session_.on_connection_closed(info.code);
        shard_.bury(*this);
    }

private:
    Shard& shard_;
    const std::uint64_t serial_;
    const std::string address_;
    std::unique_ptr<Transport> transport_;
    Session session_;
};

Shard::Shard(Shared shared, Router::Options options, std::uint64_t seed)
    : shared_(std::move(shared)),
      loop_(std::make_unique<AsioEventLoop>()),
      timers_(loop_->now()),
      random_(seed),
      router_(*this, options),
      listener_(std::make_unique<WebsocketppListener>(*loop_)),
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
    thread_ = std::thread([this] { loop_->run(); });
}

void Shard::post(std::function<void()> task) {
    loop_->post([this, task = std::move(task)] {
        begin_input();
        task();
    });
}

void Shard::drain(std::function<void()> done) {
    post([this, done = std::move(done)]() mutable {
        listener_->stop();
        on_drained_ = std::move(done);
        for (auto& [serial, connection] : connections_) connection->session().drain();
    });
}

void Shard::stop() {
    if (!thread_.joinable()) return;
    loop_->stop();
    thread_.join();
}

void Shard::on_accept(std::unique_ptr<Transport> transport, const PeerInfo& peer) {
    begin_input();
    const std::uint64_t serial = shared_.next_connection();
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
    // A flush may wake other sessions of this shard: until nobody has anything left to say.
    while (!to_flush_.empty()) {
        std::vector<Connection*> batch = std::move(to_flush_);
        to_flush_.clear();
        for (Connection* const connection : batch) {
            connection->is_flush_wanted = false;
            connection->session().flush();
        }
    }
    for (const std::uint64_t serial : to_bury_) connections_.erase(serial);
    to_bury_.clear();
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

void Shard::bury(Connection& connection) { to_bury_.push_back(connection.serial()); }

bool Shard::store_append(AppendRequest request) {
    return shared_.writer->append(std::move(request));
}
bool Shard::store_open(OpenRequest request) {
    return shared_.writer->open_session(std::move(request));
}
bool Shard::store_read(ReadRequest request) { return shared_.writer->read(std::move(request)); }
void Shard::store_advance(CursorUpdate update) { shared_.writer->advance(std::move(update)); }

void Shard::post(unsigned shard, ShardMessage message) {
    outgoing_[shard].push_back(std::move(message));
}

WallMillis Shard::wall_ms() const { return loop_->wall_ms(); }

}  // namespace petrel
