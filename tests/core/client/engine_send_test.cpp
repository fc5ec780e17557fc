#include "tests/support/engine_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

SendRequest request_to(const std::string& to) {
    SendRequest request;
    request.to = to;
    return request;
}

bool failed_with(const Result<Fingerprint>& result, Errc code) {
    return !result && result.error() == code;
}

}  // namespace

TEST_CASE("Engine: a message is accepted, with what the ack told") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.server.expect(data("a")).reply(accepted(1, {{5, 99, 1}}), 2ms);
    CHECK(*world.try_send("a") == fp("a"));
    world.advance(2ms);
    CHECK(world.told() == "accepted a/1 cseq 5");
    CHECK(world.last<OutcomeEvent>()->record.send_ts == 99);
    CHECK(world.last<OutcomeEvent>()->record.to == "bob");
    CHECK(world.engine().stats().sent == 1);
    CHECK(world.engine().stats().accepted == 1);
    CHECK(world.outbox.kept.messages.empty());
    CHECK(world.outbox.kept.outcomes.empty());
}

TEST_CASE("Engine: what was queued offline leaves in order when online") {
    EngineWorld world;
    world.send("a");
    world.send("b");
    world.server.expect(login()).reply(login_ok());
    world.server.expect(data("a"));
    world.server.expect(data("b")).reply(accepted(2));
    world.login();
    CHECK(world.told("accepted") == "accepted a/1, accepted b/1");
}

TEST_CASE("Engine: what a cut left unacked is sent again before anything new") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a"));
    world.server.expect(data("b"));
    world.send("a");
    world.send("b");
    world.cut();
    world.send("c");
    world.server.took();
    world.server.expect(login()).reply(login_ok_from(0, 1));
    world.server.expect(data("b"));
    world.server.expect(data("c")).reply(accepted(3));
    world.server.allow(heartbeat());
    world.advance(5s);
    CHECK(world.told("accepted") == "accepted a/1, accepted b/2, accepted c/1");
}

TEST_CASE("Engine: the login says 1 + the highest acked position") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a")).reply(accepted(1));
    world.send("a");
    world.cut();
    world.server.took();
    world.come_back(login_ok_from(0, 1));
    CHECK(world.server.took().rfind("login alice gen 7 from e/0 first 2", 0) == 0);
}

TEST_CASE("Engine: a gateway that lost what it had accepted is a break of the outbox") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a")).reply(accepted(1));
    world.send("a");
    world.cut();
    world.told();
    world.come_back(login_ok());
    CHECK(world.told("break") == "break outbox /0");
}

TEST_CASE("Engine: nonsense is refused and changes nothing") {
    EngineOptions options;
    options.payload_max = 4;
    EngineWorld world(options);
    SendRequest request;
    CHECK(failed_with(world.try_send("12345"), Errc::kTooLarge));
    CHECK(world.try_send("1234"));
    CHECK(
        failed_with(world.try_send("x", request_to(std::string(257, 'u'))), Errc::kInvalidPacket));
    CHECK(world.try_send("y", request_to(std::string(256, 'u'))));
    CHECK(failed_with(world.try_send("z", request_to("\xff")), Errc::kInvalidPacket));
    request.text = "\xc3\x28";
    CHECK(failed_with(world.try_send("z", request), Errc::kInvalidPacket));
    std::error_code error;
    world.engine().send(world.now(), SendRequest{},
                        [&](Result<Fingerprint> r) { error = r.error(); });
    CHECK(error == Errc::kInvalidPacket);
    CHECK(world.engine().stats().sent == 2);
}

TEST_CASE("Engine: a full outbox refuses, at each limit") {
    for (const std::size_t kept_max : {0u, 1u, 2u}) {
        EngineOptions options;
        options.send.kept_max = kept_max;
        EngineWorld world(options);
        for (std::size_t i = 0; i < kept_max; ++i) CHECK(world.try_send("m" + std::to_string(i)));
        CHECK(failed_with(world.try_send("one-more"), Errc::kSendFailed));
        CHECK(world.engine().stats().kept == kept_max);
    }
    EngineOptions options;
    options.send.kept_bytes_max = 3;
    EngineWorld world(options);
    CHECK(failed_with(world.try_send("four"), Errc::kSendFailed));
    CHECK(world.try_send("abc"));
    CHECK(failed_with(world.try_send("d"), Errc::kSendFailed));
}

