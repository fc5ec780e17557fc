#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "core/client/c_handles.hpp"
#include "core/client/c_options.hpp"
#include "core/client/c_storage.hpp"
#include "petrel/petrel.h"
#include "protocol/codec.hpp"
#include "protocol/error.hpp"
#include "protocol/utf8.hpp"

using petrel::Runtime;

namespace {

constexpr std::size_t kTextMax = std::size_t{1} << 30;  // No server takes it; no sum overflows.
constexpr std::size_t kNameMax = 65'536;
constexpr std::int64_t kRetryAfterMax = 3'153'600'000;  // 100 years.

// Every entry point: no exception crosses.
template <class Work>
std::int32_t guard(Work work) noexcept {
    try {
        return work();
    } catch (...) {
        return PETREL_UNKNOWN;
    }
}

template <class Work>
std::int32_t with_client(petrel_client* handle, Work work) noexcept {
    return guard([&]() -> std::int32_t {
        petrel::Client* const client = handle != nullptr ? handle->live() : nullptr;
        return client != nullptr ? work(*client) : PETREL_BAD_ARGUMENT;
    });
}

std::int32_t status(std::error_code error) {
    return !error || error.category() == petrel::petrel_category() ? error.value() : PETREL_UNKNOWN;
}

// False: longer than anything sensible.
bool take_name(const char* from, std::string& to) {
    if (from == nullptr) return false;
    const std::size_t size = strnlen(from, kNameMax + 1);
    if (size > kNameMax) return false;
    to.assign(from, size);
    return true;
}

bool take_text(const char* from, std::size_t size, std::string& to) {
    if ((from == nullptr && size > 0) || size > kTextMax) return false;
    to.assign(from != nullptr ? from : "", size);
    return true;
}

// A runtime cannot be joined by its own thread.
struct EndRuntime {
    void operator()(Runtime* runtime) const noexcept {
        if (!runtime->is_engine_thread()) {
            delete runtime;
            return;
        }
        try {
            std::thread([runtime] { delete runtime; }).detach();
        } catch (...) {
            // No thread to be had: the engine's thread stays, and has nothing to do.
        }
    }
};

std::int32_t create_client(petrel_runtime& runtime, const petrel_client_options& given,
                           petrel_client*& out) {
    petrel_client_options c = petrel::default_client_options();
    if (!petrel::read_sized(&c, sizeof c, &given)) return PETREL_BAD_ARGUMENT;
    auto handle = std::make_shared<petrel_client>(runtime, c);

    // Until it is there the app has no handle.
    const auto refuse = [&c](std::int32_t code, const std::string& why) {
        if (c.on_log != nullptr && c.log_level <= PETREL_LOG_ERROR) {
            c.on_log(c.user_data, nullptr, PETREL_LOG_ERROR, why.c_str());
        }
        return code;
    };
    petrel::ClientOptions options;
    const char* reason = "";
    if (const auto code = petrel::read_options(c, options, reason)) {
        return refuse(code, std::string("petrel_client_options: ") + reason);
    }
    // Always: so the handle lives for as long as anything may be told.
    options.on_log = [handle](petrel::LogLevel level, std::string_view text) {
        handle->log(level, text);
    };
    if (c.on_event != nullptr) {
        options.on_event = [handle](const petrel::Event& event) { handle->deliver(event); };
    }
    if (c.transport != nullptr) {
        petrel_transport table{};
        if (!petrel::read_sized(&table, sizeof table, c.transport) ||
            !petrel::HostConnector::is_complete(table)) {
            return refuse(PETREL_BAD_ARGUMENT, "petrel_transport: something is missing");
        }
        handle->connector = std::make_unique<petrel::HostConnector>(handle->runtime->loop(), table);
        options.connector = handle->connector.get();
    }
    if (c.storage_path != nullptr && *c.storage_path != '\0') {
        std::string directory;
        std::string why;
        if (!take_name(c.storage_path, directory)) {
            return refuse(PETREL_BAD_ARGUMENT, "storage_path is too long");
        }
        if (const auto error = petrel::open_storage(directory, *handle->runtime, options, why)) {
            return refuse(status(error), why);
        }
    }
    petrel_client* const raw = handle.get();
    raw->client = new petrel::Client(*raw->runtime, std::move(options));
    raw->self = std::move(handle);
    out = raw;
    return PETREL_OK;
}

}  // namespace

