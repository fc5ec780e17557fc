#include "tools/petrel/json_line.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <mutex>

#include "protocol/utf8.hpp"

namespace petrel::tools {

struct LineWriter::State {
    std::mutex mutex;
    std::FILE* file = nullptr;
    bool is_owned = false;
    bool has_failed = false;
    std::string buffer;  // Of the line and its newline; keeps its capacity.
};

LineWriter::LineWriter(std::FILE* file, bool is_owned) : state_(std::make_unique<State>()) {
    state_->file = file;
    state_->is_owned = is_owned;
}

LineWriter::~LineWriter() {
    if (state_->is_owned) std::fclose(state_->file);
}

LineWriter& LineWriter::standard_output() {
    // Never destroyed: threads may print until the process ends.
    static LineWriter& writer = *new LineWriter(stdout, false);
    return writer;
}

std::unique_ptr<LineWriter> LineWriter::open(const std::string& path, std::string& why) {
    std::FILE* file = std::fopen(path.c_str(), "ae");
    if (file == nullptr) {
        why = "cannot write " + path + ": " + std::strerror(errno);
        return nullptr;
    }
    return std::unique_ptr<LineWriter>(new LineWriter(file, true));
}

void LineWriter::write(std::string_view line) {
    const std::lock_guard lock(state_->mutex);
    if (state_->has_failed) return;
    state_->buffer.assign(line);
    state_->buffer += '\n';
    const std::string& buffer = state_->buffer;
    const bool is_written =
        std::fwrite(buffer.data(), 1, buffer.size(), state_->file) == buffer.size();
    if (!is_written || std::fflush(state_->file) != 0) state_->has_failed = true;
}

bool LineWriter::has_failed() const {
    const std::lock_guard lock(state_->mutex);
    return state_->has_failed;
}

JsonLine::JsonLine(std::string_view event) { text("event", event); }

void JsonLine::begin(std::string_view name) {
    line_.append(line_.empty() ? "{\"" : ",\"");
    line_.append(name).append("\":");
}

JsonLine& JsonLine::text(std::string_view name, std::string_view value) {
    begin(name);
    if (is_valid_utf8(value)) {
        append_json_string(line_, value);
    } else {
        append_json_string(line_, to_valid_utf8(value));
    }
    return *this;
}

JsonLine& JsonLine::real(std::string_view name, double value) {
    if (!std::isfinite(value)) return null(name);
    begin(name);
    std::array<char, 400> digits{};  // The longest double in fixed notation has 309 of them.
    const auto result = std::to_chars(digits.data(), digits.data() + digits.size(), value,
                                      std::chars_format::fixed, 3);
    std::string_view text(digits.data(), static_cast<std::size_t>(result.ptr - digits.data()));
    while (text.back() == '0') text.remove_suffix(1);
    if (text.back() == '.') text.remove_suffix(1);
    line_ += text;
    return *this;
}

JsonLine& JsonLine::real(std::string_view name, const std::optional<double>& value) {
    return value ? real(name, *value) : null(name);
}

JsonLine& JsonLine::boolean(std::string_view name, bool value) {
    begin(name);
    line_.append(value ? "true" : "false");
    return *this;
}

JsonLine& JsonLine::null(std::string_view name) {
    begin(name);
    line_.append("null");
    return *this;
}

void JsonLine::print(LineWriter& out) { out.write(take()); }

std::string JsonLine::take() {
    line_ += '}';
    return std::move(line_);
}

std::int64_t wall_now_ms() {
    using std::chrono::system_clock;
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               system_clock::now().time_since_epoch())
        .count();
}

void print_text(std::string_view text) { LineWriter::standard_output().write(text); }

std::string to_valid_utf8(std::string_view text) {
    if (is_valid_utf8(text)) return std::string(text);
    std::string out;
    out.reserve(text.size() + 16);
    while (!text.empty()) {
        std::size_t length = 0;
        for (std::size_t n = 1; n <= 4 && n <= text.size() && length == 0; ++n) {
            if (is_valid_utf8(text.substr(0, n))) length = n;
        }
        if (length == 0) {
            out += "\xef\xbf\xbd";
            text.remove_prefix(1);
        } else {
            out += text.substr(0, length);
            text.remove_prefix(length);
        }
    }
    return out;
}

}  // namespace petrel::tools
