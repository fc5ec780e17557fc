// Destroy: in each kind of callback, many times, and what may come after it.

#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <future>
#include <string>

#include "tests/abi/c_world.hpp"

using namespace petrel::test;

namespace {

// Destroys its client in the first callback of a kind.
struct Destroyer {
    explicit Destroyer(int wanted) : type(wanted) {
        ears.on_seen = [this](petrel_client* client, const Seen& one) {
            if (one.type != type || is_done.exchange(true)) {
                if (is_done && one.type != PETREL_EVENT_OUTCOME) is_late = true;
                return;
            }
            status = petrel_client_destroy(client);
            again = petrel_client_login(client);
            done.set_value();
        };
    }
    int type;
    Ears ears;
    std::atomic<bool> is_done{false};
    std::atomic<bool> is_late{false};
    std::promise<void> done;
    std::int32_t status = -1;
    std::int32_t again = -1;
};

bool is_done(std::promise<void>& promise) {
    return promise.get_future().wait_for(std::chrono::milliseconds{kPatienceMs}) ==
           std::future_status::ready;
}

}  // namespace

TEST_CASE("C API: destroy inside each kind of callback takes effect when it returns") {
    RunningGateway gateway;
    for (const int type : {PETREL_EVENT_STATE, PETREL_EVENT_LOGIN, PETREL_EVENT_MESSAGE,
                           PETREL_EVENT_OUTCOME, PETREL_EVENT_DELIVERED, PETREL_EVENT_ECHO}) {
        CAPTURE(type);
        Destroyer destroyer(type);
        {
            CRuntime runtime;
            Ears other_hears;
            petrel_client* other = nullptr;
            petrel_client* client =
                runtime.client(options_for(gateway.url(), "alice", &destroyer.ears));
            if (type == PETREL_EVENT_ECHO) {
                const auto inner = destroyer.ears.on_seen;
                destroyer.ears.on_seen = [inner](petrel_client* c, const Seen& one) {
                    if (one.type == PETREL_EVENT_LOGIN) petrel_client_echo(c, "e", 1);
                    inner(c, one);
                };
            }
            // Who waits for DELIVERED needs somebody who handles.
            const bool needs_other = type == PETREL_EVENT_DELIVERED;
            if (needs_other) {
                other = runtime.client(options_for(gateway.url(), "bob", &other_hears));
                petrel_client_login(other);
            }
            if (type != PETREL_EVENT_STATE && type != PETREL_EVENT_LOGIN &&
                type != PETREL_EVENT_ECHO) {
                send(client, needs_other ? "bob" : "alice", "hello");
            }
            petrel_client_login(client);
            REQUIRE(is_done(destroyer.done));
            petrel_client_destroy(other);
        }
        // The runtime has ended: nothing can come any more.
        CHECK(destroyer.status == PETREL_OK);
        CHECK(destroyer.again == PETREL_BAD_ARGUMENT);
        CHECK_FALSE(destroyer.is_late);
    }
}

TEST_CASE("C API: destroy inside kicked") {
    RunningGateway gateway;
    Destroyer destroyer(PETREL_EVENT_KICKED);
    CRuntime runtime;
    petrel_client* first = runtime.client(options_for(gateway.url(), "alice", &destroyer.ears));
    petrel_client_login(first);
    REQUIRE(destroyer.ears.wait_for(PETREL_EVENT_LOGIN));
    Ears ears;
    petrel_client* second = runtime.client(options_for(gateway.url(), "alice", &ears));
    petrel_client_login(second);
    REQUIRE(is_done(destroyer.done));
    petrel_client_destroy(second);
}

