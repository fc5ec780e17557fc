#include "tests/support/engine_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

std::vector<Packet> pushes(Position first, Position last) {
    std::vector<Packet> packets;
    for (Position seq = first; seq <= last; ++seq) packets.emplace_back(push(seq));
    return packets;
}

// Boxes with files, which answer when told to.
class FileWorld final : public EngineWorld {
public:
    explicit FileWorld(EngineOptions wanted = {}) : EngineWorld(std::move(wanted)) {
        outbox.durable = true;
        inbox.durable = true;
        server.allow(heartbeat());
    }
    // "a" is on its way, "b" waits behind it.
    void fill_a_window_of_one() {
        LoginResponse reply = login_ok();
        reply.v1->window = 1;
        server.expect(test::login()).reply(reply);
        login();
        server.expect(exactly("data a@1"));
        send("a");
        send("b");
    }
    void answer(AnswerQueue& queue, std::size_t count = SIZE_MAX) {
        queue.answer(count);
        turn();
    }
};

const std::error_code kDiskFull = std::make_error_code(std::errc::no_space_on_device);

}  // namespace

TEST_CASE("Engine: nothing leaves before the outbox has it") {
    FileWorld world;
    world.go_online();
    world.outbox.answers.is_delayed = true;
    const auto result = world.send_later("a");
    world.turn();
    CHECK_FALSE(result->has_value());
    world.server.expect(data("a"));
    world.answer(world.outbox.answers);
    CHECK(***result == fp("a"));
}

TEST_CASE("Engine: the sends of a turn share one commit, and keep their order") {
    FileWorld world;
    world.go_online();
    world.outbox.answers.is_delayed = true;
    for (const char* text : {"a", "b"}) world.send_later(text);
    world.turn();
    for (const char* text : {"c", "d", "e"}) world.send_later(text);
    world.turn();
    CHECK(world.outbox.appends == std::vector<std::size_t>{2});
    for (const char* text : {"a", "b"}) world.server.expect(data(text));
    world.answer(world.outbox.answers);
    CHECK(world.outbox.appends == std::vector<std::size_t>{2, 3});
    for (const char* text : {"c", "d", "e"}) world.server.expect(data(text));
    world.answer(world.outbox.answers);
}

TEST_CASE("Engine: a failed append fails its sends, and changes nothing else") {
    FileWorld world;
    world.outbox.answers.is_delayed = true;
    world.outbox.answers.error = kDiskFull;
    const auto first = world.send_later("a");
    world.turn();
    world.outbox.answers.error = {};
    const auto second = world.send_later("b");
    world.answer(world.outbox.answers);
    world.answer(world.outbox.answers);
    CHECK((*first)->error() == kDiskFull);
    CHECK(***second == fp("b"));
    CHECK(world.engine().stats().sent == 1);
    CHECK(world.engine().stats().kept == 1);
}

TEST_CASE("Engine: what is on its way into the outbox takes room, and is known") {
    EngineOptions options;
    options.send.kept_max = 1;
    FileWorld world(options);
    world.outbox.answers.is_delayed = true;
    world.send_later("a");
    world.turn();
    const auto full = world.send_later("b");
    CHECK((*full)->error() == Errc::kSendFailed);
    const auto same = world.send_later("a");
    CHECK(***same == fp("a"));
    SendRequest other;
    other.text = "other";
    const auto reused = world.send_later("a", other);
    CHECK((*reused)->error() == Errc::kFingerprintReused);
}

TEST_CASE("Engine: a message can be cancelled on its way into the outbox") {
    FileWorld world;
    world.outbox.answers.is_delayed = true;
    const auto result = world.send_later("a");
    world.turn();
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    CHECK(world.engine().cancel(world.now(), fp("a")) == Errc::kUnknown);
    for (int i = 0; i < 3; ++i) world.answer(world.outbox.answers);
    CHECK(***result == fp("a"));
    CHECK(world.told() == "cancelled a/0");
    CHECK(world.outbox.kept.messages.empty());
}

