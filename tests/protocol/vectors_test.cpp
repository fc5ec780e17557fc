#include <doctest/doctest.h>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/protocol/packets.hpp"

#if defined(__clang__)
// The document's still empty stack compares a null pointer plus an offset.
#pragma clang attribute push(__attribute__((no_sanitize("pointer-overflow"))), apply_to = function)
#endif
#include <rapidjson/document.h>
#if defined(__clang__)
#pragma clang attribute pop
#endif

// Packets that the published programs wrote: each is read as what it means, and written again as
// they would have.

using namespace petrel;
using namespace petrel::codec_test;

namespace {

struct Line {
    std::string where;  // "file:number"
    ProfileId profile = ProfileId::kUndecided;
    Side writer = Side::kClient;
    std::string text;
};

void read_file(const std::string& name, ProfileId profile, std::vector<Line>& lines) {
    std::ifstream file(std::string(PETREL_VECTORS_DIR) + "/" + name);
    REQUIRE_MESSAGE(file.is_open(), name);
    std::string row;
    for (int number = 1; std::getline(file, row); ++number) {
        for (const Side side : {Side::kClient, Side::kServer}) {
            const char* const arrow = side == Side::kClient ? " C>S " : " S>C ";
            const std::size_t at = row.find(arrow);
            // In front of the arrow: the time and the connection.
            if (at == std::string::npos || at > 20) continue;
            lines.push_back(
                {name + ":" + std::to_string(number), profile, side, row.substr(at + 5)});
            break;
        }
    }
}

const std::vector<Line>& all_lines() {
    static const std::vector<Line> lines = [] {
        std::vector<Line> all;
        read_file("im-sdk-client.txt", ProfileId::kImSdk, all);
        read_file("mobileimsdk-client.txt", ProfileId::kMobileImSdk, all);
        read_file("mobileimsdk-server.txt", ProfileId::kMobileImSdk, all);
        read_file("mobileimsdk-server-retry.txt", ProfileId::kMobileImSdk, all);
        return all;
    }();
    return lines;
}

const std::string& line_with(const std::string& part) {
    static const std::string none;
    for (const Line& line : all_lines()) {
        if (line.text.find(part) != std::string::npos) return line.text;
    }
    FAIL_CHECK("no captured packet has " << part);
    return none;
}

// Recorded to see what the server does with it: no packet.
bool is_garbage(const Line& line) {
    const std::set<std::string> garbage = {"{not json", "null", "BIN keepalive", "len 70105"};
    return garbage.count(line.text) > 0;
}

// A login without a user: JSON, but no valid packet.
bool is_login_of_nobody(const Line& line) {
    return line.text.find("\"type\":0,\"dataContent\":\"{}\"") != std::string::npos;
}

// Members of an object as text, those of an object inside a string too.
using Members = std::map<std::string, std::string>;

void collect(const rapidjson::Value& object, const std::string& prefix, Members& members) {
    for (auto member = object.MemberBegin(); member != object.MemberEnd(); ++member) {
        const std::string name = prefix + member->name.GetString();
        const rapidjson::Value& value = member->value;
        if (value.IsString()) {
            const std::string text(value.GetString(), value.GetStringLength());
            rapidjson::Document inner;
            if (name == "dataContent" && !inner.Parse(text.c_str()).HasParseError() &&
                inner.IsObject()) {
                members[name] = "object";
                collect(inner, name + ".", members);
            } else {
                members[name] = "\"" + text + "\"";
            }
        } else if (value.IsInt64()) {
            members[name] = std::to_string(value.GetInt64());
        } else if (value.IsBool()) {
            members[name] = value.GetBool() ? "true" : "false";
        } else {
            members[name] = value.IsNull() ? "null" : "other";
        }
    }
}

Members members_of(const std::string& text) {
    rapidjson::Document document;
    REQUIRE_FALSE(document.Parse(text.c_str()).HasParseError());
    REQUIRE(document.IsObject());
    Members members;
    collect(document, "", members);
    return members;
}

bool is_stamped(const Packet& packet) {
    return std::holds_alternative<Data>(packet) || std::holds_alternative<Echo>(packet);
}

}  // namespace

