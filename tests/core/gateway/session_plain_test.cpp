// PROTOCOL.md section 3: the clients of IM-SDK and MobileIMSDK.

#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <string>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

// As the published clients write it.
std::string im_sdk_data(const std::string& from, const std::string& to, const std::string& name,
                        bool qos = true, const std::string& more = "") {
    return R"({"bridge":false,"type":2,"dataContent":")" + name + R"(","from":")" + from +
           R"(","to":")" + to + R"(","fp":")" + name + R"(","Qos":)" + (qos ? "true" : "false") +
           R"(,"typeu":0,"retryCount":0,"sendTs":null)" + more + "}";
}

std::string mobile_data(const std::string& from, const std::string& to, const std::string& name,
                        const std::string& bridge = "false") {
    return R"({"bridge":)" + bridge + R"(,"type":2,"dataContent":")" + name + R"(","from":")" +
           from + R"(","to":")" + to + R"(","fp":")" + name + R"(","QoS":true,"typeu":0,"sm":-1})";
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::string login_text(const std::string& content) {
    std::string escaped;
    for (const char c : content) {
        if (c == '"') escaped += '\\';
        escaped += c;
    }
    return R"({"type":0,"dataContent":")" + escaped + R"(","from":"u","to":"0"})";
}

}  // namespace

// ---- which profile ----

