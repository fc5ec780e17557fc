#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace petrel {

// SipHash-2-4 with 128 bits of result (Aumasson, Bernstein): a pseudo-random function of what is
// added, in one piece or several. Without the key nobody can choose bytes that share a result, or a
// part of it.
class KeyedHash {
public:
    using Key = std::array<std::uint64_t, 2>;
    using Value = std::array<std::uint64_t, 2>;

    explicit KeyedHash(const Key& key) noexcept;
    void add(std::string_view bytes) noexcept;
    Value finish() noexcept;  // Once.

private:
    void round() noexcept;
    void compress(std::uint64_t word) noexcept;

    std::uint64_t v0_, v1_, v2_, v3_;
    std::uint64_t word_ = 0;  // Bytes not yet compressed.
    std::size_t size_ = 0;
};

}  // namespace petrel
