#include "tools/petrel/admin_server.hpp"

#include <httplib.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

namespace petrel::tools {
namespace {

constexpr std::size_t kThreads = 4;                 // Prometheus, a probe, a person, and one more.
constexpr std::size_t kWaitingMax = 64;             // Connections; more wait in the kernel.
constexpr std::chrono::seconds kSocketPatience{5};  // Without a byte.
constexpr std::size_t kPathMax = 256;

// A pool whose queue is bounded: whoever accepts waits.
class Pool final : public httplib::TaskQueue {
public:
    void enqueue(std::function<void()> task) override {
        {
            std::unique_lock<std::mutex> lock(mutex_);
            changed_.wait(lock, [this] { return waiting_ < kWaitingMax; });
            ++waiting_;
        }
        pool_.enqueue([this, task = std::move(task)] {
            {
                const std::lock_guard<std::mutex> lock(mutex_);
                --waiting_;
            }
            changed_.notify_one();
            task();
        });
    }
    void shutdown() override { pool_.shutdown(); }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t waiting_ = 0;
    httplib::ThreadPool pool_{kThreads};
};

AdminRequest to_request(const httplib::Request& request) {
    AdminRequest result;
    result.method = request.method;
    result.path = request.path;
    result.authorization = request.get_header_value("Authorization");
    result.query = request.params;
    result.body = request.body;
    return result;
}

void fill(const AdminReply& reply, httplib::Response& response) {
    response.status = reply.status;
    if (!reply.allow.empty()) response.set_header("Allow", reply.allow);
    if (reply.status == 401) response.set_header("WWW-Authenticate", "Bearer");
    response.set_header("Cache-Control", "no-store");
    response.set_content(reply.body, reply.type.c_str());
}

}  // namespace

struct AdminServer::Impl {
    Impl(AdminApi& to, std::function<void(std::string_view)> refused)
        : api(to), on_refused(std::move(refused)) {
        using Handled = httplib::Server::HandlerResponse;
        server.new_task_queue = [] { return new Pool; };
        server.set_keep_alive_max_count(1);
        server.set_read_timeout(kSocketPatience);
        server.set_write_timeout(kSocketPatience);
        server.set_payload_max_length(AdminApi::kBodyMax);
        // The library's own would let another process listen on the same port, too.
        server.set_socket_options([](socket_t socket) {
            const int yes = 1;
            ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        });
        // Before the body is read, and before the path goes through a regular expression.
        server.set_pre_routing_handler(
            [this](const httplib::Request& request, httplib::Response& response) {
                AdminRequest asked = to_request(request);
                if (asked.path.size() > kPathMax) asked.path = "/";
                const auto refusal = api.objection(asked);
                if (!refusal) return Handled::Unhandled;
                if (refusal->status == 401 && on_refused) on_refused(request.remote_addr);
                fill(*refusal, response);
                return Handled::Handled;
            });
        const auto answer = [this](const httplib::Request& request, httplib::Response& response) {
            fill(api.answer(to_request(request)), response);
        };
        server.Get(".*", answer).Post(".*", answer);
        // What the library refuses itself: not HTTP, too long, too slow.
        using Handler = httplib::Server::HandlerWithResponse;
        server.set_error_handler(Handler([](const httplib::Request&, httplib::Response& response) {
            if (!response.body.empty()) return Handled::Unhandled;
            const int status = response.status;
            fill(admin_error(status, status == 413
                                         ? "the body is too long: at most " +
                                               std::to_string(AdminApi::kBodyMax) + " bytes"
                                         : "this is no request that can be answered"),
                 response);
            return Handled::Handled;
        }));
    }

    void run() {
        server.listen_after_bind();
        has_begun = true;  // Even when it could not.
        const std::lock_guard<std::mutex> lock(mutex);
        has_ended = true;
        changed.notify_all();
    }

    AdminApi& api;
    const std::function<void(std::string_view)> on_refused;
    httplib::Server server;
    std::mutex mutex;
    std::condition_variable changed;
    bool has_ended = false;  // Under the mutex.
    std::atomic<bool> has_begun{false};
    std::thread thread;
};

AdminServer::AdminServer(AdminApi& api, std::function<void(std::string_view)> on_refused)
    : impl_(std::make_unique<Impl>(api, std::move(on_refused))) {}

AdminServer::~AdminServer() {
    if (!impl_->thread.joinable()) return;
    impl_->server.stop();
    impl_->thread.join();
}

Result<std::uint16_t> AdminServer::start(const ListenAddress& address, std::string& why) {
    int port = address.port;
    errno = 0;
    if (port == 0) {
        port = impl_->server.bind_to_any_port(address.host);
    } else if (!impl_->server.bind_to_port(address.host, port)) {
        port = -1;
    }
    if (port <= 0) {
        why = "cannot listen for admins at " + address.host + ":" + std::to_string(address.port) +
              (errno != 0 ? std::string(" (") + std::strerror(errno) + ")" : std::string()) +
              ": name another --admin address, or stop who has it";
        return make_error_code(Errc::kBadConnection);
    }
    impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
    // stop() before the library has begun to accept would be overlooked.
    while (!impl_->server.is_running() && !impl_->has_begun) std::this_thread::yield();
    return static_cast<std::uint16_t>(port);
}

bool AdminServer::stop(std::chrono::milliseconds patience) {
    if (!impl_->thread.joinable()) return true;
    impl_->server.stop();
    std::unique_lock<std::mutex> lock(impl_->mutex);
    if (!impl_->changed.wait_for(lock, patience, [this] { return impl_->has_ended; })) return false;
    lock.unlock();
    impl_->thread.join();
    return true;
}

}  // namespace petrel::tools
