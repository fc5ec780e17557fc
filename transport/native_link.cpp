#include "transport/native_link.hpp"

#include <utility>

#include "transport/handshake.hpp"

namespace petrel {
namespace {

constexpr std::chrono::seconds kCloseTimeout{5};
// How long, and for how much, the socket lingers.
constexpr std::chrono::seconds kLingerTimeout{2};
constexpr std::size_t kLingerBytesMax = 32 << 20;
// A write to the socket is this large unless one frame is larger: queued_bytes() falls in such
// steps, so a slow reader that still reads is seen to do so.
constexpr std::size_t kWriteBytes = 65'536;
// Pongs may not fill the queue behind a peer's back that pings and does not read.
constexpr std::size_t kPongQueueBytesMax = 4096;
// Full buffers read in a row, before others get their turn.
constexpr int kReadsMax = 4;

}  // namespace

NativeLink::NativeLink(NativeLoop& loop, bool is_client, std::size_t message_bytes_max,
                       Transport::Handler* handler)
    : loop_(loop),
      stream_(loop.io()),
      handler_(handler),
      reader_({!is_client, message_bytes_max}),
      is_client_(is_client) {}

NativeLink::~NativeLink() { forget_queue(); }

CloseInfo NativeLink::lost(std::string reason) {
    CloseInfo info;
    info.reason = std::move(reason);
    return info;
}

// ---- by the Transport ----

void NativeLink::send(std::string_view text) {
    if (state_ != State::kOpen || is_write_dead_) return;
    Chunk& chunk = chunk_for(text.size());
    append(ws::Opcode::kText, text, chunk.frames);
    chunk.bytes += text.size();
    ++chunk.packets;
    queue_->bytes += text.size();
    ++queue_->packets;
    is_drain_due_ = is_drain_due_ || queue_->bytes > 0;
    schedule();
}

void NativeLink::close(std::uint16_t code, std::string_view reason) {
    if (state_ == State::kConnecting) {
        cut();
        finish(lost("abandoned"));
        return;
    }
    if (state_ != State::kOpen) return;
    state_ = State::kClosing;
    close_code_ = sendable_close_code(code);
    append_close(close_code_, cut_close_reason(reason));
    start_timer(kCloseTimeout);
}

void NativeLink::detach() {
    handler_ = nullptr;
    if (state_ != State::kConnecting && state_ != State::kOpen) return;
    state_ = State::kClosed;
    cut();
    on_ended();
}

// ---- reading ----

void NativeLink::start_stream() {
    stream_.prepare();
    if (!stream_.secure) {
        on_secured();
        if (is_socket_open_) wait_readable();
        return;
    }
    is_shaking_hands_ = true;
    shake_hands();
}

void NativeLink::shake_hands() {
    const Io io = stream_.secure->shake_hands();
    switch (io.status) {
        case Io::Status::kWantRead: wait_readable(); return;
        case Io::Status::kWantWrite: wait_writable(); return;
        case Io::Status::kDone:
            is_shaking_hands_ = false;
            on_secured();
            // With the last bytes of the handshake there may have come more: TLS has them.
            if (is_socket_open_) on_readable();
            return;
        case Io::Status::kEnded:
        case Io::Status::kFailed: on_lost(io);
    }
}

void NativeLink::wait_readable() {
    if (is_waiting_readable_) return;
    is_waiting_readable_ = true;
    stream_.socket.async_wait(TcpSocket::wait_read, [link = self()](std::error_code error) {
        link->is_waiting_readable_ = false;
        if (error || !link->is_socket_open_) return;
        if (link->is_shaking_hands_) {
            link->shake_hands();
            return;
        }
        link->on_readable();
        if (std::exchange(link->writes_when_readable_, false)) link->after_write();
    });
}

void NativeLink::wait_writable() {
    if (is_waiting_writable_) return;
    is_waiting_writable_ = true;
    stream_.socket.async_wait(TcpSocket::wait_write, [link = self()](std::error_code error) {
        link->is_waiting_writable_ = false;
        if (!error && link->is_socket_open_) link->on_writable();
    });
}

void NativeLink::on_writable() {
    if (is_shaking_hands_) {
        shake_hands();
        return;
    }
    if (std::exchange(reads_when_writable_, false)) on_readable();
    after_write();
}

void NativeLink::on_readable() {
    bool is_emptied = false;
    for (int reads = 0; reads < kReadsMax && is_socket_open_ && !is_emptied; ++reads) {
        const Io io = stream_.read(loop_.receive_buffer(), NativeLoop::kReceiveBytes);
        if (io.status == Io::Status::kWantRead) {
            is_emptied = true;
            break;
        }
        if (io.status == Io::Status::kWantWrite) {
            reads_when_writable_ = true;
            wait_writable();
            return;
        }
        if (io.status != Io::Status::kDone) {
            on_lost(io);
            return;
        }
        take(loop_.receive_buffer(), io.size);
        // TLS hands out a record at a time, and may hold more of them.
        is_emptied = !stream_.secure && io.size < NativeLoop::kReceiveBytes;
    }
    if (!is_socket_open_) return;
    if (is_emptied) {
        wait_readable();
    } else {
        read_on_soon();
    }
}

// There is more, also where the socket would not say so.
void NativeLink::read_on_soon() {
    if (is_waiting_readable_) return;
    is_waiting_readable_ = true;
    asio::post(loop_.io(), [link = self()] {
        link->is_waiting_readable_ = false;
        if (link->is_socket_open_) link->on_readable();
    });
}

void NativeLink::take(char* data, std::size_t size) {
    switch (state_) {
        case State::kConnecting: on_handshake(data, size); break;
        case State::kOpen:
        case State::kClosing: read_frames(data, size); break;
        case State::kParting: break;
        case State::kClosed:
            lingered_bytes_ += size;
            if (lingered_bytes_ > kLingerBytesMax) close_socket();
    }
}

void NativeLink::read_frames(char* data, std::size_t size) {
    char* at = data;
    while (state_ == State::kOpen || state_ == State::kClosing) {
        const ws::FrameReader::Event event = reader_.next(at, data + size);
        if (event.kind == ws::FrameReader::Kind::kNothing) return;
        on_event(event);
    }
}

void NativeLink::on_event(const ws::FrameReader::Event& event) {
    using Kind = ws::FrameReader::Kind;
    const bool is_told = state_ == State::kOpen && handler_;
    switch (event.kind) {
        case Kind::kText:
            if (is_told) handler_->on_text(event.payload);
            break;
        case Kind::kBinary:
            if (is_told) handler_->on_binary(event.size);
            break;
        case Kind::kPing: on_ping(event.payload); break;
        case Kind::kClose: on_peer_close(event.code, event.payload); break;
        case Kind::kFault: {
            CloseInfo info = lost(std::string(event.payload));
            info.code = event.code;
            if (state_ == State::kOpen) append_close(event.code, event.payload);
            part(std::move(info));
            break;
        }
        case Kind::kPong:
        case Kind::kNothing: break;
    }
}

void NativeLink::on_ping(std::string_view payload) {
    if (state_ != State::kOpen || is_write_dead_) return;
    if (queue_ && queue_->pong_bytes + payload.size() > kPongQueueBytesMax) {
        // RFC 6455 section 5.5.3: it is enough to answer the latest.
        queue_->late_ping = std::make_unique<std::string>(payload);
        return;
    }
    Chunk& chunk = chunk_for(payload.size());
    const std::size_t before = chunk.frames.size();
    append(ws::Opcode::kPong, payload, chunk.frames);
    const std::size_t added = chunk.frames.size() - before;
    chunk.pong_bytes += added;
    queue_->pong_bytes += added;
    schedule();
}

void NativeLink::on_peer_close(std::uint16_t code, std::string_view reason) {
    CloseInfo info = lost(std::string(reason));
    info.code = code;
    if (state_ == State::kOpen) append_close(code, reason);
    part(std::move(info));
}

void NativeLink::on_lost(const Io& io) {
    std::string why =
        io.status == Io::Status::kEnded ? "the peer ended the connection" : io.error.message();
    if (is_shaking_hands_) {
        const bool is_end = io.status == Io::Status::kEnded;
        why = stream_.secure->describe(is_end ? asio::error::eof : io.error);
    }
    const State before = state_;
    cut();
    if (before == State::kConnecting) {
        on_handshake_lost(why);
    } else if (before == State::kOpen) {
        finish(lost(std::move(why)));
    } else if (before == State::kClosing) {
        CloseInfo info = lost(std::move(why));
        info.code = close_code_;
        finish(std::move(info));
    } else if (before == State::kParting) {
        finish(std::move(*parting_));
    }
}

// ---- writing ----

void NativeLink::append(ws::Opcode opcode, std::string_view payload, std::string& out) {
    if (!is_client_) {
        ws::append_frame(opcode, payload, nullptr, out);
        return;
    }
    const ws::Mask mask = loop_.masks().next();
    ws::append_frame(opcode, payload, &mask, out);
}

void NativeLink::append_close(std::uint16_t code, std::string_view reason) {
    std::string& out = chunk_for(reason.size()).frames;
    const ws::Mask mask = is_client_ ? loop_.masks().next() : ws::Mask{};
    ws::append_close_frame(code, reason, is_client_ ? &mask : nullptr, out);
    schedule();
}

void NativeLink::write_raw(std::string_view bytes) {
    chunk_for(bytes.size()).frames += bytes;
    schedule();
}

// The last chunk, or a new one: what is under way is not appended to, so that it ends.
NativeLink::Chunk& NativeLink::chunk_for(std::size_t size) {
    if (!queue_) queue_ = std::make_unique<Queue>();
    std::vector<Chunk>& chunks = queue_->chunks;
    const bool is_under_way = chunks.size() == 1 && (queue_->sent > 0 || is_waiting_writable_);
    if (chunks.empty() || is_under_way || chunks.back().frames.size() + size > kWriteBytes) {
        chunks.emplace_back();
        chunks.back().frames = loop_.take_buffer();
    }
    return chunks.back();
}

void NativeLink::schedule() {
    if (is_dirty_) return;
    is_dirty_ = true;
    loop_.flush_soon(self());
}

void NativeLink::flush() {
    is_dirty_ = false;
    if (is_socket_open_) after_write();
}

void NativeLink::write_queue() {
    while (queue_ && !is_waiting_writable_ && !is_shaking_hands_) {
        const std::string& frames = queue_->chunks.front().frames;
        std::size_t& sent = queue_->sent;
        const Io io = stream_.write(frames.data() + sent, frames.size() - sent);
        switch (io.status) {
            case Io::Status::kDone:
                sent += io.size;
                if (sent == frames.size()) end_chunk();
                break;
            case Io::Status::kWantWrite: wait_writable(); return;
            case Io::Status::kWantRead: writes_when_readable_ = true; return;
            case Io::Status::kEnded:
            case Io::Status::kFailed: on_write_failed(); return;
        }
    }
}

void NativeLink::end_chunk() {
    Chunk& chunk = queue_->chunks.front();
    queue_->bytes -= chunk.bytes;
    queue_->packets -= chunk.packets;
    queue_->pong_bytes -= chunk.pong_bytes;
    queue_->sent = 0;
    loop_.give_buffer(std::move(chunk.frames));
    queue_->chunks.erase(queue_->chunks.begin());
    std::unique_ptr<std::string> ping;
    if (queue_->pong_bytes == 0) ping = std::move(queue_->late_ping);
    if (queue_->chunks.empty()) queue_.reset();
    if (ping) on_ping(*ping);
}

void NativeLink::after_write() {
    write_queue();
    if (state_ == State::kParting) {
        if (queue_) return;
        finish(std::move(*parting_));
        linger();
    } else if (state_ == State::kOpen && is_drain_due_ && queued_bytes() == 0) {
        is_drain_due_ = false;
        if (handler_) handler_->on_drained();
    }
}

// The peer is gone, but what it said before may still be there to be read, and then its end.
void NativeLink::on_write_failed() {
    is_write_dead_ = true;
    is_drain_due_ = false;
    forget_queue();
}

void NativeLink::forget_queue() {
    if (!queue_) return;
    for (Chunk& chunk : queue_->chunks) loop_.give_buffer(std::move(chunk.frames));
    queue_.reset();
}

// ---- time, and the end ----

// It also keeps the link alive meanwhile.
void NativeLink::start_timer(std::chrono::milliseconds timeout) {
    if (!timer_) timer_ = std::make_unique<SteadyTimer>(loop_.io());
    timer_->expires_after(timeout);
    timer_->async_wait([link = self(), number = ++timer_number_](std::error_code error) {
        if (!error && number == link->timer_number_) link->on_timeout();
    });
}

void NativeLink::stop_timer() {
    ++timer_number_;
    timer_.reset();
}

void NativeLink::on_timeout() {
    if (state_ == State::kConnecting) {
        on_handshake_timeout();
        return;
    }
    cut();
    if (state_ == State::kClosing) {
        CloseInfo info = lost("the peer did not answer the close frame");
        info.code = close_code_;
        finish(std::move(info));
    } else if (state_ == State::kParting) {
        finish(std::move(*parting_));
    }
}

void NativeLink::set_open() {
    state_ = State::kOpen;
    was_open_ = true;
    stop_timer();
}

void NativeLink::part(CloseInfo info) {
    if (state_ != State::kClosing) start_timer(kCloseTimeout);
    state_ = State::kParting;
    parting_ = std::make_unique<CloseInfo>(std::move(info));
    schedule();
}

void NativeLink::cut() {
    stop_timer();
    forget_queue();
    close_socket();
}

void NativeLink::finish(CloseInfo info) {
    if (state_ == State::kClosed) return;
    state_ = State::kClosed;
    info.was_open = was_open_;
    stop_timer();
    forget_queue();
    on_ended();
    asio::post(loop_.io(), [link = self(), info = std::move(info)] {
        if (auto* handler = std::exchange(link->handler_, nullptr)) handler->on_closed(info);
    });
}

void NativeLink::linger() {
    if (!is_socket_open_) return;
    start_timer(kLingerTimeout);
    stream_.end_writing();
}

void NativeLink::close_socket() {
    if (!is_socket_open_) return;
    is_socket_open_ = false;
    stream_.close();
    on_socket_closed();
}

}  // namespace petrel
