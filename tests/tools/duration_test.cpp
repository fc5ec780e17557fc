#include "tools/petrel/duration.hpp"

#include <CLI/CLI.hpp>
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;

// The error of parsing `arguments` as --delay's value; "" when it was taken.
std::string parse_delay(const std::string& text, std::chrono::nanoseconds& value,
                        DurationLimits limits = {}) {
    CLI::App app("test", "test");
    add_duration(app, "--delay", value, "A delay", limits);
    try {
        app.parse(std::vector<std::string>{text, "--delay"});
    } catch (const CLI::ParseError& error) {
        return error.what();
    }
    return "";
}

std::string why_not(const std::string& text) {
    std::string why;
    CHECK_FALSE(parse_duration(text, &why));
    return why;
}

TEST_CASE("Duration: every unit is read") {
    CHECK(parse_duration("7ns") == 7ns);
    CHECK(parse_duration("7us") == 7us);
    CHECK(parse_duration("500ms") == 500ms);
    CHECK(parse_duration("20s") == 20s);
    CHECK(parse_duration("5m") == 5min);
    CHECK(parse_duration("1h") == 1h);
    CHECK(parse_duration("2d") == 48h);
}

TEST_CASE("Duration: zero needs no unit") {
    CHECK(parse_duration("0") == 0ns);
    CHECK(parse_duration("0s") == 0ns);
}

TEST_CASE("Duration: decimal fractions are exact to the nanosecond") {
    CHECK(parse_duration("1.5s") == 1500ms);
    CHECK(parse_duration("0.1s") == 100ms);
    CHECK(parse_duration("0.000000001s") == 1ns);
    CHECK(parse_duration("1.25h") == 75min);
}

TEST_CASE("Duration: what is no duration is refused with the reason") {
    CHECK(why_not("").find("write 500ms") != std::string::npos);
    CHECK(why_not("500").find("the unit is missing") != std::string::npos);
    CHECK(why_not("-5s").find("must not be negative") != std::string::npos);
    CHECK(why_not("5 s").find("the unit must be") != std::string::npos);
    CHECK(why_not("5S").find("the unit must be") != std::string::npos);
    CHECK(why_not("ms").find("write a number") != std::string::npos);
    CHECK(why_not(".5s").find("write a number") != std::string::npos);
    CHECK(why_not("1.s").find("a digit is missing") != std::string::npos);
    CHECK(why_not("1h30m").find("the unit must be") != std::string::npos);
    CHECK(why_not("nan").find("write a number") != std::string::npos);
}

TEST_CASE("Duration: a hundred years are the limit, and nothing overflows") {
    CHECK(parse_duration("36500d") == std::chrono::hours(24 * 36500));
    CHECK(why_not("36501d").find("hundred years") != std::string::npos);
    CHECK(why_not("36500.1d").find("hundred years") != std::string::npos);
    CHECK(why_not("99999999999999999999s").find("hundred years") != std::string::npos);
    CHECK(why_not("9223372036854775807h").find("hundred years") != std::string::npos);
}

TEST_CASE("Duration: what is printed reads back the same, in the largest whole unit") {
    CHECK(format_duration(0ns) == "0s");
    CHECK(format_duration(500ms) == "500ms");
    CHECK(format_duration(1500ms) == "1500ms");
    CHECK(format_duration(90s) == "90s");
    CHECK(format_duration(300s) == "5m");
    CHECK(format_duration(3600s) == "1h");
    for (const auto value : {1ns, 999ns, 1'000ns, 1'234'567ns, 60'000'000'000ns}) {
        CHECK(parse_duration(format_duration(value)) == value);
    }
}

TEST_CASE("Duration option: a good value replaces the default") {
    std::chrono::nanoseconds value = 1s;
    CHECK(parse_delay("20ms", value) == "");
    CHECK(value == 20ms);
}

TEST_CASE("Duration option: a bad value names the option, says why and changes nothing") {
    std::chrono::nanoseconds value = 1s;
    const std::string error = parse_delay("20", value);
    CHECK(error.find("--delay") != std::string::npos);
    CHECK(error.find("the unit is missing") != std::string::npos);
    CHECK(value == 1s);
}

TEST_CASE("Duration option: the limits themselves are allowed, past them is refused") {
    std::chrono::nanoseconds value = 1s;
    const DurationLimits limits{10ms, 1min};
    CHECK(parse_delay("10ms", value, limits) == "");
    CHECK(parse_delay("1m", value, limits) == "");
    CHECK(parse_delay("9ms", value, limits).find("at least 10ms") != std::string::npos);
    CHECK(parse_delay("61s", value, limits).find("at most 1m") != std::string::npos);
}

}  // namespace
}  // namespace petrel::tools
