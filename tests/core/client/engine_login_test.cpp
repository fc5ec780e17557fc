#include "tests/support/engine_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

EngineOptions with_profile(ProfileId profile) {
    EngineOptions options;
    options.profile = profile;
    return options;
}

// The payload of the last login that was sent.
LoginV1 last_login(const EngineWorld& world) {
    for (auto it = world.texts.rbegin(); it != world.texts.rend(); ++it) {
        const auto decoded = decode(*it, ProfileId::kPetrelV1);
        const auto* sent = decoded ? std::get_if<Login>(&decoded->packet) : nullptr;
        if (sent != nullptr && sent->v1) return *sent->v1;
    }
    FAIL("no login was sent");
    return {};
}

ErrorPacket general_error(int code) {
    ErrorPacket error;
    error.code = code;
    error.message = "no";
    return error;
}

}  // namespace

TEST_CASE("Engine: a login asks for petrel.v1, says who it is, and is told as online") {
    EngineOptions options;
    options.token = "t";
    options.window = 8;
    EngineWorld world(options);
    world.go_online();
    CHECK(world.asked == std::vector<std::string>{"petrel.v1"});
    CHECK(world.server.took() == "login alice gen 0 first 1");
    CHECK(world.told() == "connecting, online, login 0");
    CHECK(world.engine().state() == ClientState::kOnline);
    CHECK(world.engine().profile() == ProfileId::kPetrelV1);
    CHECK(last_login(world).device == "phone");
    CHECK(last_login(world).window == 8);
}

TEST_CASE("Engine: without a device it takes the inbox file's, else a fresh one") {
    EngineOptions options;
    EngineWorld world(options);
    world.options.device.clear();
    world.inbox.device_id = "of-the-file";
    world.go_online();
    CHECK(last_login(world).device == "of-the-file");

    EngineWorld fresh;
    fresh.options.device.clear();
    fresh.go_online();
    CHECK_FALSE(last_login(fresh).device.empty());
}

TEST_CASE("Engine: an automatic relogin repeats the generation of the app's login") {
    EngineWorld world;
    world.go_online();
    world.server.took();
    world.cut();
    CHECK(world.told("connecting") == "connecting, connecting 1006");
    world.come_back();
    CHECK(world.server.took().rfind("login alice gen 7 from e/0 first 1", 0) == 0);
    CHECK(world.engine().stats().reconnects == 1);
}

TEST_CASE("Engine: a login that the app asks for again has generation 0") {
    EngineWorld world;
    world.go_online();
    world.server.expect(logout());
    world.engine().logout(world.now(), true);
    world.turn();
    CHECK(world.closes == std::vector<std::string>{"1000 logout"});
    CHECK(world.told("offline") == "offline");
    world.server.took();
    world.go_online();
    CHECK(world.server.took() == "login alice gen 0 from e/0 first 1");
}

TEST_CASE("Engine: a login while online changes nothing") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.login();
    CHECK(world.told().empty());
    world.cut();
    world.server.took();
    world.come_back();
    CHECK(world.server.took().rfind("login alice gen 7", 0) == 0);
}

TEST_CASE("Engine: a server that doesn't echo the subprotocol is spoken to as im-sdk") {
    EngineWorld world;
    world.echoed = "";
    world.profile = ProfileId::kImSdk;
    world.go_online(plain_login());
    CHECK(world.server.took() == "login alice");
    CHECK(world.told("login") == "login 0");
    CHECK(world.engine().profile() == ProfileId::kImSdk);
    CHECK(world.last<LoginEvent>()->profile == ProfileId::kImSdk);
}

TEST_CASE("Engine: a 50 without petrel after an echo falls back to im-sdk") {
    EngineWorld world;
    world.go_online(plain_login());
    CHECK(world.engine().profile() == ProfileId::kImSdk);
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: require_v1 stops at a plain server, with a clear error and no retry") {
    for (const bool is_echoed : {false, true}) {
        EngineOptions options;
        options.require_v1 = true;
        EngineWorld world(options);
        world.echoed = is_echoed ? "petrel.v1" : "";
        if (is_echoed) world.server.expect(login()).reply(plain_login());
        world.login();
        world.turn();
        CHECK(world.told() == "connecting, error 205, stopped 205");
        world.advance(60s);
        CHECK(world.asked.size() == 1);
    }
}

