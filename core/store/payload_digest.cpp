#include "core/store/payload_digest.hpp"

#include <cstring>

namespace petrel {
namespace {

constexpr std::uint64_t kC1 = 0x87c37b91114253d5ULL;
constexpr std::uint64_t kC2 = 0x4cf5ad432745937fULL;

std::uint64_t rotate_left(std::uint64_t x, int by) noexcept { return (x << by) | (x >> (64 - by)); }

std::uint64_t finish(std::uint64_t k) noexcept {
    k ^= k >> 33;
    k *= 0xff51afd7ed558ccdULL;
    k ^= k >> 33;
    k *= 0xc4ceb9fe1a85ec53ULL;
    k ^= k >> 33;
    return k;
}

// Little-endian whatever the machine: digests are stored in files.
std::uint64_t load_word(const char* at) noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, at, sizeof value);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

std::uint64_t load(const char* at, std::size_t bytes) noexcept {
    std::uint64_t value = 0;
    for (std::size_t i = bytes; i-- > 0;) {
        value = value << 8 | static_cast<unsigned char>(at[i]);
    }
    return value;
}

std::uint64_t mix1(std::uint64_t k) noexcept { return rotate_left(k * kC1, 31) * kC2; }

std::uint64_t mix2(std::uint64_t k) noexcept { return rotate_left(k * kC2, 33) * kC1; }

void append_little_endian(std::uint64_t value, int bytes, std::string& out) {
    for (int i = 0; i < bytes; ++i) {
        out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
    }
}

}  // namespace

Digest128 murmur3_x64_128(std::string_view bytes, std::uint64_t seed) noexcept {
    std::uint64_t h1 = seed;
    std::uint64_t h2 = seed;
    const char* at = bytes.data();
    std::size_t left = bytes.size();
    for (; left >= 16; left -= 16, at += 16) {
        h1 ^= mix1(load_word(at));
        h1 = (rotate_left(h1, 27) + h2) * 5 + 0x52dce729;
        h2 ^= mix2(load_word(at + 8));
        h2 = (rotate_left(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    if (left > 8) h2 ^= mix2(load(at + 8, left - 8));
    if (left > 0) h1 ^= mix1(load(at, left < 8 ? left : 8));

    h1 ^= bytes.size();
    h2 ^= bytes.size();
    h1 += h2;
    h2 += h1;
    h1 = finish(h1);
    h2 = finish(h2);
    h1 += h2;
    h2 += h1;
    return {h1, h2};
}

Digest128 payload_digest(std::string_view to, int typeu, std::string_view text,
                         std::string& scratch) {
    scratch.clear();
    append_little_endian(to.size(), 8, scratch);
    scratch.append(to);
    append_little_endian(static_cast<std::uint32_t>(typeu), 4, scratch);
    scratch.append(text);
    return murmur3_x64_128(scratch);
}

}  // namespace petrel
