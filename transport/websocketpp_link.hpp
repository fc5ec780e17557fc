#pragma once

#include "transport/websocketpp_config.hpp"

#include <websocketpp/connection.hpp>

#include <deque>
#include <string_view>

#include "transport/asio_event_loop_impl.hpp"
#include "transport/handshake.hpp"
#include "transport/mask_source.hpp"
#include "transport/transport.hpp"
#include "transport/websocket_frame.hpp"

// What the client's and the server's connections have in common. For transport/*.cpp only.

namespace petrel::wspp {

constexpr std::chrono::seconds kCloseTimeout{5};
// A write to the socket is this large unless one frame is larger: queued_bytes() falls in such
// steps, so a slow reader that still reads is seen to do so.
constexpr std::size_t kWriteBytes = 65'536;
// Pongs may not fill the queue behind a peer's back that pings and does not read.
constexpr std::size_t kPongQueueBytesMax = 4096;
constexpr std::uint16_t kNoCloseFrame = websocketpp::close::status::abnormal_close;

// What a Transport holds on to.
class LinkBase {
public:
    virtual ~LinkBase() = default;
    virtual void set_handler(Transport::Handler& handler) = 0;
    virtual void send(std::string_view text) = 0;
    virtual void close(std::uint16_t code, std::string_view reason) = 0;
    virtual void detach() = 0;  // The Transport goes.
    virtual std::size_t queued_bytes() const = 0;
    virtual std::size_t queued_packets() const = 0;
};

class WebsocketppTransport final : public Transport {
public:
    explicit WebsocketppTransport(std::shared_ptr<LinkBase> link) : link_(std::move(link)) {}
    ~WebsocketppTransport() override { link_->detach(); }
    void set_handler(Handler& handler) override { link_->set_handler(handler); }
    void send(std::string_view text) override { link_->send(text); }
    void close(std::uint16_t code, std::string_view reason) override { link_->close(code, reason); }
    std::size_t queued_bytes() const override { return link_->queued_bytes(); }
    std::size_t queued_packets() const override { return link_->queued_packets(); }

private:
    std::shared_ptr<LinkBase> link_;
};

// Whether the text's last character is cut off. The library finds every other fault of UTF-8, but
// not this one in a message of several frames.
inline bool ends_inside_character(std::string_view text) {
    for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
        const auto byte = static_cast<unsigned char>(text[text.size() - back]);
        if ((byte & 0xc0U) == 0x80U) continue;
        const std::size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        return length > back;
    }
    return false;
}

// One connection, from the attempt to its end. Kept alive by its Transport; while the opening or
// closing handshake runs, also by its timer. The library's connection refers to it weakly.
//
//   connecting -- opened --> open -- close() --> closing --> closed
//        \---- failed, abandoned --\-- lost, cut --\----------^
template <class Config>
class Link : public LinkBase, public std::enable_shared_from_this<Link<Config>> {
public:
    using Connection = websocketpp::connection<Config>;
    using ConnectionPtr = std::shared_ptr<Connection>;

    Link(asio::io_context& io, bool is_client, Transport::Handler* handler)
        : io_(io), timer_(io), is_client_(is_client), handler_(handler) {}
    ~Link() override { cut(); }
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    void set_handler(Transport::Handler& handler) override { handler_ = &handler; }

    void send(std::string_view text) override {
        if (state_ != State::kOpen) return;
        if (chunks_.empty() || chunks_.back().frames.size() + text.size() > kWriteBytes) {
            chunks_.emplace_back();
        }
        Chunk& chunk = chunks_.back();
        const ws::Mask mask = is_client_ ? masks_.next() : ws::Mask{};
        ws::append_frame(ws::Opcode::kText, text, is_client_ ? &mask : nullptr, chunk.frames);
        chunk.bytes += text.size();
        ++chunk.packets;
        queued_bytes_ += text.size();
        ++queued_packets_;
        is_drain_due_ = is_drain_due_ || queued_bytes_ > 0;
        schedule();
    }