TEST_CASE("Engine: after a fallback the next connection asks for petrel.v1 again") {
    EngineWorld world;
    world.echoed = "";
    world.profile = ProfileId::kImSdk;
    world.go_online(plain_login());
    world.echoed = "petrel.v1";
    world.profile = ProfileId::kPetrelV1;
    world.cut();
    world.come_back();
    CHECK(world.engine().profile() == ProfileId::kPetrelV1);
    CHECK(world.asked == std::vector<std::string>{"petrel.v1", "petrel.v1"});
}

TEST_CASE("Engine: a plain profile asks for no subprotocol") {
    EngineWorld world(with_profile(ProfileId::kImSdk));
    world.echoed = "";
    world.profile = ProfileId::kImSdk;
    world.go_online(plain_login());
    CHECK(world.asked == std::vector<std::string>{""});
}

TEST_CASE("Engine: mobileimsdk says firstLoginTime 0, then the value of the first reply") {
    EngineWorld world(with_profile(ProfileId::kMobileImSdk));
    world.echoed = "";
    world.profile = ProfileId::kMobileImSdk;
    LoginResponse reply = plain_login();
    reply.first_login_time = 1234;
    world.go_online(reply);
    CHECK(world.server.took() == "login alice first 0");
    world.cut();
    reply.first_login_time = 5678;
    world.server.allow(heartbeat());
    world.server.expect(login()).reply(reply);
    world.advance(10s);
    CHECK(world.server.took().rfind("login alice first 1234", 0) == 0);
    world.cut();
    world.server.expect(login()).reply(reply);
    world.advance(10s);
    CHECK(world.server.took().rfind("login alice first 1234", 0) == 0);
}

TEST_CASE("Engine: a refusal follows retry and retryAfterMs as said") {
    EngineWorld world;
    LoginResponse reply = login_refused(503, true);
    reply.error_msg = "later";
    reply.retry_after_ms = 5000;
    world.server.expect(login()).reply(reply);
    world.login();
    CHECK(world.told() == "connecting, login 503 retry");
    CHECK(world.last<LoginEvent>()->message == "later");
    world.advance(4s);
    CHECK(world.asked.size() == 1);
    world.server.expect(login()).reply(login_ok());
    world.advance(1s);
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: without a word about retrying the code decides") {
    struct Case {
        int code;
        ProfileId profile;
        bool retries;
    };
    for (const Case& c : {Case{401, ProfileId::kPetrelV1, false},
                          {403, ProfileId::kPetrelV1, false},
                          {404, ProfileId::kPetrelV1, false},
                          {409, ProfileId::kPetrelV1, false},
                          {503, ProfileId::kPetrelV1, true},
                          {302, ProfileId::kPetrelV1, true},
                          {1025, ProfileId::kPetrelV1, true},
                          {777, ProfileId::kPetrelV1, true},
                          {401, ProfileId::kImSdk, false},
                          {409, ProfileId::kImSdk, false},
                          {1024, ProfileId::kImSdk, true},
                          {1025, ProfileId::kImSdk, false}}) {
        CAPTURE(c.code);
        EngineWorld world(with_profile(c.profile));
        world.profile = c.profile;
        world.echoed = c.profile == ProfileId::kPetrelV1 ? "petrel.v1" : "";
        world.server.expect(login()).reply(login_refused(c.code));
        world.login();
        CHECK((world.engine().state() == ClientState::kConnecting) == c.retries);
        CHECK(world.last<LoginEvent>()->will_retry == c.retries);
    }
}

TEST_CASE("Engine: a 402 asks for a token once; the second in a row stops") {
    EngineWorld world;
    world.server.expect(login()).reply(login_refused(402));
    world.login();
    CHECK(world.told() == "connecting, login 402 retry, token-needed 402");
    world.advance(120s);
    CHECK(world.asked.size() == 1);
    world.server.expect(login()).reply(login_refused(402));
    world.engine().set_token(world.now(), "new");
    world.turn();
    CHECK(world.told() == "login 402, stopped 402");
}

