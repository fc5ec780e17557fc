#include "tools/petrel/json_line.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace petrel::tools {
namespace {

TEST_CASE("JsonLine: members come in the order of the calls") {
    std::string line = JsonLine("accepted").text("fp", "a").number("attempts", 1).take();
    CHECK(line == R"({"event":"accepted","fp":"a","attempts":1})");
}

TEST_CASE("JsonLine: a half-made line may be handed on") {
    JsonLine first("x");
    first.text("fp", "a fingerprint longer than what a short string holds in itself");
    JsonLine copy = first;
    JsonLine moved = std::move(first);
    copy.number("n", 1);
    moved.number("n", 2);
    CHECK(copy.take().find(R"("n":1})") != std::string::npos);
    CHECK(moved.take().find(R"("n":2})") != std::string::npos);
}

TEST_CASE("JsonLine: quotes, backslashes and control characters are escaped") {
    CHECK(JsonLine("x").text("text", "a\"b\\c\n\x01").take() ==
          R"({"event":"x","text":"a\"b\\c\n\u0001"})");
}

TEST_CASE("JsonLine: bytes that are not UTF-8 become U+FFFD") {
    CHECK(JsonLine("x")
              .text("text",
                    "a\xff"
                    "b\xc3")
              .take() ==
          "{\"event\":\"x\",\"text\":\"a\xef\xbf\xbd"
          "b\xef\xbf\xbd\"}");
    CHECK(to_valid_utf8("gr\xc3\xbc\xc3\x9f"
                        "e") ==
          "gr\xc3\xbc\xc3\x9f"
          "e");
}

TEST_CASE("JsonLine: reals have three decimals at most and no zeros behind") {
    CHECK(JsonLine("x").real("ms", 0.8).take() == R"({"event":"x","ms":0.8})");
    CHECK(JsonLine("x").real("ms", 12.0).take() == R"({"event":"x","ms":12})");
    CHECK(JsonLine("x").real("ms", 0.12349).take() == R"({"event":"x","ms":0.123})");
    CHECK(JsonLine("x").real("ms", 1e300).take().size() < 400);
}

TEST_CASE("JsonLine: what is no number is null") {
    CHECK(JsonLine("x").real("ms", std::nan("")).take() == R"({"event":"x","ms":null})");
    CHECK(JsonLine("x").real("ms", std::optional<double>()).take() == R"({"event":"x","ms":null})");
    CHECK(JsonLine("x").number("cseq", std::optional<std::uint64_t>()).take() ==
          R"({"event":"x","cseq":null})");
}

TEST_CASE("JsonLine: whole numbers keep all 64 bits") {
    CHECK(JsonLine("x").number("n", UINT64_MAX).number("m", INT64_MIN).take() ==
          R"({"event":"x","n":18446744073709551615,"m":-9223372036854775808})");
}

TEST_CASE("LineWriter: a file that cannot be opened is reported with its name") {
    std::string why;
    CHECK(LineWriter::open("/no/such/folder/trace.jsonl", why) == nullptr);
    CHECK(why.find("/no/such/folder/trace.jsonl") != std::string::npos);
}

TEST_CASE("LineWriter: a full disk is remembered, and later lines are dropped") {
    std::string why;
    const auto writer = LineWriter::open("/dev/full", why);
    REQUIRE(writer);
    writer->write("{}");
    CHECK(writer->has_failed());
    writer->write("{}");
    CHECK(writer->has_failed());
}

}  // namespace
}  // namespace petrel::tools
