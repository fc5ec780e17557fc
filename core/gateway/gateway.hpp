#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/gateway/authenticator.hpp"
#include "core/gateway/login_policy.hpp"
#include "core/gateway/session.hpp"
#include "core/store/message_store.hpp"
#include "core/store/store_writer.hpp"
#include "transport/transport.hpp"

namespace petrel {

class Shard;

struct GatewayOptions {
    ListenOptions listen;  // Address, port, TLS, limits.
    unsigned shards = 1;   // Threads with sockets, 1-64.
    SessionPolicy policy = SessionPolicy::kMulti;
    SessionOptions session;
    StoreWriter::Options writer;
    std::chrono::milliseconds drain_deadline{8'000};         // stop() cuts what is left then.
    TraceSink* trace = nullptr;                              // Thread-safe, outlives the gateway.
    std::function<void(LogLevel, std::string_view)> on_log;  // Thread-safe.
};

// The other end: listeners, shards, and the store's writer thread. start, stop and counters from
// one thread.
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
    // Idempotent.
    void stop();
    // Reads certificate and key again, for connections from now on; sessions keep theirs. False:
    // the ones before stay in use, and `why` gets a sentence. Needs TLS. Thread-safe once started.
    bool reload_certificate(std::string& why);

    SessionCounters counters();  // Sum of all shards, asked of them.
    StoreWriter::Stats store_stats() const { return writer_->stats(); }
    std::size_t connection_count();

private:
    void on_committed(std::vector<AppendResult>&& results,
                      std::vector<Delivery>&& deliveries) override;
    void on_opened(OpenResult&& result) override;
    void on_read(ReadResult&& result) override;
    void on_store_health(const std::string& error) override;
    std::error_code load_certificate(std::string& why);
    void log(LogLevel level, std::string_view text) const;
    void ask_shards(const std::function<void(Shard&)>& question);

    GatewayOptions options_;
    std::unique_ptr<Authenticator> authenticator_;
    std::atomic<std::uint64_t> next_connection_{1};
    std::unique_ptr<StoreWriter> writer_;
    std::vector<std::unique_ptr<Shard>> shards_;
    bool is_running_ = false;
};

}  // namespace petrel