    void close(std::uint16_t code, std::string_view reason) override {
        if (state_ == State::kConnecting) {
            cut();
            finish(lost("abandoned"));
            return;
        }
        if (state_ != State::kOpen) return;
        state_ = State::kClosing;
        while (!chunks_.empty()) write_chunk();
        close_code_ = sendable_close_code(code);
        std::error_code error;
        con_->close(close_code_, std::string(cut_close_reason(reason)), error);
        // An error: the library is closing already, on the peer's or its own account.
        start_timer(kCloseTimeout);
    }

    void detach() override {
        handler_ = nullptr;
        if (state_ == State::kClosing || state_ == State::kClosed) return;
        state_ = State::kClosed;
        cut();
    }

    std::size_t queued_bytes() const override { return queued_bytes_; }
    std::size_t queued_packets() const override { return queued_packets_; }

protected:
    enum class State { kConnecting, kOpen, kClosing, kClosed };
    using Duration = std::chrono::milliseconds;

    virtual void on_opened() = 0;
    virtual void on_handshake_timeout() = 0;
    // Why there never was a connection.
    virtual CloseInfo describe_failure(Connection& con) = 0;

    std::shared_ptr<Link> self() { return this->shared_from_this(); }
    asio::io_context& io() { return io_; }
    State state() const { return state_; }
    Transport::Handler* handler() { return handler_; }
    const ConnectionPtr& con() const { return con_; }

    static CloseInfo lost(std::string reason) {
        CloseInfo info;
        info.reason = std::move(reason);
        return info;
    }

    void attach(ConnectionPtr con, std::size_t frame_bytes_max) {
        con_ = std::move(con);
        const std::weak_ptr<Link> weak = self();
        con_->set_max_message_size(std::min(frame_bytes_max, kFrameBytesHardMax));
        con_->set_max_http_body_size(0);
        con_->set_open_handshake_timeout(0);
        con_->set_pong_timeout(0);
        con_->set_open_handler([weak](websocketpp::connection_hdl) {
            if (const auto link = weak.lock()) link->on_opened();
        });
        con_->set_message_handler([weak](websocketpp::connection_hdl, const Message::ptr& message) {
            if (const auto link = weak.lock()) link->on_message(*message);
        });
        con_->set_ping_handler([weak](websocketpp::connection_hdl, const std::string&) {
            const auto link = weak.lock();
            return link && link->con_ &&
                   link->con_->get_buffered_amount() < kPongQueueBytesMax + kWriteBytes;
        });
        con_->set_termination_handler([weak](const ConnectionPtr& ended) {
            if (const auto link = weak.lock()) link->on_terminated(*ended);
        });
    }

    // Of the handshake that runs: it also keeps the link alive meanwhile.
    void start_timer(Duration timeout) {
        timer_.expires_after(timeout);
        timer_.async_wait([link = self(), number = ++timer_number_](std::error_code error) {
            if (!error && number == link->timer_number_) link->on_timeout();
        });
    }

    void set_open() {
        state_ = State::kOpen;
        was_open_ = true;
        ++timer_number_;
        timer_.cancel();
    }

    // Closes the socket, without a word to the peer or the handler.
    void cut() {
        timer_.cancel();
        forget_queue();
        if (const ConnectionPtr con = std::exchange(con_, nullptr)) {
            std::error_code ignored;
            con->get_raw_socket().close(ignored);
        }
    }

    void finish(CloseInfo info) {
        if (state_ == State::kClosed) return;
        state_ = State::kClosed;
        info.was_open = was_open_;
        timer_.cancel();
        forget_queue();
        con_.reset();
        on_finished();
        asio::post(io_, [link = self(), info = std::move(info)] {
            if (auto* handler = std::exchange(link->handler_, nullptr)) handler->on_closed(info);
        });
    }

    virtual void on_finished() {}

private:
    struct Chunk {
        std::string frames;
        std::size_t bytes = 0;  // Of the texts.
        std::size_t packets = 0;
    };