TEST_CASE("Engine: outcomes that the app doesn't take count against the outbox") {
    EngineOptions options;
    options.send.kept_max = 1;
    EngineWorld world(options);
    world.send("a");
    world.pulls = false;
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    world.turn();
    CHECK(failed_with(world.try_send("b"), Errc::kSendFailed));
    world.pulls = true;
    world.turn();
    CHECK(world.try_send("b"));
}

TEST_CASE("Engine: the same fingerprint and payload again is not queued twice, another is 305") {
    EngineWorld world;
    CHECK(*world.try_send("a") == fp("a"));
    CHECK(*world.try_send("a") == fp("a"));
    CHECK(world.engine().stats().kept == 1);
    SendRequest other;
    other.fp = fp("a");
    other.text = "something else";
    CHECK(failed_with(world.try_send("a", other), Errc::kFingerprintReused));
    CHECK(failed_with(world.try_send("a", request_to("carol")), Errc::kFingerprintReused));
    CHECK(world.outbox.kept.messages.size() == 1);
}

TEST_CASE("Engine: a fingerprint whose outcome waits to be told is not queued again") {
    EngineWorld world;
    world.send("a");
    world.pulls = false;
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    CHECK(*world.try_send("a") == fp("a"));
    CHECK(failed_with(world.try_send("a", request_to("carol")), Errc::kFingerprintReused));
    CHECK(world.engine().stats().kept == 0);
}

TEST_CASE("Engine: a message may be sent anew from the callback of its own outcome") {
    EngineWorld world;
    world.outbox.durable = true;
    world.send("a");
    int outcomes = 0;
    world.on_event = [&](const Event& event) {
        if (std::holds_alternative<OutcomeEvent>(event) && ++outcomes == 1) world.send_later("a");
    };
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    world.turn();
    CHECK(world.engine().stats().kept == 1);
    CHECK(world.outbox.kept.messages.size() == 1);
    CHECK(world.outbox.kept.outcomes.empty());
}

TEST_CASE("Engine: cancel settles once") {
    EngineWorld world;
    world.send("a");
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    CHECK(world.engine().cancel(world.now(), fp("a")) == Errc::kUnknown);
    world.turn();
    CHECK(world.told() == "cancelled a/0");
}

TEST_CASE("Engine: a message expires by the engine's limit or its own, the lower one") {
    EngineOptions options;
    options.expires_after = 10s;
    EngineWorld world(options);
    SendRequest soon;
    soon.expires_after = 2s;
    SendRequest late;
    late.expires_after = 3600s;
    world.send("soon", soon);
    world.send("late", late);
    world.send("plain");
    world.advance(2s);
    CHECK(world.told() == "expired soon/0");
    world.advance(8s);
    CHECK(world.told() == "expired late/0, expired plain/0");
}

TEST_CASE("Engine: an expiry of zero or below ends the message at the next moment") {
    for (const Duration life : {Duration{0}, Duration{-5s}}) {
        EngineWorld world;
        SendRequest request;
        request.expires_after = life;
        world.send("a", request);
        world.advance(1ms);
        CHECK(world.told() == "expired a/0");
    }
}

TEST_CASE("Engine: half the dedup horizon limits what is kept, counted from send()") {
    EngineWorld world;
    world.server.allow(heartbeat());
    world.send("a");
    world.advance(3s);
    LoginResponse reply = login_ok();
    reply.v1->dedup_horizon_ms = 10'000;
    reply.v1->window = 1;
    world.server.expect(login()).reply(reply);
    world.server.expect(data("a"));
    world.login();
    world.send("b");
    world.told();
    world.server.allow(data("b"));
    world.advance(2s);
    CHECK(world.told("expired") == "expired a/1");
    world.advance(3s);
    CHECK(world.told("expired") == "expired b/1");
}

TEST_CASE("Engine: what was queued before the gateway told a lower maxPayload is rejected here") {
    EngineWorld world;
    world.send("12345");
    world.send("1234");
    LoginResponse reply = login_ok();
    reply.v1->max_payload = 4;
    world.server.expect(login()).reply(reply);
    world.server.expect(data("1234")).reply(accepted(1));
    world.login();
    CHECK(world.told("rejected") == "rejected 12345/0 code 304");
    CHECK(failed_with(world.try_send("54321"), Errc::kTooLarge));
}

TEST_CASE("Engine: a refusal settles its message, and the stream goes on") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.server.expect(data("a")).reply(refusal("a", 1, 303));
    world.server.expect(exactly("data b@2<0")).reply(accepted(2));
    world.send("a");
    world.send("b");
    CHECK(world.told() == "rejected a/1 code 303, accepted b/1");
}

