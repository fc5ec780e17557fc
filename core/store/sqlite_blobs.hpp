#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/fingerprint.hpp"

namespace petrel {

// A fingerprint as a blob: 16 bytes are a UUID; a text of 16 characters gets a zero byte to tell
// it from one. The fingerprint must outlive this.
class FingerprintBlob {
public:
    explicit FingerprintBlob(const Fingerprint& fp) {
        if (fp.is_uuid()) {
            view_ = {reinterpret_cast<const char*>(fp.uuid().data()), fp.uuid().size()};
            return;
        }
        text_ = fp.to_string();
        if (text_.size() == 16) text_.push_back('\0');
        view_ = text_;
    }
    FingerprintBlob(const FingerprintBlob&) = delete;
    FingerprintBlob& operator=(const FingerprintBlob&) = delete;
    std::string_view view() const { return view_; }

    // Empty when the bytes are no fingerprint.
    static Fingerprint parse(std::string_view blob) {
        if (blob.size() == 16) {
            std::array<std::uint8_t, 16> bytes{};
            std::copy(blob.begin(), blob.end(), bytes.begin());
            return Fingerprint::from_uuid(bytes);
        }
        if (!blob.empty() && blob.back() == '\0') blob.remove_suffix(1);
        return Fingerprint::parse(blob).value_or(Fingerprint());
    }

private:
    std::string text_;
    std::string_view view_;
};

// Little-endian numbers in blobs.
inline void append_number(std::uint64_t value, std::string& out) {
    char bytes[8];
    for (char& byte : bytes) {
        byte = static_cast<char>(value);
        value >>= 8;
    }
    out.append(bytes, sizeof bytes);
}

inline std::uint64_t number_at(std::string_view bytes, std::size_t at) {
    std::uint64_t value = 0;
    for (std::size_t i = 8; i-- > 0;) {
        value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    }
    return value;
}

// Small numbers in blobs: seven bits to a byte, the low ones first (LEB128).
constexpr std::size_t kVarintMax = 10;

inline void append_varint(std::uint64_t value, std::string& out) {
    char bytes[kVarintMax];
    std::size_t size = 0;
    for (; value >= 0x80; value >>= 7) bytes[size++] = static_cast<char>(value | 0x80);
    bytes[size++] = static_cast<char>(value);
    out.append(bytes, size);
}

// Takes one off the front of `bytes`. False: there is none.
inline bool take_varint(std::string_view& bytes, std::uint64_t& value) {
    value = 0;
    for (std::size_t i = 0; i < bytes.size() && i < kVarintMax; ++i) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        value |= std::uint64_t{byte & 0x7fU} << (7 * i);
        if (byte < 0x80) {
            bytes.remove_prefix(i + 1);
            return true;
        }
    }
    return false;
}

}  // namespace petrel
