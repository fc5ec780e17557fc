#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/transport/world.hpp"

// What transport/transport.hpp promises, on every implementation.

using namespace petrel;
using namespace petrel::test;

TEST_CASE_TEMPLATE("Transport: the server echoes the subprotocol", Kind, ALL_KINDS) {
    World<Kind> world;
    SUBCASE("petrel.v1") { world.connect_options.subprotocol = "petrel.v1"; }
    SUBCASE("none") { world.connect_options.subprotocol = ""; }
    SUBCASE("one that nobody knows") { world.connect_options.subprotocol = "x-custom"; }

    world.open();

    CHECK(world.client().handler.subprotocol == world.connect_options.subprotocol);
    CHECK(world.server().peer.subprotocol == world.connect_options.subprotocol);
}

TEST_CASE_TEMPLATE("Transport: the listener tells who came and where to", Kind, ALL_KINDS) {
    World<Kind> world;
    world.path = "/websocket?x=1";

    world.open();

    CHECK(world.server().peer.path == "/websocket");
    CHECK(!world.server().peer.address.empty());
}

TEST_CASE_TEMPLATE("Transport: a URL without a path means /", Kind, ALL_KINDS) {
    World<Kind> world;
    world.path = "";

    world.open();

    CHECK(world.server().peer.path == "/");
}

