#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/gateway/authenticator.hpp"
#include "core/gateway/login_limits.hpp"
#include "core/gateway/router.hpp"
#include "core/gateway/session.hpp"
#include "core/gateway/session_list.hpp"
#include "core/store/store_writer.hpp"
#include "transport/event_loop.hpp"
#include "transport/transport.hpp"
#include "transport/websocket_kind.hpp"

namespace petrel {

class AsioEventLoop;

// One thread of the gateway: an event loop, a listening socket, a router, and the sessions of the
// connections that it accepted. Everything but start, stop, post and the constructor runs on its
// own thread.
class Shard final : private RouterHost, private Listener::Handler {
public:
    // What the shards of one gateway share; all of it thread-safe and outliving them.
    struct Shared {
        const SessionOptions& session_options;
        StoreWriter* writer = nullptr;
        Authenticator* authenticator = nullptr;
        LoginLimits* login_limits = nullptr;
        TraceSink* trace = nullptr;                      // nullptr: nobody watches.
        std::function<std::uint64_t()> next_connection;  // Serial, over all shards.
        std::function<void(unsigned shard, std::vector<ShardMessage> batch)> post;
        std::function<void(LogLevel, std::string_view, const LogContext&)> log;
        WebSocketKind websocket = WebSocketKind::kNative;
    };

    Shard(Shared shared, Router::Options options, std::uint64_t seed);
    ~Shard();

    // Listens (on the caller's thread), then starts the thread.
    Result<std::uint16_t> listen(const ListenOptions& options, std::string& why);
    void start();
    void post(std::function<void()> task);  // Runs as one input of this shard. Thread-safe.

    // Stops accepting and drains every session; `done` is called once the last is gone. Without
    // `window_ms`: that of the options.
    void drain(std::optional<std::int64_t> window_ms, std::function<void()> done);
    void stop();  // Ends the thread. Idempotent.

    // On the shard's thread (from a posted task).
    Router& router() { return router_; }
    const SessionCounters& counters() const { return counters_; }
    std::size_t connection_count() const { return connections_.size(); }
    ShardFigures figures() const;
    std::vector<SessionInfo> sessions(const SessionQuery& query) const;
    std::size_t kick(const KickOrder& order);  // How many.

private:
    class Connection;

    // RouterHost
    bool store_append(AppendRequest request) override;
    bool store_open(OpenRequest request) override;
    bool store_read(ReadRequest request) override;
    void store_advance(CursorUpdate update) override;
    void post(unsigned shard, ShardMessage message) override;
    WallMillis wall_ms() const override;
    TraceSink* trace() override { return shared_.trace; }

    void on_accept(std::unique_ptr<Transport> transport, const PeerInfo& peer) override;

    void begin_input();  // Time moves; the end of this turn is on its way.
    void end_turn();
    void submit();
    void bury(Connection& connection);

    Shared shared_;
    std::unique_ptr<AsioEventLoop> loop_;
    TimerQueue timers_;
    std::mt19937_64 random_;
    UuidSource fingerprints_;
    std::string scratch_;  // The sessions'.
    SessionCounters counters_;
    Router router_;
    std::unique_ptr<Listener> listener_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;  // By serial.
    std::vector<Connection*> to_flush_;
    std::vector<std::uint64_t> to_bury_;  // Serials; destroyed at the end of the turn.
    // They leave at the end of the turn, those to the store first.
    StoreWriter::Batch to_store_;
    std::vector<std::vector<ShardMessage>> outgoing_;  // By shard.
    bool is_submitting_ = false;
    std::vector<std::function<void()>> answers_;  // That came while it was.
    std::atomic<std::size_t> posted_{0};          // Tasks that wait on the loop.
    bool is_turn_end_posted_ = false;
    std::unique_ptr<EventLoop::Alarm> alarm_;
    std::optional<TimePoint> armed_;
    std::function<void()> on_drained_;  // While draining.
    std::thread thread_;
    std::atomic<std::thread::id> owner_{};
};

}  // namespace petrel
