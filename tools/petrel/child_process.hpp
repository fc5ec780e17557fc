#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <thread>
#include <vector>

namespace petrel::tools {

// This program once more, as a process of its own that may be killed at any moment. It never
// outlives its parent, however that ends (PR_SET_PDEATHSIG), nor this object, and a Ctrl-C at the
// terminal reaches only the parent. Thread-compatible; use it on the thread that lives longest: the
// kernel takes the end of the thread that started the child for the end of its parent.
class ChildProcess {
public:
    // Each line of its standard output, on a thread of its own, in order.
    using OnLine = std::function<void(const std::string& line)>;

    ChildProcess() = default;
    ~ChildProcess() { kill(); }
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;

    // `arguments`: those of the command line. False with a sentence in `why`. Not while it runs.
    bool start(const std::vector<std::string>& arguments, OnLine on_line, std::string& why);
    bool is_running() const;
    pid_t id() const { return pid_; }  // -1 while there is none.

    // To its standard input. Never waits: what finds no room goes with a later write or flush.
    void write(std::string_view text);
    void flush();

    // SIGKILL. When it returns, all that the process ever wrote was handed to on_line. Idempotent.
    void kill();
    // Closes its standard input, asks it to end (SIGTERM) and waits; true when it ended with 0 in
    // time. Otherwise it is killed.
    bool finish();

private:
    void read_lines(int descriptor, const OnLine& on_line);
    int wait_for_end();
    void close_input();

    pid_t pid_ = -1;
    int input_ = -1;
    std::string unwritten_;
    std::thread reader_;
    mutable std::mutex mutex_;  // Guards the next one.
    std::condition_variable changed_;
    bool has_ended_ = true;  // Its standard output has.
};

}  // namespace petrel::tools
