#include "core/client/client.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <ostream>
#include <thread>

#include "tests/support/fake_boxes.hpp"
#include "tests/support/loop_server.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/loopback.hpp"
#include "transport/websocketpp_client.hpp"
#include "transport/websocketpp_server.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

// A runtime with a server on a network in memory, on the same thread.
class ClientWorld {
public:
    ClientWorld() {
        on_loop(runtime.loop(), [this] {
            network = std::make_unique<LoopbackNetwork>(runtime.loop());
            connector = network->make_connector();
            server = std::make_unique<LoopServer>(network->make_listener());
        });
    }
    ~ClientWorld() {
        on_loop(runtime.loop(), [this] {
            server.reset();
            connector.reset();
            network.reset();
        });
    }

    ClientOptions options(std::function<void(const Event&)> on_event = nullptr) {
        ClientOptions options;
        options.engine.user = "alice";
        options.engine.device = "phone";
        options.connect.url = "ws://loopback:" + std::to_string(server->port()) + "/ws";
        options.connector = connector.get();
        options.on_event = std::move(on_event);
        options.seed = 1;
        return options;
    }
    void on_server(const std::function<void(LoopServer&)>& work) {
        on_loop(runtime.loop(), [&] { work(*server); });
    }

    Runtime runtime;
    std::unique_ptr<LoopbackNetwork> network;
    std::unique_ptr<Connector> connector;
    std::unique_ptr<LoopServer> server;
};

SendRequest to_bob(std::string text) {
    SendRequest request;
    request.to = "bob";
    request.text = std::move(text);
    return request;
}

template <class T>
std::function<void(const Event&)> into(Mailbox<T>& mailbox) {
    return [&mailbox](const Event& event) {
        if (const auto* found = std::get_if<T>(&event)) mailbox.put(*found);
    };
}

// Goes on pulling until an event of that kind.
template <class T>
std::optional<T> pull(Client& client) {
    while (auto event = client.next_event(kPatience)) {
        if (auto* found = std::get_if<T>(&*event)) return std::move(*found);
    }
    return std::nullopt;
}

}  // namespace

TEST_CASE("Client: a message that is sent is accepted") {
    ClientWorld world;
    Mailbox<OutcomeEvent> outcomes;
    Client client(world.runtime, world.options(into(outcomes)));
    client.login();
    const auto fp = client.send(to_bob("hi"));
    REQUIRE(fp);
    REQUIRE(outcomes.wait_for(1));
    CHECK(outcomes.all()[0].record.fp == *fp);
    CHECK(outcomes.all()[0].record.outcome == Outcome::kAccepted);
    CHECK(world.server->messages.all() == std::vector<std::string>{"hi"});
    CHECK(client.state() == ClientState::kOnline);
    CHECK(client.stats().accepted == 1);
}

TEST_CASE("Client: callbacks come from the engine thread, one at a time") {
    ClientWorld world;
    world.on_server([](LoopServer& server) { server.pushes = {"a", "b", "c"}; });
    std::atomic<int> inside{0};
    std::atomic<bool> is_wrong{false};
    Mailbox<MessageEvent> messages;
    Client client(world.runtime, world.options([&](const Event& event) {
        if (++inside != 1 || !world.runtime.is_engine_thread()) is_wrong = true;
        into(messages)(event);
        --inside;
    }));
    client.login();
    REQUIRE(messages.wait_for(3));
    CHECK_FALSE(is_wrong);
    CHECK_FALSE(world.runtime.is_engine_thread());
}

TEST_CASE("Client: a connection that is cut comes back and brings what was not acked") {
    ClientWorld world;
    Mailbox<OutcomeEvent> outcomes;
    Mailbox<LoginEvent> logins;
    Client client(world.runtime, world.options([&](const Event& event) {
        into(outcomes)(event);
        into(logins)(event);
    }));
    world.on_server([](LoopServer& server) { server.acks = false; });
    client.login();
    REQUIRE(logins.wait_for(1));
    REQUIRE(client.send(to_bob("hi")));
    REQUIRE(world.server->messages.wait_for(1));
    world.on_server([](LoopServer& server) {
        server.acks = true;
        server.cut_all();
    });
    client.network_available();
    REQUIRE(outcomes.wait_for(1));
    CHECK(outcomes.all()[0].record.outcome == Outcome::kAccepted);
    CHECK(outcomes.all()[0].record.attempts == 2);
}

