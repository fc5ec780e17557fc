#pragma once

#include <doctest/doctest.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/gateway/gateway.hpp"
#include "core/store/memory_message_store.hpp"
#include "petrel/petrel.h"

namespace petrel::test {

constexpr int kPatienceMs = 30'000;  // A test that waits so long has failed.

// A gateway in this process, on a port of its own.
class RunningGateway {
public:
    RunningGateway() : RunningGateway(GatewayOptions{}, std::make_unique<OpenAuthenticator>()) {}
    RunningGateway(GatewayOptions options, std::unique_ptr<Authenticator> authenticator) {
        start(std::move(options), std::move(authenticator));
    }
    // In the place of the one before, on its port.
    void restart(GatewayOptions options) {
        gateway_.reset();
        options.listen.port = port_;
        start(std::move(options), std::make_unique<OpenAuthenticator>());
    }
    const char* url() const { return url_.c_str(); }
    Gateway& gateway() { return *gateway_; }

private:
    void start(GatewayOptions options, std::unique_ptr<Authenticator> authenticator) {
        gateway_ = std::make_unique<Gateway>(std::move(options),
                                             make_memory_message_store(StoreOptions{}, epochs_),
                                             std::move(authenticator));
        std::string why;
        const auto port = gateway_->start(why);
        REQUIRE_MESSAGE(static_cast<bool>(port), why);
        port_ = *port;
        url_ = "ws://127.0.0.1:" + std::to_string(port_) + "/ws";
    }

    std::uint16_t port_ = 0;
    UuidSource epochs_;
    std::unique_ptr<Gateway> gateway_;
    std::string url_;
};

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "petrel-c-XXXXXX").string();
        REQUIRE(mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    std::string path() const { return path_; }

private:
    std::string path_;
};

// An event, copied out of the callback.
struct Seen {
    int type = 0;
    int code = 0;      // Of login, kicked, outcome: that of the outcome.
    int value = 0;     // State, outcome.
    std::string text;  // Of message and echo; reason.
    std::string from;
    std::string fingerprint;
    std::uint64_t id = 0;
    unsigned attempts = 0;
};

inline Seen seen(const petrel_event& event) {
    Seen out;
    out.type = event.type;
    switch (event.type) {
        case PETREL_EVENT_STATE:
            out.value = event.as.state->state;
            out.code = event.as.state->code;
            break;
        case PETREL_EVENT_LOGIN: out.code = event.as.login->code; break;
        case PETREL_EVENT_MESSAGE: {
            const petrel_message_event& message = *event.as.message;
            out.text.assign(message.text, message.text_size);
            out.from = message.from;
            out.fingerprint = message.fingerprint;
            out.id = message.id;
            break;
        }
        case PETREL_EVENT_OUTCOME:
            out.value = event.as.outcome->outcome;
            out.code = event.as.outcome->code;
            out.fingerprint = event.as.outcome->fingerprint;
            out.attempts = event.as.outcome->attempts;
            break;
        case PETREL_EVENT_KICKED: out.code = event.as.kicked->code; break;
        case PETREL_EVENT_ECHO:
            out.text.assign(event.as.echo->text, event.as.echo->text_size);
            break;
        default: break;
    }
    return out;
}

// Collects what a client is told; `on_seen` may act in the callback.
class Ears {
public:
    static void hear(void* user_data, petrel_client* client, const petrel_event* event) {
        auto& self = *static_cast<Ears*>(user_data);
        Seen one = seen(*event);
        if (self.on_seen) self.on_seen(client, one);
        {
            const std::lock_guard lock(self.mutex_);
            self.all_.push_back(std::move(one));
        }
        self.changed_.notify_all();
    }
    static void log(void* user_data, petrel_client*, std::int32_t, const char* text) {
        auto& self = *static_cast<Ears*>(user_data);
        const std::lock_guard lock(self.mutex_);
        self.last_log_ = text;
    }

    bool wait_for(int type, std::size_t count = 1) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::milliseconds{kPatienceMs},
                                 [&] { return count_of(type) >= count; });
    }
    std::vector<Seen> all(int type) {
        const std::lock_guard lock(mutex_);
        std::vector<Seen> out;
        for (const Seen& one : all_) {
            if (one.type == type) out.push_back(one);
        }
        return out;
    }
    std::size_t size() {
        const std::lock_guard lock(mutex_);
        return all_.size();
    }
    std::string last_log() {
        const std::lock_guard lock(mutex_);
        return last_log_;
    }

    std::function<void(petrel_client*, const Seen&)> on_seen;

private:
    std::size_t count_of(int type) const {
        std::size_t count = 0;
        for (const Seen& one : all_) count += one.type == type;
        return count;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Seen> all_;
    std::string last_log_;
};

inline petrel_client_options options_for(const char* url, const char* user, Ears* ears) {
    petrel_client_options options;
    REQUIRE(petrel_client_options_init(&options, sizeof options) == PETREL_OK);
    options.url = url;
    options.user = user;
    options.device = "test";
    options.user_data = ears;
    if (ears != nullptr) {
        options.on_event = Ears::hear;
        options.on_log = Ears::log;
    }
    return options;
}

// Destroyed with the test, unless the test did.
class CRuntime {
public:
    CRuntime() { REQUIRE(petrel_runtime_create(&handle) == PETREL_OK); }
    ~CRuntime() { petrel_runtime_destroy(handle); }
    CRuntime(const CRuntime&) = delete;
    CRuntime& operator=(const CRuntime&) = delete;

    petrel_client* client(const petrel_client_options& options) {
        petrel_client* out = nullptr;
        REQUIRE(petrel_client_create(handle, &options, &out) == PETREL_OK);
        REQUIRE(out != nullptr);
        return out;
    }

    petrel_runtime* handle = nullptr;
};

inline std::string send(petrel_client* client, const char* to, const std::string& text) {
    char fingerprint[PETREL_FINGERPRINT_SIZE];
    REQUIRE(petrel_client_send(client, to, text.data(), text.size(), nullptr, fingerprint) ==
            PETREL_OK);
    return fingerprint;
}

}  // namespace petrel::test
