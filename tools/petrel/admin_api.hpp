#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/gateway/session_list.hpp"

namespace petrel::tools {

// The gateway as its admin sees it. Called from the threads of the admin's listener: thread-safe.
// nullopt: the gateway does not answer.
class AdminTarget {
public:
    virtual bool is_draining() = 0;
    virtual std::string store_error() = 0;  // Empty: it works.
    virtual std::optional<std::string> metrics() = 0;
    virtual std::optional<std::vector<SessionInfo>> sessions(const SessionQuery& query) = 0;
    virtual std::optional<std::size_t> kick(const KickOrder& order) = 0;
    virtual void drain(std::optional<std::int64_t> window_ms) = 0;

protected:
    ~AdminTarget() = default;
};

struct AdminRequest {
    std::string method;
    std::string path;
    std::string authorization;
    std::multimap<std::string, std::string> query;
    std::string body;
};

struct AdminReply {
    int status = 200;
    std::string type = "application/json";
    std::string body;
    std::string allow;  // Of 405.
};

// What is answered to which request:
//
//   GET  /healthz       200 while the process answers                              no token
//   GET  /readyz        200, or 503 while it drains or the store cannot write      no token
//   GET  /metrics       Prometheus text
//   GET  /v1/sessions   ?app= &user= &device= &after=CONNECTION &limit=1..1000
//   POST /v1/kick       {"user","app"?,"device"?,"reason"?}
//   POST /v1/drain      {"windowMs"?} as SIGTERM does
//
// Errors are {"error":"what to do"}. Thread-safe.
class AdminApi {
public:
    static constexpr std::size_t kBodyMax = 4096;  // A kick-out of long names has room.

    // `token` is not empty.
    AdminApi(AdminTarget& target, std::string token);

    // What can be said without the body: a refusal, or nothing.
    std::optional<AdminReply> objection(const AdminRequest& request) const;
    AdminReply answer(const AdminRequest& request);

private:
    bool is_admin(std::string_view authorization) const;
    AdminReply ready();
    AdminReply metrics();
    AdminReply sessions(const AdminRequest& request);
    AdminReply kick(const AdminRequest& request);
    AdminReply drain(const AdminRequest& request);

    AdminTarget& target_;
    const std::string token_;
};

// {"error":text}
AdminReply admin_error(int status, std::string_view text);

// The token of a file: its first line. Empty, with a sentence in `why`, when there is none that
// can be used.
std::string read_admin_token(const std::string& file, std::string& why);

}  // namespace petrel::tools