TEST_CASE("Engine: logout with discard cancels what is on its way into the outbox") {
    FileWorld world;
    world.outbox.answers.is_delayed = true;
    world.send_later("a");
    world.turn();
    world.engine().logout(world.now(), false);
    for (int i = 0; i < 3; ++i) world.answer(world.outbox.answers);
    CHECK(world.told("cancelled") == "cancelled a/0");
}

TEST_CASE("Engine: an outcome is recorded before it is told, and removed after the callback") {
    FileWorld world;
    world.go_online();
    world.told();
    world.server.expect(data("a")).reply(accepted(1));
    world.send_later("a");
    world.turn();
    CHECK(world.told() == "accepted a/1");

    world.server.expect(data("b"));
    world.send("b");
    world.outbox.answers.is_delayed = true;
    world.say(accepted(2));
    CHECK(world.told().empty());
    std::size_t kept_in_callback = 0;
    world.on_event = [&](const Event&) { kept_in_callback = world.outbox.kept.outcomes.size(); };
    world.answer(world.outbox.answers);
    CHECK(world.told() == "accepted b/1");
    CHECK(kept_in_callback == 1);
    world.answer(world.outbox.answers);
    CHECK(world.outbox.kept.outcomes.empty());
}

TEST_CASE("Engine: the outcomes of a turn are recorded in one batch") {
    FileWorld world;
    world.go_online();
    for (const char* text : {"a", "b", "c"}) {
        world.server.expect(data(text));
        world.send_later(text);
    }
    world.turn();
    world.say(accepted(3));
    CHECK(world.outbox.records == std::vector<std::size_t>{3});
}

TEST_CASE("Engine: an outcome that cannot be recorded is told all the same") {
    FileWorld world;
    world.send_later("a");
    world.turn();
    world.outbox.answers.error = kDiskFull;
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    world.turn();
    CHECK(world.told() == "error 3, cancelled a/0");
}

// What ended without being accepted would be sent again after a crash that its outcome doesn't
// survive: behind what has left meanwhile.
TEST_CASE("Engine: nothing leaves behind an expired message before its outcome is recorded") {
    FileWorld world;
    SendRequest soon;
    soon.expires_after = 1s;
    world.send("a", soon);
    world.send("b");
    world.outbox.answers.is_delayed = true;
    world.advance(1s);
    world.server.expect(login()).reply(login_ok());
    world.login();
    world.advance(1s);
    CHECK(world.told("expired").empty());
    world.server.expect(exactly("data b@1"));
    world.answer(world.outbox.answers);
    CHECK(world.told("expired") == "expired a/0");
}

TEST_CASE("Engine: nothing leaves behind a cancelled message before its outcome is recorded") {
    FileWorld world;
    world.fill_a_window_of_one();
    world.outbox.answers.is_delayed = true;
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    world.turn();
    world.server.expect(exactly("data b@2<0"));
    world.answer(world.outbox.answers);
    CHECK(world.told("cancelled") == "cancelled a/1");
}

TEST_CASE("Engine: nothing leaves behind one cancelled on its way into the outbox, either") {
    FileWorld world;
    world.go_online();
    world.outbox.answers.is_delayed = true;
    world.send_later("a");
    world.send_later("b");
    world.turn();
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    world.answer(world.outbox.answers);
    world.server.expect(exactly("data b@1"));
    world.answer(world.outbox.answers);
    CHECK(world.told("cancelled") == "cancelled a/0");
}

TEST_CASE("Engine: nothing leaves behind a rejected message before its outcome is recorded") {
    FileWorld world;
    world.go_online();
    world.server.expect(data("a"));
    world.server.expect(data("b"));
    world.send("a");
    world.send("b");
    world.outbox.answers.is_delayed = true;
    world.say(refusal("a", 1, 303));
    // Nor with another connection.
    world.cut();
    world.come_back();
    world.server.expect(exactly("data b@2<0"));
    world.answer(world.outbox.answers);
    CHECK(world.told("rejected") == "rejected a/1 code 303");
}

