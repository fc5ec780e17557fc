#include "tools/petrel/admin_api.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <utility>

#include "protocol/json_text.hpp"
#include "tools/petrel/json_line.hpp"

#if defined(__clang__)
// The reader's still empty stack compares a null pointer plus an offset.
#pragma clang attribute push(__attribute__((no_sanitize("pointer-overflow"))), apply_to = function)
#endif
#include <rapidjson/document.h>
#if defined(__clang__)
#pragma clang attribute pop
#endif

namespace petrel::tools {
namespace {

constexpr std::string_view kDefaultApp = "default";
constexpr std::size_t kSessionsMax = 1000;        // Of one answer: some 300 KB.
constexpr std::size_t kReasonBytesMax = 123;      // What a close frame has room for (RFC 6455).
constexpr std::int64_t kWindowMaxMs = 3'600'000;  // Nobody shall stay away for more than an hour.
constexpr std::size_t kTokenBytesMin = 16;        // Of 64 symbols: 96 bits.
constexpr std::size_t kTokenBytesMax = 1024;

struct Route {
    std::string_view method;
    std::string_view path;
    bool needs_token;
};
constexpr Route kRoutes[] = {
    {"GET", "/healthz", false},    {"GET", "/readyz", false},  {"GET", "/metrics", true},
    {"GET", "/v1/sessions", true}, {"POST", "/v1/kick", true}, {"POST", "/v1/drain", true},
};

// Takes as long for a wrong first byte as for a wrong last one.
bool is_equal(std::string_view given, std::string_view secret) {
    unsigned char difference = given.size() == secret.size() ? 0 : 1;
    for (std::size_t i = 0; i < given.size(); ++i) {
        difference |= static_cast<unsigned char>(given[i]) ^
                      static_cast<unsigned char>(secret[i % secret.size()]);
    }
    return difference == 0;
}

AdminReply no_answer() {
    return admin_error(503, "the gateway does not answer: it is overloaded or ending, try again");
}

AdminReply text_reply(int status, std::string text) {
    AdminReply reply;
    reply.status = status;
    reply.type = "text/plain; charset=utf-8";
    reply.body = std::move(text);
    return reply;
}

template <class Number>
bool parse_number(const std::string& text, Number& number) {
    const char* const end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, number);
    return !text.empty() && result.ec == std::errc() && result.ptr == end;
}

// The members of a JSON object whose names are all known; empty text in `why` when it is one.
class Body {
public:
    Body(const std::string& text, std::initializer_list<std::string_view> names,
         std::string_view example)
        : example_(example) {
        // Without a body: nothing asked for in particular.
        document_.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag>(
            text.empty() ? "{}" : text.data(), text.empty() ? 2 : text.size());
        // The parser takes a zero byte for the end, whatever stands behind it.
        const bool has_zero = text.find('\0') != std::string::npos;
        if (document_.HasParseError() || has_zero || !document_.IsObject()) {
            complain("the body is no JSON object");
            return;
        }
        for (const auto& member : document_.GetObject()) {
            const std::string_view name(member.name.GetString(), member.name.GetStringLength());
            // A misspelt "device" would kick out all devices.
            if (std::find(names.begin(), names.end(), name) == names.end()) {
                complain("unknown key '" + std::string(name) + "'");
            }
        }
    }

    const std::string& why() const { return why_; }

    std::string text(const char* name, std::string_view otherwise = {}) {
        const auto found = document_.FindMember(name);
        if (found == document_.MemberEnd()) return std::string(otherwise);
        if (found->value.IsString() && found->value.GetStringLength() > 0) {
            return {found->value.GetString(), found->value.GetStringLength()};
        }
        complain("'" + std::string(name) + "' must be a text that is not empty");
        return {};
    }

    std::optional<std::int64_t> number(const char* name, std::int64_t max) {
        const auto found = document_.FindMember(name);
        if (found == document_.MemberEnd()) return std::nullopt;
        if (found->value.IsInt64() && found->value.GetInt64() >= 0 &&
            found->value.GetInt64() <= max) {
            return found->value.GetInt64();
        }
        complain("'" + std::string(name) + "' must be a whole number from 0 to " +
                 std::to_string(max));
        return std::nullopt;
    }

