#pragma once

#include <string>
#include <string_view>

#include "core/gateway/session_list.hpp"
#include "daemons/context.hpp"

// The program's log, by spdlog: lines on stderr, "12:34:56.789 info: ...", or as log_to() says.
// What comes from outside cannot make a line of its own: control characters are escaped.
// Thread-safe.

namespace petrel::tools {

enum class LogFormat { kText, kJson };

// `file` empty: stderr. False, with a sentence in `why`, when it cannot be written; nothing has
// changed then.
bool log_to(const std::string& file, LogFormat format, std::string& why);
// Opens the file again by its name, after somebody has moved it away. When that fails the log goes
// on in the old one, and says so.
void reopen_log();

void set_log_level(LogLevel lowest) noexcept;  // kWarning until set.
bool is_logged(LogLevel level) noexcept;       // To skip the making of a text that nobody sees.
// The lowest level that is logged, as --log-level takes it.
const char* log_level_name() noexcept;
void log(LogLevel level, std::string_view text, const LogContext& about = {});

// A line without its newline, for tests too.
std::string format_log_line(LogFormat format, LogLevel level, std::string_view text,
                            const LogContext& about, std::int64_t wall_ms);

}  // namespace petrel::tools
