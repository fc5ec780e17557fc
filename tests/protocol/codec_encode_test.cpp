#include <doctest/doctest.h>
#include <string>

#include "protocol/json_text.hpp"
#include "protocol/utf8.hpp"
#include "tests/protocol/packets.hpp"

// What is written, and that it reads as what was meant.

using namespace petrel;
using namespace petrel::codec_test;

namespace {

Fingerprint fingerprint(const char* text) { return *Fingerprint::parse(text); }

Data full_data() {
    Data data;
    data.from = "alice";
    data.to = "bob";
    data.fp = fingerprint("bf09e7b5-7be3-4121-a028-a91345356cce");
    data.qos = true;
    data.typeu = 0;
    data.bridge = true;
    data.retry_count = 2;
    data.send_ts = 1795231021794;
    data.text = "line\n\"quoted\" \\ \x01 \xe2\x82\xac";
    data.seq = 7;
    data.prev = 4;
    data.conv = "u:alice:bob";
    data.cseq = 11;
    data.h = 9;
    data.acc = {{1, 2, 3}, {4, 5, 6}};
    return data;
}

Login full_login() {
    Login login;
    login.user = "alice";
    login.token = "to\"ken";
    login.app = "app";
    login.extra = "extra";
    login.first_login_time = 5;
    login.v1.emplace();
    login.v1->device = "d";
    login.v1->device_class = "web";
    login.v1->generation = 3;
    login.v1->inbox = InboxCursor{"e", 8, fingerprint("f")};
    login.v1->outbox = {"stream", 9};
    login.v1->window = 1;
    login.v1->window_bytes = 2;
    return login;
}

LoginResponse full_reply() {
    LoginResponse reply;
    reply.to = "alice";
    reply.first_login_time = 6;
    reply.v1.emplace();
    reply.v1->session = "s";
    reply.v1->generation = 4;
    reply.v1->inbox = {"e", 5, 6, false};
    reply.v1->accepted = 7;
    reply.v1->server_ts = 1795231021794;
    return reply;
}

// One of each, with everything that it can hold.
std::vector<std::pair<Packet, Side>> all_packets() {
    Ack plain_ack;
    plain_ack.fp = fingerprint("f\"1");
    plain_ack.from = "a";
    plain_ack.to = "b";
    plain_ack.bridge = true;
    Ack v1_ack;
    v1_ack.h = 5;
    v1_ack.rx = 6;
    v1_ack.gap = true;
    v1_ack.acc = {{1, 2, 3}};
    v1_ack.fp = fingerprint("f");  // What a plain profile writes.
    v1_ack.from = "a";
    v1_ack.to = "b";
    LoginResponse refusal;
    refusal.code = 503;
    refusal.to = "-1";
    refusal.error_msg = "busy";
    refusal.retry = true;
    refusal.retry_after_ms = 250;
    Echo echo;
    echo.from = "a";
    echo.to = "b";
    echo.fp = fingerprint("f");
    echo.qos = true;
    echo.typeu = 3;
    echo.send_ts = 9;
    echo.text = "x";
    Echo response = echo;
    response.is_response = true;
    ErrorPacket error;
    error.code = 302;
    error.message = "{\"type\":2}";
    error.to = "a";
    error.fp = fingerprint("f");
    error.seq = 7;
    error.retry_after_ms = 100;
    return {{full_data(), Side::kClient},
            {full_data(), Side::kServer},
            {Data{}, Side::kClient},
            {plain_ack, Side::kClient},
            {plain_ack, Side::kServer},
            {v1_ack, Side::kClient},
            {v1_ack, Side::kServer},
            {full_login(), Side::kClient},
            {full_reply(), Side::kServer},
            {refusal, Side::kServer},
            {Heartbeat{"a", Positions{1, 2, 3}}, Side::kClient},
            {Heartbeat{"a", std::nullopt}, Side::kClient},
            {HeartbeatResponse{"a", Positions{1, 2, 3}}, Side::kServer},
            {HeartbeatResponse{"a", std::nullopt}, Side::kServer},
            {Logout{"a"}, Side::kClient},
            {echo, Side::kClient},
            {response, Side::kServer},
            {error, Side::kServer},
            {Kickout{409, "r", "d", "a"}, Side::kServer},
            {Receipt{"u:a:b", "b", 4, "a"}, Side::kServer}};
}

}  // namespace

