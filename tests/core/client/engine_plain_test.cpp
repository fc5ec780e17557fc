#include "tests/support/engine_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

EngineOptions plain_options(ProfileId profile) {
    EngineOptions options;
    options.profile = profile;
    return options;
}

// Logged in to a plain server.
class PlainWorld final : public EngineWorld {
public:
    explicit PlainWorld(ProfileId id = ProfileId::kImSdk) : PlainWorld(plain_options(id)) {}
    explicit PlainWorld(const EngineOptions& wanted) : EngineWorld(wanted) {
        echoed = "";
        profile = wanted.profile;
        LoginResponse reply = plain_login();
        if (profile == ProfileId::kMobileImSdk) reply.first_login_time = 9;
        go_online(reply);
        told();
        server.took();
    }
};

Ack plain_ack(const std::string& id) {
    Ack ack;
    ack.fp = fp(id);
    ack.to = "alice";
    return ack;
}

Data plain_push(const std::string& id, const std::string& text) {
    Data data;
    data.from = "bob";
    data.to = "alice";
    data.qos = true;
    data.fp = fp(id);
    data.text = text;
    data.typeu = kTypeuSingle;
    return data;
}

// A 52 that carries the refused packet.
ErrorPacket plain_refusal(const EngineWorld& world, int code) {
    ErrorPacket error;
    error.code = code;
    error.message = world.texts.back();
    return error;
}

}  // namespace

TEST_CASE("Engine, plain: a message carries the user as from, and is accepted by its fingerprint") {
    for (const ProfileId id : {ProfileId::kImSdk, ProfileId::kMobileImSdk}) {
        PlainWorld world(id);
        world.server.expect(data("a")).reply(plain_ack("a"));
        world.send("a");
        CHECK(world.told() == "accepted a/1");
        CHECK(world.texts.back().find(R"("from":"alice")") != std::string::npos);
        CHECK(world.texts.back().find(R"("seq")") == std::string::npos);
    }
}

TEST_CASE("Engine, plain: no ack, two retries, then lost; a late ack is a correction") {
    PlainWorld world;
    world.server.allow(data("a"));
    world.server.allow(heartbeat());
    world.send("a");
    for (int i = 0; i < 20; ++i) {
        world.advance(1s);
        world.say(HeartbeatResponse{});
    }
    CHECK(world.told() == "lost a/3");
    world.say(plain_ack("a"));
    CHECK(world.told() == "correction accepted a/0");
    CHECK(world.last<OutcomeEvent>()->is_correction);
}

TEST_CASE("Engine, plain: time offline consumes no retries") {
    PlainWorld world;
    world.server.allow(data("a"));
    world.send("a");
    world.cut();
    world.opens = false;
    world.advance(3600s);
    CHECK(world.told("lost").empty());
    CHECK(world.engine().stats().kept == 1);
}

TEST_CASE("Engine, plain: the ack of a push goes from us to its sender, with bridge copied") {
    for (const bool bridge : {false, true}) {
        PlainWorld world(ProfileId::kMobileImSdk);
        Data data = plain_push("p", "hi");
        data.bridge = bridge;
        world.server.expect(exactly("ack p"));
        world.say(data);
        CHECK(world.told() == "message hi");
        const auto sent = decode(world.texts.back(), ProfileId::kMobileImSdk);
        const Ack& ack = std::get<Ack>(sent->packet);
        CHECK(ack.from == "alice");
        CHECK(ack.to == "bob");
        CHECK(ack.bridge == bridge);
    }
}

TEST_CASE("Engine, plain: a push again is acked again and not handed up") {
    PlainWorld world;
    world.server.allow(ack());
    world.say(plain_push("p", "hi"));
    world.say(plain_push("p", "hi"));
    CHECK(world.told() == "message hi");
    CHECK(world.server.took() == "ack p, ack p");
}

TEST_CASE("Engine, plain: the ack waits for the app; a push again meanwhile is not acked") {
    EngineOptions options = plain_options(ProfileId::kImSdk);
    options.manual_confirm = true;
    PlainWorld world(options);
    world.say(plain_push("p", "hi"));
    world.say(plain_push("p", "hi"));
    CHECK(world.server.took().empty());
    world.server.expect(exactly("ack p"));
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    world.turn();
}

TEST_CASE("Engine, plain: what is handled offline is acked when it comes again") {
    EngineOptions options = plain_options(ProfileId::kImSdk);
    options.manual_confirm = true;
    PlainWorld world(options);
    world.say(plain_push("p", "hi"));
    world.cut();
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    world.come_back(plain_login());
    world.told();
    world.server.expect(exactly("ack p"));
    world.say(plain_push("p", "hi"));
    CHECK(world.told().empty());
}

TEST_CASE("Engine, plain: dedup is by sender and fingerprint") {
    PlainWorld world;
    world.server.allow(ack());
    Data other = plain_push("p", "of carol");
    other.from = "carol";
    world.say(plain_push("p", "hi"));
    world.say(other);
    CHECK(world.told() == "message hi, message of carol");
}

TEST_CASE("Engine, plain: QoS without a fingerprint is handed up and not acked") {
    PlainWorld world;
    Data data = plain_push("p", "hi");
    data.fp = {};
    world.say(data);
    world.say(data);
    CHECK(world.told() == "message hi, message hi");
    CHECK(world.server.took().empty());
}