TEST_CASE("Engine: a 302 pauses and is not an attempt") {
    EngineWorld world;
    world.go_online();
    world.told();
    ErrorPacket busy = refusal("a", 1, 302);
    busy.retry_after_ms = 700;
    world.server.expect(data("a")).reply(busy);
    world.server.allow(heartbeat());
    world.send("a");
    world.advance(699ms);
    CHECK(world.server.took().find("data a@1, data") == std::string::npos);
    world.server.expect(data("a")).reply(accepted(1));
    world.advance(1ms);
    CHECK(world.told() == "accepted a/2");
}

TEST_CASE("Engine: a refusal of a settled position is ignored") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a")).reply(accepted(1));
    world.send("a");
    world.told();
    world.say(refusal("a", 1, 303));
    CHECK(world.told().empty());
}

TEST_CASE("Engine: a 52 that names no message is told as an error") {
    EngineWorld world;
    world.go_online();
    world.told();
    ErrorPacket error;
    error.code = 306;
    error.message = "not yours";
    world.say(error);
    CHECK(world.told() == "error 306");
    CHECK(world.last<ErrorEvent>()->message == "not yours");
}

TEST_CASE("Engine: a gap brings back what is behind it") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a"));
    world.server.expect(data("b"));
    world.server.expect(data("c"));
    for (const char* text : {"a", "b", "c"}) world.send(text);
    world.server.took();
    world.server.expect(data("b"));
    world.server.expect(data("c")).reply(accepted(3));
    world.told();
    world.say(gap(1, 1));
    CHECK(world.server.took() == "data b@2, data c@3");
    CHECK(world.told() == "accepted a/1, accepted b/2, accepted c/2");
}

TEST_CASE("Engine: an ack of what was never sent closes with 4006 and is told") {
    EngineWorld world;
    world.go_online();
    world.told();
    world.say(accepted(1));
    CHECK(world.closes.front().rfind("4006", 0) == 0);
    CHECK(world.told() == "error 4006, connecting 4006");
}

TEST_CASE("Engine: acks ride in messages of the server") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a"));
    world.send("a");
    world.told();
    Data riding = push(1);
    riding.h = 1;
    riding.acc = {{3, 50, 1}};
    world.server.allow(ack());
    world.say(riding);
    CHECK(world.told() == "message m1, accepted a/1 cseq 3");
}

TEST_CASE("Engine: an ack in a heartbeat's response counts") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a"));
    world.send("a");
    world.told();
    world.say(beat_response(0, 1, 1));
    CHECK(world.told() == "accepted a/1");
}

TEST_CASE("Engine: a missing ack leads to a heartbeat, never to a retransmission") {
    EngineWorld world;
    world.go_online();
    world.server.expect(data("a"));
    world.send("a");
    world.server.took();
    world.server.expect(heartbeat()).reply(beat_response(0, 1, 0));
    world.server.allow(heartbeat());
    world.advance(3s);
    CHECK(world.server.took().rfind("beat 1/0/0", 0) == 0);
    CHECK(world.engine().state() == ClientState::kOnline);
}

TEST_CASE("Engine: the clock of an ack begins when its packet has left the send buffer") {
    EngineWorld world;
    world.go_online();
    world.advance(1ms);
    world.queued = 10;
    world.bytes_kept_per_send = 10;
    world.server.expect(data("a"));
    world.send("a");
    // Only the regular heartbeat, which falls into the first interval at random.
    world.server.allow(heartbeat());
    world.advance(2s);
    world.server.took();
    world.drain();
    world.bytes_kept_per_send = 0;
    world.advance(2900ms);
    const std::string before = world.server.took();
    world.advance(100ms);
    CHECK(before.find("beat") == std::string::npos);
    CHECK(world.server.took() == "beat 1/0/0");
}

TEST_CASE("Engine: transmissions wait while the socket's queue is full") {
    EngineOptions options;
    options.socket_packets_max = 2;
    EngineWorld world(options);
    world.go_online();
    world.bytes_kept_per_send = 100;
    world.server.expect(data("a"));
    world.server.expect(data("b"));
    for (const char* text : {"a", "b", "c"}) world.send(text);
    world.server.expect(data("c"));
    world.bytes_kept_per_send = 0;
    world.drain();
}

TEST_CASE("Engine: socket limits of 0 and 1 let one packet be under way") {
    for (const std::size_t limit : {0u, 1u}) {
        EngineOptions options;
        options.socket_packets_max = limit;
        options.socket_bytes_max = limit;
        EngineWorld world(options);
        world.go_online();
        world.server.expect(data("a"));
        world.send("a");
    }
}

