#include "tools/petrel/demo_run.hpp"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "core/gateway/authenticator.hpp"
#include "core/store/sqlite_message_store.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/options.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/websocketpp_client.hpp"
#include "transport/websocketpp_server.hpp"

namespace petrel::tools {

using namespace std::chrono_literals;

// ---- TemporaryFolder ----

TemporaryFolder::TemporaryFolder() {
    const char* const parent = std::getenv("TMPDIR");
    std::string path = parent != nullptr && *parent != '\0' ? parent : "/tmp";
    path += "/petrel-demo-XXXXXX";
    if (mkdtemp(path.data()) != nullptr) path_ = std::move(path);
}

TemporaryFolder::~TemporaryFolder() {
    if (path_.empty()) return;
    std::error_code error;
    std::filesystem::remove_all(path_, error);
    if (error) log(LogLevel::kWarning, "cannot remove " + path_ + ": " + error.message());
}

// ---- DemoGateway ----

DemoGateway::DemoGateway(std::string store_file, TraceSink& trace)
    : store_file_(std::move(store_file)), trace_(trace) {}

DemoGateway::~DemoGateway() { stop(); }

bool DemoGateway::start(std::string& why) {
    auto store = open_sqlite_message_store(store_file_, StoreOptions(), epochs_, why);
    if (!store) return false;
    GatewayOptions options;
    options.listen.port = 0;
    // Everything happens in seconds here instead of minutes, failures too.
    options.session.heartbeat = 1s;
    options.session.login_deadline = 3s;
    options.session.drain_window_ms = 500;
    options.drain_deadline = 2s;
    options.trace = &trace_;
    options.on_log = [](LogLevel level, std::string_view text) { log(level, text); };
    gateway_ = std::make_unique<Gateway>(options, std::move(*store),
                                         std::make_unique<OpenAuthenticator>());
    const auto port = gateway_->start(why);
    if (!port) {
        gateway_.reset();
        return false;
    }
    url_ = to_url({options.listen.address, *port});
    return true;
}

void DemoGateway::stop() {
    if (!gateway_) return;
    gateway_->stop();
    counters_ += gateway_->counters();
    gateway_.reset();
}

// ---- DemoStorm ----

struct DemoStorm::Impl {
    explicit Impl(Storm::Options options)
        : listener(loop), connector(loop), storm(loop, listener, connector, std::move(options)) {}

    AsioEventLoop loop;
    WebsocketppListener listener;
    WebsocketppConnector connector;
    Storm storm;
    std::thread thread;
};

DemoStorm::DemoStorm(std::string target_url, std::uint64_t seed, const Faults& faults) {
    Storm::Options options;
    options.target_url = std::move(target_url);
    options.seed = seed;
    options.faults = faults;
    impl_ = std::make_unique<Impl>(std::move(options));
}

DemoStorm::~DemoStorm() { stop(); }

bool DemoStorm::start(std::string& why) {
    const auto port = impl_->storm.start();
    if (!port) {
        why = impl_->listener.last_error();
        return false;
    }
    url_ = to_url({"127.0.0.1", *port});
    impl_->thread = std::thread([this] { impl_->loop.run(); });
    return true;
}

void DemoStorm::stop() {
    if (!impl_->thread.joinable()) return;
    impl_->loop.post([this] {
        impl_->storm.stop();
        impl_->loop.stop();
    });
    impl_->thread.join();
}

Storm::Stats DemoStorm::stats() const { return impl_->storm.stats(); }

// ---- DemoUser ----

DemoUser::DemoUser(std::string name, std::string url, DemoScore& score)
    : name_(std::move(name)),
      url_(std::move(url)),
      score_(score),
      source_(score.open_source(name_)) {}

DemoUser::~DemoUser() { end(); }

void DemoUser::begin(Runtime& runtime) {
    ClientOptions options;
    EngineOptions& engine = options.engine;
    engine.require_v1 = true;
    engine.user = name_;
    engine.device = device_;
    // Quick to notice and quick to come back: the storm shows in seconds what takes others hours.
    engine.relogin.backoff_base = 100ms;
    engine.relogin.backoff_max = 2s;
    engine.relogin.connect_timeout = 2s;
    engine.relogin.login_timeout = 1s;
    engine.keepalive.round_trip.timeout_min = 500ms;
    engine.keepalive.round_trip.timeout_max = 2s;
    options.connect.url = url_;
    options.connect.handshake_timeout = 2s;
    options.on_event = [this](const Event& event) {
        score_.on_event(source_, name_, device_, event);
    };
    options.on_log = [](LogLevel level, std::string_view text) { log(level, text); };
    client_ = std::make_unique<Client>(runtime, std::move(options));
    client_->login();
}

void DemoUser::end() {
    if (!client_) return;
    client_->logout(true);
    add(ended_, client_->stats());
    client_.reset();
}

void DemoUser::send(const std::string& to, std::string text) {
    SendRequest request;
    request.to = to;
    request.text = std::move(text);
    request.fp = fingerprints_.next();
    const Fingerprint fp = request.fp;
    const std::string copy = request.text;
    client_->send_async(std::move(request), [this, fp, to, copy](Result<Fingerprint> taken) {
        if (taken) {
            score_.on_queued(source_, name_, device_, fp, to, copy);
        } else {
            log(LogLevel::kError, "a message was not queued: " + taken.error().message());
        }
    });
}

EngineStats DemoUser::stats() const {
    EngineStats sum = ended_;
    if (client_) add(sum, client_->stats());
    return sum;
}

ClientState DemoUser::state() const { return client_ ? client_->state() : ClientState::kOffline; }

void DemoUser::add(EngineStats& sum, const EngineStats& stats) {
    sum.sent += stats.sent;
    sum.accepted += stats.accepted;
    sum.received += stats.received;
    sum.retransmitted += stats.retransmitted;
    sum.duplicates += stats.duplicates;
    sum.gaps += stats.gaps;
    sum.reconnects += stats.reconnects;
}

}  // namespace petrel::tools
