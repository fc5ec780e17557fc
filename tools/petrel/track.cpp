#include <CLI/CLI.hpp>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tools/petrel/commands.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/ledger.hpp"
#include "tools/petrel/ledger_reader.hpp"
#include "tools/petrel/life.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/track_page.hpp"

namespace petrel::tools {
namespace {

constexpr const char* kFooter =
    "FILE is what `petrel send`, `listen`, `chat` and `storm` print with --json, or what they and\n"
    "`petrel gateway` write with --trace, of any number of each, in any order; - is the standard\n"
    "input. The more of them, the more is judged: without a log of the recipient nobody knows\n"
    "what was delivered.\n"
    "\n"
    "A message is: delivered; redelivered (again after a crash, marked so); pending (queued, no\n"
    "outcome); rejected, expired, cancelled; lost (accepted, but no device of the recipient has\n"
    "it); doubled (a device got it twice); disordered (a device got it after a later one of the\n"
    "same sender); uncommitted (accepted, but in no gateway's trace).\n"
    "\n"
    "Examples:\n"
    "  petrel send --url $U --user alice --to bob --json < lines > alice.jsonl\n"
    "  petrel listen --url $U --user bob --count 1000 --json > bob.jsonl\n"
    "  petrel track alice.jsonl bob.jsonl\n"
    "  petrel track --allow-pending *.jsonl         while some of them still run\n"
    "  petrel track --fp 1b4e28ba-2fa1-11d2-883f-0016d3cca427 *.jsonl   one message's life\n"
    "  petrel track --json *.jsonl | jq .ok\n"
    "\n"
    "Exit status: 0 all is well; 1 something was lost, doubled, disordered, or is pending.";

struct TrackOptions {
    CommonOptions common;
    std::vector<std::string> files;
    std::string fp;
    bool is_pending_allowed = false;
    bool is_any_order = false;
    bool shows_all = false;
    std::string html;
    std::size_t messages_max = Ledger::Options().messages_max;
    std::size_t names_bytes_max = Ledger::Options().names_bytes_max;
};

// The same file named twice would double every line of it.
std::vector<std::string> without_repeats(const std::vector<std::string>& paths) {
    std::set<std::pair<dev_t, ino_t>> seen;
    std::vector<std::string> kept;
    for (const std::string& path : paths) {
        struct stat info {};
        const bool is_known = (path == "-" ? ::fstat(0, &info) : ::stat(path.c_str(), &info)) == 0;
        if (is_known && !seen.emplace(info.st_dev, info.st_ino).second) {
            log(LogLevel::kWarning, path + " is given twice, and read once");
            continue;
        }
        kept.push_back(path);
    }
    return kept;
}

std::string to_line(const JudgedMessage& message) {
    std::string line(to_string(message.verdict));
    line.resize(13, ' ');
    line.append(message.fp).append("  ").append(message.from).append(" -> ").append(message.to);
    if (message.app != "default") line.append("  app ").append(message.app);
    if (message.cseq) line.append("  cseq ").append(std::to_string(*message.cseq));
    if (message.attempts > 1) line.append("  attempts ").append(std::to_string(message.attempts));
    if (message.code != 0) line.append("  code ").append(std::to_string(message.code));
    if (message.devices > 1) line.append("  devices ").append(std::to_string(message.devices));
    return line;
}

void print_message(const JudgedMessage& message, bool is_json) {
    if (!is_json) return print_text(to_line(message));
    JsonLine line("fate");
    line.text("verdict", to_string(message.verdict))
        .text("fp", message.fp)
        .text("app", message.app)
        .text("from", message.from)
        .text("to", message.to)
        .number("cseq", message.cseq)
        .number("attempts", message.attempts)
        .real("ms", message.ms)
        .number("devices", message.devices);
    if (message.code != 0) line.number("code", message.code);
    line.print();
}

void print_entry(const Life::Entry& entry, bool is_json) {
    if (is_json) {
        JsonLine("life")
            .text("what", entry.event)
            .text("file", entry.file)
            .number("line", entry.line)
            .text("detail", entry.detail)
            .print();
        return;
    }
    std::string line = "  " + entry.event;
    line.resize(std::max<std::size_t>(line.size() + 1, 14), ' ');
    line += entry.detail;
    line.append("  (").append(entry.file).append(":");
    line.append(std::to_string(entry.line)).append(")");
    print_text(line);
}

void warn_about(const LedgerReader::Totals& totals) {
    if (totals.truncated > 0) {
        log(LogLevel::kInfo, std::to_string(totals.truncated) + " line(s) cut off by a kill");
    }
    if (totals.broken > 0) {
        log(LogLevel::kWarning,
            std::to_string(totals.broken) + " broken line(s), the first at " + totals.first_broken);
    }
}

// The messages with that fingerprint; kFailed when there is none or one is not well.
ExitStatus print_lives(const TrackOptions& options, Ledger& ledger, const Life& life) {
    const bool is_json = options.common.is_json;
    ledger.report();
    bool is_found = false;
    bool is_well = true;
    std::vector<JudgedMessage> messages;
    ledger.for_each([&](const JudgedMessage& message) {
        if (message.fp == options.fp) messages.push_back(message);
    });
    for (const Life::Entry& entry : life.entries()) print_entry(entry, is_json);
    for (const JudgedMessage& message : messages) {
        is_found = true;
        if (message.verdict < Verdict::kPending ||
            (message.verdict <= Verdict::kUnknown && !options.is_pending_allowed)) {
            is_well = false;
        }
        print_message(message, is_json);
    }
    if (!is_found) log(LogLevel::kError, "no message has the fingerprint " + options.fp);
    return is_found && is_well ? ExitStatus::kDone : ExitStatus::kFailed;
}

void print_report(const TrackOptions& options, const Report& report,
                  const LedgerReader::Totals& totals) {
    if (options.common.is_json) {
        std::string line = report.json(options.is_pending_allowed);
        line.pop_back();
        line += ",\"linesTruncated\":" + std::to_string(totals.truncated);
        line += ",\"linesBroken\":" + std::to_string(totals.broken) + "}";
        print_text(line);
        return;
    }
    constexpr std::size_t kShownMax = 20;
    std::size_t shown = 0;
    for (const JudgedMessage& message : report.problems) {
        if (++shown > kShownMax) break;
        const bool is_pending = message.verdict == Verdict::kPending;
        if (!(is_pending && options.is_pending_allowed)) print_message(message, false);
    }
    print_text(report.table());
    print_text(report.verdict());
}

// Reads the files a second time, now that it is known whose timelines are wanted. False when the
// page could not be written, which is said.
bool write_page(const TrackOptions& options, const Ledger& ledger, const Report& report) {
    TrackPage page(report);
    ledger.for_each([&page](const JudgedMessage& message) { page.count(message); });
    Ledger::Options nothing;
    nothing.messages_max = 0;
    Ledger no_ledger(nothing);
    LedgerReader reader(no_ledger);
    reader.set_observer([&page](const LogEvent& event, std::string_view file, std::uint64_t line) {
        page.see(event, file, line);
    });
    std::string why;
    for (const std::string& path : without_repeats(options.files)) {
        if (path == "-") {
            log(LogLevel::kWarning,
                "the standard input cannot be read twice: its events are "
                "missing in the timelines");
        } else if (!reader.read_file(path, why)) {
            log(LogLevel::kError, why);
            return false;
        }
    }
    const std::string text = page.render(report.is_ok(options.is_pending_allowed));
    std::ofstream file(options.html, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    if (!file) log(LogLevel::kError, "cannot write " + options.html);
    return !file.fail();
}

ExitStatus track(const TrackOptions& options) {
    Ledger::Options ledger_options;
    ledger_options.is_order_judged = !options.is_any_order;
    ledger_options.messages_max = options.messages_max;
    ledger_options.names_bytes_max = options.names_bytes_max;
    if (!options.html.empty()) ledger_options.problems_max = TrackPage::kProblemsMax;
    Ledger ledger(ledger_options);
    LedgerReader reader(ledger);
    Life life(options.fp);
    if (!options.fp.empty()) {
        reader.set_observer([&](const LogEvent& event, std::string_view file, std::uint64_t line) {
            life.see(event, file, line);
        });
    }
    for (const std::string& path : without_repeats(options.files)) {
        std::string why;
        if (!reader.read_file(path, why)) {
            log(LogLevel::kError, why);
            return ExitStatus::kUsage;
        }
    }
    warn_about(reader.totals());
    if (!options.fp.empty()) return print_lives(options, ledger, life);
    if (reader.totals().events == 0) {
        // Nothing to find fault with is no good news: most likely these are other files.
        log(LogLevel::kError, "these files hold no event of a client or a gateway");
        return ExitStatus::kFailed;
    }
    const Report report = ledger.report();
    if (options.shows_all) {
        ledger.for_each([&](const JudgedMessage& m) { print_message(m, options.common.is_json); });
    }
    print_report(options, report, reader.totals());
    if (!options.html.empty() && !write_page(options, ledger, report)) return ExitStatus::kFailed;
    return report.is_ok(options.is_pending_allowed) ? ExitStatus::kDone : ExitStatus::kFailed;
}

}  // namespace

void add_track(CLI::App& root, ExitStatus& exit) {
    CLI::App* app = root.add_subcommand(
        "track", "The fingerprint ledger: judges every message from logs of clients and gateways");
    auto options = std::make_shared<TrackOptions>();
    add_common(*app, options->common);
    app->add_option("FILE", options->files, "Event logs; - is the standard input")->required();
    app->add_option("--fp", options->fp, "Show the life of the message with this fingerprint")
        ->type_name("FINGERPRINT");
    app->add_option("--html", options->html,
                    "Write one page with histograms and the timelines of the first 50 problems")
        ->type_name("FILE");
    app->add_option("--messages-max", options->messages_max,
                    "Judge so many messages, of about 100 bytes of memory each; events of more are "
                    "counted, and then the verdict is not ok")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 31))
        ->capture_default_str();
    app->add_option("--names-bytes-max", options->names_bytes_max,
                    "Memory for names of users, devices and conversations, and for fingerprints "
                    "that are no UUIDs; events beyond are counted, and then the verdict is not ok")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 40))
        ->capture_default_str();
    app->add_flag("--all", options->shows_all, "One line for every message, not for problems only");
    app->add_flag("--allow-pending", options->is_pending_allowed,
                  "Messages without an outcome are no failure");
    app->add_flag("--any-order", options->is_any_order,
                  "Do not judge the order (a plain profile promises none when it retransmits)");
    app->footer(kFooter);
    app->callback([options, &exit] { exit = track(*options); });
}

}  // namespace petrel::tools
