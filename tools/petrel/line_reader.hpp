#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace petrel::tools {

// Lines of a descriptor, without waiting longer than told. A last line without a newline counts;
// a carriage return before the newline does not.
class LineReader {
public:
    explicit LineReader(int descriptor, std::size_t line_bytes_max)
        : descriptor_(descriptor), line_bytes_max_(line_bytes_max) {}

    enum class Status { kLine, kTimeout, kStopped, kEnd, kTooLong };
    // Waits for a line, the end, `timeout_ms`, or `stop_descriptor` (-1: none) becoming readable.
    // kTooLong: the line was over the limit and is skipped.
    Status next(std::string& line, int timeout_ms, int stop_descriptor);

private:
    std::optional<Status> take(std::string& line);

    int descriptor_;
    std::size_t line_bytes_max_;
    std::string buffer_;
    std::size_t begin_ = 0;     // Of the next line.
    std::size_t scanned_ = 0;   // No newline before it.
    bool is_skipping_ = false;  // The rest of a line that was too long.
    bool is_at_end_ = false;
};

}  // namespace petrel::tools
