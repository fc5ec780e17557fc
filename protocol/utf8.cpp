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

// Bytes of the well-formed sequence at p (RFC 3629 section 4), 0 if there is none.
std::size_t sequence_length(const unsigned char* p, std::size_t left) noexcept {
    const unsigned char lead = p[0];
    if (lead < 0x80) return 1;
    if (lead < 0xc2) return 0;  // A continuation byte, or an overlong form.
    if (lead < 0xe0) return left >= 2 && is_continuation(p[1]) ? 2 : 0;
    if (lead < 0xf0) {
        if (left < 3 || !is_continuation(p[1]) || !is_continuation(p[2])) return 0;
        if (lead == 0xe0 && p[1] < 0xa0) return 0;  // Overlong.
        if (lead == 0xed && p[1] > 0x9f) return 0;  // Surrogate.
        return 3;
    }
    if (lead > 0xf4 || left < 4) return 0;
    if (!is_continuation(p[1]) || !is_continuation(p[2]) || !is_continuation(p[3])) return 0;
    if (lead == 0xf0 && p[1] < 0x90) return 0;  // Overlong.
    if (lead == 0xf4 && p[1] > 0x8f) return 0;  // Above U+10FFFF.
    return 4;
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

}  // namespace petrel
