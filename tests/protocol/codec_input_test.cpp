#include <doctest/doctest.h>
#include <string>
#include <string_view>

#include "tests/protocol/packets.hpp"

// Hostile and broken texts, and the codec's limits.

using namespace petrel;
using namespace petrel::codec_test;
using namespace std::string_view_literals;

namespace {

std::string nested(char open, char close, std::size_t levels) {
    return R"({"type":2,"x":)" + std::string(levels, open) + std::string(levels, close) + "}";
}

std::string nested_objects(std::size_t levels) {
    std::string text = R"({"type":2,"x":)";
    for (std::size_t i = 0; i < levels; ++i) text += R"({"x":)";
    text += "1";
    return text + std::string(levels + 1, '}');
}

}  // namespace

TEST_CASE("Codec: what is not exactly one JSON object is invalid") {
    for (const std::string_view text : {""sv,
                                        " "sv,
                                        "null"sv,
                                        "true"sv,
                                        "7"sv,
                                        "\"x\""sv,
                                        "[]"sv,
                                        "[{\"type\":2}]"sv,
                                        "{not json"sv,
                                        "{"sv,
                                        "}"sv,
                                        "{}"sv,
                                        R"({"type":2)"sv,
                                        R"({"type":2}})"sv,
                                        R"({"type":2} x)"sv,
                                        R"({"type":2}{"type":2})"sv,
                                        R"({"type":2,})"sv,
                                        R"({type:2})"sv,
                                        R"({'type':2})"sv,
                                        R"({"type":02})"sv,
                                        R"({"type":+2})"sv,
                                        R"({"type":.2})"sv,
                                        R"({"type":2.})"sv,
                                        R"({"type":NaN})"sv,
                                        R"({"type":-})"sv,
                                        R"({"type":2,"to":"b)"sv,
                                        R"({"type":2,"to":"\x"})"sv,
                                        R"({"type":2,"to":"\u12"})"sv,
                                        R"({"type":2,"to":"\u12G4"})"sv,
                                        "\xef\xbb\xbf{\"type\":2}"sv,
                                        R"({"type":2/**/})"sv,
                                        R"({"type" 2})"sv,
                                        R"({"type":2 "to":"b"})"sv,
                                        R"({"to":"\)"sv}) {
        CAPTURE(text);
        for (const ProfileId profile : kAllProfiles) CHECK(is_invalid(text, profile));
    }
}

TEST_CASE("Codec: white space around anything is allowed") {
    CHECK(is_valid(" \t\r\n{ \"type\" : 2 , \"to\" : \"b\" } \n"));
}

