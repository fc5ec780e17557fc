#include "transport/websocket_handshake.hpp"

#include <algorithm>
#include <vector>

#include "transport/sha1.hpp"

namespace petrel::ws {
namespace {

constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // RFC 6455 section 1.3.
constexpr int kSwitchingProtocols = 101;

std::string base64(const unsigned char* bytes, std::size_t size) {
    constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t at = 0; at < size; at += 3) {
        const std::size_t count = std::min<std::size_t>(3, size - at);
        unsigned group = 0;
        for (std::size_t i = 0; i < 3; ++i) group = group << 8 | (i < count ? bytes[at + i] : 0U);
        for (std::size_t i = 0; i < 4; ++i) {
            out += i <= count ? kDigits[(group >> (18 - 6 * i)) & 0x3f] : '=';
        }
    }
    return out;
}

// The base64 of 16 bytes (RFC 6455 section 4.2.1).
bool is_key(std::string_view key) {
    constexpr std::size_t kDigitCount = 22;
    if (key.size() != kDigitCount + 2 || key.substr(kDigitCount) != "==") return false;
    return std::all_of(key.begin(), key.begin() + kDigitCount, [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == '+' || c == '/';
    });
}

const char* status_text(int status) {
    switch (status) {
        case 200: return "OK";
        case 400: return "Bad Request";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 413: return "Payload Too Large";
        case 426: return "Upgrade Required";
        case 431: return "Request Header Fields Too Large";
        case 503: return "Service Unavailable";
        default: return "Refused";
    }
}

// What is wrong with a request whatever it asks for.
std::optional<HttpAnswer> find_fault(const HttpRequest& request) {
    const auto bad = [](const char* why) { return HttpAnswer{400, why, {}, {}}; };
    std::string ignored;
    const std::string host(request.fields.get("Host"));
    if (request.fields.count("Host") != 1 || !parse_url("ws://" + host, ignored)) {
        return bad("One usable Host, please.\n");
    }
    if (request.fields.count("Transfer-Encoding") > 0) return HttpAnswer{413, "No body.\n", {}, {}};
    if (request.fields.count("Content-Length") > 0) {
        const std::string_view length = request.fields.get("Content-Length");
        const bool is_number =
            !length.empty() &&
            std::all_of(length.begin(), length.end(), [](char c) { return c >= '0' && c <= '9'; });
        if (!is_number || request.fields.count("Content-Length") > 1) return bad("A length?\n");
        if (length != "0") return HttpAnswer{413, "No body.\n", {}, {}};
    }
    return {};
}

CloseInfo failure(std::string reason) {
    CloseInfo info;
    info.reason = std::move(reason);
    return info;
}

// A sentence about an answer 101 that RFC 6455 section 4.1 forbids to take; "" if there is none.
std::string find_fault(const HttpResponse& response, std::string_view key,
                       std::string_view subprotocol) {
    const HttpFields& fields = response.fields;
    if (!is_equal_without_case(fields.get("Upgrade"), "websocket") ||
        !fields.has_element("Connection", "upgrade")) {
        return "the server's answer is no upgrade to WebSocket";
    }
    if (fields.get("Sec-WebSocket-Accept") != accept_of(key)) {
        return "the server's answer is to another handshake";
    }
    if (fields.count("Sec-WebSocket-Extensions") > 0) {
        return "the server uses an extension that was not asked for";
    }
    const std::string_view chosen = fields.get("Sec-WebSocket-Protocol");
    if (fields.count("Sec-WebSocket-Protocol") > 1 || (!chosen.empty() && chosen != subprotocol)) {
        return "the server chose a subprotocol that was not asked for";
    }
    return {};
}

}  // namespace

std::string make_key(const std::array<unsigned char, 16>& random) {
    return base64(random.data(), random.size());
}

