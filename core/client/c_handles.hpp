#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "core/client/c_events.hpp"
#include "core/client/c_transport.hpp"
#include "core/client/client.hpp"
#include "petrel/petrel.h"

// What the handles of petrel.h point to.

namespace petrel {

// Counts the clients of a runtime, so that its destroy can wait for the callbacks of those that
// were destroyed in callbacks. Thread-safe.
class ClientGate {
public:
    void begin_leaving();  // The app has given one up.
    void leave();          // Nothing of it is left on the loop.
    void wait();           // Until all that were given up have left.

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t leaving_ = 0;  // Destroyed, and not yet gone.
};

}  // namespace petrel

struct petrel_runtime {
    std::shared_ptr<petrel::Runtime> shared;  // With its clients.
    std::shared_ptr<petrel::ClientGate> gate = std::make_shared<petrel::ClientGate>();
};

// Lives until petrel_client_destroy has returned and nothing of the client is left on the loop:
// its callbacks hold it too.
struct petrel_client {
    petrel_client(const petrel_runtime& owner, const petrel_client_options& options);
    ~petrel_client();
    petrel_client(const petrel_client&) = delete;
    petrel_client& operator=(const petrel_client&) = delete;

    // nullptr once destroy was asked for.
    petrel::Client* live() { return is_destroyed ? nullptr : client; }
    void deliver(const petrel::Event& event) noexcept;
    void log(petrel::LogLevel level, std::string_view text) noexcept;

    // First: the runtime outlives everything else here.
    std::shared_ptr<petrel::ClientGate> gate;
    std::shared_ptr<petrel::Runtime> runtime;
    std::unique_ptr<petrel::HostConnector> connector;  // Of a host's transport.

    decltype(petrel_client_options::on_event) on_event;
    decltype(petrel_client_options::on_log) on_log;
    void* user_data;
    std::int32_t log_level;

    // Deleted by destroy, which may wait for callbacks that look at it: so it is never changed.
    petrel::Client* client = nullptr;
    std::atomic<bool> is_destroyed{false};
    std::shared_ptr<petrel_client> self;  // Until destroy.

    std::mutex pulling;                   // One thread at a time.
    std::optional<petrel::Event> pulled;  // What the last next_event gave away.
    petrel::CEvent pulled_view;
};
