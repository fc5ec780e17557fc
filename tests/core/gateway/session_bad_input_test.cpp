// Whatever a client sends: it gets what PROTOCOL.md says, and the other sessions notice nothing.

#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

// Frames that are no valid packets in any profile.
const std::vector<std::pair<const char*, std::string>>& malformed() {
    static const std::vector<std::pair<const char*, std::string>> all = {
        {"empty", ""},
        {"not JSON", "{not json"},
        {"null", "null"},
        {"array", R"([{"type":1}])"},
        {"number", "7"},
        {"string", R"("type")"},
        {"no type", R"({"dataContent":"x"})"},
        {"type null", R"({"type":null})"},
        {"type a fraction", R"({"type":1.5})"},
        {"type a word", R"({"type":"one"})"},
        {"type an object", R"({"type":{}})"},
        {"two objects", R"({"type":1}{"type":1})"},
        {"cut off", R"({"type":1,"dataCon)"},
        {"depth 100", R"({"type":1,"x":)" + std::string(100, '[') + std::string(100, ']') + "}"},
        {"invalid UTF-8", "{\"type\":2,\"dataContent\":\"\xff\xfe\"}"},
        {"cut UTF-8", "{\"type\":2,\"dataContent\":\"\xe2\x82\"}"},
        {"lone surrogate", R"({"type":2,"dataContent":"\ud800"})"},
        {"from a number", R"({"type":2,"dataContent":"x","to":"bob","from":7})"},
        {"Qos a number", R"({"type":2,"dataContent":"x","to":"bob","Qos":1})"},
        {"dataContent an object", R"({"type":2,"dataContent":{},"to":"bob"})"},
        {"typeu a string", R"({"type":2,"dataContent":"x","to":"bob","typeu":"0"})"},
        {"to too long", R"({"type":2,"to":")" + std::string(300, 'u') + R"("})"},
        {"fp too long", R"({"type":2,"to":"b","Qos":true,"fp":")" + std::string(65, 'f') + R"("})"},
        {"login without content", R"({"type":0})"},
        {"login without user", R"({"type":0,"dataContent":"{}"})"},
        {"frame over the limit",
         R"({"type":5,"dataContent":")" + std::string(500'000, 'x') + "\"}"},
    };
    return all;
}

// And those that only petrel.v1 reads that far.
const std::vector<std::pair<const char*, std::string>>& malformed_v1() {
    static const std::vector<std::pair<const char*, std::string>> all = {
        {"seq negative", R"({"type":2,"to":"bob","fp":"a","Qos":true,"seq":-1})"},
        {"seq fractional", R"({"type":2,"to":"bob","fp":"a","Qos":true,"seq":1.5})"},
        {"seq 2^53", R"({"type":2,"to":"bob","fp":"a","Qos":true,"seq":9007199254740992})"},
        {"seq 1e300", R"({"type":2,"to":"bob","fp":"a","Qos":true,"seq":1e300})"},
        {"seq text", R"({"type":2,"to":"bob","fp":"a","Qos":true,"seq":"1"})"},
        {"h negative", R"({"type":4,"h":-1})"},
        {"h a list", R"({"type":4,"h":[1]})"},
        {"ack of nothing", R"({"type":4})"},
        {"gap without rx", R"({"type":4,"h":0,"gap":true})"},
        {"heartbeat positions text", R"({"type":1,"dataContent":"{\"sent\":\"x\"}"})"},
        {"heartbeat content no object", R"({"type":1,"dataContent":"[]"})"},
    };
    return all;
}

// A pair of users who must not be disturbed.
class Bystanders {
public:
    explicit Bystanders(GatewayWorld& world)
        : carol_(world.online({"carol"})), dave_(world.online({"dave"})) {}
    void check() {
        carol_.say({"c" + std::to_string(++seq_), seq_, "dave"});
        CHECK(dave_.received() == "2 c" + std::to_string(seq_) + "@" + std::to_string(seq_));
        CHECK(carol_.received() == "54 h" + std::to_string(seq_) + " acc " + std::to_string(seq_) +
                                       "@" + std::to_string(seq_));
    }

private:
    FakeClient& carol_;
    FakeClient& dave_;
    Position seq_ = 0;
};

}  // namespace