TEST_CASE("C API: destroy inside the log callback") {
    struct Told {
        std::atomic<bool> is_done{false};
        std::promise<void> done;
    } told;
    petrel_client_options options = options_for("ws://127.0.0.1:1/ws", "alice", nullptr);
    options.log_level = PETREL_LOG_DEBUG;
    options.user_data = &told;
    options.on_log = [](void* user_data, petrel_client* client, std::int32_t, const char*) {
        auto& self = *static_cast<Told*>(user_data);
        if (client == nullptr || self.is_done.exchange(true)) return;
        petrel_client_destroy(client);
        self.done.set_value();
    };
    CRuntime runtime;
    petrel_client* client = runtime.client(options);
    petrel_client_login(client);
    CHECK(is_done(told.done));
}

TEST_CASE("C API: both handles destroyed inside a callback") {
    RunningGateway gateway;
    petrel_runtime* runtime = nullptr;
    REQUIRE(petrel_runtime_create(&runtime) == PETREL_OK);
    std::promise<void> done;
    static Ears ears;  // Nobody can wait for the end of that callback.
    ears.on_seen = [&](petrel_client* client, const Seen& one) {
        if (one.type != PETREL_EVENT_LOGIN) return;
        CHECK(petrel_runtime_destroy(runtime) == PETREL_OK);
        CHECK(petrel_client_destroy(client) == PETREL_OK);
        done.set_value();
    };
    const petrel_client_options options = options_for(gateway.url(), "alice", &ears);
    petrel_client* client = nullptr;
    REQUIRE(petrel_client_create(runtime, &options, &client) == PETREL_OK);
    petrel_client_login(client);
    CHECK(is_done(done));
}

// The runtime goes while the call that led to it may still be on its way out of the loop.
TEST_CASE("C API: a callback destroys both handles while the call that led to it returns") {
    struct Told {
        petrel_runtime* runtime = nullptr;
        std::atomic<bool> is_awaited{false};
        std::promise<void> done;
    };
    static std::deque<Told> all;  // Nobody can wait for the end of those callbacks.
    for (int i = 0; i < 100; ++i) {
        Told& told = all.emplace_back();
        REQUIRE(petrel_runtime_create(&told.runtime) == PETREL_OK);
        petrel_client_options options = options_for("ws://127.0.0.1:1/ws", "alice", nullptr);
        options.log_level = PETREL_LOG_DEBUG;
        options.user_data = &told;
        options.on_log = [](void* user_data, petrel_client* client, std::int32_t, const char*) {
            auto& self = *static_cast<Told*>(user_data);
            if (client == nullptr || !self.is_awaited.exchange(false)) return;
            CHECK(petrel_runtime_destroy(self.runtime) == PETREL_OK);
            CHECK(petrel_client_destroy(client) == PETREL_OK);
            self.done.set_value();
        };
        petrel_client* client = nullptr;
        REQUIRE(petrel_client_create(told.runtime, &options, &client) == PETREL_OK);
        told.is_awaited = true;
        petrel_client_login(client);
        REQUIRE(is_done(told.done));
    }
}

TEST_CASE("C API: destroyed without a file, every message has an outcome before it returns") {
    CRuntime runtime;
    Ears ears;
    petrel_client* client = runtime.client(options_for("ws://127.0.0.1:1/ws", "alice", &ears));
    for (int i = 0; i < 100; ++i) send(client, "bob", "x");
    petrel_client_destroy(client);
    CHECK(ears.all(PETREL_EVENT_OUTCOME).size() == 100);
}

TEST_CASE("C API: create, login, send, destroy, many times: no callback comes late") {
    RunningGateway gateway;
    CRuntime runtime;
    for (int i = 0; i < 300; ++i) {
        Ears ears;
        petrel_client* client = runtime.client(options_for(gateway.url(), "alice", &ears));
        petrel_client_login(client);
        if (i % 3 != 0) send(client, "alice", "x");
        // At another moment of its life each time.
        if (i % 5 == 0) REQUIRE(ears.wait_for(PETREL_EVENT_STATE));
        if (i % 7 == 0) REQUIRE(ears.wait_for(PETREL_EVENT_LOGIN));
        petrel_client_destroy(client);
        ears.on_seen = [](petrel_client*, const Seen&) { FAIL_CHECK("a late callback"); };
    }
}