TEST_CASE("Client: every call may be made from a callback, and takes effect at once") {
    ClientWorld world;
    std::unique_ptr<Client> client;
    std::promise<void> done;
    bool is_done = false;
    client = std::make_unique<Client>(world.runtime, world.options([&](const Event& event) {
        if (!std::holds_alternative<LoginEvent>(event) || std::exchange(is_done, true)) return;
        const auto first = client->send(to_bob("first"));
        CHECK(first);
        CHECK(client->state() == ClientState::kOnline);
        CHECK(client->stats().sent == 1);
        CHECK_FALSE(client->echo("x"));
        CHECK(client->cancel(*first).value() == 0);
        CHECK(client->confirm(99) == Errc::kUnknown);
        client->send_async(to_bob("later"), nullptr);
        client->set_token("t");
        client->suspend();
        client->resume();
        client->network_available();
        client->network_lost();
        CHECK(client->state() == ClientState::kNoNetwork);
        client->login();
        client->logout(true);
        CHECK(client->state() == ClientState::kOffline);
        CHECK_FALSE(client->next_event(kPatience));
        done.set_value();
    }));
    client->login();
    CHECK(done.get_future().wait_for(kPatience) == std::future_status::ready);
    client.reset();
}

TEST_CASE("Client: destroyed from a callback of each kind, it takes effect when that returns") {
    enum Kind { kState, kLogin, kMessage, kOutcome, kEcho, kSendDone, kLog, kKinds };
    for (int kind = 0; kind < kKinds; ++kind) {
        CAPTURE(kind);
        ClientWorld world;
        world.on_server([](LoopServer& server) { server.pushes = {"a", "b"}; });
        std::unique_ptr<Client> client;
        std::promise<void> ready;
        std::shared_future<void> is_ready = ready.get_future().share();
        std::promise<void> destroyed;
        std::atomic<bool> is_destroyed{false};
        std::atomic<int> later{0};
        const auto destroy = [&](Kind here) {
            if (kind != here || is_destroyed) return;
            is_ready.wait();
            client.reset();
            is_destroyed = true;
            destroyed.set_value();
        };
        auto options = world.options([&](const Event& event) {
            // What ended without an outcome is told even now; nothing else.
            if (is_destroyed && !std::holds_alternative<OutcomeEvent>(event)) ++later;
            if (std::holds_alternative<StateEvent>(event)) destroy(kState);
            if (std::holds_alternative<LoginEvent>(event)) destroy(kLogin);
            if (std::holds_alternative<MessageEvent>(event)) destroy(kMessage);
            if (std::holds_alternative<OutcomeEvent>(event)) destroy(kOutcome);
            if (std::holds_alternative<EchoEvent>(event)) destroy(kEcho);
            if (!is_destroyed && kind == kEcho && std::holds_alternative<LoginEvent>(event)) {
                CHECK_FALSE(client->echo("x"));
            }
        });
        options.on_log = [&](LogLevel, std::string_view) {
            if (is_destroyed) ++later;
            destroy(kLog);
        };
        client = std::make_unique<Client>(world.runtime, std::move(options));
        Client& alive = *client;
        if (kind == kSendDone || kind == kOutcome) {
            alive.send_async(to_bob("x"), [&](Result<Fingerprint>) { destroy(kSendDone); });
        }
        if (kind != kSendDone) alive.login();
        ready.set_value();
        REQUIRE(destroyed.get_future().wait_for(kPatience) == std::future_status::ready);
        on_loop(world.runtime.loop(), [] {});
        CHECK(later == 0);
    }
}

