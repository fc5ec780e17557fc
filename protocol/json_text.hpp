#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

// Writing JSON by hand: the few shapes that packets and event lines need.

namespace petrel {

// Appends the text as a JSON string, quotes included. The text must be valid UTF-8.
void append_json_string(std::string& out, std::string_view text);
// Bytes from `text` on that need no escaping; what stops them is a quote, a backslash, a control
// character, or the end.
std::size_t json_plain_run(const char* text, std::size_t size) noexcept;
void append_number(std::string& out, std::int64_t number);
void append_number(std::string& out, std::uint64_t number);

// Appends one object, member by member; close() ends it. Names are written as they are: literals
// that need no escaping.
class JsonObjectWriter {
public:
    explicit JsonObjectWriter(std::string& out) : out_(out) { out_ += '{'; }

    void text(std::string_view name, std::string_view value);
    template <class Integer>
    void number(std::string_view name, Integer value) {
        static_assert(std::is_integral_v<Integer> && !std::is_same_v<Integer, bool>);
        begin(name);
        if constexpr (std::is_signed_v<Integer>) {
            append_number(out_, static_cast<std::int64_t>(value));
        } else {
            append_number(out_, static_cast<std::uint64_t>(value));
        }
    }
    void boolean(std::string_view name, bool value);
    void null(std::string_view name);
    // The caller appends the value to the string itself.
    void begin(std::string_view name);
    void close() { out_ += '}'; }

private:
    std::string& out_;
    bool is_first_ = true;
};

}  // namespace petrel
