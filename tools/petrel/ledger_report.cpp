#include "tools/petrel/ledger_report.hpp"

#include <array>
#include <cstdio>

#include "tools/petrel/json_line.hpp"

namespace petrel::tools {
namespace {

std::string plural(std::uint64_t count, std::string_view noun) {
    std::string text = std::to_string(count);
    text += ' ';
    text += noun;
    if (count != 1) text += 's';
    return text;
}

void add_part(std::string& text, std::uint64_t count, std::string_view what) {
    if (count == 0) return;
    text += "; ";
    text += std::to_string(count);
    text += ' ';
    text += what;
}

void add_row(std::string& text, std::string_view name, const std::string& value) {
    if (!text.empty()) text += '\n';
    std::string label = "  ";
    label += name;
    label.resize(26, ' ');
    std::string right = value;
    if (right.size() < 10) right.insert(0, 10 - right.size(), ' ');
    text += label + right;
}

void add_row(std::string& text, std::string_view name, std::uint64_t value) {
    add_row(text, name, std::to_string(value));
}

std::string format_ms(double ms) {
    std::array<char, 32> digits{};
    std::snprintf(digits.data(), digits.size(), ms < 10 ? "%.2f ms" : "%.0f ms", ms);
    return digits.data();
}

}  // namespace

std::string_view to_string(Verdict verdict) noexcept {
    switch (verdict) {
        case Verdict::kDoubled: return "doubled";
        case Verdict::kDisordered: return "disordered";
        case Verdict::kLost: return "lost";
        case Verdict::kUncommitted: return "uncommitted";
        case Verdict::kContradicted: return "contradicted";
        case Verdict::kPending: return "pending";
        case Verdict::kUnknown: return "unknown";
        case Verdict::kRejected: return "rejected";
        case Verdict::kExpired: return "expired";
        case Verdict::kCancelled: return "cancelled";
        case Verdict::kRedelivered: return "redelivered";
        case Verdict::kDelivered: return "delivered";
        case Verdict::kAccepted: return "accepted";
        case Verdict::kNotJudged: return "not judged";
    }
    return "?";
}

bool Report::is_ok(bool is_pending_allowed) const noexcept {
    const bool is_broken = lost > 0 || doubled > 0 || disordered > 0 || uncommitted > 0 ||
                           contradicted > 0 || overflow > 0;
    return !is_broken && (is_pending_allowed || (pending == 0 && unknown == 0));
}

std::string Report::verdict() const {
    std::string text;
    if (sent == 0) {
        text = "no message was sent";
    } else if (judged == 0) {
        text = std::to_string(accepted) + " of " + plural(sent, "message") +
               " accepted (no recipient's log to see the rest)";
    } else {
        text = std::to_string(delivered_once) + " of " + plural(judged, "message") +
               " delivered exactly once";
        if (is_order_judged && disordered == 0) text += ", in order";
        add_part(text, sent - judged, "sent to users whose log is not given");
    }
    add_part(text, lost, "lost");
    add_part(text, doubled, "doubled");
    add_part(text, disordered, "out of order");
    add_part(text, uncommitted, "accepted but never committed");
    add_part(text, contradicted, "with two outcomes");
    add_part(text, pending, "pending");
    add_part(text, unknown, "of unknown fate");
    add_part(text, rejected, "rejected");
    add_part(text, expired, "expired");
    add_part(text, cancelled, "cancelled");
    if (is_redelivered_told) add_part(text, redelivered, "redelivered, marked so");
    add_part(text, after_break, "delivered again after a break");
    add_part(text, not_judged, "not judged (no sender's log, or sent without QoS)");
    add_part(text, overflow, "events beyond the ledger's limit");
    return text;
}

std::string Report::table() const {
    std::string text;
    add_row(text, "sent", sent);
    add_row(text, "accepted", accepted);
    add_row(text, "delivered", delivered);
    add_row(text, "retransmitted", retransmitted);
    if (has_trace) add_row(text, "duplicates suppressed", duplicates_suppressed);
    add_row(text, "redelivered", redelivered);
    add_row(text, "reconnects", reconnects);
    if (breaks > 0) add_row(text, "breaks", breaks);
    if (crashes > 0) add_row(text, "crashes", crashes);
    if (p50_ms) add_row(text, "p50 until accepted", format_ms(*p50_ms));
    if (p99_ms) add_row(text, "p99 until accepted", format_ms(*p99_ms));
    return text;
}

std::string Report::json(bool is_pending_allowed) const {
    JsonLine line("verdict");
    line.boolean("ok", is_ok(is_pending_allowed))
        .text("text", verdict())
        .number("sent", sent)
        .number("accepted", accepted)
        .number("judged", judged)
        .number("delivered", delivered)
        .number("deliveredOnce", delivered_once)
        .number("lost", lost)
        .number("doubled", doubled)
        .number("disordered", disordered)
        .number("pending", pending)
        .number("rejected", rejected)
        .number("expired", expired)
        .number("cancelled", cancelled)
        .number("unknown", unknown)
        .number("uncommitted", uncommitted)
        .number("contradicted", contradicted)
        .number("redelivered", redelivered)
        .number("afterBreak", after_break)
        .number("notJudged", not_judged)
        .number("retransmitted", retransmitted);
    if (has_trace) {
        line.number("duplicatesSuppressed", duplicates_suppressed).number("refused", refused);
    } else {
        line.null("duplicatesSuppressed").null("refused");
    }
    line.number("reconnects", reconnects)
        .number("breaks", breaks)
        .number("overflow", overflow)
        .real("p50Ms", p50_ms)
        .real("p99Ms", p99_ms);
    return line.take();
}

}  // namespace petrel::tools
