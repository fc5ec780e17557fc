#include "tools/petrel/track_page.hpp"

#include <algorithm>
#include <cstdio>

#include "tools/petrel/json_line.hpp"

namespace petrel::tools {
namespace {

// Everything from a log goes through here: names and files may hold anything.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : to_valid_utf8(text)) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            case '\'': out += "&#39;"; break;
            default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
        }
    }
    return out;
}

std::string fixed(double value, int decimals = 1) {
    char digits[64];
    std::snprintf(digits, sizeof digits, "%.*f", decimals, value);
    return digits;
}

constexpr std::string_view kHead = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Petrel ledger</title>
<style>
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--dim:#667085;--line:#e3e7ed;
--good:#0f8a5f;--bad:#c8372d;--bar:#3b7dd8;--client:#3b7dd8;--storm:#d9822b;--gateway:#7a5af0;
--peer:#0f8a5f}
@media(prefers-color-scheme:dark){:root{--bg:#10151c;--card:#19212b;--ink:#e4e9f0;--dim:#93a0b1;
--line:#2a3542;--good:#3ecf95;--bad:#ff7469;--bar:#6aa5f5;--client:#6aa5f5;--storm:#f0a652;
--gateway:#a894ff;--peer:#3ecf95}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;margin:0 0 4px;letter-spacing:-.02em}h2{font-size:18px;margin:36px 0 12px}
.verdict{border-left:5px solid var(--good);background:var(--card);padding:14px 18px;margin:18px 0;
border-radius:0 10px 10px 0;font-size:17px}.verdict.bad{border-color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(140px,1fr));gap:12px}
.tile,.card,details{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:12px 14px}.tile b{display:block;font-size:22px;font-variant-numeric:tabular-nums}
.tile span,.dim{color:var(--dim);font-size:13px}.tile.bad b{color:var(--bad)}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:16px}
.card{padding:16px 18px}.card h3{margin:0 0 8px;font-size:15px}
svg{display:block;width:100%;height:auto}svg text{fill:var(--dim);font:11px system-ui,sans-serif}
details{margin:10px 0}summary{cursor:pointer;padding:12px 16px}
summary code{margin:0 8px}.body{padding:0 16px 14px}
.tag{display:inline-block;min-width:92px;text-align:center;border-radius:99px;padding:1px 10px;
font-size:13px;background:var(--bad);color:var(--card);font-weight:600}
code{font:13px ui-monospace,monospace}
table{border-collapse:collapse;width:100%;font-size:13px}
td,th{text-align:left;padding:4px 8px;border-top:1px solid var(--line);vertical-align:top}
th{color:var(--dim);font-weight:500}td.n{text-align:right;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
</style></head><body><main>
)html";

struct LaneStyle {
    std::string_view name;
    std::string_view color;
};
constexpr std::array<LaneStyle, 4> kLanes{{{"sender", "var(--client)"},
                                           {"storm", "var(--storm)"},
                                           {"gateway", "var(--gateway)"},
                                           {"recipient", "var(--peer)"}}};

std::size_t lane_of(std::string_view event) {
    if (event == "storm") return 1;
    if (event == "received" || event == "committed" || event == "duplicate" || event == "refused" ||
        event == "pushed" || event == "handled") {
        return 2;
    }
    if (event == "arrived" || event == "handed" || event == "message") return 3;
    return 0;
}

void add_bars(std::string& page, std::string_view title, const Histogram& values,
              std::string_view unit) {
    page += "<div class=card><h3>";
    page += title;
    page += "</h3>";
    if (values.total() == 0) {
        page += "<p class=dim>None of the logs says.</p></div>";
        return;
    }
    std::uint64_t highest = 1;
    for (std::size_t i = 0; i < values.size(); ++i) highest = std::max(highest, values[i]);
    constexpr double kWidth = 480;
    constexpr double kHeight = 150;
    const double step = kWidth / static_cast<double>(values.size());
    page += "<svg viewBox='0 0 480 196' role=img>";
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double share = static_cast<double>(values[i]) / static_cast<double>(highest);
        // What is not nothing is seen.
        const double height = values[i] == 0 ? 0 : std::max(2.0, share * kHeight);
        const double x = static_cast<double>(i) * step;
        const std::string middle = fixed(x + step / 2);
        page += "<rect rx=2 fill='var(--bar)' x='" + fixed(x + 1.5) + "' y='" +
                fixed(16 + kHeight - height) + "' width='" + fixed(step - 3) + "' height='" +
                fixed(height) + "'><title>" + values.label(i) + std::string(unit) + ": " +
                std::to_string(values[i]) + "</title></rect>";
        page +=
            "<text text-anchor=middle x='" + middle + "' y='182'>" + values.label(i) + "</text>";
    }
    page += "<line x1=0 x2=480 y1=166.5 y2=166.5 stroke='var(--line)'/></svg><span class=dim>" +
            std::to_string(values.total()) + " messages, the highest bar " +
            std::to_string(highest) + "; " + std::string(unit) + "</span></div>";
}

