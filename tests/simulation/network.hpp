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

// One WebSocket connection through a bad network: packets keep their order in a direction, and may
// be dropped, doubled, delayed, garbled or stuck; it may end for both ends, one, or neither.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    enum class End : unsigned { kClient = 0, kServer = 1 };

    Connection(Schedule& schedule, const Faults& faults, std::uint64_t number,
               std::function<void(std::string)> chart)
        : schedule_(schedule), faults_(faults), number_(number), chart_(std::move(chart)) {}

    void attach(End end, Endpoint* endpoint) { side(end).endpoint = endpoint; }
    void detach(End end) { side(end).endpoint = nullptr; }

    void send(End from, std::string_view text);
    // The closing handshake: the peer hears of it behind what was sent.
    void close(End from, std::uint16_t code, std::string_view reason);
    // The network's doing. An end that isn't told sends into the void.
    void cut(bool tell_client, bool tell_server);
    void stall(End towards, Duration duration);
    std::size_t queued_bytes(End from) const { return side(from).queued_bytes; }
    std::size_t queued_packets(End from) const { return side(from).queued_packets; }
    bool is_open() const { return is_open_; }
    std::uint64_t number() const { return number_; }

private:
    struct Side {
        Endpoint* endpoint = nullptr;
        bool was_told_closed = false;
        std::size_t queued_bytes = 0;  // Sent by this side, not yet at the other.
        std::size_t queued_packets = 0;
        TimePoint last_arrival{};   // At this side.
        TimePoint stalled_until{};  // Towards this side.
    };
    Side& side(End end) { return sides_[static_cast<unsigned>(end)]; }
    const Side& side(End end) const { return sides_[static_cast<unsigned>(end)]; }
    static End other(End end) { return end == End::kClient ? End::kServer : End::kClient; }
    TimePoint arrival(End towards);
    void deliver(End towards, std::string text, bool is_copy);
    void tell_closed(End end, std::uint16_t code, std::string_view reason);

    Schedule& schedule_;
    const Faults& faults_;
    const std::uint64_t number_;
    std::function<void(std::string)> chart_;
    bool is_open_ = true;
    Side sides_[2];
};

}  // namespace petrel::sim
