#include "tools/petrel/process_metrics.hpp"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace petrel::tools {
namespace {

std::string read_file(const char* path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

// When the machine started, as time() counts; 0: unknown.
double boot_time() {
    std::istringstream lines(read_file("/proc/stat"));
    for (std::string word; lines >> word;) {
        if (word != "btime") continue;
        double seconds = 0;
        return lines >> seconds ? seconds : 0;
    }
    return 0;
}

std::uint64_t open_descriptors() {
    DIR* const folder = ::opendir("/proc/self/fd");
    if (folder == nullptr) return 0;
    std::uint64_t count = 0;
    while (const dirent* const entry = ::readdir(folder)) {
        if (entry->d_name[0] != '.') ++count;
    }
    ::closedir(folder);
    return count > 0 ? count - 1 : 0;  // Without the one that counts.
}

}  // namespace

void write_process_metrics(MetricsText& text) {
    // Behind the name, which may hold anything, the fields are numbered from 3 (proc(5)).
    const std::string stat = read_file("/proc/self/stat");
    const std::size_t name_end = stat.rfind(')');
    if (name_end != std::string::npos) {
        std::istringstream fields(stat.substr(name_end + 1));
        std::string skipped;
        for (int i = 3; i < 14; ++i) fields >> skipped;
        double user = 0, system = 0, start = 0, threads = 0;
        std::uint64_t memory = 0, pages = 0;
        fields >> user >> system;
        for (int i = 16; i < 20; ++i) fields >> skipped;
        fields >> threads >> skipped >> start >> memory >> pages;
        const double ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
        const double booted = boot_time();
        if (fields && ticks > 0) {
            text.family("process_cpu_seconds_total", "counter", "CPU time, user and system")
                .sample_real((user + system) / ticks);
            text.family("process_threads", "gauge", "Threads").sample_real(threads);
            text.family("process_virtual_memory_bytes", "gauge", "Virtual memory").sample(memory);
            text.family("process_resident_memory_bytes", "gauge", "Resident memory")
                .sample(pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
            if (booted > 0) {
                text.family("process_start_time_seconds", "gauge", "Start, seconds since 1970")
                    .sample_real(booted + start / ticks);
            }
        }
    }
    text.family("process_open_fds", "gauge", "Open file descriptors").sample(open_descriptors());
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        text.family("process_max_fds", "gauge", "Most file descriptors that may be open")
            .sample(static_cast<std::uint64_t>(limit.rlim_cur));
    }
}

void write_store_size(const std::string& store, MetricsText& text) {
    if (store == ":memory:") return;
    text.family("petrel_store_bytes", "gauge", "Size of the store's files");
    for (const char* const part : {"", "-wal"}) {
        struct stat status {};
        const bool is_there = ::stat((store + part).c_str(), &status) == 0;
        text.sample("file", *part == '\0' ? "main" : "wal",
                    is_there ? static_cast<std::uint64_t>(status.st_size) : 0);
    }
}

}  // namespace petrel::tools
