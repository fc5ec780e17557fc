#pragma once

#include <asio.hpp>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "transport/asio_event_loop.hpp"

namespace petrel {

class NativeLoop;

// The inside of AsioEventLoop, for transport/*.cpp only.
struct AsioEventLoop::Impl {
    using Endpoints = std::vector<asio::ip::tcp::endpoint>;
    // No endpoints: the text says why.
    using OnLookup = std::function<void(const Endpoints&, const std::string& failure)>;

    // getaddrinfo() cannot be interrupted, and Asio's own resolver makes ~io_context() wait for
    // it: with a dead network that is many seconds. So lookups run in detached threads that know
    // of the loop only through this box, which the loop empties when it goes.
    struct Mailbox {
        std::mutex mutex;
        Impl* loop = nullptr;
    };
    struct Lookup {
        std::uint64_t id = 0;
        std::string host;
        std::uint16_t port = 0;
    };
    static constexpr std::size_t kLookupsAtOnceMax = 4;
    static constexpr std::size_t kLookupsMax = 10'000;  // Under way and waiting.

    Impl();
    ~Impl();

    // `on_lookup` runs on the loop, never from inside this call. A numeric `host` needs no thread.
    void look_up(const std::string& host, std::uint16_t port, OnLookup on_lookup);
    void start_lookups();
    void finish_lookup(std::uint64_t id, const Endpoints& endpoints, const std::string& failure);

    std::shared_ptr<NativeLoop> native;  // Made when first used; outlives what `io` holds.
    asio::io_context io{1};              // The hint: one thread runs it.
    // For good: an io_context that runs out of work stops itself, also between two run()s.
    asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(io);
    std::shared_ptr<Mailbox> mailbox = std::make_shared<Mailbox>();
    std::map<std::uint64_t, OnLookup> lookups;
    std::deque<Lookup> waiting_lookups;
    std::size_t lookup_threads = 0;
    std::uint64_t next_lookup = 1;
};

}  // namespace petrel