std::string make_request(const Url& url, std::string_view key, std::string_view subprotocol) {
    const bool is_default_port = url.port == (url.is_tls ? 443 : 80);
    std::string out = "GET " + url.resource + " HTTP/1.1\r\nHost: ";
    out += is_default_port ? url.bracketed_host() : url.authority();
    out += "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ";
    out += key;
    out += "\r\nSec-WebSocket-Version: 13\r\n";
    if (!subprotocol.empty()) {
        out += "Sec-WebSocket-Protocol: ";
        out += subprotocol;
        out += "\r\n";
    }
    out += "User-Agent: petrel\r\n\r\n";
    return out;
}

Upgraded judge_response(std::string_view head, std::string_view key, std::string_view subprotocol) {
    Upgraded out;
    const auto response = parse_http_response(head);
    if (!response) {
        out.failure = failure("the server's answer is not HTTP");
    } else if (response->status != kSwitchingProtocols) {
        const std::string status = std::to_string(response->status);
        out.failure =
            failure("the server answered HTTP " + status + " " + std::string(response->reason));
        out.failure.http_status = response->status;
        out.failure.retry_after = parse_retry_after(response->fields.get("Retry-After"));
    } else {
        out.failure = failure(find_fault(*response, key, subprotocol));
        out.is_upgraded = out.failure.reason.empty();
        if (out.is_upgraded) out.subprotocol = response->fields.get("Sec-WebSocket-Protocol");
    }
    return out;
}

std::string accept_of(std::string_view key) {
    std::string text(key);
    text += kGuid;
    const auto digest = sha1(text);
    return base64(digest.data(), digest.size());
}

Asked judge_upgrade(std::string_view head, const ListenOptions& options, bool has_room) {
    Asked asked;
    const auto request = parse_http_request(head);
    if (!request) {
        asked.refusal = HttpAnswer{400, "That is no HTTP/1.1 request.\n", {}, {}};
        return asked;
    }
    asked.refusal = find_fault(*request);
    if (asked.refusal) return asked;
    const HttpFields& fields = request->fields;
    asked.path = path_of(request->resource);
    UpgradeQuestion question;
    question.method = request->method;
    question.path = asked.path;
    question.websocket_version = fields.get("Sec-WebSocket-Version");
    question.origin = fields.get("Origin");
    question.header_bytes = head.size();
    question.is_upgrade =
        fields.has_element("Upgrade", "websocket") && fields.has_element("Connection", "upgrade");
    asked.refusal = judge_request(question, options, has_room);
    if (asked.refusal) return asked;
    const std::string_view key = fields.get("Sec-WebSocket-Key");
    if (fields.count("Sec-WebSocket-Key") != 1 || !is_key(key) ||
        fields.count("Sec-WebSocket-Version") != 1 || fields.count("Origin") > 1) {
        asked.refusal = HttpAnswer{400, "That is no WebSocket handshake.\n", {}, {}};
        return asked;
    }
    std::vector<std::string> subprotocols;
    for (const std::string_view name : fields.list("Sec-WebSocket-Protocol")) {
        if (is_token(name)) subprotocols.emplace_back(name);
    }
    asked.subprotocol = choose_subprotocol(subprotocols);
    asked.accept = accept_of(key);
    return asked;
}

std::string make_response(const Asked& asked) {
    std::string out =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: " +
        asked.accept + "\r\n";
    if (!asked.subprotocol.empty()) out += "Sec-WebSocket-Protocol: " + asked.subprotocol + "\r\n";
    return out + "\r\n";
}

std::string make_answer(const HttpAnswer& answer) {
    std::string out = "HTTP/1.1 " + std::to_string(answer.status) + " " +
                      status_text(answer.status) +
                      "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " +
                      std::to_string(answer.body.size()) + "\r\n";
    if (!answer.field_name.empty()) out += answer.field_name + ": " + answer.field_value + "\r\n";
    return out + "Connection: close\r\n\r\n" + answer.body;
}

}  // namespace petrel::ws
