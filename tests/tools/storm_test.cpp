#include "tools/petrel/storm_proxy.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/tools/virtual_loop.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/loopback.hpp"
#include "transport/native_client.hpp"
#include "transport/native_server.hpp"

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;
using test::VirtualLoop;

constexpr std::uint16_t kTargetPort = 2000;

// One end of a connection that writes down what comes.
class Peer final : public Transport::Handler {
public:
    void on_open(std::string_view chosen) override {
        is_open = true;
        subprotocol = chosen;
    }
    void on_text(std::string_view text) override { texts.emplace_back(text); }
    void on_binary(std::size_t) override {}
    void on_drained() override {}
    void on_closed(const CloseInfo& info) override { closed = info; }

    void send(std::string_view text) { transport->send(text); }

    std::unique_ptr<Transport> transport;
    bool is_open = false;
    std::string subprotocol;
    std::vector<std::string> texts;
    std::optional<CloseInfo> closed;
};

// The target of a storm: keeps every connection it accepts.
class Target final : public Listener::Handler {
public:
    void on_accept(std::unique_ptr<Transport> transport, const PeerInfo& info) override {
        auto peer = std::make_unique<Peer>();
        peer->subprotocol = info.subprotocol;
        transport->set_handler(*peer);
        peer->transport = std::move(transport);
        peers.push_back(std::move(peer));
    }

    std::vector<std::unique_ptr<Peer>> peers;
};

// A target and a storm in front of it, on a network in memory, in virtual time.
class StormWorld {
public:
    explicit StormWorld(Faults faults = {}, std::size_t queued_bytes_max = 16 * 1024 * 1024,
                        std::uint64_t seed = 1) {
        options_.target_url = "ws://loopback:" + std::to_string(kTargetPort) + "/ws";
        options_.faults = faults;
        options_.seed = seed;
        options_.queued_bytes_max = queued_bytes_max;
        ListenOptions listen;
        listen.port = kTargetPort;
        REQUIRE(target_listener_->listen(listen, target));
        storm = std::make_unique<Storm>(loop, *storm_listener_, *connector_, options_);
        REQUIRE(storm->start());
    }

    std::unique_ptr<Peer> connect(const std::string& subprotocol = "petrel.v1") {
        auto client = std::make_unique<Peer>();
        ConnectOptions options;
        options.url = "ws://loopback:" + std::to_string(storm->port()) + "/ws";
        options.subprotocol = subprotocol;
        client->transport = connector_->connect(options, *client);
        loop.settle();
        return client;
    }
    Peer& far_end(std::size_t i = 0) { return *target.peers.at(i); }
    void close_target() { target_listener_->stop(); }

    // What arrives of `count` packets "0", "1", ... sent at once, after all delays.
    std::vector<std::string> send_many(Peer& from, Peer& to, int count) {
        for (int i = 0; i < count; ++i) from.send(std::to_string(i));
        loop.advance(1min);
        return to.texts;
    }

    VirtualLoop loop;
    LoopbackNetwork network{loop};
    Target target;

private:
    std::unique_ptr<Listener> target_listener_ = network.make_listener();
    std::unique_ptr<Listener> storm_listener_ = network.make_listener();
    std::unique_ptr<Connector> connector_ = network.make_connector();
    Storm::Options options_;

public:
    std::unique_ptr<Storm> storm;  // Last: it uses the others until it is gone.
};

TEST_CASE("Storm: without faults packets pass both ways in order, with the subprotocol") {
    StormWorld world;
    const auto client = world.connect();
    CHECK(client->subprotocol == "petrel.v1");
    CHECK(world.far_end().subprotocol == "petrel.v1");
    CHECK(world.send_many(*client, world.far_end(), 3) == std::vector<std::string>{"0", "1", "2"});
    CHECK(world.send_many(world.far_end(), *client, 2) == std::vector<std::string>{"0", "1"});
    CHECK(world.storm->stats().packets == 5);
    CHECK(world.storm->stats().forwarded == 5);
}

