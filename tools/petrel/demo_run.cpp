#include "tools/petrel/demo_run.hpp"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <system_error>
#include <thread>
#include <utility>

#include "tools/petrel/log.hpp"
#include "tools/petrel/log_event.hpp"
#include "tools/petrel/options.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/native_client.hpp"
#include "transport/native_server.hpp"

namespace petrel::tools {

using namespace std::chrono_literals;

namespace {
// Opening a store that was left by a kill takes milliseconds; a slow disk may need more.
constexpr std::chrono::seconds kStartPatience{10};
}  // namespace

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

DemoGateway::DemoGateway(std::string store_file, std::string trace_file)
    // It is to complain of nothing that a demo means to be so, as --auth open.
    : arguments_({"gateway", "--listen", "127.0.0.1:0", "--store", std::move(store_file), "--trace",
                  std::move(trace_file), "--heartbeat", "1s", "--json", "--log-level",
                  is_logged(LogLevel::kInfo) ? log_level_name() : "error"}) {}

bool DemoGateway::start(std::string& why) {
    const auto heard = std::make_shared<std::promise<std::string>>();
    auto url = heard->get_future();
    const auto on_line = [heard, parser = std::make_shared<LogEventParser>(),
                          is_told = false](const std::string& line) mutable {
        const LogEvent* const event = parser->parse(line);
        if (event == nullptr || event->event != "listening" || is_told) return;
        is_told = true;
        heard->set_value(std::string(event->url));
    };
    if (!child_.start(arguments_, on_line, why)) return false;
    const auto deadline = std::chrono::steady_clock::now() + kStartPatience;
    while (url.wait_for(20ms) != std::future_status::ready) {
        if (child_.is_running() && std::chrono::steady_clock::now() < deadline) continue;
        why = child_.is_running() ? "it does not listen" : "it ended at once";
        child_.kill();
        return false;
    }
    url_ = url.get();
    return true;
}

// ---- DemoStorm ----

struct DemoStorm::Impl {
    explicit Impl(Storm::Options options)
        : listener(loop), connector(loop), storm(loop, listener, connector, std::move(options)) {}

    AsioEventLoop loop;
    NativeListener listener;
    NativeConnector connector;
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

void DemoStorm::set_target(const std::string& url) {
    impl_->loop.post([this, url] { impl_->storm.set_target(url); });
}

Storm::Stats DemoStorm::stats() const { return impl_->storm.stats(); }

}  // namespace petrel::tools
