#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "daemons/pending_table.hpp"

using namespace petrel;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kNow = TimePoint(1000h);

Data message(const std::string& fp, const std::string& text = "text") {
    Data data;
    data.to = "bob";
    data.fp = Fingerprint::parse(fp).value();
    data.qos = true;
    data.typeu = kTypeuSingle;
    data.text = text;
    return data;
}

const std::string kUuid = "0a0b0c0d-0000-4000-8000-000000000001";

bool is_same(const Data& a, const Data& b) {
    return a.from == b.from && a.to == b.to && a.fp == b.fp && a.qos == b.qos &&
           a.typeu == b.typeu && a.bridge == b.bridge && a.send_ts == b.send_ts &&
           a.text == b.text && a.conv == b.conv && a.cseq == b.cseq && a.seq == b.seq;
}

std::string order(const PendingTable& table) {
    std::string text;
    Data scratch;
    for (Slot slot = table.front(); slot != kNoSlot; slot = table.next(slot)) {
        text += table.message(slot, scratch).fp.to_string() + ' ';
    }
    return text;
}

void remove(PendingTable& table, Slot slot) {
    SlotList gone;
    table.detach(slot, gone);
    table.free(slot);
}

}  // namespace

TEST_CASE("PendingTable: a message comes out as it went in, whatever it has") {
    std::vector<Data> all;
    all.push_back(message(kUuid));
    all.push_back(message("my own name"));
    all.push_back(message(std::string(Fingerprint::kTextMax, 'x'), ""));
    all.push_back(message("empty", ""));
    all.back().to = "";
    all.push_back(message("long", std::string(70'000, 'y')));
    all.back().to = std::string(255, 'z');
    for (const int typeu : {kTypeuNone, kTypeuGroup, 32767, -32768, 32768, -32769}) {
        all.push_back(message("t" + std::to_string(typeu)));
        all.back().typeu = typeu;
    }
    all.push_back(message("far"));
    all.back().to = std::string(256, 'z');
    // The gateway's.
    all.push_back(message("served"));
    all.back().from = "alice";
    all.back().conv = "c";
    all.back().cseq = 7;
    all.back().send_ts = 12;
    all.back().bridge = true;

    PendingTable table(kNow);
    std::vector<Slot> slots;
    for (const Data& data : all) slots.push_back(table.add(Data(data), kNow));
    CHECK(table.is_consistent());
    Data scratch;
    for (std::size_t i = 0; i < all.size(); ++i) {
        CHECK(is_same(table.message(slots[i], scratch), all[i]));
        CHECK(table.text_size(slots[i]) == all[i].text.size());
        CHECK(table.find(all[i].fp) == slots[i]);
    }
    CHECK(table.find(Fingerprint::parse("nobody").value()) == kNoSlot);
}

TEST_CASE("PendingTable: a text that spells a UUID in capitals is not that UUID") {
    PendingTable table(kNow);
    std::string capitals = kUuid;
    std::transform(capitals.begin(), capitals.end(), capitals.begin(), ::toupper);
    const Slot lower = table.add(message(kUuid), kNow);
    const Slot upper = table.add(message(capitals), kNow);
    CHECK(table.find(Fingerprint::parse(kUuid).value()) == lower);
    CHECK(table.find(Fingerprint::parse(capitals).value()) == upper);
}

TEST_CASE("PendingTable: names may come twice, and the index may be made at any time") {
    for (const std::size_t looked_at : {0U, 1U, 2U, 3U}) {
        PendingTable table(kNow);
        std::vector<Slot> slots;
        for (const char* const name : {"a", "a", "b"}) {
            if (slots.size() == looked_at) table.find(Fingerprint::parse("x").value());
            slots.push_back(table.add(message(name), kNow));
        }
        const Slot found = table.find(Fingerprint::parse("a").value());
        CHECK((found == slots[0] || found == slots[1]));
        CHECK(table.find(Fingerprint::parse("b").value()) == slots[2]);
        CHECK(table.is_named(slots[1], Fingerprint::parse("a").value()));
        CHECK_FALSE(table.is_named(slots[1], Fingerprint::parse("b").value()));
        CHECK(order(table) == "a a b ");
        CHECK(table.is_consistent());
        for (const Slot slot : slots) remove(table, slot);
        CHECK(table.find(Fingerprint::parse("a").value()) == kNoSlot);
        CHECK(table.is_consistent());
    }
}

TEST_CASE("PendingTable: what was detached is out of every order and can still be read") {
    PendingTable table(kNow);
    const Slot a = table.add(message("a"), kNow);
    const Slot b = table.add(message("b"), kNow);
    const Slot c = table.add(message("c"), kNow);
    table.set_expiry(b, kNow + 1s);
    table.make_sent(b).position = 9;
    SlotList gone;
    table.detach(b, gone);
    table.detach(a, gone);
    CHECK(table.is_consistent());
    CHECK(order(table) == "c ");
    CHECK(table.prev(kNoSlot) == c);
    CHECK_FALSE(table.has_expiries());
    CHECK(table.find(Fingerprint::parse("b").value()) == kNoSlot);
    Data scratch;
    CHECK(gone.front == b);
    CHECK(table.next(b) == a);
    CHECK(table.next(a) == kNoSlot);
    CHECK(table.message(b, scratch).fp.to_string() == "b");
    CHECK(table.message(b, scratch).seq == 9);
    CHECK(table.message(a, scratch).seq == 0);
    table.free(b);
    table.free(a);
    CHECK(table.size() == 1);
    CHECK(table.is_consistent());
}

TEST_CASE("PendingTable: being sent changes neither the rest nor when it was taken") {
    PendingTable table(kNow);
    const Slot a = table.add(message("a"), kNow + 30s);
    CHECK(table.sent(a) == nullptr);
    CHECK(table.taken_at(a) == kNow + 30s);
    table.make_sent(a).attempts = 3;
    table.make_sent(a).position = 5;
    REQUIRE(table.sent(a) != nullptr);
    CHECK(table.sent(a)->attempts == 3);
    CHECK(table.sent(a)->position == 5);
    CHECK(table.taken_at(a) == kNow + 30s);
}

TEST_CASE("PendingTable: times of taking are never later than they were") {
    PendingTable table(kNow);
    for (const Duration by : {Duration(-24h * 365), Duration(-1ns), Duration(1ns), Duration(62ms),
                              Duration(24h * 365)}) {
        const Slot slot = table.add(message(kUuid), kNow + by);
        CHECK(table.taken_at(slot) <= kNow + by);
        CHECK(table.taken_at(slot) > kNow + by - 63ms);
        remove(table, slot);
    }
    // Beyond what it reckons with it stays within it.
    CHECK(table.taken_at(table.add(message("a"), TimePoint::max())) > kNow + 24h * 365);
    CHECK(table.taken_at(table.add(message("b"), TimePoint::min())) < kNow - 24h * 365);
}

TEST_CASE("PendingTable: what is due comes by its deadline, and what is not stays") {
    PendingTable table(kNow);
    std::vector<Slot> slots;
    for (const int seconds : {5, 1, 9, 3}) {
        slots.push_back(table.add(message(std::to_string(seconds)), kNow));
        table.set_expiry(slots.back(), kNow + std::chrono::seconds{seconds});
    }
    table.add(message("never"), kNow);
    CHECK(table.no_expiry_before() == kNow + 1s);
    SlotList due;
    table.take_due(kNow + 1s - 1ns, [](Slot) { FAIL("nothing is due"); });
    table.take_due(kNow + 5s, [&](Slot slot) { table.detach(slot, due); });
    CHECK(due.front == slots[1]);
    CHECK(table.next(slots[1]) == slots[3]);
    CHECK(table.next(slots[3]) == slots[0]);
    CHECK(table.no_expiry_before() == kNow + 9s);
    CHECK(order(table) == "9 never ");
    CHECK(table.is_consistent());
}

// Against a plain list of (name, deadline), in an order of its own.
TEST_CASE("PendingTable: it stays whole through thousands of changes") {
    struct Known {
        std::string fp;
        TimePoint expires_at;
        Slot slot;
    };
    for (const std::uint64_t seed : {1ULL, 2ULL, 3ULL}) {
        PendingTable table(TimePoint{});
        std::vector<Known> known;
        std::mt19937_64 random(seed);
        TimePoint now{};
        const auto some_time = [&] {
            return random() % 4 == 0 ? TimePoint::max()
                                     : now + std::chrono::milliseconds{random() % 1000};
        };
        for (int i = 0; i < 4'000; ++i) {
            const bool is_growing = i / 500 % 2 == 0;
            if (known.empty() || random() % 10 < (is_growing ? 6U : 1U)) {
                Data data = message("m" + std::to_string(i), std::string(random() % 99, 'x'));
                if (random() % 5 == 0) data.from = "alice";
                const Slot slot = table.add(std::move(data), now);
                known.push_back({"m" + std::to_string(i), some_time(), slot});
                table.set_expiry(slot, known.back().expires_at);
            } else if (const auto what = random() % 4; what == 0) {
                Known& any = known[random() % known.size()];
                any.expires_at = std::min(any.expires_at, some_time());
                table.set_expiry(any.slot, any.expires_at);
            } else if (what == 1) {
                table.make_sent(known[random() % known.size()].slot);
            } else if (what == 2) {
                now += std::chrono::milliseconds{random() % 50};
                SlotList due;
                table.take_due(now, [&](Slot slot) { table.detach(slot, due); });
                TimePoint last = TimePoint::min();
                while (!due.empty()) {
                    const auto entry =
                        std::find_if(known.begin(), known.end(),
                                     [&](const Known& one) { return one.slot == due.front; });
                    REQUIRE(entry != known.end());
                    REQUIRE(entry->expires_at <= now);
                    REQUIRE(entry->expires_at >= last);
                    last = entry->expires_at;
                    known.erase(entry);
                    const Slot slot = std::exchange(due.front, table.next(due.front));
                    table.free(slot);
                }
                for (const Known& one : known) REQUIRE(one.expires_at > now);
            } else {
                const auto gone =
                    known.begin() + static_cast<std::ptrdiff_t>(random() % known.size());
                remove(table, gone->slot);
                known.erase(gone);
            }
            if (i % 20 == 0) REQUIRE(table.is_consistent());
        }
        std::string expected;
        for (const Known& one : known) expected += one.fp + ' ';
        CHECK(order(table) == expected);
        for (const Known& one : known) {
            CHECK(table.find(Fingerprint::parse(one.fp).value()) == one.slot);
            CHECK(table.expiry(one.slot) == one.expires_at);
        }
    }
}
