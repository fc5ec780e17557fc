// What routers of several shards do together. The posts between them come in order, but as late as
// the test wants.

#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

GatewayWorld::Options with_shards(unsigned shards, SessionPolicy policy = SessionPolicy::kMulti) {
    GatewayWorld::Options options;
    options.shards = shards;
    options.policy = policy;
    return options;
}

// A user whose home is `shard`.
std::string user_of(GatewayWorld& world, unsigned shard, const std::string& prefix) {
    for (int i = 0;; ++i) {
        const std::string user = prefix + std::to_string(i);
        if (world.router().home_of({"default", user}) == shard) return user;
    }
}

std::size_t users_known(GatewayWorld& world, unsigned shards) {
    std::size_t sum = 0;
    for (unsigned i = 0; i < shards; ++i) sum += world.router(i).user_count();
    return sum;
}

}  // namespace

TEST_CASE("Router: a user's home is the same for every shard, and homes are spread") {
    GatewayWorld world(with_shards(4));
    std::set<unsigned> homes;
    for (int i = 0; i < 100; ++i) {
        const std::string user = "user" + std::to_string(i);
        const unsigned home = world.router(0).home_of({"app", user});
        CHECK(home < 4);
        for (unsigned shard = 1; shard < 4; ++shard) {
            CHECK(world.router(shard).home_of({"app", user}) == home);
        }
        homes.insert(home);
    }
    CHECK(homes.size() == 4);
}

TEST_CASE("Router: app and user are told apart") {
    GatewayWorld world(with_shards(64));
    int different = 0;
    for (int i = 0; i < 100; ++i) {
        const std::string name = std::to_string(i);
        if (world.router().home_of({"a" + name, "b"}) !=
            world.router().home_of({"a", name + "b"})) {
            ++different;
        }
    }
    CHECK(different > 50);
}

TEST_CASE("Router: messages, acks and receipts cross shards") {
    GatewayWorld world(with_shards(4));
    for (unsigned from = 0; from < 4; ++from) {
        for (unsigned to = 0; to < 4; ++to) {
            CAPTURE(from);
            CAPTURE(to);
            const std::string sender = "s" + std::to_string(from) + std::to_string(to);
            const std::string reader = "r" + std::to_string(from) + std::to_string(to);
            FakeClient& alice = world.online({sender}, from);
            FakeClient& bob = world.online({reader}, to);
            alice.say({"a", 1, reader});
            alice.say(no_qos("n", reader));
            CHECK(alice.received() == "54 h1 acc 1@1");
            CHECK(bob.received() == "2 a@1, 2 n");
            bob.ack(1);
            CHECK(alice.last<Receipt>().delivered == 1);
            CHECK(alice.last<Receipt>().user == reader);
        }
    }
}

TEST_CASE("Router: devices of one user on all shards get every message") {
    GatewayWorld world(with_shards(4));
    std::vector<FakeClient*> devices;
    for (unsigned shard = 0; shard < 4; ++shard) {
        devices.push_back(&world.online({"bob", "device" + std::to_string(shard)}, shard));
    }
    FakeClient& alice = world.online({"alice"}, 2);
    alice.say({"a", 1});
    alice.say(no_qos("n"));
    for (FakeClient* const device : devices) CHECK(device->received() == "2 a@1, 2 n");
}

TEST_CASE("Router: a login displaces the session of another shard") {
    GatewayWorld world(with_shards(4));
    for (unsigned old_shard = 0; old_shard < 4; ++old_shard) {
        for (unsigned new_shard = 0; new_shard < 4; ++new_shard) {
            CAPTURE(old_shard);
            CAPTURE(new_shard);
            FakeClient& loser = world.online({"alice"}, old_shard);
            FakeClient& winner = world.connect(new_shard);
            winner.login({"alice"});
            CHECK(loser.received() == "55 1 phone, closed 4004");
            CHECK(winner.received() == "50 0/0 accepted 0");
            winner.drop();
        }
    }
    CHECK(users_known(world, 4) == 0);
}

