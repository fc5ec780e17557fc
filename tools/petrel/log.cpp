#include "tools/petrel/log.hpp"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <string>

namespace petrel::tools {
namespace {

std::atomic<int> lowest_level{static_cast<int>(LogLevel::kWarning)};

std::string_view level_name(LogLevel level) {
    switch (level) {
        case LogLevel::kDebug: return "debug";
        case LogLevel::kInfo: return "info";
        case LogLevel::kWarning: return "warning";
        case LogLevel::kError: return "error";
    }
    return "?";
}

}  // namespace

void set_log_level(LogLevel lowest) noexcept { lowest_level = static_cast<int>(lowest); }

bool is_logged(LogLevel level) noexcept { return static_cast<int>(level) >= lowest_level; }

const char* log_level_name() noexcept {
    switch (static_cast<LogLevel>(lowest_level.load())) {
        case LogLevel::kDebug: return "debug";
        case LogLevel::kInfo: return "info";
        case LogLevel::kWarning: return "warn";
        case LogLevel::kError: return "error";
    }
    return "warn";
}

void log(LogLevel level, std::string_view text) {
    if (!is_logged(level)) return;
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    std::tm local{};
    localtime_r(&now.tv_sec, &local);
    std::array<char, 32> stamp{};
    std::snprintf(stamp.data(), stamp.size(), "%02d:%02d:%02d.%03ld ", local.tm_hour, local.tm_min,
                  local.tm_sec, now.tv_nsec / 1'000'000);
    std::string line(stamp.data());
    line += level_name(level);
    line += ": ";
    line += text;
    line += '\n';
    // One write, so that lines of several threads and processes do not mix.
    std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace petrel::tools
