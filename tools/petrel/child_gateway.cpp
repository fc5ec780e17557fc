#include "tools/petrel/child_gateway.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace petrel::tools {
namespace {

constexpr const char* kMemory = ":memory:";
// Opening a large store takes a while; a hang must end.
constexpr std::chrono::seconds kStartMax{60};

// Removes the folder once nobody holds the pipe's other end: when its owner is done, or dead.
[[noreturn]] void keep_clean(int pipe, const std::string& folder) {
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGTERM, SIG_IGN);
    ::signal(SIGHUP, SIG_IGN);
    // Whoever reads what the owner prints must not wait for this process.
    ::close(STDOUT_FILENO);
    char byte = 0;
    while (::read(pipe, &byte, 1) != 0) {
    }
    // A gateway that is just being killed may still add a file.
    for (int tries = 0; tries < 20; ++tries) {
        std::error_code error;
        std::filesystem::remove_all(folder, error);
        if (!error && !std::filesystem::exists(folder, error)) break;
        std::this_thread::sleep_for(std::chrono::milliseconds{100});
    }
    ::_exit(0);
}

}  // namespace

std::optional<std::chrono::nanoseconds> cpu_time_of(pid_t process) {
    if (process <= 0) return std::nullopt;  // 0 and below mean others than a process.
    clockid_t clock{};
    timespec time{};
    if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0) {
        return std::nullopt;
    }
    return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
}

std::optional<Memory> memory_of(pid_t process) {
    if (process <= 0) return std::nullopt;
    std::ifstream file("/proc/" + std::to_string(process) + "/status");
    Memory memory;
    for (std::string line; std::getline(file, line);) {
        unsigned long long kib = 0;
        // The kernel wrote them, and they fit. NOLINTBEGIN(cert-err34-c)
        if (std::sscanf(line.c_str(), "VmRSS: %llu kB", &kib) == 1) {
            memory.resident_bytes = kib * 1024;
        } else if (std::sscanf(line.c_str(), "VmHWM: %llu kB", &kib) == 1) {
            memory.resident_max_bytes = kib * 1024;
        }
        // NOLINTEND(cert-err34-c)
    }
    if (memory.resident_bytes == 0) return std::nullopt;
    return memory;
}

ChildGateway::ChildGateway(Options options) : options_(std::move(options)) {}

ChildGateway::~ChildGateway() { stop(); }

std::string ChildGateway::folder() const {
    if (options_.store == kMemory) return "";
    const auto parent = std::filesystem::path(options_.store).parent_path();
    return parent.empty() ? "." : parent.string();
}

bool ChildGateway::make_folder(std::string& why) {
    const char* const parent = std::getenv("TMPDIR");
    std::string path = parent != nullptr && *parent != '\0' ? parent : "/tmp";
    path += "/petrel-bench-XXXXXX";
    int ends[2] = {-1, -1};
    if (mkdtemp(path.data()) == nullptr || ::pipe2(ends, O_CLOEXEC) != 0) {
        why = "cannot make a folder below " + path + ": " + std::strerror(errno);
        return false;
    }
    janitor_ = ::fork();
    if (janitor_ == 0) {
        ::close(ends[1]);
        keep_clean(ends[0], path);
    }
    ::close(ends[0]);
    janitor_pipe_ = ends[1];
    if (janitor_ < 0) {
        why = std::string("cannot fork: ") + std::strerror(errno);
        std::error_code error;
        std::filesystem::remove(path, error);
        return false;
    }
    folder_ = path;
    options_.store = path + "/bench.db";
    return true;
}

bool ChildGateway::start(std::string& why) {
    if (options_.store.empty() && !make_folder(why)) return false;
    std::vector<std::string> arguments{
        "gateway", "--listen",    "127.0.0.1:0", "--store",  options_.store,
        "--json",  "--log-level", "error",       "--window", std::to_string(options_.window)};
    // All clients come from one address: its limits would be what is measured.
    for (const char* const limit :
         {"--connections-max", "--connections-per-address-max", "--before-login-max"}) {
        arguments.emplace_back(limit);
        arguments.emplace_back("1000000");
    }
    arguments.emplace_back("--login-rate-per-address");
    arguments.emplace_back("0");
    if (options_.shards != 0) {
        arguments.emplace_back("--shards");
        arguments.push_back(std::to_string(options_.shards));
    }
    const auto on_line = [this](const std::string& line) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (first_line_.empty()) first_line_ = line;
        changed_.notify_all();
    };
    if (child_.start(arguments, on_line, why) && wait_for_url(why)) return true;
    stop();
    return false;
}

// {"event":"listening","url":"ws://127.0.0.1:9600/ws","port":9600}
bool ChildGateway::wait_for_url(std::string& why) {
    std::string line;
    {
        const auto give_up = std::chrono::steady_clock::now() + kStartMax;
        std::unique_lock<std::mutex> lock(mutex_);
        // Its end wakes nobody: looked at now and then.
        while (first_line_.empty() && child_.is_running() &&
               std::chrono::steady_clock::now() < give_up) {
            changed_.wait_for(lock, std::chrono::milliseconds{20});
        }
        line = first_line_;
    }
    constexpr std::string_view kKey = "\"url\":\"";
    const std::size_t key = line.find(kKey);
    const std::size_t end = key == std::string::npos ? key : line.find('"', key + kKey.size());
    if (end == std::string::npos) {
        why = line.empty() ? "it does not come up" : "it says " + line;
        return false;
    }
    url_ = line.substr(key + kKey.size(), end - key - kKey.size());
    return true;
}

void ChildGateway::stop() {
    child_.finish();
    if (janitor_pipe_ >= 0) ::close(std::exchange(janitor_pipe_, -1));
    if (janitor_ > 0) ::waitpid(std::exchange(janitor_, -1), nullptr, 0);
}

}  // namespace petrel::tools