TEST_CASE("Client: destroyed from a callback, it still tells how its messages ended") {
    Mailbox<OutcomeEvent> outcomes;
    ClientWorld world;
    std::unique_ptr<Client> client;
    std::promise<void> ready;
    std::shared_future<void> is_ready = ready.get_future().share();
    client = std::make_unique<Client>(world.runtime, world.options([&](const Event& event) {
        into(outcomes)(event);
        if (!std::holds_alternative<StateEvent>(event) || !client) return;
        is_ready.wait();
        CHECK(client->send(to_bob("x")));
        client.reset();
        CHECK(outcomes.size() == 0);
    }));
    client->login();
    ready.set_value();
    REQUIRE(outcomes.wait_for(1));
    CHECK(outcomes.all()[0].record.outcome == Outcome::kCancelled);
}

TEST_CASE("Client: after its destructor returned on another thread no callback runs") {
    for (int round = 0; round < 20; ++round) {
        ClientWorld world;
        world.on_server([](LoopServer& server) {
            for (int i = 0; i < 50; ++i) server.pushes.push_back("m");
        });
        std::atomic<bool> is_gone{false};
        std::atomic<int> late{0};
        Mailbox<int> some;
        auto options = world.options([&](const Event&) {
            if (is_gone) ++late;
            some.put(1);
        });
        options.on_log = [&](LogLevel, std::string_view) {
            if (is_gone) ++late;
        };
        auto client = std::make_unique<Client>(world.runtime, std::move(options));
        client->login();
        REQUIRE(some.wait_for(static_cast<std::size_t>(round)));
        client.reset();
        is_gone = true;
        on_loop(world.runtime.loop(), [] {});
        CHECK(late == 0);
    }
}

TEST_CASE("Client: destroyed from another thread, it has told how its messages ended") {
    ClientWorld world;
    world.on_server([](LoopServer& server) { server.acks = false; });
    Mailbox<OutcomeEvent> outcomes;
    Mailbox<LoginEvent> logins;
    auto client = std::make_unique<Client>(world.runtime, world.options([&](const Event& event) {
        into(outcomes)(event);
        into(logins)(event);
    }));
    client->login();
    REQUIRE(logins.wait_for(1));
    REQUIRE(client->send(to_bob("on the wire")));
    REQUIRE(world.server->messages.wait_for(1));
    client->logout(true);
    REQUIRE(client->send(to_bob("never sent")));
    client.reset();
    REQUIRE(outcomes.size() == 2);
    CHECK(outcomes.all()[0].record.outcome == Outcome::kUnknown);
    CHECK(outcomes.all()[1].record.outcome == Outcome::kCancelled);
}

TEST_CASE("Client: destroyed from the callback of another client") {
    ClientWorld world;
    std::unique_ptr<Client> victim;
    Mailbox<OutcomeEvent> outcomes;
    std::promise<void> done;
    victim = std::make_unique<Client>(world.runtime, world.options(into(outcomes)));
    REQUIRE(victim->send(to_bob("x")));
    auto killer_options = world.options([&](const Event& event) {
        if (!std::holds_alternative<LoginEvent>(event) || !victim) return;
        victim.reset();
        CHECK(outcomes.size() == 1);
        done.set_value();
    });
    killer_options.engine.device = "tablet";
    Client killer(world.runtime, std::move(killer_options));
    killer.login();
    CHECK(done.get_future().wait_for(kPatience) == std::future_status::ready);
}

TEST_CASE("Client: destroyed while it connects, or before it ever did") {
    ClientWorld world;
    for (const bool logs_in : {false, true}) {
        auto options = world.options([](const Event&) {});
        options.connect.url = "ws://loopback:1/ws";
        Client client(world.runtime, std::move(options));
        if (logs_in) client.login();
    }
}

