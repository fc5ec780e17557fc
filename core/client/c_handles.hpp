#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "core/client/c_events.hpp"
#include "core/client/c_transport.hpp"
#include "core/client/client.hpp"
#include "petrel/petrel.h"

// What the handles of petrel.h point to.

struct petrel_runtime {
    std::shared_ptr<petrel::Runtime> shared;  // With its clients.
};

// Lives until petrel_client_destroy has returned and nothing of the client is left on the loop:
// its callbacks hold it too.
struct petrel_client {
    explicit petrel_client(const petrel_client_options& options);

    // nullptr once destroy was asked for.
    petrel::Client* live() { return is_destroyed ? nullptr : client; }
    void deliver(const petrel::Event& event) noexcept;
    void log(petrel::LogLevel level, std::string_view text) noexcept;

    // First: the runtime outlives everything else here.
    std::shared_ptr<petrel::Runtime> runtime;
    std::unique_ptr<petrel::HostConnector> connector;  // Of a host's transport.

    decltype(petrel_client_options::on_event) on_event;
    decltype(petrel_client_options::on_log) on_log;
    void* user_data;
    std::int32_t log_level;

    // Deleted by destroy, which may wait for callbacks that look at it: so it is never changed.
    petrel::Client* client = nullptr;
    std::atomic<bool> is_destroyed{false};
    std::shared_ptr<petrel_client> self;               // Until destroy.

    std::mutex pulling;                                // One thread at a time.
    std::optional<petrel::Event> pulled;               // What the last next_event gave away.
    petrel::CEvent pulled_view;
};
