#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/petrel/storm_faults.hpp"

// What a storm does to the bytes of its connections, and when: one step a line.

namespace petrel::tools {

enum class WireAction : std::uint8_t {
    kCut,         // RST to both ends.
    kCutInFrame,  // RST to both ends once half a WebSocket frame has gone through.
    kStall,       // Bytes wait; the sender feels it when the buffers between are full.
    kSwallow,     // Half-open: bytes and the end of their sender vanish, for good.
    kRate,        // Bytes a second.
    kSlice,       // Writes of so many bytes at most.
    kRefuse,      // New connections are reset; a later such step replaces it.
};
std::string_view to_string(WireAction action) noexcept;

struct WireStep {
    // at: once, so long after the storm's start, to all connections there are, and where the step
    // has a duration to those that come meanwhile. every: again and again in each connection, after
    // half to 1.5 times this.
    bool is_repeated = false;
    std::chrono::nanoseconds when{0};
    WireAction action = WireAction::kCut;
    bool is_to_target = true;  // c>s
    bool is_to_client = true;  // s>c
    std::uint64_t amount = 0;  // kRate: bytes a second; kSlice: bytes.
    // How long it lasts; nullopt: at once (cut) or for good.
    std::optional<std::chrono::nanoseconds> lasts;

    bool touches(Direction direction) const {
        return direction == Direction::kToTarget ? is_to_target : is_to_client;
    }
};

constexpr std::size_t kWireStepsMax = 10'000;  // Of a script: more is a mistake.

// One line without its newline, comments allowed. nullopt: `why` has a sentence, or is "" when the
// line is empty.
std::optional<WireStep> parse_wire_step(std::string_view line, std::string& why);

// A whole script. nullopt: `why` has "line 3: ...".
std::optional<std::vector<WireStep>> parse_wire_script(std::string_view text, std::string& why);

// For --help.
extern const char* const kWireScriptHelp;

}  // namespace petrel::tools