void add_tile(std::string& page, std::string_view name, const std::string& value, bool is_bad) {
    page += is_bad ? "<div class='tile bad'><b>" : "<div class=tile><b>";
    page += value;
    page += "</b><span>";
    page += name;
    page += "</span></div>";
}

}  // namespace

void Histogram::add(double value) {
    std::size_t bar = 0;
    if (kind_ == Kind::kAttempts) {
        bar = value < 1 ? 0 : static_cast<std::size_t>(std::min(value, 12.0)) - 1;
    } else {
        for (double limit = 1; value >= limit && bar + 1 < kBars; limit *= 2) ++bar;
    }
    ++counts_[bar];
    ++total_;
}

std::string Histogram::label(std::size_t bar) const {
    if (kind_ == Kind::kAttempts) return std::to_string(bar + 1) + (bar + 1 == size() ? "+" : "");
    if (bar == 0) return "<1";
    const std::uint64_t ms = std::uint64_t{1} << (bar - 1);
    return ms < 1024 ? std::to_string(ms) : std::to_string(ms / 1024) + "k";
}

TrackPage::TrackPage(const Report& report) : report_(report) {
    for (const JudgedMessage& message : report.problems) {
        if (problems_.size() == kProblemsMax) break;
        problems_.push_back({message, Life(message.fp)});
    }
}

void TrackPage::count(const JudgedMessage& message) {
    if (message.ms) latency_.add(*message.ms);
    if (message.attempts > 0) attempts_.add(message.attempts);
}

void TrackPage::see(const LogEvent& event, std::string_view file, std::uint64_t line) {
    if (event.event == "storm" && event.fp.empty()) {
        if (!event.ts || storm_.size() >= kStormMarksMax) return;
        std::string text(event.what);
        if (!event.direction.empty()) text.append(" ").append(event.direction);
        if (event.conn) text.append(", connection ").append(std::to_string(*event.conn));
        storm_.push_back({*event.ts, std::move(text)});
        return;
    }
    for (Problem& problem : problems_) problem.life.see(event, file, line);
}

void TrackPage::add_summary(std::string& page, bool is_ok) const {
    page +=
        "<h1>Petrel ledger</h1><span class=dim>What became of every message, by the logs of "
        "those who took part</span>";
    page += is_ok ? "<div class=verdict>" : "<div class='verdict bad'>";
    page += escaped(report_.verdict()) + "</div><div class=tiles>";
    const auto tile = [&page](std::string_view name, std::uint64_t value, bool is_bad = false) {
        add_tile(page, name, std::to_string(value), is_bad && value > 0);
    };
    tile("sent", report_.sent);
    tile("accepted", report_.accepted);
    tile("delivered", report_.delivered);
    tile("lost", report_.lost, true);
    tile("doubled", report_.doubled, true);
    tile("out of order", report_.disordered, true);
    tile("pending", report_.pending, true);
    tile("retransmitted", report_.retransmitted);
    if (report_.has_trace) tile("duplicates suppressed", report_.duplicates_suppressed);
    tile("redelivered", report_.redelivered);
    tile("reconnects", report_.reconnects);
    if (report_.p50_ms) add_tile(page, "p50 until accepted", fixed(*report_.p50_ms) + " ms", false);
    if (report_.p99_ms) add_tile(page, "p99 until accepted", fixed(*report_.p99_ms) + " ms", false);
    page += "</div><h2>All messages</h2><div class=two>";
    add_bars(page, "Until accepted", latency_, " ms or more, up to twice that");
    add_bars(page, "Attempts", attempts_, " attempts");
    page += "</div>";
}

