#pragma once

#include <string_view>

namespace petrel {

// RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF.
bool is_valid_utf8(std::string_view text) noexcept;

}  // namespace petrel
