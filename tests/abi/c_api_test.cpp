// libpetrel through petrel.h, against a gateway in this process.

#include <doctest/doctest.h>
#include <poll.h>

#include <atomic>
#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "tests/abi/c_world.hpp"

using namespace petrel::test;

TEST_CASE("C API: a message is accepted, and arrives") {
    RunningGateway gateway;
    CRuntime runtime;
    Ears alice_hears, bob_hears;
    petrel_client* alice = runtime.client(options_for(gateway.url(), "alice", &alice_hears));
    petrel_client* bob = runtime.client(options_for(gateway.url(), "bob", &bob_hears));
    CHECK(petrel_client_login(bob) == PETREL_OK);
    CHECK(petrel_client_login(alice) == PETREL_OK);
    const std::string text("hi\0bob", 6);
    const std::string fp = send(alice, "bob", text);
    CHECK(fp.size() == 36);
    REQUIRE(alice_hears.wait_for(PETREL_EVENT_OUTCOME));
    const Seen outcome = alice_hears.all(PETREL_EVENT_OUTCOME)[0];
    CHECK(outcome.value == PETREL_OUTCOME_ACCEPTED);
    CHECK(outcome.fingerprint == fp);
    CHECK(outcome.attempts >= 1);
    REQUIRE(bob_hears.wait_for(PETREL_EVENT_MESSAGE));
    const Seen message = bob_hears.all(PETREL_EVENT_MESSAGE)[0];
    CHECK(message.text == text);
    CHECK(message.from == "alice");
    CHECK(message.fingerprint == fp);
    REQUIRE(alice_hears.wait_for(PETREL_EVENT_DELIVERED));
    CHECK(alice_hears.all(PETREL_EVENT_LOGIN)[0].code == 0);
    std::int32_t state = -1;
    CHECK(petrel_client_state(alice, &state) == PETREL_OK);
    CHECK(state == PETREL_STATE_ONLINE);
    petrel_stats stats;
    CHECK(petrel_client_stats(alice, &stats, sizeof stats) == PETREL_OK);
    CHECK(stats.sent == 1);
    CHECK(stats.accepted == 1);
    CHECK(stats.kept == 0);
    CHECK(stats.logins == 1);
    CHECK(petrel_client_destroy(alice) == PETREL_OK);
    CHECK(petrel_client_destroy(bob) == PETREL_OK);
}

TEST_CASE("C API: pulled events come in order, and the descriptor tells of them") {
    RunningGateway gateway;
    CRuntime runtime;
    Ears alice_hears;
    petrel_client* alice = runtime.client(options_for(gateway.url(), "alice", &alice_hears));
    petrel_client* bob = runtime.client(options_for(gateway.url(), "bob", nullptr));
    const int fd = petrel_client_event_fd(bob);
    REQUIRE(fd >= 0);
    CHECK(petrel_client_event_fd(alice) == -1);
    petrel_client_login(alice);
    petrel_client_login(bob);
    for (int i = 0; i < 10; ++i) send(alice, "bob", std::to_string(i));
    std::string got;
    while (got.size() < 10) {
        pollfd waiting{fd, POLLIN, 0};
        REQUIRE(poll(&waiting, 1, kPatienceMs) == 1);
        const petrel_event* event = nullptr;
        while (petrel_client_next_event(bob, &event, 0) == PETREL_OK && event != nullptr) {
            if (event->type == PETREL_EVENT_MESSAGE) got += event->as.message->text;
        }
    }
    CHECK(got == "0123456789");
    petrel_client_destroy(alice);
    petrel_client_destroy(bob);
}

TEST_CASE("C API: wake lets a waiting next_event return") {
    CRuntime runtime;
    petrel_client* client = runtime.client(options_for("ws://127.0.0.1:1/ws", "alice", nullptr));
    const petrel_event* event = nullptr;
    std::thread waker([client] { petrel_client_wake(client); });
    CHECK(petrel_client_next_event(client, &event, -1) == PETREL_OK);
    CHECK(event == nullptr);
    waker.join();
    petrel_client_destroy(client);
}

TEST_CASE("C API: destroy lets a waiting next_event return") {
    CRuntime runtime;
    petrel_client* client = runtime.client(options_for("ws://127.0.0.1:1/ws", "alice", nullptr));
    std::promise<void> begun;
    std::int32_t status = -1;
    std::thread puller([&] {
        const petrel_event* event = nullptr;
        begun.set_value();
        // Until the handle is given up; seen at the latest by the wake of destroy.
        do {
            status = petrel_client_next_event(client, &event, -1);
            // The other thread's look may be under way.
        } while (status == PETREL_BUSY || (status == PETREL_OK && event != nullptr));
    });
    begun.get_future().wait();
    // A second one is turned away as soon as the first waits.
    const petrel_event* event = nullptr;
    while (petrel_client_next_event(client, &event, 0) != PETREL_BUSY) std::this_thread::yield();
    petrel_client_destroy(client);
    puller.join();
    CHECK(status == PETREL_BAD_ARGUMENT);
}

