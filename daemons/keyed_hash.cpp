#include "daemons/keyed_hash.hpp"

namespace petrel {
namespace {

constexpr std::size_t kWord = 8;

std::uint64_t rotate_left(std::uint64_t x, int by) noexcept { return x << by | x >> (64 - by); }

}  // namespace

KeyedHash::KeyedHash(const Key& key) noexcept
    : v0_(key[0] ^ 0x736f6d6570736575ULL),
      v1_(key[1] ^ 0x646f72616e646f6dULL ^ 0xee),  // 0xee: the variant with 128 bits.
      v2_(key[0] ^ 0x6c7967656e657261ULL),
      v3_(key[1] ^ 0x7465646279746573ULL) {}

void KeyedHash::round() noexcept {
    v0_ += v1_;
    v1_ = rotate_left(v1_, 13) ^ v0_;
    v0_ = rotate_left(v0_, 32);
    v2_ += v3_;
    v3_ = rotate_left(v3_, 16) ^ v2_;
    v0_ += v3_;
    v3_ = rotate_left(v3_, 21) ^ v0_;
    v2_ += v1_;
    v1_ = rotate_left(v1_, 17) ^ v2_;
    v2_ = rotate_left(v2_, 32);
}

void KeyedHash::compress(std::uint64_t word) noexcept {
    v3_ ^= word;
    round();
    round();
    v0_ ^= word;
}

void KeyedHash::add(std::string_view bytes) noexcept {
    for (const char byte : bytes) {
        word_ |= std::uint64_t{static_cast<unsigned char>(byte)} << 8 * (size_ % kWord);
        if (++size_ % kWord != 0) continue;
        compress(word_);
        word_ = 0;
    }
}

KeyedHash::Value KeyedHash::finish() noexcept {
    compress(word_ | std::uint64_t{size_} << 56);
    Value value;
    v2_ ^= 0xee;
    for (int i = 0; i < 4; ++i) round();
    value[0] = v0_ ^ v1_ ^ v2_ ^ v3_;
    v1_ ^= 0xdd;
    for (int i = 0; i < 4; ++i) round();
    value[1] = v0_ ^ v1_ ^ v2_ ^ v3_;
    return value;
}

}  // namespace petrel
