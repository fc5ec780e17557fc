#include "protocol/fingerprint.hpp"

#include <doctest/doctest.h>
#include <memory>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>

using petrel::Fingerprint;
using petrel::UuidSource;

namespace {

constexpr char kUuid[] = "bf09e7b5-7be3-4121-a028-a91345356cce";

}  // namespace

TEST_CASE("Fingerprint: a default-made one is empty and prints nothing") {
    const Fingerprint fp;
    CHECK(fp.empty());
    CHECK_FALSE(fp.is_uuid());
    CHECK(fp.to_string().empty());
}

TEST_CASE("Fingerprint: a lower-case canonical UUID is kept as bytes and printed back") {
    const auto fp = Fingerprint::parse(kUuid);
    REQUIRE(fp);
    CHECK(fp->is_uuid());
    CHECK(fp->uuid()[0] == 0xbf);
    CHECK(fp->uuid()[15] == 0xce);
    CHECK_FALSE(fp->empty());
    CHECK(fp->to_string() == kUuid);
    CHECK(*fp == Fingerprint::from_uuid(fp->uuid()));
}

TEST_CASE("Fingerprint: what is no lower-case canonical UUID stays text and is printed back") {
    const std::string upper = "BF09E7B5-7BE3-4121-A028-A91345356CCE";
    const std::string misplaced = "bf09e7b57-be3-4121-a028-a91345356cce";
    const std::string not_hex = "bf09e7b5-7be3-4121-a028-a91345356ccg";
    const std::string braces = "{bf09e7b5-7be3-4121-a028-a91345356cce}";
    for (const std::string& text : {upper, misplaced, not_hex, braces, std::string("c-fp-1"),
                                    std::string("{\"code\":1}"), std::string(" ~")}) {
        CAPTURE(text);
        const auto fp = Fingerprint::parse(text);
        REQUIRE(fp);
        CHECK_FALSE(fp->is_uuid());
        CHECK(fp->to_string() == text);
    }
}

TEST_CASE("Fingerprint: every position of a UUID's text is checked") {
    for (std::size_t at = 0; at < sizeof kUuid - 1; ++at) {
        std::string text = kUuid;
        text[at] = 'x';
        CAPTURE(text);
        const auto fp = Fingerprint::parse(text);
        REQUIRE(fp);
        CHECK_FALSE(fp->is_uuid());
    }
}

TEST_CASE("Fingerprint: the length is 1 to 64") {
    CHECK_FALSE(Fingerprint::parse(""));
    CHECK(Fingerprint::parse("a"));
    CHECK(Fingerprint::parse(std::string(Fingerprint::kTextMax, 'a')));
    CHECK_FALSE(Fingerprint::parse(std::string(Fingerprint::kTextMax + 1, 'a')));
}

TEST_CASE("Fingerprint: only printable ASCII is taken") {
    for (int c = 0; c < 256; ++c) {
        CAPTURE(c);
        const std::string text{'a', static_cast<char>(c)};
        CHECK(Fingerprint::parse(text).has_value() == (c >= 0x20 && c <= 0x7e));
    }
}

TEST_CASE("Fingerprint: order is total and agrees with equality") {
    const std::vector<Fingerprint> fps = {Fingerprint(),
                                          *Fingerprint::parse("a"),
                                          *Fingerprint::parse("b"),
                                          *Fingerprint::parse(kUuid),
                                          Fingerprint::from_uuid({}),
                                          Fingerprint::from_uuid({1})};
    for (const Fingerprint& a : fps) {
        for (const Fingerprint& b : fps) {
            CHECK((a < b) + (b < a) + (a == b) == 1);
            CHECK((a != b) == !(a == b));
            if (a == b) CHECK(a.hash() == b.hash());
        }
    }
    CHECK(std::set<Fingerprint>(fps.begin(), fps.end()).size() == fps.size());
}

TEST_CASE("Fingerprint: the UUID of zeros is not the empty fingerprint") {
    CHECK(Fingerprint::from_uuid({}) != Fingerprint());
    CHECK_FALSE(Fingerprint::from_uuid({}).empty());
}

TEST_CASE("Fingerprint: a copy is as good as what it was made of, and outlives it") {
    for (const char* const text : {"my own", "0a0b0c0d-0000-4000-8000-000000000001"}) {
        auto original = std::make_unique<Fingerprint>(Fingerprint::parse(text).value());
        const Fingerprint copy = *original;
        Fingerprint assigned = Fingerprint::parse("another").value();
        assigned = *original;
        CHECK(copy == *original);
        CHECK(copy.text() == (copy.is_uuid() ? "" : text));
        const Fingerprint moved = std::move(*original);
        original.reset();
        CHECK(copy.to_string() == text);
        CHECK(assigned.to_string() == text);
        CHECK(moved == copy);
        CHECK(moved.hash() == copy.hash());
    }
    Fingerprint fp = Fingerprint::parse("a").value();
    const Fingerprint& same = fp;
    fp = same;
    CHECK(fp.to_string() == "a");
    fp = Fingerprint();
    CHECK(fp.empty());
}

TEST_CASE("UuidSource: makes UUIDs of version 4 that print and parse as themselves") {
    UuidSource source;
    const Fingerprint fp = source.next();
    REQUIRE(fp.is_uuid());
    CHECK((fp.uuid()[6] & 0xf0) == 0x40);
    CHECK((fp.uuid()[8] & 0xc0) == 0x80);
    CHECK(Fingerprint::parse(fp.to_string()) == fp);
}

TEST_CASE("UuidSource: nothing repeats, across batches too") {
    UuidSource source;
    std::unordered_set<Fingerprint> seen;
    constexpr std::size_t kMany = 3 * 256 + 1;
    for (std::size_t i = 0; i < kMany; ++i) seen.insert(source.next());
    CHECK(seen.size() == kMany);
}
