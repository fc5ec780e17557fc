#pragma once

#include <map>
#include <memory>
#include <string>

#include "transport/event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel {

// A network in memory on one EventLoop: Connector and Listener for tests and for a client and a
// gateway in one process. URLs are ws://loopback:PORT/path; ports are the network's own.
// Everything arrives through loop.post(), so the contract's "never from inside a call" holds.
class LoopbackNetwork {
public:
    explicit LoopbackNetwork(EventLoop& loop);
    ~LoopbackNetwork();
    LoopbackNetwork(const LoopbackNetwork&) = delete;
    LoopbackNetwork& operator=(const LoopbackNetwork&) = delete;

    std::unique_ptr<Connector> make_connector();
    std::unique_ptr<Listener> make_listener();

    struct Impl;

private:
    std::shared_ptr<Impl> impl_;
};

}  // namespace petrel