TEST_CASE("C API: the same fingerprint again is taken once, with another text refused") {
    CRuntime runtime;
    petrel_client* client = runtime.client(options_for("ws://127.0.0.1:1/ws", "alice", nullptr));
    petrel_send_options options;
    petrel_send_options_init(&options, sizeof options);
    options.fingerprint = "mine-1";
    char fp[PETREL_FINGERPRINT_SIZE];
    CHECK(petrel_client_send(client, "bob", "a", 1, &options, fp) == PETREL_OK);
    CHECK(std::string(fp) == "mine-1");
    CHECK(petrel_client_send(client, "bob", "a", 1, &options, fp) == PETREL_OK);
    CHECK(petrel_client_send(client, "bob", "b", 1, &options, fp) == PETREL_FINGERPRINT_REUSED);
    CHECK(std::string(fp).empty());
    petrel_stats stats;
    petrel_client_stats(client, &stats, sizeof stats);
    CHECK(stats.kept == 1);
    petrel_client_destroy(client);
}

TEST_CASE("C API: cancel ends a message, and only once") {
    CRuntime runtime;
    Ears ears;
    petrel_client* client = runtime.client(options_for("ws://127.0.0.1:1/ws", "alice", &ears));
    const std::string fp = send(client, "bob", "never mind");
    CHECK(petrel_client_cancel(client, fp.c_str()) == PETREL_OK);
    CHECK(petrel_client_cancel(client, fp.c_str()) == PETREL_UNKNOWN);
    REQUIRE(ears.wait_for(PETREL_EVENT_OUTCOME));
    petrel_client_destroy(client);
    CHECK(ears.all(PETREL_EVENT_OUTCOME).size() == 1);
    CHECK(ears.all(PETREL_EVENT_OUTCOME)[0].value == PETREL_OUTCOME_CANCELLED);
    CHECK(ears.all(PETREL_EVENT_OUTCOME)[0].attempts == 0);
}

TEST_CASE("C API: a message expires after its own time") {
    CRuntime runtime;
    Ears ears;
    petrel_client* client = runtime.client(options_for("ws://127.0.0.1:1/ws", "alice", &ears));
    petrel_send_options options;
    petrel_send_options_init(&options, sizeof options);
    options.expires_after_ms = 1;
    CHECK(petrel_client_send(client, "bob", "a", 1, &options, nullptr) == PETREL_OK);
    REQUIRE(ears.wait_for(PETREL_EVENT_OUTCOME));
    CHECK(ears.all(PETREL_EVENT_OUTCOME)[0].value == PETREL_OUTCOME_EXPIRED);
    petrel_client_destroy(client);
}

TEST_CASE("C API: logout keeps or discards what is unsent") {
    CRuntime runtime;
    Ears ears;
    petrel_client* client = runtime.client(options_for("ws://127.0.0.1:1/ws", "alice", &ears));
    send(client, "bob", "a");
    CHECK(petrel_client_logout(client, 1) == PETREL_OK);
    petrel_stats stats;
    petrel_client_stats(client, &stats, sizeof stats);
    CHECK(stats.kept == 1);
    CHECK(petrel_client_logout(client, 0) == PETREL_OK);
    REQUIRE(ears.wait_for(PETREL_EVENT_OUTCOME));
    CHECK(ears.all(PETREL_EVENT_OUTCOME)[0].value == PETREL_OUTCOME_CANCELLED);
    CHECK(petrel_client_logout(client, 2) == PETREL_BAD_ARGUMENT);
    petrel_client_destroy(client);
}

TEST_CASE("C API: an echo comes back with its time") {
    RunningGateway gateway;
    CRuntime runtime;
    Ears ears;
    petrel_client* client = runtime.client(options_for(gateway.url(), "alice", &ears));
    CHECK(petrel_client_echo(client, "x", 1) == PETREL_NOT_LOGGED_IN);
    petrel_client_login(client);
    REQUIRE(ears.wait_for(PETREL_EVENT_LOGIN));
    CHECK(petrel_client_echo(client, "ping", 4) == PETREL_OK);
    REQUIRE(ears.wait_for(PETREL_EVENT_ECHO));
    CHECK(ears.all(PETREL_EVENT_ECHO)[0].text == "ping");
    petrel_client_destroy(client);
}

TEST_CASE("C API: what is not confirmed comes again to the next client") {
    RunningGateway gateway;
    CRuntime runtime;
    Ears ears, bob_hears, again;
    petrel_client* alice = runtime.client(options_for(gateway.url(), "alice", &ears));
    petrel_client_options manual = options_for(gateway.url(), "bob", &bob_hears);
    manual.manual_confirm = 1;
    petrel_client* bob = runtime.client(manual);
    petrel_client_login(bob);
    petrel_client_login(alice);
    send(alice, "bob", "one");
    send(alice, "bob", "two");
    REQUIRE(bob_hears.wait_for(PETREL_EVENT_MESSAGE, 2));
    CHECK(petrel_client_confirm(bob, 0) == PETREL_UNKNOWN);
    CHECK(petrel_client_confirm(bob, bob_hears.all(PETREL_EVENT_MESSAGE)[0].id) == PETREL_OK);
    REQUIRE(ears.wait_for(PETREL_EVENT_DELIVERED));
    petrel_client_destroy(bob);
    bob = runtime.client(options_for(gateway.url(), "bob", &again));
    petrel_client_login(bob);
    REQUIRE(again.wait_for(PETREL_EVENT_MESSAGE));
    CHECK(again.all(PETREL_EVENT_MESSAGE)[0].text == "two");
    petrel_client_destroy(bob);
    petrel_client_destroy(alice);
}

