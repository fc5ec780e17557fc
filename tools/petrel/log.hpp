#pragma once

#include <string_view>

#include "daemons/context.hpp"

// The program's log: lines on stderr, "12:34:56.789 info: ...". Thread-safe.

namespace petrel::tools {

void set_log_level(LogLevel lowest) noexcept;  // kWarning until set.
bool is_logged(LogLevel level) noexcept;       // To skip the making of a text that nobody sees.
// The lowest level that is logged, as --log-level takes it.
const char* log_level_name() noexcept;
void log(LogLevel level, std::string_view text);

}  // namespace petrel::tools
