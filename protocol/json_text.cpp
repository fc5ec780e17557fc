#include "protocol/json_text.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace petrel {
namespace {

// What stands behind the backslash for a byte that must be escaped ('u': \u00XX), 0 for the rest.
constexpr std::array<char, 256> make_escapes() noexcept {
    std::array<char, 256> escapes{};
    for (std::size_t c = 0; c < 0x20; ++c) escapes[c] = 'u';
    escapes['\b'] = 'b';
    escapes['\t'] = 't';
    escapes['\n'] = 'n';
    escapes['\f'] = 'f';
    escapes['\r'] = 'r';
    escapes['"'] = '"';
    escapes['\\'] = '\\';
    return escapes;
}

constexpr std::array<char, 256> kEscapes = make_escapes();

constexpr std::uint64_t every_byte(std::uint64_t byte) noexcept {
    return byte * 0x0101010101010101ULL;
}

// Whether one of 8 bytes must be escaped; the usual trick of a borrow into each byte's high bit.
// It may say yes for a byte above 0x7f, never no for one that matters.
bool may_need_escape(std::uint64_t word) noexcept {
    const std::uint64_t quote = word ^ every_byte('"');
    const std::uint64_t backslash = word ^ every_byte('\\');
    const std::uint64_t found =
        (word - every_byte(0x20)) | (quote - every_byte(1)) | (backslash - every_byte(1));
    return (found & ~word & every_byte(0x80)) != 0;
}

void append_escape(std::string& out, char c) {
    const char escape = kEscapes[static_cast<unsigned char>(c)];
    out += '\\';
    out += escape;
    if (escape != 'u') return;
    constexpr char kDigits[] = "0123456789abcdef";
    out += "00";
    out += kDigits[(static_cast<unsigned char>(c) >> 4) & 0xf];
    out += kDigits[static_cast<unsigned char>(c) & 0xf];
}

template <class Integer>
void append_integer(std::string& out, Integer number) {
    char digits[24];
    const auto result = std::to_chars(digits, digits + sizeof digits, number);
    out.append(digits, static_cast<std::size_t>(result.ptr - digits));
}

}  // namespace

// Found 8 at a time and then one by one.
std::size_t json_plain_run(const char* text, std::size_t size) noexcept {
    std::size_t run = 0;
    while (size - run >= 8) {
        std::uint64_t word;
        std::memcpy(&word, text + run, sizeof word);
        if (may_need_escape(word)) break;
        run += 8;
    }
    while (run < size && kEscapes[static_cast<unsigned char>(text[run])] == 0) ++run;
    return run;
}

void append_json_string(std::string& out, std::string_view text) {
    out += '"';
    while (!text.empty()) {
        const std::size_t run = json_plain_run(text.data(), text.size());
        out.append(text.data(), run);
        text.remove_prefix(run);
        if (text.empty()) break;
        append_escape(out, text.front());
        text.remove_prefix(1);
    }
    out += '"';
}

void append_number(std::string& out, std::int64_t number) { append_integer(out, number); }
void append_number(std::string& out, std::uint64_t number) { append_integer(out, number); }

void JsonObjectWriter::begin(std::string_view name) {
    if (is_first_) {
        out_ += '"';
    } else {
        out_.append(",\"", 2);
    }
    is_first_ = false;
    out_ += name;
    out_.append("\":", 2);
}

void JsonObjectWriter::text(std::string_view name, std::string_view value) {
    begin(name);
    append_json_string(out_, value);
}

void JsonObjectWriter::boolean(std::string_view name, bool value) {
    begin(name);
    out_ += value ? std::string_view("true") : std::string_view("false");
}

void JsonObjectWriter::null(std::string_view name) {
    begin(name);
    out_ += "null";
}

}  // namespace petrel
