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
    Runtime();  // Starts the thread.
    // Waits for clients that end (5 s at most), then joins the thread. Not from the engine thread.
    ~Runtime();
    Runtime(const Runtime&) = delete;
    Runtime& operator=(const Runtime&) = delete;

    EventLoop& loop();
    Connector& connector();  // WebSocket.
    bool is_engine_thread() const;
    // A client holds one until nothing of it is left on the loop.
    std::shared_ptr<void> lease();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

struct ClientOptions {
    EngineOptions engine;
    ConnectOptions connect;          // url, TLS, limits; the subprotocol is the engine's.
    std::unique_ptr<Outbox> outbox;  // nullptr: memory.
    std::unique_ptr<Inbox> inbox;    // nullptr: memory.
    // nullptr: the runtime's. Else it must outlive the client.
    Connector* connector = nullptr;
    std::optional<std::uint64_t> seed;  // nullopt: from the system.
    // Push: called on the engine thread, one at a time, with no lock held and after the state has
    // settled. Unset: pull with next_event().
    std::function<void(const Event&)> on_event;
    std::function<void(LogLevel, std::string_view)> on_log;
    // A tap for traces, on the engine thread: each packet as it leaves or comes, and the number of
    // its connection attempt. It must not call the client.
    std::function<void(bool is_out, std::uint64_t attempt, std::string_view packet)> on_packet;
    std::size_t events_max = 65'536;        // Pull: beyond, events wait in the engine (at least 1).
    std::size_t posted_sends_max = 65'536;  // send_async: beyond, refused with kSendFailed.
    // How long the destructor waits for an open connection's close.
    std::chrono::milliseconds linger_max{500};
};

// The thread-safe owner of one Engine. Every call may be made from any thread, from callbacks too.
class Client {
public:
    Client(Runtime& runtime, ClientOptions options);
    // Ends the engine: what has no outcome is reported, then no callback runs any more. From
    // another thread it waits for that, and up to linger_max for the goodbye to leave; from a
    // callback of this client it takes effect when that callback returns.
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    void login();
    void logout(bool keep);
    // Blocks until the outbox has it (memory: one hop to the engine thread; from a callback: at
    // once, and an outbox that answers later and fails is told as the outcome rejected). send_async
    // returns at once and calls `done` on the engine thread, always later: many sends of a turn
    // share one outbox commit. Both keep the order of the calls.
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
    // after `timeout` (below zero: none), at once on the engine thread, with on_event set, or when
    // wake() was called meanwhile or since the last call.
    std::optional<Event> next_event(std::chrono::milliseconds timeout);
    void wake();
    // Readable while events wait: for poll(2). Valid until destruction; -1 with on_event set.
    int event_fd() const;

private:
    class Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace petrel
