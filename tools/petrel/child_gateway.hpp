#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "tools/petrel/child_process.hpp"

namespace petrel::tools {

// What a process has used so far; nothing when it cannot be asked.
std::optional<std::chrono::nanoseconds> cpu_time_of(pid_t process);
struct Memory {
    std::uint64_t resident_bytes = 0;
    std::uint64_t resident_max_bytes = 0;  // The most it ever was.
};
std::optional<Memory> memory_of(pid_t process);

// `petrel gateway` as a child process, so that its CPU time and memory are its own. It listens on a
// free port of loopback and dies with this process, whatever that dies of; so does the temporary
// folder. Start it before any thread: who removes the folder is forked. Thread-compatible.
class ChildGateway {
public:
    struct Options {
        std::string store;    // "": a file in a temporary folder, below $TMPDIR or /tmp.
        unsigned shards = 0;  // 0: the gateway's own default.
        unsigned window = 64;
    };

    explicit ChildGateway(Options options);
    ~ChildGateway();  // Stops.
    ChildGateway(const ChildGateway&) = delete;
    ChildGateway& operator=(const ChildGateway&) = delete;

    // False with a sentence in `why`.
    bool start(std::string& why);
    void stop();  // Drains, or kills it after some seconds. Idempotent.

    pid_t process() const { return child_.id(); }  // -1 while there is none.
    const std::string& url() const { return url_; }
    const std::string& store() const { return options_.store; }  // As it was given to the gateway.
    // Of the store's file; "" of one in memory.
    std::string folder() const;

private:
    bool make_folder(std::string& why);
    bool wait_for_url(std::string& why);

    Options options_;
    std::string folder_;  // Ours, to be removed.
    pid_t janitor_ = -1;
    int janitor_pipe_ = -1;
    std::string url_;
    std::mutex mutex_;  // Of the next two.
    std::condition_variable changed_;
    std::string first_line_;
    ChildProcess child_;
};

}  // namespace petrel::tools