TEST_CASE("BadInput: what is no valid packet is answered with code 4 and nothing else happens") {
    GatewayWorld world;
    Bystanders bystanders(world);
    for (const auto& entry : malformed()) {
        const std::string& text = entry.second;
        INFO(entry.first);
        FakeClient* clients[] = {&world.online({"alice"}), &world.connect(), &world.connect_plain(),
                                 &world.online_im_sdk("im"), &world.online_mobile("mobile")};
        for (FakeClient* const client : clients) {
            client->send(text);
            CHECK(client->received() == "52 4");
            CHECK_FALSE(client->is_closed());
            client->drop();
        }
        bystanders.check();
    }
    CHECK(world.counters().malformed == 5 * malformed().size());
}

TEST_CASE("BadInput: positions that are none are no valid packets in petrel.v1") {
    GatewayWorld world;
    Bystanders bystanders(world);
    for (const auto& entry : malformed_v1()) {
        const std::string& text = entry.second;
        INFO(entry.first);
        FakeClient& alice = world.online({"alice"});
        alice.send(text);
        CHECK(alice.received() == "52 4");
        alice.say({"ok", 1});
        CHECK(alice.last<Ack>().h == 1);
        alice.drop();
        bystanders.check();
    }
}

TEST_CASE("BadInput: a binary frame is no valid packet") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& fresh = world.connect_plain();
    alice.binary();
    fresh.binary();
    CHECK(alice.received() == "52 4");
    CHECK(fresh.received() == "52 4");
}

TEST_CASE("BadInput: 16 of them within a minute close the connection") {
    GatewayWorld world;
    Bystanders bystanders(world);
    FakeClient& alice = world.online({"alice"});
    for (int i = 0; i < 14; ++i) alice.send("x");
    alice.binary();
    CHECK_FALSE(alice.is_closed());
    alice.received();
    alice.send("x");
    CHECK(alice.received() == "52 4, closed 4006");
    bystanders.check();
}

TEST_CASE("BadInput: 15 in any minute are borne for ever") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    for (int minute = 0; minute < 5; ++minute) {
        for (int i = 0; i < 15; ++i) alice.send("x");
        world.advance(60'001ms);
    }
    CHECK_FALSE(alice.is_closed());
    for (int i = 0; i < 16; ++i) {
        alice.send("x");
        world.advance(3'900ms);
    }
    CHECK(alice.close_code() == 4006);
}

TEST_CASE("BadInput: they count before the login and behind one under decision, too") {
    GatewayWorld world;
    FakeClient& fresh = world.connect();
    for (int i = 0; i < 16; ++i) fresh.send("x");
    CHECK(fresh.close_code() == 4006);
    world.hold();
    FakeClient& deciding = world.connect();
    deciding.login({"alice"});
    for (int i = 0; i < 20; ++i) deciding.send("x");
    CHECK_FALSE(deciding.is_closed());
    world.release();
    CHECK(deciding.close_code() == 4006);
    CHECK(world.router().user_count() == 0);
}

TEST_CASE("BadInput: malformed_max at 1 bears none, and 0 is no trap") {
    GatewayWorld::Options options;
    SUBCASE("1") { options.session.malformed_max = 1; }
    SUBCASE("0") { options.session.malformed_max = 0; }
    GatewayWorld world(options);
    FakeClient& alice = world.online({"alice"});
    alice.send("x");
    CHECK(alice.received() == "52 4, closed 4006");
}

TEST_CASE("BadInput: unknown and reserved types and those of the other direction are ignored") {
    GatewayWorld world;
    Bystanders bystanders(world);
    const std::vector<std::string> texts = {
        R"({"type":77})",
        R"({"type":-1})",
        R"({"type":6})",
        R"({"type":7})",
        R"({"type":8})",
        R"({"type":9})",
        R"({"type":57})",
        R"({"type":58})",
        R"({"type":59})",
        R"({"type":50,"dataContent":"{\"code\":0}"})",
        R"({"type":51,"dataContent":"{}"})",
        R"({"type":52,"dataContent":"{\"errorCode\":301,\"errorMsg\":\"x\"}"})",
        R"({"type":53,"dataContent":"x"})",
        R"({"type":54,"dataContent":"{\"code\":1}","h":99})",
        R"({"type":55,"dataContent":"{\"code\":1,\"reason\":\"x\"}"})",
        R"({"type":56,"dataContent":"{\"conv\":\"u:a:b\",\"user\":\"a\",\"delivered\":1}"})",
    };
    FakeClient* clients[] = {&world.online({"alice"}), &world.connect(), &world.connect_plain(),
                             &world.online_im_sdk("im"), &world.online_mobile("mobile")};
    for (const std::string& text : texts) {
        CAPTURE(text);
        for (FakeClient* const client : clients) {
            client->send(text);
            CHECK(client->received() == "");
            CHECK_FALSE(client->is_closed());
        }
        bystanders.check();
    }
    CHECK(world.counters().ignored == 5 * texts.size());
}

