#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

// What the load program of `tools/dev bench` needs to speak of each system: a sender that is told
// when its message has been taken, and a receiver that gets it and says so where the system has
// that. Written for the server's best: no library in between, everything of a turn in one write.

namespace petrel::bench {

// One connection's end of a protocol. Thread-compatible.
class PeerConnection {
public:
    class Listener {
    public:
        virtual void on_ready() = 0;                            // Logged in, subscribed...
        virtual void on_acked() = 0;                            // The next message, in order.
        virtual void on_message(std::string_view payload) = 0;  // Of a receiver.
        virtual void on_refused(const std::string& why) = 0;    // It is over.

    protected:
        ~Listener() = default;
    };

    PeerConnection(Listener& listener, std::string channel)
        : listener_(listener), channel_(std::move(channel)) {}
    virtual ~PeerConnection() = default;

    virtual void on_connected(bool is_sender) = 0;
    virtual void publish(std::string_view payload) = 0;
    // Takes whole packets from the front of `data`; tells how many bytes they were.
    virtual std::size_t take(std::string_view data) = 0;
    // Now and then in a long run, for protocols whose server takes silence for death.
    virtual void keep_alive() {}

    std::string out;  // To be written.

protected:
    Listener& listener_;
    const std::string channel_;  // Topic, stream or subject of the pair.
};

struct PeerOptions {
    std::uint32_t window = 64;  // 0: an open loop.
    std::size_t size = 200;
};

// "mqtt1", "mqtt2" (by QoS), "redis" (streams), "nats" (JetStream), "nats-core" (replies are the
// acks), "relay" (practical_limit.cpp), "petrel" (petrel.v1); nullptr for any other.
std::unique_ptr<PeerConnection> make_peer(std::string_view protocol, const PeerOptions& options,
                                          PeerConnection::Listener& listener,
                                          const std::string& channel);

}  // namespace petrel::bench
