#include "protocol/conversation.hpp"

#include <utility>

namespace petrel {
namespace {

void append_encoded(std::string& out, std::string_view id) {
    for (const char c : id) {
        switch (c) {
            case '%': out += "%25"; break;
            case ':': out += "%3A"; break;
            default: out += c; break;
        }
    }
}

}  // namespace

std::string conversation_of_users(std::string_view a, std::string_view b) {
    if (b < a) std::swap(a, b);  // string_view compares bytes as unsigned.
    std::string out;
    out.reserve(a.size() + b.size() + 3);
    out += "u:";
    append_encoded(out, a);
    out += ':';
    append_encoded(out, b);
    return out;
}

std::string conversation_of_group(std::string_view group) {
    std::string out;
    out.reserve(group.size() + 2);
    out += "g:";
    append_encoded(out, group);
    return out;
}

}  // namespace petrel