TEST_CASE_TEMPLATE("Transport: texts arrive whole and in order, both ways", Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();
    constexpr std::size_t kSizes[] = {0, 1, 125, 126, 127, 4096, 65'535, 65'536, 65'537};
    std::vector<std::string> sent;
    for (std::size_t i = 0; i < 1000; ++i) {
        const std::size_t size = i == 500 ? 300'000 : i % 100 == 0 ? kSizes[i / 100 % 9] : i % 300;
        sent.push_back(std::string(size, static_cast<char>('a' + i % 26)));
    }

    for (const std::string& text : sent) {
        world.client().transport->send(text);
        world.server().transport->send(text);
    }
    REQUIRE(world.run_until([&] {
        return world.client().handler.texts.size() == sent.size() &&
               world.server().handler.texts.size() == sent.size();
    }));

    CHECK(world.client().handler.texts == sent);
    CHECK(world.server().handler.texts == sent);
}

TEST_CASE_TEMPLATE("Transport: every size at the edges of the frame header arrives", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    world.open();
    for (const std::size_t size : {std::size_t{0}, std::size_t{125}, std::size_t{126},
                                   std::size_t{65'535}, std::size_t{65'536}}) {
        const std::string text(size, 'x');
        world.client().handler.texts.clear();
        world.server().handler.texts.clear();

        world.client().transport->send(text);
        world.server().transport->send(text);

        REQUIRE(world.run_until([&] {
            return world.client().handler.texts.size() == 1 &&
                   world.server().handler.texts.size() == 1;
        }));
        CHECK(world.client().handler.texts[0] == text);
        CHECK(world.server().handler.texts[0] == text);
    }
}

TEST_CASE_TEMPLATE("Transport: what on_accept sends follows on_open", Kind, ALL_KINDS) {
    World<Kind> world;
    world.accepted.when_accepted = [](Side& side) { side.transport->send("welcome"); };
    world.open();

    CHECK(world.run_until([&] { return !world.client().handler.texts.empty(); }));
}

TEST_CASE_TEMPLATE("Transport: no handler is called from inside a call", Kind, ALL_KINDS) {
    World<Kind> world;
    world.listen();
    auto side = world.connect();
    bool is_inside = false;
    const auto check = [&] { CHECK(!is_inside); };
    side->handler.when_open = side->handler.when_text = check;
    side->handler.when_drained = side->handler.when_closed = check;
    REQUIRE(world.run_until([&] { return side->handler.is_open; }));

    is_inside = true;
    side->transport->send("text");
    side->transport->close(1000, "");
    is_inside = false;

    CHECK(world.run_until_closed(*side));
}

TEST_CASE_TEMPLATE("Transport: queued_bytes rises with send() and falls to on_drained", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    world.open();
    Side& client = world.client();
    CHECK(client.transport->queued_bytes() == 0);
    const std::string text(10'000, 'x');
    std::size_t left = 1;
    client.handler.when_drained = [&] {
        left = client.transport->queued_bytes() + client.transport->queued_packets();
    };

    for (int i = 0; i < 100; ++i) client.transport->send(text);
    CHECK(client.transport->queued_bytes() == 1'000'000);
    CHECK(client.transport->queued_packets() == 100);
    REQUIRE(world.run_until(
        [&] { return client.handler.drained > 0 && world.server().handler.texts.size() == 100; }));

    CHECK(left == 0);
    CHECK(client.handler.drained == 1);
}

TEST_CASE_TEMPLATE("Transport: each time the queue empties on_drained comes once", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    world.open();
    for (int round = 1; round <= 3; ++round) {
        world.client().transport->send("text");
        REQUIRE(world.run_until([&] { return world.client().handler.drained >= round; }));
        world.settle();
        CHECK(world.client().handler.drained == round);
    }
}

TEST_CASE_TEMPLATE("Transport: on_drained may send again", Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();
    Side& client = world.client();
    client.handler.when_drained = [&] {
        if (client.handler.drained < 10) client.transport->send("more");
    };

    client.transport->send("first");

    CHECK(world.run_until([&] { return world.server().handler.texts.size() == 10; }));
}

TEST_CASE_TEMPLATE("Transport: code and reason of a close reach both sides", Kind, ALL_KINDS) {
    World<Kind> world;
    const std::uint16_t codes[] = {1000, 1001, 1011, 3000, 4000, 4004, 4007, 4999};
    for (const std::uint16_t code : codes) {
        for (const bool is_by_client : {true, false}) {
            world.open();
            Side& closer = is_by_client ? world.client() : world.server();
            Side& other = is_by_client ? world.server() : world.client();

            closer.transport->close(code, "because");
            REQUIRE(world.run_until_closed(closer));
            REQUIRE(world.run_until_closed(other));

            CHECK(other.handler.closed->code == code);
            CHECK(other.handler.closed->reason == "because");
            CHECK(other.handler.closed->was_open);
            CHECK(closer.handler.closed->code == code);
            CHECK(closer.handler.closed->was_open);
        }
    }
}

TEST_CASE_TEMPLATE("Transport: a code that may not be sent becomes 1000", Kind, ALL_KINDS) {
    World<Kind> world;
    for (const std::uint16_t code : {0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65'535}) {
        world.open();

        world.client().transport->close(code, "");
        REQUIRE(world.run_until_closed(world.server()));

        CHECK(world.server().handler.closed->code == 1000);
    }
}

TEST_CASE_TEMPLATE("Transport: a long reason is cut at 123 bytes, between characters", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    world.open();
    std::string sent, arriving;
    SUBCASE("123 bytes") { sent = arriving = std::string(123, 'r'); }
    SUBCASE("124 bytes") {
        sent = std::string(124, 'r');
        arriving = std::string(123, 'r');
    }
    SUBCASE("a character across the limit") {
        sent = std::string(122, 'r') + "\xc3\xbc and more";
        arriving = std::string(122, 'r');
    }

    world.client().transport->close(1000, sent);
    REQUIRE(world.run_until_closed(world.server()));

    CHECK(world.server().handler.closed->code == 1000);
    CHECK(world.server().handler.closed->reason == arriving);
}

TEST_CASE_TEMPLATE("Transport: what was sent ahead of close() arrives, what follows is ignored",
                   Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();
    const std::string large(200'000, 'x');

    world.client().transport->send(large);
    world.client().transport->send("last");
    world.client().transport->close(1000, "");
    world.client().transport->send("too late");
    REQUIRE(world.run_until_closed(world.server()));

    CHECK(world.server().handler.texts == std::vector<std::string>{large, "last"});
}

TEST_CASE_TEMPLATE("Transport: a second close() is ignored", Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();

    world.client().transport->close(4001, "first");
    world.client().transport->close(4002, "second");
    REQUIRE(world.run_until_closed(world.server()));
    REQUIRE(world.run_until_closed(world.client()));
    world.client().transport->close(4003, "third");
    world.client().transport->send("nothing");
    world.settle();

    CHECK(world.server().handler.closed->code == 4001);
    CHECK(world.client().transport->queued_bytes() == 0);
}

TEST_CASE_TEMPLATE("Transport: both sides may close at once", Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();

    world.client().transport->close(4001, "client");
    world.server().transport->close(4002, "server");

    CHECK(world.run_until_closed(world.client()));
    CHECK(world.run_until_closed(world.server()));
}

TEST_CASE_TEMPLATE("Transport: no text arrives after one's own close()", Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();
    Side& client = world.client();
    client.handler.when_text = [&] { client.transport->close(1000, ""); };

    for (int i = 0; i < 10; ++i) world.server().transport->send("text");
    REQUIRE(world.run_until_closed(client));

    CHECK(client.handler.texts.size() == 1);
}

TEST_CASE_TEMPLATE("Transport: destroyed without close() the peer sees 1006", Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();
    Side& client = world.client();
    Side& server = world.server();
    SUBCASE("the client") {
        client.transport.reset();
        REQUIRE(world.run_until_closed(server));
        CHECK(server.handler.closed->code == 1006);
        CHECK(server.handler.closed->was_open);
        CHECK(!client.handler.closed);
    }
    SUBCASE("the server") {
        server.transport.reset();
        REQUIRE(world.run_until_closed(client));
        CHECK(client.handler.closed->code == 1006);
        CHECK(client.handler.closed->was_open);
        CHECK(!server.handler.closed);
    }
}

TEST_CASE_TEMPLATE("Transport: destroyed after close() what was queued still arrives", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    world.open();
    const std::string large(300'000, 'x');
    for (int i = 0; i < 10; ++i) world.client().transport->send(large);

    world.client().transport->close(4001, "bye");
    world.client().transport.reset();
    REQUIRE(world.run_until_closed(world.server()));

    CHECK(world.server().handler.texts.size() == 10);
    CHECK(world.server().handler.closed->code == 4001);
    CHECK(!world.client().handler.closed);
}

TEST_CASE_TEMPLATE("Transport: it may be destroyed from inside any handler call", Kind, ALL_KINDS) {
    World<Kind> world;
    world.listen();
    auto side = world.connect();
    int calls = 0;
    const auto destroy = [&] {
        ++calls;
        side->transport.reset();
    };
    const auto is_open = [&] { return side->handler.is_open && !world.accepted.sides.empty(); };
    SUBCASE("on_open") { side->handler.when_open = destroy; }
    SUBCASE("on_text") {
        side->handler.when_text = destroy;
        REQUIRE(world.run_until(is_open));
        for (int i = 0; i < 3; ++i) world.server().transport->send("text");
    }
    SUBCASE("on_drained") {
        side->handler.when_drained = destroy;
        REQUIRE(world.run_until(is_open));
        side->transport->send("text");
    }
    SUBCASE("on_closed") {
        side->handler.when_closed = destroy;
        REQUIRE(world.run_until(is_open));
        side->transport->close(1000, "");
    }

    REQUIRE(world.run_until([&] { return calls > 0; }));
    REQUIRE(world.run_until([&] {
        return !world.accepted.sides.empty() && world.server().handler.closed.has_value();
    }));
    world.settle();

    CHECK(calls == 1);
}

TEST_CASE_TEMPLATE("Transport: an accepted one may be dropped, or closed, in on_accept", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    std::uint16_t code = 0;
    SUBCASE("dropped") {
        code = 1006;
        world.accepted.when_accepted = [](Side& side) { side.transport.reset(); };
    }
    SUBCASE("closed") {
        code = 4001;
        world.accepted.when_accepted = [](Side& side) { side.transport->close(4001, ""); };
    }
    world.listen();
    const auto side = world.connect();

    REQUIRE(world.run_until_closed(*side));

    CHECK(side->handler.is_open);
    CHECK(side->handler.closed->code == code);
}

TEST_CASE_TEMPLATE("Transport: a port where nobody listens is reported by on_closed", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    world.listen();
    world.listener->stop();

    const auto side = world.connect();
    CHECK(!side->handler.closed);
    REQUIRE(world.run_until_closed(*side));

    CHECK(!side->handler.is_open);
    CHECK(!side->handler.closed->was_open);
    CHECK(side->handler.closed->code == 1006);
    CHECK(side->handler.closed->http_status == 0);
    CHECK(side->handler.closed->reason.find("refused") != std::string::npos);
}

TEST_CASE_TEMPLATE("Transport: an unusable URL is reported by on_closed", Kind, ALL_KINDS) {
    World<Kind> world;
    for (const char* url : {"", "ws://", "ws:///ws", "http://127.0.0.1/", "ws://127.0.0.1:0/",
                            "ws://127.0.0.1:65536/", "ws://127.0.0.1:99x/", "ws://127.0.0.1:/",
                            "ws://user@127.0.0.1/", "ws://[::1/", "ws://[127.0.0.1]/",
                            "ws://[::1]x/", "ws://127.0.0.1/#here", "ws://127.0.0.1/a b",
                            "ws://127.0.0.1/\r\nX: y", "ws://127.0.0.1/\xc3\xbc"}) {
        CAPTURE(url);
        ConnectOptions options;
        options.url = url;
        Side side;
        side.transport = world.connector->connect(options, side.handler);
        CHECK(!side.handler.closed);

        REQUIRE(world.run_until_closed(side));

        CHECK(!side.handler.closed->was_open);
        CHECK(side.handler.closed->code == 1006);
        CHECK(side.handler.closed->reason.find("URL") != std::string::npos);
    }
}

TEST_CASE_TEMPLATE("Transport: a subprotocol that is not a token is reported by on_closed", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    world.listen();
    world.connect_options.subprotocol = "a, b\r\nX: y";

    const auto side = world.connect();
    REQUIRE(world.run_until_closed(*side));

    CHECK(side->handler.closed->reason.find("subprotocol") != std::string::npos);
}

TEST_CASE_TEMPLATE("Transport: an unknown path is refused with 404", Kind, ALL_KINDS) {
    World<Kind> world;
    world.listen();
    world.path = "/nowhere";

    const auto side = world.connect();
    REQUIRE(world.run_until_closed(*side));

    CHECK(side->handler.closed->http_status == 404);
    CHECK(!side->handler.closed->was_open);
    CHECK(side->handler.closed->code == 1006);
    CHECK(world.accepted.sides.empty());
}

TEST_CASE_TEMPLATE("Transport: beyond connections_max comes 503, and room when one leaves", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    ConnectionLimits::Options limits;
    SUBCASE("0") {
        limits.connections_max = 0;
        world.listen_options.limits = std::make_shared<ConnectionLimits>(limits);
        world.listen();
        const auto side = world.connect();
        REQUIRE(world.run_until_closed(*side));
        CHECK(side->handler.closed->http_status == 503);
    }
    SUBCASE("1") {
        limits.connections_max = 1;
        world.listen_options.limits = std::make_shared<ConnectionLimits>(limits);
        world.open();
        const auto side = world.connect();
        REQUIRE(world.run_until_closed(*side));
        CHECK(side->handler.closed->http_status == 503);

        world.client().transport->close(1000, "");
        REQUIRE(world.run_until_closed(world.client()));
        REQUIRE(world.run_until_closed(world.server()));
        world.open();
        CHECK(world.client().handler.is_open);
    }
}

TEST_CASE_TEMPLATE("Transport: who has logged in makes room for the next stranger", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    ConnectionLimits::Options limits;
    limits.before_login_max = 1;
    world.listen_options.limits = std::make_shared<ConnectionLimits>(limits);
    world.open();
    const auto refused = world.connect();
    REQUIRE(world.run_until_closed(*refused));
    CHECK(refused->handler.closed->http_status == 503);

    const auto place = world.server().peer.place.lock();
    REQUIRE(place);
    place->on_login();
    world.open();
    CHECK(world.client().handler.is_open);
}

TEST_CASE_TEMPLATE("Transport: a message above frame_bytes_max closes with 1009", Kind, ALL_KINDS) {
    World<Kind> world;
    constexpr std::size_t kMax = 1000;
    SUBCASE("at the server") {
        world.listen_options.frame_bytes_max = kMax;
        world.open();
        world.client().transport->send(std::string(kMax, 'x'));
        REQUIRE(world.run_until([&] { return world.server().handler.texts.size() == 1; }));
        world.client().transport->send(std::string(kMax + 1, 'x'));
    }
    SUBCASE("at the client") {
        world.connect_options.frame_bytes_max = kMax;
        world.open();
        world.server().transport->send(std::string(kMax, 'x'));
        REQUIRE(world.run_until([&] { return world.client().handler.texts.size() == 1; }));
        world.server().transport->send(std::string(kMax + 1, 'x'));
    }
    SUBCASE("far above, with more behind it") {
        world.listen_options.frame_bytes_max = kMax;
        world.open();
        for (int i = 0; i < 4; ++i) world.client().transport->send(std::string(1'000'000, 'x'));
    }
    SUBCASE("0 lets nothing through") {
        world.listen_options.frame_bytes_max = 0;
        world.open();
        world.client().transport->send("x");
    }

    REQUIRE(world.run_until_closed(world.client()));
    REQUIRE(world.run_until_closed(world.server()));

    CHECK(world.client().handler.closed->code == 1009);
    CHECK(world.server().handler.closed->code == 1009);
}

TEST_CASE_TEMPLATE("Transport: text that is not UTF-8 closes with 1007", Kind, ALL_KINDS) {
    World<Kind> world;
    for (const char* text : {"\xff", "\xc3", "a\xe2\x82", "\xc0\xaf", "\xed\xa0\x80"}) {
        world.open();

        world.client().transport->send(text);
        REQUIRE(world.run_until_closed(world.client()));
        REQUIRE(world.run_until_closed(world.server()));

        CHECK(world.client().handler.closed->code == 1007);
        CHECK(world.server().handler.texts.empty());
    }
}

TEST_CASE_TEMPLATE("Listener: stop() refuses new ones and keeps the old", Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();
    Side& client = world.client();

    world.listener->stop();
    world.listener->stop();
    const auto refused = world.connect();
    REQUIRE(world.run_until_closed(*refused));
    client.transport->send("still here");
    REQUIRE(world.run_until([&] { return world.server().handler.texts.size() == 1; }));

    CHECK(world.accepted.sides.size() == 1);
    CHECK(!client.handler.closed);
}

TEST_CASE_TEMPLATE("Listener: it may be destroyed in on_accept", Kind, ALL_KINDS) {
    World<Kind> world;
    world.accepted.when_accepted = [&](Side& side) {
        world.listener.reset();
        side.transport->send("alone");
    };
    world.listen();
    const auto side = world.connect();

    CHECK(world.run_until([&] { return side->handler.texts.size() == 1; }));
}

TEST_CASE_TEMPLATE("Listener: a port in use is an error that names it", Kind, ALL_KINDS) {
    World<Kind> world;
    world.listen();
    ListenOptions options;
    options.port = world.port;
    const auto second = world.kind.make_listener();

    const auto result = second->listen(options, world.accepted);

    CHECK(!result);
    CHECK(result.error() == std::errc::address_in_use);
    CHECK(second->last_error().find(":" + std::to_string(world.port)) != std::string::npos);
}

TEST_CASE_TEMPLATE("Listener: listening twice is an error, after stop() it is not", Kind,
                   ALL_KINDS) {
    World<Kind> world;
    world.listen();

    CHECK(!world.listener->listen(world.listen_options, world.accepted));
    CHECK(!world.listener->last_error().empty());
    world.listener->stop();
    const auto again = world.listener->listen(world.listen_options, world.accepted);
    REQUIRE(static_cast<bool>(again));
    world.port = *again;

    world.open();
}

TEST_CASE_TEMPLATE("Listener: reuse_port lets several share a port", Kind, ALL_KINDS) {
    World<Kind> world;
    world.listen_options.reuse_port = true;
    world.listen();
    world.listen_options.port = world.port;
    const auto second = world.kind.make_listener();

    CHECK(static_cast<bool>(second->listen(world.listen_options, world.accepted)));
    for (int i = 0; i < 10; ++i) world.open();
}

TEST_CASE_TEMPLATE("Transport: a hundred connections at once", Kind, ALL_KINDS) {
    World<Kind> world;
    world.accepted.when_accepted = [](Side& side) {
        side.handler.when_text = [&side] { side.transport->send(side.handler.texts.back()); };
    };
    world.listen();
    std::vector<std::unique_ptr<Side>> sides;
    for (int i = 0; i < 100; ++i) {
        sides.push_back(world.connect());
        Side& side = *sides.back();
        side.handler.when_open = [&side, i] { side.transport->send(std::to_string(i)); };
    }

    REQUIRE(world.run_until([&] {
        return std::all_of(sides.begin(), sides.end(),
                           [](const auto& side) { return side->handler.texts.size() == 1; });
    }));

    for (std::size_t i = 0; i < sides.size(); ++i) {
        CHECK(sides[i]->handler.texts[0] == std::to_string(i));
    }
}

TEST_CASE_TEMPLATE("Transport: close() ahead of on_open abandons the attempt", Kind, ALL_KINDS) {
    World<Kind> world;
    world.listen();
    const auto side = world.connect();
    side->transport->send("nowhere");

    side->transport->close(1000, "changed my mind");
    CHECK(!side->handler.closed);
    REQUIRE(world.run_until_closed(*side));
    world.settle();

    CHECK(!side->handler.is_open);
    CHECK(!side->handler.closed->was_open);
    CHECK(side->handler.closed->code == 1006);
    CHECK(world.accepted.sides.empty());
}

TEST_CASE_TEMPLATE("Transport: destroyed ahead of on_open nothing is reported", Kind, ALL_KINDS) {
    World<Kind> world;
    world.listen();
    const auto side = world.connect();

    side->transport.reset();
    world.settle();

    CHECK(!side->handler.is_open);
    CHECK(!side->handler.closed);
}

TEST_CASE_TEMPLATE("Transport: connections in every state go with their world", Kind, ALL_KINDS) {
    World<Kind> world;
    world.open();
    world.open();
    world.client().transport->send(std::string(1'000'000, 'x'));
    world.client().transport->close(1000, "");
    world.open();
    world.client().transport->send(std::string(1'000'000, 'x'));
    world.clients.push_back(world.connect());

    world.connector.reset();
}
