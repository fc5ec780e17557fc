#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/gateway/gateway.hpp"
#include "tools/petrel/admin_api.hpp"
#include "tools/petrel/admin_server.hpp"

namespace petrel::tools {

// `petrel gateway --admin`: the listener, and the gateway behind it. Must be stopped before the
// gateway goes.
class GatewayAdmin final : private AdminTarget {
public:
    // `on_drain` is called from a thread of the listener, at the first POST /v1/drain.
    GatewayAdmin(Gateway& gateway, std::string store, std::string token,
                 std::function<void(std::optional<std::int64_t> window_ms)> on_drain);

    Result<std::uint16_t> start(const ListenAddress& address, std::string& why) {
        return server_.start(address, why);
    }
    // False: somebody still reads or writes; then the process must end without destroying this.
    bool stop();

private:
    bool is_draining() override { return has_drained_ || gateway_.is_draining(); }
    std::string store_error() override { return gateway_.store_error(); }
    std::optional<std::string> metrics() override;
    std::optional<std::vector<SessionInfo>> sessions(const SessionQuery& query) override {
        return gateway_.sessions(query);
    }
    std::optional<std::size_t> kick(const KickOrder& order) override;
    void drain(std::optional<std::int64_t> window_ms) override;

    Gateway& gateway_;
    const std::string store_;
    const std::function<void(std::optional<std::int64_t>)> on_drain_;
    std::atomic<bool> has_drained_{false};
    AdminApi api_;
    AdminServer server_;
};

}  // namespace petrel::tools
