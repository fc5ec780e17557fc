#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "protocol/json_text.hpp"

// The event lines of DESIGN section 6: one JSON object a line.

namespace petrel::tools {

// Where event lines go: stdout, or a file (--trace). Each line leaves in one write, flushed, so
// that a reader at the other end of a pipe sees it at once and a kill cuts at most the last one.
// Thread-safe.
class LineWriter {
public:
    static LineWriter& standard_output();
    // Appends to the file; nullptr when it cannot be opened, with the reason in `why`.
    static std::unique_ptr<LineWriter> open(const std::string& path, std::string& why);

    ~LineWriter();
    LineWriter(const LineWriter&) = delete;
    LineWriter& operator=(const LineWriter&) = delete;

    // `line` without its newline.
    void write(std::string_view line);
    // A write has failed (disk full, reader gone); later lines are dropped.
    bool has_failed() const;

private:
    LineWriter(std::FILE* file, bool is_owned);
    struct State;
    std::unique_ptr<State> state_;
};

// Builds one line:
//   JsonLine("accepted").text("fp", fp).number("attempts", 1).real("ms", 0.8).print();
// Names are literals that need no escaping; values may be any bytes (what is not UTF-8 becomes
// U+FFFD). print() or take() ends it; call one of them once. Movable and copyable.
class JsonLine {
public:
    explicit JsonLine(std::string_view event);

    JsonLine& text(std::string_view name, std::string_view value);
    template <class Integer>
    JsonLine& number(std::string_view name, Integer value) {
        static_assert(std::is_integral_v<Integer> && !std::is_same_v<Integer, bool>);
        begin(name);
        if constexpr (std::is_signed_v<Integer>) {
            append_number(line_, static_cast<std::int64_t>(value));
        } else {
            append_number(line_, static_cast<std::uint64_t>(value));
        }
        return *this;
    }
    // nullopt is written as null.
    template <class Integer>
    JsonLine& number(std::string_view name, const std::optional<Integer>& value) {
        if (value) return number(name, *value);
        return null(name);
    }
    JsonLine& real(std::string_view name, double value);  // 3 decimals at most; NaN is null.
    JsonLine& real(std::string_view name, const std::optional<double>& value);
    JsonLine& boolean(std::string_view name, bool value);
    JsonLine& null(std::string_view name);

    void print(LineWriter& out = LineWriter::standard_output());
    std::string take();

private:
    void begin(std::string_view name);

    std::string line_;
};

// Milliseconds since the epoch, for stamps only.
std::int64_t wall_now_ms();

// Human text on stdout through the same lock as the lines.
void print_text(std::string_view text);

// The text itself when it is UTF-8, else with every wrong byte as U+FFFD.
std::string to_valid_utf8(std::string_view text);

}  // namespace petrel::tools
