#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "core/gateway/trace_file.hpp"

using namespace petrel;

namespace {

class TracePath {
public:
    TracePath() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "petrel-trace-XXXXXX").string();
        REQUIRE(mkdtemp(pattern.data()) != nullptr);
        folder_ = pattern;
    }
    ~TracePath() {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    std::string text() const { return (folder_ / "trace.jsonl").string(); }
    std::vector<std::string> lines() const {
        std::ifstream file(text());
        std::vector<std::string> all;
        for (std::string line; std::getline(file, line);) all.push_back(line);
        return all;
    }

private:
    std::filesystem::path folder_;
};

// From "conn" on: what is before it is the time.
std::string behind_time(const std::string& line) {
    const std::size_t at = line.find(",\"conn\"");
    return at == std::string::npos ? line : line.substr(at);
}

}  // namespace

TEST_CASE("TraceFile: an event is one line of what it has") {
    TracePath path;
    const Fingerprint id = Fingerprint::parse("a").value();
    {
        auto file = TraceFile::open(path.text());
        REQUIRE(static_cast<bool>(file));
        TraceEvent event;
        event.event = "received";
        event.connection = 7;
        event.user = "al\"ice";
        event.fp = &id;
        event.seq = 3;
        (*file)->on_trace(event);
    }
    REQUIRE(path.lines().size() == 1);
    const std::string line = path.lines()[0];
    CHECK(line.rfind(R"({"event":"received","ts":)", 0) == 0);
    CHECK(behind_time(line) == R"(,"conn":7,"user":"al\"ice","fp":"a","seq":3})");
}

TEST_CASE("TraceFile: an existing file is appended to") {
    TracePath path;
    for (int i = 0; i < 2; ++i) {
        auto file = TraceFile::open(path.text());
        REQUIRE(static_cast<bool>(file));
        (*file)->on_trace(TraceEvent{});
    }
    CHECK(path.lines().size() == 2);
}

TEST_CASE("TraceFile: a line is in the file when the call returns, however long it is") {
    TracePath path;
    auto file = TraceFile::open(path.text());
    REQUIRE(static_cast<bool>(file));
    const std::string conv(6'000, 'c');
    TraceEvent event;
    event.event = "committed";
    event.conv = conv;
    (*file)->on_trace(event);
    (*file)->on_trace(event);
    const std::vector<std::string> lines = path.lines();
    REQUIRE(lines.size() == 2);
    CHECK(lines[0].back() == '}');
    CHECK(lines[1].back() == '}');
}

TEST_CASE("TraceFile: threads do not mix their lines") {
    TracePath path;
    {
        auto file = TraceFile::open(path.text());
        REQUIRE(static_cast<bool>(file));
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&file] {
                TraceEvent event;
                event.event = "pushed";
                event.connection = 1;
                for (int n = 0; n < 500; ++n) (*file)->on_trace(event);
            });
        }
        for (std::thread& thread : threads) thread.join();
    }
    const std::vector<std::string> lines = path.lines();
    REQUIRE(lines.size() == 2000);
    for (const std::string& line : lines) CHECK(behind_time(line) == R"(,"conn":1})");
}

TEST_CASE("TraceFile: a path that cannot be opened is an error") {
    CHECK_FALSE(static_cast<bool>(TraceFile::open("/nonexistent/folder/trace")));
}