    void complain(std::string what) {
        if (why_.empty()) why_ = std::move(what) + "; send for instance " + std::string(example_);
    }

private:
    rapidjson::Document document_;
    std::string_view example_;
    std::string why_;
};

void append(std::string& out, const SessionInfo& info) {
    JsonObjectWriter object(out);
    const auto text = [&](const char* name, const std::string& value) {
        if (!value.empty()) object.text(name, to_valid_utf8(value));
    };
    object.number("connection", info.connection);
    object.number("shard", info.shard);
    text("address", info.address);
    text("session", info.session);
    text("state", info.state);
    text("profile", info.profile);
    text("app", info.app);
    text("user", info.user);
    text("device", info.device);
    if (!info.user.empty()) text("class", info.device_class);
    object.number("connectedAtMs", info.connected_at);
    object.number("inFlight", info.in_flight);
    object.number("backlog", info.backlog);
    object.number("queuedBytes", info.queued_bytes);
    object.close();
}

}  // namespace

AdminReply admin_error(int status, std::string_view text) {
    AdminReply reply;
    reply.status = status;
    JsonObjectWriter object(reply.body);
    object.text("error", to_valid_utf8(text));
    object.close();
    reply.body += '\n';
    return reply;
}

std::string read_admin_token(const std::string& file, std::string& why) {
    std::ifstream in(file, std::ios::binary);
    std::string token(kTokenBytesMax + 2, '\0');
    in.read(token.data(), static_cast<std::streamsize>(token.size()));
    if (!in.eof()) {
        why = in.bad() || !in.is_open() || in.gcount() == 0
                  ? file + " cannot be read: name a file that holds the admin's token"
                  : file + " is too long for a token: at most " + std::to_string(kTokenBytesMax) +
                        " characters in one line";
        return {};
    }
    token.resize(static_cast<std::size_t>(in.gcount()));
    while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) token.pop_back();
    const bool is_plain =
        std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    if (token.size() >= kTokenBytesMin && token.size() <= kTokenBytesMax && is_plain) return token;
    why = file + " holds no token of at least " + std::to_string(kTokenBytesMin) +
          " printable characters in one line: make one with openssl rand -hex 32";
    return {};
}

AdminApi::AdminApi(AdminTarget& target, std::string token)
    : target_(target), token_(std::move(token)) {}

bool AdminApi::is_admin(std::string_view authorization) const {
    constexpr std::string_view kScheme = "Bearer ";
    if (token_.empty() || authorization.substr(0, kScheme.size()) != kScheme) return false;
    return is_equal(authorization.substr(kScheme.size()), token_);
}

std::optional<AdminReply> AdminApi::objection(const AdminRequest& request) const {
    const auto is_path = [&](const Route& route) { return route.path == request.path; };
    const auto route = std::find_if(std::begin(kRoutes), std::end(kRoutes), is_path);
    // Who is no admin does not learn what there is.
    const bool needs_token = route == std::end(kRoutes) || route->needs_token;
    if (needs_token && !is_admin(request.authorization)) {
        return admin_error(401,
                           "send the header Authorization: Bearer TOKEN, with the token of "
                           "the gateway's --admin-token-file");
    }
    if (route == std::end(kRoutes)) {
        return admin_error(404,
                           "there are /healthz, /readyz, /metrics, /v1/sessions, /v1/kick "
                           "and /v1/drain");
    }
    const bool is_head = request.method == "HEAD" && route->method == "GET";
    if (request.method != route->method && !is_head) {
        AdminReply reply = admin_error(405, "use " + std::string(route->method));
        reply.allow = route->method;
        return reply;
    }
    return std::nullopt;
}

AdminReply AdminApi::answer(const AdminRequest& request) {
    if (std::optional<AdminReply> refusal = objection(request)) return std::move(*refusal);
    if (request.path == "/healthz") return text_reply(200, "ok\n");
    if (request.path == "/readyz") return ready();
    if (request.path == "/metrics") return metrics();
    if (request.path == "/v1/sessions") return sessions(request);
    if (request.path == "/v1/kick") return kick(request);
    return drain(request);
}

