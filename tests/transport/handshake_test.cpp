#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "transport/handshake.hpp"

using namespace petrel;

namespace {

std::string parsed(const std::string& text) {
    std::string why;
    const auto url = parse_url(text, why);
    if (!url) return "no: " + why;
    return (url->is_tls ? "tls " : "plain ") + url->authority() + " " + url->resource;
}

}  // namespace

TEST_CASE("Url: port, path and query have defaults") {
    CHECK(parsed("ws://host") == "plain host:80 /");
    CHECK(parsed("wss://host") == "tls host:443 /");
    CHECK(parsed("ws://host:9600") == "plain host:9600 /");
    CHECK(parsed("ws://host?a=b") == "plain host:80 /?a=b");
    CHECK(parsed("ws://host/ws?a=b/c?d") == "plain host:80 /ws?a=b/c?d");
    CHECK(parsed("ws://host:65535/ws") == "plain host:65535 /ws");
    CHECK(parsed("wss://[::1]:9600/ws") == "tls [::1]:9600 /ws");
    CHECK(parsed("ws://[2001:db8::1]") == "plain [2001:db8::1]:80 /");
}

TEST_CASE("Url: what is too long is refused") {
    CHECK(parsed("ws://" + std::string(253, 'h')).substr(0, 3) != "no:");
    CHECK(parsed("ws://" + std::string(254, 'h')).substr(0, 3) == "no:");
    CHECK(parsed("ws://h/" + std::string(8192 - 7, 'p')).substr(0, 3) != "no:");
    CHECK(parsed("ws://h/" + std::string(8192 - 6, 'p')).substr(0, 3) == "no:");
}

TEST_CASE("Handshake: petrel.v1 is chosen if asked for, else the first") {
    CHECK(choose_subprotocol({}) == "");
    CHECK(choose_subprotocol({"a"}) == "a");
    CHECK(choose_subprotocol({"a", "petrel.v1"}) == "petrel.v1");
    CHECK(choose_subprotocol({"b", "a"}) == "b");
}

TEST_CASE("Handshake: a token has no separators and is not empty") {
    CHECK(is_token("petrel.v1"));
    CHECK(!is_token(""));
    for (const char* text : {"a b", "a,b", "a\r", "a\"", "(a)", "a/b", "\xc3\xbc"}) {
        CHECK(!is_token(text));
    }
}

TEST_CASE("Handshake: a reason is cut between characters and dropped when it is not UTF-8") {
    CHECK(cut_close_reason("") == "");
    CHECK(cut_close_reason(std::string(123, 'r')).size() == 123);
    CHECK(cut_close_reason(std::string(124, 'r')).size() == 123);
    CHECK(cut_close_reason(std::string(121, 'r') + "\xf0\x9f\x90\xa6").size() == 121);
    CHECK(cut_close_reason("\xff") == "");
}

TEST_CASE("Handshake: an origin is compared as browsers write it") {
    const std::pair<const char*, const char*> kOrigins[] = {
        {"https://chat.example", "https://chat.example"},
        {"HTTPS://Chat.Example", "https://chat.example"},
        {"https://chat.example:443", "https://chat.example"},
        {"http://chat.example:80", "http://chat.example"},
        {"https://chat.example:80", "https://chat.example:80"},
        {"http://[::1]:8080", "http://[::1]:8080"},
        {"", ""},
        {"null", ""},
        {"chat.example", ""},
        {"ws://chat.example", ""},
        {"https://", ""},
        {"https://chat.example/", ""},
        {"https://chat.example/page", ""},
        {"https://chat.example?x", ""},
        {"https://chat.example:0", ""},
        {"https://a.example, https://b.example", ""},
    };
    for (const auto& one : kOrigins) {
        const auto& [text, expected] = one;
        CAPTURE(one.first);
        CHECK(normal_origin(text) == expected);
    }
    CHECK(normal_origin("https://" + std::string(400, 'a')) == "");
}

namespace {

UpgradeQuestion upgrade() {
    UpgradeQuestion request;
    request.method = "GET";
    request.path = "/ws";
    request.header_bytes = 300;
    request.is_upgrade = true;
    request.websocket_version = "13";
    return request;
}

// 101: welcome.
int status(const UpgradeQuestion& request, const ListenOptions& options = {},
           bool has_room = true) {
    const auto answer = judge_request(request, options, has_room);
    return answer ? answer->status : 101;
}

}  // namespace

TEST_CASE("Handshake: an upgrade of a known path is taken") {
    UpgradeQuestion request = upgrade();
    for (const char* path : {"/ws", "/websocket", "/"}) {
        request.path = path;
        CHECK(status(request) == 101);
    }
    CHECK(status(request, {}, false) == 503);
    request.path = "/ws/";
    CHECK(status(request) == 404);
    request = upgrade();
    request.method = "POST";
    CHECK(status(request) == 405);
}

TEST_CASE("Handshake: versions of WebSocket other than 13 are told which one it is") {
    UpgradeQuestion request = upgrade();
    for (const char* version : {"", "8", "14", "13, 8"}) {
        request.websocket_version = version;
        const auto answer = judge_request(request, {}, true);
        REQUIRE(answer.has_value());
        CHECK(answer->status == 426);
        CHECK(answer->field_name == "Sec-WebSocket-Version");
        CHECK(answer->field_value == "13");
    }
}

TEST_CASE("Handshake: what is no upgrade gets the page, 404 or 405") {
    UpgradeQuestion request = upgrade();
    request.is_upgrade = false;
    request.websocket_version = {};
    ListenOptions options;
    options.http_page = "the page";
    CHECK(judge_request(request, options, false)->body == "the page");
    CHECK(status(request) == 200);
    request.method = "HEAD";
    const auto answer = judge_request(request, {}, true);
    REQUIRE(answer.has_value());
    CHECK(answer->status == 405);
    CHECK(answer->field_name == "Allow");
    CHECK(answer->field_value == "GET");
    request.path = "/admin";
    CHECK(status(request) == 404);
}

TEST_CASE("Handshake: of the origins only those listed are let in, and who has none") {
    UpgradeQuestion request = upgrade();
    request.origin = "https://evil.example";
    ListenOptions options;
    CHECK(status(request, options) == 101);

    options.origins = {"https://a.example", "https://Chat.Example:443"};
    const auto judge = [&](const char* origin) {
        request.origin = origin;
        return status(request, options);
    };
    CHECK(judge("https://chat.example") == 101);
    CHECK(judge("https://a.example") == 101);
    CHECK(judge("") == 101);
    CHECK(judge("https://evil.example") == 403);
    CHECK(judge("http://chat.example") == 403);
    CHECK(judge("https://chat.example:8443") == 403);
    CHECK(judge("https://chat.example.evil.example") == 403);
    CHECK(judge("null") == 403);
    CHECK(judge("https://a.example, https://evil.example") == 403);

    options.origins = {"no origin at all"};
    CHECK(judge("also none") == 403);
    request.is_upgrade = false;
    CHECK(status(request, options) == 200);
}

TEST_CASE("Handshake: headers above their limit are refused") {
    UpgradeQuestion request = upgrade();
    ListenOptions options;
    options.header_bytes_max = 300;
    CHECK(status(request, options) == 101);
    request.header_bytes = 301;
    CHECK(status(request, options) == 431);
    request.is_upgrade = false;
    CHECK(status(request, options) == 431);
    options.header_bytes_max = 0;
    CHECK(status(request, options) == 431);
}
