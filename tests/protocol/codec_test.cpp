#include "protocol/codec.hpp"

#include <doctest/doctest.h>
#include <string>

#include "tests/protocol/packets.hpp"

// What each packet's text means, and what is written for it.

using namespace petrel;
using namespace petrel::codec_test;

TEST_CASE("Codec: a full petrel.v1 message is read field by field") {
    const Data data = decoded_as<Data>(
        R"({"type":2,"dataContent":"hi","from":"alice","to":"bob","fp":"f-1","Qos":true,"typeu":5,)"
        R"("bridge":true,"retryCount":3,"sendTs":1795231021794,"seq":7,"prev":4,)"
        R"("conv":"u:alice:bob","cseq":11,"h":9,"acc":[[1,2,3],[4,5,6]]})");
    CHECK(data.text == "hi");
    CHECK(data.from == "alice");
    CHECK(data.to == "bob");
    CHECK(data.fp.to_string() == "f-1");
    CHECK(data.qos);
    CHECK(data.typeu == 5);
    CHECK(data.bridge);
    CHECK(data.retry_count == 3);
    CHECK(data.send_ts == 1795231021794);
    CHECK(data.seq == 7);
    CHECK(data.prev == 4U);
    CHECK(data.conv == "u:alice:bob");
    CHECK(data.cseq == 11);
    CHECK(data.h == 9U);
    REQUIRE(data.acc.size() == 2);
    CHECK(data.acc[1].cseq == 4);
    CHECK(data.acc[1].send_ts == 5);
    CHECK(data.acc[1].seq == 6);
}

TEST_CASE("Codec: absent fields have the defaults of the protocol") {
    const Data data = decoded_as<Data>(R"({"type":2})");
    CHECK(data.from.empty());
    CHECK(data.to == "0");
    CHECK(data.fp.empty());
    CHECK_FALSE(data.qos);
    CHECK(data.typeu == -1);
    CHECK_FALSE(data.bridge);
    CHECK(data.retry_count == 0);
    CHECK_FALSE(data.send_ts);
    CHECK(data.text.empty());
    CHECK(data.seq == 0);
    CHECK_FALSE(data.prev);
    CHECK_FALSE(data.h);
    CHECK(data.acc.empty());
}

TEST_CASE("Codec: null strings and numbers are absent") {
    const Data data = decoded_as<Data>(
        R"({"type":2,"dataContent":null,"from":null,"to":null,"fp":null,"typeu":null,)"
        R"("retryCount":null,"sendTs":null,"sm":null,"seq":null,"prev":null,"conv":null,)"
        R"("cseq":null,"h":null,"rx":null,"acc":null})");
    CHECK(data.to == "0");
    CHECK(data.typeu == -1);
    CHECK_FALSE(data.prev);
    CHECK_FALSE(data.h);
}

TEST_CASE("Codec: the type may be a number in a string") {
    CHECK(decoded_as<Data>(R"({"type":"2","dataContent":"x"})").text == "x");
    CHECK(decoded_as<UnknownPacket>(R"({"type":"-7"})").type == -7);
    for (const std::string type :
         {R"("")", R"("-")", R"("2 ")", R"("+2")", R"("0x2")", R"("2.0")",
          R"("99999999999999999999")", "null", "true", "[2]", "{}", "2.5"}) {
        CAPTURE(type);
        CHECK(is_invalid(std::string(R"({"type":)") + type + "}"));
    }
}

TEST_CASE("Codec: reserved, unknown and negative types are unknown packets") {
    for (const int type : {6, 7, 8, 9, 10, 49, 57, 58, 59, 77, -1}) {
        CAPTURE(type);
        const std::string text = R"({"type":)" + std::to_string(type) + R"(,"dataContent":"?"})";
        for (const ProfileId profile : kAllProfiles) {
            CHECK(decoded_as<UnknownPacket>(text, profile).type == type);
        }
    }
}

