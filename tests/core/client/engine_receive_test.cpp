#include "tests/support/engine_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

EngineOptions manual() {
    EngineOptions options;
    options.manual_confirm = true;
    return options;
}

std::vector<Packet> pushes(Position first, Position last) {
    std::vector<Packet> packets;
    for (Position seq = first; seq <= last; ++seq) packets.emplace_back(push(seq));
    return packets;
}

LoginResponse resumed(const std::string& epoch, Position seq, bool recovered) {
    LoginResponse reply = login_ok();
    reply.v1->inbox = {epoch, seq, seq, recovered};
    return reply;
}

}  // namespace

TEST_CASE("Engine: a message is handed up with all that it came with, and acked when handled") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.say(push(1, "hi"));
    CHECK(world.told() == "message hi");
    const MessageEvent& message = *world.last<MessageEvent>();
    CHECK(message.from == "bob");
    CHECK(message.to == "alice");
    CHECK(message.fp == fp("in-1"));
    CHECK(message.qos);
    CHECK(message.conv == "u:alice:bob");
    CHECK(message.cseq == 1);
    CHECK(message.epoch == "e");
    CHECK(message.seq == 1);
    CHECK(message.send_ts == 1000);
    CHECK_FALSE(message.is_redelivered);
    world.server.took();
    world.server.expect(exactly("ack 1"));
    world.advance(20ms);
    CHECK(world.engine().stats().received == 1);
    CHECK(world.engine().stats().unhandled == 0);
}

TEST_CASE("Engine: sixteen messages are acked at once, in one packet") {
    EngineWorld world;
    world.go_online();
    world.server.expect(exactly("ack 16"));
    world.say_all(pushes(1, 16));
}

TEST_CASE("Engine: an ack rides in a message that leaves") {
    EngineWorld world;
    world.go_online();
    world.say(push(1));
    world.server.expect(exactly("data a@1+ack 1"));
    world.send("a");
    world.server.took();
    world.advance(20ms);
    CHECK(world.server.took().empty());
}

TEST_CASE("Engine: a duplicate is dropped and the height said again") {
    EngineWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say(push(1));
    world.advance(20ms);
    world.told();
    world.server.took();
    world.say(push(1));
    CHECK(world.told().empty());
    CHECK(world.server.took() == "ack 1");
    CHECK(world.engine().stats().duplicates == 1);
}

TEST_CASE("Engine: a gap is answered and hands nothing up") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.server.expect(exactly("ack 0 gap 0"));
    world.say(push(2));
    CHECK(world.told().empty());
    CHECK(world.engine().stats().gaps == 1);
}

TEST_CASE("Engine: a 51 that says more was sent is answered as a gap") {
    EngineWorld world;
    world.go_online();
    world.server.expect(exactly("ack 0 gap 0"));
    world.say(beat_response(2, 0, 0));
}

TEST_CASE("Engine: heartbeats say what was sent, taken and handled") {
    EngineWorld world(manual());
    world.go_online();
    world.server.expect(data("a")).reply(accepted(1));
    world.send("a");
    world.say_all(pushes(1, 3));
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    world.turn();
    world.server.expect(exactly("beat 1/3/1")).reply(beat_response(3, 1, 1));
    world.server.allow(ack());
    world.engine().network_available(world.now());
    world.turn();
}

TEST_CASE("Engine: without QoS a message is handed up at once, neither deduplicated nor acked") {
    EngineWorld world;
    world.go_online();
    world.told();
    Data data = push(0, "x");
    data.qos = false;
    world.say_all({data, data});
    CHECK(world.told() == "message x, message x");
    world.server.took();
    world.advance(1s);
    CHECK(world.server.took().find("ack") == std::string::npos);
}

TEST_CASE("Engine: QoS without a position is ignored") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.say(push(0, "x"));
    CHECK(world.told().empty());
}

TEST_CASE("Engine: in manual mode the ack is the end of the unbroken run") {
    EngineWorld world(manual());
    world.go_online();
    world.say_all(pushes(1, 3));
    world.server.took();
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[2]));
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[1]));
    world.turn();
    world.advance(20ms);
    CHECK(world.server.took().empty());
    world.server.expect(exactly("ack 3"));
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    world.turn();
    world.advance(20ms);
}

TEST_CASE("Engine: confirm is idempotent, and refuses what was never given out") {
    EngineWorld world(manual());
    world.go_online();
    world.server.allow(ack());
    world.say(push(1));
    const std::uint64_t id = world.message_ids[0];
    CHECK(world.engine().confirm(world.now(), 0) == Errc::kUnknown);
    CHECK(world.engine().confirm(world.now(), id + 1) == Errc::kUnknown);
    CHECK_FALSE(world.engine().confirm(world.now(), id));
    CHECK_FALSE(world.engine().confirm(world.now(), id));
}

