#pragma once

namespace petrel {

// A file descriptor that is readable while it is set: for poll(2). Not synchronised.
class EventSignal {
public:
    EventSignal();
    ~EventSignal();
    EventSignal(const EventSignal&) = delete;
    EventSignal& operator=(const EventSignal&) = delete;

    void set();  // Idempotent, as is clear().
    void clear();
    int fd() const noexcept { return read_fd_; }  // -1: the system gave none.

private:
    int read_fd_ = -1;
    int write_fd_ = -1;  // The same on Linux.
    bool is_set_ = false;
};

}  // namespace petrel
