// The gateway with its threads, over real sockets.

#include <doctest/doctest.h>
#include <poll.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/gateway/gateway.hpp"
#include "core/store/memory_message_store.hpp"
#include "core/store/sqlite_message_store.hpp"
#include "tests/support/disk_vfs.hpp"
#include "tests/support/gateway_world.hpp"
#include "tests/support/wire_client.hpp"
#include "tests/transport/raw_socket.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "petrel-gateway-XXXXXX").string();
        REQUIRE(mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    std::string file(const std::string& name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

class RunningGateway {
public:
    explicit RunningGateway(GatewayOptions options = {}, const std::string& store_file = "") {
        std::string why;
        std::unique_ptr<MessageStore> store;
        if (store_file.empty()) {
            store = make_memory_message_store(StoreOptions{}, epochs_);
        } else {
            auto opened = open_sqlite_message_store(store_file, StoreOptions{}, epochs_, why);
            REQUIRE_MESSAGE(static_cast<bool>(opened), why);
            store = std::move(*opened);
        }
        gateway_ = std::make_unique<Gateway>(std::move(options), std::move(store),
                                             std::make_unique<OpenAuthenticator>());
        const Result<std::uint16_t> port = gateway_->start(why);
        REQUIRE_MESSAGE(static_cast<bool>(port), why);
        port_ = *port;
    }
    std::uint16_t port() const { return port_; }
    Gateway& operator*() { return *gateway_; }
    Gateway* operator->() { return gateway_.get(); }

private:
    UuidSource epochs_;  // The writer's thread uses it.
    std::unique_ptr<Gateway> gateway_;
    std::uint16_t port_ = 0;
};

GatewayOptions with_shards(unsigned shards) {
    GatewayOptions options;
    options.shards = shards;
    return options;
}

LoginReplyV1 log_in(WireClient& client, const std::string& user,
                    const std::string& device = "phone", const std::string& stream = "") {
    LoginAs as{user, device};
    as.stream = stream.empty() ? "stream-" + user + "-" + device : stream;
    client.send(text_of(as));
    const LoginResponse response = client.await<LoginResponse>();
    REQUIRE(response.v1.has_value());
    return *response.v1;
}

std::unique_ptr<WireClient> online(WireLoop& loop, RunningGateway& gateway, const std::string& user,
                                   const std::string& device = "phone") {
    auto client = std::make_unique<WireClient>(loop, gateway.port());
    log_in(*client, user, device);
    return client;
}

void say(WireClient& client, const std::string& name, Position seq, const std::string& to) {
    client.send(text_of(Message{name, seq, to}));
}

void await_ack(WireClient& client, Position h) {
    client.await<Ack>([h](const Ack& ack) { return ack.h >= h; });
}

}  // namespace

TEST_CASE("Gateway: two clients exchange messages, acks and receipts") {
    for (const unsigned shards : {1U, 4U}) {
        CAPTURE(shards);
        WireLoop loop;
        RunningGateway gateway(with_shards(shards));
        const auto alice = online(loop, gateway, "alice");
        const auto bob = online(loop, gateway, "bob");

        say(*alice, "a", 1, "bob");
        const Data a = bob->await<Data>();
        CHECK(a.fp == fp("a"));
        CHECK(a.from == "alice");
        CHECK(a.conv == "u:alice:bob");
        await_ack(*alice, 1);
        bob->send(R"({"type":4,"h":1})");
        CHECK(alice->await<Receipt>().delivered == 1);
        say(*bob, "b", 1, "alice");
        CHECK(alice->await<Data>().cseq == 2);
    }
}

TEST_CASE("Gateway: what came while the receiver was offline is delivered at its login") {
    WireLoop loop;
    RunningGateway gateway(with_shards(2));
    const auto alice = online(loop, gateway, "alice");
    for (Position i = 1; i <= 200; ++i) {
        say(*alice, "m" + std::to_string(i), i, "bob");
        if (i % 50 == 0) await_ack(*alice, i);  // Within the gateway's window.
    }

    const auto bob = std::make_unique<WireClient>(loop, gateway.port());
    CHECK(log_in(*bob, "bob").inbox.last == 200);
    for (Position i = 1; i <= 200; ++i) {
        CHECK(bob->await<Data>().seq == i);
        if (i % 16 == 0) bob->send(R"({"type":4,"h":)" + std::to_string(i) + "}");
    }
}

TEST_CASE("Gateway: few messages and many, nothing overtakes on whichever thread the store works") {
    for (const unsigned shards : {1U, 2U}) {
        CAPTURE(shards);
        WireLoop loop;
        RunningGateway gateway(with_shards(shards));
        const auto alice = online(loop, gateway, "alice");
        const auto bob = online(loop, gateway, "bob");
        constexpr Position kBursts[] = {1, 40, 2, 60, 1, 1, 17, 3, 64, 16, 5};
        Position sent = 0;
        Position received = 0;
        Position accepted = 0;
        const auto await_acked = [&](Position h) {
            alice->await<Ack>([&](const Ack& ack) {
                for (const Acceptance& each : ack.acc) {
                    REQUIRE(each.seq == ++accepted);
                    REQUIRE(each.cseq == accepted);
                }
                return ack.h >= h;
            });
        };
        for (int round = 0; round < 60; ++round) {
            for (const Position burst : kBursts) {
                const Position begin = sent;
                for (Position i = 0; i < burst; ++i) {
                    ++sent;
                    say(*alice, "m" + std::to_string(sent), sent, "bob");
                    // What came before is on its way when the rest comes.
                    if (i == burst / 2 && begin > accepted) await_acked(begin);
                }
                while (received < sent) {
                    const Data data = bob->await<Data>();
                    REQUIRE(data.seq == ++received);
                    REQUIRE(data.fp == fp("m" + std::to_string(received)));
                }
                bob->send(R"({"type":4,"h":)" + std::to_string(received) + "}");
                if (burst > 2) await_acked(sent);
            }
        }
        alice->await<Receipt>([&](const Receipt& receipt) { return receipt.delivered == sent; });
    }
}

TEST_CASE("Gateway: a plain client and a v1 client talk") {
    WireLoop loop;
    RunningGateway gateway;
    const auto alice = online(loop, gateway, "alice");
    WireClient bob(loop, gateway.port(), "");
    bob.send(R"({"type":0,"dataContent":"{\"loginUserId\":\"bob\",\"app\":\"default\"}"})");
    CHECK(bob.await<LoginResponse>().code == 0);
    say(*alice, "a", 1, "bob");
    CHECK(bob.await<Data>().fp == fp("a"));
    bob.send(R"({"type":2,"dataContent":"b","to":"alice","fp":"b","Qos":true,"typeu":0})");
    CHECK(bob.await<Ack>().fp == fp("b"));
    CHECK(alice->await<Data>().fp == fp("b"));
}

TEST_CASE("Gateway: a restart on its file loses nothing and doubles nothing") {
    TemporaryFolder folder;
    WireLoop loop;
    std::string epoch;
    {
        RunningGateway gateway(with_shards(2), folder.file("store.db"));
        WireClient alice(loop, gateway.port());
        log_in(alice, "alice", "phone", "s");
        WireClient bob(loop, gateway.port());
        epoch = log_in(bob, "bob").inbox.epoch;
        say(alice, "a", 1, "bob");
        say(alice, "b", 2, "bob");
        await_ack(alice, 2);
        CHECK(bob.await<Data>().seq == 1);
        bob.send(R"({"type":4,"h":1})");
        CHECK(alice.await<Receipt>().delivered == 1);
        gateway->stop();
        CHECK(alice.await_close().code == 4007);
    }
    RunningGateway gateway(with_shards(1), folder.file("store.db"));
    WireClient alice(loop, gateway.port());
    CHECK(log_in(alice, "alice", "phone", "s").accepted == 2);
    WireClient bob(loop, gateway.port());
    const LoginReplyV1 reply = log_in(bob, "bob");
    CHECK(reply.inbox.seq == 1);
    CHECK(reply.inbox.last == 2);
    CHECK(reply.inbox.epoch == epoch);
    CHECK(bob.await<Data>().fp == fp("b"));
    say(alice, "b", 3, "bob");
    say(alice, "c", 4, "bob");
    await_ack(alice, 4);
    const Data c = bob.await<Data>();
    CHECK(c.fp == fp("c"));
    CHECK(c.seq == 3);
    CHECK(c.cseq == 3);
}

TEST_CASE("Gateway: stop drains every session and is idempotent") {
    for (const unsigned shards : {1U, 4U}) {
        CAPTURE(shards);
        WireLoop loop;
        RunningGateway gateway(with_shards(shards));
        std::vector<std::unique_ptr<WireClient>> clients;
        for (int i = 0; i < 12; ++i) {
            clients.push_back(online(loop, gateway, "user" + std::to_string(i)));
        }
        WireClient silent(loop, gateway.port());
        silent.send(R"({"type":5,"dataContent":"x"})");
        silent.await<Echo>();
        CHECK(gateway->connection_count() == 13);
        gateway->stop();
        for (const auto& client : clients) {
            const CloseInfo closed = client->await_close();
            CHECK(closed.code == 4007);
            CHECK(closed.reason == "5000");
        }
        CHECK(silent.await_close().code == 4007);
        CHECK(gateway->connection_count() == 0);
        gateway->stop();
        WireClient late(loop, gateway.port());
        CHECK_FALSE(late.is_open());
        CHECK(gateway->counters().logins_accepted == 12);
    }
}

TEST_CASE("Gateway: stop in the middle of traffic ends, and what was acked is in the file") {
    TemporaryFolder folder;
    WireLoop loop;
    std::vector<Position> acked(8, 0);
    {
        RunningGateway gateway(with_shards(4), folder.file("store.db"));
        std::vector<std::unique_ptr<WireClient>> clients;
        for (int i = 0; i < 8; ++i) {
            clients.push_back(online(loop, gateway, "user" + std::to_string(i)));
        }
        for (Position seq = 1; seq <= 50; ++seq) {
            for (std::size_t i = 0; i < clients.size(); ++i) {
                say(*clients[i], "m" + std::to_string(seq), seq,
                    "user" + std::to_string((i + 1) % 8));
            }
        }
        gateway->stop();
        for (std::size_t i = 0; i < clients.size(); ++i) {
            while (const std::optional<Packet> packet = clients[i]->next()) {
                if (const Ack* ack = std::get_if<Ack>(&*packet)) acked[i] = ack->h.value_or(0);
            }
        }
    }
    RunningGateway gateway(with_shards(2), folder.file("store.db"));
    for (std::size_t i = 0; i < acked.size(); ++i) {
        WireClient client(loop, gateway.port());
        CHECK(log_in(client, "user" + std::to_string(i)).accepted >= acked[i]);
    }
}

TEST_CASE("Gateway: users spread over four shards reach one another, once and in order") {
    constexpr int kUsers = 16;
    constexpr Position kEach = 20;
    WireLoop loop;
    RunningGateway gateway(with_shards(4));
    std::vector<std::unique_ptr<WireClient>> users;
    for (int i = 0; i < kUsers; ++i) {
        users.push_back(online(loop, gateway, "user" + std::to_string(i)));
    }
    for (Position seq = 1; seq <= kEach; ++seq) {
        for (std::size_t i = 0; i < users.size(); ++i) {
            const std::size_t to = (i + seq) % kUsers;
            say(*users[i], "m" + std::to_string(i) + "-" + std::to_string(seq), seq,
                "user" + std::to_string(to));
        }
    }
    for (std::size_t i = 0; i < users.size(); ++i) {
        Position acked = 0;
        Position seen = 0;
        while (acked < kEach || seen < kEach) {
            const std::optional<Packet> packet = users[i]->next();
            REQUIRE(packet);
            if (const Ack* ack = std::get_if<Ack>(&*packet)) acked = *ack->h;
            if (const Data* data = std::get_if<Data>(&*packet)) CHECK(data->seq == ++seen);
        }
        CHECK(acked == kEach);
        CHECK(seen == kEach);
    }
    CHECK(gateway->counters().accepted == kUsers * kEach);
    CHECK(gateway->store_stats().failed == 0);
}

TEST_CASE("Gateway: of many logins of one device one session stays, on whatever shard") {
    WireLoop loop;
    RunningGateway gateway(with_shards(4));
    std::vector<std::unique_ptr<WireClient>> clients;
    for (int i = 0; i < 12; ++i) clients.push_back(online(loop, gateway, "alice"));
    for (int i = 0; i < 11; ++i) {
        CHECK(clients[static_cast<std::size_t>(i)]->await<Kickout>().code == 1);
        CHECK(clients[static_cast<std::size_t>(i)]->await_close().code == 4004);
    }
    const auto bob = online(loop, gateway, "bob");
    say(*bob, "b", 1, "alice");
    CHECK(clients.back()->await<Data>().fp == fp("b"));
}

TEST_CASE("Gateway: receipts of devices on other shards come once") {
    WireLoop loop;
    RunningGateway gateway(with_shards(4));
    const auto alice = online(loop, gateway, "alice");
    std::vector<std::unique_ptr<WireClient>> devices;
    for (int i = 0; i < 6; ++i) {
        devices.push_back(online(loop, gateway, "bob", "device" + std::to_string(i)));
    }
    say(*alice, "a", 1, "bob");
    for (const auto& device : devices) {
        CHECK(device->await<Data>().seq == 1);
        device->send(R"({"type":4,"h":1})");
        // Its answer says that the ack was read.
        device->send(R"({"type":5,"dataContent":"x"})");
        device->await<Echo>();
    }
    say(*alice, "b", 2, "bob");
    devices.front()->await<Data>();
    devices.front()->send(R"({"type":4,"h":2})");
    CHECK(alice->await<Receipt>().delivered == 1);
    CHECK(alice->await<Receipt>().delivered == 2);
}

TEST_CASE("Gateway: a 10 MB frame ends its connection with 1009, nobody else's") {
    WireLoop loop;
    RunningGateway gateway;
    const auto alice = online(loop, gateway, "alice");
    const auto bob = online(loop, gateway, "bob");
    alice->send(R"({"type":2,"dataContent":")" + std::string(10'000'000, 'x') +
                R"(","to":"bob","fp":"a","Qos":true,"seq":1})");
    CHECK(alice->await_close().code == 1009);
    say(*bob, "b", 1, "bob");
    CHECK(bob->await<Data>().fp == fp("b"));
}