TEST_CASE("Engine: a token that expires on a live connection is renewed by a second login") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a")).reply(refusal("a", 1, 402));
    world.send("a");
    CHECK(world.told("token") == "token-needed 402");
    world.server.took();
    LoginResponse reply = plain_login();
    world.server.expect(login()).reply(reply);
    world.server.expect(data("a")).reply(accepted(1));
    world.engine().set_token(world.now(), "new");
    world.turn();
    CHECK(world.server.took() == "login alice gen 7 from e/0 first 1, data a@1");
    CHECK(world.told("accepted") == "accepted a/2");
    CHECK(world.asked.size() == 1);
}

TEST_CASE("Engine: a refused token refresh changes nothing but is told") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.server.expect(login()).reply(login_refused(401));
    world.engine().set_token(world.now(), "new");
    world.turn();
    CHECK(world.told() == "error 401");
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: a 52 with 402 on a live connection is asked about once, and nothing stops") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.server.took();
    world.say(general_error(402));
    world.say(general_error(402));
    CHECK(world.told() == "token-needed 402");
    world.server.expect(data("a")).reply(accepted(1));
    world.send("a");
    CHECK(world.told("accepted") == "accepted a/1");
    world.server.expect(login()).reply(plain_login());
    world.engine().set_token(world.now(), "new");
    world.turn();
    CHECK(world.texts.back().find("new") != std::string::npos);
    CHECK(world.told().empty());
    CHECK(world.asked.size() == 1);
    // The next one that ends is another refusal.
    world.say(general_error(402));
    CHECK(world.told() == "token-needed 402");
}

TEST_CASE("Engine: a 402 that a token on its way has met is not asked about") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.server.expect(login());
    world.engine().set_token(world.now(), "new");
    world.turn();
    world.say(general_error(402));
    world.say(plain_login());
    CHECK(world.told().empty());
    world.say(general_error(402));
    CHECK(world.told() == "token-needed 402");
}

TEST_CASE("Engine: who did not answer in time is asked again by the refused login") {
    EngineWorld world;
    world.go_online();
    world.say(general_error(402));
    world.told();
    world.cut(4001, "no new token in time");
    world.server.expect(login()).reply(login_refused(402));
    world.advance(31s);
    CHECK(world.told("token") == "token-needed 402");
    CHECK(world.asked.size() == 2);
    world.server.expect(login()).reply(login_ok_from(0));
    world.engine().set_token(world.now(), "new");
    world.turn();
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: a token that comes while a login is under way is used behind it") {
    EngineWorld world;
    world.server.expect(login());
    world.login();
    world.engine().set_token(world.now(), "new");
    world.turn();
    world.told();
    SUBCASE("the login is accepted: a second one brings it") {
        world.server.expect(login()).reply(plain_login());
        world.say(login_ok());
        CHECK(world.asked.size() == 1);
        CHECK(world.told("token").empty());
    }
    SUBCASE("the login is refused as expired: the next one has it, and nobody is asked") {
        world.server.expect(login()).reply(login_ok());
        world.say(login_refused(402));
        CHECK(world.asked.size() == 2);
        CHECK(world.told("token").empty());
    }
    CHECK(world.texts.back().find("new") != std::string::npos);
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE(
    "Engine: an expired token for a live connection is asked about once, then the gateway "
    "decides") {
    EngineWorld world;
    world.go_online();
    world.say(general_error(402));
    world.told();
    const auto give = [&](const std::string& token) {
        world.server.expect(login()).reply(login_refused(402));
        world.engine().set_token(world.now(), token);
        world.turn();
    };
    give("old 1");
    CHECK(world.told() == "error 402, token-needed 402");
    give("old 2");
    CHECK(world.told() == "error 402");
    CHECK(world.engine().state() == ClientState::kOnline);
    world.cut(4001, "no new token in time");
    world.server.expect(login()).reply(login_refused(402));
    world.advance(31s);
    CHECK(world.told("token") == "token-needed 402");
    give("old 3");
    CHECK(world.told() == "login 402, stopped 402");
    world.advance(120s);
    CHECK(world.asked.size() == 3);
}

TEST_CASE("Engine: no token is in any event or in the log") {
    EngineOptions options;
    options.token = "first-token";
    EngineWorld world(options);
    world.go_online();
    world.say(general_error(402));
    world.server.expect(login()).reply(login_refused(402));
    world.engine().set_token(world.now(), "second-token");
    world.turn();
    world.cut();
    world.come_back();
    CHECK_FALSE(world.logged.empty());
    CHECK(world.logged.find("-token") == std::string::npos);
    CHECK(world.told().find("-token") == std::string::npos);
}

TEST_CASE("Engine: a 50 that nobody waits for is ignored") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.say(login_ok());
    world.say(login_refused(401));
    CHECK(world.told().empty());
    CHECK(world.engine().stats().ignored == 2);
}