TEST_CASE("Codec: both spellings are read in every profile") {
    for (const ProfileId profile : kAllProfiles) {
        const Data a = decoded_as<Data>(R"({"type":2,"Qos":true,"fp":"f","sendTs":5})", profile);
        CHECK(a.qos);
        CHECK(a.send_ts == 5);
        const Data b = decoded_as<Data>(R"({"type":2,"QoS":true,"fp":"f","sm":5})", profile);
        CHECK(b.qos);
        CHECK(b.send_ts == 5);
    }
}

TEST_CASE("Codec: the spelling of the QoS key is remembered") {
    const auto spelling = [](const char* text) {
        const auto decoded = decode(text, ProfileId::kUndecided);
        REQUIRE(decoded);
        return decoded->spelling;
    };
    CHECK(spelling(R"({"type":1,"Qos":false})") == Spelling::kImSdk);
    CHECK(spelling(R"({"type":1,"QoS":false})") == Spelling::kMobileImSdk);
    CHECK(spelling(R"({"type":1})") == Spelling::kNone);
    CHECK(spelling(R"({"type":1,"Qos":false,"QoS":false})") == Spelling::kNone);
}

TEST_CASE("Codec: an ack is wanted when either spelling says so") {
    CHECK(decoded_as<Data>(R"({"type":2,"Qos":false,"QoS":true,"fp":"f"})").qos);
    CHECK(decoded_as<Data>(R"({"type":2,"Qos":true,"QoS":false,"fp":"f"})").qos);
}

TEST_CASE("Codec: the -1 that MobileIMSDK writes for a time is none") {
    CHECK_FALSE(decoded_as<Data>(R"({"type":2,"sm":-1})", ProfileId::kMobileImSdk).send_ts);
    CHECK_FALSE(decoded_as<Data>(R"({"type":2,"sendTs":-1})").send_ts);
}

TEST_CASE("Codec: of a repeated key the last one counts") {
    CHECK(decoded_as<Data>(R"({"type":1,"dataContent":"a","type":2,"dataContent":"b"})").text ==
          "b");
    CHECK(decoded_as<Data>(R"({"type":2,"seq":-1,"seq":4})").seq == 4);
    CHECK(is_invalid(R"({"type":2,"seq":4,"seq":-1})"));
    CHECK(decoded_as<Data>(R"({"type":2,"acc":[[1,2,3]],"acc":[[4,5,6]]})").acc.size() == 1);
    CHECK(decoded_as<Data>(R"({"type":2,"acc":[[1,2,3]],"acc":null})").acc.empty());
    CHECK(decoded_as<Data>(R"({"type":2,"acc":"x","acc":[[1,2,3]]})").acc.size() == 1);
}

TEST_CASE("Codec: unknown keys of any shape are skipped") {
    const Data data = decoded_as<Data>(
        R"({"x":{"type":3,"dataContent":"no","acc":[[1]]},"type":2,"y":[{"to":"no"},[[]],1.5e3],)"
        R"("dataContent":"yes","z":{"petrel":{}},"":null,"to":"bob","TYPE":9,"a":1e-5})");
    CHECK(data.text == "yes");
    CHECK(data.to == "bob");
    CHECK(data.acc.empty());
}

TEST_CASE("Codec: the keys of petrel.v1 are unknown keys to plain profiles") {
    const char* text = R"({"type":2,"seq":"x","h":-1,"acc":7,"conv":1,"gap":0,"dataContent":"a"})";
    CHECK(is_invalid(text, ProfileId::kPetrelV1));
    CHECK(decoded_as<Data>(text, ProfileId::kImSdk).text == "a");
    CHECK(decoded_as<Data>(text, ProfileId::kMobileImSdk).text == "a");
}

