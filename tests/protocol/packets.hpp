#pragma once

#include <doctest/doctest.h>
#include <string>
#include <string_view>
#include <variant>

#include "protocol/codec.hpp"

// Short forms for the codec's tests.

namespace petrel::codec_test {

inline constexpr ProfileId kAllProfiles[] = {ProfileId::kUndecided, ProfileId::kPetrelV1,
                                             ProfileId::kImSdk, ProfileId::kMobileImSdk};

inline std::string text_of(const Packet& packet, ProfileId profile, Side side) {
    std::string out;
    encode(packet, profile, side, out);
    return out;
}

inline bool is_invalid(std::string_view text, ProfileId profile = ProfileId::kPetrelV1) {
    const auto decoded = decode(text, profile);
    return !decoded && decoded.error() == Errc::kInvalidPacket;
}

inline bool is_valid(std::string_view text, ProfileId profile = ProfileId::kPetrelV1) {
    return static_cast<bool>(decode(text, profile));
}

// The packet, which must be a T; a default-made T when it is none, so that a test fails and goes
// on.
template <class T>
T decoded_as(std::string_view text, ProfileId profile = ProfileId::kPetrelV1) {
    const auto decoded = decode(text, profile);
    if (decoded) {
        if (const T* packet = std::get_if<T>(&decoded->packet)) return *packet;
    }
    FAIL_CHECK("not the expected packet: " << std::string(text));
    return T{};
}

// A control packet whose dataContent is the object (' stands for ").
inline std::string control(int type, std::string content) {
    std::string escaped;
    for (const char c : content) {
        if (c == '\'') {
            escaped += "\\\"";
        } else {
            escaped += c;
        }
    }
    return "{\"type\":" + std::to_string(type) + ",\"dataContent\":\"" + escaped + "\"}";
}

}  // namespace petrel::codec_test
