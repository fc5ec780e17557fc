#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace petrel {

using Digest128 = std::array<std::uint64_t, 2>;

// MurmurHash3_x64_128 (Austin Appleby, public domain). Not for secrets: whoever makes two payloads
// collide under one of his own fingerprints only loses his own second message.
Digest128 murmur3_x64_128(std::string_view bytes, std::uint64_t seed = 0) noexcept;

// What 'the same payload' means to the dedup table (PROTOCOL.md section 4.7): to, typeu and text.
// `scratch` is the caller's, reused to save the allocation.
Digest128 payload_digest(std::string_view to, int typeu, std::string_view text,
                         std::string& scratch);

}  // namespace petrel
