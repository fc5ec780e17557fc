#include "tools/petrel/wire_script.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "tools/petrel/duration.hpp"

namespace petrel::tools {
namespace {

struct Grammar {
    std::string_view name;
    WireAction action;
    bool has_direction;
    bool has_amount;
    bool may_last;
    bool must_last;
};

constexpr std::array<Grammar, 7> kGrammar{{
    {"cut", WireAction::kCut, false, false, false, false},
    {"cut-in-frame", WireAction::kCutInFrame, true, false, false, false},
    {"stall", WireAction::kStall, true, false, true, true},
    {"swallow", WireAction::kSwallow, true, false, true, false},
    {"rate", WireAction::kRate, true, true, true, false},
    {"slice", WireAction::kSlice, true, true, true, false},
    {"refuse", WireAction::kRefuse, false, false, true, true},
}};

std::vector<std::string_view> split(std::string_view line) {
    constexpr std::string_view kBlank = " \t\r";
    std::vector<std::string_view> words;
    line = line.substr(0, line.find('#'));
    for (;;) {
        const std::size_t begin = line.find_first_not_of(kBlank);
        if (begin == std::string_view::npos) return words;
        line.remove_prefix(begin);
        const std::size_t end = std::min(line.find_first_of(kBlank), line.size());
        words.push_back(line.substr(0, end));
        line.remove_prefix(end);
    }
}

// 1, 500, 10k, 2M; never 0.
std::optional<std::uint64_t> parse_amount(std::string_view text) {
    std::uint64_t unit = 1;
    if (!text.empty() && text.back() == 'k') unit = 1000;
    if (!text.empty() && text.back() == 'M') unit = 1'000'000;
    if (unit > 1) text.remove_suffix(1);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    constexpr std::uint64_t kMax = 1'000'000'000;  // A gigabyte a second: no limit at all.
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    if (value == 0 || value > kMax / unit) return std::nullopt;
    return value * unit;
}

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

}  // namespace

const char* const kWireScriptHelp =
    "  at 5s cut                   once, 5 s after the start: RST to both ends of all connections\n"
    "  at 8s stall c>s 3s          what clients say waits for 3 s (s>c: what the target says;\n"
    "                              c<>s: both)\n"
    "  at 20s refuse 2s            for 2 s new connections are reset\n"
    "  at 0s slice c<>s 1          from now on one byte a write\n"
    "  at 0s rate s>c 20k 10s      for 10 s at most 20,000 bytes a second\n"
    "  every 10s swallow s>c       each connection, 5 to 15 s after it opened: half-open. What "
    "the\n"
    "                              target says vanishes, its end too, until the client gives up.\n"
    "                              With a duration, also in connections that come meanwhile\n"
    "  every 7s cut-in-frame s>c   RST in the middle of a WebSocket frame\n"
    "A line is one step, # begins a comment.\n";

std::string_view to_string(WireAction action) noexcept {
    for (const Grammar& known : kGrammar) {
        if (known.action == action) return known.name;
    }
    return "?";
}

std::optional<WireStep> parse_wire_step(std::string_view line, std::string& why) {
    why.clear();
    const std::vector<std::string_view> words = split(line);
    if (words.empty()) return std::nullopt;
    WireStep step;
    if (words[0] != "at" && words[0] != "every") {
        why = "begins with at or every, not " + quoted(words[0]);
        return std::nullopt;
    }
    step.is_repeated = words[0] == "every";
    if (words.size() < 3) {
        why = "is at or every, a duration, and what to do";
        return std::nullopt;
    }
    const auto when = parse_duration(words[1], &why);
    if (!when) return std::nullopt;
    step.when = *when;
    // A connection that is touched every nanosecond does nothing else.
    if (step.is_repeated && step.when < std::chrono::milliseconds{1}) {
        why = "every wants 1ms or more";
        return std::nullopt;
    }
    const auto* const known =
        std::find_if(kGrammar.begin(), kGrammar.end(),
                     [&](const Grammar& candidate) { return candidate.name == words[2]; });
    if (known == kGrammar.end()) {
        why =
            "knows cut, cut-in-frame, stall, swallow, rate, slice, refuse, not " + quoted(words[2]);
        return std::nullopt;
    }
    step.action = known->action;
    std::size_t next = 3;
    if (known->has_direction) {
        const std::string_view direction = next < words.size() ? words[next] : "";
        if (direction != "c>s" && direction != "s>c" && direction != "c<>s") {
            why = std::string(known->name) + " wants a direction: c>s, s>c or c<>s";
            return std::nullopt;
        }
        step.is_to_target = direction != "s>c";
        step.is_to_client = direction != "c>s";
        ++next;
    }
    if (known->has_amount) {
        const auto amount = next < words.size() ? parse_amount(words[next]) : std::nullopt;
        if (!amount) {
            why = std::string(known->name) + " wants a number of bytes, as 1 or 20k";
            return std::nullopt;
        }
        step.amount = *amount;
        ++next;
    }
    if (known->may_last && next < words.size()) {
        step.lasts = parse_duration(words[next], &why);
        if (!step.lasts) return std::nullopt;
        ++next;
    }
    if (known->must_last && !step.lasts) {
        why = std::string(known->name) + " wants to know how long";
        return std::nullopt;
    }
    if (step.is_repeated && step.action == WireAction::kRefuse) {
        why = "refuse is for at: it is about connections that are not there yet";
        return std::nullopt;
    }
    if (next < words.size()) {
        why = "does not understand " + quoted(words[next]);
        return std::nullopt;
    }
    return step;
}

std::optional<std::vector<WireStep>> parse_wire_script(std::string_view text, std::string& why) {
    std::vector<WireStep> steps;
    std::size_t number = 0;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        ++number;
        std::string wrong;
        const auto step = parse_wire_step(line, wrong);
        if (!step && !wrong.empty()) {
            why = "line " + std::to_string(number) + ": a step " + wrong;
            return std::nullopt;
        }
        if (!step) continue;
        if (steps.size() >= kWireStepsMax) {
            why = "more than " + std::to_string(kWireStepsMax) + " steps";
            return std::nullopt;
        }
        steps.push_back(*step);
    }
    return steps;
}

}  // namespace petrel::tools