TEST_CASE("Engine: confirming ahead is bounded") {
    for (const std::size_t limit : {0u, 1u}) {
        EngineOptions options = manual();
        options.confirm_ahead_max = limit;
        EngineWorld world(options);
        world.go_online();
        world.say_all(pushes(1, 3));
        world.server.allow(ack());
        const bool first_is_taken = !world.engine().confirm(world.now(), world.message_ids[1]);
        CHECK(first_is_taken == (limit == 1));
        CHECK(world.engine().confirm(world.now(), world.message_ids[2]) == Errc::kSendFailed);
        CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    }
}

TEST_CASE("Engine: what is beyond unhandled_max is dropped and asked for again") {
    EngineOptions options = manual();
    options.window = 1;
    options.unhandled_max = 2;
    EngineWorld world(options);
    world.go_online();
    world.told();
    world.say_all(pushes(1, 4));
    CHECK(world.told() == "message m1, message m2");
    world.server.took();
    world.server.expect(exactly("ack 0 gap 2"));
    world.server.allow(ack());
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    world.turn();
    world.say(push(3));
    CHECK(world.told() == "message m3");
}

TEST_CASE("Engine: unhandled_max is at least the window, and at least one") {
    struct Case {
        std::uint32_t window;
        std::size_t unhandled_max;
        std::size_t taken;
    };
    for (const Case& c : {Case{4, 0, 4}, Case{0, 0, 1}, Case{1, 3, 3}}) {
        EngineOptions options = manual();
        options.window = c.window;
        options.unhandled_max = c.unhandled_max;
        EngineWorld world(options);
        world.go_online();
        world.server.allow(ack());
        world.say_all(pushes(1, 6));
        CHECK(world.engine().stats().received == c.taken);
    }
}

TEST_CASE("Engine: a resume goes on behind what was taken") {
    EngineWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say_all(pushes(1, 2));
    world.cut();
    world.told();
    world.server.took();
    world.come_back(resumed("e", 2, true));
    CHECK(world.server.took().rfind("login alice gen 7 from e/2 first 1", 0) == 0);
    CHECK(world.told("break").empty());
    world.say(push(3));
    CHECK(world.told() == "message m3");
}

TEST_CASE("Engine: a resume that overlaps hands nothing up twice") {
    EngineWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say_all(pushes(1, 3));
    world.cut();
    world.come_back(resumed("e", 1, true));
    world.told();
    world.server.took();
    world.say_all(pushes(2, 4));
    CHECK(world.told() == "message m4");
    world.advance(20ms);
    CHECK(world.server.took() == "ack 4");
}

TEST_CASE("Engine: what was handled while offline is said with the next login") {
    EngineWorld world(manual());
    world.go_online();
    world.say_all(pushes(1, 2));
    world.cut();
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[1]));
    world.turn();
    world.server.took();
    world.server.allow(exactly("ack 2"));
    world.come_back(resumed("e", 2, true));
    CHECK(world.server.took() == "login alice gen 7 from e/2 first 1, ack 2");
}

TEST_CASE("Engine: an ack that a broken link may have lost is said with the next login") {
    EngineWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say_all(pushes(1, 16));
    CHECK(world.server.took().find("ack 16") != std::string::npos);
    world.cut();
    world.come_back(resumed("e", 16, true));
    CHECK(world.server.took() == "login alice gen 7 from e/16 first 1, ack 16");
}

TEST_CASE("Engine: what is handled after the session ended is acked in the next") {
    EngineWorld world(manual());
    world.go_online();
    world.say_all(pushes(1, 2));
    world.cut();
    world.come_back(resumed("e", 2, true));
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    world.turn();
    world.server.expect(exactly("ack 1"));
    world.advance(20ms);
}

TEST_CASE("Engine: another epoch is a break, and its positions are new") {
    EngineWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say_all(pushes(1, 2));
    world.cut();
    world.told();
    world.come_back(resumed("f", 0, false));
    CHECK(world.told("break") == "break inbox f/0");
    world.say(push(1, "anew"));
    CHECK(world.told() == "message anew");
    CHECK(world.last<MessageEvent>()->epoch == "f");
    CHECK(world.inbox.at->epoch == "f");
    CHECK(world.inbox.at->seq == 1);
}

TEST_CASE("Engine: recovered=false in the same epoch may bring messages again") {
    EngineWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say_all(pushes(1, 2));
    world.cut();
    world.come_back(resumed("e", 1, false));
    CHECK(world.told("break") == "break inbox e/1");
    world.say(push(2));
    CHECK(world.told() == "message m2");
}