TEST_CASE("vectors: all captured packets are there") {
    std::size_t packets = 0;
    for (const Line& line : all_lines()) packets += is_garbage(line) ? 0 : 1;
    CHECK(packets == 105);
}

TEST_CASE("vectors: every captured packet is read, and what is none is refused") {
    for (const Line& line : all_lines()) {
        CAPTURE(line.where);
        const bool is_packet = !is_garbage(line) && !is_login_of_nobody(line);
        CHECK(is_valid(line.text, line.profile) == is_packet);
        // Before the login its profile is not known.
        CHECK(is_valid(line.text, ProfileId::kUndecided) == is_packet);
    }
}

TEST_CASE("vectors: the spelling of the QoS key tells the program") {
    for (const Line& line : all_lines()) {
        const auto decoded = decode(line.text, ProfileId::kUndecided);
        if (!decoded || line.text.find("push-QoS-spelling") != std::string::npos) continue;
        CAPTURE(line.where);
        CHECK(decoded->spelling ==
              (line.profile == ProfileId::kImSdk ? Spelling::kImSdk : Spelling::kMobileImSdk));
    }
}

TEST_CASE("vectors: every captured packet is written again with the same keys and values") {
    for (const Line& line : all_lines()) {
        const auto decoded = decode(line.text, line.profile);
        if (!decoded || std::holds_alternative<UnknownPacket>(decoded->packet)) continue;
        CAPTURE(line.where);
        Members expected = members_of(line.text);
        Members written = members_of(text_of(decoded->packet, line.profile, line.writer));
        const bool is_mobile = line.profile == ProfileId::kMobileImSdk;
        if (!is_stamped(decoded->packet)) {
            // The server's time is not read from these, nor is it there to be written.
            if (line.writer == Side::kServer) {
                expected[is_mobile ? "sm" : "sendTs"] = is_mobile ? "-1" : "null";
            }
            // The scripted server gave a login response a fingerprint, which means nothing.
            if (std::holds_alternative<LoginResponse>(decoded->packet)) expected.erase("fp");
        }
        // The scripted client writes the null that the real one leaves out.
        if (std::holds_alternative<Logout>(decoded->packet)) expected.erase("dataContent");
        // A text that im-sdk takes for a fingerprint, though the script meant a kick-out, and one
        // with both spellings, of which we write the one of the profile.
        if (line.text.find("push-QoS-spelling") != std::string::npos) {
            expected.erase("QoS");
            expected["Qos"] = "true";
        }
        CHECK(written == expected);
    }
}

TEST_CASE("vectors: the im-sdk client's packets have its ten keys in its order") {
    for (const Line& line : all_lines()) {
        if (line.profile != ProfileId::kImSdk || line.writer != Side::kClient) continue;
        CAPTURE(line.where);
        const auto decoded = decode(line.text, line.profile);
        REQUIRE(decoded);
        CHECK(text_of(decoded->packet, line.profile, line.writer) == line.text);
    }
}

TEST_CASE("vectors: the MobileIMSDK client's packets are written byte for byte") {
    for (const Line& line : all_lines()) {
        if (line.where.rfind("mobileimsdk-client", 0) != 0 || line.writer != Side::kClient)
            continue;
        CAPTURE(line.where);
        const auto decoded = decode(line.text, line.profile);
        REQUIRE(decoded);
        CHECK(text_of(decoded->packet, line.profile, line.writer) == line.text);
    }
}

TEST_CASE("vectors: the im-sdk client's login") {
    const Login login = decoded_as<Login>(line_with("\\\"app\\\""), ProfileId::kImSdk);
    CHECK(login.user == "s1");
    CHECK(login.token == "token");
    CHECK(login.app == "test");
    CHECK_FALSE(login.extra);
    CHECK_FALSE(login.first_login_time);
}

TEST_CASE("vectors: the im-sdk client's ack names the original sender and the server") {
    const Ack ack =
        decoded_as<Ack>(line_with("\"type\":4,\"dataContent\":\"push-fp-1\""), ProfileId::kImSdk);
    CHECK(ack.fp.to_string() == "push-fp-1");
    CHECK(ack.from == "2");
    CHECK(ack.to == "0");
}