TEST_CASE("Engine, plain: beyond unhandled_max a push is left to its next copy") {
    EngineOptions options = plain_options(ProfileId::kImSdk);
    options.manual_confirm = true;
    options.window = 0;
    options.unhandled_max = 1;
    PlainWorld world(options);
    world.say(plain_push("p", "one"));
    world.say(plain_push("q", "two"));
    CHECK(world.told() == "message one");
    world.server.allow(ack());
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    world.say(plain_push("q", "two"));
    CHECK(world.told() == "message two");
}

TEST_CASE("Engine, plain: a 52 with our packet as text rejects it, but for 301, 302, 308, 402") {
    for (const int code : {2, 302, 303, 304, 402, 1025}) {
        PlainWorld world;
        world.server.expect(data("a"));
        world.send("a");
        world.say(plain_refusal(world, code));
        const std::string told = world.told();
        if (code == 302) {
            CHECK(told.empty());
        } else if (code == 402) {
            CHECK(told == "token-needed 402");
        } else {
            CHECK(told == "rejected a/1 code " + std::to_string(code));
        }
    }
}

// Simulator, seeds 6555 and 7535: the refusal of one copy ended a message whose next copy was
// taken.
TEST_CASE(
    "Engine, plain: a full inbox does not end a message, of which another copy may be taken") {
    PlainWorld world;
    world.server.expect(data("a"));
    world.send("a");
    world.say(plain_refusal(world, 308));
    CHECK(world.told().empty());
    world.say(plain_ack("a"));
    CHECK(world.told() == "accepted a/1");
}

TEST_CASE("Engine, plain: a 52 with another text is told as an error") {
    PlainWorld world;
    for (const char* text : {"no", "", "{", R"({"type":2,"fp":"unknown","Qos":true})",
                             R"({"type":1,"dataContent":"{}"})"}) {
        ErrorPacket error;
        error.code = 2;
        error.message = text;
        world.say(error);
        CHECK(world.told() == "error 2");
    }
}

TEST_CASE("Engine, plain: heartbeats keep the profile's interval") {
    PlainWorld world(ProfileId::kMobileImSdk);
    world.server.allow(heartbeat());
    for (int i = 0; i < 60; ++i) {
        world.advance(1s);
        world.say(HeartbeatResponse{});
    }
    CHECK(world.engine().state() == ClientState::kOnline);
    // The first within the interval, then every 15 s.
    const std::string took = world.server.took();
    CHECK((took == "beat, beat, beat, beat" || took == "beat, beat, beat, beat, beat"));
}

TEST_CASE("Engine, plain: the relogin keeps the profile's pace") {
    PlainWorld world(ProfileId::kImSdk);
    world.cut();
    world.opens = false;
    world.advance(1999ms);
    CHECK(world.asked.size() == 1);
    world.advance(1ms);
    CHECK(world.asked.size() == 2);
}

TEST_CASE("Engine, plain: the app's own timings count") {
    EngineOptions options = plain_options(ProfileId::kImSdk);
    options.relogin.fixed_first = 100ms;
    options.relogin.fixed_interval = 100ms;
    PlainWorld world(options);
    world.cut();
    world.opens = false;
    world.advance(100ms);
    CHECK(world.asked.size() == 2);
}

TEST_CASE("Engine, plain: messages kept by positions leave by fingerprint after a fallback") {
    EngineWorld world;
    world.go_online();
    world.server.expect(exactly("data a@1"));
    world.send("a");
    world.cut();
    world.told();
    world.echoed = "";
    world.profile = ProfileId::kImSdk;
    world.server.expect(login()).reply(plain_login());
    world.server.expect(exactly("data a")).reply(plain_ack("a"));
    world.server.allow(heartbeat());
    world.advance(3s);
    CHECK(world.told("accepted") == "accepted a/2");
}

TEST_CASE("Engine, plain: an ack for what nobody sent is only counted") {
    PlainWorld world;
    world.say(plain_ack("never"));
    CHECK(world.told().empty());
    CHECK(world.engine().stats().unknown_acks == 1);
}

TEST_CASE("Engine, plain: a positional ack is ignored") {
    PlainWorld world;
    world.say_text(R"({"type":54,"h":7})");
    world.turn();
    CHECK(world.told().empty());
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine, plain: a token that is asked for on a live connection logs in anew") {
    PlainWorld world;
    ErrorPacket error;
    error.code = 402;
    world.say(error);
    CHECK(world.told() == "token-needed 402");
    world.engine().set_token(world.now(), "new");
    world.turn();
    CHECK(world.closes.size() == 1);
    world.come_back(plain_login());
    CHECK(world.texts.back().find("new") != std::string::npos);
}

TEST_CASE("Engine, plain: a token that came before it was asked for is used when it is") {
    PlainWorld world;
    world.engine().set_token(world.now(), "new");
    world.turn();
    CHECK(world.closes.empty());
    ErrorPacket error;
    error.code = 402;
    world.say(error);
    CHECK(world.told("token").empty());
    CHECK(world.closes.size() == 1);
    world.come_back(plain_login());
    CHECK(world.texts.back().find("new") != std::string::npos);
}
