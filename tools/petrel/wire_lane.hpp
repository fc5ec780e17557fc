#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemons/timer.hpp"

namespace petrel::tools {

// Where the WebSocket frames of one direction begin and end, told from its bytes (RFC 6455 section
// 5.2), behind the HTTP head of the handshake. What begins otherwise (TLS) has no frames.
class FrameScanner {
public:
    // How many of these bytes to let go for a cut in the middle of a frame: up to half its payload,
    // or into its head when it has none. nullopt: no such place among them. Takes all of them.
    std::optional<std::size_t> scan(std::string_view bytes);

private:
    enum class State : std::uint8_t { kStart, kHead, kFrameHead, kPayload, kOpaque };

    void begin_payload();

    State state_ = State::kStart;
    std::size_t matched_ = 0;  // Of "GET " or "HTTP", then of the empty line behind the head.
    char first_ = 0;
    std::string frame_head_;
    std::uint64_t payload_left_ = 0;
    std::uint64_t payload_half_ = 0;  // The cut is where so much is left.
};

// One direction of a connection: what comes in at one end and may leave at the other, and when. A
// pure function of bytes and time. Bytes keep their order; none is lost but by swallow().
// Thread-compatible.
class WireLane {
public:
    // --- faults; a later one of the same kind replaces the earlier
    void stall_until(TimePoint end);  // The later end counts.
    void set_rate(std::uint64_t bytes_per_second, TimePoint now, TimePoint until);
    void set_slice(std::uint64_t bytes, TimePoint until);
    void swallow();  // What is held and what comes vanishes, for good.
    bool is_swallowed() const noexcept { return is_swallowed_; }
    void cut_in_frame() { is_cut_wanted_ = true; }

    // --- bytes
    void push(std::string_view bytes);
    std::size_t held() const noexcept { return held_.size() - begin_; }
    // The next write, in a buffer that lives until the next call; "" when nothing may leave now.
    std::string_view take(TimePoint now);
    // When take() may give something; nullopt while nothing is held.
    std::optional<TimePoint> next_at(TimePoint now) const;
    // cut_in_frame() was called, and half a frame has been taken: the connection is to be reset.
    bool is_cut() const noexcept { return is_cut_; }

private:
    std::uint64_t budget(TimePoint now) const;

    std::string held_;
    std::size_t begin_ = 0;  // Before it all has left.
    std::string out_;
    FrameScanner scanner_;
    TimePoint stalled_until_ = TimePoint::min();
    std::uint64_t rate_ = 0;  // 0: no limit.
    TimePoint rate_until_ = TimePoint::min();
    TimePoint rate_at_{};      // What may leave was counted up to here.
    double rate_credit_ = 0;   // Bytes, at most one write's worth.
    std::uint64_t slice_ = 0;  // 0: no limit.
    TimePoint slice_until_ = TimePoint::min();
    bool is_swallowed_ = false;
    bool is_cut_wanted_ = false;
    bool is_cut_ = false;
};

}  // namespace petrel::tools
