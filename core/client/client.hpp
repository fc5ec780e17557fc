#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/client/engine.hpp"
#include "transport/transport.hpp"

namespace petrel {

class EventLoop;

// One engine thread, shared by any number of clients. Thread-safe. Destroy it after its clients.
class Runtime {
public:
    Runtime();   // Starts the thread.
    ~Runtime();  // Joins it. Not from the engine thread.
    Runtime(const Runtime&) = delete;
    Runtime& operator=(const Runtime&) = delete;

    EventLoop& loop();
    Connector& connector();       // websocketpp
    bool is_engine_thread() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

struct ClientOptions {
    EngineOptions engine;
    ConnectOptions connect;                // url, TLS, limits; the subprotocol is the engine's.
    std::unique_ptr<Outbox> outbox;        // nullptr: memory.
    std::unique_ptr<Inbox> inbox;          // nullptr: memory.
    Connector* connector = nullptr;        // nullptr: the runtime's. Else it must outlive the client.
    std::optional<std::uint64_t> seed;     // nullopt: from the system.
    // Push: called on the engine thread, one at a time, with no lock held and after the state has
    // settled. Unset: pull with next_event().
    std::function<void(const Event&)> on_event;
    std::function<void(LogLevel, std::string_view)> on_log;
    std::size_t events_max = 65'536;       // Pull: beyond, inbound messages wait unhandled.
};

// The thread-safe owner of one Engine. Every call may be made from any thread, from callbacks too.
class Client {
public:
    Client(Runtime& runtime, ClientOptions options);
    // From another thread: no callback runs once it returned. From a callback of this client: takes
    // effect when that callback returns. What has no outcome is reported before it returns.
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    void login();
    void logout(bool keep);
    // Blocks until the outbox has it (memory: one hop to the engine thread; from a callback: at
    // once). send_async returns at once and calls `done` on the engine thread: many sends of a
    // turn share one outbox commit.
    Result<Fingerprint> send(SendRequest request);
    void send_async(SendRequest request, Engine::SendDone done);
    std::error_code cancel(const Fingerprint& fp);
    std::error_code confirm(std::uint64_t message_id);
    std::error_code echo(std::string text);
    void set_token(std::string token);
    void network_available();
    void network_lost();
    void suspend();
    void resume();

    ClientState state() const;
    EngineStats stats() const;

    // Pull. The event before counts as handled (auto mode) when the next is asked for. nullopt
    // after `timeout`, or at once when wake() was called from another thread.
    std::optional<Event> next_event(std::chrono::milliseconds timeout);
    // Readable while events wait: for poll(2). Valid until destruction.
    int event_fd() const;

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace petrel
