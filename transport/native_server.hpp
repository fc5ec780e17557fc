#pragma once

#include <memory>
#include <string>

#include "transport/asio_event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel {

// The listening half of our own WebSocket. The loop must outlive the listener and its transports.
class NativeListener final : public Listener {
public:
    explicit NativeListener(AsioEventLoop& loop);
    ~NativeListener() override;
    Result<std::uint16_t> listen(const ListenOptions& options, Handler& handler) override;
    std::string last_error() const override;
    void stop() override;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace petrel