TEST_CASE("Codec: every packet in every profile reads as what was written") {
    for (const ProfileId profile : kAllProfiles) {
        for (const auto& [packet, side] : all_packets()) {
            const std::string text = text_of(packet, profile, side);
            CAPTURE(text);
            const auto decoded = decode(text, profile);
            REQUIRE(decoded);
            const bool is_v1_only =
                std::holds_alternative<Receipt>(packet) ||
                (std::holds_alternative<Kickout>(packet) && profile != ProfileId::kMobileImSdk);
            if (is_v1_only && profile != ProfileId::kPetrelV1) {
                CHECK(std::holds_alternative<UnknownPacket>(decoded->packet));
                continue;
            }
            CHECK(decoded->packet.index() == packet.index());
            CHECK(text_of(decoded->packet, profile, side) == text);
        }
    }
}

TEST_CASE("Codec: encode appends") {
    std::string out = "before";
    encode(Packet(Logout{}), ProfileId::kPetrelV1, Side::kClient, out);
    CHECK(out == R"(before{"type":3})");
}

TEST_CASE("Codec: petrel.v1 leaves out what is understood") {
    Data data;
    data.to = "bob";
    data.text = "hi";
    CHECK(text_of(data, ProfileId::kPetrelV1, Side::kClient) ==
          R"({"type":2,"dataContent":"hi","to":"bob","Qos":false,"typeu":-1})");
    Ack ack;
    ack.h = 5;
    CHECK(text_of(ack, ProfileId::kPetrelV1, Side::kClient) == R"({"type":4,"h":5})");
    ack.acc = {{1, 2, 3}};
    CHECK(text_of(ack, ProfileId::kPetrelV1, Side::kServer) ==
          R"({"type":54,"h":5,"acc":[[1,2,3]]})");
    CHECK(text_of(Heartbeat{"", Positions{1, 2, 3}}, ProfileId::kPetrelV1, Side::kClient) ==
          R"({"type":1,"dataContent":"{\"sent\":1,\"rx\":2,\"h\":3}"})");
}

TEST_CASE("Codec: the petrel.v1 login has the names of the protocol") {
    Login login = full_login();
    login.app.reset();
    login.extra.reset();
    CHECK(text_of(login, ProfileId::kPetrelV1, Side::kClient) ==
          R"({"type":0,"dataContent":"{\"loginUserId\":\"alice\",\"loginToken\":\"to\\\"ken\",)"
          R"(\"petrel\":{\"device\":\"d\",\"class\":\"web\",\"generation\":3,)"
          R"(\"inbox\":{\"epoch\":\"e\",\"seq\":8,\"fp\":\"f\"},)"
          R"(\"outbox\":{\"stream\":\"stream\",\"first\":9},\"window\":1,\"windowBytes\":2}}"})");
}

TEST_CASE("Codec: the petrel.v1 login response has the names of the protocol") {
    CHECK(text_of(full_reply(), ProfileId::kPetrelV1, Side::kServer) ==
          R"({"type":50,"dataContent":"{\"code\":0,\"petrel\":{\"session\":\"s\",\"generation\":4,)"
          R"(\"inbox\":{\"epoch\":\"e\",\"seq\":5,\"last\":6,\"recovered\":false},)"
          R"(\"outbox\":{\"accepted\":7},\"heartbeatMs\":25000,\"dedupHorizonMs\":86400000,)"
          R"(\"window\":64,\"windowBytes\":1048576,\"maxPayload\":65536,)"
          R"(\"serverTs\":1795231021794}}","to":"alice"})");
}

TEST_CASE("Codec: a plain server knows nothing of petrel") {
    CHECK(text_of(full_reply(), ProfileId::kImSdk, Side::kServer).find("petrel") ==
          std::string::npos);
    CHECK(text_of(full_login(), ProfileId::kMobileImSdk, Side::kClient).find("petrel") ==
          std::string::npos);
}

TEST_CASE("Codec: an im-sdk login never looks like one of mobileimsdk") {
    CHECK(text_of(full_login(), ProfileId::kImSdk, Side::kClient).find("firstLoginTime") ==
          std::string::npos);
    Login login = full_login();
    login.first_login_time.reset();
    CHECK(decoded_as<Login>(text_of(login, ProfileId::kMobileImSdk, Side::kClient))
              .first_login_time == 0);
}

TEST_CASE("Codec: before the profile is known both spellings are written") {
    Data data;
    data.send_ts = 5;
    const std::string text = text_of(data, ProfileId::kUndecided, Side::kServer);
    CHECK(text.find(R"("Qos":false,"QoS":false)") != std::string::npos);
    CHECK(text.find(R"("sendTs":5,"sm":5)") != std::string::npos);
}

