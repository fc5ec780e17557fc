#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/transport/raw_socket.hpp"
#include "transport/websocket_frame.hpp"

using namespace petrel;
using namespace petrel::ws;
using petrel::test::frame;

namespace {

using Kind = FrameReader::Kind;

// What a reader makes of bytes that come in pieces of `piece` bytes, one line an event.
std::vector<std::string> read(const std::string& bytes, std::size_t piece,
                              std::size_t message_bytes_max = 100'000, bool is_masked = true) {
    FrameReader reader({is_masked, message_bytes_max});
    std::vector<std::string> events;
    for (std::size_t begin = 0; begin < bytes.size(); begin += piece) {
        std::string part = bytes.substr(begin, piece);  // On the heap: an overrun is seen.
        char* at = part.data();
        char* const end = at + part.size();
        for (;;) {
            const FrameReader::Event event = reader.next(at, end);
            const std::string text(event.payload);
            if (event.kind == Kind::kNothing) break;
            if (event.kind == Kind::kText) events.push_back("text " + text);
            if (event.kind == Kind::kBinary)
                events.push_back("binary " + std::to_string(event.size));
            if (event.kind == Kind::kPing) events.push_back("ping " + text);
            if (event.kind == Kind::kPong) events.push_back("pong " + text);
            if (event.kind == Kind::kClose) {
                events.push_back("close " + std::to_string(event.code) + " " + text);
            }
            if (event.kind == Kind::kFault) {
                events.push_back("fault " + std::to_string(event.code));
                return events;
            }
        }
        CHECK(at == end);
    }
    return events;
}

using Events = std::vector<std::string>;

// The same, whatever the pieces.
Events read_all_ways(const std::string& bytes, std::size_t message_bytes_max = 100'000) {
    const Events whole = read(bytes, bytes.size(), message_bytes_max);
    for (std::size_t piece = 1; piece < std::min<std::size_t>(bytes.size(), 40); ++piece) {
        CHECK(read(bytes, piece, message_bytes_max) == whole);
    }
    return whole;
}

std::string masked(Opcode opcode, std::string_view payload, const Mask& mask) {
    std::string out;
    append_frame(opcode, payload, &mask, out);
    return out;
}

}  // namespace

TEST_CASE("FrameReader: messages, fragments and control frames, cut anywhere") {
    CHECK(read_all_ways(frame(0x81, "one") + frame(0x81, "") + frame(0x01, "in ") +
                        frame(0x89, "p") + frame(0x00, "") + frame(0x8a, "") +
                        frame(0x80, "parts \xe2\x82\xac") + frame(0x02, "12") + frame(0x80, "345") +
                        frame(0x88,
                              "\x03\xe8"
                              "bye")) == Events{"text one", "text ", "ping p", "pong ",
                                                "text in parts \xe2\x82\xac", "binary 5",
                                                "close 1000 bye"});
}

TEST_CASE("FrameReader: a character may be cut by a fragment's end") {
    CHECK(read_all_ways(frame(0x01, "\xf0") + frame(0x00, "\x9f\x90") + frame(0x80, "\xa6")) ==
          Events{"text \xf0\x9f\x90\xa6"});
}