AdminReply AdminApi::ready() {
    if (target_.is_draining()) return text_reply(503, "draining\n");
    // What the disk says is for the log and the metrics: anybody may ask here.
    if (!target_.store_error().empty()) return text_reply(503, "the store cannot write\n");
    return text_reply(200, "ready\n");
}

AdminReply AdminApi::metrics() {
    std::optional<std::string> text = target_.metrics();
    // Half of the shards would look like counters that went backwards.
    if (!text) return no_answer();
    AdminReply reply = text_reply(200, std::move(*text));
    reply.type = "text/plain; version=0.0.4; charset=utf-8";
    return reply;
}

AdminReply AdminApi::sessions(const AdminRequest& request) {
    SessionQuery query;
    std::size_t limit = query.count_max;
    for (const auto& [name, value] : request.query) {
        if (request.query.count(name) > 1) return admin_error(400, "give " + name + " once");
        if (name == "app") {
            query.app = value;
        } else if (name == "user") {
            query.user = value;
        } else if (name == "device") {
            query.device = value;
        } else if (name == "after") {
            if (!parse_number(value, query.after)) {
                return admin_error(400, "after must be the 'next' of the answer before");
            }
        } else if (name == "limit") {
            if (!parse_number(value, limit) || limit == 0 || limit > kSessionsMax) {
                return admin_error(400, "limit must be from 1 to " + std::to_string(kSessionsMax));
            }
        } else {
            return admin_error(400, "unknown parameter '" + name +
                                        "': there are app, user, device, after and limit");
        }
    }
    query.count_max = limit + 1;  // One more tells whether there are more.
    auto found = target_.sessions(query);
    if (!found) return no_answer();
    const bool has_more = found->size() > limit;
    if (has_more) found->resize(limit);
    AdminReply reply;
    JsonObjectWriter object(reply.body);
    object.begin("sessions");
    reply.body += '[';
    for (std::size_t i = 0; i < found->size(); ++i) {
        if (i > 0) reply.body += ',';
        append(reply.body, (*found)[i]);
    }
    reply.body += ']';
    if (has_more) {
        object.number("next", found->back().connection);
    } else {
        object.null("next");
    }
    object.close();
    reply.body += '\n';
    return reply;
}

AdminReply AdminApi::kick(const AdminRequest& request) {
    Body body(request.body, {"app", "user", "device", "reason"},
              R"({"app":"default","user":"bob","device":"phone","reason":"stolen phone"})");
    if (!body.why().empty()) return admin_error(400, body.why());
    KickOrder order;
    order.app = body.text("app", kDefaultApp);
    order.user = body.text("user");
    order.device = body.text("device");
    order.reason = body.text("reason", "kicked out by an admin");
    if (order.user.empty()) body.complain("'user' is missing");
    if (order.reason.size() > kReasonBytesMax) {
        body.complain("'reason' must have at most " + std::to_string(kReasonBytesMax) + " bytes");
    }
    if (!body.why().empty()) return admin_error(400, body.why());
    const std::optional<std::size_t> kicked = target_.kick(order);
    if (!kicked) return no_answer();
    AdminReply reply;
    JsonObjectWriter object(reply.body);
    object.number("kicked", *kicked);
    object.close();
    reply.body += '\n';
    return reply;
}

AdminReply AdminApi::drain(const AdminRequest& request) {
    Body body(request.body, {"windowMs"}, R"({"windowMs":5000})");
    std::optional<std::int64_t> window;
    if (body.why().empty()) window = body.number("windowMs", kWindowMaxMs);
    if (!body.why().empty()) return admin_error(400, body.why());
    target_.drain(window);
    AdminReply reply;
    reply.status = 202;  // It ends later.
    JsonObjectWriter object(reply.body);
    object.boolean("draining", true);
    object.close();
    reply.body += '\n';
    return reply;
}

}  // namespace petrel::tools
