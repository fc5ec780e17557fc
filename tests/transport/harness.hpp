#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel::test {

// Runs the loop until `is_done`. False after a time in which only a hang can end.
inline bool run_until(EventLoop& loop, const std::function<bool()>& is_done) {
    constexpr std::chrono::seconds kHang{60};
    const auto give_up = loop.now() + kHang;
    bool done = is_done();
    std::unique_ptr<EventLoop::Alarm> alarm;
    const auto look = [&] {
        done = is_done();
        if (done || loop.now() >= give_up) {
            loop.stop();
        } else {
            alarm->arm(loop.now() + std::chrono::milliseconds(1));
        }
    };
    if (done) return true;
    alarm = loop.make_alarm(look);
    alarm->arm(loop.now());
    loop.run();
    return done;
}

// Notes what a Transport reports; the hooks run after the noting.
struct Recorder final : Transport::Handler {
    void on_open(std::string_view chosen) override {
        CHECK(!is_open);
        CHECK(!closed);
        is_open = true;
        subprotocol = chosen;
        run(when_open);
    }
    void on_text(std::string_view text) override {
        CHECK(!closed);
        texts.emplace_back(text);
        run(when_text);
    }
    void on_binary(std::size_t size) override {
        CHECK(!closed);
        binaries.push_back(size);
    }
    void on_drained() override {
        CHECK(!closed);
        ++drained;
        run(when_drained);
    }
    void on_closed(const CloseInfo& info) override {
        CHECK(!closed);
        closed = info;
        run(when_closed);
    }

    bool is_open = false;
    std::string subprotocol;
    std::vector<std::string> texts;
    std::vector<std::size_t> binaries;
    int drained = 0;
    std::optional<CloseInfo> closed;
    std::function<void()> when_open, when_text, when_drained, when_closed;

private:
    // A copy: the hook may replace itself.
    static void run(const std::function<void()>& hook) {
        if (const auto copy = hook) copy();
    }
};

// One end: what reports to `handler` goes before it.
struct Side {
    Recorder handler;
    PeerInfo peer;
    std::unique_ptr<Transport> transport;
};

// Keeps what it accepts.
struct AcceptAll final : Listener::Handler {
    void on_accept(std::unique_ptr<Transport> transport, const PeerInfo& peer) override {
        auto side = std::make_unique<Side>();
        transport->set_handler(side->handler);
        side->transport = std::move(transport);
        side->peer = peer;
        sides.push_back(std::move(side));
        if (when_accepted) when_accepted(*sides.back());
    }

    std::vector<std::unique_ptr<Side>> sides;
    std::function<void(Side&)> when_accepted;
};

}  // namespace petrel::test
