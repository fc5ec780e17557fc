#include <doctest/doctest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/transport/raw_peer.hpp"
#include "tests/transport/world.hpp"

// What only sockets have: HTTP, bytes that no client of ours sends, slow peers, addresses.

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

std::size_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    std::size_t all = 0, resident = 0;
    file >> all >> resident;
    return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_TEMPLATE("Listener: a plain GET of a known path shows the page", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    for (const char* path : {"/", "/ws", "/websocket", "/ws?token=x"}) {
        const std::string answer =
            server.answer("GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n");

        CHECK(contains(answer, "HTTP/1.1 200 "));
        CHECK(contains(answer, "text/plain"));
        CHECK(contains(answer, "\r\nContent-Length: 22\r\n"));
        CHECK(contains(answer, "\r\nConnection: close\r\n"));
        CHECK(!contains(answer, "Server:"));
        CHECK(contains(answer, "\r\n\r\nA WebSocket endpoint.\n"));
    }
    CHECK(server.accepted.sides.empty());
}

TEST_CASE_TEMPLATE("Listener: what HTTP it does not serve it refuses", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    const std::string end = " HTTP/1.1\r\nHost: x\r\n\r\n";

    CHECK(contains(server.answer("GET /nope" + end), " 404 "));
    CHECK(contains(server.answer("POST /" + end), " 405 "));
    CHECK(contains(server.answer("GET / HTTP/1.1\r\n\r\n"), " 400 "));
    CHECK(contains(server.answer("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"),
                   " 413 "));
    CHECK(contains(server.answer(upgrade_request("/nope")), " 404 "));
    for (const char* version : {"0", "7", "8", "12"}) {
        // websocketpp knows 7 and 8, and has no better word for the others.
        if (Kind::kIsWebsocketpp && (version[0] == '0' || version[0] == '1')) {
            CHECK(contains(server.answer(upgrade_request("/ws", version) + "12345678"), " 400 "));
            continue;
        }
        const std::string answer = server.answer(upgrade_request("/ws", version));
        CHECK(contains(answer, "Sec-WebSocket-Version: 13"));
        CHECK(contains(answer, " 426 "));
    }
    CHECK(server.accepted.sides.empty());
}

TEST_CASE_TEMPLATE("Listener: pages of other sites are refused when there is a list", Kind,
                   SOCKET_KINDS) {
    Server<Kind> server;
    server.listener->stop();
    server.listen_options.origins = {"https://chat.example"};
    server.listen();
    const auto from = [](const std::string& origin) {
        std::string request = upgrade_request();
        return request.insert(request.find("Upgrade:"), "Origin: " + origin + "\r\n");
    };

    CHECK(contains(server.answer(from("https://evil.example")), "HTTP/1.1 403 Forbidden\r\n"));
    CHECK(server.accepted.sides.empty());
    const auto socket = server.raw();
    socket->send(from("https://chat.example"));
    CHECK(server.run_until([&] { return socket->has("HTTP/1.1 101"); }));
    server.open();  // Who says nothing is no browser.
}

TEST_CASE_TEMPLATE("Listener: headers above their limit are refused", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    server.listener->stop();
    const std::string request = upgrade_request();
    bool is_taken = false;
    SUBCASE("at the limit") {
        server.listen_options.header_bytes_max = request.size();
        is_taken = true;
    }
    SUBCASE("above it") { server.listen_options.header_bytes_max = request.size() - 1; }
    server.listen();
    const auto socket = server.raw();
    socket->send(request);

    CHECK(server.run_until(
        [&] { return socket->has(is_taken ? "HTTP/1.1 101 " : "HTTP/1.1 431 "); }));
}

