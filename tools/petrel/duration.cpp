#include "tools/petrel/duration.hpp"

#include <CLI/CLI.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <functional>

namespace petrel::tools {
namespace {

using std::chrono::nanoseconds;

struct Unit {
    std::string_view name;
    std::int64_t ns;
};

constexpr std::array<Unit, 7> kUnits{{{"ns", 1},
                                      {"us", 1'000},
                                      {"ms", 1'000'000},
                                      {"s", 1'000'000'000},
                                      {"m", 60'000'000'000},
                                      {"h", 3'600'000'000'000},
                                      {"d", 86'400'000'000'000}}};
constexpr std::int64_t kDurationMaxNs = 36500 * kUnits[6].ns;  // A century; far from overflow.

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::optional<nanoseconds> fail(std::string* why, std::string_view text, std::string_view reason) {
    if (why != nullptr) {
        *why = "'";
        *why += text;
        *why += "' is no duration: ";
        *why += reason;
    }
    return std::nullopt;
}

std::optional<std::int64_t> scale(std::string_view whole, std::string_view fraction,
                                  std::int64_t unit_ns) {
    std::int64_t units = 0;
    const auto result = std::from_chars(whole.data(), whole.data() + whole.size(), units);
    if (result.ec != std::errc() || units > kDurationMaxNs / unit_ns) return std::nullopt;
    // A long double has the digits for the longest unit down to the nanosecond.
    long double part = 0;
    long double weight = static_cast<long double>(unit_ns);
    for (const char c : fraction) {
        weight /= 10;
        part += static_cast<long double>(c - '0') * weight;
    }
    const std::int64_t ns = units * unit_ns + std::llround(part);
    return ns <= kDurationMaxNs ? std::optional(ns) : std::nullopt;
}

std::string check_limits(nanoseconds value, const DurationLimits& limits) {
    if (value < limits.min) return "must be at least " + format_duration(limits.min);
    if (value > limits.max) return "must be at most " + format_duration(limits.max);
    return {};
}

CLI::Option* add_any(CLI::App& app, const std::string& names, const std::string& description,
                     DurationLimits limits, std::function<void(nanoseconds)> store) {
    CLI::Option* option = app.add_option_function<std::string>(
        names,
        [store = std::move(store)](const std::string& text) {
            if (const auto value = parse_duration(text)) store(*value);
        },
        description);
    option->check([limits](const std::string& text) {
        std::string why;
        const auto value = parse_duration(text, &why);
        return value ? check_limits(*value, limits) : why;
    });
    option->type_name("DURATION");
    return option;
}

}  // namespace

std::optional<nanoseconds> parse_duration(std::string_view text, std::string* why) {
    if (text.empty()) return fail(why, text, "write 500ms, 20s, 5m or 1h");
    if (text.front() == '-') return fail(why, text, "it must not be negative");
    std::size_t end = 0;
    while (end < text.size() && is_digit(text[end])) ++end;
    const std::string_view whole = text.substr(0, end);
    std::string_view fraction;
    if (end < text.size() && text[end] == '.') {
        const std::size_t begin = ++end;
        while (end < text.size() && is_digit(text[end])) ++end;
        fraction = text.substr(begin, end - begin);
        if (fraction.empty()) return fail(why, text, "a digit is missing behind the point");
    }
    if (whole.empty()) return fail(why, text, "write a number and a unit: 500ms, 20s, 5m or 1h");
    const std::string_view suffix = text.substr(end);
    if (suffix.empty()) {
        if (text == "0") return nanoseconds{0};
        return fail(why, text, "the unit is missing: 500ms, 20s, 5m or 1h");
    }
    for (const Unit& unit : kUnits) {
        if (unit.name != suffix) continue;
        const auto ns = scale(whole, fraction, unit.ns);
        if (!ns) return fail(why, text, "it is longer than a hundred years");
        return nanoseconds{*ns};
    }
    return fail(why, text, "the unit must be ms, s, m, h or d");
}

std::string format_duration(nanoseconds duration) {
    const std::int64_t ns = duration.count();
    if (ns == 0) return "0s";
    std::size_t best = 0;
    for (std::size_t i = 0; i < kUnits.size(); ++i) {
        if (ns % kUnits[i].ns == 0) best = i;
    }
    return std::to_string(ns / kUnits[best].ns).append(kUnits[best].name);
}

CLI::Option* add_duration(CLI::App& app, const std::string& names, nanoseconds& value,
                          const std::string& description, DurationLimits limits) {
    CLI::Option* option =
        add_any(app, names, description, limits, [&value](nanoseconds parsed) { value = parsed; });
    option->default_str(format_duration(value));
    return option;
}

CLI::Option* add_duration(CLI::App& app, const std::string& names,
                          std::optional<nanoseconds>& value, const std::string& description,
                          DurationLimits limits) {
    return add_any(app, names, description, limits,
                   [&value](nanoseconds parsed) { value = parsed; });
}

}  // namespace petrel::tools
