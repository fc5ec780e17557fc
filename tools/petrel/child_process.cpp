#include "tools/petrel/child_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <system_error>
#include <utility>

#include "tools/petrel/line_reader.hpp"

namespace petrel::tools {
namespace {

constexpr const char* kThisProgram = "/proc/self/exe";
constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;
constexpr int kExecFailed = 127;  // As a shell has it.
// A gateway that drains and an outbox that writes its last commit take well below a second.
constexpr std::chrono::seconds kFinishPatience{5};

std::string last_error(const char* what) {
    return std::string(what) + ": " + std::generic_category().message(errno);
}

// Sockets of the parent that live on in the child would keep connections open that were cut.
void close_from(int first) {
    if (::close_range(static_cast<unsigned>(first), UINT_MAX, 0) == 0) return;
    const long open_max = ::sysconf(_SC_OPEN_MAX);
    for (int descriptor = first; descriptor < open_max; ++descriptor) ::close(descriptor);
}

// Between fork and exec: nothing but system calls.
[[noreturn]] void become(char* const* arguments, int input, int output, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(kExecFailed);  // It died before it was asked for.
    ::setpgid(0, 0);
    ::dup2(input, STDIN_FILENO);
    ::dup2(output, STDOUT_FILENO);
    close_from(STDERR_FILENO + 1);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execv(kThisProgram, arguments);
    ::_exit(kExecFailed);
}

}  // namespace

bool ChildProcess::start(const std::vector<std::string>& arguments, OnLine on_line,
                         std::string& why) {
    std::array<int, 2> input{-1, -1};
    std::array<int, 2> output{-1, -1};
    // A socket, because only that can be written to without a SIGPIPE when the reader was killed.
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, input.data()) != 0) {
        why = last_error("socketpair");
        return false;
    }
    if (::pipe2(output.data(), O_CLOEXEC) != 0) {
        why = last_error("pipe");
        for (const int descriptor : input) ::close(descriptor);
        return false;
    }
    std::vector<char*> pointers;
    std::vector<std::string> copies{"petrel"};
    copies.insert(copies.end(), arguments.begin(), arguments.end());
    pointers.reserve(copies.size() + 1);
    for (std::string& copy : copies) pointers.push_back(copy.data());
    pointers.push_back(nullptr);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) become(pointers.data(), input[1], output[1], parent);
    if (pid_ < 0) why = last_error("fork");
    ::close(input[1]);
    ::close(output[1]);
    if (pid_ < 0) {
        ::close(input[0]);
        ::close(output[0]);
        return false;
    }
    input_ = input[0];
    unwritten_.clear();
    has_ended_ = false;
    reader_ = std::thread([this, descriptor = output[0], on_line = std::move(on_line)] {
        read_lines(descriptor, on_line);
    });
    return true;
}

void ChildProcess::read_lines(int descriptor, const OnLine& on_line) {
    LineReader reader(descriptor, kLineBytesMax);
    std::string line;
    for (;;) {
        const auto status = reader.next(line, INT_MAX, -1);
        if (status == LineReader::Status::kEnd) break;
        if (status == LineReader::Status::kLine) on_line(line);
    }
    ::close(descriptor);
    const std::lock_guard<std::mutex> lock(mutex_);
    has_ended_ = true;
    changed_.notify_all();
}

bool ChildProcess::is_running() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return !has_ended_;
}

void ChildProcess::write(std::string_view text) {
    if (input_ < 0) return;
    unwritten_ += text;
    flush();
}

void ChildProcess::flush() {
    while (input_ >= 0 && !unwritten_.empty()) {
        const ssize_t count =
            ::send(input_, unwritten_.data(), unwritten_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return;
        unwritten_.erase(0, static_cast<std::size_t>(count));
    }
}

void ChildProcess::close_input() {
    if (const int descriptor = std::exchange(input_, -1); descriptor >= 0) ::close(descriptor);
}

int ChildProcess::wait_for_end() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    if (reader_.joinable()) reader_.join();
    close_input();
    return status;
}

void ChildProcess::kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    wait_for_end();
}

bool ChildProcess::finish() {
    if (pid_ < 0) return false;
    close_input();
    ::kill(pid_, SIGTERM);
    {
        std::unique_lock<std::mutex> lock(mutex_);
        if (!changed_.wait_for(lock, kFinishPatience, [this] { return has_ended_; })) {
            ::kill(pid_, SIGKILL);
        }
    }
    const int status = wait_for_end();
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace petrel::tools