TEST_CASE("Plain: a login with app is im-sdk and answered as its server does") {
    GatewayWorld world;
    FakeClient& client = world.connect_plain();
    client.login_im_sdk("s1");
    CHECK(
        has(client.last_text(), R"("type":50,"dataContent":"{\"code\":0}","from":"0","to":"s1")"));
    CHECK(has(client.last_text(), R"("Qos":false)"));
    CHECK_FALSE(has(client.last_text(), "QoS"));
    CHECK_FALSE(has(client.last_text(), "petrel"));
}

TEST_CASE("Plain: a login with firstLoginTime is mobileimsdk and told the time of its login") {
    GatewayWorld world;
    FakeClient& client = world.connect_plain();
    client.login_mobile("j1");
    CHECK(client.received() == "50 0 first " + std::to_string(world.wall_ms()));
    CHECK(has(client.last_text(), R"("QoS":false)"));
    CHECK(has(client.last_text(), R"("sm":)"));
    CHECK_FALSE(has(client.last_text(), "Qos"));
}

TEST_CASE("Plain: which login is whose") {
    GatewayWorld world;
    FakeClient& client = world.connect_plain();
    ProfileId expected = ProfileId::kImSdk;
    std::string app = "default";
    std::string content;
    SUBCASE("neither app nor firstLoginTime") { content = R"({"loginUserId":"u"})"; }
    SUBCASE("app null") { content = R"({"loginUserId":"u","loginToken":"t","app":null})"; }
    SUBCASE("app") {
        content = R"({"loginUserId":"u","loginToken":"t","app":"test","extra":null})";
        app = "test";
    }
    SUBCASE("both") {
        content = R"({"loginUserId":"u","loginToken":"t","app":"test","firstLoginTime":0})";
        expected = ProfileId::kMobileImSdk;
        app = "test";
    }
    client.send(login_text(content));
    CHECK(client.session().identity().profile() == expected);
    CHECK(client.session().identity().app() == app);
    CHECK(client.session().identity().device() == "-");
    CHECK(client.session().identity().device_class() == "other");
}

TEST_CASE("Plain: an unknown subprotocol is plain") {
    GatewayWorld world;
    FakeClient& client = world.connect("chat");
    client.login_im_sdk("s1");
    CHECK(client.received() == "50 0");
}

TEST_CASE("Plain: refused logins") {
    GatewayWorld world;
    world.verdict = {1025, "no"};
    FakeClient& client = world.connect_plain();
    SUBCASE("im-sdk") {
        client.login_im_sdk("u");
        CHECK(client.received() == "50 1025, closed 4003");
    }
    SUBCASE("mobileimsdk") {
        client.login_mobile("u");
        CHECK(has(client.last_text(), R"({\"code\":1025,\"firstLoginTime\":-1})"));
        CHECK(has(client.last_text(), R"("to":"-1")"));
        CHECK(client.received() == "50 1025 first -1, closed 4003");
    }
}

// ---- before the login ----

TEST_CASE("Plain: before the login QoS means mobileimsdk, which is told 301 and closed") {
    GatewayWorld world;
    FakeClient& client = world.connect_plain();
    const std::string text = mobile_data("u", "v", "fp-nologin");
    client.send(text);
    REQUIRE(client.is_closed());
    CHECK(client.close_code() == 4001);
    CHECK(client.last<ErrorPacket>().code == 301);
    CHECK(client.last<ErrorPacket>().message == text);
    CHECK(has(client.last_text(), R"("from":"0","to":"-1")"));
    CHECK(has(client.last_text(), R"("QoS":false)"));
}

TEST_CASE("Plain: before the login all else is im-sdk, which is told 301 and stays") {
    GatewayWorld world;
    FakeClient& client = world.connect_plain();
    std::string text;
    SUBCASE("message") { text = im_sdk_data("u", "v", "a"); }
    SUBCASE("heartbeat without either spelling") { text = R"({"type":1,"dataContent":"{}"})"; }
    SUBCASE("ack") { text = R"({"type":4,"dataContent":"a","Qos":false})"; }
    client.send(text);
    CHECK(client.received() == "52 301");
    CHECK(client.last<ErrorPacket>().message == text);
    client.login_mobile("u");
    CHECK(client.session().state() == Session::State::kOnline);
}

TEST_CASE("Plain: echo is answered before the login with only its type and time changed") {
    GatewayWorld world;
    FakeClient& client = world.connect_plain();
    client.send(R"({"bridge":false,"type":5,"dataContent":"hello echo","from":"u","to":"0",)"
                R"("QoS":false,"typeu":3,"sm":-1})");
    CHECK(client.last_text() ==
          R"({"bridge":false,"type":53,"dataContent":"hello echo","from":"u","to":"0",)"
          R"("QoS":false,"typeu":3,"sm":)" +
              std::to_string(world.wall_ms()) + "}");
}

// ---- messages to the gateway ----

TEST_CASE("Plain: im-sdk is acked with 54 from the server, after the commit") {
    GatewayWorld world;
    FakeClient& alice = world.online_im_sdk("alice");
    world.hold();
    alice.send(im_sdk_data("alice", "bob", "c-fp-1"));
    CHECK(alice.received() == "");
    world.commit();
    CHECK(alice.received() == "54 c-fp-1");
    CHECK(has(alice.last_text(), R"("dataContent":"c-fp-1","from":"0","to":"alice")"));
}

TEST_CASE("Plain: mobileimsdk is acked with 4 from the recipient, the bridge flag copied") {
    GatewayWorld world;
    FakeClient& alice = world.online_mobile("alice");
    alice.send(mobile_data("alice", "bob", "j-fp-1", "true"));
    CHECK(alice.received() == "4 j-fp-1");
    CHECK(has(alice.last_text(), R"("bridge":true)"));
    CHECK(has(alice.last_text(), R"("from":"bob","to":"alice")"));
}

TEST_CASE("Plain: a duplicate is acked again and delivered once") {
    GatewayWorld world;
    FakeClient& alice = world.online_im_sdk("alice");
    FakeClient& bob = world.online_im_sdk("bob");
    alice.send(im_sdk_data("alice", "bob", "a"));
    alice.send(im_sdk_data("alice", "bob", "a"));
    CHECK(alice.received() == "54 a, 54 a");
    CHECK(bob.received() == "2 a");
}

TEST_CASE("Plain: QoS without a fingerprint is delivered under one of the gateway's, not acked") {
    GatewayWorld world;
    FakeClient& alice = world.online_im_sdk("alice");
    FakeClient& bob = world.online({"bob"});
    alice.send(R"({"type":2,"dataContent":"x","from":"alice","to":"bob","fp":null,"Qos":true})");
    CHECK(alice.received() == "");
    CHECK(bob.last<Data>().text == "x");
    CHECK(bob.last<Data>().fp.is_uuid());
}

TEST_CASE("Plain: refusals carry the packet as text") {
    GatewayWorld::Options options;
    options.session.payload_max = 10;
    GatewayWorld world(options);
    FakeClient& alice = world.online_im_sdk("alice");
    std::string text;
    int code = 0;
    SUBCASE("forged") {
        text = im_sdk_data("mallory", "bob", "a");
        code = 306;
    }
    SUBCASE("forged, without QoS") {
        text = im_sdk_data("mallory", "bob", "a", false);
        code = 306;
    }
    SUBCASE("too large") {
        text = im_sdk_data("alice", "bob", "eleven-char");
        code = 304;
    }
    SUBCASE("group") {
        text =
            R"({"type":2,"dataContent":"x","from":"alice","to":"g","fp":"a","Qos":true,"typeu":1})";
        code = 303;
    }
    SUBCASE("group, without QoS") {
        text = R"({"type":2,"dataContent":"x","from":"alice","to":"g","Qos":false,"typeu":1})";
        code = 303;
    }
    SUBCASE("store full") {
        world.set_full(true);
        text = im_sdk_data("alice", "bob", "a");
        code = 302;
    }
    SUBCASE("commit failed") {
        world.set_failing(true);
        text = im_sdk_data("alice", "bob", "a");
        code = 302;
    }
    alice.send(text);
    CHECK(alice.received() == "52 " + std::to_string(code));
    CHECK(alice.last<ErrorPacket>().message == text);
}

TEST_CASE("Plain: a used fingerprint with another payload is 305, even when forged") {
    GatewayWorld world;
    FakeClient& alice = world.online_im_sdk("alice");
    alice.send(im_sdk_data("alice", "bob", "a"));
    alice.send(im_sdk_data("mallory", "carol", "a"));
    CHECK(alice.received() == "54 a, 52 305");
}

TEST_CASE("Plain: what is not decided yet is bounded") {
    GatewayWorld::Options options;
    SUBCASE("in number") { options.session.plain_pending_max = 2; }
    SUBCASE("in bytes") { options.session.window_bytes = 300; }
    GatewayWorld world(options);
    FakeClient& alice = world.online_im_sdk("alice");
    world.hold();
    for (const char* name : {"a", "b", "c"}) alice.send(im_sdk_data("alice", "bob", name));
    CHECK(alice.received() == "52 302");
    world.release();
    CHECK(alice.received() == "54 a, 54 b");
}

TEST_CASE("Plain: positions of petrel.v1 mean nothing") {
    GatewayWorld world;
    FakeClient& alice = world.online_im_sdk("alice");
    alice.send(im_sdk_data("alice", "bob", "a", true, R"(,"seq":7,"prev":3,"h":9,"acc":"x")"));
    alice.send(R"({"type":4,"dataContent":"a","h":12})");
    CHECK(alice.received() == "54 a");
}

TEST_CASE("Plain: users \"0\" messages wait in its inbox like anyone's, and it answers") {
    GatewayWorld world;
    FakeClient& alice = world.online_mobile("alice");
    alice.send(mobile_data("alice", "0", "fp-0002"));
    CHECK(alice.received() == "4 fp-0002");
    FakeClient& backend = world.connect();
    backend.login({"0", "backend"});
    CHECK(backend.received() == "50 0/1 accepted 0, 2 fp-0002@1");
    backend.say({"answer", 1, "alice"});
    CHECK(alice.received() == "2 answer");
    CHECK(alice.last<Data>().from == "0");
}

// ---- pushes ----

TEST_CASE("Plain: a push speaks the profile of its reader and has no positions") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    const std::string time = std::to_string(world.wall_ms());
    SUBCASE("im-sdk") {
        FakeClient& bob = world.online_im_sdk("bob");
        alice.say({"push-fp-1", 1, "bob", std::nullopt, "push1"});
        CHECK(bob.last_text() ==
              R"({"bridge":false,"type":2,"dataContent":"push1","from":"alice","to":"bob",)"
              R"("fp":"push-fp-1","Qos":true,"typeu":0,"sendTs":)" +
                  time + "}");
    }
    SUBCASE("mobileimsdk") {
        FakeClient& bob = world.online_mobile("bob");
        alice.say({"b-fp-1", 1, "bob", std::nullopt, "hello java"});
        CHECK(bob.last_text() ==
              R"({"bridge":false,"type":2,"dataContent":"hello java","from":"alice","to":"bob",)"
              R"("fp":"b-fp-1","QoS":true,"typeu":0,"sm":)" +
                  time + "}");
    }
}

TEST_CASE("Plain: the session decides who acked, whatever the ack's addresses say") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online_im_sdk("bob");
    alice.say({"a", 1});
    bob.ack("a", "alice", "0");
    world.advance(11s);
    CHECK(bob.received() == "2 a");
    REQUIRE(world.cursor_updates.size() == 1);
    CHECK(world.cursor_updates[0].user == "bob");
    CHECK(world.cursor_updates[0].device == "-");
    CHECK(world.cursor_updates[0].is_plain);
}

