#include "transport/sha1.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace petrel {
namespace {

constexpr std::size_t kBlock = 64;

std::uint32_t rotated(std::uint32_t word, int bits) { return word << bits | word >> (32 - bits); }

// FIPS 180-4 section 6.1.2.
void add_block(const unsigned char* block, std::array<std::uint32_t, 5>& state) {
    std::array<std::uint32_t, 80> w;
    for (std::size_t t = 0; t < 16; ++t) {
        w[t] = std::uint32_t{block[4 * t]} << 24 | std::uint32_t{block[4 * t + 1]} << 16 |
               std::uint32_t{block[4 * t + 2]} << 8 | block[4 * t + 3];
    }
    for (std::size_t t = 16; t < w.size(); ++t) {
        w[t] = rotated(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    }
    auto [a, b, c, d, e] = state;
    for (std::size_t t = 0; t < w.size(); ++t) {
        const std::uint32_t mix = t < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                                  : t < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                                  : t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                           : (b ^ c ^ d) + 0xca62c1d6;
        const std::uint32_t next = rotated(a, 5) + mix + e + w[t];
        e = d;
        d = c;
        c = rotated(b, 30);
        b = a;
        a = next;
    }
    state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e};
}

}  // namespace

std::array<unsigned char, 20> sha1(std::string_view text) {
    std::string padded(text);
    padded += '\x80';
    while (padded.size() % kBlock != kBlock - 8) padded += '\0';
    const std::uint64_t bits = std::uint64_t{text.size()} * 8;
    for (int shift = 56; shift >= 0; shift -= 8) {
        padded += static_cast<char>((bits >> shift) & 0xff);
    }
    std::array<std::uint32_t, 5> state{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const auto* bytes = reinterpret_cast<const unsigned char*>(padded.data());
    for (std::size_t at = 0; at < padded.size(); at += kBlock) add_block(bytes + at, state);
    std::array<unsigned char, 20> out{};
    for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = static_cast<unsigned char>(state[i / 4] >> (24 - 8 * (i % 4)));
    }
    return out;
}

}  // namespace petrel