TEST_CASE("Client: a runtime waits for a client that ended in its own callback") {
    Mailbox<int> gone;
    {
        Runtime runtime;
        std::unique_ptr<Client> client;
        std::promise<void> ready;
        std::shared_future<void> is_ready = ready.get_future().share();
        ClientOptions options;
        options.engine.user = "alice";
        options.connect.url = "ws://127.0.0.1:1/ws";
        auto token = std::shared_ptr<void>(nullptr, [&](void*) { gone.put(1); });
        options.on_event = [&client, is_ready, token](const Event&) {
            is_ready.wait();
            client.reset();
        };
        token.reset();
        client = std::make_unique<Client>(runtime, std::move(options));
        client->login();
        ready.set_value();
        REQUIRE(gone.wait_for(1));
    }
    CHECK(gone.size() == 1);
}

TEST_CASE("Client: the goodbye reaches the server") {
    ClientWorld world;
    Mailbox<LoginEvent> logins;
    auto client = std::make_unique<Client>(world.runtime, world.options(into(logins)));
    client->login();
    REQUIRE(logins.wait_for(1));
    client.reset();
    REQUIRE(world.server->closes.wait_for(1));
    CHECK(world.server->closes.all()[0] == "1000");
}

// ---- pull ----

TEST_CASE("Client, pull: events come in order, handled when the next is asked for") {
    ClientWorld world;
    world.on_server([](LoopServer& server) { server.pushes = {"a", "b"}; });
    Client client(world.runtime, world.options());
    client.login();
    CHECK(pull<LoginEvent>(client)->code == 0);
    CHECK(pull<MessageEvent>(client)->text == "a");
    CHECK(client.stats().unhandled == 2);
    CHECK(pull<MessageEvent>(client)->text == "b");
    REQUIRE(world.server->handled.wait_for(1));
    CHECK(world.server->handled.all().back() == 1);
    CHECK_FALSE(client.next_event(0ms));
    REQUIRE(world.server->handled.wait_for(2));
    CHECK(world.server->handled.all().back() == 2);
}

TEST_CASE("Client, pull: the descriptor is readable while events wait") {
    ClientWorld world;
    Client client(world.runtime, world.options());
    pollfd waiting{client.event_fd(), POLLIN, 0};
    REQUIRE(waiting.fd >= 0);
    CHECK(poll(&waiting, 1, 0) == 0);
    client.login();
    const int patience = static_cast<int>(std::chrono::milliseconds(kPatience).count());
    REQUIRE(poll(&waiting, 1, patience) == 1);
    REQUIRE(pull<LoginEvent>(client));
    while (client.next_event(0ms)) {
    }
    CHECK(poll(&waiting, 1, 0) == 0);
    REQUIRE(client.send(to_bob("x")));
    REQUIRE(poll(&waiting, 1, patience) == 1);
}

TEST_CASE("Client, pull: a short queue holds nothing up for ever and loses nothing") {
    for (const std::size_t events_max : {0u, 1u, 3u}) {
        ClientWorld world;
        std::vector<std::string> expected;
        for (int i = 0; i < 200; ++i) expected.push_back("m" + std::to_string(i));
        world.on_server([&](LoopServer& server) { server.pushes = expected; });
        auto options = world.options();
        options.events_max = events_max;
        Client client(world.runtime, std::move(options));
        client.login();
        std::vector<std::string> got;
        while (got.size() < expected.size()) {
            auto message = pull<MessageEvent>(client);
            REQUIRE(message);
            got.push_back(message->text);
        }
        CHECK(got == expected);
    }
}

TEST_CASE("Client, pull: wake ends a wait, also one that begins later") {
    ClientWorld world;
    Client client(world.runtime, world.options());
    client.wake();
    CHECK_FALSE(client.next_event(-1ms));
    std::thread waiter([&] { CHECK_FALSE(client.next_event(-1ms)); });
    client.wake();
    waiter.join();
}

TEST_CASE("Client, pull: with a callback there is nothing to pull") {
    ClientWorld world;
    Client client(world.runtime, world.options([](const Event&) {}));
    CHECK(client.event_fd() == -1);
    CHECK_FALSE(client.next_event(kPatience));
}

