#include "tools/petrel/wire_lane.hpp"

#include <doctest/doctest.h>

#include <string>

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint kStart{1h};
const std::string kHead = "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n";

// All that leaves at once.
std::string take_all(WireLane& lane, TimePoint now) {
    std::string all;
    for (;;) {
        const std::string_view part = lane.take(now);
        if (part.empty()) return all;
        all += part;
    }
}

// A frame of text, unmasked: what a server sends.
std::string frame(std::size_t payload) {
    std::string text = "\x81";
    if (payload < 126) {
        text += static_cast<char>(payload);
    } else if (payload < 65'536) {
        text += '\x7e';
        text += static_cast<char>(payload >> 8);
        text += static_cast<char>(payload & 0xff);
    } else {
        text += '\x7f';
        for (int shift = 56; shift >= 0; shift -= 8) {
            text += static_cast<char>((payload >> shift) & 0xff);
        }
    }
    return text + std::string(payload, 'p');
}

TEST_CASE("WireLane: without faults bytes pass at once and in order") {
    WireLane lane;
    lane.push("ab");
    lane.push("c");
    CHECK(take_all(lane, kStart) == "abc");
    CHECK(lane.held() == 0);
    CHECK_FALSE(lane.next_at(kStart));
    lane.push("d");
    CHECK(take_all(lane, kStart) == "d");
}

TEST_CASE("WireLane: a megabyte passes whole, in writes of a limited size") {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += std::to_string(i);
    WireLane lane;
    lane.push(text);
    std::string all;
    for (;;) {
        const std::string_view part = lane.take(kStart);
        if (part.empty()) break;
        CHECK(part.size() <= 16 * 1024);
        all += part;
    }
    CHECK(all == text);
}

TEST_CASE("WireLane: a stall holds until its end, the later of two counts") {
    WireLane lane;
    lane.stall_until(kStart + 5s);
    lane.stall_until(kStart + 3s);
    lane.push("a");
    CHECK(lane.take(kStart + 5s - 1ns).empty());
    CHECK(lane.next_at(kStart) == kStart + 5s);
    CHECK(take_all(lane, kStart + 5s) == "a");
}

TEST_CASE("WireLane: a slice limits each write, until its end") {
    WireLane lane;
    lane.set_slice(1, kStart + 1s);
    lane.push("abc");
    CHECK(lane.take(kStart) == "a");
    CHECK(lane.take(kStart) == "b");
    lane.push("de");
    CHECK(lane.take(kStart + 1s) == "cde");
}

TEST_CASE("WireLane: a rate lets so many bytes a second go") {
    WireLane lane;
    lane.set_rate(10, kStart, TimePoint::max());
    lane.push(std::string(100, 'x'));
    CHECK(lane.take(kStart).empty());
    REQUIRE(lane.next_at(kStart));
    CHECK(*lane.next_at(kStart) > kStart + 99ms);
    CHECK(*lane.next_at(kStart) < kStart + 101ms);
    std::size_t passed = 0;
    TimePoint now = kStart;
    while (const auto next = lane.next_at(now)) {
        now = *next;
        passed += lane.take(now).size();
    }
    CHECK(passed == 100);
    CHECK(now > kStart + 9900ms);
    CHECK(now < kStart + 10100ms);
}

TEST_CASE("WireLane: a rate saves up a second's worth and no more") {
    WireLane lane;
    lane.set_rate(10, kStart, TimePoint::max());
    lane.push(std::string(100, 'x'));
    CHECK(take_all(lane, kStart + 1min).size() == 10);
}

TEST_CASE("WireLane: a rate that has ended limits nothing") {
    WireLane lane;
    lane.set_rate(1, kStart, kStart + 1s);
    lane.push(std::string(100, 'x'));
    CHECK(lane.next_at(kStart) <= kStart + 1s);
    CHECK(take_all(lane, kStart + 1s).size() == 100);
}

TEST_CASE("WireLane: what is swallowed is gone, held or coming, for good") {
    WireLane lane;
    lane.push("a");
    lane.swallow();
    lane.push("b");
    CHECK(lane.is_swallowed());
    CHECK(lane.held() == 0);
    CHECK(take_all(lane, kStart + 1h).empty());
}

TEST_CASE("WireLane: a cut in a frame lets half its payload go") {
    for (const std::size_t payload : {2, 125, 126, 65'535, 65'536}) {
        CAPTURE(payload);
        WireLane lane;
        lane.push(kHead);
        CHECK(take_all(lane, kStart) == kHead);
        lane.push(frame(10));
        CHECK(take_all(lane, kStart) == frame(10));
        lane.cut_in_frame();
        lane.push(frame(payload) + frame(payload));
        const std::string gone = take_all(lane, kStart);
        const std::size_t head = frame(payload).size() - payload;
        CHECK(gone.size() == head + payload - payload / 2);
        CHECK(lane.is_cut());
        CHECK_FALSE(lane.next_at(kStart));
    }
}

TEST_CASE("WireLane: a cut in a frame finds its place byte by byte too") {
    WireLane lane;
    lane.set_slice(1, TimePoint::max());
    lane.push(kHead);
    take_all(lane, kStart);
    lane.cut_in_frame();
    lane.push("\x81\x84mask1234");  // A client's, masked.
    CHECK(take_all(lane, kStart) == "\x81\x84mask12");
    CHECK(lane.is_cut());
}

TEST_CASE("WireLane: a frame of one byte or none is cut within its head or behind it") {
    for (const std::size_t payload : {0, 1}) {
        CAPTURE(payload);
        WireLane lane;
        lane.push(kHead);
        take_all(lane, kStart);
        lane.cut_in_frame();
        lane.push(frame(payload));
        CHECK(take_all(lane, kStart).size() == payload + 1);
        CHECK(lane.is_cut());
    }
}

TEST_CASE("WireLane: the handshake is not cut as a frame") {
    WireLane lane;
    lane.cut_in_frame();
    lane.push("HTTP/1.1 101 Switching\r\n\r\r\n\r\n");
    take_all(lane, kStart);
    CHECK_FALSE(lane.is_cut());
    lane.push(frame(4));
    CHECK(take_all(lane, kStart) == std::string("\x81\x04pp"));
    CHECK(lane.is_cut());
}

TEST_CASE("WireLane: what has no frames, as TLS, is cut amid what comes") {
    WireLane lane;
    lane.push("\x16\x03\x01");
    take_all(lane, kStart);
    lane.cut_in_frame();
    lane.push("0123456789");
    CHECK(take_all(lane, kStart) == "01234");
    CHECK(lane.is_cut());
}

}  // namespace
}  // namespace petrel::tools
