#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/petrel/log_event.hpp"

namespace petrel::tools {

// The life of the messages with one fingerprint, from queueing to handling, as the logs tell it.
// (Two senders may use the same one: then it holds the lives of both.) Thread-compatible.
class Life {
public:
    static constexpr std::size_t kEntriesMax = 10'000;  // Later ones are left out.

    struct Entry {
        int stage = 0;  // Entries are told in this order, and within one as they were read.
        std::string file;
        std::uint64_t line = 0;
        std::string event;
        std::string detail;
        std::uint64_t ts = 0;    // Milliseconds since the epoch; 0: the log does not say.
        std::uint64_t conn = 0;  // 0: none.
    };

    explicit Life(std::string_view fp) : fp_(fp) {}

    void see(const LogEvent& event, std::string_view file, std::uint64_t line);
    // In the order of the stages: queued, attempts, storm, gateway, outcome, pushed, arrived,
    // handed up, handled, receipt; within one as they were read.
    std::vector<Entry> entries() const;

private:
    struct Receipt {
        Entry entry;
        std::string conv;
        std::uint64_t delivered = 0;
    };
    struct Push {
        std::string device;  // "app/user/device"
        std::uint64_t seq = 0;
        bool is_handled = false;
    };

    std::string fp_;
    std::vector<Entry> entries_;
    std::vector<Push> pushes_;
    std::size_t open_pushes_ = 0;
    std::vector<Receipt> receipts_;  // Of anything: a file tells late which conversation this is.
    std::string conv_;
    std::uint64_t cseq_ = 0;
};

}  // namespace petrel::tools