TEST_CASE("Engine: what a lower maxPayload rejects is recorded before anything leaves") {
    FileWorld world;
    world.send("12345");
    world.send("1234");
    world.outbox.answers.is_delayed = true;
    LoginResponse reply = login_ok();
    reply.v1->max_payload = 4;
    world.server.expect(login()).reply(reply);
    world.login();
    world.server.expect(exactly("data 1234@1"));
    world.answer(world.outbox.answers);
    CHECK(world.told("rejected") == "rejected 12345/0 code 304");
}

TEST_CASE("Engine: what ended while an outcome was being recorded is waited for, too") {
    FileWorld world;
    for (const char* text : {"a", "b", "c"}) world.send(text);
    world.outbox.answers.is_delayed = true;
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    world.turn();
    CHECK_FALSE(world.engine().cancel(world.now(), fp("b")));
    world.server.expect(login()).reply(login_ok());
    world.login();
    world.answer(world.outbox.answers, 1);
    world.server.expect(exactly("data c@1"));
    while (world.outbox.answers.waiting() > 0) world.answer(world.outbox.answers);
    CHECK(world.told("cancelled") == "cancelled a/0, cancelled b/0");
}

TEST_CASE("Engine: an accepted message holds nothing up while its outcome is being recorded") {
    FileWorld world;
    world.fill_a_window_of_one();
    world.outbox.answers.is_delayed = true;
    world.server.expect(exactly("data b@2"));
    world.say(accepted(1));
    CHECK(world.told("accepted").empty());
}

TEST_CASE("Engine: a reopened outbox is a new stream, in order, with one attempt at least") {
    FileWorld world;
    world.send_later("a");
    world.send_later("b");
    world.turn();
    world.restart();
    world.server.expect(login()).reply(login_ok());
    world.server.expect(exactly("data a@1"));
    world.server.expect(exactly("data b@2")).reply(accepted(2));
    world.login();
    CHECK(world.told("accepted") == "accepted a/2, accepted b/2");
}

// The app saw no answer before the crash, or lost it: its second try is the same message.
TEST_CASE(
    "Engine: after a crash the app's own second try with its fingerprint is not another one") {
    FileWorld world;
    world.send("a");
    world.restart();
    world.send("a");
    SendRequest other;
    other.text = "other";
    CHECK(world.try_send("a", other).error() == Errc::kFingerprintReused);
    CHECK(world.engine().stats().kept == 1);
    world.server.expect(login()).reply(login_ok());
    world.server.expect(exactly("data a@1")).reply(accepted(1));
    world.login();
    world.turn();
    CHECK(world.told("accepted") == "accepted a/2");
    CHECK(world.outbox.kept.messages.empty());
}

TEST_CASE("Engine: a reopened outbox keeps its messages even beyond a lower limit") {
    FileWorld world;
    for (const char* text : {"a", "b", "c"}) world.send_later(text);
    world.turn();
    world.restart();
    world.options.send.kept_max = 1;
    CHECK(world.engine().stats().kept == 3);
    CHECK(world.try_send("d").error() == Errc::kSendFailed);
}

TEST_CASE("Engine: a reopened message expires by the wall clock") {
    EngineOptions options;
    options.expires_after = 10s;
    FileWorld world(options);
    world.send_later("a");
    world.turn();
    world.kill();
    world.wall += 9'000;
    world.engine();
    world.advance(500ms);
    CHECK(world.told().empty());
    world.advance(500ms);
    CHECK(world.told() == "expired a/1");
}

TEST_CASE("Engine: a wall clock that jumped back keeps a message no longer than a new one") {
    EngineOptions options;
    options.expires_after = 10s;
    FileWorld world(options);
    world.send_later("a");
    world.turn();
    world.kill();
    world.wall -= 3'600'000;
    world.engine();
    world.advance(10s);
    CHECK(world.told() == "expired a/1");
}

TEST_CASE("Engine: an outcome that was recorded and not removed is told again at the start") {
    FileWorld world;
    world.send_later("a");
    world.turn();
    world.pulls = false;
    CHECK_FALSE(world.engine().cancel(world.now(), fp("a")));
    world.turn();
    world.restart();
    world.pulls = true;
    world.turn();
    CHECK(world.told() == "cancelled a/0");
    CHECK(world.outbox.kept.outcomes.empty());
}

