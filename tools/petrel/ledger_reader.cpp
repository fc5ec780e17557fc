#include "tools/petrel/ledger_reader.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace petrel::tools {
namespace {

constexpr std::size_t kChunkBytes = 1024 * 1024;

// Calls take(line, is_whole) for each line; one over the limit is given empty and not whole. False
// from take ends it. Returns errno of a failed read, else 0.
template <class Take>
int for_each_line(int descriptor, std::size_t line_bytes_max, Take take) {
    std::string buffer;
    std::size_t used = 0;
    bool is_skipping = false;  // The rest of a line that was too long.
    for (;;) {
        buffer.resize(used + kChunkBytes);
        const ssize_t count = ::read(descriptor, buffer.data() + used, kChunkBytes);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno;
        if (count == 0) break;
        const std::size_t end = used + static_cast<std::size_t>(count);
        std::size_t begin = 0;
        const char* data = buffer.data();
        while (const void* found = std::memchr(data + begin, '\n', end - begin)) {
            const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - data);
            const std::string_view line(data + begin, at - begin);
            begin = at + 1;
            if (std::exchange(is_skipping, false)) continue;
            if (!take(line, true)) return 0;
        }
        used = end - begin;
        std::memmove(buffer.data(), data + begin, used);
        if (used > line_bytes_max) {
            if (!is_skipping && !take(std::string_view(), false)) return 0;
            is_skipping = true;
        }
        if (is_skipping) used = 0;
    }
    if (used > 0 && !is_skipping) take(std::string_view(buffer.data(), used), false);
    return 0;
}

// Where a new object begins within a line whose own object was cut off by a kill.
std::size_t find_glued(std::string_view line) {
    const std::size_t at = line.rfind("{\"event\":");
    return at == 0 ? std::string_view::npos : at;
}

bool is_blank(std::string_view line) {
    return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

struct NamedOutcome {
    std::string_view name;
    Outcome outcome;
};
constexpr NamedOutcome kOutcomes[] = {{"rejected", Outcome::kRejected},
                                      {"expired", Outcome::kExpired},
                                      {"cancelled", Outcome::kCancelled},
                                      {"lost", Outcome::kLost},
                                      {"unknown", Outcome::kUnknown}};

std::uint32_t to_attempts(const std::optional<std::uint64_t>& attempts, std::uint32_t absent) {
    if (!attempts) return absent;
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(*attempts, UINT32_MAX));
}

}  // namespace

bool LedgerReader::read_file(const std::string& path, std::string& why) {
    const bool is_stdin = path == "-";
    const int descriptor = is_stdin ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        why = "cannot read " + path + ": " + std::strerror(errno);
        return false;
    }
    Log log;
    log.name = is_stdin ? "stdin" : path;
    log.source = ledger_.open_source(log.name);
    if (!is_stdin) {
        log.scan_again = [this, path](const std::function<bool(std::string_view)>& visit) {
            const int again = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
            if (again < 0) return;
            for_each_line(again, options_.line_bytes_max,
                          [&](std::string_view line, bool) { return visit(line); });
            ::close(again);
        };
    }
    const int error = for_each_line(descriptor, options_.line_bytes_max,
                                    [&](std::string_view line, bool is_whole) {
                                        take_line(log, line, is_whole);
                                        return true;
                                    });
    if (!is_stdin) ::close(descriptor);
    if (error != 0) why = "cannot read " + path + ": " + std::strerror(error);
    return error == 0;
}

void LedgerReader::read_text(std::string_view name, std::string_view text) {
    const auto split = [text](const auto& take) {
        std::size_t begin = 0;
        while (begin < text.size()) {
            const std::size_t end = std::min(text.find('\n', begin), text.size());
            if (!take(text.substr(begin, end - begin), end < text.size())) return;
            begin = end + 1;
        }
    };
    Log log;
    log.name = name;
    log.source = ledger_.open_source(name);
    log.scan_again = [&](const std::function<bool(std::string_view)>& visit) {
        split([&](std::string_view line, bool) { return visit(line); });
    };
    split([&](std::string_view line, bool is_whole) {
        if (line.size() > options_.line_bytes_max) {
            take_line(log, {}, false);
        } else {
            take_line(log, line, is_whole);
        }
        return true;
    });
}

void LedgerReader::take_line(Log& log, std::string_view line, bool is_whole) {
    ++log.line;
    ++totals_.lines;
    const bool is_over_limit = line.empty() && !is_whole;
    if (is_over_limit) return note_broken(log);
    if (is_blank(line)) return;
    const LogEvent* event = parser_.parse(line);
    if (event == nullptr && !is_whole) {
        ++totals_.truncated;
        return;
    }
    if (event == nullptr) {
        // A process that was killed left the line open, and its next run went on behind it.
        const std::size_t glued = find_glued(line);
        if (glued != std::string_view::npos) event = parser_.parse(line.substr(glued));
        if (event != nullptr) ++totals_.truncated;
    }
    if (event == nullptr || !take_event(log, *event)) note_broken(log);
}

