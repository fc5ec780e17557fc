#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemons/timer.hpp"
#include "protocol/error.hpp"
#include "tools/petrel/storm_faults.hpp"
#include "tools/petrel/wire_script.hpp"
#include "transport/byte_stream.hpp"
#include "transport/event_loop.hpp"

namespace petrel::tools {

// A relay between TCP clients and a target that does to bytes what bad networks do, as a script
// says. It looks at nothing but where WebSocket frames begin (for cut-in-frame), so TLS passes too.
// What one side does not take is not read from the other: a slow reader is felt at the far end.
//
// The same seed makes the same decisions in the same connection, whatever the others do.
//
// Thread-compatible: everything is called on the loop's thread, or while the loop does not run.
// The loop and the network must outlive it.
class WireStorm {
public:
    struct Options {
        std::string address = "127.0.0.1";
        std::uint16_t port = 0;  // 0 picks one.
        std::string target_host = "127.0.0.1";
        std::uint16_t target_port = 0;
        std::uint64_t seed = 1;
        std::vector<WireStep> steps;
        // Held in one direction of a connection; then its source is not read until half is gone.
        std::size_t held_bytes_max = 256 * 1024;
        std::size_t connections_max = 10'000;  // Beyond, and during refuse: reset at once.
    };
    struct Stats {
        std::uint64_t connections = 0;
        std::uint64_t bytes_to_target = 0;  // That went out.
        std::uint64_t bytes_to_client = 0;
        std::uint64_t resets = 0;  // cut and cut-in-frame.
        std::uint64_t stalls = 0;
        std::uint64_t swallows = 0;
        std::uint64_t refused = 0;
        std::uint64_t unreachable = 0;
    };
    // What happened, for a log. `connection` counts from 1.
    struct Event {
        std::string_view what;  // opened, closed, unreachable, refused, or a step's action.
        std::uint64_t connection = 0;
        std::string_view peer;           // opened, refused
        const WireStep* step = nullptr;  // Of an action.
    };
    using Observer = std::function<void(const Event&)>;

    WireStorm(EventLoop& loop, ByteNetwork& network, Options options, Observer observer = {});
    ~WireStorm();  // Stops.
    WireStorm(const WireStorm&) = delete;
    WireStorm& operator=(const WireStorm&) = delete;

    Result<std::uint16_t> start();
    void stop();  // Resets all connections. Idempotent.
    // The `at` steps among these happen too, their times counted from now. False, and nothing
    // changes: more than kWireStepsMax would be under way.
    bool strike(const std::vector<WireStep>& steps);

    Stats stats() const noexcept { return stats_; }
    std::size_t connection_count() const noexcept { return links_.size(); }

private:
    class Link;
    class Door;
    struct Lasting {
        const WireStep* step;
        TimePoint until;
    };

    void accept(std::unique_ptr<ByteStream> client, const std::string& peer);
    void schedule(const WireStep& step);
    void run_step(const WireStep& step);
    bool is_over(const WireStep& step) const;
    void forget_over();  // Of lasting_.
    bool is_refusing() const;
    void retire(std::uint64_t number);
    void tell(std::string_view what, std::uint64_t connection, std::string_view peer = {},
              const WireStep* step = nullptr) const;
    void rearm();

    EventLoop& loop_;
    ByteNetwork& network_;
    const Options options_;
    Observer observer_;
    Stats stats_;
    std::uint64_t next_number_ = 1;
    TimerQueue timers_;
    std::unique_ptr<EventLoop::Alarm> alarm_;
    std::unique_ptr<Door> door_;
    std::list<WireStep> struck_;  // Behind step_timers_ and lasting_.
    std::map<const WireStep*, Timer> step_timers_;
    std::vector<Lasting> lasting_;
    std::map<std::uint64_t, std::unique_ptr<Link>> links_;
    std::vector<std::unique_ptr<Link>> retired_;  // Until the call into them has returned.
    std::shared_ptr<bool> is_alive_;              // Posted tasks look at it.
};

}  // namespace petrel::tools
