#include "tests/bench/relay_wire.hpp"

#include <cstring>

namespace petrel::bench::relay {
namespace {

// `at` stands on the opening quote and moves behind the closing one.
bool take_string(const char*& at, const char* end, std::string_view& text) {
    if (at == end || *at != '"') return false;
    const char* const begin = ++at;
    for (;;) {
        const auto left = static_cast<std::size_t>(end - at);
        const auto* const quote = static_cast<const char*>(std::memchr(at, '"', left));
        if (quote == nullptr) return false;
        at = quote + 1;
        const char* escape = quote;
        while (escape != begin && escape[-1] == '\\') --escape;
        if ((quote - escape) % 2 != 0) continue;  // The quote itself is escaped.
        text = {begin, static_cast<std::size_t>(quote - begin)};
        return true;
    }
}

std::string_view* field_of(Packet& packet, std::string_view name) {
    if (name == "to") return &packet.to;
    if (name == "fp") return &packet.fp;
    if (name == "payload") return &packet.payload;
    if (name == "ack") return &packet.ack;
    if (name == "user") return &packet.user;
    if (name == "refused") return &packet.refused;
    return nullptr;
}

}  // namespace

bool parse(std::string_view text, Packet& packet) {
    const char* at = text.data();
    const char* const end = at + text.size();
    if (at == end || *at++ != '{') return false;
    for (;;) {
        std::string_view name, value;
        if (!take_string(at, end, name) || at == end || *at++ != ':') return false;
        if (!take_string(at, end, value) || at == end) return false;
        if (std::string_view* const field = field_of(packet, name)) *field = value;
        const char next = *at++;
        if (next == '}') return at == end;
        if (next != ',') return false;
    }
}

// RFC 6455 section 5.2.
FrameHead read_frame_head(std::string_view data) {
    FrameHead head;
    if (data.size() < 2) return head;
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(data[at]); };
    head.first_byte = byte(0);
    head.is_masked = (byte(1) & 0x80U) != 0;
    head.length = byte(1) & 0x7fU;
    const std::size_t more = head.length == 127 ? 8 : head.length == 126 ? 2 : 0;
    const std::size_t size = 2 + more + (head.is_masked ? head.mask.size() : 0);
    if (data.size() < size) return head;
    if (more > 0) {
        head.length = 0;
        for (std::size_t i = 0; i < more; ++i) head.length = head.length << 8 | byte(2 + i);
    }
    if (head.is_masked) std::memcpy(head.mask.data(), data.data() + 2 + more, head.mask.size());
    head.size = size;
    return head;
}

}  // namespace petrel::bench::relay