TEST_CASE("Storm: what a client sends before the target answers waits for it") {
    StormWorld world;
    auto client = std::make_unique<Peer>();
    const auto connector = world.network.make_connector();
    ConnectOptions options;
    options.url = "ws://loopback:" + std::to_string(world.storm->port()) + "/ws";
    client->transport = connector->connect(options, *client);
    while (!client->is_open) world.loop.settle();
    client->send("early");
    world.loop.settle();
    CHECK(world.far_end().texts == std::vector<std::string>{"early"});
}

TEST_CASE("Storm: a share of 1 drops every packet") {
    Faults faults;
    faults.drop = 1;
    StormWorld world(faults);
    const auto client = world.connect();
    CHECK(world.send_many(*client, world.far_end(), 10).empty());
    CHECK(world.storm->stats().dropped == 10);
    CHECK(world.storm->stats().forwarded == 0);
}

TEST_CASE("Storm: a share of 1 duplicates every packet, the copies side by side") {
    Faults faults;
    faults.duplicate = 1;
    StormWorld world(faults);
    const auto client = world.connect();
    CHECK(world.send_many(*client, world.far_end(), 2) ==
          std::vector<std::string>{"0", "0", "1", "1"});
    CHECK(world.storm->stats().duplicated == 2);
}

TEST_CASE("Storm: a packet arrives after its delay and not before") {
    Faults faults;
    faults.delay = 20ms;
    StormWorld world(faults);
    const auto client = world.connect();
    client->send("a");
    world.loop.advance(20ms - 1ns);
    CHECK(world.far_end().texts.empty());
    world.loop.advance(1ns);
    CHECK(world.far_end().texts.size() == 1);
    CHECK(world.storm->stats().delayed == 1);
}

TEST_CASE("Storm: delays with jitter never reorder") {
    Faults faults;
    faults.delay = 1ms;
    faults.jitter = 50ms;
    faults.duplicate = 0.3;
    StormWorld world(faults);
    const auto client = world.connect();
    const auto arrived = world.send_many(*client, world.far_end(), 200);
    REQUIRE(arrived.size() >= 200);
    for (std::size_t i = 1; i < arrived.size(); ++i) {
        CHECK(std::stoi(arrived[i - 1]) <= std::stoi(arrived[i]));
    }
}

TEST_CASE("Storm: the same seed makes the same decisions, another one does not") {
    Faults faults;
    faults.drop = 0.5;
    const auto run = [&](std::uint64_t seed) {
        StormWorld world(faults, 1024 * 1024, seed);
        const auto client = world.connect();
        return world.send_many(*client, world.far_end(), 100);
    };
    CHECK(run(7) == run(7));
    CHECK(run(7) != run(8));
}

TEST_CASE("Storm: each connection and direction has its own dice") {
    Faults faults;
    faults.drop = 0.5;
    StormWorld world(faults);
    const auto first = world.connect();
    const auto second = world.connect();
    const auto up = world.send_many(*first, world.far_end(0), 100);
    CHECK(up != world.send_many(*second, world.far_end(1), 100));
    CHECK(up != world.send_many(world.far_end(0), *first, 100));
}

TEST_CASE("Storm dice: other shares leave the remaining decisions as they were") {
    Faults none;
    none.jitter = 1s;
    Faults some = none;
    some.drop = 0.5;
    some.duplicate = 0.5;
    FaultDice calm(1, 2, Direction::kToTarget);
    FaultDice wild(1, 2, Direction::kToTarget);
    for (int i = 0; i < 100; ++i) CHECK(calm.next(none).delay == wild.next(some).delay);
}

