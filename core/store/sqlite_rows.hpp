#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

#include "protocol/packet.hpp"
#include "protocol/utf8.hpp"

namespace petrel {

// What a row of a client's file may say. Another program may have written it: what is none of this
// is damage, and never reaches an engine, whose packets nobody could read.
namespace row {

// An address, an epoch, a device: CodecLimits::id_bytes_max.
inline bool is_address(std::string_view text) { return text.size() <= 256 && is_valid_utf8(text); }
inline bool is_id(std::string_view text) { return !text.empty() && is_address(text); }
// A position, a `cseq`: PROTOCOL.md section 4.
inline bool is_number(std::int64_t value) {
    return value >= 0 && static_cast<std::uint64_t>(value) <= kNumberMax;
}
// Milliseconds of a wall clock, whatever it showed.
inline bool is_time(std::int64_t value) {
    constexpr auto kMax = static_cast<std::int64_t>(kNumberMax);
    return value >= -kMax && value <= kMax;
}
inline bool is_int(std::int64_t value) {
    return value >= std::numeric_limits<std::int32_t>::min() &&
           value <= std::numeric_limits<std::int32_t>::max();
}

}  // namespace row

}  // namespace petrel
