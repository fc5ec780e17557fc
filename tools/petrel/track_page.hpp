#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/petrel/ledger_report.hpp"
#include "tools/petrel/life.hpp"
#include "tools/petrel/log_event.hpp"

// What `petrel track --html` writes: one page that needs nothing else, no script, no network.

namespace petrel::tools {

// How many values lie in which range: latencies by powers of two from below 1 ms to above 2 min,
// attempts by number up to 12 and more.
class Histogram {
public:
    enum class Kind : std::uint8_t { kMilliseconds, kAttempts };
    static constexpr std::size_t kBars = 19;

    explicit Histogram(Kind kind) : kind_(kind) {}
    void add(double value);
    std::uint64_t total() const noexcept { return total_; }
    std::size_t size() const noexcept { return kind_ == Kind::kMilliseconds ? kBars : 12; }
    std::uint64_t operator[](std::size_t bar) const { return counts_[bar]; }
    std::string label(std::size_t bar) const;

private:
    Kind kind_;
    std::array<std::uint64_t, kBars> counts_{};
    std::uint64_t total_ = 0;
};

class TrackPage {
public:
    static constexpr std::size_t kProblemsMax = 50;      // Timelines; how many more is said.
    static constexpr std::size_t kEntriesMax = 200;      // Of a timeline; likewise.
    static constexpr std::size_t kStormMarksMax = 5000;  // Faults without a message; the first.

    // `report` must have been made with room for kProblemsMax problems.
    explicit TrackPage(const Report& report);

    // Once for each message, then once more for each event of all files.
    void count(const JudgedMessage& message);
    void see(const LogEvent& event, std::string_view file, std::uint64_t line);
    // The whole page. `is_ok` as the exit status says.
    std::string render(bool is_ok) const;

private:
    struct Problem {
        JudgedMessage message;
        Life life;
    };
    struct StormMark {
        std::uint64_t ts = 0;
        std::string text;
    };

    void add_summary(std::string& page, bool is_ok) const;
    void add_problem(std::string& page, const Problem& problem, bool is_open) const;
    void add_timeline(std::string& page, const std::vector<Life::Entry>& entries) const;

    const Report& report_;
    std::vector<Problem> problems_;
    std::vector<StormMark> storm_;
    Histogram latency_{Histogram::Kind::kMilliseconds};
    Histogram attempts_{Histogram::Kind::kAttempts};
};

}  // namespace petrel::tools