    // The library drops its reference when the bytes are with the kernel, or never will be: the
    // only event of the kind that it has.
    struct Outgoing {
        ~Outgoing() {
            if (const auto owner = link.lock()) owner->on_written(bytes, packets);
        }
        Message message;
        std::weak_ptr<Link> link;
        std::size_t bytes = 0;
        std::size_t packets = 0;
    };

    void on_message(const Message& message) {
        if (state_ != State::kOpen || !handler_) return;
        if (message.get_opcode() != websocketpp::frame::opcode::text) {
            handler_->on_binary(message.get_payload().size());
        } else if (ends_inside_character(message.get_payload())) {
            close(1007, "Invalid UTF-8");
        } else {
            handler_->on_text(message.get_payload());
        }
    }

    void on_terminated(Connection& con) {
        if (state_ == State::kClosed) return;
        finish(was_open_ ? describe_end(con) : describe_failure(con));
    }

    void on_timeout() {
        if (state_ == State::kConnecting) {
            on_handshake_timeout();
        } else if (state_ == State::kClosing) {
            CloseInfo info = describe_end(*con_);
            if (con_->get_remote_close_code() == kNoCloseFrame) {
                info.code = close_code_;
                info.reason = "the peer did not answer the close frame";
            }
            cut();
            finish(std::move(info));
        }
    }

    CloseInfo describe_end(Connection& con) {
        CloseInfo info;
        if (con.get_remote_close_code() != kNoCloseFrame) {
            info.code = con.get_remote_close_code();
            info.reason = con.get_remote_close_reason();
        } else if (con.get_local_close_code() != kNoCloseFrame) {
            info.code = con.get_local_close_code();
            info.reason = con.get_local_close_reason();
        } else {
            info.code = state_ == State::kClosing ? close_code_ : kNoCloseFrame;
            info.reason = con.get_ec().message();
        }
        return info;
    }

    void schedule() {
        if (is_scheduled_) return;
        is_scheduled_ = true;
        asio::post(io_, [link = self()] {
            link->is_scheduled_ = false;
            link->take_turn();
        });
    }

    void take_turn() {
        if (state_ != State::kOpen) return;
        while (writes_ == 0 && !chunks_.empty()) write_chunk();
        if (is_drain_due_ && queued_bytes_ == 0) {
            is_drain_due_ = false;
            if (handler_) handler_->on_drained();
        }
    }

    void write_chunk() {
        Chunk chunk = std::move(chunks_.front());
        chunks_.pop_front();
        const auto outgoing = std::make_shared<Outgoing>();
        outgoing->link = self();
        outgoing->bytes = chunk.bytes;
        outgoing->packets = chunk.packets;
        outgoing->message.set_prepared(true);
        outgoing->message.get_raw_payload() = std::move(chunk.frames);
        ++writes_;
        // Refused only when the connection is closing: then it is dropped and counted off here.
        con_->send(Message::ptr(outgoing, &outgoing->message));
    }

    void on_written(std::size_t bytes, std::size_t packets) {
        if (state_ == State::kClosed) return;
        --writes_;
        queued_bytes_ -= bytes;
        queued_packets_ -= packets;
        schedule();
    }

    void forget_queue() {
        chunks_.clear();
        queued_bytes_ = 0;
        queued_packets_ = 0;
    }

    asio::io_context& io_;
    asio::steady_timer timer_;
    std::uint64_t timer_number_ = 0;
    const bool is_client_;
    Transport::Handler* handler_;
    ConnectionPtr con_;
    State state_ = State::kConnecting;
    bool was_open_ = false;
    bool is_scheduled_ = false;
    bool is_drain_due_ = false;
    std::uint16_t close_code_ = 0;  // Of our close frame, once state_ is kClosing.
    std::deque<Chunk> chunks_;      // Not yet with the library.
    std::size_t writes_ = 0;        // Chunks with the library.
    std::size_t queued_bytes_ = 0;
    std::size_t queued_packets_ = 0;
    MaskSource masks_;
};

}  // namespace petrel::wspp