TEST_CASE("FrameReader: what it reads is what append_frame wrote, for every size and mask") {
    unsigned seed = 1;
    for (const std::size_t size :
         {0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 125, 126, 127, 1000, 65'535, 65'536, 70'001}) {
        std::string text(size, ' ');
        Mask mask;
        for (char& c : text)
            c = static_cast<char>('!' + (seed = seed * 1'103'515'245 + 12'345) / 65'536 % 90);
        for (unsigned char& byte : mask)
            byte = static_cast<unsigned char>(seed = seed * 69'069 + 1);
        const std::string bytes = masked(Opcode::kText, text, mask);
        for (const std::size_t piece :
             {std::size_t{1}, std::size_t{5}, std::size_t{4093}, bytes.size()}) {
            CHECK(read(bytes, piece) == Events{"text " + text});
        }
        std::string plain;
        append_frame(Opcode::kText, text, nullptr, plain);
        CHECK(read(plain, plain.size(), 100'000, false) == Events{"text " + text});
    }
}

TEST_CASE("FrameReader: the mask applies from any offset of the data") {
    const Mask mask{0x12, 0x34, 0x56, 0x78};
    for (std::size_t offset = 0; offset < 9; ++offset) {
        for (std::size_t size = 0; size < 80; ++size) {
            std::string data(offset + size + 1, 'x');
            apply_mask(data.data() + offset, size, mask);
            for (std::size_t i = 0; i < size; ++i) {
                REQUIRE(data[offset + i] == static_cast<char>('x' ^ mask[i % 4]));
            }
            REQUIRE(data.back() == 'x');
        }
    }
}

TEST_CASE("FrameReader: the limit holds for a message, however many frames it has") {
    CHECK(read_all_ways(frame(0x81, "12345"), 5) == Events{"text 12345"});
    CHECK(read_all_ways(frame(0x81, "123456"), 5) == Events{"fault 1009"});
    CHECK(read_all_ways(frame(0x01, "123") + frame(0x80, "45"), 5) == Events{"text 12345"});
    CHECK(read_all_ways(frame(0x01, "123") + frame(0x80, "456"), 5) == Events{"fault 1009"});
    CHECK(read_all_ways(frame(0x01, "123") + frame(0x80, "", UINT64_MAX / 2 - 1), 5) ==
          Events{"fault 1009"});
    CHECK(read_all_ways(frame(0x81, ""), 0) == Events{"text "});
    CHECK(read_all_ways(frame(0x81, "1"), 0) == Events{"fault 1009"});
    CHECK(read_all_ways(frame(0x81, "12345") + frame(0x81, "12345"), 5) ==
          Events{"text 12345", "text 12345"});
    CHECK(read_all_ways(frame(0x81, "", kMessageBytesMax + 1), SIZE_MAX) == Events{"fault 1009"});
}

TEST_CASE("FrameReader: what RFC 6455 forbids is a fault with its code") {
    struct Case {
        std::string bytes;
        const char* fault;
    };
    const Case cases[] = {
        {frame(0xc1, "x"), "fault 1002"},  // Reserved bits.
        {frame(0xa1, "x"), "fault 1002"},
        {frame(0x91, "x"), "fault 1002"},
        {frame(0x83, "x"), "fault 1002"},  // Reserved opcodes.
        {frame(0x87, "x"), "fault 1002"},
        {frame(0x8b, "x"), "fault 1002"},
        {frame(0x8f, "x"), "fault 1002"},
        {std::string("\x81\x01x", 3), "fault 1002"},  // No mask.
        {frame(0x80, "x"), "fault 1002"},             // A continuation of nothing.
        {frame(0x00, "x"), "fault 1002"},
        {frame(0x01, "x") + frame(0x81, "y"), "fault 1002"},         // A message inside another.
        {frame(0x09, "x"), "fault 1002"},                            // A ping in fragments.
        {frame(0x89, std::string(126, 'x')), "fault 1002"},          // A long one.
        {std::string("\x81\xfe\x00\x7d\0\0\0\0", 8), "fault 1002"},  // 125 in 16 bits.
        {std::string("\x81\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14), "fault 1002"},  // 65535 in 64.
        {std::string("\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14), "fault 1002"},    // The top bit.
        {frame(0x88, "x"), "fault 1002"},             // A close frame of one byte.
        {frame(0x88, "\x03\xe8\xff"), "fault 1007"},  // A reason that is not UTF-8.
        {frame(0x81, "\xff"), "fault 1007"},
        {frame(0x81, "\xe2\x82"), "fault 1007"},
        {frame(0x01, "\xe2") + frame(0x80, "x"), "fault 1007"},
    };
    for (const Case& one : cases) {
        CAPTURE(one.bytes);
        CHECK(read_all_ways(one.bytes) == Events{one.fault});
    }
    CHECK(read(frame(0x81, "x"), 100, 100, false) == Events{"fault 1002"});  // A server's mask.
}

TEST_CASE("FrameReader: text that cannot become UTF-8 is found before the message ends") {
    CHECK(read_all_ways(frame(0x01, "\xf4\x90")) == Events{"fault 1007"});
    CHECK(read_all_ways(frame(0x01, "\xed\xa0")) == Events{"fault 1007"});
    CHECK(read(frame(0x81, "\xff ...", 1000), 4096) == Events{"fault 1007"});
}

TEST_CASE("FrameReader: of close codes those that may be sent are taken") {
    for (int code = 0; code < 5010; ++code) {
        const bool is_good =
            (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
            (code >= 3000 && code <= 4999);
        const std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
        const std::string expected = is_good ? "close " + std::to_string(code) + " " : "fault 1002";
        REQUIRE(read(frame(0x88, payload), 100) == Events{expected});
    }
    CHECK(read_all_ways(frame(0x88, "")) == Events{"close 1005 "});
}

TEST_CASE("append_close_frame: code and reason, none for 1005, never too long") {
    const Mask mask{1, 2, 3, 4};
    const auto written = [&](std::uint16_t code, const std::string& reason) {
        std::string out;
        append_close_frame(code, reason, &mask, out);
        return read(out, out.size());
    };
    CHECK(written(4001, "because") == Events{"close 4001 because"});
    CHECK(written(1005, "because") == Events{"close 1005 "});
    CHECK(written(1000, std::string(200, 'r')) == Events{"close 1000 " + std::string(123, 'r')});
}
