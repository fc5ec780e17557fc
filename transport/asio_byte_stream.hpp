#pragma once

#include <memory>

#include "transport/asio_event_loop.hpp"
#include "transport/byte_stream.hpp"

namespace petrel {

// ByteNetwork over TCP. The loop must outlive it and its streams.
class AsioByteNetwork final : public ByteNetwork {
public:
    explicit AsioByteNetwork(AsioEventLoop& loop);
    ~AsioByteNetwork() override;
    Result<std::uint16_t> listen(const std::string& address, std::uint16_t port,
                                 Acceptor& acceptor) override;
    void stop_listening() override;
    std::unique_ptr<ByteStream> connect(const std::string& host, std::uint16_t port,
                                        ByteStream::Handler& handler) override;

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace petrel