TEST_CASE("Plain: another user's ack settles nothing") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online_im_sdk("bob");
    FakeClient& mallory = world.online_im_sdk("mallory");
    alice.say({"a", 1});
    mallory.ack("a", "bob", "0");
    world.advance(5s);
    CHECK(bob.received() == "2 a, 2 a");
    CHECK(world.counters().unknown_acks == 1);
    CHECK(mallory.received() == "");
}

TEST_CASE("Plain: a push is retried every 5 s until it is acked") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online_mobile("bob");
    alice.say({"a", 1});
    bob.received();
    world.advance(4'999ms);
    CHECK(bob.received() == "");
    world.advance(1ms);
    CHECK(bob.received() == "2 a");
    for (int i = 0; i < 20; ++i) {
        world.advance(5s);
        bob.heartbeat();
        CHECK(bob.received() == "2 a, 51");
    }
    bob.ack("a", "bob", "alice");
    world.advance(20s);
    CHECK(bob.received() == "");
}

TEST_CASE("Plain: a push younger than 2 s waits for the next check") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online_im_sdk("bob");
    alice.say({"a", 1});
    world.advance(3'001ms);
    alice.say({"b", 2});
    bob.received();
    world.advance(1'999ms);
    CHECK(bob.received() == "2 a");
    world.advance(5s);
    CHECK(bob.received() == "2 a, 2 b");
}

TEST_CASE("Plain: at most 64 unacked are pushed, the rest waits") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online_im_sdk("bob");
    for (Position i = 1; i <= 70; ++i) alice.say({"m" + std::to_string(i), i});
    CHECK(bob.last<Data>().fp == fp("m64"));
    bob.received();
    bob.ack("m5", "alice", "0");
    CHECK(bob.received() == "2 m65");
}

