#include <doctest/doctest.h>

#include <string>

#include "tests/transport/raw_socket.hpp"
#include "transport/sha1.hpp"
#include "transport/websocket_handshake.hpp"

using namespace petrel;
using namespace petrel::ws;
using petrel::test::upgrade_request;

namespace {

// The status of the answer to a request; 101 with what was chosen.
std::string judged(const std::string& head, bool has_room = true) {
    const Asked asked = judge_upgrade(head, ListenOptions{}, has_room);
    if (asked.refusal) return std::to_string(asked.refusal->status);
    return "101 " + asked.path + " " + asked.subprotocol;
}

// `request` with `from` replaced.
std::string with(const std::string& from, const std::string& to,
                 std::string request = upgrade_request()) {
    const std::size_t at = request.find(from);
    REQUIRE(at != std::string::npos);
    return request.replace(at, from.size(), to);
}

constexpr const char* kKey = "dGhlIHNhbXBsZSBub25jZQ==";

std::string response(const std::string& more = "") {
    return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n"
           "Connection: keep-alive, Upgrade\r\n"
           "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" +
           more + "\r\n";
}

std::string refused(const std::string& head, const std::string& asked = "") {
    const Upgraded upgraded = judge_response(head, kKey, asked);
    CHECK(upgraded.is_upgraded == upgraded.failure.reason.empty());
    return upgraded.failure.reason;
}

}  // namespace

