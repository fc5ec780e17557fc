#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace CLI {
class App;
class Option;
}  // namespace CLI

// Durations as people write them: 500ms, 20s, 5m, 1h.

namespace petrel::tools {

// A number, whole or with a decimal fraction, and a unit: ns, us, ms, s, m, h, d. "0" needs no
// unit. Never negative; at most 36500d. nullopt otherwise, and then `why` (if given) says what is
// wrong in words for the user.
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text,
                                                       std::string* why = nullptr);

// In the largest unit that needs no fraction, so that parse_duration() gives the same value back:
// 90s, 1500ms, 2h, 0s.
std::string format_duration(std::chrono::nanoseconds duration);

struct DurationLimits {
    std::chrono::nanoseconds min{0};
    std::chrono::nanoseconds max = std::chrono::hours{24 * 36500};
};

// Adds an option that takes a duration; `value` holds the default and must outlive the parse. What
// is no duration, or outside `limits`, is a usage error (exit status 2).
CLI::Option* add_duration(CLI::App& app, const std::string& names, std::chrono::nanoseconds& value,
                          const std::string& description, DurationLimits limits = {});
// The same for an option without a default.
CLI::Option* add_duration(CLI::App& app, const std::string& names,
                          std::optional<std::chrono::nanoseconds>& value,
                          const std::string& description, DurationLimits limits = {});

}  // namespace petrel::tools
