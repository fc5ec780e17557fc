#pragma once

#include <string>
#include <string_view>

// Names of conversations (PROTOCOL.md section 4.1). '%' and ':' in ids are percent-encoded.

namespace petrel {

// "u:A:B", the two user ids in byte order; the same for (a, b) and (b, a).
std::string conversation_of_users(std::string_view a, std::string_view b);
// "g:G"
std::string conversation_of_group(std::string_view group);

}  // namespace petrel
