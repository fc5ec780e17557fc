#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/codec.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/websocketpp_client.hpp"

namespace petrel::test {

// A thread with an event loop for any number of clients.
class WireLoop {
public:
    WireLoop() : connector_(std::in_place, loop_), thread_([this] { loop_.run(); }) {}
    ~WireLoop() {
        run([this] { connector_.reset(); });
        loop_.stop();
        thread_.join();
    }

    // Runs `task` on the loop and waits for it.
    void run(const std::function<void()>& task) {
        std::promise<void> done;
        loop_.post([&] {
            task();
            done.set_value();
        });
        done.get_future().wait();
    }
    Connector& connector() { return *connector_; }

private:
    AsioEventLoop loop_;
    std::optional<WebsocketppConnector> connector_;
    std::thread thread_;
};

// A client that speaks packets over a real socket; its calls wait. Whatever takes longer than
// kPatience has failed: nothing is measured against it.
class WireClient final : private Transport::Handler {
public:
    static constexpr std::chrono::seconds kPatience{60};

    WireClient(WireLoop& loop, std::uint16_t port, std::string_view subprotocol = kSubprotocolV1)
        : loop_(loop),
          profile_(subprotocol == kSubprotocolV1 ? ProfileId::kPetrelV1 : ProfileId::kImSdk) {
        ConnectOptions options;
        options.url = "ws://127.0.0.1:" + std::to_string(port) + "/ws";
        options.subprotocol = std::string(subprotocol);
        loop_.run([&] { transport_ = loop_.connector().connect(options, *this); });
        wait([this] { return is_open_ || closed_; });
    }
    ~WireClient() { cut(); }
    WireClient(const WireClient&) = delete;
    WireClient& operator=(const WireClient&) = delete;

    void send(std::string_view text) {
        loop_.run([&] {
            if (transport_) transport_->send(text);
        });
    }
    void close() {
        loop_.run([&] {
            if (transport_) transport_->close(1000, "bye");
        });
    }
    void cut() {
        loop_.run([&] { transport_.reset(); });
    }

    // The next packet that is a T and wanted; what comes before it is dropped.
    template <class T>
    T await(const std::function<bool(const T&)>& is_wanted = [](const T&) { return true; }) {
        for (;;) {
            const std::optional<Packet> packet = next();
            if (!packet) {
                FAIL("the connection closed while a packet was awaited");
                return {};
            }
            const T* const found = std::get_if<T>(&*packet);
            if (found != nullptr && is_wanted(*found)) return *found;
        }
    }
    // nullopt: the connection has closed.
    std::optional<Packet> next() {
        std::unique_lock<std::mutex> lock(mutex_);
        const bool came =
            changed_.wait_for(lock, kPatience, [this] { return !packets_.empty() || closed_; });
        REQUIRE_MESSAGE(came, "nothing came");
        if (packets_.empty()) return std::nullopt;
        Packet packet = std::move(packets_.front());
        packets_.pop_front();
        return packet;
    }
    CloseInfo await_close() {
        wait([this] { return closed_.has_value(); });
        const std::lock_guard<std::mutex> lock(mutex_);
        return *closed_;
    }
    bool is_closed() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return closed_.has_value();
    }
    bool is_open() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return is_open_ && !closed_;
    }

private:
    void wait(const std::function<bool()>& is_done) {
        std::unique_lock<std::mutex> lock(mutex_);
        REQUIRE_MESSAGE(changed_.wait_for(lock, kPatience, is_done), "it did not happen");
    }
    void on_open(std::string_view) override {
        change([this] { is_open_ = true; });
    }
    void on_text(std::string_view text) override {
        Result<Decoded> decoded = decode(text, profile_);
        change([&] {
            if (decoded) packets_.push_back(std::move(decoded->packet));
        });
    }
    void on_binary(std::size_t) override {}
    void on_drained() override {}
    void on_closed(const CloseInfo& info) override {
        change([&] { closed_ = info; });
    }
    template <class Change>
    void change(Change what) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            what();
        }
        changed_.notify_all();
    }

    WireLoop& loop_;
    const ProfileId profile_;
    std::unique_ptr<Transport> transport_;  // On the loop only.
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_open_ = false;
    std::deque<Packet> packets_;
    std::optional<CloseInfo> closed_;
};

}  // namespace petrel::test