TEST_CASE("Codec: a fingerprint that is none spoils a message that wants an ack, and no other") {
    const std::string wants = R"({"type":2,"Qos":true,"fp":)";
    const std::string plain = R"({"type":2,"fp":)";
    for (const std::string& fp : {"\"" + std::string(65, 'a') + "\"", std::string(R"("a\nb")"),
                                  std::string(R"("\u00e9")")}) {
        CAPTURE(fp);
        CHECK(is_invalid(wants + fp + "}"));
        CHECK(decoded_as<Data>(plain + fp + "}").fp.empty());
    }
    CHECK(decoded_as<Data>(wants + "\"\"}").fp.empty());
    CHECK(decoded_as<Data>(wants + "null}").fp.empty());
    CHECK(is_invalid(wants + "7}"));
    CHECK(is_invalid(plain + "7}"));
}

TEST_CASE("Codec: a plain ack has the fingerprint bare") {
    for (const ProfileId profile : kAllProfiles) {
        const Ack ack = decoded_as<Ack>(
            R"({"bridge":true,"type":4,"dataContent":"push-fp-1","from":"2","to":"0"})", profile);
        CHECK(ack.fp.to_string() == "push-fp-1");
        CHECK(ack.from == "2");
        CHECK(ack.to == "0");
        CHECK(ack.bridge);
        CHECK_FALSE(ack.h);
    }
}

TEST_CASE("Codec: a 4 that acks nothing is invalid, a 54 is only ignored") {
    for (const std::string content : {"null", "\"\"", R"("a\nb")"}) {
        CAPTURE(content);
        const std::string rest = std::string(R"(,"dataContent":)") + content + "}";
        CHECK(is_invalid(R"({"type":4)" + rest, ProfileId::kImSdk));
        CHECK(is_invalid(R"({"type":4)" + rest, ProfileId::kPetrelV1));
        CHECK(decoded_as<UnknownPacket>(R"({"type":54)" + rest, ProfileId::kImSdk).type == 54);
    }
    CHECK(is_invalid(R"({"type":4})", ProfileId::kMobileImSdk));
}

TEST_CASE("Codec: a kick-out that an im-sdk client gets is an ack of something unknown") {
    const Ack ack = decoded_as<Ack>(control(54, "{'code':1}"), ProfileId::kImSdk);
    CHECK(ack.fp.to_string() == "{\"code\":1}");
}

TEST_CASE("Codec: a petrel.v1 ack has positions") {
    const Ack ack = decoded_as<Ack>(R"({"type":54,"h":5,"rx":9,"gap":true,"acc":[[1,2,3]]})");
    CHECK(ack.h == 5U);
    CHECK(ack.rx == 9U);
    CHECK(ack.gap);
    REQUIRE(ack.acc.size() == 1);
    CHECK(ack.acc[0].seq == 3);
    CHECK(decoded_as<Ack>(R"({"type":4,"h":0})").h == 0U);
}

TEST_CASE("Codec: a gap that does not say where is invalid") {
    CHECK(is_invalid(R"({"type":4,"h":5,"gap":true})"));
    CHECK(is_valid(R"({"type":4,"h":5,"gap":false})"));
}

TEST_CASE("Codec: acceptances are lists of three positions") {
    for (const std::string acc :
         {"[1]", "[[]]", "[[1,2]]", "[[1,2,3,4]]", "[[1,2,-3]]", "[[1,2,3.5]]", "[[1,2,\"3\"]]",
          "[[1,2,null]]", "[[1,2,[3]]]", "[{}]", "{}", "\"\"", "[[1,2,9007199254740992]]",
          "[[1,2,3],4]", "[[1,2,3],{\"a\":[1,2,3]}]", "[[[1,2,3]]]", "true"}) {
        CAPTURE(acc);
        CHECK(is_invalid(std::string(R"({"type":54,"h":1,"acc":)") + acc + "}"));
        CHECK(is_invalid(std::string(R"({"type":2,"h":1,"acc":)") + acc + R"(,"to":"b"})"));
    }
    CHECK(decoded_as<Ack>(R"({"type":54,"h":1,"acc":[]})").acc.empty());
    CHECK(decoded_as<Ack>(R"({"type":54,"acc":[ [ 1 , 2 , 3 ] ],"h":1})").acc.size() == 1);
}

