#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/petrel/child_process.hpp"
#include "tools/petrel/storm_proxy.hpp"

// The parts of `petrel demo`, each of which can be taken down and put up again.

namespace petrel::tools {

// A folder below $TMPDIR (or /tmp) that is removed with this object.
class TemporaryFolder {
public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    const std::string& path() const { return path_; }  // "" when there is none.

private:
    std::string path_;
};

// A gateway on a free port, in a process of its own, with its store in a file.
class DemoGateway {
public:
    DemoGateway(std::string store_file, std::string trace_file);

    // False with a sentence in `why`. Started again, it opens the same store at another port.
    bool start(std::string& why);
    void kill() { child_.kill(); }  // SIGKILL.
    // Drains. True when it then ended with 0. Idempotent.
    bool stop() { return child_.finish(); }
    bool is_running() const { return child_.is_running(); }

    const std::string& url() const { return url_; }

private:
    const std::vector<std::string> arguments_;
    std::string url_;
    ChildProcess child_;
};

// A storm in front of it, on a thread of its own.
class DemoStorm {
public:
    DemoStorm(std::string target_url, std::uint64_t seed, const Faults& faults);
    ~DemoStorm();  // Stops.

    bool start(std::string& why);
    void stop();  // Idempotent.
    // For connections from now on. Not before start().
    void set_target(const std::string& url);

    const std::string& url() const { return url_; }
    Storm::Stats stats() const;  // After stop().

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
    std::string url_;
};

}  // namespace petrel::tools
