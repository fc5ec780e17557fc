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
