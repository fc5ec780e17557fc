#include "tools/petrel/options.hpp"

#include <CLI/CLI.hpp>
#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace petrel::tools {
namespace {

std::string parse_share(const std::string& text, double& value) {
    CLI::App app("test", "test");
    add_probability(app, "--drop", value, "A share");
    try {
        app.parse(std::vector<std::string>{text, "--drop"});
    } catch (const CLI::ParseError& error) {
        return error.what();
    }
    return "";
}

TEST_CASE("Listen address: host and port, port alone, IPv6 in brackets") {
    CHECK(parse_listen_address("0.0.0.0:9600")->host == "0.0.0.0");
    CHECK(parse_listen_address("0.0.0.0:9600")->port == 9600);
    CHECK(parse_listen_address("9600")->host == "127.0.0.1");
    CHECK(parse_listen_address(":0")->port == 0);
    CHECK(parse_listen_address("[::1]:65535")->host == "::1");
    CHECK(parse_listen_address("[::1]:65535")->port == 65535);
}

TEST_CASE("Listen address: nonsense is refused") {
    for (const char* text : {"", "host", "host:", "host:65536", "host:-1", "host:1x", "::1:9600",
                             "[::1]9600", "[]:1", "[::1:1"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_listen_address(text));
    }
}

TEST_CASE("Listen address: its URL has brackets where they are needed") {
    CHECK(to_url({"127.0.0.1", 9600}) == "ws://127.0.0.1:9600/ws");
    CHECK(to_url({"::1", 1}, "/") == "ws://[::1]:1/");
}

TEST_CASE("WebSocket URL: only ws and wss with a host") {
    CHECK(is_websocket_url("ws://127.0.0.1:9600/ws"));
    CHECK(is_websocket_url("wss://example.org"));
    for (const char* text : {"", "ws://", "ws:///ws", "ws://:80/", "http://a", "a:1", "ws://a b"}) {
        CAPTURE(text);
        CHECK_FALSE(is_websocket_url(text));
    }
}

TEST_CASE("Share: 0 and 1 are allowed, past them and words are refused") {
    double value = 0.5;
    CHECK(parse_share("0", value) == "");
    CHECK(value == 0);
    CHECK(parse_share("1", value) == "");
    CHECK(value == 1);
    CHECK(parse_share("1.01", value).find("between 0 and 1") != std::string::npos);
    CHECK(parse_share("-0.1", value).find("between 0 and 1") != std::string::npos);
    CHECK(parse_share("nan", value).find("between 0 and 1") != std::string::npos);
    CHECK(parse_share("5%", value).find("between 0 and 1") != std::string::npos);
    CHECK(value == 1);
}

}  // namespace
}  // namespace petrel::tools
