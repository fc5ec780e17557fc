#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace petrel {

// RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF.
bool is_valid_utf8(std::string_view text) noexcept;

// The same for a text that comes in pieces, which may cut its characters anywhere.
class Utf8Stream {
public:
    // False as soon as nothing that could follow would make it valid. Then call no more.
    bool feed(std::string_view piece) noexcept;
    bool is_complete() const noexcept { return kept_size_ == 0; }  // No character is cut off.

private:
    bool end_kept(std::string_view& piece) noexcept;

    unsigned char kept_[4]{};  // A character that is not whole yet.
    std::uint8_t kept_size_ = 0;
};

}  // namespace petrel