namespace petrel {

void ClientGate::begin_leaving() {
    const std::lock_guard lock(mutex_);
    ++leaving_;
}

void ClientGate::leave() {
    {
        const std::lock_guard lock(mutex_);
        --leaving_;
    }
    changed_.notify_all();
}

void ClientGate::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return leaving_ == 0; });
}

}  // namespace petrel

petrel_client::petrel_client(const petrel_runtime& owner, const petrel_client_options& options)
    : gate(owner.gate),
      runtime(owner.shared),
      on_event(options.on_event),
      on_log(options.on_log),
      user_data(options.user_data),
      log_level(options.log_level) {}

petrel_client::~petrel_client() {
    // First the runtime: who waits at the gate then has the last of it, and may join its thread.
    runtime.reset();
    if (is_destroyed) gate->leave();
}

void petrel_client::deliver(const petrel::Event& event) noexcept {
    // One view an event: an app's callback may destroy another client, whose outcomes come inside.
    guard([&] {
        petrel::CEvent view;
        on_event(user_data, this, view.show(event));
        return PETREL_OK;
    });
}

void petrel_client::log(petrel::LogLevel level, std::string_view text) noexcept {
    if (on_log == nullptr || static_cast<std::int32_t>(level) < log_level) return;
    guard([&] {
        on_log(user_data, this, static_cast<std::int32_t>(level), std::string(text).c_str());
        return PETREL_OK;
    });
}

