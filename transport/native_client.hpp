#pragma once

#include <memory>

#include "transport/asio_event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel {

// ws:// and wss:// by our own WebSocket over Asio. TLS 1.2+ with certificate and host-name
// verification unless the options say otherwise. The loop must outlive the connector and its
// transports.
class NativeConnector final : public Connector {
public:
    explicit NativeConnector(AsioEventLoop& loop);
    ~NativeConnector() override;
    std::unique_ptr<Transport> connect(const ConnectOptions& options,
                                       Transport::Handler& handler) override;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace petrel