TEST_CASE("Router: the winner waits until the loser's shard has answered, and no longer") {
    GatewayWorld world(with_shards(2));
    const std::string user = user_of(world, 0, "u");
    FakeClient& loser = world.online({user}, 1);
    world.hold_posts();
    FakeClient& winner = world.connect(0u);
    winner.login({user});
    CHECK(winner.received() == "");
    // What the loser still takes before it hears of it is decided before the winner is answered.
    loser.say({"a", 1});
    world.release_posts();
    CHECK(loser.received() == "54 h1 acc 1@1, 55 1 phone, closed 4004");
    CHECK(winner.received() == "50 0/0 accepted 0");
    CHECK(world.opens.size() == 2);
}

TEST_CASE("Router: a loser that was gone already is no reason to wait for ever") {
    GatewayWorld world(with_shards(2));
    const std::string user = user_of(world, 0, "u");
    FakeClient& loser = world.online({user}, 1);
    world.hold_posts();
    FakeClient& winner = world.connect(0u);
    winner.login({user});
    loser.drop();
    world.release_posts();
    CHECK(winner.received() == "50 0/0 accepted 0");
    winner.drop();
    CHECK(users_known(world, 2) == 0);
}

TEST_CASE("Router: what the loser handed over is in the store before the winner's login is asked") {
    GatewayWorld world(with_shards(2));
    const std::string user = user_of(world, 0, "u");
    LoginAs as{user};
    as.stream = "s";
    FakeClient& loser = world.online(as, 1);
    world.hold();
    world.hold_posts();
    FakeClient& winner = world.connect(0u);
    winner.login(as);
    loser.say({"a", 1});
    world.release_posts();
    world.release();
    CHECK(winner.received() == "50 0/0 accepted 1");
}

TEST_CASE("Router: a message stored behind a login on another shard reaches it") {
    GatewayWorld world(with_shards(3));
    const std::string user = user_of(world, 0, "u");
    FakeClient& alice = world.online({"alice"}, 1);
    world.hold();
    FakeClient& bob = world.connect(2);
    bob.login({user});
    alice.say({"a", 1, user});
    world.hold_posts();
    world.commit();
    CHECK(bob.received() == "");
    world.release_posts();
    CHECK(bob.received() == "50 0/0 accepted 0, 2 a@1");
}

TEST_CASE("Router: a page and deliveries that take different ways are pushed once and in order") {
    GatewayWorld world(with_shards(3));
    const std::string user = user_of(world, 0, "u");
    FakeClient& alice = world.online({"alice"}, 1);
    alice.say({"a", 1, user});
    FakeClient& bob = world.connect(2);
    world.hold_posts();
    bob.login({user});
    while (bob.texts().empty() && world.deliver_one_post()) world.settle();
    alice.say({"b", 2, user});
    alice.say({"c", 3, user});
    world.release_posts();
    CHECK(bob.received() == "50 0/1 accepted 0, 2 a@1, 2 b@2, 2 c@3");
}

TEST_CASE("Router: a session that ends while its verdict is under way leaves nothing behind") {
    GatewayWorld world(with_shards(2));
    const std::string user = user_of(world, 0, "u");
    FakeClient& alice = world.connect(1);
    world.hold_posts();
    alice.login({user});
    world.deliver_one_post();
    world.settle();  // Decided; the verdict waits.
    alice.drop();
    world.release_posts();
    CHECK(alice.received() == "");
    CHECK(users_known(world, 2) == 0);
    FakeClient& next = world.connect(1);
    next.login({user});
    CHECK(next.received() == "50 0/0 accepted 0");
}

TEST_CASE("Router: a login behind another one is forgotten with its connection") {
    GatewayWorld world(with_shards(2));
    const std::string user = user_of(world, 0, "u");
    world.hold();
    FakeClient& first = world.connect(1);
    FakeClient& second = world.connect(1);
    first.login({user});
    second.login({user});
    second.drop();
    world.release();
    CHECK(first.received() == "50 0/0 accepted 0");
    CHECK(world.opens.size() == 1);
}

TEST_CASE("Router: policies hold across shards") {
    GatewayWorld world(with_shards(4, SessionPolicy::kSingle));
    std::vector<FakeClient*> clients;
    for (unsigned i = 0; i < 8; ++i) {
        clients.push_back(&world.online({"alice", "device" + std::to_string(i)}, i % 4));
    }
    for (unsigned i = 0; i < 7; ++i) CHECK(clients[i]->close_code() == 4004);
    CHECK_FALSE(clients[7]->is_closed());
}

