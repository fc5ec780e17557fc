#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/gateway/authenticator.hpp"
#include "core/gateway/login_limits.hpp"
#include "core/gateway/login_policy.hpp"
#include "core/gateway/session.hpp"
#include "core/gateway/session_list.hpp"
#include "core/store/message_store.hpp"
#include "core/store/store_writer.hpp"
#include "transport/connection_limits.hpp"
#include "transport/transport.hpp"
#include "transport/websocket_kind.hpp"

namespace petrel {

class Shard;

struct GatewayOptions {
    ListenOptions listen;  // Address, port, TLS, limits.
    WebSocketKind websocket = WebSocketKind::kNative;
    unsigned shards = 1;  // Threads with sockets, 1-64.
    SessionPolicy policy = SessionPolicy::kMulti;
    SessionOptions session;
    ConnectionLimits::Options connections;
    LoginLimits::Options logins;
    StoreWriter::Options writer;
    std::chrono::milliseconds drain_deadline{8'000};  // stop() cuts what is left then.
    TraceSink* trace = nullptr;                       // Thread-safe, outlives the gateway.
    std::function<void(LogLevel, std::string_view, const LogContext&)> on_log;  // Thread-safe.
};

// The other end: listeners, shards, and the store's writer thread. start, stop, counters and
// connection_count from one thread; what stands under "of an admin" from any, while it exists.
class Gateway final : private StoreWriter::Observer {
public:
    Gateway(GatewayOptions options, std::unique_ptr<MessageStore> store,
            std::unique_ptr<Authenticator> authenticator);
    ~Gateway();  // stop().
    Gateway(const Gateway&) = delete;
    Gateway& operator=(const Gateway&) = delete;

    // The port that is listened on, or an error with a sentence in `why`.
    Result<std::uint16_t> start(std::string& why);
    // Drain: no new connections, 4007 to all, finish what the store has, end the threads.
    // Idempotent. `window_ms`: within which clients shall come back, else the option's.
    void stop(std::optional<std::int64_t> window_ms = std::nullopt);
    // Reads certificate and key again, for connections from now on; sessions keep theirs. False:
    // the ones before stay in use, and `why` gets a sentence. Needs TLS. Thread-safe once started.
    bool reload_certificate(std::string& why);

    SessionCounters counters();  // Sum of all shards, asked of them.
    StoreWriter::Stats store_stats() const { return writer_->stats(); }
    std::size_t connection_count();

    // ---- of an admin ----
    // The shards are asked; nullopt when one does not answer within kAnswerPatience, or none runs.
    static constexpr std::chrono::seconds kAnswerPatience{2};
    std::optional<GatewayFigures> figures();
    std::optional<std::vector<SessionInfo>> sessions(const SessionQuery& query);
    std::optional<std::size_t> kick(const KickOrder& order);  // How many.
    bool is_draining() const noexcept { return phase_ >= Phase::kDraining; }
    std::string store_error() const { return writer_->stats().error; }  // Empty: it works.

private:
    enum class Phase : std::uint8_t { kIdle, kRunning, kDraining, kStopped };

    void on_committed(std::vector<AppendResult>&& results,
                      std::vector<Delivery>&& deliveries) override;
    void on_opened(OpenResult&& result) override;
    void on_read(ReadResult&& result) override;
    void on_store_health(const std::string& error) override;
    std::error_code load_certificate(std::string& why);
    void log(LogLevel level, std::string_view text) const;
    template <class Answer>
    std::optional<std::vector<Answer>> ask(std::function<Answer(Shard&)> question,
                                           std::chrono::milliseconds patience);

    GatewayOptions options_;
    std::unique_ptr<Authenticator> authenticator_;
    const std::shared_ptr<ConnectionLimits> connection_limits_;
    LoginLimits login_limits_;
    std::atomic<std::uint64_t> next_connection_{1};
    std::unique_ptr<StoreWriter> writer_;
    std::vector<std::unique_ptr<Shard>> shards_;
    std::atomic<Phase> phase_{Phase::kIdle};
};

}  // namespace petrel