TEST_CASE("Engine: without QoS a message is sent once, online only, and has no outcome") {
    EngineWorld world;
    SendRequest request;
    request.qos = false;
    CHECK(failed_with(world.try_send("a", request), Errc::kNotLoggedIn));
    world.go_online();
    world.told();
    world.server.expect(exactly("data a"));
    CHECK(world.try_send("a", request));
    world.cut();
    world.come_back();
    CHECK(world.told("accepted").empty());
    CHECK(world.engine().stats().sent == 0);
}

TEST_CASE("Engine: without QoS a full socket refuses") {
    EngineWorld world;
    world.go_online();
    world.queued = 1 << 20;
    SendRequest request;
    request.qos = false;
    CHECK(failed_with(world.try_send("a", request), Errc::kSendFailed));
}

TEST_CASE("Engine: logout with discard cancels what is kept, logout with keep keeps it") {
    for (const bool keep : {false, true}) {
        EngineWorld world;
        world.go_online();
        world.server.expect(data("a"));
        world.send("a");
        world.told();
        world.server.expect(logout());
        world.engine().logout(world.now(), keep);
        world.turn();
        CHECK(world.told() == (keep ? "offline" : "offline, cancelled a/1"));
        CHECK(world.engine().stats().kept == (keep ? 1 : 0));
    }
}

TEST_CASE("Engine: logout of who is not online sends nothing") {
    EngineWorld world;
    world.engine().logout(world.now(), true);
    world.opens = false;
    world.login();
    world.engine().logout(world.now(), true);
    world.turn();
    CHECK(world.told() == "connecting, offline");
}

TEST_CASE("Engine: shut down without a file ends every message: cancelled or unknown") {
    EngineWorld world;
    LoginResponse reply = login_ok();
    reply.v1->window = 1;
    world.go_online(reply);
    world.server.expect(data("a"));
    world.send("a");
    world.send("b");
    world.told();
    world.engine().shut_down(world.now());
    world.turn();
    CHECK(world.told() == "unknown a/1, cancelled b/0");
    CHECK(world.closes.size() == 1);
    CHECK(failed_with(world.try_send("c"), Errc::kNotInitialised));
}

TEST_CASE("Engine: shut down with a file leaves the messages in it") {
    EngineWorld world;
    world.outbox.durable = true;
    world.send("a");
    world.engine().shut_down(world.now());
    world.turn();
    CHECK(world.told().empty());
    CHECK(world.outbox.kept.messages.size() == 1);
}

TEST_CASE("Engine: echoes come back with their round trip") {
    EngineWorld world;
    CHECK(world.engine().echo(world.now(), "hi") == Errc::kNotLoggedIn);
    world.go_online();
    world.told();
    Echo answer;
    answer.is_response = true;
    answer.fp = fp("fp-2");  // fp-1 is the stream.
    answer.text = "hi";
    world.server.expect(echo()).reply(answer, 3ms);
    CHECK_FALSE(world.engine().echo(world.now(), "hi"));
    world.advance(3ms);
    CHECK(world.told() == "echo hi");
    CHECK(world.last<EchoEvent>()->round_trip == 3ms);
    world.say(answer);
    CHECK(world.told().empty());
}

TEST_CASE("Engine: echoes are bounded; the oldest is forgotten") {
    for (const std::size_t limit : {0u, 1u}) {
        EngineOptions options;
        options.echoes_max = limit;
        EngineWorld world(options);
        world.go_online();
        world.told();
        if (limit == 0) {
            CHECK(world.engine().echo(world.now(), "a") == Errc::kSendFailed);
            continue;
        }
        Echo first;
        first.is_response = true;
        first.fp = fp("fp-2");
        Echo second = first;
        second.fp = fp("fp-3");
        second.text = "second";
        world.server.expect(echo());
        world.server.expect(echo()).reply(first).reply(second);
        CHECK_FALSE(world.engine().echo(world.now(), "a"));
        CHECK_FALSE(world.engine().echo(world.now(), "b"));
        world.turn();
        CHECK(world.told() == "echo second");
    }
}

TEST_CASE("Engine: receipts are told") {
    EngineWorld world;
    world.go_online();
    world.told();
    Receipt receipt;
    receipt.conv = "u:alice:bob";
    receipt.user = "bob";
    receipt.delivered = 4;
    world.say(receipt);
    CHECK(world.told() == "delivered u:alice:bob 4");
}