TEST_CASE_TEMPLATE("Listener: compression is never agreed to", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    std::string request = upgrade_request();
    request.insert(request.find("Upgrade:"), "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    const auto socket = server.raw();
    socket->send(request);

    REQUIRE(server.run_until([&] { return socket->has("\r\n\r\n"); }));

    CHECK(socket->has("HTTP/1.1 101"));
    CHECK(!socket->has("Sec-WebSocket-Extensions"));
}

TEST_CASE_TEMPLATE("Listener: bytes that are no HTTP end the connection", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    for (const std::string& bytes :
         {std::string("\x16\x03\x01\x02\x00\x01\x00\x01", 8), std::string("\r\n\r\n"),
          std::string("garbage\r\n\r\n"), std::string(20'000, 'x'),
          "GET / HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n",
          std::string("GET /ws HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"),
          std::string("GET /ws HTTP/1.1\r\nHost: [::1\r\n\r\n"),
          std::string("GET /ws HTTP/1.1\r\nHost: x:99999999999\r\n\r\n")}) {
        const auto socket = server.raw();
        socket->send(bytes);
        socket->end();
        CHECK(server.run_until([&] { return socket->has_ended(); }));
    }
    server.open();  // It still serves.
}

TEST_CASE_TEMPLATE("Listener: a handshake that takes too long is cut", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    server.listener->stop();
    server.listen_options.handshake_timeout = 20ms;
    SUBCASE("nothing sent") {
        server.listen();
        const auto socket = server.raw();
        CHECK(server.run_until([&] { return socket->has_ended(); }));
        CHECK(socket->in.empty());
    }
    SUBCASE("a byte now and then") {
        server.listen();
        const auto socket = server.raw();
        socket->send("GET /ws HTTP/1.1\r\nHost: x\r\nX: ");
        CHECK(server.run_until([&] {
            socket->send("x");
            return socket->has_ended();
        }));
    }
    SUBCASE("0") {
        server.listen_options.handshake_timeout = 0ms;
        server.listen();
        const auto socket = server.raw();
        CHECK(server.run_until([&] { return socket->has_ended(); }));
    }
    CHECK(server.accepted.sides.empty());
}

TEST_CASE_TEMPLATE("Listener: petrel.v1 is chosen wherever it stands, else the first", Kind,
                   SOCKET_KINDS) {
    Server<Kind> server;
    const auto chosen = [&](const std::string& asked) {
        auto socket = server.raw();
        std::string request = upgrade_request();
        request.insert(request.size() - 2, "Sec-WebSocket-Protocol: " + asked + "\r\n");
        const std::size_t before = server.accepted.sides.size();
        socket->send(request);
        REQUIRE(server.run_until([&] { return server.accepted.sides.size() > before; }));
        return server.accepted.sides.back()->peer.subprotocol;
    };

    CHECK(chosen("petrel.v1") == "petrel.v1");
    CHECK(chosen("a, petrel.v1") == "petrel.v1");
    CHECK(chosen("b, a") == "b");
}

TEST_CASE_TEMPLATE("Listener: the first frame may come with the upgrade", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    const auto socket = server.raw();

    socket->send(upgrade_request() + frame(kText, "early"));

    REQUIRE(server.run_until([&] {
        return !server.accepted.sides.empty() && server.server().handler.texts.size() == 1;
    }));
    CHECK(server.server().handler.texts[0] == "early");
}

TEST_CASE_TEMPLATE("WebSocket: fragments, pings and binaries of a client", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    const auto socket = server.upgraded();

    socket->send(frame(kTextBegin, "in ") + frame(kPing, "are you there") + frame(kEnd, "parts") +
                 frame(kBinary, "12345"));
    REQUIRE(server.run_until([&] { return !server.server().handler.binaries.empty(); }));

    CHECK(server.server().handler.texts == std::vector<std::string>{"in parts"});
    CHECK(server.server().handler.binaries == std::vector<std::size_t>{5});
    CHECK(server.run_until([&] { return socket->has("are you there"); }));
}

TEST_CASE_TEMPLATE("WebSocket: bad frames are answered with the code that names the fault", Kind,
                   SOCKET_KINDS) {
    Server<Kind> server;
    std::string bytes;
    int code = 0;
    SUBCASE("text that is not UTF-8") {
        bytes = frame(kText, "\xff\xfe");
        code = 1007;
    }
    SUBCASE("text that ends inside a character") {
        bytes = frame(kText, "a\xe2\x82");
        code = 1007;
    }
    SUBCASE("fragments that end inside a character") {
        bytes = frame(kTextBegin, "a\xe2") + frame(kEnd, "\x82");
        code = 1007;
    }
    SUBCASE("a length above the limit") {
        bytes = frame(kText, "", 1 << 30);
        code = 1009;
    }
    SUBCASE("fragments above the limit together") {
        bytes = frame(kTextBegin, std::string(1000, 'x')) +
                frame(kEnd, "", server.listen_options.frame_bytes_max);
        code = 1009;
    }
    SUBCASE("a reserved bit") {
        bytes = frame(0xc1, "x");
        code = 1002;
    }
    SUBCASE("a reserved opcode") {
        bytes = frame(0x83, "x");
        code = 1002;
    }
    SUBCASE("no mask") {
        bytes = "\x81\x01x";
        code = 1002;
    }
    SUBCASE("a continuation of nothing") {
        bytes = frame(kEnd, "x");
        code = 1002;
    }
    SUBCASE("a close frame of one byte") {
        bytes = frame(kClose, "x");
        code = 1002;
    }
    const auto socket = server.upgraded();

    socket->send(bytes);
    REQUIRE(server.run_until([&] { return socket->has_ended(); }));
    REQUIRE(server.run_until_closed(server.server()));

    CHECK(close_code(socket->in) == code);
    CHECK(server.server().handler.closed->code == code);
    CHECK(server.server().handler.texts.empty());
}

TEST_CASE_TEMPLATE("WebSocket: a close frame without a code is 1005", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    const auto socket = server.upgraded();

    socket->send(frame(kClose, ""));
    REQUIRE(server.run_until_closed(server.server()));

    CHECK(server.server().handler.closed->code == 1005);
}

TEST_CASE_TEMPLATE("WebSocket: a length that wraps around takes no memory", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    const auto socket = server.upgraded();
    const std::string head(1000, 'x');
    socket->send(frame(0x02, head) + frame(kEnd, "", UINT64_MAX - 500));
    const std::string more(65'536, 'y');
    constexpr std::size_t kSent = std::size_t{160} << 20;
    constexpr std::size_t kGrowthMax = std::size_t{80} << 20;
    const std::size_t before = resident_bytes();
    std::size_t sent = 0;

    REQUIRE(server.run_until([&] {
        while (sent < kSent && socket->send_some(more, sent)) {
        }
        return sent >= kSent || socket->has_ended();
    }));

    CHECK(server.server().handler.binaries.empty());
    CHECK(resident_bytes() < before + kGrowthMax);
}

TEST_CASE_TEMPLATE("WebSocket: pings without reading do not fill the queue", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    const auto socket = server.upgraded(4096);
    std::string pings;
    for (int i = 0; i < 500; ++i) pings += frame(kPing, std::string(125, 'p'));
    std::size_t sent = 0;

    REQUIRE(server.run_until([&] {
        while (sent < (std::size_t{20} << 20) && socket->send_some(pings, sent)) {
        }
        return sent >= (std::size_t{20} << 20);
    }));

    CHECK(!server.server().handler.closed);
}

TEST_CASE_TEMPLATE("WebSocket: queued_bytes stays while the peer does not read, falls in steps",
                   Kind, SOCKET_KINDS) {
    Server<Kind> server;
    const auto socket = server.upgraded(4096);
    Side& side = server.server();
    const std::string text(10'000, 'x');
    for (int i = 0; i < 2000; ++i) side.transport->send(text);
    server.settle();
    const std::size_t stuck = side.transport->queued_bytes();
    CHECK(stuck > 0);
    CHECK(stuck % text.size() == 0);
    CHECK(side.transport->queued_packets() == stuck / text.size());
    CHECK(side.handler.drained == 0);

    std::vector<std::size_t> levels{stuck};
    REQUIRE(server.run_until([&] {
        socket->read();
        const std::size_t level = side.transport->queued_bytes();
        if (level != levels.back()) levels.push_back(level);
        return side.handler.drained > 0;
    }));

    CHECK(levels.size() > 3);
    CHECK(side.transport->queued_bytes() == 0);
    CHECK(side.transport->queued_packets() == 0);
    CHECK(side.handler.drained == 1);
}

TEST_CASE_TEMPLATE("WebSocket: a peer that never answers the close frame is cut", Kind,
                   SOCKET_KINDS) {
    Server<Kind> server;
    const auto told_socket = server.upgraded();
    Side& told = server.server();
    const auto gone_socket = server.upgraded();
    Side& gone = server.server();

    told.transport->close(4002, "silent");
    gone.transport->close(4002, "silent");
    gone.transport.reset();
    REQUIRE(server.run_until([&] {
        return told.handler.closed && told_socket->has_ended() && gone_socket->has_ended();
    }));

    CHECK(told.handler.closed->code == 4002);
    CHECK(told.handler.closed->was_open);
    CHECK(!gone.handler.closed);
    CHECK(close_code(told_socket->in) == 4002);
    CHECK(close_code(gone_socket->in) == 4002);
}

TEST_CASE_TEMPLATE("Connector: a refused upgrade tells status and Retry-After", Kind,
                   SOCKET_KINDS) {
    World<Kind> world;
    RawListener raw;
    world.port = raw.port;
    std::string header;
    std::optional<std::chrono::seconds> expected;
    SUBCASE("seconds") {
        header = "Retry-After: 17\r\n";
        expected = 17s;
    }
    SUBCASE("0") {
        header = "Retry-After: 0\r\n";
        expected = 0s;
    }
    SUBCASE("more than a day") {
        header = "Retry-After: 4000000000\r\n";
        expected = 24h;
    }
    SUBCASE("none") {}
    SUBCASE("not a number") { header = "Retry-After: soon\r\n"; }
    SUBCASE("negative") { header = "Retry-After: -5\r\n"; }
    const auto side = world.connect();
    int fd = -1;
    REQUIRE(world.run_until([&] { return (fd = raw.accept()) >= 0; }));
    RawSocket peer(fd);
    REQUIRE(world.run_until([&] { return peer.has("\r\n\r\n"); }));

    peer.send("HTTP/1.1 429 Too Many Requests\r\n" + header + "Content-Length: 0\r\n\r\n");
    REQUIRE(world.run_until_closed(*side));

    CHECK(side->handler.closed->http_status == 429);
    CHECK(side->handler.closed->retry_after == expected);
    CHECK(side->handler.closed->reason == "the server answered HTTP 429 Too Many Requests");
}

TEST_CASE_TEMPLATE("Connector: an answer that is no upgrade is a failure", Kind, SOCKET_KINDS) {
    World<Kind> world;
    RawListener raw;
    world.port = raw.port;
    std::string answer;
    SUBCASE("garbage") { answer = "SSH-2.0-OpenSSH\r\n\r\n"; }
    SUBCASE("a wrong key") {
        answer =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n";
    }
    SUBCASE("no upgrade header") { answer = "HTTP/1.1 101 Switching Protocols\r\n\r\n"; }
    SUBCASE("an endless header") { answer = "HTTP/1.1 101 X\r\nX: " + std::string(30'000, 'x'); }
    SUBCASE("nothing, then the end") { answer = ""; }
    const auto side = world.connect();
    {
        int fd = -1;
        REQUIRE(world.run_until([&] { return (fd = raw.accept()) >= 0; }));
        RawSocket peer(fd);
        REQUIRE(world.run_until([&] { return peer.has("\r\n\r\n"); }));
        peer.send(answer);
        if (!answer.empty()) {
            REQUIRE(world.run_until([&] { return side->handler.closed || peer.has_ended(); }));
        }
    }
    REQUIRE(world.run_until_closed(*side));

    CHECK(!side->handler.closed->was_open);
    CHECK(side->handler.closed->code == 1006);
    CHECK(side->handler.closed->http_status == 0);
    CHECK(!side->handler.closed->reason.empty());
}

TEST_CASE_TEMPLATE("Connector: a server that says nothing runs into handshake_timeout", Kind,
                   SOCKET_KINDS) {
    World<Kind> world;
    RawListener raw;
    world.port = raw.port;
    SUBCASE("20 ms") { world.connect_options.handshake_timeout = 20ms; }
    SUBCASE("0") { world.connect_options.handshake_timeout = 0ms; }
    SUBCASE("below 0") { world.connect_options.handshake_timeout = -1ms; }

    const auto side = world.connect();
    REQUIRE(world.run_until_closed(*side));

    CHECK(!side->handler.closed->was_open);
    CHECK(contains(side->handler.closed->reason, "no answer within"));
}

TEST_CASE_TEMPLATE("Connector: IPv6 literals and names are addresses too", Kind, SOCKET_KINDS) {
    World<Kind> world;
    std::string host = "127.0.0.1";
    SUBCASE("[::1], listening on ::1") {
        world.listen_options.address = "::1";
        host = "[::1]";
    }
    SUBCASE("[::1], listening on [::1]") {
        world.listen_options.address = "[::1]";
        host = "[::1]";
    }
    SUBCASE("localhost") {
        world.listen_options.address = "localhost";
        host = "localhost";
    }
    SUBCASE("0.0.0.0") { world.listen_options.address = "0.0.0.0"; }
    world.listen();
    ConnectOptions options;
    options.url = "ws://" + host + ":" + std::to_string(world.port) + "/ws";
    Side side;

    side.transport = world.connector->connect(options, side.handler);

    CHECK(world.run_until([&] { return side.handler.is_open; }));
}

TEST_CASE_TEMPLATE("Connector: a name that does not resolve is reported", Kind, SOCKET_KINDS) {
    World<Kind> world;
    ConnectOptions options;
    options.url = "ws://name.invalid/ws";
    options.handshake_timeout = 20s;
    Side side;

    side.transport = world.connector->connect(options, side.handler);
    REQUIRE(world.run_until_closed(side));

    CHECK(contains(side.handler.closed->reason, "name.invalid"));
}

TEST_CASE_TEMPLATE("Connector: a lookup under way holds nothing up", Kind, SOCKET_KINDS) {
    World<Kind> world;
    ConnectOptions options;
    options.url = "ws://name.invalid/ws";
    Side side;
    side.transport = world.connector->connect(options, side.handler);

    side.transport.reset();
    world.settle();

    CHECK(!side.handler.closed);
}

TEST_CASE_TEMPLATE("Listener: out of files it waits and then goes on", Kind, SOCKET_KINDS) {
    Server<Kind> server;
    const auto socket = server.raw();
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit none{0, limit.rlim_max};
    socket->send(upgrade_request());

    setrlimit(RLIMIT_NOFILE, &none);
    const auto later = server.loop.now() + 20ms;
    const bool is_over = server.run_until([&] { return server.loop.now() >= later; });
    setrlimit(RLIMIT_NOFILE, &limit);
    REQUIRE(is_over);
    CHECK(server.accepted.sides.empty());

    CHECK(server.run_until([&] { return server.accepted.sides.size() == 1; }));
}

TEST_CASE_TEMPLATE("Listener: an address that is not ours is an error that names it", Kind,
                   SOCKET_KINDS) {
    World<Kind> world;
    ListenOptions options;
    options.address = "192.0.2.1";  // RFC 5737: nobody's.
    const auto listener = world.kind.make_listener();

    const auto result = listener->listen(options, world.accepted);

    CHECK(!result);
    CHECK(contains(listener->last_error(), "192.0.2.1:0: "));
    CHECK(contains(listener->last_error(), result.error().message()));
}