TEST_CASE("vectors: a message of the Java client and its ack") {
    const Data data = decoded_as<Data>(line_with("hi from java"), ProfileId::kMobileImSdk);
    CHECK(data.from == "j1");
    CHECK(data.to == "b");
    CHECK(data.fp.to_string() == "j-fp-1");
    CHECK(data.qos);
    CHECK(data.typeu == 0);
    CHECK_FALSE(data.send_ts);
    const Ack ack =
        decoded_as<Ack>(line_with("\"dataContent\":\"j-fp-1\""), ProfileId::kMobileImSdk);
    CHECK(ack.fp == data.fp);
    CHECK(ack.from == "b");
    CHECK(ack.to == "j1");
}

TEST_CASE("vectors: the Java client repeats the time of its first login") {
    const LoginResponse reply = decoded_as<LoginResponse>(
        line_with(
            "\"type\":50,\"dataContent\":\"{\\\"code\\\":0,\\\"firstLoginTime\\\":1795231203292"),
        ProfileId::kMobileImSdk);
    CHECK(reply.code == 0);
    CHECK(reply.to == "j1");
    CHECK(reply.first_login_time == 1795231203292);
    const Login again = decoded_as<Login>(
        line_with("\\\"loginToken\\\":\\\"tok\\\",\\\"firstLoginTime\\\":1795231203292"),
        ProfileId::kMobileImSdk);
    CHECK(again.first_login_time == 1795231203292);
}

TEST_CASE("vectors: a refused login, and an error that holds the refused packet") {
    const LoginResponse refused =
        decoded_as<LoginResponse>(line_with("1025"), ProfileId::kMobileImSdk);
    CHECK(refused.code == 1025);
    CHECK(refused.first_login_time == -1);
    CHECK(refused.to == "-1");
    const ErrorPacket error =
        decoded_as<ErrorPacket>(line_with("\"type\":52"), ProfileId::kMobileImSdk);
    CHECK((error.code == 301 || error.code == 302));
    const ErrorPacket not_logged_in = decoded_as<ErrorPacket>(
        line_with("\\\"errorMsg\\\":\\\"{\\\\\\\"bridge\\\\\\\":false,\\\\\\\"type\\\\\\\":2"),
        ProfileId::kMobileImSdk);
    CHECK(not_logged_in.code == 301);
    CHECK(not_logged_in.to == "-1");
    CHECK(decoded_as<Data>(not_logged_in.message, ProfileId::kMobileImSdk).text == "no login");
}

TEST_CASE("vectors: kick-outs of MobileIMSDK, and the same text for an im-sdk client") {
    const Kickout admin = decoded_as<Kickout>(line_with("admin test"), ProfileId::kMobileImSdk);
    CHECK(admin.code == 2);
    CHECK(admin.reason == "admin test");
    CHECK(admin.to == "a");
    const std::string& kick = line_with("\"type\":54,\"dataContent\":\"{");
    CHECK(decoded_as<Kickout>(kick, ProfileId::kMobileImSdk).code == 1);
    CHECK_FALSE(decoded_as<Ack>(kick, ProfileId::kImSdk).fp.empty());
}

TEST_CASE("vectors: echo, heartbeat, logout and an unknown type") {
    const Echo echo = decoded_as<Echo>(line_with("\"type\":5,\"dataContent\":\"echo me\""));
    CHECK_FALSE(echo.is_response);
    CHECK(echo.typeu == 3);
    const Echo response = decoded_as<Echo>(line_with("\"type\":53,\"dataContent\":\"echo me\""));
    CHECK(response.is_response);
    CHECK(response.from == "a");
    CHECK(response.send_ts == 1795230853293);
    CHECK(decoded_as<Heartbeat>(line_with("\"type\":1,")).from == "j1");
    CHECK(decoded_as<HeartbeatResponse>(line_with("\"type\":51,")).to == "j1");
    CHECK(decoded_as<Logout>(line_with("\"type\":3,")).from == "j1");
    CHECK(decoded_as<UnknownPacket>(line_with("\"type\":77,")).type == 77);
}

TEST_CASE("vectors: a push of the server has a UUID and its time") {
    const Data push = decoded_as<Data>(line_with("server-push"), ProfileId::kMobileImSdk);
    CHECK(push.fp.is_uuid());
    CHECK(push.from == "0");
    CHECK(push.typeu == 7);
    CHECK(push.send_ts == 1795230853799);
}