TEST_CASE("Engine: a 301 logs in again with backoff") {
    EngineWorld world;
    world.go_online();
    world.say(general_error(301));
    CHECK(world.engine().state() == ClientState::kConnecting);
    CHECK(world.closes.size() == 1);
    world.come_back();
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: a 301 in a plain profile logs in again, which its published clients never did") {
    EngineWorld world(with_profile(ProfileId::kImSdk));
    world.echoed = "";
    world.profile = ProfileId::kImSdk;
    world.go_online(plain_login());
    world.say(general_error(301));
    world.server.expect(login()).reply(plain_login());
    world.advance(2s);
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: a kick-out is final and told once") {
    EngineWorld world;
    world.go_online();
    world.told();
    Kickout kickout;
    kickout.code = 1;
    kickout.reason = "elsewhere";
    kickout.device = "tablet";
    world.say(kickout);
    CHECK(world.told() == "kicked 1 tablet, stopped 1");
    world.cut(4004);
    world.advance(120s);
    CHECK(world.told().empty());
    CHECK(world.asked.size() == 1);
}

TEST_CASE("Engine: a close 4004 without a packet is a kick-out, too") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.cut(4004, "superseded");
    CHECK(world.told() == "kicked 4004 , stopped 4004");
    world.advance(120s);
    CHECK(world.asked.size() == 1);
}

TEST_CASE("Engine: mobileimsdk kicks out with a 54") {
    EngineWorld world(with_profile(ProfileId::kMobileImSdk));
    world.echoed = "";
    world.profile = ProfileId::kMobileImSdk;
    world.go_online(plain_login());
    world.told();
    Kickout kickout;
    kickout.code = 2;
    world.say(kickout);
    CHECK(world.told() == "kicked 2 , stopped 2");
}

TEST_CASE("Engine: close codes are retried or final by PROTOCOL 4.8, violations are told") {
    struct Case {
        std::uint16_t code;
        const char* told;
    };
    for (const Case& c : {Case{1000, "connecting 1000"},
                          {1001, "connecting 1001"},
                          {1009, "error 1009, connecting 1009"},
                          {4001, "connecting 4001"},
                          {4002, "connecting 4002"},
                          {4003, "stopped 4003"},
                          {4005, "connecting 4005"},
                          {4006, "error 4006, connecting 4006"},
                          {4008, "connecting 4008"},
                          {3000, "connecting 3000"},
                          {3500, "stopped 3500"},
                          {4499, "connecting 4499"},
                          {4999, "stopped 4999"}}) {
        EngineWorld world;
        world.go_online();
        world.told();
        world.cut(c.code);
        CHECK(world.told() == c.told);
    }
}

TEST_CASE("Engine: a 4007 spreads the relogins over the window in its reason") {
    EngineWorld world;
    world.go_online();
    world.cut(4007, "600000");
    world.opens = false;
    world.advance(30s);
    CHECK(world.asked.size() == 1);  // One draw in twenty would be back by now; not this seed's.
    world.advance(570s);
    CHECK(world.asked.size() >= 2);
}

TEST_CASE("Engine: a 4007 with nonsense as reason is an ordinary close") {
    for (const char* reason : {"", "soon", "12x", "-5", "99999999999999999999"}) {
        EngineWorld world;
        world.go_online();
        world.cut(4007, reason);
        world.come_back();
        CHECK(world.engine().state() == ClientState::kOnline);
    }
}

