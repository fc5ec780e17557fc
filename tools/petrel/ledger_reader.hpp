#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "tools/petrel/ledger.hpp"
#include "tools/petrel/log_event.hpp"

namespace petrel::tools {

// Reads event logs of clients (send, listen, chat with --json) and gateways (--trace) into a
// ledger. What kind a file is shows from its lines. Unknown events are skipped. Thread-compatible.
class LedgerReader {
public:
    struct Options {
        std::size_t line_bytes_max = 16 * 1024 * 1024;  // A longer line counts as broken.
    };
    struct Totals {
        std::uint64_t lines = 0;
        std::uint64_t events = 0;     // Of a kind that the ledger knows.
        std::uint64_t truncated = 0;  // Last lines that a killed process left unfinished.
        std::uint64_t broken = 0;     // Others: no JSON object, or without what they need.
        std::string first_broken;     // "file:line"
    };
    // Every known event, before the ledger gets it; those of storms and clients' traces too.
    using Observer =
        std::function<void(const LogEvent&, std::string_view file, std::uint64_t line)>;

    explicit LedgerReader(Ledger& ledger) : LedgerReader(ledger, Options{}) {}
    LedgerReader(Ledger& ledger, Options options) : ledger_(ledger), options_(options) {}

    void set_observer(Observer observer) { observer_ = std::move(observer); }

    // "-" is the standard input. False when the file cannot be read, with the reason in `why`.
    bool read_file(const std::string& path, std::string& why);
    // The text of a whole log.
    void read_text(std::string_view name, std::string_view text);

    const Totals& totals() const noexcept { return totals_; }

private:
    // What is known of the log being read.
    struct Log {
        std::string name;
        Ledger::Source source = 0;
        std::uint64_t line = 0;
        std::string sender;  // "" until a line has said it.
        bool has_looked_ahead = false;
        std::function<void(const std::function<bool(std::string_view)>&)> scan_again;
    };

    void take_line(Log& log, std::string_view line, bool is_whole);
    bool take_event(Log& log, const LogEvent& event);
    bool take_sender_event(Log& log, const LogEvent& event);
    bool take_device_event(Log& log, const LogEvent& event);
    bool take_gateway_event(Log& log, const LogEvent& event);
    std::string_view sender_of(Log& log, const LogEvent& event);
    void note_broken(const Log& log);
    void observe(const Log& log, const LogEvent& event);

    Ledger& ledger_;
    Options options_;
    Observer observer_;
    LogEventParser parser_;
    Totals totals_;
};

}  // namespace petrel::tools
