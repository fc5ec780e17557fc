#pragma once

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <random>

namespace petrel {

// Masking keys must not be predictable (RFC 6455 section 5.3); a system call for each is dear.
class MaskSource {
public:
    std::array<unsigned char, 4> next() { return take<4>(); }
    std::array<unsigned char, 16> nonce() { return take<16>(); }  // For Sec-WebSocket-Key.

private:
    template <std::size_t kSize>
    std::array<unsigned char, kSize> take() {
        if (used_ + kSize > bytes_.size()) refill();
        std::array<unsigned char, kSize> out;
        std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(used_), kSize, out.begin());
        used_ += kSize;
        return out;
    }

    void refill() {
        if (getentropy(bytes_.data(), bytes_.size()) != 0) {
            std::random_device device;
            for (unsigned char& byte : bytes_) byte = static_cast<unsigned char>(device());
        }
        used_ = 0;
    }

    std::array<unsigned char, 256> bytes_{};  // getentropy()'s maximum.
    std::size_t used_ = 256;
};

}  // namespace petrel
