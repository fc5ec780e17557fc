#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemons/timer.hpp"
#include "protocol/error.hpp"
#include "tools/petrel/storm_faults.hpp"
#include "transport/event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel::tools {

// A proxy between WebSocket clients and a target that does to packets what bad networks do: drops,
// duplicates and delays them, stalls, and cuts connections without a word. Within a direction the
// order is kept: what is delayed holds up what is behind it. The subprotocol, close codes and
// reasons pass through, behind the packets sent before them; a cut passes as a cut. It answers the
// client with the subprotocol that the listener picked, before the target has been asked.
//
// Thread-compatible: everything is called on the loop's thread, or while the loop does not run.
// The loop, the listener and the connector must outlive it.
//
//   AsioEventLoop loop;
//   NativeListener listener(loop);
//   NativeConnector connector(loop);
//   Storm::Options options;
//   options.target_url = "ws://127.0.0.1:9600/ws";
//   options.faults.drop = 0.05;
//   Storm storm(loop, listener, connector, options);
//   const auto port = storm.start();
//   loop.run();
class Storm {
public:
    struct Options {
        std::string address = "127.0.0.1";
        std::uint16_t port = 0;  // 0 picks one.
        std::string target_url;
        std::uint64_t seed = 1;
        Faults faults;
        // Held in both directions of a connection together; beyond, it is cut.
        std::size_t queued_bytes_max = 16 * 1024 * 1024;
        std::size_t connections_max = 10'000;
        // For a log: what was done to which packet ("" of a connection's). Connections count
        // from 1.
        std::function<void(std::string_view what, std::uint64_t connection, Direction direction,
                           std::string_view packet)>
            on_fault;
    };
    struct Stats {
        std::uint64_t connections = 0;
        std::uint64_t packets = 0;    // That came in, from both sides.
        std::uint64_t forwarded = 0;  // That went out, second copies included.
        std::uint64_t dropped = 0;
        std::uint64_t duplicated = 0;
        std::uint64_t delayed = 0;
        std::uint64_t resets = 0;  // By reset_every and cut_all().
        std::uint64_t stalls = 0;
        std::uint64_t overflows = 0;    // Connections cut at queued_bytes_max.
        std::uint64_t unreachable = 0;  // Clients sent away with 1013: no way to the target.
        std::uint64_t binary = 0;  // Binary frames: nobody speaks them, they are not passed on.
    };

    Storm(EventLoop& loop, Listener& listener, Connector& connector, Options options);
    ~Storm();  // Stops.
    Storm(const Storm&) = delete;
    Storm& operator=(const Storm&) = delete;

    // The port it listens on; the reason of a failure is the listener's last_error().
    Result<std::uint16_t> start();
    std::uint16_t port() const noexcept { return port_; }  // 0 before start().
    void stop();                                           // Cuts all connections. Idempotent.

    // For packets and connections from now on (resets and stalls: connections only).
    void set_faults(const Faults& faults) { options_.faults = faults; }
    // For connections from now on: a target that came back at another port.
    void set_target(std::string url) { options_.target_url = std::move(url); }
    // Resets every connection now.
    void cut_all();

    Stats stats() const noexcept { return stats_; }
    std::size_t connection_count() const noexcept { return links_.size(); }

private:
    class Link;
    class Door;

    void accept(std::unique_ptr<Transport> client, const PeerInfo& peer);
    void retire(std::uint64_t number);
    void rearm();

    EventLoop& loop_;
    Listener& listener_;
    Connector& connector_;
    Options options_;
    Stats stats_;
    std::uint16_t port_ = 0;
    std::uint64_t next_number_ = 1;
    TimerQueue timers_;
    std::unique_ptr<EventLoop::Alarm> alarm_;
    std::unique_ptr<Door> door_;
    std::map<std::uint64_t, std::unique_ptr<Link>> links_;
    std::vector<std::unique_ptr<Link>> retired_;  // Until the call into them has returned.
    std::shared_ptr<bool> is_alive_;              // Posted tasks look at it.
};

}  // namespace petrel::tools
