#include "core/gateway/gateway.hpp"

#include <algorithm>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <numeric>
#include <random>
#include <utility>

#include "core/gateway/shard.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/tls.hpp"

namespace petrel {
namespace {

// Waits until every shard has answered.
class Countdown {
public:
    explicit Countdown(std::size_t count) : left_(count) {}
    void arrive() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (--left_ == 0) changed_.notify_all();
    }
    bool wait_for(std::chrono::milliseconds patience) {
        std::unique_lock<std::mutex> lock(mutex_);
        return changed_.wait_for(lock, patience, [this] { return left_ == 0; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t left_;
};

// Sockets that share a port share it with another gateway's, too: that one would get half of the
// connections. So the port is tried alone first.
std::error_code check_port(ListenOptions listen, WebSocketKind websocket, std::string& why) {
    if (!listen.reuse_port || listen.port == 0) return {};
    class Nobody final : public Listener::Handler {
        void on_accept(std::unique_ptr<Transport>, const PeerInfo&) override {}
    };
    listen.reuse_port = false;
    Nobody nobody;
    AsioEventLoop loop;
    const std::unique_ptr<Listener> listener = make_listener(websocket, loop);
    const Result<std::uint16_t> port = listener->listen(listen, nobody);
    if (!port) why = listener->last_error();
    return port.error();
}

}  // namespace

Gateway::Gateway(GatewayOptions options, std::unique_ptr<MessageStore> store,
                 std::unique_ptr<Authenticator> authenticator)
    : options_(std::move(options)),
      authenticator_(std::move(authenticator)),
      connection_limits_(std::make_shared<ConnectionLimits>(options_.connections)),
      login_limits_(options_.logins),
      writer_(std::make_unique<StoreWriter>(
          std::move(store), static_cast<StoreWriter::Observer&>(*this), options_.writer)) {
    options_.shards = std::clamp(options_.shards, 1u, 64u);
    std::random_device entropy;
    for (unsigned i = 0; i < options_.shards; ++i) {
        Shard::Shared shared{options_.session,
                             writer_.get(),
                             authenticator_.get(),
                             &login_limits_,
                             options_.trace,
                             [this] { return next_connection_.fetch_add(1); },
                             [this](unsigned to, std::vector<ShardMessage> batch) {
                                 Shard& shard = *shards_[to];
                                 shard.post([&shard, batch = std::move(batch)]() mutable {
                                     for (ShardMessage& message : batch) {
                                         shard.router().on_message(std::move(message));
                                     }
                                 });
                             },
                             options_.on_log,
                             options_.websocket};
        Router::Options router_options;
        router_options.shard = i;
        router_options.shards = options_.shards;
        router_options.policy = options_.policy;
        router_options.busy_retry_ms = options_.session.busy_retry_ms;
        const std::uint64_t seed = (std::uint64_t{entropy()} << 32) | entropy();
        shards_.push_back(std::make_unique<Shard>(std::move(shared), router_options, seed));
    }
}

Gateway::~Gateway() {
    stop();
    writer_->stop();
}

std::error_code Gateway::load_certificate(std::string& why) {
    ListenOptions& listen = options_.listen;
    if (listen.tls || (listen.tls_cert_file.empty() && listen.tls_key_file.empty())) return {};
    auto loaded = TlsServer::load(listen.tls_cert_file, listen.tls_key_file, why);
    if (!loaded) return loaded.error();
    listen.tls = *loaded;
    const bool is_good = listen.tls->is_in_its_time();
    log(is_good ? LogLevel::kInfo : LogLevel::kWarning,
        listen.tls->summary() +
            (is_good ? "" : ": it is not valid now, and clients that verify refuse it"));
    return {};
}

bool Gateway::reload_certificate(std::string& why) {
    TlsServer* const tls = options_.listen.tls.get();
    if (!tls) {
        why = "this gateway has no certificate";
        return false;
    }
    if (tls->reload(why)) return false;
    log(LogLevel::kInfo, "reloaded: " + tls->summary());
    return true;
}

Result<std::uint16_t> Gateway::start(std::string& why) {
    if (const std::error_code error = load_certificate(why)) return error;
    ListenOptions listen = options_.listen;
    listen.reuse_port = options_.shards > 1;
    listen.limits = connection_limits_;
    if (const std::error_code error = check_port(listen, options_.websocket, why)) return error;
    for (auto& shard : shards_) {
        const Result<std::uint16_t> port = shard->listen(listen, why);
        if (!port) return port;
        listen.port = *port;
    }
    for (auto& shard : shards_) shard->start();
    phase_ = Phase::kRunning;
    return listen.port;
}

void Gateway::stop(std::optional<std::int64_t> window_ms) {
    if (phase_ != Phase::kRunning) return;
    phase_ = Phase::kDraining;
    // Shared with the shards: one that is cut at the deadline answers later, or never.
    const auto drained = std::make_shared<Countdown>(shards_.size());
    for (auto& shard : shards_) shard->drain(window_ms, [drained] { drained->arrive(); });
    if (!drained->wait_for(options_.drain_deadline)) {
        log(LogLevel::kWarning, "some connections did not close in time and are cut");
    }
    writer_->stop();
    phase_ = Phase::kStopped;
    for (auto& shard : shards_) shard->stop();
}

// The answers by shard. What the question needs it holds itself: after a wait in vain it is still
// asked.
template <class Answer>
std::optional<std::vector<Answer>> Gateway::ask(std::function<Answer(Shard&)> question,
                                                std::chrono::milliseconds patience) {
    const Phase phase = phase_;
    if (phase != Phase::kRunning && phase != Phase::kDraining) return std::nullopt;
    struct Asked {
        Asked(std::size_t shards, std::function<Answer(Shard&)> what)
            : question(std::move(what)), answers(shards), answered(shards) {}
        std::function<Answer(Shard&)> question;
        std::vector<Answer> answers;  // Each written by its shard, read when all have.
        Countdown answered;
    };
    const auto asked = std::make_shared<Asked>(shards_.size(), std::move(question));
    for (std::size_t i = 0; i < shards_.size(); ++i) {
        Shard& shard = *shards_[i];
        shard.post([asked, i, &shard] {
            asked->answers[i] = asked->question(shard);
            asked->answered.arrive();
        });
    }
    if (!asked->answered.wait_for(patience)) return std::nullopt;
    return std::move(asked->answers);
}

namespace {

// Whoever asks from the owner's thread waits as long as it takes.
constexpr std::chrono::hours kForever{24};

}  // namespace

SessionCounters Gateway::counters() {
    SessionCounters sum;
    const auto answers =
        ask<SessionCounters>([](Shard& shard) { return shard.counters(); }, kForever);
    if (answers) {
        for (const SessionCounters& answer : *answers) sum += answer;
    } else {
        for (auto& shard : shards_) sum += shard->counters();
    }
    return sum;
}

std::size_t Gateway::connection_count() {
    const auto answers =
        ask<std::size_t>([](Shard& shard) { return shard.connection_count(); }, kForever);
    return answers ? std::accumulate(answers->begin(), answers->end(), std::size_t{0}) : 0;
}

std::optional<GatewayFigures> Gateway::figures() {
    const auto answers =
        ask<ShardFigures>([](Shard& shard) { return shard.figures(); }, kAnswerPatience);
    if (!answers) return std::nullopt;
    GatewayFigures figures;
    for (const ShardFigures& answer : *answers) figures.shards += answer;
    figures.store = writer_->stats();
    figures.connections_before_login = connection_limits_->before_login();
    figures.connections_refused = connection_limits_->refused();
    figures.is_draining = is_draining();
    return figures;
}

std::optional<std::vector<SessionInfo>> Gateway::sessions(const SessionQuery& query) {
    using Infos = std::vector<SessionInfo>;
    auto answers =
        ask<Infos>([query](Shard& shard) { return shard.sessions(query); }, kAnswerPatience);
    if (!answers) return std::nullopt;
    Infos all;
    for (Infos& answer : *answers) {
        std::move(answer.begin(), answer.end(), std::back_inserter(all));
    }
    std::sort(all.begin(), all.end(), [](const SessionInfo& a, const SessionInfo& b) {
        return a.connection < b.connection;
    });
    if (all.size() > query.count_max) all.resize(query.count_max);
    return all;
}

std::optional<std::size_t> Gateway::kick(const KickOrder& order) {
    const auto answers =
        ask<std::size_t>([order](Shard& shard) { return shard.kick(order); }, kAnswerPatience);
    if (!answers) return std::nullopt;
    return std::accumulate(answers->begin(), answers->end(), std::size_t{0});
}

// ---- on the thread that works for the store: the writer's, or a shard's ----

void Gateway::on_committed(std::vector<AppendResult>&& results,
                           std::vector<Delivery>&& deliveries) {
    if (options_.trace != nullptr) {
        for (const Delivery& delivery : deliveries) {
            TraceEvent event;
            event.event = "committed";
            event.app = delivery.message->app;
            event.from = delivery.message->from;
            event.to = delivery.message->to;
            event.fp = &delivery.message->fp;
            event.conv = delivery.message->conv;
            event.cseq = delivery.message->cseq;
            event.send_ts = delivery.message->send_ts;
            options_.trace->on_trace(event);
        }
    }
    struct Part {
        std::vector<AppendResult> results;
        std::vector<Delivery> deliveries;
    };
    std::vector<Part> parts(shards_.size());
    if (parts.size() == 1) {
        parts[0] = Part{std::move(results), std::move(deliveries)};
    } else {
        for (AppendResult& result : results) {
            parts[shard_of(result.ticket)].results.push_back(std::move(result));
        }
        for (Delivery& delivery : deliveries) {
            const StoredMessage& message = *delivery.message;
            const unsigned home = shards_[0]->router().home_of({message.app, message.to});
            parts[home].deliveries.push_back(std::move(delivery));
        }
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
        if (parts[i].results.empty() && parts[i].deliveries.empty()) continue;
        Shard& shard = *shards_[i];
        shard.post([&shard, part = std::move(parts[i])]() mutable {
            shard.router().on_append_results(part.results);
            shard.router().on_deliveries(part.deliveries);
        });
    }
}

void Gateway::on_opened(OpenResult&& result) {
    Shard& shard = *shards_[shard_of(result.ticket)];
    shard.post([&shard, result = std::move(result)]() mutable {
        shard.router().on_opened(std::move(result));
    });
}

void Gateway::on_read(ReadResult&& result) {
    Shard& shard = *shards_[shard_of(result.ticket)];
    shard.post([&shard, result = std::move(result)]() mutable { shard.router().on_read(result); });
}

void Gateway::on_store_health(const std::string& error) {
    if (error.empty()) {
        log(LogLevel::kWarning, "the message store works again");
    } else {
        log(LogLevel::kError, "the message store cannot write: " + error);
    }
}

void Gateway::log(LogLevel level, std::string_view text) const {
    if (options_.on_log) options_.on_log(level, text, LogContext{});
}

}  // namespace petrel
