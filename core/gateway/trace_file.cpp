#include "core/gateway/trace_file.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <mutex>

#include "protocol/json_text.hpp"

namespace petrel {

struct TraceFile::Impl {
    std::FILE* file = nullptr;
    std::mutex mutex;
    std::string line;
};

namespace {

std::int64_t wall_now_ms() {
    using std::chrono::system_clock;
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

TraceFile::TraceFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<TraceFile>> TraceFile::open(const std::string& path) {
    auto impl = std::make_unique<Impl>();
    impl->file = std::fopen(path.c_str(), "ae");
    if (impl->file == nullptr) return std::error_code(errno, std::generic_category());
    // Whole lines only: what a killed process leaves ends at a line's end.
    std::setvbuf(impl->file, nullptr, _IOLBF, 4096);
    return std::unique_ptr<TraceFile>(new TraceFile(std::move(impl)));
}

TraceFile::~TraceFile() { std::fclose(impl_->file); }

void TraceFile::flush() {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    std::fflush(impl_->file);
}

void TraceFile::on_trace(const TraceEvent& event) {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    std::string& line = impl_->line;
    line.clear();
    JsonObjectWriter object(line);
    const auto text = [&object](std::string_view name, std::string_view value) {
        if (!value.empty()) object.text(name, value);
    };
    const auto number = [&object](std::string_view name, auto value) {
        if (value != 0) object.number(name, value);
    };
    text("event", event.event);
    number("ts", wall_now_ms());
    number("conn", event.connection);
    text("app", event.app);
    text("user", event.user);
    text("device", event.device);
    text("from", event.from);
    text("to", event.to);
    if (event.fp != nullptr && !event.fp->empty()) text("fp", event.fp->to_string());
    text("conv", event.conv);
    number("seq", event.seq);
    number("h", event.h);
    number("cseq", event.cseq);
    number("sendTs", event.send_ts);
    number("code", event.code);
    object.close();
    line += '\n';
    std::fwrite(line.data(), 1, line.size(), impl_->file);
}

}  // namespace petrel
