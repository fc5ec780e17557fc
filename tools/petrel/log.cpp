#include "tools/petrel/log.hpp"

#include <spdlog/details/file_helper.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <mutex>
#include <utility>

#include "protocol/json_text.hpp"
#include "tools/petrel/json_line.hpp"

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

// A file that can be opened anew under the same name. spdlog's own has no way to do so.
class FileSink final : public spdlog::sinks::base_sink<std::mutex> {
public:
    explicit FileSink(std::string name) : name_(std::move(name)) { file_ = open(); }

    void reopen() {
        auto fresh = open();  // Before the old one goes: it may fail.
        const std::lock_guard<std::mutex> lock(mutex_);
        file_ = std::move(fresh);
    }

private:
    std::unique_ptr<spdlog::details::file_helper> open() const {
        // spdlog would make the folders of a misspelt name, for whoever may read what.
        const std::filesystem::path folder = std::filesystem::path(name_).parent_path();
        std::error_code ignored;
        if (!folder.empty() && !std::filesystem::is_directory(folder, ignored)) {
            throw spdlog::spdlog_ex("no such folder");
        }
        auto file = std::make_unique<spdlog::details::file_helper>();
        file->open(name_);
        return file;
    }
    void sink_it_(const spdlog::details::log_msg& message) override {
        spdlog::memory_buf_t line;
        formatter_->format(message, line);
        file_->write(line);
        file_->flush();  // A line that is not in the file when the process dies is of no use.
    }
    void flush_() override { file_->flush(); }

    const std::string name_;
    std::unique_ptr<spdlog::details::file_helper> file_;
};

struct Log {
    LogFormat format = LogFormat::kText;
    std::shared_ptr<FileSink> file;
    std::shared_ptr<spdlog::logger> logger;
};

Log make_log(spdlog::sink_ptr sink, LogFormat format) {
    Log log;
    log.format = format;
    // The lines are made here; of spdlog's pattern only the newline is left.
    sink->set_formatter(std::make_unique<spdlog::pattern_formatter>("%v"));
    log.logger = std::make_shared<spdlog::logger>("petrel", std::move(sink));
    log.logger->set_level(spdlog::level::trace);
    // A full disk must not fill stderr as well; the default handler writes once a second.
    return log;
}

std::mutex mutex;  // Of the pointer only.
std::shared_ptr<const Log> current;

std::shared_ptr<const Log> get_log() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!current) {
        current = std::make_shared<const Log>(
            make_log(std::make_shared<spdlog::sinks::stderr_sink_mt>(), LogFormat::kText));
    }
    return current;
}

std::int64_t wall_now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::string time_text(LogFormat format, std::int64_t wall_ms) {
    const std::time_t seconds = static_cast<std::time_t>(wall_ms / 1000);
    std::tm parts{};
    std::array<char, 40> text{};
    const bool is_json = format == LogFormat::kJson;
    is_json ? ::gmtime_r(&seconds, &parts) : ::localtime_r(&seconds, &parts);
    const char* const pattern = is_json ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S";
    const std::size_t length = std::strftime(text.data(), text.size(), pattern, &parts);
    std::snprintf(text.data() + length, text.size() - length, is_json ? ".%03dZ" : ".%03d",
                  static_cast<int>(wall_ms % 1000));
    return text.data();
}

void append_escaped(std::string& out, std::string_view text) {
    for (const char c : text) {
        if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) {
            out += c;
        } else if (c == '\n') {
            out += "\\n";
        } else {
            std::array<char, 8> code{};
            std::snprintf(code.data(), code.size(), "\\x%02x", static_cast<unsigned char>(c));
            out += code.data();
        }
    }
}

std::string text_line(LogLevel level, std::string_view text, const LogContext& about,
                      std::int64_t wall_ms) {
    std::string line = time_text(LogFormat::kText, wall_ms);
    line += ' ';
    line += level_name(level);
    line += ": ";
    if (about.connection != 0) {
        line += "connection " + std::to_string(about.connection);
        for (const auto& [name, value] :
             {std::pair{" ", about.address}, std::pair{" session ", about.session},
              std::pair{" user ", about.user}, std::pair{" device ", about.device}}) {
            if (value.empty()) continue;
            line += name;
            append_escaped(line, value);
        }
        line += ": ";
    }
    append_escaped(line, text);
    return to_valid_utf8(line);
}

std::string json_line(LogLevel level, std::string_view text, const LogContext& about,
                      std::int64_t wall_ms) {
    std::string line;
    JsonObjectWriter object(line);
    object.text("time", time_text(LogFormat::kJson, wall_ms));
    object.text("level", level_name(level));
    object.text("text", to_valid_utf8(text));
    if (about.connection != 0) object.number("connection", about.connection);
    for (const auto& [name, value] :
         {std::pair{"session", about.session}, std::pair{"address", about.address},
          std::pair{"app", about.app}, std::pair{"user", about.user},
          std::pair{"device", about.device}}) {
        if (!value.empty()) object.text(name, to_valid_utf8(value));
    }
    object.close();
    return line;
}

}  // namespace

bool log_to(const std::string& file, LogFormat format, std::string& why) {
    Log next;
    if (file.empty()) {
        next = make_log(std::make_shared<spdlog::sinks::stderr_sink_mt>(), format);
    } else {
        try {
            auto sink = std::make_shared<FileSink>(file);
            next = make_log(sink, format);
            next.file = std::move(sink);
        } catch (const spdlog::spdlog_ex&) {
            // Its sentence names its own internals.
            why = file +
                  " cannot be written: check that its folder exists and that you may "
                  "write there";
            return false;
        }
    }
    const std::lock_guard<std::mutex> lock(mutex);
    current = std::make_shared<const Log>(std::move(next));
    return true;
}

void reopen_log() {
    const std::shared_ptr<const Log> now = get_log();
    if (!now->file) return;
    try {
        now->file->reopen();
    } catch (const spdlog::spdlog_ex&) {
        log(LogLevel::kError, "the log file cannot be opened again: it goes on in the old one");
    }
}

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

std::string format_log_line(LogFormat format, LogLevel level, std::string_view text,
                            const LogContext& about, std::int64_t wall_ms) {
    return format == LogFormat::kJson ? json_line(level, text, about, wall_ms)
                                      : text_line(level, text, about, wall_ms);
}

void log(LogLevel level, std::string_view text, const LogContext& about) {
    if (!is_logged(level)) return;
    const std::shared_ptr<const Log> now = get_log();
    const std::string line = format_log_line(now->format, level, text, about, wall_now());
    now->logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace petrel::tools