TEST_CASE("Storm dice: drops come as often as asked for") {
    Faults faults;
    faults.drop = 0.1;
    FaultDice dice(1, 1, Direction::kToClient);
    int dropped = 0;
    for (int i = 0; i < 10'000; ++i) dropped += dice.next(faults).is_dropped ? 1 : 0;
    CHECK(dropped > 900);
    CHECK(dropped < 1100);
}

TEST_CASE("Storm: a client's close passes with code and reason, behind its packets") {
    Faults faults;
    faults.delay = 10ms;
    StormWorld world(faults);
    const auto client = world.connect();
    client->send("last");
    client->transport->close(4321, "enough");
    world.loop.advance(1s);
    CHECK(world.far_end().texts == std::vector<std::string>{"last"});
    REQUIRE(world.far_end().closed);
    CHECK(world.far_end().closed->code == 4321);
    CHECK(world.far_end().closed->reason == "enough");
    CHECK(world.storm->connection_count() == 0);
}

TEST_CASE("Storm: the target's close passes with code and reason") {
    StormWorld world;
    const auto client = world.connect();
    world.far_end().transport->close(4004, "kicked");
    world.loop.advance(1s);
    REQUIRE(client->closed);
    CHECK(client->closed->code == 4004);
    CHECK(client->closed->reason == "kicked");
    CHECK(world.storm->connection_count() == 0);
}

TEST_CASE("Storm: a cut passes as a cut") {
    StormWorld world;
    const auto client = world.connect();
    world.far_end().transport.reset();
    world.loop.advance(1s);
    REQUIRE(client->closed);
    CHECK(client->closed->code == 1006);
}

TEST_CASE("Storm: both sides gone at once leave nothing behind") {
    Faults faults;
    faults.delay = 1s;
    StormWorld world(faults);
    const auto client = world.connect();
    client->send("a");
    client->transport.reset();
    world.far_end().transport.reset();
    world.loop.advance(10ms);
    CHECK(world.storm->connection_count() == 0);
}

TEST_CASE("Storm: no way to the target closes the client with 1013") {
    StormWorld world;
    world.close_target();
    const auto client = world.connect();
    world.loop.advance(1s);
    REQUIRE(client->closed);
    CHECK(client->closed->code == 1013);
    CHECK(world.storm->stats().unreachable == 1);
    CHECK(world.storm->connection_count() == 0);
}

TEST_CASE("Storm: a target that moved is found by the next connection") {
    StormWorld world;
    world.storm->set_target("ws://loopback:1/ws");
    const auto lost = world.connect();
    CHECK(lost->closed);
    world.storm->set_target("ws://loopback:" + std::to_string(kTargetPort) + "/ws");
    const auto client = world.connect();
    client->send("a");
    world.loop.settle();
    CHECK(world.far_end().texts.size() == 1);
}

TEST_CASE("Storm: a reset cuts both sides between half and 1.5 times its interval") {
    Faults faults;
    faults.reset_every = 10s;
    StormWorld world(faults);
    const auto client = world.connect();
    world.loop.advance(5s - 1ms);
    CHECK_FALSE(client->closed);
    world.loop.advance(10s + 2ms);
    REQUIRE(client->closed);
    REQUIRE(world.far_end().closed);
    CHECK(client->closed->code == 1006);
    CHECK(world.far_end().closed->code == 1006);
    CHECK(world.storm->stats().resets == 1);
}

TEST_CASE("Storm: a stall holds both directions, then lets everything go in order") {
    Faults faults;
    faults.stall_every = 10s;
    faults.stall = 30s;
    StormWorld world(faults);
    const auto client = world.connect();
    world.loop.advance(16s);
    REQUIRE(world.storm->stats().stalls == 1);
    client->send("a");
    client->send("b");
    world.far_end().send("c");
    world.loop.advance(15s);
    CHECK(world.far_end().texts.empty());
    CHECK(client->texts.empty());
    world.loop.advance(15s);
    CHECK(world.far_end().texts == std::vector<std::string>{"a", "b"});
    CHECK(client->texts == std::vector<std::string>{"c"});
}

TEST_CASE("Storm: at its limit of queued bytes a connection lives, past it it is cut") {
    Faults faults;
    faults.delay = 1h;
    constexpr std::size_t kLimit = 64 * 1024;
    StormWorld world(faults, kLimit);
    const auto client = world.connect();
    client->send(std::string(kLimit / 2, 'x'));
    world.loop.settle();
    CHECK(world.storm->connection_count() == 1);
    client->send(std::string(kLimit / 2, 'x'));
    world.loop.settle();
    CHECK(world.storm->connection_count() == 0);
    CHECK(world.storm->stats().overflows == 1);
    CHECK(client->closed);
    CHECK(world.far_end().closed);
}

TEST_CASE("Storm: empty packets count against the limit too") {
    Faults faults;
    faults.delay = 1h;
    StormWorld world(faults, 1024);
    const auto client = world.connect();
    for (int i = 0; i < 1024; ++i) client->send("");
    world.loop.settle();
    CHECK(world.storm->stats().overflows == 1);
}

TEST_CASE("Storm: cut_all resets every connection, and new ones are taken") {
    StormWorld world;
    const auto first = world.connect();
    const auto second = world.connect();
    world.storm->cut_all();
    world.loop.settle();
    CHECK(first->closed);
    CHECK(second->closed);
    CHECK(world.storm->stats().resets == 2);
    CHECK(world.connect()->is_open);
}

TEST_CASE("Storm: faults may change while it blows") {
    StormWorld world;
    const auto client = world.connect();
    Faults faults;
    faults.drop = 1;
    world.storm->set_faults(faults);
    CHECK(world.send_many(*client, world.far_end(), 3).empty());
    world.storm->set_faults({});
    CHECK(world.send_many(*client, world.far_end(), 3).size() == 3);
}

TEST_CASE("Storm: stopped, it cuts all and takes nobody, and may be stopped again") {
    StormWorld world;
    const auto client = world.connect();
    world.storm->stop();
    world.storm->stop();
    world.loop.settle();
    REQUIRE(client->closed);
    CHECK(client->closed->code == 1006);
    CHECK_FALSE(world.connect()->is_open);
}

TEST_CASE("Storm: destroyed with packets on their way, it leaves no calls behind") {
    Faults faults;
    faults.delay = 1s;
    StormWorld world(faults);
    const auto client = world.connect();
    client->send("a");
    world.loop.settle();
    world.storm->cut_all();
    world.storm.reset();
    world.loop.advance(10s);
    CHECK(client->closed);
    CHECK(world.far_end().texts.empty());
}

TEST_CASE("Storm: over real sockets a packet goes there and back, and a close passes") {
    AsioEventLoop loop;
    NativeListener target_listener(loop);
    NativeListener storm_listener(loop);
    NativeConnector connector(loop);

    // Sends back what it gets; closes at "bye".
    class Echo final : public Listener::Handler, public Transport::Handler {
    public:
        void on_accept(std::unique_ptr<Transport> accepted, const PeerInfo&) override {
            transport = std::move(accepted);
            transport->set_handler(*this);
        }
        void on_open(std::string_view) override {}
        void on_text(std::string_view text) override {
            if (text == "bye") return transport->close(4001, "as asked");
            transport->send(text);
        }
        void on_binary(std::size_t) override {}
        void on_drained() override {}
        void on_closed(const CloseInfo&) override {}
        std::unique_ptr<Transport> transport;
    } echo;

    class Client final : public Transport::Handler {
    public:
        explicit Client(AsioEventLoop& event_loop) : loop(event_loop) {}
        void on_open(std::string_view) override { transport->send("hello"); }
        void on_text(std::string_view text) override {
            texts.emplace_back(text);
            transport->send("bye");
        }
        void on_binary(std::size_t) override {}
        void on_drained() override {}
        void on_closed(const CloseInfo& info) override {
            closed = info;
            loop.stop();
        }
        AsioEventLoop& loop;
        std::unique_ptr<Transport> transport;
        std::vector<std::string> texts;
        CloseInfo closed;
    } client(loop);

    const auto target_port = target_listener.listen(ListenOptions{}, echo);
    REQUIRE(target_port);
    Storm::Options options;
    options.target_url = "ws://127.0.0.1:" + std::to_string(*target_port) + "/ws";
    options.faults.delay = 1ms;
    Storm storm(loop, storm_listener, connector, options);
    const auto port = storm.start();
    REQUIRE(port);
    ConnectOptions connect;
    connect.url = "ws://127.0.0.1:" + std::to_string(*port) + "/ws";
    client.transport = connector.connect(connect, client);
    loop.run();
    CHECK(client.texts == std::vector<std::string>{"hello"});
    CHECK(client.closed.code == 4001);
    CHECK(client.closed.reason == "as asked");
}

}  // namespace
}  // namespace petrel::tools