TEST_CASE("Codec: an im-sdk login") {
    const Login login = decoded_as<Login>(
        control(0, "{'loginUserId':'s1','loginToken':'token','app':'test','extra':null}"),
        ProfileId::kUndecided);
    CHECK(login.user == "s1");
    CHECK(login.token == "token");
    CHECK(login.app == "test");
    CHECK_FALSE(login.extra);
    CHECK_FALSE(login.first_login_time);
    CHECK_FALSE(login.v1);
}

TEST_CASE("Codec: a mobileimsdk login") {
    const Login login = decoded_as<Login>(
        control(0,
                "{'loginUserId':'a','loginToken':'t','extra':'e','firstLoginTime':1795230851474}"),
        ProfileId::kUndecided);
    CHECK(login.extra == "e");
    CHECK_FALSE(login.app);
    CHECK(login.first_login_time == 1795230851474);
}

TEST_CASE("Codec: a login without a user or without an object is invalid") {
    for (const std::string content :
         {"{}", "{'loginUserId':null}", "{'loginUserId':''}", "{'loginUserId':7}", "[]", "null",
          "x", "", "{'loginUserId':'a'", "{'loginUserId':'a'}x",
          "{'loginUserId':'a','loginToken':1}", "{'loginUserId':'a','app':1}",
          "{'loginUserId':'a','firstLoginTime':'0'}", "{'loginUserId':'a','firstLoginTime':1.5}",
          "{'loginUserId':'a','petrel':[]}"}) {
        CAPTURE(content);
        CHECK(is_invalid(control(0, content)));
    }
    CHECK(is_invalid(R"({"type":0})"));
    CHECK(is_invalid(R"({"type":0,"dataContent":null})"));
    CHECK(decoded_as<Login>(control(0, "{'loginUserId':'a'}")).token.empty());
}

TEST_CASE("Codec: a petrel.v1 login") {
    const Login login = decoded_as<Login>(control(
        0,
        "{'loginUserId':'a','loginToken':'t','petrel':{'device':'d1','class':'mobile','generation':"
        "7,"
        "'inbox':{'epoch':'e','seq':5,'fp':'f'},'outbox':{'stream':'s','first':3},'window':0,"
        "'windowBytes':4096}}"));
    REQUIRE(login.v1);
    const LoginV1& v1 = *login.v1;
    CHECK(v1.device == "d1");
    CHECK(v1.device_class == "mobile");
    CHECK(v1.generation == 7);
    REQUIRE(v1.inbox);
    CHECK(v1.inbox->epoch == "e");
    CHECK(v1.inbox->seq == 5);
    CHECK(v1.inbox->fp.to_string() == "f");
    CHECK(v1.outbox.stream == "s");
    CHECK(v1.outbox.first == 3);
    CHECK(v1.window == 0);
    CHECK(v1.window_bytes == 4096);
}

TEST_CASE("Codec: a petrel.v1 login without an inbox resumes at the gateway's cursor") {
    const Login login =
        decoded_as<Login>(control(0, "{'loginUserId':'a','petrel':{'device':'d','inbox':null}}"));
    REQUIRE(login.v1);
    CHECK_FALSE(login.v1->inbox);
    CHECK(login.v1->outbox.first == 1);
    CHECK(login.v1->window == 64);
    CHECK(login.v1->device_class == "other");
}

TEST_CASE("Codec: a class of device that nobody knows is other") {
    const Login login = decoded_as<Login>(
        control(0, "{'loginUserId':'a','petrel':{'device':'d','class':'toaster'}}"));
    REQUIRE(login.v1);
    CHECK(login.v1->device_class == "other");
}

