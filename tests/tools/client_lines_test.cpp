#include <doctest/doctest.h>

#include <string>

#include "tools/petrel/event_lines.hpp"
#include "tools/petrel/open_messages.hpp"

using namespace petrel;
using petrel::tools::OpenMessages;
using petrel::tools::printable;
using petrel::tools::SendTotals;

namespace {

Fingerprint fp(int number) { return *Fingerprint::parse("f" + std::to_string(number)); }

}  // namespace

TEST_CASE("printable: texts, newlines and tabs stay") {
    CHECK(printable("") == "");
    CHECK(printable("a\tb\nc \xc3\xbc \xf0\x9f\x90\xa6") == "a\tb\nc \xc3\xbc \xf0\x9f\x90\xa6");
}

TEST_CASE("printable: nothing commands the terminal") {
    const std::string bad = "\xef\xbf\xbd";
    CHECK(printable("\x1b[2J") == bad + "[2J");
    CHECK(printable("a\rb\x7f") == "a" + bad + "b" + bad);
    CHECK(printable(std::string("\0", 1)) == bad);
    CHECK(printable("\xc2\x9b"
                    "2J") == bad + "2J");        // U+009B, a CSI in one character.
    CHECK(printable("\xc2\xa0") == "\xc2\xa0");  // U+00A0 is a space.
    CHECK(printable("\xff") == bad);
    CHECK(printable("\xc2") == bad);
}

TEST_CASE("OpenMessages: what was taken is gone, the rest is in the order of adding") {
    OpenMessages open;
    CHECK(open.empty());
    for (int i = 1; i <= 5; ++i) CHECK(open.add(fp(i), "bob", 10) == static_cast<unsigned>(i));
    const auto taken = open.take(fp(3));
    REQUIRE(taken.has_value());
    CHECK(taken->number == 3);
    CHECK(taken->to == "bob");
    CHECK(taken->age_ms() >= 0);
    CHECK_FALSE(open.take(fp(3)).has_value());
    std::string order;
    for (const auto& [id, message] : open.in_order()) order += id.to_string();
    CHECK(order == "f1f2f4f5");
}

TEST_CASE("OpenMessages: room ends with the number of messages") {
    OpenMessages open;
    int added = 0;
    for (; open.has_room() && added < 100'000; ++added) open.add(fp(added), "bob", 1);
    CHECK(added == 4'096);
    (void)open.take(fp(0));
    CHECK(open.has_room());
}

TEST_CASE("OpenMessages: room ends with their bytes") {
    OpenMessages open;
    open.add(fp(1), "bob", (std::size_t{16} << 20) - 1);
    CHECK(open.has_room());
    open.add(fp(2), "bob", 1);
    CHECK_FALSE(open.has_room());
    (void)open.take(fp(1));
    CHECK(open.has_room());
}

TEST_CASE("SendTotals: anything but accepted is a failure") {
    SendTotals totals;
    totals.sent = totals.accepted = 3;
    CHECK_FALSE(totals.has_failed());
    CHECK(totals.to_string() == "3 sent, 3 accepted, 0 rejected, 0 expired, 0 lost");
    for (auto member : {&SendTotals::rejected, &SendTotals::expired, &SendTotals::lost}) {
        SendTotals failed = totals;
        ++(failed.*member);
        CHECK(failed.has_failed());
    }
}