TEST_CASE("Plain: what was not acked comes again at the next login, what was acked does not") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online_im_sdk("bob");
    for (Position i = 1; i <= 6; ++i) alice.say({"m" + std::to_string(i), i});
    for (const char* name : {"m1", "m3", "m4", "m6"}) bob.ack(name, "alice", "0");
    bob.drop();
    FakeClient& again = world.connect_plain();
    again.login_im_sdk("bob");
    CHECK(again.received() == "50 0, 2 m2, 2 m5");
    again.ack("m2", "alice", "0");
    again.ack("m5", "alice", "0");
    again.drop();
    FakeClient& third = world.connect_plain();
    third.login_im_sdk("bob");
    CHECK(third.received() == "50 0");
}

TEST_CASE("Plain: two senders' equal fingerprints are pushed one by one") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& carol = world.online({"carol"});
    FakeClient& bob = world.online_im_sdk("bob");
    alice.say({"same", 1});
    carol.say({"same", 1, "bob", std::nullopt, "carol's"});
    CHECK(bob.received() == "2 same");
    bob.ack("same", "alice", "0");
    CHECK(bob.received() == "2 same");
    CHECK(bob.last<Data>().from == "carol");
    bob.ack("same", "carol", "0");
    world.advance(20s);
    CHECK(bob.received() == "");
    CHECK(world.cursor_updates.size() == 2);
}

TEST_CASE("Plain: the three profiles talk to one another") {
    GatewayWorld world;
    FakeClient& v1 = world.online({"v"});
    FakeClient& im_sdk = world.online_im_sdk("i");
    FakeClient& mobile = world.online_mobile("m");
    v1.say({"vi", 1, "i"});
    im_sdk.send(im_sdk_data("i", "m", "im"));
    mobile.send(mobile_data("m", "v", "mv"));
    CHECK(v1.received() == "54 h1 acc 1@1, 2 mv@1");
    CHECK(im_sdk.received() == "2 vi, 54 im");
    CHECK(mobile.received() == "2 im, 4 mv");
}

// ---- receipts ----

TEST_CASE("Plain: acks give the v1 sender receipts, a plain sender none") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& carol = world.online_im_sdk("carol");
    FakeClient& bob = world.online_im_sdk("bob");
    alice.say({"a", 1});
    carol.send(im_sdk_data("carol", "bob", "c"));
    alice.received();
    carol.received();
    bob.ack("a", "alice", "0");
    bob.ack("c", "carol", "0");
    CHECK(alice.received() == "56 u:alice:bob 1 by bob");
    CHECK(carol.received() == "");
}

TEST_CASE("Plain: a receipt never covers what is not acked yet") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online_im_sdk("bob");
    for (Position i = 1; i <= 4; ++i) alice.say({"m" + std::to_string(i), i});
    alice.received();
    bob.ack("m2", "alice", "0");
    bob.ack("m4", "alice", "0");
    CHECK(alice.received() == "");
    bob.ack("m1", "alice", "0");
    CHECK(alice.received() == "56 u:alice:bob 1 by bob");
    bob.ack("m3", "alice", "0");
    CHECK(alice.received() == "56 u:alice:bob 4 by bob");
}