TEST_CASE("C API: the same device elsewhere kicks this one out") {
    RunningGateway gateway;
    CRuntime runtime;
    Ears first_hears, second_hears;
    petrel_client* first = runtime.client(options_for(gateway.url(), "alice", &first_hears));
    petrel_client_login(first);
    REQUIRE(first_hears.wait_for(PETREL_EVENT_LOGIN));
    petrel_client* second = runtime.client(options_for(gateway.url(), "alice", &second_hears));
    petrel_client_login(second);
    REQUIRE(first_hears.wait_for(PETREL_EVENT_KICKED));
    petrel_client_destroy(first);
    petrel_client_destroy(second);
}

TEST_CASE("C API: with a storage path what is unsent survives the client") {
    RunningGateway gateway;
    CRuntime runtime;
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/made";
    Ears first_hears, second_hears;
    petrel_client_options options = options_for("ws://127.0.0.1:1/ws", "alice", &first_hears);
    options.storage_path = path.c_str();
    petrel_client* first = runtime.client(options);
    const std::string fp = send(first, "bob", "later");

    petrel_client* locked_out = nullptr;
    CHECK(petrel_client_create(runtime.handle, &options, &locked_out) == PETREL_BUSY);
    CHECK(locked_out == nullptr);
    CHECK_FALSE(first_hears.last_log().empty());

    petrel_client_destroy(first);
    CHECK(first_hears.all(PETREL_EVENT_OUTCOME).empty());
    options.url = gateway.url();
    options.user_data = &second_hears;
    petrel_client* second = runtime.client(options);
    petrel_client_login(second);
    REQUIRE(second_hears.wait_for(PETREL_EVENT_OUTCOME));
    CHECK(second_hears.all(PETREL_EVENT_OUTCOME)[0].fingerprint == fp);
    CHECK(second_hears.all(PETREL_EVENT_OUTCOME)[0].value == PETREL_OUTCOME_ACCEPTED);
    petrel_client_destroy(second);
}

TEST_CASE("C API: a runtime that is destroyed first lives until its last client") {
    RunningGateway gateway;
    petrel_runtime* runtime = nullptr;
    REQUIRE(petrel_runtime_create(&runtime) == PETREL_OK);
    Ears ears;
    const petrel_client_options options = options_for(gateway.url(), "alice", &ears);
    petrel_client* client = nullptr;
    REQUIRE(petrel_client_create(runtime, &options, &client) == PETREL_OK);
    CHECK(petrel_runtime_destroy(runtime) == PETREL_OK);
    petrel_client_login(client);
    send(client, "alice", "to myself");
    REQUIRE(ears.wait_for(PETREL_EVENT_MESSAGE));
    CHECK(petrel_client_destroy(client) == PETREL_OK);
}

TEST_CASE("C API: eight threads at once, every message has one outcome") {
    RunningGateway gateway;
    CRuntime runtime;
    Ears alice_hears, bob_hears;
    petrel_client* alice = runtime.client(options_for(gateway.url(), "alice", &alice_hears));
    petrel_client* bob = runtime.client(options_for(gateway.url(), "bob", &bob_hears));
    petrel_client_login(bob);
    petrel_client_login(alice);
    constexpr int kThreads = 8;
    constexpr int kEach = 50;
    std::atomic<int> failures{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < kEach; ++i) {
                char fp[PETREL_FINGERPRINT_SIZE];
                if (petrel_client_send(alice, "bob", "x", 1, nullptr, fp) != PETREL_OK) ++failures;
                std::int32_t state = 0;
                petrel_stats stats;
                petrel_client_state(alice, &state);
                petrel_client_stats(alice, &stats, sizeof stats);
                petrel_client_echo(alice, "e", 1);
                petrel_client_cancel(alice, "nobody's");
                petrel_client_set_token(alice, "token");
                if (t == 0) petrel_client_network_available(alice);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(failures == 0);
    REQUIRE(alice_hears.wait_for(PETREL_EVENT_OUTCOME, kThreads * kEach));
    REQUIRE(bob_hears.wait_for(PETREL_EVENT_MESSAGE, kThreads * kEach));
    petrel_client_destroy(alice);
    petrel_client_destroy(bob);
    CHECK(alice_hears.all(PETREL_EVENT_OUTCOME).size() == kThreads * kEach);
    CHECK(bob_hears.all(PETREL_EVENT_MESSAGE).size() == kThreads * kEach);
}