TEST_CASE("Codec: a packet without a type is never a login") {
    CHECK(is_invalid(R"({"dataContent":"{\"loginUserId\":\"a\"}"})"));
    CHECK(is_invalid(R"({"type":null,"dataContent":"{\"loginUserId\":\"a\"}"})"));
}

TEST_CASE("Codec: an embedded 0 does not end the text") {
    CHECK(is_invalid("{\"type\":2}\0"sv));
    CHECK(is_invalid("{\"type\":2}\0garbage"sv));
    CHECK(is_invalid("{\"type\":2,\"to\":\"a\0b\"}"sv));
    CHECK(is_invalid("\0{\"type\":2}"sv));
    CHECK(is_invalid("{\"type\":0,\"dataContent\":\"{\\\"loginUserId\\\":\\\"a\\\"}\\u0000x\"}"));
}

TEST_CASE("Codec: an escaped 0 is a character like any other") {
    const Data data = decoded_as<Data>(R"({"type":2,"dataContent":"a\u0000b"})");
    CHECK(data.text == "a\0b"sv);
}

TEST_CASE("Codec: raw control characters are invalid in strings") {
    for (int c = 0; c < 0x20; ++c) {
        CAPTURE(c);
        for (const std::size_t before : {0U, 40U}) {
            std::string text = R"({"type":2,"dataContent":")" + std::string(before, 'a');
            text += static_cast<char>(c);
            text += std::string(40, 'b') + "\"}";
            CHECK(is_invalid(text));
        }
    }
}

TEST_CASE("Codec: nesting up to the limit is skipped, deeper is invalid") {
    // The packet itself is the first level.
    CHECK(is_valid(nested('[', ']', 31)));
    CHECK(is_invalid(nested('[', ']', 32)));
    CHECK(is_valid(nested_objects(31)));
    CHECK(is_invalid(nested_objects(32)));
    CodecLimits limits;
    limits.depth_max = 1;
    CHECK(decode(R"({"type":2})", ProfileId::kPetrelV1, limits));
    CHECK_FALSE(decode(R"({"type":2,"x":[]})", ProfileId::kPetrelV1, limits));
    limits.depth_max = 0;
    CHECK_FALSE(decode(R"({"type":2})", ProfileId::kPetrelV1, limits));
    limits.depth_max = 1000;
    CHECK(decode(nested_objects(999), ProfileId::kPetrelV1, limits));
}

// Tencent/rapidjson#2282: a depth bomb overflowed the stack of a recursive parser.
TEST_CASE("Codec: a depth bomb neither crashes nor passes") {
    CodecLimits limits;
    limits.frame_bytes_max = 20'000'000;
    for (const std::size_t depth : {100U, 1'000'000U}) {
        CHECK_FALSE(decode(nested('[', ']', depth), ProfileId::kPetrelV1, limits));
        CHECK_FALSE(decode(nested_objects(depth), ProfileId::kPetrelV1, limits));
        CHECK_FALSE(decode(std::string(depth, '['), ProfileId::kPetrelV1, limits));
        CHECK_FALSE(decode(R"({"type":)" + std::string(depth, '['), ProfileId::kPetrelV1, limits));
    }
    limits.depth_max = 10'000'000;
    CHECK(decode(nested_objects(1'000'000), ProfileId::kPetrelV1, limits));
}

TEST_CASE("Codec: a depth bomb inside a control packet's content is invalid") {
    for (const std::size_t depth : {32U, 60'000U}) {
        std::string bomb = "{'loginUserId':'a','x':" + std::string(depth, '[');
        bomb += std::string(depth, ']') + "}";
        CHECK(is_invalid(control(0, bomb)));
    }
}

TEST_CASE("Codec: a frame over the limit is not even read") {
    CHECK(is_invalid(R"({"type":2,"dataContent":")" + std::string(10'000'000, 'a') + "\"}"));
    CodecLimits limits;
    const std::string text = R"({"type":2})";
    limits.frame_bytes_max = text.size();
    CHECK(decode(text, ProfileId::kPetrelV1, limits));
    limits.frame_bytes_max = text.size() - 1;
    CHECK_FALSE(decode(text, ProfileId::kPetrelV1, limits));
    limits.frame_bytes_max = 0;
    CHECK_FALSE(decode("", ProfileId::kPetrelV1, limits));
}

TEST_CASE("Codec: the largest payload of the default limits passes, fully escaped") {
    Data data;
    data.to = "b";
    data.text = std::string(65'536, '\x01');
    const std::string text = text_of(data, ProfileId::kImSdk, Side::kClient);
    CHECK(decoded_as<Data>(text).text == data.text);
}

TEST_CASE("Codec: frames of every length are read") {
    for (std::size_t size = 0; size < 5000; size += size < 100 ? 1 : 97) {
        const std::string content(size, 'a');
        const Data data = decoded_as<Data>(R"({"type":2,"dataContent":")" + content + "\"}");
        CHECK(data.text == content);
    }
}

TEST_CASE("Codec: ids have a limit in bytes") {
    const auto with = [](const char* key, std::size_t size) {
        return std::string(R"({"type":2,")") + key + R"(":")" + std::string(size, 'a') + "\"}";
    };
    for (const char* key : {"from", "to"}) {
        CHECK(is_valid(with(key, 256)));
        CHECK(is_invalid(with(key, 257)));
    }
    // A conversation of the two longest ids, every byte of them percent-encoded.
    CHECK(is_valid(with("conv", 6 * 256 + 3)));
    CHECK(is_invalid(with("conv", 6 * 256 + 4)));
}

TEST_CASE("Codec: user, app, token and extra have limits") {
    const auto login = [](const std::string& key, std::size_t size) {
        return control(0, "{'loginUserId':'a','" + key + "':'" + std::string(size, 'a') + "'}");
    };
    CHECK(is_valid(login("loginUserId", 256)));
    CHECK(is_invalid(login("loginUserId", 257)));
    CHECK(is_valid(login("app", 256)));
    CHECK(is_invalid(login("app", 257)));
    CHECK(is_valid(login("loginToken", 16'384)));
    CHECK(is_invalid(login("loginToken", 16'385)));
    CHECK(is_valid(login("extra", 16'384)));
    CHECK(is_invalid(login("extra", 16'385)));
}

TEST_CASE("Codec: invalid UTF-8 is invalid wherever it stands") {
    for (const std::string_view bad : {"\xff"sv, "\x80"sv, "\xc0\x80"sv, "\xed\xa0\x80"sv,
                                       "\xf4\x90\x80\x80"sv, "\xe2\x82"sv, "\xf0\x9f\x98"sv}) {
        CHECK(is_invalid(R"({"type":2,"dataContent":")" + std::string(bad) + "\"}"));
        CHECK(is_invalid(R"({"type":2,"x":")" + std::string(bad) + "\"}"));
        CHECK(is_invalid(R"({"type":2,")" + std::string(bad) + "\":1}"));
    }
    CHECK(decoded_as<Data>("{\"type\":2,\"dataContent\":\"\xf0\x9f\x98\x80\"}").text ==
          "\xf0\x9f\x98\x80");
}

TEST_CASE("Codec: surrogates come in pairs or not at all") {
    CHECK(decoded_as<Data>(R"({"type":2,"dataContent":"\ud83d\ude00"})").text ==
          "\xf0\x9f\x98\x80");
    CHECK(decoded_as<Data>(R"({"type":2,"dataContent":"\uD83D\uDE00"})").text ==
          "\xf0\x9f\x98\x80");
    CHECK(decoded_as<Data>(R"({"type":2,"dataContent":"\ud7ff\ue000"})").text ==
          "\xed\x9f\xbf\xee\x80\x80");
    for (const std::string bad :
         {R"(\ud83d)", R"(\ud83dx)", R"(\ud83d\n)", R"(\ud83d\ud83d)", R"(\ude00)", R"(x\uDE00y)",
          R"(\ud83d\u0041)", R"(\ud83d\ude00\ude00)", R"(\\\ude00)", R"(\udfff)", R"(\udc00)",
          R"(\uDBFF)", R"(\n\uDfFf)", R"(\u0041\udc00)"}) {
        CAPTURE(bad);
        CHECK(is_invalid(std::string(R"({"type":2,"dataContent":")") + bad + "\"}"));
        CHECK(is_invalid(std::string(R"({"type":2,"x":")") + bad + "\"}"));
    }
    // An escaped backslash in front: no escape at all.
    CHECK(decoded_as<Data>(R"({"type":2,"dataContent":"\\ude00"})").text == "\\ude00");
}

TEST_CASE("Codec: a lone surrogate in a control packet's content is invalid") {
    CHECK(is_invalid(R"({"type":0,"dataContent":"{\"loginUserId\":\"\\ude00\"}"})"));
    CHECK(is_valid(R"({"type":0,"dataContent":"{\"loginUserId\":\"\\ud83d\\ude00\"}"})"));
}

TEST_CASE("Codec: each known key with a value of another kind is invalid") {
    struct Field {
        const char* key;
        char kind;  // What it may be: (s)tring, (n)umber, (b)ool, (l)ist.
    };
    const Field fields[] = {{"dataContent", 's'}, {"from", 's'}, {"to", 's'},    {"fp", 's'},
                            {"Qos", 'b'},         {"QoS", 'b'},  {"typeu", 'n'}, {"bridge", 'b'},
                            {"sendTs", 'n'},      {"sm", 'n'},   {"seq", 'n'},   {"prev", 'n'},
                            {"retryCount", 'n'},  {"conv", 's'}, {"cseq", 'n'},  {"h", 'n'},
                            {"rx", 'n'},          {"gap", 'b'},  {"acc", 'l'}};
    const Field values[] = {{R"("x")", 's'}, {"1", 'n'}, {"true", 'b'}, {"[]", 'l'}, {"{}", 'o'}};
    for (const Field& field : fields) {
        for (const Field& value : values) {
            CAPTURE(std::string(field.key));
            CAPTURE(std::string(value.key));
            for (const std::string type : {"2", "77"}) {
                const std::string text =
                    std::string("{\"type\":") + type + ",\"" + field.key + "\":" + value.key + "}";
                CHECK(is_invalid(text) == (field.kind != value.kind));
            }
        }
    }
}

TEST_CASE("Codec: positions are integers from 0 to below 2^53") {
    for (const char* key : {"seq", "prev", "cseq", "h", "rx"}) {
        const auto with = [key](const std::string& number) {
            return std::string(R"({"type":2,")") + key + "\":" + number + "}";
        };
        CAPTURE(std::string(key));
        for (const std::string good :
             {"0", "-0", "1", "9007199254740991", "1e3", "1E+3", "10.0", "0.5e1",
              "9007199254740991.0", "900719925474099.1e1", "0.000", "12000e-3", "1e15"}) {
            CAPTURE(good);
            CHECK(is_valid(with(good)));
        }
        for (const std::string bad :
             {"-1", "1.5", "9007199254740992", "9007199254740992.0", "1e16", "9.007199254740992e15",
              "18446744073709551615", "18446744073709551616", "99999999999999999999999", "-1e3",
              "1e-1", "0.1", "1e400", "12e-1", "1234567890123456.5", "-9007199254740992"}) {
            CAPTURE(bad);
            CHECK(is_invalid(with(bad)));
        }
    }
}

TEST_CASE("Codec: an integer is read by its value, however it is written") {
    CHECK(decoded_as<Data>(R"({"type":2,"seq":1e3})").seq == 1000);
    CHECK(decoded_as<Data>(R"({"type":2,"seq":12.50e2})").seq == 1250);
    CHECK(decoded_as<Data>(R"({"type":2,"seq":9007199254740991})").seq == kNumberMax);
    CHECK(decoded_as<Data>(R"({"type":2,"seq":1000000000000000})").seq == 1'000'000'000'000'000);
    CHECK(decoded_as<Data>(R"({"type":2,"seq":100.00e-2})").seq == 1);
    CHECK(decoded_as<Data>(R"({"type":2,"typeu":-2e2})").typeu == -200);
}

TEST_CASE("Codec: small numbers fit an int") {
    CHECK(decoded_as<Data>(R"({"type":2,"typeu":2147483647})").typeu == 2147483647);
    CHECK(is_invalid(R"({"type":2,"typeu":2147483648})"));
    CHECK(is_valid(R"({"type":2,"typeu":-2147483648})"));
    CHECK(is_invalid(R"({"type":2,"typeu":-2147483649})"));
    CHECK(is_invalid(R"({"type":2,"typeu":1.5})"));
}

// RapidJSON 1.1.0 adds up fraction digits and exponent in an int and indexes a table with it.
TEST_CASE("Codec: an exponent out of all bounds is only a number that is none") {
    for (const std::string number :
         {"0.00000000001e-2147483639", "1.5e-2147483648", "1e-99999999999999999999",
          "0.00000000000000000000000000000000000001e-2147483647", "123456789.987654321e-308"}) {
        CAPTURE(number);
        CHECK(is_invalid(std::string(R"({"type":2,"seq":)") + number + "}"));
        CHECK(is_valid(std::string(R"({"type":2,"x":)") + number + "}"));
    }
    const std::string digits(100'000, '9');
    CHECK(is_invalid(R"({"type":2,"seq":0.)" + digits + "}"));
    CHECK(is_invalid(R"({"type":2,"seq":)" + digits + "}"));
    CHECK(is_valid(R"({"type":2,"x":0.)" + digits + "}"));
}

TEST_CASE("Codec: no truncation and no changed byte of a packet crashes") {
    const std::string packets[] = {
        R"({"type":2,"dataContent":"a\u00e9\ud83d\ude00","seq":12,"acc":[[1,2,3]],)"
        R"("x":{"y":[1.5e3]}})",
        control(0, "{'loginUserId':'a','petrel':{'device':'d','inbox':{'epoch':'e','seq':1}}}"),
        control(50, "{'code':0,'petrel':{'inbox':{'seq':1,'last':1},'outbox':{'accepted':0}}}")};
    std::size_t valid = 0;
    for (const std::string& packet : packets) {
        for (std::size_t at = 0; at < packet.size(); ++at) {
            CHECK(is_invalid(packet.substr(0, at)));
            for (int c = 0; c < 256; ++c) {
                std::string changed = packet;
                changed[at] = static_cast<char>(c);
                valid += is_valid(changed) ? 1 : 0;
            }
        }
    }
    CHECK(valid > 0);
}