TEST_CASE("sha1: the examples of FIPS 180 and every length around a block's end") {
    const auto hex = [](std::string_view text) {
        std::string out;
        for (const unsigned char byte : sha1(text)) {
            out += "0123456789abcdef"[byte / 16];
            out += "0123456789abcdef"[byte % 16];
        }
        return out;
    };
    CHECK(hex("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    CHECK(hex("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d");
    CHECK(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    CHECK(hex(std::string(55, 'a')) == "c1c8bbdc22796e28c0e15163d20899b65621d65a");
    CHECK(hex(std::string(64, 'a')) == "0098ba824b5c16427bd7a1122a5a442a25ec644d");
}

TEST_CASE("Handshake: the accept key of RFC 6455's example") {
    CHECK(accept_of(kKey) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    CHECK(make_key({'t', 'h', 'e', ' ', 's', 'a', 'm', 'p', 'l', 'e', ' ', 'n', 'o', 'n', 'c',
                    'e'}) == kKey);
}

TEST_CASE("Handshake: a request is asked in full and understood at the other end") {
    std::string why;
    const auto url = parse_url("ws://[::1]:9600/ws?token=x", why);
    REQUIRE(url);
    const std::string request = make_request(*url, kKey, "petrel.v1");
    CHECK(request.find("GET /ws?token=x HTTP/1.1\r\nHost: [::1]:9600\r\n") == 0);
    CHECK(judged(request) == "101 /ws petrel.v1");

    const auto plain = parse_url("ws://host/", why);
    CHECK(make_request(*plain, kKey, "").find("Host: host\r\n") != std::string::npos);
    CHECK(judged(make_request(*plain, kKey, "")) == "101 / ");
}

TEST_CASE("Handshake: names, tokens and lists of a request are read as HTTP says") {
    CHECK(judged(with("Upgrade: websocket", "uPGRADE:\tWebSocket \t")) == "101 /ws ");
    CHECK(judged(with("Connection: Upgrade", "Connection: keep-alive , upgrade")) == "101 /ws ");
    CHECK(judged(with("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade")) ==
          "101 /ws ");
    CHECK(
        judged(with("Host",
                    "Sec-WebSocket-Protocol: a,,b\r\nSec-WebSocket-Protocol: petrel.v1\r\nHost")) ==
        "101 /ws petrel.v1");
    CHECK(judged(with("Host", "Sec-WebSocket-Protocol: a b, c\r\nHost")) == "101 /ws c");
    CHECK(judged(with("Host", "Content-Length: 0\r\nHost")) == "101 /ws ");
}

TEST_CASE("Handshake: a request that is not one gets 400") {
    for (const std::string& head : {std::string("\r\n\r\n"),
                                    std::string("garbage\r\n\r\n"),
                                    with("GET /ws HTTP/1.1", "GET /ws HTTP/1.0"),
                                    with("GET /ws", "GET  /ws"),
                                    with("GET /ws", "G@T /ws"),
                                    with("GET /ws", "GET ws"),
                                    with("GET /ws", "GET /w\x01s"),
                                    with("HTTP/1.1", "HTTP/1.1 "),
                                    with("Host: localhost", "Host : localhost"),
                                    with("Host: localhost", ": localhost"),
                                    with("Host: localhost", "Host localhost"),
                                    with("Host: localhost", "Host: localhost\r\n folded"),
                                    with("Host: localhost\r\n", ""),
                                    with("Host: localhost", "Host: a\r\nHost: a"),
                                    with("Host: localhost", "Host: [::1"),
                                    with("Host: localhost", "Host: x:99999999999"),
                                    with("Host: localhost", "Host: x\ny: z"),
                                    with("Host: localhost", std::string("Host: x\0", 8)),
                                    with("Host", "Content-Length: x\r\nHost"),
                                    with("Host", "Content-Length: 0\r\nContent-Length: 0\r\nHost"),
                                    with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
                                    with("ZQ==", "ZQ="),
                                    with("dGhl", "dG=l"),
                                    with("dGhl", "d*hl"),
                                    with("Host", "Origin: http://a\r\nOrigin: http://b\r\nHost")}) {
        CAPTURE(head);
        CHECK(judged(head) == "400");
    }
}

TEST_CASE("Handshake: what is not wanted is refused with the status that says why") {
    CHECK(judged(upgrade_request("/nope")) == "404");
    CHECK(judged(with("GET /ws", "HEAD /ws")) == "405");
    CHECK(judged(upgrade_request(), false) == "503");
    CHECK(judged(upgrade_request("/ws", "8")) == "426");
    CHECK(judged(upgrade_request("/ws", "")) == "426");
    CHECK(judged(with("Upgrade: websocket", "Upgrade: h2c")) == "200");
    CHECK(judged(with("Connection: Upgrade", "Connection: close")) == "200");
    CHECK(judged(with("Host", "Content-Length: 5\r\nHost")) == "413");
    CHECK(judged(with("Host", "Transfer-Encoding: chunked\r\nHost")) == "413");
    CHECK(judged("POST / HTTP/1.1\r\nHost: x\r\n\r\n") == "405");
    CHECK(make_answer({405, "GET only.\n", "Allow", "GET"}) ==
          "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n"
          "Content-Length: 10\r\nAllow: GET\r\nConnection: close\r\n\r\nGET only.\n");
}

TEST_CASE("Handshake: a client takes what it asked for and nothing else") {
    CHECK(refused(response()) == "");
    CHECK(refused(response("Sec-WebSocket-Protocol: a\r\n"), "a") == "");
    CHECK(refused(response(), "a") == "");
    CHECK(judge_response(response("Sec-WebSocket-Protocol: a\r\n"), kKey, "a").subprotocol == "a");
    for (const std::string& head :
         {std::string("SSH-2.0-OpenSSH\r\n\r\n"), std::string("HTTP/1.1 101 X\r\n\r\n"),
          std::string("HTTP/1.1 1O1 X\r\n\r\n"), std::string("HTTP/2 101 X\r\n\r\n"),
          with("s3pP", "s3pQ", response()), with("Upgrade: WebSocket", "Upgrade: x", response()),
          with(", Upgrade", "", response()), response("Sec-WebSocket-Protocol: b\r\n"),
          response("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n"),
          response("Sec-WebSocket-Extensions: permessage-deflate\r\n"), response(" folded\r\n")}) {
        CAPTURE(head);
        CHECK(refused(head, "a") != "");
        CHECK(judge_response(head, kKey, "a").failure.http_status == 0);
    }
}

TEST_CASE("Handshake: the end of a head is found wherever it was cut") {
    const std::string head = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const std::string text = head + "more";
    for (std::size_t searched = 0; searched < head.size(); ++searched) {
        CHECK(find_http_head_end(text, searched) == head.size());
        CHECK(!find_http_head_end(text.substr(0, searched), searched / 2));
    }
}
