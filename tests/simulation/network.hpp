#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tests/simulation/options.hpp"
#include "tests/simulation/schedule.hpp"

namespace petrel::sim {

// "data", "ack", "accepted" (54), "packet": what the steps of a process are named by.
std::string packet_name(std::string_view text);

// What one end of a connection hears.
class Endpoint {
public:
    virtual void on_packet(std::string_view text) = 0;
    virtual void on_drained() = 0;
    virtual void on_closed(std::uint16_t code, std::string_view reason) = 0;

protected:
    ~Endpoint() = default;
};

// What all connections together carried.
struct Traffic {
    std::uint64_t bytes = 0;
};

// One WebSocket connection through a bad network: packets keep their order in a direction, and may
// be dropped, doubled, delayed, garbled or stuck; it may end for both ends, one, or neither.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    enum class End : unsigned { kClient = 0, kServer = 1 };

    // `label` names its client in the chart.
    Connection(Schedule& schedule, const Faults& faults, Traffic& traffic, std::uint64_t number,
               std::string label, std::function<void(std::string)> chart,
               std::function<void(std::string)> on_violation)
        : schedule_(schedule),
          faults_(faults),
          traffic_(traffic),
          number_(number),
          label_(std::move(label)),
          chart_(std::move(chart)),
          on_violation_(std::move(on_violation)) {}

    void attach(End end, Endpoint* endpoint) { side(end).endpoint = endpoint; }
    void detach(End end) { side(end).endpoint = nullptr; }

    void send(End from, std::string_view text);
    // The closing handshake: the peer hears of it behind what was sent. With `goes_on_listening`
    // the end still gets what arrives until then.
    void close(End from, std::uint16_t code, std::string_view reason,
               bool goes_on_listening = false);
    // The network's doing. An end that isn't told sends into the void. With `late` what was sent
    // to the server before arrives all the same, up to so much later.
    void cut(bool tell_client, bool tell_server, Duration late = Duration{0});
    void stall(End towards, Duration duration);
    void slow_down(End towards, Duration duration, std::uint64_t bytes_per_second);
    void mute(End towards);  // Whatever goes there vanishes, for good.
    std::size_t queued_bytes(End from) const { return side(from).queued_bytes; }
    std::size_t queued_packets(End from) const { return side(from).queued_packets; }
    bool is_open() const { return is_open_ && !is_severed_; }  // Not cut yet.
    std::uint64_t number() const { return number_; }

private:
    struct Side {
        Endpoint* endpoint = nullptr;
        bool was_told_closed = false;
        bool is_lingering = false;     // Has closed, and still listens.
        std::size_t queued_bytes = 0;  // Sent by this side, not yet at the other.
        std::size_t queued_packets = 0;
        TimePoint last_arrival{};  // At this side.
        // Towards this side.
        TimePoint stalled_until{};
        TimePoint slow_until{};
        std::uint64_t bytes_per_second = 0;
        bool is_muted = false;
        // Of the gap answers that this side sent.
        std::string gap_rx;
        TimePoint gap_at{};
        unsigned gaps = 0;  // With that rx, since then.
    };
    Side& side(End end) { return sides_[static_cast<unsigned>(end)]; }
    const Side& side(End end) const { return sides_[static_cast<unsigned>(end)]; }
    static End other(End end) { return end == End::kClient ? End::kServer : End::kClient; }
    TimePoint arrival(End towards, std::size_t size);
    void arrive(End towards, std::string text, bool is_copy, std::size_t size);
    void deliver(End towards, std::string text, bool is_copy);
    void chart(std::string_view what, std::string_view text);
    void check_gap_answer(Side& from, std::string_view text);
    void tell_closed(End end, std::uint16_t code, std::string_view reason);

    Schedule& schedule_;
    const Faults& faults_;
    Traffic& traffic_;
    const std::uint64_t number_;
    const std::string label_;
    std::function<void(std::string)> chart_;
    std::function<void(std::string)> on_violation_;
    bool is_open_ = true;
    bool is_severed_ = false;  // Cut; what was sent to the server still arrives.
    TimePoint late_until_{};   // The last of it.
    Side sides_[2];
};

}  // namespace petrel::sim