TEST_CASE("Codec: a malformed petrel object spoils the login") {
    for (const std::string petrel : {"{}",
                                     "7",
                                     "'x'",
                                     "{'device':''}",
                                     "{'device':7}",
                                     "{'device':null}",
                                     "{'device':'d','class':1}",
                                     "{'device':'d','generation':-1}",
                                     "{'device':'d','generation':1.5}",
                                     "{'device':'d','generation':9007199254740992}",
                                     "{'device':'d','inbox':7}",
                                     "{'device':'d','inbox':{}}",
                                     "{'device':'d','inbox':{'epoch':'e'}}",
                                     "{'device':'d','inbox':{'seq':1}}",
                                     "{'device':'d','inbox':{'epoch':'e','seq':-1}}",
                                     "{'device':'d','inbox':{'epoch':'e','seq':1,'fp':7}}",
                                     "{'device':'d','outbox':7}",
                                     "{'device':'d','outbox':{'first':0}}",
                                     "{'device':'d','outbox':{'stream':1}}",
                                     "{'device':'d','window':-1}",
                                     "{'device':'d','window':'64'}",
                                     "{'device':'d','windowBytes':0.5}"}) {
        CAPTURE(petrel);
        CHECK(is_invalid(control(0, std::string("{'loginUserId':'a','petrel':") + petrel + "}")));
    }
    CHECK_FALSE(decoded_as<Login>(control(0, "{'loginUserId':'a','petrel':null}")).v1);
}

TEST_CASE("Codec: of a repeated petrel object nothing of the first is left") {
    const Login login = decoded_as<Login>(
        control(0,
                "{'loginUserId':'a','petrel':{'device':'d','inbox':{'epoch':'e','seq':5}},"
                "'petrel':{'device':'d2'}}"));
    REQUIRE(login.v1);
    CHECK(login.v1->device == "d2");
    CHECK_FALSE(login.v1->inbox);
}

TEST_CASE("Codec: a device has 1 to 64 characters") {
    const auto login = [](const std::string& device) {
        return control(0, "{'loginUserId':'a','petrel':{'device':'" + device + "'}}");
    };
    CHECK(is_valid(login("d")));
    CHECK(is_valid(login(std::string(64, 'd'))));
    CHECK(is_invalid(login(std::string(65, 'd'))));
    std::string euros;
    for (int i = 0; i < 64; ++i) euros += "\xe2\x82\xac";
    CHECK(is_valid(login(euros)));
    CHECK(is_invalid(login(euros + "d")));
}

TEST_CASE("Codec: a window beyond 32 bits is as large as can be") {
    const Login login = decoded_as<Login>(
        control(0, "{'loginUserId':'a','petrel':{'device':'d','window':9007199254740991}}"));
    REQUIRE(login.v1);
    CHECK(login.v1->window == 4294967295U);
}

TEST_CASE("Codec: login responses of the plain profiles") {
    const LoginResponse im_sdk = decoded_as<LoginResponse>(control(50, "{'code':0}"));
    CHECK(im_sdk.code == 0);
    CHECK_FALSE(im_sdk.v1);
    CHECK_FALSE(im_sdk.first_login_time);
    const LoginResponse refused = decoded_as<LoginResponse>(
        control(50, "{'code':1025,'firstLoginTime':-1}"), ProfileId::kMobileImSdk);
    CHECK(refused.code == 1025);
    CHECK(refused.first_login_time == -1);
    for (const std::string content :
         {"{}", "{'code':null}", "{'code':'0'}", "{'code':4294967296}", ""}) {
        CAPTURE(content);
        CHECK(is_invalid(control(50, content)));
    }
}

TEST_CASE("Codec: a petrel.v1 login response") {
    const LoginResponse reply = decoded_as<LoginResponse>(
        control(50,
                "{'code':0,'petrel':{'session':'x','generation':8,'inbox':{'epoch':'e','seq':4,"
                "'last':9,'recovered':false},'outbox':{'accepted':6},'heartbeatMs':1000,"
                "'dedupHorizonMs':2000,'window':3,'windowBytes':4,'maxPayload':5,'serverTs':7}}"));
    REQUIRE(reply.v1);
    const LoginReplyV1& v1 = *reply.v1;
    CHECK(v1.session == "x");
    CHECK(v1.generation == 8);
    CHECK(v1.inbox.epoch == "e");
    CHECK(v1.inbox.seq == 4);
    CHECK(v1.inbox.last == 9);
    CHECK_FALSE(v1.inbox.recovered);
    CHECK(v1.accepted == 6);
    CHECK(v1.heartbeat_ms == 1000);
    CHECK(v1.dedup_horizon_ms == 2000);
    CHECK(v1.window == 3);
    CHECK(v1.window_bytes == 4);
    CHECK(v1.max_payload == 5);
    CHECK(v1.server_ts == 7);
}