void LedgerReader::note_broken(const Log& log) {
    ++totals_.broken;
    if (totals_.first_broken.empty()) {
        totals_.first_broken = log.name + ":" + std::to_string(log.line);
    }
}

void LedgerReader::observe(const Log& log, const LogEvent& event) {
    ++totals_.events;
    if (observer_) observer_(event, log.name, log.line);
}

// False when the event lacks what its kind needs.
bool LedgerReader::take_event(Log& log, const LogEvent& event) {
    const std::string_view name = event.event;
    if (name == "message" || name == "online" || name == "offline" || name == "break") {
        return take_device_event(log, event);
    }
    if (name == "received" || name == "committed" || name == "duplicate" || name == "refused" ||
        name == "pushed" || name == "handled") {
        return take_gateway_event(log, event);
    }
    if (name == "storm" || name == "attempt" || name == "arrived" || name == "submitted" ||
        name == "handed" || name == "settled" || name == "receipt") {
        // They say when, and how often; the ledger has the rest from others.
        if (observer_) observer_(event, log.name, log.line);
        return true;
    }
    return take_sender_event(log, event);
}

bool LedgerReader::take_sender_event(Log& log, const LogEvent& event) {
    const bool is_queued = event.event == "queued";
    const bool is_accepted = event.event == "accepted";
    const auto* const outcome =
        std::find_if(std::begin(kOutcomes), std::end(kOutcomes),
                     [&](const NamedOutcome& known) { return known.name == event.event; });
    const bool is_outcome = outcome != std::end(kOutcomes);
    if (!is_queued && !is_accepted && !is_outcome) return true;
    if (event.fp.empty()) return false;
    LogEvent whole = event;
    whole.from = sender_of(log, event);
    observe(log, whole);
    const MessageKey key{whole.app, whole.from, whole.fp};
    if (is_queued) {
        ledger_.queued(log.source, key, whole.to, whole.device, whole.has_qos);
    } else if (is_accepted) {
        ledger_.accepted(log.source, key,
                         {whole.to, whole.cseq, to_attempts(whole.attempts, 1), whole.ms});
    } else {
        ledger_.settled(log.source, key, outcome->outcome,
                        static_cast<int>(std::min<std::uint64_t>(whole.code.value_or(0), 65'535)),
                        to_attempts(whole.attempts, 0));
    }
    return true;
}

bool LedgerReader::take_device_event(Log& log, const LogEvent& event) {
    const DeviceKey device{event.app, event.user, event.device};
    if (event.event == "message") {
        // Old lines say no user: the recipient is.
        const std::string_view user = event.user.empty() ? event.to : event.user;
        const bool needs_fp = event.has_qos;
        if ((needs_fp && event.fp.empty()) || event.from.empty() || user.empty()) return false;
        observe(log, event);
        ledger_.handed_up(log.source, {event.app, user, event.device},
                          {event.app, event.from, event.to, event.fp, event.conv, event.cseq,
                           event.is_redelivered, event.has_qos});
        return true;
    }
    if (!event.user.empty() && log.sender.empty()) log.sender = event.user;
    observe(log, event);
    if (event.event == "online") ledger_.online(log.source, device);
    if (event.event == "offline") ledger_.offline(log.source, device);
    if (event.event == "break") ledger_.broke(log.source, device);
    return true;
}

bool LedgerReader::take_gateway_event(Log& log, const LogEvent& event) {
    // Of a push the user is the recipient; elsewhere it is the sender, who may write "-1" or leave
    // its own name out.
    const bool is_push = event.event == "pushed";
    const bool says_sender = !event.from.empty() && event.from != "-1";
    const std::string_view from = says_sender || is_push ? event.from : event.user;
    const MessageKey key{event.app, from, event.fp};
    const bool is_of_message = !event.fp.empty() && !from.empty();
    if (event.event == "committed" || event.event == "duplicate") {
        if (!is_of_message) return false;
    }
    observe(log, event);
    if (event.event == "committed") ledger_.committed(log.source, key, event.to, event.cseq);
    if (event.event == "duplicate") ledger_.duplicate(log.source, key);
    // Without a position it came without QoS, straight through.
    if (is_push && is_of_message && event.seq) ledger_.pushed(log.source, key);
    if (event.event == "refused") {
        ledger_.refused(log.source, key, static_cast<int>(event.code.value_or(0)));
    }
    return true;
}

// The line's own, or that of other lines of the log, or "?".
std::string_view LedgerReader::sender_of(Log& log, const LogEvent& event) {
    if (!event.from.empty()) {
        if (log.sender.empty()) log.sender = event.from;
        return event.from;
    }
    if (log.sender.empty() && !log.has_looked_ahead) {
        log.has_looked_ahead = true;
        LogEventParser ahead;
        if (log.scan_again) {
            log.scan_again([&](std::string_view line) {
                const LogEvent* other = ahead.parse(line);
                if (other == nullptr || other->event == "message") return true;
                log.sender = other->from.empty() ? other->user : other->from;
                return log.sender.empty();
            });
        }
    }
    return log.sender.empty() ? std::string_view("?") : std::string_view(log.sender);
}

}  // namespace petrel::tools
