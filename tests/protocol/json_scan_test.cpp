#include "protocol/json_scan.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/protocol/packets.hpp"

// Whatever the scan takes, the parser must take too and read the same. What it does not take is
// the parser's, so it need not be tried here.

namespace petrel {
namespace {

constexpr std::array<JsonKey, 8> kKeys = {{{"type"},
                                           {"dataContent"},
                                           {"fp"},
                                           {"Qos"},
                                           {"inbox", kJsonRoot, JsonShape::kObject},
                                           {"seq", 4},
                                           {"seq"},
                                           {"acc", kJsonRoot, JsonShape::kTriples}}};

struct Table {
    std::array<JsonValue, kKeys.size()> values{};
    std::vector<Acceptance> triples;
};

bool scans(std::string_view text, Table& table) {
    return scan_plain_object(text, kKeys.data(), table.values.data(), kKeys.size(), &table.triples);
}
bool scans(std::string_view text) {
    Table table;
    return scans(text, table);
}

// Of the text that is parsed in place: kept in `buffer`.
bool parses(std::string_view text, std::string& buffer, Table& table) {
    buffer = text;
    buffer.append(kJsonPadding, '\0');
    return parse_json_object(buffer.data(), text.size(), kKeys.data(), table.values.data(),
                             kKeys.size(), 32, &table.triples);
}

bool is_same(const JsonValue& a, const JsonValue& b) {
    if (a.kind != b.kind) return false;
    switch (a.kind) {
        case JsonKind::kBool: return a.truth == b.truth;
        case JsonKind::kNumber: return a.number == b.number;
        case JsonKind::kText: return a.text == b.text;
        default: return true;
    }
}

// True if the scan took it.
bool check_against_parser(const std::string& text) {
    Table scanned, parsed;
    if (!scans(text, scanned)) return false;
    std::string buffer;
    CAPTURE(text);
    REQUIRE(parses(text, buffer, parsed));
    for (std::size_t i = 0; i < kKeys.size(); ++i) {
        CAPTURE(i);
        CHECK(is_same(scanned.values[i], parsed.values[i]));
    }
    if (scanned.values[7].kind != JsonKind::kList) return true;
    REQUIRE(scanned.triples.size() == parsed.triples.size());
    for (std::size_t i = 0; i < scanned.triples.size(); ++i) {
        CHECK(scanned.triples[i].cseq == parsed.triples[i].cseq);
        CHECK(scanned.triples[i].send_ts == parsed.triples[i].send_ts);
        CHECK(scanned.triples[i].seq == parsed.triples[i].seq);
    }
    return true;
}

const std::vector<std::string> kPlain = {
    R"({})",
    R"({"type":2,"dataContent":"hello","fp":"1","Qos":true,"seq":7})",
    R"({"type":54,"h":12,"acc":[[1,1764000000000,2],[3,4,5]]})",
    R"({"acc":[],"type":-1,"unknown":"x","other":123456789012345,"more":null})",
    R"({"type":1,"type":"1","acc":[[1,2,3]],"acc":[],"Qos":false})",
    R"({"inbox":"text","seq":0,"type":-0,"":""})",
    "{\"dataContent\":\"gr\xc3\xbc\xc3\x9f\x65 \x7f 0123456789 abcdefgh\"}",
};

TEST_CASE("JsonScan: what is plain is taken, and read as the parser reads it") {
    for (const std::string& text : kPlain) {
        CAPTURE(text);
        CHECK(check_against_parser(text));
    }
}

TEST_CASE("JsonScan: the ordinary packets of petrel.v1 are plain") {
    UuidSource fingerprints;
    Data data;
    data.from = "alice";
    data.to = "bob";
    data.fp = fingerprints.next();
    data.qos = true;
    data.typeu = kTypeuSingle;
    data.text = "A text of some length, without quotes or lines.";
    data.seq = 17;
    data.prev = 12;
    data.conv = "u:alice:bob";
    data.cseq = 99;
    data.send_ts = 1'764'000'000'000;
    data.h = 4;
    data.acc = {{1, 2, 3}};
    std::string text;
    encode(data, ProfileId::kPetrelV1, Side::kServer, text);
    CHECK(scans(text));
    Ack ack;
    ack.h = 5;
    ack.rx = 6;
    ack.gap = true;
    text.clear();
    encode(ack, ProfileId::kPetrelV1, Side::kClient, text);
    CHECK(scans(text));
}

TEST_CASE("JsonScan: anything else is left to the parser") {
    for (const char* const text : {"",
                                   "{",
                                   "}",
                                   "[]",
                                   "{}x",
                                   "{} ",
                                   " {}",
                                   R"({"type":1,})",
                                   R"({"type" :1})",
                                   R"({"type":1.0})",
                                   R"({"type":1e3})",
                                   R"({"type":01})",
                                   R"({"type":1234567890123456})",
                                   R"({"type":+1})",
                                   R"({"type":-})",
                                   R"({"type":})",
                                   R"({"type"})",
                                   R"({type:1})",
                                   R"({"dataContent":"a\nb"})",
                                   R"({"ty\u0070e":1})",
                                   R"({"dataContent":"open)",
                                   "{\"dataContent\":\"a\nb\"}",
                                   R"({"x":{}})",
                                   R"({"x":[]})",
                                   R"({"inbox":{"seq":1}})",
                                   R"({"acc":[1,2,3]})",
                                   R"({"acc":[[1,2]]})",
                                   R"({"acc":[[1,2,3,4]]})",
                                   R"({"acc":[[1,2,-3]]})",
                                   R"({"acc":[[1,2,3],]})",
                                   R"({"acc":[[1,2,3])",
                                   R"({"Qos":tru})",
                                   R"({"Qos":truex})",
                                   R"({"Qos":nul})",
                                   R"({"a":1 "b":2})",
                                   R"({"a":1"b":2})"}) {
        CAPTURE(text);
        CHECK_FALSE(scans(text));
    }
    const std::string with_zero("{\"dataContent\":\"a\0b\"}", 21);
    CHECK_FALSE(scans(with_zero));
}

TEST_CASE("JsonScan: every prefix is left to the parser") {
    for (const std::string& text : kPlain) {
        for (std::size_t size = 0; size < text.size(); ++size) {
            CHECK_FALSE(scans(std::string_view(text).substr(0, size)));
        }
    }
}

TEST_CASE("JsonScan: of changed texts it takes none that the parser reads otherwise") {
    std::mt19937_64 random(20261125);
    const std::string_view bytes = "{}[]\",:0123456789-+.eE \\\ttrufalsnyp\x7f";
    std::size_t taken = 0;
    for (int round = 0; round < 60'000; ++round) {
        std::string text = kPlain[random() % kPlain.size()];
        for (auto changes = random() % 3 + 1; changes > 0 && !text.empty(); --changes) {
            const std::size_t at = random() % text.size();
            const char byte = bytes[random() % bytes.size()];
            switch (random() % 3) {
                case 0: text[at] = byte; break;
                case 1: text.insert(at, 1, byte); break;
                default: text.erase(at, 1 + random() % 3); break;
            }
        }
        taken += check_against_parser(text) ? 1 : 0;
    }
    CHECK(taken > 1'000);  // Or this would try nothing.
}

TEST_CASE("JsonScan: a failed scan leaves nothing behind for the parser") {
    // The list is scanned, and then the escape ends it.
    std::string text = R"({"acc":[[1,2,3]],"seq":5,"dataContent":"a\tb","acc":null})";
    const std::size_t size = text.size();
    text.append(kJsonPadding, '\0');
    Table table;
    REQUIRE(read_json_object(text.data(), size, kKeys.data(), table.values.data(), kKeys.size(), 32,
                             &table.triples));
    CHECK(table.values[7].kind == JsonKind::kNull);
    CHECK(table.values[1].text == "a\tb");
    CHECK(table.values[0].kind == JsonKind::kAbsent);
}

}  // namespace
}  // namespace petrel
