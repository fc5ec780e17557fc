#include "tools/petrel/line_reader.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace petrel::tools {

std::optional<LineReader::Status> LineReader::take(std::string& line) {
    std::size_t end = buffer_.find('\n', scanned_);
    if (end == std::string::npos) {
        // Once a chunk, not once a line: the rest moves to the front.
        buffer_.erase(0, begin_);
        begin_ = 0;
        scanned_ = buffer_.size();
        if (buffer_.size() > line_bytes_max_) {
            buffer_.clear();
            scanned_ = 0;
            is_skipping_ = true;
        }
        if (!is_at_end_ || (buffer_.empty() && !is_skipping_)) return std::nullopt;
        end = buffer_.size();
    }
    line.assign(buffer_, begin_, end - begin_);
    begin_ = std::min(end + 1, buffer_.size());
    scanned_ = begin_;
    if (is_skipping_ || line.size() > line_bytes_max_) {
        is_skipping_ = false;
        return Status::kTooLong;
    }
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return Status::kLine;
}

LineReader::Status LineReader::next(std::string& line, int timeout_ms, int stop_descriptor) {
    for (;;) {
        if (const auto taken = take(line)) return *taken;
        if (is_at_end_) return Status::kEnd;
        pollfd wait[2] = {{descriptor_, POLLIN, 0}, {stop_descriptor, POLLIN, 0}};
        const int ready = poll(wait, 2, timeout_ms);
        if (ready < 0 && errno != EINTR) is_at_end_ = true;
        if (wait[1].revents != 0) return Status::kStopped;
        if (ready <= 0) {
            if (is_at_end_) continue;
            return Status::kTimeout;
        }
        char chunk[65'536];
        const ssize_t count = read(descriptor_, chunk, sizeof chunk);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (count <= 0) {
            is_at_end_ = true;
        } else {
            buffer_.append(chunk, static_cast<std::size_t>(count));
        }
    }
}

}  // namespace petrel::tools
