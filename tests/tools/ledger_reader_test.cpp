#include "tools/petrel/ledger_reader.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tools/petrel/life.hpp"

namespace petrel::tools {
namespace {

const std::string kAlice =
    R"({"event":"queued","fp":"a","from":"alice","to":"bob","app":"default","device":"phone"})"
    "\n"
    R"({"event":"queued","fp":"b","from":"alice","to":"bob","app":"default","device":"phone"})"
    "\n"
    R"({"event":"accepted","fp":"a","to":"bob","cseq":1,"sendTs":1700,"attempts":1,"ms":0.8,)"
    R"("from":"alice","app":"default"})"
    "\n"
    R"({"event":"accepted","fp":"b","to":"bob","cseq":2,"sendTs":1701,"attempts":3,"ms":12,)"
    R"("from":"alice","app":"default"})"
    "\n"
    R"({"event":"summary","sent":2,"accepted":2})"
    "\n";

std::string message(const std::string& fp, int cseq, const std::string& extra = "") {
    return R"({"event":"message","fp":")" + fp +
           R"(","from":"alice","to":"bob","typeu":0,"conv":"u:alice:bob","cseq":)" +
           std::to_string(cseq) +
           R"(,"epoch":"e","seq":1,"sendTs":1700,"text":"{\"event\":\"queued\"}")" + extra +
           R"(,"app":"default","user":"bob","device":"listen"})"
           "\n";
}

const std::string kOnline = R"({"event":"online","user":"bob","app":"default","device":"listen"})"
                            "\n";
const std::string kBob = kOnline + message("a", 1) + message("b", 2) +
                         R"({"event":"offline"})"
                         "\n";

struct Reading {
    Ledger ledger;
    LedgerReader reader{ledger};
    Report report() { return ledger.report(); }
};

TEST_CASE("LedgerReader: the logs of a sender and a recipient make a verdict") {
    Reading reading;
    reading.reader.read_text("alice", kAlice);
    reading.reader.read_text("bob", kBob);
    const Report report = reading.report();
    CHECK(report.verdict() == "2 of 2 messages delivered exactly once, in order");
    CHECK(report.retransmitted == 2);
    CHECK(report.reconnects == 0);
    CHECK(reading.reader.totals().broken == 0);
    CHECK(reading.reader.totals().events == 8);
}

TEST_CASE("LedgerReader: the order of the files does not matter") {
    Reading reading;
    reading.reader.read_text("bob", kBob);
    reading.reader.read_text("alice", kAlice);
    CHECK(reading.report().verdict() == "2 of 2 messages delivered exactly once, in order");
}

TEST_CASE("LedgerReader: redelivered is read") {
    Reading reading;
    reading.reader.read_text("alice", kAlice);
    reading.reader.read_text("bob", kBob + message("b", 2, R"(,"redelivered":true)"));
    CHECK(reading.report().redelivered == 1);
    CHECK(reading.report().doubled == 0);
}

TEST_CASE("LedgerReader: messages without QoS need no fingerprint and are not judged") {
    Reading reading;
    reading.reader.read_text(
        "bob", R"({"event":"message","fp":null,"from":"alice","to":"bob","qos":false,"user":"bob"})"
               "\n"
               R"({"event":"message","fp":"n","from":"alice","to":"bob","qos":false,"user":"bob"})"
               "\n"
               R"({"event":"message","fp":"n","from":"alice","to":"bob","qos":false,"user":"bob"})"
               "\n");
    CHECK(reading.reader.totals().broken == 0);
    CHECK(reading.report().doubled == 0);
    CHECK(reading.report().not_judged == 1);
}

TEST_CASE("LedgerReader: a gateway's trace is read") {
    Reading reading;
    reading.reader.read_text("alice", kAlice);
    reading.reader.read_text(
        "gateway",
        R"({"event":"login","ts":1,"conn":1,"user":"alice"})"
        "\n"
        R"({"event":"received","ts":1,"conn":1,"user":"alice","fp":"a","seq":1})"
        "\n"
        R"({"event":"committed","ts":1,"app":"default","from":"alice","to":"bob","fp":"a",)"
        R"("conv":"u:alice:bob","cseq":1,"sendTs":1})"
        "\n"
        R"({"event":"duplicate","ts":1,"conn":1,"app":"default","user":"alice","fp":"a"})"
        "\n"
        R"({"event":"refused","ts":1,"conn":1,"user":"alice","fp":"z","code":306})"
        "\n");
    const Report report = reading.report();
    CHECK(report.has_trace);
    CHECK(report.duplicates_suppressed == 1);
    CHECK(report.refused == 1);
    CHECK(report.uncommitted == 1);
    CHECK(reading.reader.totals().broken == 0);
}

TEST_CASE("LedgerReader: every other outcome is read") {
    Reading reading;
    std::string text;
    for (const char* name : {"rejected", "expired", "cancelled", "lost", "unknown"}) {
        const std::string end = std::string(name) + "\"}\n";
        text += R"({"event":"queued","from":"alice","to":"bob","fp":")" + end;
        text += R"({"event":")" + std::string(name) + R"(","from":"alice","code":306,"fp":")" + end;
    }
    reading.reader.read_text("alice", text);
    const Report report = reading.report();
    CHECK(report.rejected == 1);
    CHECK(report.expired == 1);
    CHECK(report.cancelled == 1);
    CHECK(report.lost == 1);
    CHECK(report.unknown == 1);
}

