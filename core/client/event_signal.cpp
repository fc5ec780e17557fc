#include "core/client/event_signal.hpp"

#include <fcntl.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/eventfd.h>
#endif

#include <cstdint>

namespace petrel {

EventSignal::EventSignal() {
#if defined(__linux__)
    read_fd_ = write_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
#else
    int fds[2];
    if (pipe(fds) != 0) return;
    for (const int fd : fds) {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    read_fd_ = fds[0];
    write_fd_ = fds[1];
#endif
}

EventSignal::~EventSignal() {
    if (write_fd_ != read_fd_) close(write_fd_);
    if (read_fd_ >= 0) close(read_fd_);
}

// Eight bytes: what an eventfd wants, and no harm to a pipe.
void EventSignal::set() {
    if (is_set_ || write_fd_ < 0) return;
    const std::uint64_t one = 1;
    is_set_ = write(write_fd_, &one, sizeof one) == sizeof one;
}

void EventSignal::clear() {
    if (!is_set_) return;
    std::uint64_t ignored = 0;
    is_set_ = read(read_fd_, &ignored, sizeof ignored) != sizeof ignored;
}

}  // namespace petrel
