#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace petrel::tools {

// One line of an event log (DESIGN section 6), as far as the ledger reads it. Texts that are not
// there are "", and so are those that are null. They live until the next parse.
struct LogEvent {
    std::string_view event;
    std::string_view app = "default";
    std::string_view user;
    std::string_view device;
    std::string_view from;
    std::string_view to;
    std::string_view fp;
    std::string_view conv;
    std::string_view epoch;
    std::string_view what;       // Of storm and settled.
    std::string_view direction;  // Of storm.
    std::string_view url;
    std::optional<std::uint64_t> cseq;
    std::optional<std::uint64_t> seq;
    std::optional<std::uint64_t> height;  // "h"
    std::optional<std::uint64_t> ts;
    std::optional<std::uint64_t> delivered;
    std::optional<std::uint64_t> conn;
    std::optional<std::uint64_t> attempts;  // Also "attempt".
    std::optional<std::uint64_t> code;
    std::optional<double> ms;
    bool is_redelivered = false;
    bool has_qos = true;  // Unless "qos":false.
};

// Parses lines; keeps its buffers. Thread-compatible.
class LogEventParser {
public:
    static constexpr int kDepthMax = 32;

    // nullptr when the line is no JSON object, or one nested deeper than kDepthMax.
    const LogEvent* parse(std::string_view line);

private:
    std::string scratch_;  // Parsed in place: the texts of the event point into it.
    LogEvent event_;
};

}  // namespace petrel::tools