TEST_CASE("Engine: a message is not handed up before the inbox has it") {
    FileWorld world;
    world.go_online();
    world.told();
    world.inbox.answers.is_delayed = true;
    world.say(push(1));
    CHECK(world.told().empty());
    world.answer(world.inbox.answers);
    CHECK(world.told() == "message m1");
}

TEST_CASE("Engine: the ack waits until the inbox has recorded what was handled") {
    FileWorld world;
    world.go_online();
    world.say(push(1));
    world.server.allow(ack());
    world.advance(20ms);
    world.server.took();

    world.inbox.answers.is_delayed = true;
    world.say(push(2));
    world.answer(world.inbox.answers);
    world.advance(1s);
    CHECK(world.server.took().find("ack 2") == std::string::npos);
    world.answer(world.inbox.answers);
    world.advance(20ms);
    CHECK(world.server.took().find("ack 2") != std::string::npos);
}

TEST_CASE("Engine: what one turn brought is one batch of the inbox") {
    FileWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say_all(pushes(1, 10));
    CHECK(world.inbox.appends == std::vector<std::size_t>{10});
}

TEST_CASE("Engine: a batch of an ended session is handed up once, whatever the next one pushes") {
    FileWorld world;
    world.go_online();
    world.told();
    world.server.allow(ack());
    world.inbox.answers.is_delayed = true;
    world.say_all(pushes(1, 2));
    world.cut();
    world.server.took();
    // The login's cursor is what is stored, not what was taken.
    world.come_back();
    CHECK(world.server.took().rfind("login alice gen 7 from e/0", 0) == 0);
    world.told();
    world.say_all(pushes(1, 2));
    CHECK(world.told().empty());
    world.answer(world.inbox.answers);
    CHECK(world.told() == "message m1, message m2");
    world.say(push(3));
    while (world.inbox.answers.waiting() > 0) world.answer(world.inbox.answers);
    CHECK(world.told() == "message m3");
    CHECK(world.inbox.at->seq == 3);
}

TEST_CASE("Engine: what a callback does to the connection does not bring its message again") {
    FileWorld world;
    world.go_online();
    world.told();
    world.server.allow(ack());
    bool is_first = true;
    world.on_event = [&](const Event& event) {
        if (std::get_if<MessageEvent>(&event) == nullptr || !std::exchange(is_first, false)) return;
        world.engine().network_lost(world.now());
        world.engine().network_available(world.now());
    };
    world.server.expect(login()).reply(login_ok_from(1));
    world.say(push(1));
    world.advance(1s);
    CHECK(world.server.took().find("from e/1") != std::string::npos);
    world.say(push(2));
    CHECK(world.told("message") == "message m1, message m2");
}

TEST_CASE("Engine: a batch of an ended era is handed up under its own epoch") {
    FileWorld world;
    world.go_online();
    world.server.allow(ack());
    world.inbox.answers.is_delayed = true;
    world.say(push(1));
    world.cut();
    LoginResponse reply = login_ok();
    reply.v1->inbox = {"f", 0, 0, false};
    world.come_back(reply);
    world.told();
    world.inbox.answers.error = {};
    // The file sees the append before the resume, as they were called; this one applies late.
    world.inbox.at = InboxCursor{"e", 0, {}};
    world.answer(world.inbox.answers);
    world.inbox.at = InboxCursor{"f", 0, {}};
    CHECK(world.told() == "message m1");
    CHECK(world.last<MessageEvent>()->epoch == "e");
    CHECK(world.engine().stats().received == 1);
}

TEST_CASE("Engine: an inbox that fails leaves the messages with the gateway until it works") {
    FileWorld world;
    world.go_online();
    world.told();
    world.server.allow(ack());
    world.inbox.answers.error = kDiskFull;
    world.say_all(pushes(1, 2));
    CHECK(world.told() == "error 3");
    world.say(push(3));
    CHECK(world.told().empty());
    CHECK(world.engine().state() == ClientState::kOnline);
    world.server.took();
    world.inbox.answers.error = {};
    world.server.expect(exactly("ack 0 gap 0"));
    world.advance(2s);
    world.say_all(pushes(1, 3));
    CHECK(world.told() == "message m1, message m2, message m3");
}

