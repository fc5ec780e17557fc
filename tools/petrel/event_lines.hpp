#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/client/engine.hpp"
#include "tools/petrel/client_options.hpp"
#include "tools/petrel/json_line.hpp"

namespace petrel::tools {

// The --json lines that send, listen and chat have in common (DESIGN section 6), as `petrel track`
// reads them. Each call prints one line. Thread-safe.
class EventLines {
public:
    // `command` must outlive this object.
    EventLines(const ClientCommand& command, std::string device)
        : command_(command), device_(std::move(device)) {}

    // ---- of whoever is logged in ----
    void online() const;
    void offline(const std::string& reason) const;
    void message(const MessageEvent& message) const;
    void inbox_break(const BreakEvent& gap) const;
    void delivered(const DeliveredEvent& receipt) const;

    // ---- of a sender ----
    void queued(const Fingerprint& fp, const std::string& to, bool qos) const;
    // `ms` since it was queued; nullopt: not known.
    void accepted(const OutcomeRecord& record, std::optional<double> ms, bool is_correction) const;
    void rejected(const Fingerprint& fp, const std::string& to, int code) const;
    // "expired" or "lost".
    void given_up(std::string_view event, const Fingerprint& fp, const std::string& to,
                  std::optional<unsigned> attempts) const;

private:
    // Of the --trace file, if there is one: when it was, of whom, which message.
    void trace(std::string_view event, const Fingerprint& fp, std::string_view what = {}) const;
    JsonLine of_device(std::string_view event) const;
    JsonLine of_sent(std::string_view event, const Fingerprint& fp) const;

    const ClientCommand& command_;
    std::string device_;
};

// For people: what could command their terminal (control characters but newline and tab) becomes
// U+FFFD, and so does what is not UTF-8.
std::string printable(std::string_view text);

// How many of one's messages ended how.
struct SendTotals {
    std::uint64_t sent = 0;  // Taken by the outbox.
    std::uint64_t accepted = 0, rejected = 0, expired = 0, lost = 0;
    std::uint64_t pending = 0;  // In the outbox file, for the next time.

    bool has_failed() const { return rejected + expired + lost + pending > 0; }
    void print_json() const;
    std::string to_string() const;  // "3 sent, 3 accepted, ..."
};

}  // namespace petrel::tools
