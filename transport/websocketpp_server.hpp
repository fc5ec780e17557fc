#pragma once

#include <memory>

#include "transport/asio_event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel {

// The listening half by websocketpp. The loop must outlive the listener and its transports.
class WebsocketppListener final : public Listener {
public:
    explicit WebsocketppListener(AsioEventLoop& loop);
    ~WebsocketppListener() override;
    Result<std::uint16_t> listen(const ListenOptions& options, Handler& handler) override;
    std::string last_error() const override;
    void stop() override;

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace petrel
