#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "transport/native_loop.hpp"
#include "transport/native_stream.hpp"
#include "transport/transport.hpp"
#include "transport/websocket_frame.hpp"

// What the client's and the server's connections have in common. For transport/*.cpp only.

namespace petrel {

// One connection, from the attempt to its end. Kept alive by its Transport and by what waits for
// its socket or its timer. Idle, it holds no buffer.
//
//   connecting -- opened --> open -- close() --> closing -- the peer's close frame --> closed
//        \                    |  \                  \                                   ^ ^
//         \                   |   '-- the peer's close frame, a fault --> parting ------' |
//          '-- failed --------'-- lost, cut --------------------------------------------'
//
// Parting: the last frame is on its way out. After the end the socket lingers: it sends its end,
// takes what still comes and drops it, until the peer's end or a limit. A close() with unread input
// would make the kernel send a reset, which discards what the peer has not read yet.
class NativeLink : public std::enable_shared_from_this<NativeLink> {
public:
    NativeLink(NativeLoop& loop, bool is_client, std::size_t message_bytes_max,
               Transport::Handler* handler);
    virtual ~NativeLink();
    NativeLink(const NativeLink&) = delete;
    NativeLink& operator=(const NativeLink&) = delete;

    void set_handler(Transport::Handler& handler) { handler_ = &handler; }
    void send(std::string_view text);
    void close(std::uint16_t code, std::string_view reason);
    void detach();  // The Transport goes.
    std::size_t queued_bytes() const { return queue_ ? queue_->bytes : 0; }
    std::size_t queued_packets() const { return queue_ ? queue_->packets : 0; }

    void flush();  // By NativeLoop, once after flush_soon().

protected:
    enum class State : std::uint8_t { kConnecting, kOpen, kClosing, kParting, kClosed };

    // While connecting:
    virtual void on_secured() = 0;                                // TLS is up.
    virtual void on_handshake(char* data, std::size_t size) = 0;  // Bytes came.
    virtual void on_handshake_timeout() = 0;
    virtual void on_handshake_lost(const std::string& why) = 0;
    // Once each:
    virtual void on_ended() {}          // Of the connection.
    virtual void on_socket_closed() {}  // Later, or at once.

    std::shared_ptr<NativeLink> self() { return shared_from_this(); }
    NativeLoop& loop() { return loop_; }
    NativeStream& stream() { return stream_; }
    State state() const { return state_; }
    Transport::Handler* handler() { return handler_; }

    static CloseInfo lost(std::string reason);

    // The socket is connected: TLS, if stream().secure is set, then reads.
    void start_stream();
    void start_timer(std::chrono::milliseconds timeout);
    void write_now() { write_queue(); }      // As much as the socket takes.
    void write_raw(std::string_view bytes);  // Of the opening handshake.
    void set_open();
    void read_frames(char* data, std::size_t size);
    void part(CloseInfo info);  // When all is written, finish() and linger.
    void cut();                 // Closes the socket, without a word to the peer or the handler.
    void finish(CloseInfo info);

private:
    struct Chunk {
        std::string frames;
        std::size_t bytes = 0;  // Of the texts.
        std::size_t packets = 0;
        std::size_t pong_bytes = 0;
    };
    struct Queue {
        std::vector<Chunk> chunks;
        std::size_t sent = 0;   // Of the first chunk.
        std::size_t bytes = 0;  // Of all, as of each.
        std::size_t packets = 0;
        std::size_t pong_bytes = 0;
        std::unique_ptr<std::string> late_ping;  // The last for which there was no room.
    };

    void wait_readable();
    void read_on_soon();
    void wait_writable();
    void on_readable();
    void on_writable();
    void shake_hands();
    void take(char* data, std::size_t size);
    void on_event(const ws::FrameReader::Event& event);
    void on_ping(std::string_view payload);
    void on_peer_close(std::uint16_t code, std::string_view reason);
    void on_lost(const Io& io);
    void on_timeout();

    Chunk& chunk_for(std::size_t size);
    void append(ws::Opcode opcode, std::string_view payload, std::string& out);
    void append_close(std::uint16_t code, std::string_view reason);
    void schedule();
    void write_queue();
    void end_chunk();
    void after_write();
    void on_write_failed();
    void forget_queue();
    void stop_timer();
    void linger();
    void close_socket();

    NativeLoop& loop_;
    NativeStream stream_;
    std::unique_ptr<SteadyTimer> timer_;  // While a handshake or the end runs.
    Transport::Handler* handler_;
    ws::FrameReader reader_;
    std::unique_ptr<Queue> queue_;        // While something is to be written.
    std::unique_ptr<CloseInfo> parting_;  // While kParting.
    std::size_t lingered_bytes_ = 0;
    std::uint32_t timer_number_ = 0;
    std::uint16_t close_code_ = 0;  // Of our close frame, once state_ is kClosing.
    State state_ = State::kConnecting;
    const bool is_client_;
    bool was_open_ = false;
    bool is_shaking_hands_ = false;
    bool is_waiting_readable_ = false;
    bool is_waiting_writable_ = false;
    bool reads_when_writable_ = false;  // TLS has to write before it can read on.
    bool writes_when_readable_ = false;
    bool is_dirty_ = false;
    bool is_drain_due_ = false;
    bool is_write_dead_ = false;  // The socket takes no more; its end is about to be read.
    bool is_socket_open_ = true;
};

// What the owner of a connection holds.
class NativeTransport final : public Transport {
public:
    explicit NativeTransport(std::shared_ptr<NativeLink> link) : link_(std::move(link)) {}
    ~NativeTransport() override { link_->detach(); }
    void set_handler(Handler& handler) override { link_->set_handler(handler); }
    void send(std::string_view text) override { link_->send(text); }
    void close(std::uint16_t code, std::string_view reason) override { link_->close(code, reason); }
    std::size_t queued_bytes() const override { return link_->queued_bytes(); }
    std::size_t queued_packets() const override { return link_->queued_packets(); }

private:
    std::shared_ptr<NativeLink> link_;
};

}  // namespace petrel
