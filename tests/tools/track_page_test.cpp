#include "tools/petrel/track_page.hpp"

#include <doctest/doctest.h>

#include <string>

#include "tools/petrel/ledger.hpp"
#include "tools/petrel/ledger_reader.hpp"

namespace petrel::tools {
namespace {

constexpr std::string_view kFp = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

std::string page_of(const std::string& log) {
    Ledger::Options options;
    options.problems_max = TrackPage::kProblemsMax;
    Ledger ledger(options);
    LedgerReader reader(ledger);
    reader.read_text("log", log);
    const Report report = ledger.report();
    TrackPage page(report);
    ledger.for_each([&page](const JudgedMessage& message) { page.count(message); });
    Ledger again;
    LedgerReader second(again);
    second.set_observer([&page](const LogEvent& event, std::string_view file, std::uint64_t line) {
        page.see(event, file, line);
    });
    second.read_text("log", log);
    return page.render(report.is_ok());
}

std::size_t count_of(const std::string& text, std::string_view part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++count;
    }
    return count;
}

std::string event(const std::string& name, const std::string& rest) {
    return R"({"event":")" + name + R"(","fp":")" + std::string(kFp) + R"(","from":"alice",)" +
           rest + "}\n";
}

TEST_CASE(
    "Track page: a problem has its timeline, with times, connections and the storm's faults") {
    const std::string page =
        page_of(event("queued", R"("to":"bob")") + event("submitted", R"("ts":1000)") +
                event("attempt", R"("ts":1001,"conn":7)") +
                event("storm", R"("ts":1003,"conn":3,"what":"drop","direction":"c>s")") +
                R"({"event":"storm","ts":1004,"conn":3,"what":"cut"})"
                "\n");
    CHECK(page.find("pending") != std::string::npos);
    CHECK(count_of(page, "<details") == 1);
    CHECK(count_of(page, "<circle") == 3);
    CHECK(page.find("<td class=n>+3<td>storm<td class=n>3<td>drop, c&gt;s") != std::string::npos);
    CHECK(page.find("<td>attempt<td class=n>7") != std::string::npos);
    CHECK(page.find("+3 ms storm") != std::string::npos);
}

TEST_CASE("Track page: what a log holds cannot become markup") {
    const std::string page =
        page_of(R"({"event":"queued","fp":"<script>","from":"<img src=x>","to":"a'b\"c&d"})"
                "\n");
    CHECK(page.find("<script>") == std::string::npos);
    CHECK(page.find("<img") == std::string::npos);
    CHECK(page.find("&lt;script&gt;") != std::string::npos);
    CHECK(page.find("a&#39;b&quot;c&amp;d") != std::string::npos);
}

TEST_CASE("Track page: it needs nothing from elsewhere") {
    const std::string page = page_of(event("queued", R"("to":"bob")"));
    CHECK(page.find("http://") == std::string::npos);
    CHECK(page.find("https://") == std::string::npos);
    CHECK(page.find("url(") == std::string::npos);
    CHECK(page.find("default-src 'none'") != std::string::npos);
}

TEST_CASE("Track page: the first problems are shown, and how many more there are") {
    std::string log;
    for (std::size_t i = 0; i < TrackPage::kProblemsMax + 7; ++i) {
        log +=
            R"({"event":"queued","fp":"f)" + std::to_string(i) + R"(","from":"a","to":"b"})" + "\n";
    }
    const std::string page = page_of(log);
    CHECK(count_of(page, "<details") == TrackPage::kProblemsMax);
    CHECK(page.find("7 more are not shown") != std::string::npos);
}

TEST_CASE("Histogram: each value lies in the range that its label names") {
    Histogram ms(Histogram::Kind::kMilliseconds);
    ms.add(0.9);
    ms.add(1);
    ms.add(3.9);
    ms.add(1e12);
    CHECK(ms[0] == 1);
    CHECK(ms.label(0) == "<1");
    CHECK(ms[1] == 1);
    CHECK(ms.label(1) == "1");
    CHECK(ms[2] == 1);
    CHECK(ms.label(2) == "2");
    CHECK(ms[Histogram::kBars - 1] == 1);
    Histogram attempts(Histogram::Kind::kAttempts);
    attempts.add(1);
    attempts.add(12);
    attempts.add(4e9);
    CHECK(attempts[0] == 1);
    CHECK(attempts[11] == 2);
    CHECK(attempts.label(11) == "12+");
    CHECK(attempts.total() == 3);
}

TEST_CASE("Life: attempts, storm, arrival and receipt stand at their stages") {
    Life life(kFp);
    Ledger ledger;
    LedgerReader reader(ledger);
    reader.set_observer([&life](const LogEvent& one, std::string_view file, std::uint64_t line) {
        life.see(one, file, line);
    });
    reader.read_text("log",
                     R"({"event":"receipt","ts":9,"conv":"s:a:b","user":"bob","delivered":4})"
                     "\n"
                     R"({"event":"receipt","ts":10,"conv":"s:a:b","user":"bob","delivered":5})"
                     "\n" +
                         event("arrived", R"("ts":6,"conn":2)") +
                         event("message", R"("to":"bob","user":"bob","conv":"s:a:b","cseq":5)") +
                         event("attempt", R"("ts":2,"conn":1)") +
                         event("storm", R"("ts":3,"what":"duplicate")"));
    std::string order;
    for (const Life::Entry& entry : life.entries()) order += entry.event + " ";
    CHECK(order == "attempt storm arrived message receipt ");
    CHECK(life.entries().back().ts == 10);
}

}  // namespace
}  // namespace petrel::tools
