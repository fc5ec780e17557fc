#pragma once

#include <array>
#include <string_view>

namespace petrel {

// SHA-1 of a short text, for RFC 6455's handshake: it guards against nothing but accidents there,
// and OpenSSL, which has it too, may be absent.
std::array<unsigned char, 20> sha1(std::string_view text);

}  // namespace petrel