TEST_CASE("Engine: a resume above the cursor is a break, even if it claims to be recovered") {
    EngineWorld world;
    world.go_online();
    world.cut();
    world.come_back(resumed("e", 5, true));
    CHECK(world.told("break") == "break inbox e/5");
}

TEST_CASE("Engine: the first login of a device without a cursor is no break") {
    EngineWorld world;
    world.go_online(resumed("e", 40, true));
    CHECK(world.told("break").empty());
    world.server.allow(ack());
    world.say(push(41));
    CHECK(world.told() == "message m41");
}

TEST_CASE("Engine: a message of an earlier epoch that is handled late moves nothing") {
    EngineWorld world(manual());
    world.go_online();
    world.say_all(pushes(1, 2));
    world.cut();
    world.come_back(resumed("f", 0, false));
    world.server.took();
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[0]));
    CHECK_FALSE(world.engine().confirm(world.now(), world.message_ids[1]));
    world.turn();
    world.advance(20ms);
    CHECK(world.server.took().find("ack") == std::string::npos);
    CHECK(world.inbox.handled_count == 2);
}

TEST_CASE("Engine: positions that the gateway skips with prev keep the inbox dense") {
    EngineWorld world;
    world.go_online();
    world.server.allow(ack());
    Data skipping = push(5);
    skipping.prev = 1;
    world.say_all({push(1), skipping, push(6)});
    CHECK(world.told("message") == "message m1, message m5, message m6");
    CHECK(world.inbox.at->seq == 6);
}

TEST_CASE("Engine: a message from the server before the login is ignored") {
    EngineWorld world;
    world.server.expect(login());
    world.login();
    world.told();
    world.say(push(1));
    CHECK(world.told().empty());
}

TEST_CASE("Engine: frames that are no packets are counted, told once a minute, and keep the link") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.server.allow(heartbeat());
    for (int i = 0; i < 15; ++i) world.say_text("{");
    world.turn();
    CHECK(world.told() == "error 4");
    CHECK(world.engine().stats().malformed == 15);
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: sixteen frames that are no packets within a minute close with 4006") {
    EngineWorld world;
    world.go_online();
    for (int i = 0; i < 15; ++i) world.say_text("nonsense");
    world.turn();
    CHECK(world.closes.empty());
    world.engine().on_binary(world.now(), world.attempt());
    world.turn();
    CHECK(world.closes.front().rfind("4006", 0) == 0);
}

TEST_CASE("Engine: malformed frames of more than a minute ago are forgotten") {
    EngineWorld world;
    LoginResponse reply = login_ok();
    reply.v1->heartbeat_ms = 3'600'000;
    world.go_online(reply);
    for (int i = 0; i < 15; ++i) world.say_text("nonsense");
    world.server.allow(heartbeat());
    world.advance(60s);
    for (int i = 0; i < 15; ++i) world.say_text("nonsense");
    world.turn();
    CHECK(world.closes.empty());
}

TEST_CASE("Engine: types that nobody knows and of the other direction are ignored") {
    EngineWorld world;
    world.go_online();
    world.told();
    for (const char* text :
         {R"({"type":77})", R"({"type":57})", R"({"type":3})", R"({"type":5,"dataContent":"x"})"}) {
        world.say_text(text);
    }
    world.turn();
    CHECK(world.told().empty());
    CHECK(world.engine().stats().ignored == 4);
    CHECK(world.engine().stats().malformed == 0);
}

TEST_CASE("Engine: events that nobody takes are bounded; the oldest notice is forgotten") {
    for (const std::size_t limit : {0u, 1u, 3u}) {
        EngineOptions options;
        options.notices_max = limit;
        EngineWorld world(options);
        world.go_online();
        world.told();
        world.pulls = false;
        ErrorPacket error;
        for (int code = 501; code <= 510; ++code) {
            error.code = code;
            world.say(error);
        }
        world.pulls = true;
        world.turn();
        CHECK(world.told() == (limit < 3 ? "error 510" : "error 508, error 509, error 510"));
    }
}

TEST_CASE("Engine: messages without QoS that nobody takes are bounded") {
    EngineOptions options;
    options.unhandled_max = 64;
    EngineWorld world(options);
    world.go_online();
    world.pulls = false;
    Data data = push(0, "x");
    data.qos = false;
    for (int i = 0; i < 100; ++i) world.say(data);
    world.pulls = true;
    world.turn();
    CHECK(world.engine().stats().received == 64);
    world.say(data);
    CHECK(world.engine().stats().received == 65);
}