TEST_CASE("Engine: an inbox that fails behind what was stored goes back only to there") {
    FileWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say_all(pushes(1, 2));
    world.told();
    world.inbox.answers.error = kDiskFull;
    world.say(push(3));
    world.inbox.answers.error = {};
    world.advance(2s);
    world.say_all(pushes(2, 3));
    CHECK(world.told("message") == "message m3");
}

TEST_CASE("Engine: a skip waits until the inbox has what comes before it") {
    FileWorld world;
    world.go_online();
    world.told();
    world.server.allow(ack());
    world.inbox.answers.is_delayed = true;
    Data skipping = push(5);
    skipping.prev = 1;
    world.say_all({push(1), skipping});
    CHECK(world.inbox.at->seq == 0);
    world.server.took();
    world.server.expect(exactly("ack 0 gap 1"));
    world.answer(world.inbox.answers);
    CHECK(world.told() == "message m1");
    world.inbox.answers.is_delayed = false;
    world.answer(world.inbox.answers);
    world.say(skipping);
    CHECK(world.told("message") == "message m5");
    CHECK(world.inbox.at->seq == 5);
    CHECK(world.inbox.was_dense);
}

TEST_CASE("Engine: handled messages that cannot be recorded are not acked until they are") {
    FileWorld world;
    world.go_online();
    world.inbox.answers.is_delayed = true;
    world.say(push(1));
    world.inbox.answers.error = kDiskFull;
    world.answer(world.inbox.answers, 1);
    world.told();
    world.answer(world.inbox.answers);
    world.inbox.answers.error = {};
    world.inbox.answers.is_delayed = false;
    world.server.expect(exactly("ack 1"));
    world.answer(world.inbox.answers);
    world.advance(20ms);
}

TEST_CASE("Engine: what is left of an earlier epoch is recorded when handled, and acks nothing") {
    FileWorld world;
    world.inbox.at = InboxCursor{"f", 1, {}};
    world.inbox.stored = {{"e", push(7)}};
    world.restart();
    world.turn();
    CHECK(world.told() == "again m7");
    CHECK(world.last<MessageEvent>()->epoch == "e");
    CHECK(world.inbox.handled_count == 1);
    CHECK(world.inbox.stored.empty());
    CHECK(world.engine().is_consistent());
}

TEST_CASE("Engine: what an earlier process stored and didn't handle comes first, marked") {
    FileWorld world;
    world.go_online();
    world.server.allow(ack());
    world.say_all(pushes(1, 2));
    world.inbox.stored = {{"e", push(2)}};
    world.inbox.handled_count = 0;
    world.restart();
    world.turn();
    CHECK(world.told() == "again m2");
    CHECK(world.last<MessageEvent>()->epoch == "e");
    CHECK(world.inbox.handled_count == 1);
    world.server.took();
    LoginResponse reply = login_ok_from(2);
    world.server.expect(login()).reply(reply);
    world.login();
    CHECK(world.server.took() == "login alice gen 0 from e/2 first 1, ack 2");
}

TEST_CASE("Engine: what the stores answer after its end goes nowhere") {
    FileWorld world;
    world.go_online();
    world.outbox.answers.is_delayed = true;
    world.inbox.answers.is_delayed = true;
    const auto result = world.send_later("a");
    world.say(push(1));
    world.engine().shut_down(world.now());
    CHECK((*result)->error() == Errc::kNotInitialised);
    world.kill();
    world.outbox.answers.answer();
    world.inbox.answers.answer();
}

TEST_CASE("Engine: a call from inside a send's answer is taken") {
    EngineWorld world;
    std::vector<std::string> order;
    SendRequest request;
    request.to = "bob";
    request.text = "first";
    world.engine().send(world.now(), request, [&](Result<Fingerprint> first) {
        CHECK(first);
        order.push_back("first");
        SendRequest another = request;
        another.text = "second";
        world.engine().send(world.now(), another, [&](Result<Fingerprint> second) {
            CHECK(second);
            order.push_back("second");
        });
    });
    CHECK(order == std::vector<std::string>{"first", "second"});
    CHECK(world.engine().stats().kept == 2);
}
