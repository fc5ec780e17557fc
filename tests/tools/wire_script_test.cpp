#include "tools/petrel/wire_script.hpp"

#include <doctest/doctest.h>

#include <string>

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;

WireStep step(std::string_view line) {
    std::string why;
    const auto parsed = parse_wire_step(line, why);
    REQUIRE_MESSAGE(parsed, why);
    return *parsed;
}

std::string complaint(std::string_view line) {
    std::string why;
    CHECK_FALSE(parse_wire_step(line, why));
    return why;
}

TEST_CASE("Wire script: a step says when, what, which way, how much and how long") {
    const WireStep cut = step("at 5s cut");
    CHECK_FALSE(cut.is_repeated);
    CHECK(cut.when == 5s);
    CHECK(cut.action == WireAction::kCut);
    CHECK_FALSE(cut.lasts);

    const WireStep stall = step("every 500ms stall c>s 3s");
    CHECK(stall.is_repeated);
    CHECK(stall.action == WireAction::kStall);
    CHECK(stall.touches(Direction::kToTarget));
    CHECK_FALSE(stall.touches(Direction::kToClient));
    CHECK(stall.lasts == std::chrono::nanoseconds(3s));

    const WireStep rate = step("at 0s rate s>c 20k 10s");
    CHECK(rate.amount == 20'000);
    CHECK_FALSE(rate.touches(Direction::kToTarget));
    CHECK(rate.touches(Direction::kToClient));

    const WireStep slice = step("at 0 slice c<>s 1");
    CHECK(slice.amount == 1);
    CHECK(slice.touches(Direction::kToTarget));
    CHECK(slice.touches(Direction::kToClient));
    CHECK_FALSE(slice.lasts);

    CHECK(step("every 7s cut-in-frame s>c").action == WireAction::kCutInFrame);
    CHECK(step("at 1s swallow c>s").action == WireAction::kSwallow);
    CHECK(step("at 1s refuse 2s").action == WireAction::kRefuse);
}

TEST_CASE("Wire script: blanks and comments do not count") {
    CHECK(step("  at\t5s  cut   # enough of this\r").action == WireAction::kCut);
    CHECK(complaint("").empty());
    CHECK(complaint("   # nothing").empty());
}

TEST_CASE("Wire script: what is wrong is said") {
    CHECK(complaint("in 5s cut") == "begins with at or every, not 'in'");
    CHECK(complaint("at 5s") == "is at or every, a duration, and what to do");
    CHECK_FALSE(complaint("at soon cut").empty());
    CHECK(complaint("every 999us cut") == "every wants 1ms or more");
    CHECK(complaint("at 5s burn").find("not 'burn'") != std::string::npos);
    CHECK(complaint("at 5s stall") == "stall wants a direction: c>s, s>c or c<>s");
    CHECK(complaint("at 5s stall up 1s") == "stall wants a direction: c>s, s>c or c<>s");
    CHECK(complaint("at 5s stall c>s") == "stall wants to know how long");
    CHECK(complaint("at 5s refuse") == "refuse wants to know how long");
    CHECK(complaint("at 5s cut now") == "does not understand 'now'");
    CHECK(complaint("at 5s stall c>s 3s more") == "does not understand 'more'");
    for (const char* amount : {"", "0", "-1", "x", "1kk", "k", "1001M", "99999999999999999999"}) {
        CHECK(complaint("at 5s rate c>s " + std::string(amount)) ==
              "rate wants a number of bytes, as 1 or 20k");
    }
    CHECK(step("at 5s rate c>s 1000M").amount == 1'000'000'000);
    CHECK(complaint("every 5s refuse 1s").find("refuse is for at") == 0);
}

TEST_CASE("Wire script: a script is its steps, and names the line that is wrong") {
    std::string why;
    const auto steps = parse_wire_script("# storm\nat 1s cut\n\nevery 2s cut\n", why);
    REQUIRE(steps);
    CHECK(steps->size() == 2);
    CHECK_FALSE(parse_wire_script("at 1s cut\n\nat 2s burn", why));
    CHECK(why.find("line 3: a step knows") == 0);
    CHECK(parse_wire_script("", why)->empty());
}

TEST_CASE("Wire script: as many steps as allowed, and none more") {
    std::string text;
    for (std::size_t i = 0; i < kWireStepsMax; ++i) text += "at 1s cut\n";
    std::string why;
    CHECK(parse_wire_script(text, why));
    CHECK_FALSE(parse_wire_script(text + "at 1s cut\n", why));
    CHECK(why == "more than 10000 steps");
}

TEST_CASE("Wire script: every line of the help is a step") {
    std::string_view text = kWireScriptHelp;
    std::size_t steps = 0;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        std::string line(text.substr(0, end));
        text.remove_prefix(end + 1);
        if (line.compare(0, 5, "  at ") != 0 && line.compare(0, 8, "  every ") != 0) continue;
        line = line.substr(2);
        line.resize(line.find("  "));
        CAPTURE(line);
        step(line);
        ++steps;
    }
    CHECK(steps == 7);
}

}  // namespace
}  // namespace petrel::tools