TEST_CASE("Codec: an ack's type is its writer's") {
    Ack ack;
    ack.fp = fingerprint("f");
    const auto type_of = [&ack](ProfileId profile, Side side) {
        const std::string text = text_of(ack, profile, side);
        return text.find("\"type\":54") != std::string::npos ? 54 : 4;
    };
    CHECK(type_of(ProfileId::kImSdk, Side::kServer) == 54);
    CHECK(type_of(ProfileId::kImSdk, Side::kClient) == 4);
    CHECK(type_of(ProfileId::kMobileImSdk, Side::kServer) == 4);
    CHECK(type_of(ProfileId::kMobileImSdk, Side::kClient) == 4);
    CHECK(type_of(ProfileId::kPetrelV1, Side::kServer) == 54);
    CHECK(type_of(ProfileId::kPetrelV1, Side::kClient) == 4);
}

TEST_CASE("Codec: empty addresses of plain packets get their defaults") {
    CHECK(text_of(Heartbeat{}, ProfileId::kMobileImSdk, Side::kClient) ==
          R"({"bridge":false,"type":1,"dataContent":"{}","from":"-1","to":"0","QoS":false,)"
          R"("typeu":-1,"sm":-1})");
    ErrorPacket error;
    error.code = 301;
    CHECK(text_of(error, ProfileId::kMobileImSdk, Side::kServer).find(R"("from":"0","to":"-1")") !=
          std::string::npos);
}

TEST_CASE("Codec: every character survives") {
    std::string text;
    for (int c = 0; c < 0x80; ++c) text += static_cast<char>(c);
    text += "\xc2\x80\xdf\xbf\xe0\xa0\x80\xe2\x80\xa8\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf";
    REQUIRE(is_valid_utf8(text));
    Data data;
    data.to = text;
    data.text = text;
    for (const ProfileId profile : kAllProfiles) {
        const Data read = decoded_as<Data>(text_of(data, profile, Side::kClient), profile);
        CHECK(read.text == text);
        CHECK(read.to == text);
    }
    ErrorPacket error;
    error.message = text;
    const std::string written = text_of(error, ProfileId::kPetrelV1, Side::kServer);
    CHECK(decoded_as<ErrorPacket>(written).message == text);
}

TEST_CASE("Codec: a character to escape is found at any place of a long text") {
    for (const char c : {'"', '\\', '\n', '\x01', '\x1f', '\x7f', ' ', '!', '#', '[', ']'}) {
        for (std::size_t at = 0; at < 20; ++at) {
            std::string text(20, 'a');
            text[at] = c;
            Data data;
            data.text = text;
            CHECK(decoded_as<Data>(text_of(data, ProfileId::kPetrelV1, Side::kClient)).text ==
                  text);
        }
    }
}

TEST_CASE("Codec: numbers at their limits survive") {
    Data data;
    data.seq = kNumberMax;
    data.prev = kNumberMax;
    data.cseq = kNumberMax;
    data.h = kNumberMax;
    data.send_ts = static_cast<WallMillis>(kNumberMax);
    data.typeu = -2147483647 - 1;
    data.retry_count = 2147483647;
    data.acc = {{kNumberMax, static_cast<WallMillis>(kNumberMax), kNumberMax}};
    const Data read = decoded_as<Data>(text_of(data, ProfileId::kPetrelV1, Side::kServer));
    CHECK(read.seq == kNumberMax);
    CHECK(read.prev == kNumberMax);
    CHECK(read.cseq == kNumberMax);
    CHECK(read.h == kNumberMax);
    CHECK(read.send_ts == static_cast<WallMillis>(kNumberMax));
    CHECK(read.typeu == data.typeu);
    CHECK(read.retry_count == data.retry_count);
    REQUIRE(read.acc.size() == 1);
    CHECK(read.acc[0].cseq == kNumberMax);
}

TEST_CASE("json_text: an object is written member by member") {
    std::string out;
    JsonObjectWriter json(out);
    json.text("a", "x\"y");
    json.number("b", -1);
    json.number("c", std::uint64_t{18446744073709551615U});
    json.boolean("d", true);
    json.null("e");
    json.begin("f");
    out += "[]";
    json.close();
    CHECK(out == R"({"a":"x\"y","b":-1,"c":18446744073709551615,"d":true,"e":null,"f":[]})");
}

TEST_CASE("json_text: control characters are escaped") {
    std::string out;
    append_json_string(out, std::string("\0\b\t\n\f\r\x1f", 7));
    CHECK(out == R"("\u0000\b\t\n\f\r\u001f")");
}
