#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/error.hpp"
#include "tools/petrel/admin_api.hpp"
#include "tools/petrel/options.hpp"

namespace petrel::tools {

// The admin's HTTP listener (cpp-httplib), on threads of its own: what it does, however slow its
// clients are, costs the shards nothing. One request a connection. For networks that are trusted:
// it has no TLS.
class AdminServer {
public:
    // `api` outlives it. `on_refused` is told where a request with a wrong token came from.
    AdminServer(AdminApi& api, std::function<void(std::string_view address)> on_refused);
    ~AdminServer();  // stop(), as long as it takes.
    AdminServer(const AdminServer&) = delete;
    AdminServer& operator=(const AdminServer&) = delete;

    // The port, or an error with a sentence in `why`.
    Result<std::uint16_t> start(const ListenAddress& address, std::string& why);
    // Takes no more; false when requests are still being read or answered after `patience`. They
    // use `api` until they are done.
    bool stop(std::chrono::milliseconds patience);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace petrel::tools
