#include "tools/petrel/wire_lane.hpp"

#include <algorithm>
#include <cmath>

namespace petrel::tools {
namespace {

constexpr std::size_t kWriteBytesMax = 16 * 1024;  // What one read brings.

// Two bytes, the length's further ones, the mask (RFC 6455 section 5.2).
std::size_t frame_head_size(const std::string& head) {
    const auto second = static_cast<unsigned char>(head[1]);
    const unsigned length = second & 0x7f;
    const std::size_t extra = length == 126 ? 2 : length == 127 ? 8 : 0;
    return 2 + extra + ((second & 0x80) != 0 ? 4 : 0);
}

std::uint64_t frame_payload(const std::string& head) {
    const unsigned length = static_cast<unsigned char>(head[1]) & 0x7f;
    if (length < 126) return length;
    std::uint64_t value = 0;
    for (std::size_t i = 2; i < (length == 126 ? 4 : 10); ++i) {
        value = (value << 8) | static_cast<unsigned char>(head[i]);
    }
    return value;
}

}  // namespace

void FrameScanner::begin_payload() {
    payload_left_ = frame_payload(frame_head_);
    payload_half_ = payload_left_ / 2;
    frame_head_.clear();
    state_ = payload_left_ > 0 ? State::kPayload : State::kFrameHead;
}

std::optional<std::size_t> FrameScanner::scan(std::string_view bytes) {
    constexpr std::string_view kBegins[] = {"GET ", "HTTP"};
    constexpr std::string_view kHeadEnd = "\r\n\r\n";
    std::optional<std::size_t> place;
    const auto note = [&place](std::size_t at) {
        if (!place) place = at;
    };
    std::size_t i = 0;
    while (i < bytes.size()) {
        const char byte = bytes[i];
        switch (state_) {
            case State::kStart: {
                if (matched_ == 0) first_ = byte;
                const std::string_view& begin = first_ == 'G' ? kBegins[0] : kBegins[1];
                if (byte != begin[matched_]) {
                    state_ = State::kOpaque;
                    break;
                }
                ++i;
                if (++matched_ == begin.size()) {
                    state_ = State::kHead;
                    matched_ = 0;
                }
                break;
            }
            case State::kHead:
                ++i;
                // No part of the pattern repeats but its "\r".
                matched_ = byte == kHeadEnd[matched_] ? matched_ + 1 : byte == '\r' ? 1 : 0;
                if (matched_ == kHeadEnd.size()) state_ = State::kFrameHead;
                break;
            case State::kFrameHead:
                ++i;
                frame_head_ += byte;
                if (frame_head_.size() < 2) break;
                if (frame_head_.size() == 2 && (frame_head_[1] & 0x7f) == 0) note(i - 1);
                if (frame_head_.size() == frame_head_size(frame_head_)) {
                    begin_payload();
                    // Of one byte: between the head and it.
                    if (payload_left_ == 1) note(i);
                }
                break;
            case State::kPayload: {
                const std::uint64_t before = payload_left_;
                const std::uint64_t step = std::min<std::uint64_t>(bytes.size() - i, before);
                payload_left_ -= step;
                if (before > payload_half_ && payload_left_ <= payload_half_ && payload_half_ > 0) {
                    note(i + static_cast<std::size_t>(before - payload_half_));
                }
                i += static_cast<std::size_t>(step);
                if (payload_left_ == 0) state_ = State::kFrameHead;
                break;
            }
            case State::kOpaque:
                if (bytes.size() - i >= 2) note(i + (bytes.size() - i) / 2);
                i = bytes.size();
                break;
        }
    }
    if (place == std::size_t{0}) place.reset();  // Nothing of that frame has gone.
    return place;
}

void WireLane::stall_until(TimePoint end) { stalled_until_ = std::max(stalled_until_, end); }

void WireLane::set_rate(std::uint64_t bytes_per_second, TimePoint now, TimePoint until) {
    rate_ = bytes_per_second;
    rate_until_ = until;
    rate_at_ = now;
    rate_credit_ = 0;
}

void WireLane::set_slice(std::uint64_t bytes, TimePoint until) {
    slice_ = bytes;
    slice_until_ = until;
}

void WireLane::swallow() {
    is_swallowed_ = true;
    held_.clear();
    begin_ = 0;
}

void WireLane::push(std::string_view bytes) {
    if (is_swallowed_) return;
    if (begin_ > 0 && begin_ == held_.size()) {
        held_.clear();
        begin_ = 0;
    }
    held_.append(bytes);
}

// Bytes that the rate lets go now. A second's worth at most is saved up.
std::uint64_t WireLane::budget(TimePoint now) const {
    if (rate_ == 0 || now >= rate_until_) return kWriteBytesMax;
    const double seconds = std::chrono::duration<double>(now - rate_at_).count();
    const auto rate = static_cast<double>(rate_);
    return static_cast<std::uint64_t>(std::min(rate_credit_ + seconds * rate, std::max(rate, 1.0)));
}

std::string_view WireLane::take(TimePoint now) {
    out_.clear();
    if (is_cut_ || held() == 0 || now < stalled_until_) return out_;
    std::uint64_t count = std::min<std::uint64_t>({held(), kWriteBytesMax, budget(now)});
    if (slice_ > 0 && now < slice_until_) count = std::min(count, slice_);
    if (count == 0) return out_;
    out_.assign(held_, begin_, static_cast<std::size_t>(count));
    const auto place = scanner_.scan(out_);
    if (is_cut_wanted_ && place) {
        out_.resize(*place);
        is_cut_ = true;
    }
    begin_ += out_.size();
    // Now and then, not each time: a held megabyte moves once.
    if (begin_ > kWriteBytesMax && begin_ * 2 > held_.size()) {
        held_.erase(0, begin_);
        begin_ = 0;
    }
    if (rate_ > 0 && now < rate_until_) {
        const double seconds = std::chrono::duration<double>(now - rate_at_).count();
        const auto rate = static_cast<double>(rate_);
        rate_credit_ = std::min(rate_credit_ + seconds * rate, std::max(rate, 1.0)) -
                       static_cast<double>(out_.size());
        rate_at_ = now;
    }
    return out_;
}

std::optional<TimePoint> WireLane::next_at(TimePoint now) const {
    if (held() == 0 || is_cut_) return std::nullopt;
    TimePoint at = std::max(now, stalled_until_);
    if (rate_ > 0 && at < rate_until_ && budget(at) == 0) {
        const double missing = 1.0 - rate_credit_;
        const auto wait = std::chrono::nanoseconds(
            static_cast<std::int64_t>(std::ceil(missing / static_cast<double>(rate_) * 1e9)));
        at = std::max(at, std::min(rate_until_, rate_at_ + wait + std::chrono::nanoseconds{1}));
    }
    return at;
}

}  // namespace petrel::tools
