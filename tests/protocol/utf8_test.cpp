#include "protocol/utf8.hpp"

#include <doctest/doctest.h>
#include <string>
#include <string_view>

using petrel::is_valid_utf8;
using namespace std::string_view_literals;

TEST_CASE("utf8: the empty text, ASCII and an embedded 0 are valid") {
    CHECK(is_valid_utf8(""));
    CHECK(is_valid_utf8("a"));
    CHECK(is_valid_utf8("a\0b"sv));
    CHECK(is_valid_utf8("\x7f"));
    CHECK(is_valid_utf8(std::string(1000, 'x')));
}

TEST_CASE("utf8: the first and last character of every length are valid") {
    CHECK(is_valid_utf8("\xc2\x80"));
    CHECK(is_valid_utf8("\xdf\xbf"));
    CHECK(is_valid_utf8("\xe0\xa0\x80"));
    CHECK(is_valid_utf8("\xed\x9f\xbf"));
    CHECK(is_valid_utf8("\xee\x80\x80"));
    CHECK(is_valid_utf8("\xef\xbf\xbf"));
    CHECK(is_valid_utf8("\xf0\x90\x80\x80"));
    CHECK(is_valid_utf8("\xf4\x8f\xbf\xbf"));
}

TEST_CASE("utf8: overlong forms are invalid") {
    CHECK_FALSE(is_valid_utf8("\xc0\x80"));
    CHECK_FALSE(is_valid_utf8("\xc1\xbf"));
    CHECK_FALSE(is_valid_utf8("\xe0\x9f\xbf"));
    CHECK_FALSE(is_valid_utf8("\xf0\x8f\xbf\xbf"));
}

TEST_CASE("utf8: surrogates and what is above U+10FFFF are invalid") {
    CHECK_FALSE(is_valid_utf8("\xed\xa0\x80"));
    CHECK_FALSE(is_valid_utf8("\xed\xbf\xbf"));
    CHECK_FALSE(is_valid_utf8("\xf4\x90\x80\x80"));
    CHECK_FALSE(is_valid_utf8("\xf5\x80\x80\x80"));
    CHECK_FALSE(is_valid_utf8("\xff"));
}

TEST_CASE("utf8: a lone or a missing continuation byte is invalid") {
    CHECK_FALSE(is_valid_utf8("\x80"));
    CHECK_FALSE(is_valid_utf8("\xbf"));
    CHECK_FALSE(is_valid_utf8("\xc2"));
    CHECK_FALSE(is_valid_utf8("\xe2\x82"));
    CHECK_FALSE(is_valid_utf8("\xf0\x9f\x98"));
    CHECK_FALSE(is_valid_utf8("\xc2\x41"));
    CHECK_FALSE(is_valid_utf8("\xe2\x82\x41"));
    CHECK_FALSE(is_valid_utf8("\xf0\x9f\x98\x41"));
}

TEST_CASE("utf8: a fault is found at any place of a long text") {
    for (std::size_t at = 0; at < 70; ++at) {
        std::string text(70, 'a');
        text[at] = '\xff';
        CAPTURE(at);
        CHECK_FALSE(is_valid_utf8(text));
    }
}

TEST_CASE("utf8: long texts of many-byte characters are valid") {
    std::string text;
    for (int i = 0; i < 100; ++i) text += "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    CHECK(is_valid_utf8(text));
}

namespace {

// By a stream that gets `text` in pieces of `size`.
bool is_valid_in_pieces(std::string_view text, std::size_t size) {
    petrel::Utf8Stream stream;
    for (std::size_t at = 0; at < text.size(); at += size) {
        if (!stream.feed(text.substr(at, size))) return false;
    }
    return stream.is_complete();
}

}  // namespace

TEST_CASE("Utf8Stream: the pieces change nothing about the verdict") {
    // Every text of four bytes out of those at which the rules change.
    constexpr unsigned char kEdges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2,
                                        0xdf, 0xe0, 0xe1, 0xed, 0xee, 0xf0, 0xf1, 0xf4, 0xf5, 0xff};
    std::string text(4, ' ');
    for (const unsigned char a : kEdges) {
        for (const unsigned char b : kEdges) {
            for (const unsigned char c : kEdges) {
                for (const unsigned char d : kEdges) {
                    text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c),
                            static_cast<char>(d)};
                    const bool is_valid = is_valid_utf8(text);
                    for (std::size_t size = 1; size <= 4; ++size) {
                        REQUIRE(is_valid_in_pieces(text, size) == is_valid);
                    }
                }
            }
        }
    }
}

TEST_CASE("Utf8Stream: a fault is found as early as it can be") {
    for (const auto text : {"\x80"sv, "\xc1"sv, "\xf5"sv, "\xe0\x9f"sv, "\xed\xa0"sv, "\xf0\x8f"sv,
                            "\xf4\x90"sv, "\xe1\x80x"sv, "\xf1\x80\x80x"sv}) {
        petrel::Utf8Stream stream;
        for (std::size_t i = 0; i + 1 < text.size(); ++i) CHECK(stream.feed(text.substr(i, 1)));
        CHECK_FALSE(stream.feed(text.substr(text.size() - 1)));
    }
}