TEST_CASE("Gateway: bytes that are no UTF-8 end their connection") {
    WireLoop loop;
    RunningGateway gateway;
    const auto alice = online(loop, gateway, "alice");
    alice->send("{\"type\":2,\"dataContent\":\"\xff\"}");
    CHECK(alice->await_close().code == 1007);
}

TEST_CASE("Gateway: a binary frame is told code 4") {
    RunningGateway gateway;
    const int fd = RawSocket::connect(gateway.port());
    RawSocket socket(fd);
    REQUIRE(
        socket.send("GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
    const auto read_until = [&](const std::string& what) {
        while (!socket.has(what)) {
            REQUIRE_FALSE(socket.is_ended);
            pollfd wanted{fd, POLLIN, 0};
            REQUIRE(poll(&wanted, 1, 60'000) == 1);
        }
    };
    read_until("\r\n\r\n");
    REQUIRE(socket.send(std::string("\x82\x81\0\0\0\0x", 7)));
    read_until("\\\"errorCode\\\":4");
}

TEST_CASE("Gateway: a hundred connections that never log in are closed, others stay") {
    GatewayOptions options = with_shards(4);
    options.session.login_deadline = 300ms;
    WireLoop loop;
    RunningGateway gateway(options);
    const auto alice = online(loop, gateway, "alice");
    std::vector<std::unique_ptr<WireClient>> idle;
    for (int i = 0; i < 100; ++i) {
        idle.push_back(std::make_unique<WireClient>(loop, gateway.port()));
    }
    for (const auto& client : idle) CHECK(client->await_close().code == 4001);
    say(*alice, "a", 1, "alice");
    CHECK(alice->await<Data>().fp == fp("a"));
}

TEST_CASE("Gateway: a session that falls silent is closed") {
    GatewayOptions options;
    options.session.heartbeat = 200ms;
    WireLoop loop;
    RunningGateway gateway(options);
    const auto alice = online(loop, gateway, "alice");
    CHECK(alice->await_close().code == 4002);
}

TEST_CASE("Gateway: connections that are cut leave nothing behind") {
    WireLoop loop;
    RunningGateway gateway(with_shards(2));
    const auto alice = online(loop, gateway, "alice");
    for (int i = 0; i < 20; ++i) {
        const auto bob = std::make_unique<WireClient>(loop, gateway.port());
        log_in(*bob, "bob", "device" + std::to_string(i % 3), "stream-" + std::to_string(i));
        say(*bob, "m" + std::to_string(i), 1, "alice");
        alice->await<Data>();
        bob->cut();
    }
    // Each answer is one look at both shards; the cuts have been read by the time it is right.
    const auto give_up = std::chrono::steady_clock::now() + WireClient::kPatience;
    while (gateway->connection_count() > 1 && std::chrono::steady_clock::now() < give_up) {
        alice->send(R"({"type":5,"dataContent":"x"})");
        alice->await<Echo>();
    }
    CHECK(gateway->connection_count() == 1);
}

TEST_CASE("Gateway: a port in use is an error with a sentence") {
    unsigned shards = 1;
    SUBCASE("one shard") {}
    SUBCASE("shards that share the port") { shards = 3; }
    RunningGateway first(with_shards(shards));
    UuidSource epochs;
    GatewayOptions options = with_shards(shards);
    options.listen.port = first.port();
    Gateway second(options, make_memory_message_store(StoreOptions{}, epochs),
                   std::make_unique<OpenAuthenticator>());
    std::string why;
    CHECK_FALSE(second.start(why));
    CHECK_FALSE(why.empty());
    second.stop();
}

TEST_CASE("Gateway: a port that is free again is taken again at once") {
    std::uint16_t port = 0;
    WireLoop loop;
    {
        RunningGateway first(with_shards(2));
        port = first.port();
        online(loop, first, "alice");
    }
    GatewayOptions options = with_shards(2);
    options.listen.port = port;
    RunningGateway second(options);
    CHECK(second.port() == port);
    online(loop, second, "alice");
}

TEST_CASE("Gateway: it can go without having been started") {
    UuidSource epochs;
    Gateway gateway(with_shards(3), make_memory_message_store(StoreOptions{}, epochs),
                    std::make_unique<OpenAuthenticator>());
    CHECK(gateway.connection_count() == 0);
    CHECK(gateway.counters().packets_in == 0);
}

TEST_CASE("Gateway: it can go while clients are connected") {
    WireLoop loop;
    std::unique_ptr<WireClient> alice;
    {
        RunningGateway gateway(with_shards(2));
        alice = online(loop, gateway, "alice");
    }
    CHECK(alice->await_close().code == 4007);
}

TEST_CASE("Gateway: the trace tells a message's life") {
    class Sink final : public TraceSink {
    public:
        void on_trace(const TraceEvent& event) override {
            const std::lock_guard<std::mutex> lock(mutex_);
            events_.emplace_back(event.event);
        }
        std::size_t count(const std::string& name) {
            const std::lock_guard<std::mutex> lock(mutex_);
            std::size_t found = 0;
            for (const std::string& event : events_) found += event == name ? 1 : 0;
            return found;
        }

    private:
        std::mutex mutex_;
        std::vector<std::string> events_;
    };
    Sink sink;
    GatewayOptions options = with_shards(2);
    options.trace = &sink;
    WireLoop loop;
    {
        RunningGateway gateway(options);
        const auto alice = online(loop, gateway, "alice");
        const auto bob = online(loop, gateway, "bob");
        say(*alice, "a", 1, "bob");
        bob->await<Data>();
        bob->send(R"({"type":4,"h":1})");
        alice->await<Receipt>();
    }
    CHECK(sink.count("login") == 2);
    CHECK(sink.count("received") == 1);
    CHECK(sink.count("committed") == 1);
    CHECK(sink.count("pushed") == 1);
    CHECK(sink.count("handled") == 1);
    CHECK(sink.count("closed") == 2);
}

// ---- for its admin ----

TEST_CASE("Gateway: an admin sees the sessions of all shards, in pages") {
    RunningGateway gateway(with_shards(4));
    WireLoop loop;
    std::vector<std::unique_ptr<WireClient>> clients;
    for (int i = 0; i < 9; ++i) {
        clients.push_back(online(loop, gateway, "user" + std::to_string(i)));
    }
    SessionQuery query;
    query.count_max = 4;
    std::vector<std::string> users;
    for (int page = 0; page < 3; ++page) {
        const auto found = gateway->sessions(query);
        REQUIRE(found);
        CHECK(found->size() == (page < 2 ? 4 : 1));
        for (const SessionInfo& info : *found) {
            CHECK(info.connection > query.after);
            query.after = info.connection;
            users.push_back(info.user);
        }
    }
    std::sort(users.begin(), users.end());
    CHECK(users == std::vector<std::string>{"user0", "user1", "user2", "user3", "user4", "user5",
                                            "user6", "user7", "user8"});
    query = SessionQuery();
    query.user = "user5";
    const auto found = gateway->sessions(query);
    REQUIRE((found && found->size() == 1));
    CHECK(found->front().state == "online");
    CHECK(found->front().device == "phone");
    CHECK(found->front().session.size() > 16);
    query.app = "other";
    CHECK(gateway->sessions(query)->empty());
}

TEST_CASE("Gateway: an admin kicks a user out on every shard, and nobody else") {
    RunningGateway gateway(with_shards(4));
    WireLoop loop;
    std::vector<std::unique_ptr<WireClient>> devices;
    for (int i = 0; i < 6; ++i) {
        devices.push_back(online(loop, gateway, "bob", "device" + std::to_string(i)));
    }
    const auto alice = online(loop, gateway, "alice");
    KickOrder order;
    order.app = "default";
    order.user = "bob";
    order.reason = "stolen";
    CHECK(gateway->kick(order) == 6);
    for (const auto& device : devices) {
        const Kickout kickout = device->await<Kickout>();
        CHECK(kickout.code == 2);
        CHECK(kickout.reason == "stolen");
        CHECK(device->await_close().code == 4004);
    }
    CHECK(gateway->kick(order) == 0);
    CHECK(alice->is_open());
    const auto figures = gateway->figures();
    REQUIRE(figures);
    CHECK(figures->shards.counters.closes.of(4004) == 6);
    CHECK(figures->shards.sessions_v1 == 1);
    CHECK(figures->shards.counters.logins.of(0) == 7);
    // A person may come back.
    online(loop, gateway, "bob", "device0");
}

TEST_CASE("Gateway: an admin may ask at any time, also while it stops") {
    RunningGateway gateway(with_shards(2));
    WireLoop loop;
    const auto alice = online(loop, gateway, "alice");
    std::atomic<bool> is_over{false};
    std::atomic<int> answers{0};
    std::thread admin([&] {
        while (!is_over) {
            if (gateway->figures() && gateway->sessions({})) ++answers;
            static_cast<void>(gateway->store_error());
        }
    });
    while (answers < 3) std::this_thread::yield();
    gateway->stop(1'234);
    is_over = true;
    admin.join();
    CHECK(alice->await_close().reason == "1234");
    CHECK(gateway->is_draining());
    CHECK_FALSE(gateway->figures());
    CHECK_FALSE(gateway->kick({}));
}

TEST_CASE("Gateway: one that was not started does not answer, and waits for nobody") {
    UuidSource epochs;
    Gateway gateway({}, make_memory_message_store(StoreOptions{}, epochs),
                    std::make_unique<OpenAuthenticator>());
    CHECK_FALSE(gateway.figures());
    CHECK_FALSE(gateway.sessions({}));
    CHECK_FALSE(gateway.is_draining());
    CHECK(gateway.store_error().empty());
}

TEST_CASE("Gateway: a full disk shows in its figures until it has room again") {
    DiskVfs disk;
    TemporaryFolder folder;
    RunningGateway gateway({}, folder.file("petrel.db"));
    WireLoop loop;
    const auto alice = online(loop, gateway, "alice");
    CHECK(gateway->store_error().empty());

    disk.fail_writes(SQLITE_FULL);
    say(*alice, "a", 1, "bob");
    CHECK(alice->await<ErrorPacket>().code == 302);
    CHECK(gateway->store_error().find("full") != std::string::npos);
    auto figures = gateway->figures();
    REQUIRE(figures);
    CHECK(figures->store.error.find("full") != std::string::npos);
    CHECK(figures->store.commit_failures[static_cast<std::size_t>(StoreFault::kFull)] > 0);
    CHECK(figures->store.failed > 0);
    CHECK(figures->shards.counters.failed == 1);
    CHECK(figures->shards.counters.errors.of(302) == 1);

    disk.fail_writes(SQLITE_READONLY);
    say(*alice, "a", 1, "bob");
    CHECK(alice->await<ErrorPacket>().code == 302);
    figures = gateway->figures();
    REQUIRE(figures);
    CHECK(figures->store.commit_failures[static_cast<std::size_t>(StoreFault::kReadOnly)] > 0);

    disk.heal();
    say(*alice, "a", 1, "bob");
    await_ack(*alice, 1);
    CHECK(gateway->store_error().empty());
    figures = gateway->figures();
    REQUIRE(figures);
    CHECK(figures->shards.counters.accepted == 1);
    const Histogram& seconds = figures->store.commit_seconds;
    CHECK(seconds.count() == figures->store.batch_requests.count());
    CHECK(seconds.count() > figures->store.commits);
}
