#include "tools/petrel/line_reader.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

using petrel::tools::LineReader;
using Status = LineReader::Status;

namespace {

// The writing end of a pipe that is read by lines.
class Feed {
public:
    explicit Feed(std::size_t line_bytes_max = 100) {
        REQUIRE(pipe(ends_) == 0);
        reader = std::make_unique<LineReader>(ends_[0], line_bytes_max);
    }
    ~Feed() {
        close();
        ::close(ends_[0]);
    }
    Feed(const Feed&) = delete;
    Feed& operator=(const Feed&) = delete;

    void write(std::string_view text) {
        REQUIRE(::write(ends_[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }
    void close() {
        if (ends_[1] >= 0) ::close(ends_[1]);
        ends_[1] = -1;
    }
    // What can be had without waiting: "[line]", "too long", "timeout", "end".
    std::vector<std::string> take_all() {
        std::vector<std::string> result;
        std::string line;
        for (;;) {
            switch (reader->next(line, 0, -1)) {
                case Status::kLine: result.push_back("[" + line + "]"); break;
                case Status::kTooLong: result.push_back("too long"); break;
                case Status::kTimeout: result.push_back("timeout"); return result;
                case Status::kStopped: result.push_back("stopped"); return result;
                case Status::kEnd: result.push_back("end"); return result;
            }
        }
    }

    std::unique_ptr<LineReader> reader;

private:
    int ends_[2] = {-1, -1};
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("LineReader: lines come one by one, the empty ones too") {
    Feed feed;
    feed.write("one\n\ntwo\r\nthr");
    CHECK(feed.take_all() == Lines{"[one]", "[]", "[two]", "timeout"});
    feed.write("ee\n");
    CHECK(feed.take_all() == Lines{"[three]", "timeout"});
}

TEST_CASE("LineReader: a last line without a newline counts, an empty rest does not") {
    Feed with_rest;
    with_rest.write("one\ntwo");
    with_rest.close();
    CHECK(with_rest.take_all() == Lines{"[one]", "[two]", "end"});
    Feed without;
    without.write("one\n");
    without.close();
    CHECK(without.take_all() == Lines{"[one]", "end"});
}

TEST_CASE("LineReader: the end stays the end") {
    Feed feed;
    feed.close();
    CHECK(feed.take_all() == Lines{"end"});
    CHECK(feed.take_all() == Lines{"end"});
}

TEST_CASE("LineReader: a line at the limit is taken, one over it is skipped whole") {
    Feed feed(5);
    feed.write("12345\n123456\n12345\n");
    CHECK(feed.take_all() == Lines{"[12345]", "too long", "[12345]", "timeout"});
}

TEST_CASE("LineReader: a line over the limit that comes in pieces is told once") {
    Feed feed(5);
    feed.write("1234567");
    CHECK(feed.take_all() == Lines{"timeout"});
    feed.write("89abcdefgh");
    CHECK(feed.take_all() == Lines{"timeout"});
    feed.write("i\nnext\n");
    CHECK(feed.take_all() == Lines{"too long", "[next]", "timeout"});
    feed.write("1234567");
    feed.close();
    CHECK(feed.take_all() == Lines{"too long", "end"});
}

TEST_CASE("LineReader: with a limit of zero only empty lines are taken") {
    Feed feed(0);
    feed.write("\na\n\n");
    CHECK(feed.take_all() == Lines{"[]", "too long", "[]", "timeout"});
}

TEST_CASE("LineReader: more lines than a chunk holds") {
    Feed feed;
    std::string text;
    Lines wanted;
    for (int i = 0; i < 5'000; ++i) {
        text += std::to_string(i) + "\n";
        wanted.push_back("[" + std::to_string(i) + "]");
    }
    feed.write(text);
    wanted.push_back("timeout");
    CHECK(feed.take_all() == wanted);
}

TEST_CASE("LineReader: a stop is told before a line that waits, and ends a wait") {
    Feed feed;
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    REQUIRE(::write(ends[1], "x", 1) == 1);
    feed.write("one\n");
    std::string line;
    CHECK(feed.reader->next(line, -1, ends[0]) == Status::kStopped);
    CHECK(feed.take_all() == Lines{"[one]", "timeout"});
    CHECK(feed.reader->next(line, -1, ends[0]) == Status::kStopped);
    ::close(ends[0]);
    ::close(ends[1]);
}