TEST_CASE("Router: a stale login is refused across shards") {
    GatewayWorld world(with_shards(2));
    FakeClient& stale = world.connect(0u);
    FakeClient& live = world.online({"alice"}, 1);
    stale.login({"alice"});
    CHECK(stale.received() == "50 409 retry, closed 4001");
    CHECK_FALSE(live.is_closed());
}

// Simulator, seed 3520: such a login took a generation above the client's own, whose next one was
// refused for good.
TEST_CASE("Router: a login that arrives late, behind the end of a newer connection's, is stale") {
    GatewayWorld world(with_shards(2));
    FakeClient& late = world.connect(0u);
    FakeClient& other = world.connect(0u);
    world.online({"alice", "phone"}, 1).drop();
    late.login({"alice", "phone"});
    CHECK(late.received() == "50 409 retry, closed 4001");
    other.login({"alice", "laptop"});
    CHECK_FALSE(other.is_closed());
    CHECK_FALSE(world.online({"alice", "phone"}, 0).is_closed());
}

TEST_CASE("Router: the memory of ended sessions is bounded") {
    GatewayWorld world;
    FakeClient& late = world.connect();
    world.online({"alice"}).drop();
    const std::size_t most = Router::Options{}.ended_max;
    for (std::size_t i = 0; i < most; ++i) world.online({"u" + std::to_string(i)}).drop();
    late.login({"alice"});
    CHECK(late.received() == "50 0/0 accepted 0");
}

TEST_CASE("Router: of several devices on several shards one receipt comes") {
    GatewayWorld world(with_shards(4));
    FakeClient& alice = world.online({"alice"}, 0);
    FakeClient& one = world.online({"bob", "one"}, 1);
    FakeClient& two = world.online({"bob", "two"}, 2);
    alice.say({"a", 1});
    alice.say({"b", 2});
    alice.received();
    one.ack(1);
    two.ack(1);
    two.ack(2);
    one.ack(2);
    CHECK(alice.received() == "56 u:alice:bob 1 by bob, 56 u:alice:bob 2 by bob");
}

TEST_CASE("Router: the memory of receipts is bounded") {
    GatewayWorld world;
    FakeClient& bob = world.online({"bob"});
    std::vector<FakeClient*> senders;
    for (int i = 0; i < 300; ++i) senders.push_back(&world.online({"s" + std::to_string(i)}));
    Position handled = 0;
    for (FakeClient* const sender : senders) {
        sender->say({"a", 1});
        bob.ack(++handled);
        CHECK(sender->received() ==
              "54 h1 acc 1@1, 56 " + sender->last<Receipt>().conv + " 1 by bob");
    }
    senders[0]->say({"b", 2});
    bob.ack(++handled);
    CHECK(senders[0]->last<Receipt>().delivered == 2);
}

TEST_CASE("Router: many users coming, going and kicking one another leave nothing behind") {
    constexpr unsigned kShards = 4;
    GatewayWorld world(with_shards(kShards, SessionPolicy::kOnePerClass));
    std::mt19937_64 random(7);
    std::vector<FakeClient*> clients;
    std::uint64_t sent = 0;
    for (int step = 0; step < 3000; ++step) {
        const std::uint64_t what = random() % 10;
        if (random() % 50 == 0) world.hold();
        if (random() % 20 == 0) world.release();
        if (random() % 50 == 0) world.hold_posts();
        if (random() % 20 == 0) world.release_posts();
        if (what < 3 || clients.empty()) {
            FakeClient& client = world.connect(static_cast<unsigned>(random() % kShards));
            LoginAs as{"u" + std::to_string(random() % 5), "d" + std::to_string(random() % 3)};
            as.generation = random() % 4;
            client.login(as);
            clients.push_back(&client);
            continue;
        }
        const std::size_t at = random() % clients.size();
        FakeClient& client = *clients[at];
        if (what == 3) {
            client.drop();
            clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(at));
        } else if (what == 4) {
            client.heartbeat();
        } else {
            client.say(no_qos("n" + std::to_string(++sent), "u" + std::to_string(random() % 5)));
        }
    }
    world.release();
    world.release_posts();
    for (FakeClient* const client : clients) {
        CHECK((client->is_closed() || client->session().state() == Session::State::kOnline));
        if (!client->is_closed()) client->drop();
    }
    CHECK(users_known(world, kShards) == 0);
    for (unsigned i = 0; i < kShards; ++i) CHECK(world.router(i).session_count() == 0);
}
