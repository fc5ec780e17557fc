// NULL, nonsense, and structs of other versions of petrel.h.

#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "tests/abi/c_world.hpp"

using namespace petrel::test;

namespace {

constexpr const char* kNowhere = "ws://127.0.0.1:1/ws";

std::int32_t create(CRuntime& runtime, const petrel_client_options& options) {
    petrel_client* client = nullptr;
    const std::int32_t status = petrel_client_create(runtime.handle, &options, &client);
    CHECK((client != nullptr) == (status == PETREL_OK));
    petrel_client_destroy(client);
    return status;
}

}  // namespace

TEST_CASE("C API: no function minds NULL") {
    CRuntime runtime;
    const petrel_event* event = nullptr;
    std::int32_t state = 0;
    petrel_stats stats;
    CHECK(petrel_runtime_create(nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_runtime_destroy(nullptr) == PETREL_OK);
    CHECK(petrel_client_options_init(nullptr, 8) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_send_options_init(nullptr, 8) == PETREL_BAD_ARGUMENT);
    petrel_client* client = nullptr;
    petrel_client_options options = options_for(kNowhere, "alice", nullptr);
    CHECK(petrel_client_create(nullptr, &options, &client) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_create(runtime.handle, nullptr, &client) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_create(runtime.handle, &options, nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_destroy(nullptr) == PETREL_OK);
    CHECK(petrel_client_login(nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_logout(nullptr, 1) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_send(nullptr, "b", "t", 1, nullptr, nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_cancel(nullptr, "f") == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_confirm(nullptr, 1) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_echo(nullptr, "t", 1) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_set_token(nullptr, "t") == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_network_available(nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_network_lost(nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_suspend(nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_resume(nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_state(nullptr, &state) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_stats(nullptr, &stats, sizeof stats) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_next_event(nullptr, &event, 0) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_wake(nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_event_fd(nullptr) == -1);
    CHECK(petrel_connection_opened(nullptr, "") == PETREL_BAD_ARGUMENT);
    CHECK(petrel_connection_text(nullptr, "", 0) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_connection_binary(nullptr, 0) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_connection_sent(nullptr, 0) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_connection_closed(nullptr, 0, "", 0, -1) == PETREL_BAD_ARGUMENT);

    client = runtime.client(options);
    CHECK(petrel_client_send(client, nullptr, "t", 1, nullptr, nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_send(client, "b", nullptr, 1, nullptr, nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_send(client, "b", nullptr, 0, nullptr, nullptr) == PETREL_OK);
    CHECK(petrel_client_cancel(client, nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_echo(client, nullptr, 1) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_set_token(client, nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_state(client, nullptr) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_stats(client, nullptr, sizeof stats) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_next_event(client, nullptr, 0) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_next_event(client, &event, -2) == PETREL_BAD_ARGUMENT);
    petrel_client_destroy(client);
}

TEST_CASE("C API: a client needs a user and a url") {
    CRuntime runtime;
    Ears ears;
    CHECK(create(runtime, options_for(nullptr, "alice", &ears)) == PETREL_NO_SERVER_ADDRESS);
    CHECK(create(runtime, options_for(kNowhere, nullptr, &ears)) == PETREL_BAD_ARGUMENT);
    CHECK(ears.last_log().find("user") != std::string::npos);
    CHECK(create(runtime, options_for(kNowhere, "\xff", &ears)) == PETREL_BAD_ARGUMENT);
    CHECK(create(runtime, options_for(kNowhere, "alice", &ears)) == PETREL_OK);
}

TEST_CASE("C API: names are checked") {
    CRuntime runtime;
    const std::string longest(64, 'd');
    const std::string too_long(65, 'd');
    petrel_client_options options = options_for(kNowhere, "alice", nullptr);
    options.device = longest.c_str();
    CHECK(create(runtime, options) == PETREL_OK);
    options.device = too_long.c_str();
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    options.device = nullptr;
    options.profile = "im-sdk";
    CHECK(create(runtime, options) == PETREL_OK);
    options.profile = "xmpp";
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    options.profile = nullptr;
    options.device_class = "mobile";
    CHECK(create(runtime, options) == PETREL_OK);
    options.device_class = "toaster";
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
}

// The gateway would take a longer one for a violation of the protocol.
TEST_CASE("C API: what a login carries is no longer than the wire takes") {
    CRuntime runtime;
    const std::string token(16'384, 't');
    const std::string name(256, 'n');
    petrel_client_options options = options_for(kNowhere, name.c_str(), nullptr);
    options.app = name.c_str();
    options.token = options.extra = token.c_str();
    petrel_client* client = runtime.client(options);
    CHECK(petrel_client_set_token(client, token.c_str()) == PETREL_OK);
    CHECK(petrel_client_set_token(client, (token + "t").c_str()) == PETREL_BAD_ARGUMENT);
    petrel_client_destroy(client);
    const std::string long_token = token + "t";
    const std::string long_name = name + "n";
    for (const char* petrel_client_options::*text :
         {&petrel_client_options::token, &petrel_client_options::extra}) {
        petrel_client_options wrong = options;
        wrong.*text = long_token.c_str();
        CHECK(create(runtime, wrong) == PETREL_BAD_ARGUMENT);
    }
    for (const char* petrel_client_options::*text :
         {&petrel_client_options::user, &petrel_client_options::app}) {
        petrel_client_options wrong = options;
        wrong.*text = long_name.c_str();
        CHECK(create(runtime, wrong) == PETREL_BAD_ARGUMENT);
    }
}

TEST_CASE("C API: pins are hashes, and for wss:// only") {
    CRuntime runtime;
    const std::string pin = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    std::string most = pin;
    for (int i = 1; i < 16; ++i) most += " " + pin;
    petrel_client_options options = options_for("wss://127.0.0.1:9/ws", "alice", nullptr);
    for (const std::string& good : {std::string(), pin, " " + pin + "  " + pin + " ", most}) {
        options.tls_pins = good.c_str();
        CHECK(create(runtime, options) == PETREL_OK);
    }
    for (const std::string& bad : {std::string("x"), pin.substr(1), pin + pin, pin + "," + pin,
                                   "sha256/" + pin, most + " " + pin}) {
        options.tls_pins = bad.c_str();
        CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    }
    options.tls_pins = pin.c_str();
    options.url = "ws://127.0.0.1:9/ws";
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    // A caller from before the field: it is not read.
    options.tls_pins = "x";
    options.struct_size = offsetof(petrel_client_options, tls_pins);
    CHECK(create(runtime, options) == PETREL_OK);
}

TEST_CASE("C API: numbers at their ends") {
    constexpr std::int64_t kMsMax = 3'153'600'000'000;
    constexpr std::uint64_t kCountMax = std::uint64_t{1} << 40;
    CRuntime runtime;
    for (const auto field :
         {&petrel_client_options::expires_after_ms, &petrel_client_options::backoff_base_ms,
          &petrel_client_options::backoff_max_ms, &petrel_client_options::stable_after_ms,
          &petrel_client_options::connect_timeout_ms, &petrel_client_options::login_timeout_ms,
          &petrel_client_options::told_max_ms, &petrel_client_options::heartbeat_interval_ms,
          &petrel_client_options::ack_timeout_min_ms, &petrel_client_options::pause_max_ms,
          &petrel_client_options::ack_delay_max_ms, &petrel_client_options::dedup_sweep_ms,
          &petrel_client_options::linger_max_ms, &petrel_client_options::handshake_timeout_ms}) {
        petrel_client_options options = options_for(kNowhere, "alice", nullptr);
        for (const std::int64_t good : {std::int64_t{0}, std::int64_t{1}, kMsMax}) {
            options.*field = good;
            CHECK(create(runtime, options) == PETREL_OK);
        }
        for (const std::int64_t bad : {std::int64_t{-1}, kMsMax + 1, INT64_MAX, INT64_MIN}) {
            options.*field = bad;
            CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
        }
    }
    for (const auto field :
         {&petrel_client_options::payload_max, &petrel_client_options::socket_packets_max,
          &petrel_client_options::echoes_max, &petrel_client_options::unhandled_max,
          &petrel_client_options::notices_max, &petrel_client_options::events_max,
          &petrel_client_options::frame_bytes_max, &petrel_client_options::kept_max,
          &petrel_client_options::send_window_packets_max, &petrel_client_options::ack_every_max,
          &petrel_client_options::dedup_entries_max, &petrel_client_options::late_ack_memory}) {
        petrel_client_options options = options_for(kNowhere, "alice", nullptr);
        for (const std::uint64_t good : {std::uint64_t{0}, std::uint64_t{1}, kCountMax}) {
            options.*field = good;
            CHECK(create(runtime, options) == PETREL_OK);
        }
        for (const std::uint64_t bad : {kCountMax + 1, UINT64_MAX}) {
            options.*field = bad;
            CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
        }
    }
    petrel_client_options options = options_for(kNowhere, "alice", nullptr);
    options.manual_confirm = 2;
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    options.manual_confirm = 0;
    options.log_level = PETREL_LOG_NONE + 1;
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    options.log_level = PETREL_LOG_NONE;
    options.patience_ms = -1;
    CHECK(create(runtime, options) == PETREL_OK);
    options.patience_ms = -2;
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
}

TEST_CASE("C API: the defaults are those that the header tells") {
    petrel_client_options options;
    REQUIRE(petrel_client_options_init(&options, sizeof options) == PETREL_OK);
    CHECK(options.struct_size == sizeof options);
    CHECK(options.log_level == PETREL_LOG_INFO);
    CHECK(options.window == 64);
    CHECK(options.window_bytes == 1048576);
    CHECK(options.send_retries == 2);
    CHECK(options.expires_after_ms == 43200000);
    CHECK(options.payload_max == 65536);
    CHECK(options.socket_packets_max == 256);
    CHECK(options.socket_bytes_max == 262144);
    CHECK(options.echoes_max == 1024);
    CHECK(options.confirm_ahead_max == 1024);
    CHECK(options.unhandled_max == 1024);
    CHECK(options.notices_max == 1024);
    CHECK(options.events_max == 65536);
    CHECK(options.linger_max_ms == 500);
    CHECK(options.handshake_timeout_ms == 10000);
    CHECK(options.frame_bytes_max == 397312);
    CHECK(options.backoff_base_ms == 500);
    CHECK(options.backoff_max_ms == 30000);
    CHECK(options.stable_after_ms == 30000);
    CHECK(options.connect_timeout_ms == 10000);
    CHECK(options.login_timeout_ms == 10000);
    CHECK(options.relogin_first_ms == -1);
    CHECK(options.relogin_interval_ms == -1);
    CHECK(options.told_max_ms == 86400000);
    CHECK(options.heartbeat_interval_ms == 25000);
    CHECK(options.heartbeat_interval_min_ms == 100);
    CHECK(options.ack_timeout_min_ms == 3000);
    CHECK(options.ack_timeout_max_ms == 20000);
    CHECK(options.patience_ms == -1);
    CHECK(options.late_after_ms == 1000);
    CHECK(options.late_grace_ms == 200);
    CHECK(options.send_window_packets_max == 64);
    CHECK(options.send_window_bytes_max == 1048576);
    CHECK(options.kept_max == 10000);
    CHECK(options.kept_bytes_max == 67108864);
    CHECK(options.pause_max_ms == 600000);
    CHECK(options.send_check_period_ms == 5000);
    CHECK(options.retry_not_younger_ms == 3000);
    CHECK(options.late_ack_memory == 1024);
    CHECK(options.ack_every_max == 16);
    CHECK(options.ack_delay_max_ms == 20);
    CHECK(options.gap_interval_ms == 250);
    CHECK(options.dedup_memory_ms == 600000);
    CHECK(options.dedup_sweep_ms == 300000);
    CHECK(options.dedup_entries_max == 100000);
}

TEST_CASE("C API: a full outbox refuses and changes nothing") {
    CRuntime runtime;
    petrel_client_options options = options_for(kNowhere, "alice", nullptr);
    options.kept_max = 1;
    petrel_client* client = runtime.client(options);
    CHECK(petrel_client_send(client, "bob", "a", 1, nullptr, nullptr) == PETREL_OK);
    CHECK(petrel_client_send(client, "bob", "b", 1, nullptr, nullptr) == PETREL_SEND_FAILED);
    petrel_stats stats;
    petrel_client_stats(client, &stats, sizeof stats);
    CHECK(stats.kept == 1);
    petrel_client_destroy(client);
}

TEST_CASE("C API: what cannot be sent is refused") {
    CRuntime runtime;
    petrel_client_options options = options_for(kNowhere, "alice", nullptr);
    options.payload_max = 4;
    petrel_client* client = runtime.client(options);
    char fp[PETREL_FINGERPRINT_SIZE] = "x";
    CHECK(petrel_client_send(client, "bob", "12345", 5, nullptr, fp) == PETREL_TOO_LARGE);
    CHECK(std::string(fp).empty());
    CHECK(petrel_client_send(client, "bob", "1234", 4, nullptr, fp) == PETREL_OK);
    CHECK(petrel_client_send(client, "bob", "\xc3", 1, nullptr, fp) == PETREL_INVALID_PACKET);
    CHECK(petrel_client_send(client, "", "a", 1, nullptr, fp) == PETREL_INVALID_PACKET);
    CHECK(petrel_client_send(client, "bob", "a", SIZE_MAX, nullptr, fp) == PETREL_BAD_ARGUMENT);
    petrel_send_options send;
    petrel_send_options_init(&send, sizeof send);
    send.qos = 0;
    CHECK(petrel_client_send(client, "bob", "a", 1, &send, fp) == PETREL_NOT_LOGGED_IN);
    send.qos = 2;
    CHECK(petrel_client_send(client, "bob", "a", 1, &send, fp) == PETREL_BAD_ARGUMENT);
    send.qos = 1;
    send.expires_after_ms = -2;
    CHECK(petrel_client_send(client, "bob", "a", 1, &send, fp) == PETREL_BAD_ARGUMENT);
    send.expires_after_ms = -1;
    const std::string longest(64, 'f');
    const std::string too_long(65, 'f');
    send.fingerprint = too_long.c_str();
    CHECK(petrel_client_send(client, "bob", "a", 1, &send, fp) == PETREL_BAD_ARGUMENT);
    send.fingerprint = "\n";
    CHECK(petrel_client_send(client, "bob", "a", 1, &send, fp) == PETREL_BAD_ARGUMENT);
    send.fingerprint = longest.c_str();
    CHECK(petrel_client_send(client, "bob", "a", 1, &send, fp) == PETREL_OK);
    CHECK(fp == longest);
    petrel_client_destroy(client);
}

// An app that was built when petrel_client_options ended behind user_data.
TEST_CASE("C API: an older and shorter struct works, and is not written beyond") {
    constexpr std::size_t kOlder = offsetof(petrel_client_options, transport);
    struct {
        alignas(petrel_client_options) unsigned char bytes[kOlder];
        unsigned char behind[sizeof(petrel_client_options)];
    } app;
    std::memset(&app, 0xee, sizeof app);
    auto* const options = reinterpret_cast<petrel_client_options*>(app.bytes);
    REQUIRE(petrel_client_options_init(options, kOlder) == PETREL_OK);
    CHECK(options->struct_size == kOlder);
    for (const unsigned char byte : app.behind) REQUIRE(byte == 0xee);
    options->url = kNowhere;
    options->user = "alice";
    CRuntime runtime;
    petrel_client* client = nullptr;
    REQUIRE(petrel_client_create(runtime.handle, options, &client) == PETREL_OK);
    CHECK(petrel_client_send(client, "bob", "a", 1, nullptr, nullptr) == PETREL_OK);

    struct {
        alignas(petrel_stats) unsigned char bytes[offsetof(petrel_stats, accepted)];
        unsigned char behind[8];
    } stats;
    std::memset(&stats, 0xee, sizeof stats);
    auto* const known = reinterpret_cast<petrel_stats*>(stats.bytes);
    CHECK(petrel_client_stats(client, known, sizeof stats.bytes) == PETREL_OK);
    CHECK(known->sent == 1);
    CHECK(stats.behind[0] == 0xee);
    petrel_client_destroy(client);
}

TEST_CASE("C API: a newer struct works as long as it asks for nothing unknown") {
    struct {
        petrel_client_options known;
        std::uint64_t unknown;
    } app;
    app.unknown = 7;
    REQUIRE(petrel_client_options_init(&app.known, sizeof app) == PETREL_OK);
    CHECK(app.unknown == 0);
    app.known.url = kNowhere;
    app.known.user = "alice";
    CRuntime runtime;
    CHECK(create(runtime, app.known) == PETREL_OK);
    app.unknown = 1;
    CHECK(create(runtime, app.known) == PETREL_BAD_ARGUMENT);
}

TEST_CASE("C API: a struct that was never initialised is refused") {
    CRuntime runtime;
    petrel_client_options options;
    std::memset(&options, 0, sizeof options);
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    std::memset(&options, 0xff, sizeof options);
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_options_init(&options, 0) == PETREL_BAD_ARGUMENT);
    CHECK(petrel_client_options_init(&options, 7) == PETREL_BAD_ARGUMENT);
}

TEST_CASE("C API: a transport needs all its functions") {
    CRuntime runtime;
    petrel_transport table;
    std::memset(&table, 0, sizeof table);
    petrel_client_options options = options_for(kNowhere, "alice", nullptr);
    options.transport = &table;
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
    table.struct_size = sizeof table;
    CHECK(create(runtime, options) == PETREL_BAD_ARGUMENT);
}

TEST_CASE("C API: codes have words") {
    CHECK(std::string(petrel_strerror(PETREL_TOO_LARGE)) == "the message is too large");
    CHECK(std::string(petrel_strerror(2000)) == "error 2000");
    CHECK(std::string(petrel_strerror(INT32_MIN)) == "error -2147483648");
    CHECK(petrel_abi_version() == PETREL_ABI_VERSION);
    CHECK(std::string(petrel_version()).find('.') != std::string::npos);
}