TEST_CASE("Plain: acks out of order of two conversations give both senders their receipts") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& carol = world.online({"carol"});
    FakeClient& bob = world.online_im_sdk("bob");
    alice.say({"a", 1});
    carol.say({"c", 1});
    alice.received();
    carol.received();
    bob.ack("c", "carol", "0");
    bob.ack("a", "alice", "0");
    CHECK(carol.received() == "56 u:bob:carol 1 by bob");
    CHECK(alice.received() == "56 u:alice:bob 1 by bob");
}

// ---- liveness, the same account again ----

TEST_CASE("Plain: an idle client is closed after 2.5 of its profile's intervals") {
    GatewayWorld world;
    FakeClient& im_sdk = world.online_im_sdk("i");
    FakeClient& mobile = world.online_mobile("m");
    world.advance(37'400ms);
    CHECK_FALSE(mobile.is_closed());
    world.advance(200ms);
    CHECK(mobile.close_code() == 4002);
    world.advance(12'300ms);
    CHECK_FALSE(im_sdk.is_closed());
    world.advance(200ms);
    CHECK(im_sdk.close_code() == 4002);
}

TEST_CASE("Plain: a heartbeat is answered") {
    GatewayWorld world;
    FakeClient& im_sdk = world.online_im_sdk("i");
    im_sdk.send(
        R"({"type":1,"dataContent":"{\"sent\":5,\"h\":9}","from":"i","to":"0","Qos":false})");
    CHECK(im_sdk.received() == "51");
    CHECK(has(im_sdk.last_text(), R"("dataContent":"{}")"));
}

TEST_CASE("Plain: a second im-sdk connection closes the first with 4004 and no packet") {
    GatewayWorld world;
    FakeClient& first = world.online_im_sdk("alice");
    FakeClient& second = world.online_im_sdk("alice");
    CHECK(first.received() == "closed 4004");
    CHECK_FALSE(second.is_closed());
}

TEST_CASE("Plain: a new mobileimsdk login kicks the old one") {
    GatewayWorld world;
    FakeClient& first = world.online_mobile("alice");
    world.advance(1s);
    FakeClient& second = world.connect_plain();
    SUBCASE("firstLoginTime 0") { second.login_mobile("alice", 0); }
    SUBCASE("newer") { second.login_mobile("alice", world.wall_ms()); }
    CHECK(first.received() == "54 1, closed 4004");
    CHECK(second.received() == "50 0 first " + std::to_string(world.wall_ms()));
}

TEST_CASE("Plain: an equal firstLoginTime replaces the old socket, which is closed unkicked") {
    GatewayWorld world;
    FakeClient& first = world.online_mobile("alice");
    const std::int64_t time = world.wall_ms();
    world.advance(1s);
    FakeClient& second = world.connect_plain();
    second.login_mobile("alice", time);
    CHECK(first.is_closed());
    CHECK(first.received().find("54") == std::string::npos);
    CHECK(second.received() == "50 0 first " + std::to_string(time));
}

TEST_CASE("Plain: an older firstLoginTime is refused and the live session notices nothing") {
    GatewayWorld world;
    FakeClient& first = world.online_mobile("alice");
    FakeClient& second = world.connect_plain();
    second.login_mobile("alice", world.wall_ms() - 1);
    CHECK(second.received() == "50 409 first -1, closed 4003");
    first.heartbeat();
    CHECK(first.received() == "51");
}

TEST_CASE("Plain: a login on an older connection is stale") {
    GatewayWorld world;
    FakeClient& old_one = world.connect_plain();
    FakeClient& live = world.online_im_sdk("alice");
    old_one.login_im_sdk("alice");
    CHECK(old_one.received() == "50 409, closed 4001");
    CHECK_FALSE(live.is_closed());
}

TEST_CASE("Plain: a second login on the socket refreshes the token") {
    GatewayWorld world;
    SUBCASE("im-sdk") {
        FakeClient& client = world.online_im_sdk("alice");
        client.login_im_sdk("alice");
        CHECK(client.received() == "50 0");
        client.login_im_sdk("bob");
        CHECK(client.received() == "52 306");
    }
    SUBCASE("mobileimsdk") {
        FakeClient& client = world.online_mobile("alice");
        const std::string first = std::to_string(world.wall_ms());
        world.advance(1s);
        client.login_mobile("alice", 5);
        CHECK(client.received() == "50 0 first " + first);
    }
}

TEST_CASE("Plain: a plain session and a v1 device of the same user live side by side") {
    GatewayWorld world;
    FakeClient& plain = world.online_im_sdk("bob");
    FakeClient& phone = world.online({"bob"});
    FakeClient& alice = world.online({"alice"});
    alice.say({"a", 1});
    CHECK(plain.received() == "2 a");
    CHECK(phone.received() == "2 a@1");
}