// ---- sending ----

TEST_CASE("Client: eight threads send, everything is accepted once and in each thread's order") {
    constexpr int kThreads = 8;
    constexpr int kEach = 100;
    ClientWorld world;
    Mailbox<OutcomeEvent> outcomes;
    Client client(world.runtime, world.options(into(outcomes)));
    client.login();
    std::vector<std::thread> threads;
    std::atomic<int> refused{0};
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < kEach; ++i) {
                const std::string text = std::to_string(t) + "/" + std::to_string(i);
                if (i % 2 == 0) {
                    if (!client.send(to_bob(text))) ++refused;
                } else {
                    client.send_async(to_bob(text), [&](Result<Fingerprint> result) {
                        if (!result) ++refused;
                    });
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    REQUIRE(outcomes.wait_for(kThreads * kEach));
    CHECK(refused == 0);
    std::vector<int> next(kThreads, 0);
    for (const std::string& text : world.server->messages.all()) {
        const auto t = static_cast<std::size_t>(text[0] - '0');
        CHECK(text == std::to_string(t) + "/" + std::to_string(next[t]));
        ++next[t];
    }
    CHECK(next == std::vector<int>(kThreads, kEach));
    for (const OutcomeEvent& outcome : outcomes.all()) {
        CHECK(outcome.record.outcome == Outcome::kAccepted);
    }
}

TEST_CASE("Client: a thousand sends, each from the answer of the one before, do not nest") {
    Mailbox<int> depths;
    ClientWorld world;
    // They outlive the client: the last answer still runs when its depth is known.
    int depth = 0;
    int left = 1000;
    std::function<void(Result<Fingerprint>)> next;
    Client client(world.runtime, world.options([](const Event&) {}));
    next = [&](Result<Fingerprint> result) {
        ++depth;
        CHECK(result);
        if (left-- > 0) client.send_async(to_bob("x"), next);
        if (left % 10 == 0) CHECK(client.send(to_bob("y")));
        depths.put(depth);
        --depth;
    };
    client.send_async(to_bob("x"), next);
    REQUIRE(depths.wait_for(1001));
    const auto all = depths.all();
    CHECK(*std::max_element(all.begin(), all.end()) == 1);
}

TEST_CASE("Client: posted sends beyond their limit are refused") {
    for (const std::size_t limit : {0u, 1u}) {
        ClientWorld world;
        auto options = world.options([](const Event&) {});
        options.posted_sends_max = limit;
        Client client(world.runtime, std::move(options));
        Mailbox<bool> taken;
        // All of them while the thread is busy.
        on_loop(world.runtime.loop(), [&] {
            for (int i = 0; i < 3; ++i) {
                client.send_async(to_bob("x"), [&](Result<Fingerprint> result) {
                    taken.put(static_cast<bool>(result));
                });
            }
        });
        REQUIRE(taken.wait_for(3));
        CHECK(taken.all() == std::vector<bool>{limit == 1, false, false});
    }
}

TEST_CASE("Client: sends keep their order, whichever way and wherever from") {
    ClientWorld world;
    Client client(world.runtime, world.options([](const Event&) {}));
    on_loop(world.runtime.loop(), [&] {
        client.send_async(to_bob("1"), nullptr);
        CHECK(client.send(to_bob("2")));
        client.send_async(to_bob("3"), nullptr);
    });
    client.send_async(to_bob("4"), nullptr);
    REQUIRE(client.send(to_bob("5")));
    client.login();
    REQUIRE(world.server->messages.wait_for(5));
    CHECK(world.server->messages.all() == std::vector<std::string>{"1", "2", "3", "4", "5"});
}

TEST_CASE("Client: nonsense gets an error code, from any thread") {
    ClientWorld world;
    Client client(world.runtime, world.options([](const Event&) {}));
    CHECK(client.send(SendRequest{}).error() == Errc::kInvalidPacket);
    CHECK(client.cancel(Fingerprint()) == Errc::kUnknown);
    CHECK(client.confirm(1) == Errc::kUnknown);
    CHECK(client.echo("x") == Errc::kNotLoggedIn);
}

TEST_CASE("Client: an outbox that answers later makes a send wait, but not on the engine thread") {
    ClientWorld world;
    auto owned = std::make_unique<FakeOutbox>();
    FakeOutbox& outbox = *owned;
    outbox.durable = true;
    outbox.answers.is_delayed = true;
    Mailbox<OutcomeEvent> outcomes;
    auto options = world.options(into(outcomes));
    options.outbox = std::move(owned);
    Client client(world.runtime, std::move(options));
    const auto answer = [&](std::error_code error) {
        on_loop(world.runtime.loop(), [&] {
            outbox.answers.error = error;
            outbox.answers.answer();
        });
    };

    Mailbox<bool> waited;
    std::thread sender([&] { waited.put(static_cast<bool>(client.send(to_bob("a")))); });
    while (waited.size() == 0) answer({});
    sender.join();
    CHECK(waited.all()[0]);

    on_loop(world.runtime.loop(), [&] {
        outbox.answers.error = std::make_error_code(std::errc::no_space_on_device);
        CHECK(client.send(to_bob("b")));
    });
    answer({});
    REQUIRE(outcomes.wait_for(1));
    CHECK(outcomes.all()[0].record.outcome == Outcome::kRejected);
}

TEST_CASE("Client: two hundred of them share one thread") {
    ClientWorld world;
    Mailbox<OutcomeEvent> outcomes;
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 200; ++i) {
        auto options = world.options(into(outcomes));
        options.engine.user = "user" + std::to_string(i);
        clients.push_back(std::make_unique<Client>(world.runtime, std::move(options)));
        clients.back()->login();
        clients.back()->send_async(to_bob("x"), nullptr);
    }
    CHECK(outcomes.wait_for(200));
}