TEST_CASE("BadInput: a server's ack from a client acks nothing") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    FakeClient& im_sdk = world.online_im_sdk("im");
    alice.say({"a", 1});
    alice.say({"b", 2, "im"});
    bob.send(R"({"type":54,"h":1})");
    im_sdk.send(R"({"type":54,"dataContent":"b","from":"alice","to":"0","Qos":false})");
    CHECK(world.cursor_updates.empty());
}

TEST_CASE("BadInput: a type in a string is that type") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.send(R"({"type":"1","dataContent":"{}"})");
    CHECK(alice.received() == "51 sent0 rx0 h0");
}

TEST_CASE("BadInput: an ack for an unknown fingerprint is counted and ignored") {
    GatewayWorld world;
    FakeClient& alice = world.online_im_sdk("alice");
    alice.ack("nothing", "bob", "0");
    CHECK(alice.received() == "");
    CHECK(world.counters().unknown_acks == 1);
    CHECK(world.cursor_updates.empty());
}

TEST_CASE("BadInput: an ack for nothing, at position 0, is no violation") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.ack(0);
    alice.gap(0, 0);
    CHECK(alice.received() == "");
    CHECK_FALSE(alice.is_closed());
}

TEST_CASE("BadInput: a gap behind what was never sent is ignored") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.gap(0, 99);
    CHECK(alice.received() == "");
}

TEST_CASE("BadInput: unknown keys and both spellings pass") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    alice.send(R"({"type":2,"dataContent":"a","to":"bob","fp":"a","QoS":true,"seq":1,"sm":-1,)"
               R"("retryCount":3,"extra":{"deep":[1,2,{"x":null}]}})");
    CHECK(alice.received() == "54 h1 acc 1@1");
}

TEST_CASE("BadInput: a hundred connections that never log in are all closed") {
    GatewayWorld world;
    Bystanders bystanders(world);
    std::vector<FakeClient*> idle;
    for (int i = 0; i < 100; ++i) {
        idle.push_back(i % 2 == 0 ? &world.connect() : &world.connect_plain());
    }
    world.advance(5s);
    bystanders.check();
    world.advance(5s);
    for (FakeClient* const client : idle) CHECK(client->received() == "closed 4001");
    bystanders.check();
    CHECK(world.router().session_count() == 2);
}

TEST_CASE("BadInput: nothing is answered to a client that is gone") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    world.hold();
    alice.say({"a", 1});
    alice.say({"g", 2, "g1", std::nullopt, "", "", kTypeuGroup});
    alice.drop();
    alice.session().on_text("x");
    alice.session().on_binary();
    alice.session().on_drained();
    alice.session().flush();
    alice.session().drain();
    world.release();
    CHECK(alice.received() == "");
}

TEST_CASE("BadInput: random bytes and mutated packets break nothing") {
    GatewayWorld::Options options;
    options.session.malformed_max = 1'000'000;
    GatewayWorld world(options);
    Bystanders bystanders(world);
    std::mt19937_64 random(20261121);
    const std::vector<std::string> seeds = {
        R"({"type":2,"dataContent":"x","to":"bob","fp":"a","Qos":true,"typeu":0,"seq":1,"h":0})",
        R"({"type":4,"h":0,"rx":0,"gap":true})",
        R"({"type":1,"dataContent":"{\"sent\":0,\"rx\":0,\"h\":0}"})",
        R"({"type":0,"dataContent":"{\"loginUserId\":\"alice\",\"firstLoginTime\":0}"})",
        R"({"type":5,"dataContent":"x","QoS":true,"sm":-1})",
    };
    for (int round = 0; round < 30; ++round) {
        FakeClient* clients[] = {&world.online({"alice"}), &world.connect(), &world.connect_plain(),
                                 &world.online_im_sdk("im")};
        for (int i = 0; i < 100; ++i) {
            std::string text = seeds[random() % seeds.size()];
            for (std::uint64_t flips = random() % 4; flips > 0; --flips) {
                text[random() % text.size()] = static_cast<char>(random());
            }
            if (random() % 10 == 0) text.resize(random() % text.size());
            clients[random() % 4]->send(text);
        }
        for (FakeClient* const client : clients) {
            if (!client->is_closed()) client->drop();
        }
        bystanders.check();
    }
    CHECK(world.router().session_count() == 2);
}