TEST_CASE("LedgerReader: an unfinished last line is a kill's, not a fault") {
    Reading reading;
    reading.reader.read_text("alice", kAlice + R"({"event":"queued","fp":"c","fr)");
    CHECK(reading.reader.totals().truncated == 1);
    CHECK(reading.reader.totals().broken == 0);
    CHECK(reading.report().sent == 2);
}

TEST_CASE("LedgerReader: a whole last line needs no newline") {
    Reading reading;
    reading.reader.read_text("alice", kAlice.substr(0, kAlice.find('\n')));
    CHECK(reading.report().sent == 1);
    CHECK(reading.reader.totals().truncated == 0);
}

TEST_CASE("LedgerReader: what a next run appended to an unfinished line is found") {
    Reading reading;
    reading.reader.read_text("alice", R"({"event":"accepted","fp":"x","fr)" + kAlice);
    CHECK(reading.reader.totals().truncated == 1);
    CHECK(reading.reader.totals().broken == 0);
    CHECK(reading.report().sent == 2);
}

TEST_CASE("LedgerReader: other broken lines are counted, and the first is named") {
    Reading reading;
    reading.reader.read_text("alice", kAlice + "\nnot json\n[1,2]\n{}}\n\"x\"\n{\"event\":1}\n" +
                                          R"({"event":"queued","fp":null})"
                                          "\n" +
                                          kAlice);
    CHECK(reading.reader.totals().broken == 5);
    CHECK(reading.reader.totals().first_broken == "alice:7");
    CHECK(reading.report().sent == 2);
}

TEST_CASE("LedgerReader: nesting is skipped up to its limit and broken past it") {
    const auto nested = [](int depth) {
        return R"({"event":"queued","fp":"a","from":"alice","to":"bob","x":)" +
               std::string(static_cast<std::size_t>(depth), '[') + R"({"fp":"z"})" +
               std::string(static_cast<std::size_t>(depth), ']') + "}\n";
    };
    Reading reading;
    reading.reader.read_text("alice", nested(LogEventParser::kDepthMax - 2));
    CHECK(reading.reader.totals().broken == 0);
    CHECK(reading.report().sent == 1);
    reading.reader.read_text("alice", nested(LogEventParser::kDepthMax - 1) + nested(1'000'000));
    CHECK(reading.reader.totals().broken == 2);
}

TEST_CASE("LedgerReader: a line at the limit is read, a longer one is broken") {
    const std::string line = R"({"event":"queued","fp":"a","from":"alice","to":"bob"})";
    for (const std::size_t slack : {std::size_t{0}, std::size_t{1}}) {
        Ledger ledger;
        LedgerReader::Options options;
        options.line_bytes_max = line.size() - slack;
        LedgerReader reader(ledger, options);
        reader.read_text("alice", line + "\n");
        CHECK(reader.totals().broken == slack);
    }
}

TEST_CASE("LedgerReader: a line without the sender belongs to the sender of the others") {
    Reading reading;
    reading.reader.read_text("alice", R"({"event":"queued","fp":"a","to":"bob"})"
                                      "\n" +
                                          kAlice);
    CHECK(reading.report().sent == 2);
}

TEST_CASE("LedgerReader: no sender anywhere is a question mark") {
    Reading reading;
    reading.reader.read_text("old", R"({"event":"queued","fp":"a","to":"bob"})"
                                    "\n");
    REQUIRE(reading.report().problems.size() == 1);
    CHECK(reading.report().problems[0].from == "?");
}

TEST_CASE("LedgerReader: numbers that cannot be are ignored") {
    Reading reading;
    reading.reader.read_text(
        "alice", R"({"event":"accepted","fp":"a","from":"alice","cseq":-1,"attempts":1.5,)"
                 R"("ms":null,"code":99999999999999999999})"
                 "\n");
    CHECK(reading.report().accepted == 1);
    CHECK(reading.report().retransmitted == 0);
    CHECK_FALSE(reading.report().p50_ms);
}

TEST_CASE("LedgerReader: a file that is not there is reported") {
    Reading reading;
    std::string why;
    CHECK_FALSE(reading.reader.read_file("/no/such/file", why));
    CHECK(why.find("/no/such/file") != std::string::npos);
    CHECK_FALSE(reading.reader.read_file("/tmp", why));
}

TEST_CASE("Life: the stages come in order, up to the handling that covers it") {
    Reading reading;
    Life life("a");
    reading.reader.set_observer([&](const LogEvent& event, std::string_view file,
                                    std::uint64_t line) { life.see(event, file, line); });
    reading.reader.read_text(
        "gateway",
        R"({"event":"committed","app":"default","from":"alice","to":"bob","fp":"a","cseq":1})"
        "\n"
        R"({"event":"pushed","user":"bob","device":"listen","seq":5,"from":"alice","fp":"a"})"
        "\n"
        R"({"event":"handled","user":"bob","device":"listen","h":4})"
        "\n"
        R"({"event":"handled","user":"bob","device":"tablet","h":9})"
        "\n"
        R"({"event":"handled","user":"bob","device":"listen","h":6})"
        "\n"
        R"({"event":"handled","user":"bob","device":"listen","h":7})"
        "\n");
    reading.reader.read_text("bob", kBob);
    reading.reader.read_text("alice", kAlice);
    std::vector<std::string> told;
    for (const auto& entry : life.entries()) {
        told.push_back(entry.event + " " + entry.file + ":" + std::to_string(entry.line));
    }
    CHECK(told == std::vector<std::string>{"queued alice:1", "committed gateway:1",
                                           "accepted alice:3", "pushed gateway:2", "message bob:2",
                                           "handled gateway:5"});
}

}  // namespace
}  // namespace petrel::tools
