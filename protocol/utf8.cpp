#include "protocol/utf8.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace petrel {
namespace {

constexpr std::size_t kStep = 16;  // Bytes of ASCII looked at together.

bool is_ascii_block(const unsigned char* p) noexcept {
    std::uint64_t halves[2];
    std::memcpy(halves, p, sizeof halves);
    return ((halves[0] | halves[1]) & 0x8080808080808080ULL) == 0;
}

bool is_continuation(unsigned char c) noexcept { return (c & 0xc0) == 0x80; }

// The second byte of a sequence of three or four is where overlong forms, surrogates and what is
// above U+10FFFF show (RFC 3629 section 4).
bool is_second(unsigned char lead, unsigned char c) noexcept {
    if (!is_continuation(c)) return false;
    if (lead == 0xe0) return c >= 0xa0;  // Else overlong.
    if (lead == 0xed) return c <= 0x9f;  // Else a surrogate.
    if (lead == 0xf0) return c >= 0x90;  // Else overlong.
    return lead != 0xf4 || c <= 0x8f;
}

// Of the sequence that `lead` begins; 0 if it begins none: a continuation byte, an overlong form.
std::size_t length_by_lead(unsigned char lead) noexcept {
    if (lead < 0x80) return 1;
    if (lead < 0xc2) return 0;
    if (lead < 0xe0) return 2;
    if (lead < 0xf0) return 3;
    return lead <= 0xf4 ? 4 : 0;
}

// Whether `count` bytes, at most as many as its lead wants, can be the begin of a character.
bool is_begin(const unsigned char* p, std::size_t count) noexcept {
    if (length_by_lead(p[0]) == 0) return false;
    if (count > 1 && !is_second(p[0], p[1])) return false;
    for (std::size_t i = 2; i < count; ++i) {
        if (!is_continuation(p[i])) return false;
    }
    return true;
}

// Bytes of the well-formed sequence at p, 0 if there is none.
std::size_t sequence_length(const unsigned char* p, std::size_t left) noexcept {
    const std::size_t length = length_by_lead(p[0]);
    return length <= left && is_begin(p, length) ? length : 0;
}

// How many bytes at the end belong to a character that goes on.
std::size_t cut_off(std::string_view text) noexcept {
    for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
        const auto byte = static_cast<unsigned char>(text[text.size() - back]);
        if (is_continuation(byte)) continue;
        return length_by_lead(byte) > back ? back : 0;
    }
    return 0;
}

}  // namespace

bool is_valid_utf8(std::string_view text) noexcept {
    const auto* p = reinterpret_cast<const unsigned char*>(text.data());
    std::size_t left = text.size();
    while (left > 0) {
        std::size_t step = 0;
        if (left >= kStep && is_ascii_block(p)) {
            step = kStep;
        } else {
            step = sequence_length(p, left);
            if (step == 0) return false;
        }
        p += step;
        left -= step;
    }
    return true;
}

bool Utf8Stream::feed(std::string_view piece) noexcept {
    if (kept_size_ > 0 && !end_kept(piece)) return false;
    const std::size_t cut = cut_off(piece);
    if (!is_valid_utf8(piece.substr(0, piece.size() - cut))) return false;
    if (cut == 0) return true;
    std::memcpy(kept_, piece.data() + piece.size() - cut, cut);
    kept_size_ = static_cast<std::uint8_t>(cut);
    return is_begin(kept_, cut);
}

// Takes from `piece` what the kept character lacks.
bool Utf8Stream::end_kept(std::string_view& piece) noexcept {
    while (kept_size_ > 0 && !piece.empty()) {
        kept_[kept_size_++] = static_cast<unsigned char>(piece.front());
        piece.remove_prefix(1);
        if (!is_begin(kept_, kept_size_)) return false;
        if (kept_size_ == length_by_lead(kept_[0])) kept_size_ = 0;
    }
    return true;
}

}  // namespace petrel