extern "C" {

// ---- runtime ----

std::int32_t petrel_runtime_create(petrel_runtime** runtime) {
    if (runtime == nullptr) return PETREL_BAD_ARGUMENT;
    *runtime = nullptr;
    return guard([&] {
        auto handle = std::make_unique<petrel_runtime>();
        handle->shared.reset(new Runtime, EndRuntime{});
        *runtime = handle.release();
        return PETREL_OK;
    });
}

std::int32_t petrel_runtime_destroy(petrel_runtime* runtime) {
    if (runtime == nullptr) return PETREL_OK;
    return guard([&] {
        if (!runtime->shared->is_engine_thread()) runtime->gate->wait();
        delete runtime;
        return PETREL_OK;
    });
}

// ---- options ----

std::int32_t petrel_client_options_init(petrel_client_options* options, std::size_t struct_size) {
    if (options == nullptr) return PETREL_BAD_ARGUMENT;
    return guard([&] {
        const petrel_client_options known = petrel::default_client_options();
        return petrel::write_sized(options, struct_size, &known, sizeof known)
                   ? PETREL_OK
                   : PETREL_BAD_ARGUMENT;
    });
}

std::int32_t petrel_send_options_init(petrel_send_options* options, std::size_t struct_size) {
    if (options == nullptr) return PETREL_BAD_ARGUMENT;
    return guard([&] {
        const petrel_send_options known = petrel::default_send_options();
        return petrel::write_sized(options, struct_size, &known, sizeof known)
                   ? PETREL_OK
                   : PETREL_BAD_ARGUMENT;
    });
}

// ---- client ----

std::int32_t petrel_client_create(petrel_runtime* runtime, const petrel_client_options* options,
                                  petrel_client** client) {
    if (client == nullptr) return PETREL_BAD_ARGUMENT;
    *client = nullptr;
    if (runtime == nullptr || options == nullptr) return PETREL_BAD_ARGUMENT;
    return guard([&] { return create_client(*runtime, *options, *client); });
}

std::int32_t petrel_client_destroy(petrel_client* client) {
    if (client == nullptr) return PETREL_OK;
    return guard([&]() -> std::int32_t {
        if (client->is_destroyed.exchange(true)) return PETREL_BAD_ARGUMENT;
        client->gate->begin_leaving();
        const auto keep = std::move(client->self);
        client->client->wake();
        {
            // Whoever waits in next_event has left. Not from the engine thread: it never waits.
            std::unique_lock pulling(client->pulling, std::defer_lock);
            if (!client->runtime->is_engine_thread()) pulling.lock();
        }
        delete client->client;
        return PETREL_OK;
    });
}

std::int32_t petrel_client_login(petrel_client* client) {
    return with_client(client, [](petrel::Client& c) {
        c.login();
        return PETREL_OK;
    });
}

std::int32_t petrel_client_logout(petrel_client* client, std::int32_t keep) {
    return with_client(client, [&](petrel::Client& c) {
        if (keep != 0 && keep != 1) return PETREL_BAD_ARGUMENT;
        c.logout(keep == 1);
        return PETREL_OK;
    });
}

std::int32_t petrel_client_send(petrel_client* client, const char* to, const char* text,
                                std::size_t text_size, const petrel_send_options* options,
                                char* fingerprint) {
    if (fingerprint != nullptr) *fingerprint = '\0';
    return with_client(client, [&](petrel::Client& c) -> std::int32_t {
        petrel_send_options known = petrel::default_send_options();
        if (options != nullptr && !petrel::read_sized(&known, sizeof known, options)) {
            return PETREL_BAD_ARGUMENT;
        }
        auto request = petrel::read_send(known);
        if (!request || !take_name(to, request->to) || !take_text(text, text_size, request->text)) {
            return PETREL_BAD_ARGUMENT;
        }
        const auto fp = c.send(std::move(*request));
        if (!fp) return status(fp.error());
        if (fingerprint != nullptr) {
            const std::string name = fp->to_string();
            std::memcpy(fingerprint, name.c_str(), name.size() + 1);
        }
        return PETREL_OK;
    });
}

std::int32_t petrel_client_cancel(petrel_client* client, const char* fingerprint) {
    return with_client(client, [&](petrel::Client& c) -> std::int32_t {
        std::string name;
        if (!take_name(fingerprint, name)) return PETREL_BAD_ARGUMENT;
        const auto fp = petrel::Fingerprint::parse(name);
        return fp ? status(c.cancel(*fp)) : PETREL_BAD_ARGUMENT;
    });
}

std::int32_t petrel_client_confirm(petrel_client* client, std::uint64_t message_id) {
    return with_client(client, [&](petrel::Client& c) { return status(c.confirm(message_id)); });
}

std::int32_t petrel_client_echo(petrel_client* client, const char* text, std::size_t text_size) {
    return with_client(client, [&](petrel::Client& c) -> std::int32_t {
        std::string words;
        if (!take_text(text, text_size, words)) return PETREL_BAD_ARGUMENT;
        return status(c.echo(std::move(words)));
    });
}

std::int32_t petrel_client_set_token(petrel_client* client, const char* token) {
    return with_client(client, [&](petrel::Client& c) -> std::int32_t {
        std::string text;
        if (!take_name(token, text) || text.size() > petrel::CodecLimits{}.token_bytes_max ||
            !petrel::is_valid_utf8(text)) {
            return PETREL_BAD_ARGUMENT;
        }
        c.set_token(std::move(text));
        return PETREL_OK;
    });
}

std::int32_t petrel_client_network_available(petrel_client* client) {
    return with_client(client, [](petrel::Client& c) {
        c.network_available();
        return PETREL_OK;
    });
}

std::int32_t petrel_client_network_lost(petrel_client* client) {
    return with_client(client, [](petrel::Client& c) {
        c.network_lost();
        return PETREL_OK;
    });
}

std::int32_t petrel_client_suspend(petrel_client* client) {
    return with_client(client, [](petrel::Client& c) {
        c.suspend();
        return PETREL_OK;
    });
}

std::int32_t petrel_client_resume(petrel_client* client) {
    return with_client(client, [](petrel::Client& c) {
        c.resume();
        return PETREL_OK;
    });
}

std::int32_t petrel_client_state(petrel_client* client, std::int32_t* state) {
    return with_client(client, [&](petrel::Client& c) {
        if (state == nullptr) return PETREL_BAD_ARGUMENT;
        *state = petrel::state_number(c.state());
        return PETREL_OK;
    });
}

std::int32_t petrel_client_stats(petrel_client* client, petrel_stats* stats,
                                 std::size_t struct_size) {
    return with_client(client, [&](petrel::Client& c) {
        if (stats == nullptr) return PETREL_BAD_ARGUMENT;
        const petrel_stats known = petrel::show_stats(c.stats());
        return petrel::write_sized(stats, struct_size, &known, sizeof known) ? PETREL_OK
                                                                             : PETREL_BAD_ARGUMENT;
    });
}

// ---- pull ----

std::int32_t petrel_client_next_event(petrel_client* client, const petrel_event** event,
                                      std::int32_t timeout_ms) {
    if (event == nullptr) return PETREL_BAD_ARGUMENT;
    *event = nullptr;
    return with_client(client, [&](petrel::Client& c) -> std::int32_t {
        if (client->on_event != nullptr || timeout_ms < -1) return PETREL_BAD_ARGUMENT;
        const std::unique_lock pulling(client->pulling, std::try_to_lock);
        if (!pulling) return PETREL_BUSY;
        // Destroy waits for this lock, so it either sees us out or is seen here.
        if (client->is_destroyed) return PETREL_BAD_ARGUMENT;
        client->pulled.reset();
        auto next = c.next_event(std::chrono::milliseconds{timeout_ms});
        if (client->is_destroyed) return PETREL_BAD_ARGUMENT;  // A loop around us ends.
        if (!next) return PETREL_OK;
        client->pulled = std::move(next);
        *event = client->pulled_view.show(*client->pulled);
        return PETREL_OK;
    });
}

std::int32_t petrel_client_wake(petrel_client* client) {
    return with_client(client, [](petrel::Client& c) {
        c.wake();
        return PETREL_OK;
    });
}

std::int32_t petrel_client_event_fd(petrel_client* client) {
    petrel::Client* const live = client != nullptr ? client->live() : nullptr;
    return live != nullptr ? live->event_fd() : -1;
}

// ---- words ----

const char* petrel_strerror(std::int32_t code) { return petrel::describe(code).data(); }
const char* petrel_version(void) { return PETREL_VERSION; }
std::int32_t petrel_abi_version(void) { return PETREL_ABI_VERSION; }

// ---- a transport of the host's ----

std::int32_t petrel_connection_opened(petrel_connection* connection, const char* subprotocol) {
    if (connection == nullptr) return PETREL_BAD_ARGUMENT;
    return guard([&] {
        std::string name;
        if (subprotocol != nullptr && !take_name(subprotocol, name)) return PETREL_BAD_ARGUMENT;
        petrel::host_report::opened(*connection, name);
        return PETREL_OK;
    });
}

std::int32_t petrel_connection_text(petrel_connection* connection, const char* text,
                                    std::size_t text_size) {
    if (connection == nullptr || (text == nullptr && text_size > 0) || text_size > kTextMax) {
        return PETREL_BAD_ARGUMENT;
    }
    return guard([&] {
        petrel::host_report::text(*connection, {text != nullptr ? text : "", text_size});
        return PETREL_OK;
    });
}

std::int32_t petrel_connection_binary(petrel_connection* connection, std::size_t size) {
    if (connection == nullptr) return PETREL_BAD_ARGUMENT;
    return guard([&] {
        petrel::host_report::binary(*connection, size);
        return PETREL_OK;
    });
}

std::int32_t petrel_connection_sent(petrel_connection* connection, std::size_t bytes) {
    if (connection == nullptr || bytes > kTextMax) return PETREL_BAD_ARGUMENT;
    return guard([&] {
        petrel::host_report::sent(*connection, bytes);
        return PETREL_OK;
    });
}

std::int32_t petrel_connection_closed(petrel_connection* connection, std::uint16_t code,
                                      const char* reason, std::int32_t http_status,
                                      std::int64_t retry_after_s) {
    if (connection == nullptr) return PETREL_BAD_ARGUMENT;
    return guard([&] {
        petrel::CloseInfo info;
        if (code != 0) info.code = code;
        if (reason != nullptr) info.reason.assign(reason, strnlen(reason, kNameMax));
        info.http_status = http_status;
        if (retry_after_s >= 0) {
            info.retry_after = std::chrono::seconds{std::min(retry_after_s, kRetryAfterMax)};
        }
        petrel::host_report::closed(*connection, std::move(info));
        return PETREL_OK;
    });
}

}  // extern "C"
