#include "transport/handshake.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <utility>

#include "protocol/utf8.hpp"

namespace petrel {
namespace {

constexpr std::size_t kUrlBytesMax = 8192;
constexpr std::size_t kHostBytesMax = 253;         // RFC 1035 section 2.3.4, without the last dot.
constexpr std::size_t kCloseReasonBytesMax = 123;  // RFC 6455 section 5.5.
constexpr char kPetrelV1[] = "petrel.v1";

bool starts_with(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

bool is_alphanumeric(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_host_character(char c, bool is_ipv6) {
    if (is_ipv6) return is_alphanumeric(c) || c == ':' || c == '.';
    return is_alphanumeric(c) || c == '.' || c == '-' || c == '_';
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || port == 0) return {};
    return port;
}

// Browsers always say which page asks; apps have none and say nothing.
bool is_welcome_origin(std::string_view origin, const std::vector<std::string>& listed) {
    if (listed.empty() || origin.empty()) return true;
    const std::string normal = normal_origin(origin);
    return !normal.empty() && std::any_of(listed.begin(), listed.end(), [&](const auto& entry) {
        return normal_origin(entry) == normal;
    });
}

}  // namespace

std::string Url::bracketed_host() const {
    return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

std::string Url::authority() const { return bracketed_host() + ":" + std::to_string(port); }

std::optional<Url> parse_url(std::string_view text, std::string& why) {
    const auto fail = [&why](const char* reason) {
        why = reason;
        return std::optional<Url>();
    };
    if (text.size() > kUrlBytesMax) return fail("the URL is too long");
    // Whatever goes into the request line must not be able to end it.
    if (!std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; })) {
        return fail("the URL has a character that must be percent-encoded");
    }
    if (text.find('#') != std::string_view::npos) return fail("the URL has a fragment");

    Url url;
    if (starts_with(text, "wss://")) {
        url.is_tls = true;
        text.remove_prefix(6);
    } else if (starts_with(text, "ws://")) {
        text.remove_prefix(5);
    } else {
        return fail("the URL begins with neither ws:// nor wss://");
    }
    const std::size_t authority_end = std::min(text.find_first_of("/?"), text.size());
    std::string_view authority = text.substr(0, authority_end);
    url.resource = text.substr(authority_end);
    if (url.resource.empty() || url.resource.front() == '?') url.resource.insert(0, "/");

    bool is_ipv6 = false;
    std::string_view port;
    if (starts_with(authority, "[")) {
        is_ipv6 = true;
        const std::size_t end = authority.find(']');
        if (end == std::string_view::npos) return fail("the URL's IPv6 address has no end");
        url.host = authority.substr(1, end - 1);
        port = authority.substr(end + 1);
    } else {
        const std::size_t colon = std::min(authority.find(':'), authority.size());
        url.host = authority.substr(0, colon);
        port = authority.substr(colon);
    }
    const bool is_host = !url.host.empty() && url.host.size() <= kHostBytesMax &&
                         std::all_of(url.host.begin(), url.host.end(),
                                     [is_ipv6](char c) { return is_host_character(c, is_ipv6); });
    if (!is_host || (is_ipv6 && url.host.find(':') == std::string::npos)) {
        return fail("the URL has no usable host");
    }
    url.port = url.is_tls ? 443 : 80;
    if (!port.empty()) {
        const auto number = port.front() == ':' ? parse_port(port.substr(1)) : std::nullopt;
        if (!number) return fail("the URL has no usable port");
        url.port = *number;
    }
    return url;
}

bool is_token(std::string_view text) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
    return !text.empty() && std::all_of(text.begin(), text.end(), [kMarks](char c) {
        return is_alphanumeric(c) || kMarks.find(c) != std::string_view::npos;
    });
}

std::string choose_subprotocol(const std::vector<std::string>& asked) {
    if (asked.empty()) return {};
    const bool has_v1 = std::find(asked.begin(), asked.end(), kPetrelV1) != asked.end();
    return has_v1 ? kPetrelV1 : asked.front();
}

std::string_view path_of(std::string_view resource) {
    return resource.substr(0, std::min(resource.find('?'), resource.size()));
}

bool is_known_path(const std::vector<std::string>& paths, std::string_view path) {
    return std::find(paths.begin(), paths.end(), path) != paths.end();
}

std::string normal_origin(std::string_view text) {
    constexpr std::size_t kOriginBytesMax = 8 + kHostBytesMax + 6;  // https://HOST:65535
    if (text.size() > kOriginBytesMax) return {};
    std::string origin(text);
    std::transform(origin.begin(), origin.end(), origin.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const bool is_secure = starts_with(origin, "https://");
    if (!is_secure && !starts_with(origin, "http://")) return {};
    const std::string rest = origin.substr(is_secure ? 8 : 7);
    if (rest.find_first_of("/?") != std::string::npos) return {};
    // The rules for host and port are the same.
    std::string ignored;
    const auto url = parse_url((is_secure ? "wss://" : "ws://") + rest, ignored);
    if (!url) return {};
    const bool is_default_port = url->port == (is_secure ? 443 : 80);
    return (is_secure ? "https://" : "http://") +
           (is_default_port ? url->bracketed_host() : url->authority());
}

std::optional<HttpAnswer> judge_request(const UpgradeQuestion& question,
                                        const ListenOptions& options, bool has_room) {
    const auto answer = [](int status, std::string body, std::string name = {},
                           std::string value = {}) {
        return HttpAnswer{status, std::move(body), std::move(name), std::move(value)};
    };
    if (question.header_bytes > options.header_bytes_max) {
        return answer(431, "The request's headers are larger than " +
                               std::to_string(options.header_bytes_max) + " bytes.\n");
    }
    if (!is_known_path(options.paths, question.path)) {
        const std::string place = options.paths.empty() ? "nowhere" : options.paths.front();
        return answer(404, "Nothing here. WebSocket clients connect to " + place + ".\n");
    }
    if (question.method != "GET") return answer(405, "GET only.\n", "Allow", "GET");
    if (!question.is_upgrade) return answer(200, options.http_page);
    if (question.websocket_version != "13") {
        return answer(426, "WebSocket version 13 only.\n", "Sec-WebSocket-Version", "13");
    }
    if (!is_welcome_origin(question.origin, options.origins)) {
        return answer(403,
                      "Pages of this site (Origin) may not connect. The operator of the gateway "
                      "lists those that may.\n");
    }
    if (!has_room) return answer(503, "No room. Try again later.\n");
    return {};
}

std::optional<std::chrono::seconds> parse_retry_after(std::string_view text) {
    constexpr std::uint32_t kSecondsMax = 86'400;  // Nobody waits for longer than a day.
    std::uint32_t seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    // The other form, a date, would need a wall clock that agrees with the server's.
    if (error != std::errc() || end != text.data() + text.size()) return {};
    return std::chrono::seconds(std::min(seconds, kSecondsMax));
}

std::uint16_t sendable_close_code(std::uint16_t code) {
    const bool is_standard =
        code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
    const bool is_private = code >= 3000 && code <= 4999;
    return is_standard || is_private ? code : 1000;
}

std::string_view cut_close_reason(std::string_view reason) {
    if (!is_valid_utf8(reason)) return {};
    if (reason.size() <= kCloseReasonBytesMax) return reason;
    std::size_t size = kCloseReasonBytesMax;
    while ((static_cast<unsigned char>(reason[size]) & 0xc0) == 0x80) --size;
    return reason.substr(0, size);
}

}  // namespace petrel