void TrackPage::add_timeline(std::string& page, const std::vector<Life::Entry>& entries) const {
    std::uint64_t first = UINT64_MAX;
    std::uint64_t last = 0;
    for (const Life::Entry& entry : entries) {
        if (entry.ts == 0) continue;
        first = std::min(first, entry.ts);
        last = std::max(last, entry.ts);
    }
    if (last == 0) {
        page += "<p class=dim>These logs tell no times: give --trace files too.</p>";
        return;
    }
    const double span = std::max<double>(1, static_cast<double>(last - first));
    const auto x_of = [&](std::uint64_t ts) {
        return 90 + static_cast<double>(ts - first) / span * 880;
    };
    page += "<svg viewBox='0 0 1000 168' role=img>";
    for (std::size_t lane = 0; lane < kLanes.size(); ++lane) {
        const std::string y = std::to_string(20 + lane * 34);
        page += "<line x1=90 x2=970 y1=" + y + " y2=" + y +
                " stroke='var(--line)'/><text x=0 y=" + std::to_string(24 + lane * 34) + ">" +
                std::string(kLanes[lane].name) + "</text>";
    }
    for (const StormMark& mark : storm_) {
        if (mark.ts < first || mark.ts > last) continue;
        const std::string x = fixed(x_of(mark.ts));
        page += "<line stroke='var(--storm)' stroke-width=2 y1=44 y2=64 x1=" + x + " x2=" + x +
                "><title>" + escaped(mark.text) + "</title></line>";
    }
    for (const Life::Entry& entry : entries) {
        if (entry.ts == 0) continue;
        const std::size_t lane = lane_of(entry.event);
        page += "<circle r=5 fill='" + std::string(kLanes[lane].color) +
                "' cx=" + fixed(x_of(entry.ts)) + " cy=" + std::to_string(20 + lane * 34) +
                "><title>+" + std::to_string(entry.ts - first) + " ms " + escaped(entry.event) +
                ", " + escaped(entry.detail) + "</title></circle>";
    }
    page += "<text x=90 y=158>0 ms</text><text text-anchor=end x=970 y=158>" +
            std::to_string(last - first) + " ms</text></svg>";
}

void TrackPage::add_problem(std::string& page, const Problem& problem, bool is_open) const {
    const JudgedMessage& message = problem.message;
    page += is_open ? "<details open>" : "<details>";
    page += "<summary><span class=tag>" + std::string(to_string(message.verdict)) +
            "</span><code>" + escaped(message.fp) + "</code>" + escaped(message.from) + " &rarr; " +
            escaped(message.to);
    if (message.cseq) page += " <span class=dim>cseq " + std::to_string(*message.cseq) + "</span>";
    page += "</summary><div class=body>";
    std::vector<Life::Entry> entries = problem.life.entries();
    const std::size_t total = entries.size();
    if (total > kEntriesMax) entries.resize(kEntriesMax);
    add_timeline(page, entries);
    // Those that tell no time stay where their stage puts them: in front.
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Life::Entry& a, const Life::Entry& b) { return a.ts < b.ts; });
    std::uint64_t first = 0;
    page += "<div class=scroll><table><tr><th>ms<th>event<th>connection<th>what<th>where</tr>";
    for (const Life::Entry& entry : entries) {
        if (first == 0) first = entry.ts;
        page += "<tr><td class=n>";
        if (entry.ts > 0) page += "+" + std::to_string(entry.ts - first);
        page += "<td>" + escaped(entry.event) + "<td class=n>";
        if (entry.conn > 0) page += std::to_string(entry.conn);
        page += "<td>" + escaped(entry.detail) + "<td class=dim>" + escaped(entry.file) + ":" +
                std::to_string(entry.line) + "</tr>";
    }
    page += "</table></div>";
    if (total > kEntriesMax) {
        page += "<p class=dim>" + std::to_string(total - kEntriesMax) + " more events.</p>";
    }
    page += "</div></details>";
}

std::string TrackPage::render(bool is_ok) const {
    std::string page(kHead);
    add_summary(page, is_ok);
    page += "<h2>Problems</h2>";
    if (problems_.empty()) page += "<p class=dim>None.</p>";
    constexpr std::size_t kOpenAtFirst = 3;
    for (std::size_t i = 0; i < problems_.size(); ++i) {
        add_problem(page, problems_[i], i < kOpenAtFirst);
    }
    if (report_.problem_count > problems_.size()) {
        page += "<p class=dim>" + std::to_string(report_.problem_count - problems_.size()) +
                " more are not shown; petrel track --all lists every message.</p>";
    }
    page += "</main></body></html>\n";
    return page;
}

}  // namespace petrel::tools