TEST_CASE("Engine: late events of an old connection change nothing") {
    EngineWorld world;
    world.go_online();
    const std::uint64_t old = world.attempt();
    world.cut();
    world.come_back();
    world.told();
    world.server.took();
    world.engine().on_closed(world.now(), old, 4004, "late", 0, std::nullopt);
    world.engine().on_text(world.now(), old, R"({"type":55,"dataContent":"{\"code\":1}"})");
    world.engine().on_connected(world.now(), old, "petrel.v1");
    world.engine().on_binary(world.now(), old);
    world.engine().on_drained(world.now(), old);
    world.turn();
    CHECK(world.told().empty());
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: a connection that never opens is told once until one does") {
    EngineWorld world;
    world.opens = false;
    world.login();
    world.cut(1006, "refused");
    CHECK(world.told() == "connecting, error 202");
    for (int i = 0; i < 5; ++i) {
        world.advance(31s);
        world.cut(1006, "refused");
    }
    CHECK(world.told().empty());
}

TEST_CASE("Engine: no 50 in time closes and tries again") {
    EngineWorld world;
    world.server.expect(login());
    world.login();
    world.advance(9s);
    CHECK(world.closes.empty());
    world.server.allow(login());
    world.advance(2s);
    CHECK(world.closes.size() == 1);
    CHECK(world.asked.size() >= 1);
}

TEST_CASE("Engine: network_lost gives the connection up, network_available is back at once") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.engine().network_lost(world.now());
    world.turn();
    CHECK(world.told() == "no-network 204");
    CHECK(world.closes.size() == 1);
    world.advance(600s);
    CHECK(world.asked.size() == 1);
    world.server.expect(login()).reply(login_ok());
    world.engine().network_available(world.now());
    world.turn();
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: network_available while online probes the link") {
    EngineWorld world;
    world.go_online();
    world.server.expect(heartbeat()).reply(beat_response(0, 0, 0));
    world.engine().network_available(world.now());
    world.turn();
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: nothing happens while suspended, and a resume probes first") {
    EngineWorld world;
    world.go_online();
    world.engine().suspend(world.now());
    world.turn();
    world.server.took();
    world.pause(3600s);
    CHECK(world.server.took().empty());
    CHECK(world.engine().state() == ClientState::kOnline);
    world.server.expect(heartbeat()).reply(beat_response(0, 0, 0));
    world.engine().resume(world.now());
    world.turn();
    world.advance(1s);
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: a dead link is closed and logged in again") {
    EngineWorld world;
    world.go_online();
    world.server.expect(heartbeat());
    while (world.closes.empty()) world.advance(1ms);
    CHECK(world.closes.front().rfind("4002", 0) == 0);
    world.come_back();
}

TEST_CASE("Engine: reconnects are counted by how the connection before ended") {
    EngineWorld world;
    world.go_online();
    SUBCASE("cut") {
        world.cut();
        world.come_back();
        CHECK(world.engine().stats().reconnects_broken == 1);
    }
    SUBCASE("closed by the server") {
        world.cut(4007, "0");
        world.come_back();
        CHECK(world.engine().stats().reconnects_closed == 1);
    }
    SUBCASE("silent") {
        world.server.expect(heartbeat());
        while (world.closes.empty()) world.advance(1ms);
        world.come_back();
        CHECK(world.engine().stats().reconnects_silent == 1);
    }
    SUBCASE("by the app's hint") {
        world.engine().network_lost(world.now());
        world.turn();
        world.server.expect(login()).reply(login_ok());
        world.engine().network_available(world.now());
        world.turn();
        world.advance(1s);
        const EngineStats stats = world.engine().stats();
        CHECK(stats.reconnects_broken + stats.reconnects_closed + stats.reconnects_silent == 0);
    }
    CHECK(world.engine().stats().reconnects == 1);
}

TEST_CASE("Engine: an outbox that the gateway knows too well becomes a new stream") {
    EngineWorld world;
    world.send("a");
    world.server.expect(login()).reply(login_ok_from(0, 9));
    world.login();
    const std::string old_stream = last_login(world).outbox.stream;
    world.server.expect(login()).reply(login_ok());
    world.server.expect(data("a")).reply(accepted(1));
    world.server.allow(heartbeat());
    world.advance(5s);
    CHECK(last_login(world).outbox.stream != old_stream);
    CHECK(last_login(world).outbox.first == 1);
    CHECK(world.told("accepted") == "accepted a/1");
}