TEST_CASE("Codec: a petrel.v1 login response that does not say where to resume is invalid") {
    for (const std::string petrel :
         {"{}", "{'inbox':{'seq':1,'last':1}}", "{'outbox':{'accepted':0}}",
          "{'inbox':null,'outbox':{'accepted':0}}", "{'inbox':{'last':1},'outbox':{'accepted':0}}",
          "{'inbox':{'seq':1,'last':1,'recovered':1},'outbox':{'accepted':0}}",
          "{'inbox':{'seq':1,'last':1},'outbox':{}}"}) {
        CAPTURE(petrel);
        CHECK(is_invalid(control(50, std::string("{'code':0,'petrel':") + petrel + "}")));
    }
    CHECK(is_valid(
        control(50, "{'code':0,'petrel':{'inbox':{'seq':1,'last':1},'outbox':{'accepted':0}}}")));
}

TEST_CASE("Codec: a petrel.v1 refusal says whether and when to come again") {
    const LoginResponse refusal = decoded_as<LoginResponse>(
        control(50, "{'code':503,'errorMsg':'busy','retry':true,'retryAfterMs':250}"));
    CHECK(refusal.code == 503);
    CHECK(refusal.error_msg == "busy");
    CHECK(refusal.retry == true);
    CHECK(refusal.retry_after_ms == 250);
    CHECK(is_invalid(control(50, "{'code':503,'retry':1}")));
    CHECK(is_invalid(control(50, "{'code':503,'retryAfterMs':-1}")));
}

TEST_CASE("Codec: a heartbeat has positions in petrel.v1 only") {
    const std::string full = control(1, "{'sent':1,'rx':2,'h':3}");
    const Heartbeat heartbeat = decoded_as<Heartbeat>(full);
    REQUIRE(heartbeat.positions);
    CHECK(heartbeat.positions->sent == 1);
    CHECK(heartbeat.positions->rx == 2);
    CHECK(heartbeat.positions->h == 3);
    CHECK_FALSE(decoded_as<Heartbeat>(full, ProfileId::kImSdk).positions);
    CHECK(decoded_as<HeartbeatResponse>(control(51, "{'sent':0,'rx':0,'h':0}")).positions);
}

TEST_CASE("Codec: a heartbeat without positions is one") {
    for (const std::string text :
         {R"({"type":1})", R"({"type":1,"dataContent":null})", R"({"type":1,"dataContent":"{}"})",
          R"({"type":1,"dataContent":""})"}) {
        CAPTURE(text);
        for (const ProfileId profile : kAllProfiles) {
            CHECK_FALSE(decoded_as<Heartbeat>(text, profile).positions);
        }
    }
}

TEST_CASE("Codec: positions that are none spoil a heartbeat") {
    for (const std::string content : {"{'sent':-1}", "{'rx':1.5}", "{'h':'1'}",
                                      "{'h':9007199254740992}", "[]", "x", "{'h':1}}"}) {
        CAPTURE(content);
        CHECK(is_invalid(control(1, content)));
        CHECK(is_invalid(control(51, content)));
        CHECK(is_valid(control(1, content), ProfileId::kImSdk));
    }
}

TEST_CASE("Codec: a logout needs no content") {
    CHECK(decoded_as<Logout>(R"({"type":3,"from":"a"})").from == "a");
    CHECK(decoded_as<Logout>(R"({"type":3,"from":"a","dataContent":""})").from == "a");
    CHECK(decoded_as<Logout>(R"({"type":3,"from":"a","dataContent":null})").from == "a");
}