// ---- a real socket ----

TEST_CASE("Client: over a socket it logs in, sends, comes back after a cut, and says goodbye") {
    AsioEventLoop loop;
    std::unique_ptr<LoopServer> server;
    std::thread thread([&] { loop.run(); });
    on_loop(loop, [&] {
        server = std::make_unique<LoopServer>(std::make_unique<WebsocketppListener>(loop));
        server->pushes = {"hello"};
    });
    {
        Runtime runtime;
        Mailbox<OutcomeEvent> outcomes;
        Mailbox<MessageEvent> messages;
        Mailbox<LoginEvent> logins;
        ClientOptions options;
        options.engine.user = "alice";
        options.engine.device = "phone";
        options.connect.url = "ws://127.0.0.1:" + std::to_string(server->port()) + "/ws";
        options.on_event = [&](const Event& event) {
            into(outcomes)(event);
            into(messages)(event);
            into(logins)(event);
        };
        Client client(runtime, std::move(options));
        client.login();
        REQUIRE(logins.wait_for(1));
        REQUIRE(messages.wait_for(1));
        REQUIRE(client.send(to_bob("one")));
        REQUIRE(outcomes.wait_for(1));
        on_loop(loop, [&] { server->cut_all(); });
        REQUIRE(client.send(to_bob("two")));
        REQUIRE(outcomes.wait_for(2));
        CHECK(logins.size() == 2);
        CHECK(messages.size() == 1);
    }
    CHECK(server->closes.wait_for(1));
    on_loop(loop, [&] { server.reset(); });
    loop.stop();
    thread.join();
}

TEST_CASE("Client: nobody listens there: told once, and destroyed without waiting") {
    Runtime runtime;
    Mailbox<ErrorEvent> errors;
    ClientOptions options;
    options.engine.user = "alice";
    options.connect.url = "no url at all";
    options.on_event = into(errors);
    Client client(runtime, std::move(options));
    client.login();
    REQUIRE(errors.wait_for(1));
    CHECK(errors.all()[0].code == 202);
}