TEST_CASE("Codec: an echo keeps everything") {
    const char* rest =
        R"(,"dataContent":"x","from":"a","to":"b","fp":"f","QoS":true,"typeu":3,"bridge":true,)"
        R"("retryCount":2,"sm":9})";
    for (const int type : {5, 53}) {
        const Echo echo = decoded_as<Echo>(R"({"type":)" + std::to_string(type) + rest);
        CHECK(echo.is_response == (type == 53));
        CHECK(echo.text == "x");
        CHECK(echo.from == "a");
        CHECK(echo.to == "b");
        CHECK(echo.fp.to_string() == "f");
        CHECK(echo.qos);
        CHECK(echo.typeu == 3);
        CHECK(echo.bridge);
        CHECK(echo.retry_count == 2);
        CHECK(echo.send_ts == 9);
    }
}

TEST_CASE("Codec: an error names a message in petrel.v1") {
    const std::string text =
        control(52, "{'errorCode':305,'errorMsg':'m','fp':'f','seq':7,'retryAfterMs':100}");
    const ErrorPacket v1 = decoded_as<ErrorPacket>(text);
    CHECK(v1.code == 305);
    CHECK(v1.message == "m");
    CHECK(v1.fp.to_string() == "f");
    CHECK(v1.seq == 7U);
    CHECK(v1.retry_after_ms == 100);
    const ErrorPacket plain = decoded_as<ErrorPacket>(text, ProfileId::kImSdk);
    CHECK(plain.code == 305);
    CHECK(plain.fp.empty());
    CHECK_FALSE(plain.seq);
}

TEST_CASE("Codec: an error without a code, or with a broken name, is invalid") {
    for (const std::string content :
         {"{}", "{'errorCode':'x'}", "{'errorCode':1,'errorMsg':2}", "{'errorCode':1,'seq':-1}",
          "{'errorCode':1,'retryAfterMs':'x'}", "{'errorCode':1,'fp':7}", "302"}) {
        CAPTURE(content);
        CHECK(is_invalid(control(52, content)));
    }
    CHECK(decoded_as<ErrorPacket>(control(52, "{'errorCode':1,'errorMsg':null}")).message.empty());
}

TEST_CASE("Codec: a 54 kicks out in mobileimsdk") {
    const Kickout kickout =
        decoded_as<Kickout>(control(54, "{'code':2,'reason':'admin'}"), ProfileId::kMobileImSdk);
    CHECK(kickout.code == 2);
    CHECK(kickout.reason == "admin");
    CHECK(is_invalid(control(54, "{}"), ProfileId::kMobileImSdk));
    CHECK(is_invalid(R"({"type":54,"dataContent":"fp-1"})", ProfileId::kMobileImSdk));
}

TEST_CASE("Codec: a 55 kicks out and a 56 is a receipt in petrel.v1 only") {
    const std::string kick = control(55, "{'code':409,'reason':'r','device':'d'}");
    const Kickout kickout = decoded_as<Kickout>(kick);
    CHECK(kickout.code == 409);
    CHECK(kickout.reason == "r");
    CHECK(kickout.device == "d");
    const std::string delivered = control(56, "{'conv':'u:a:b','user':'b','delivered':4}");
    const Receipt receipt = decoded_as<Receipt>(delivered);
    CHECK(receipt.conv == "u:a:b");
    CHECK(receipt.user == "b");
    CHECK(receipt.delivered == 4);
    CHECK(decoded_as<UnknownPacket>(kick, ProfileId::kImSdk).type == 55);
    CHECK(decoded_as<UnknownPacket>(delivered, ProfileId::kMobileImSdk).type == 56);
}

TEST_CASE("Codec: a receipt that leaves something out is invalid") {
    CHECK(is_invalid(control(56, "{'user':'b','delivered':4}")));
    CHECK(is_invalid(control(56, "{'conv':'u:a:b','delivered':4}")));
    CHECK(is_invalid(control(56, "{'conv':'u:a:b','user':'b'}")));
    CHECK(is_invalid(control(56, "{'conv':'u:a:b','user':'b','delivered':-4}")));
}
