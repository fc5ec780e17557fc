#include "protocol/profile.hpp"

#include <doctest/doctest.h>
#include <ostream>
#include <string>
#include <system_error>

#include "protocol/error.hpp"

using namespace petrel;

TEST_CASE("profile: every id has its own row") {
    for (const ProfileId id : {ProfileId::kUndecided, ProfileId::kPetrelV1, ProfileId::kImSdk,
                               ProfileId::kMobileImSdk}) {
        CHECK(profile(id).id == id);
    }
}

TEST_CASE("profile: names are those of the option, and nothing else is one") {
    CHECK(profile_by_name("petrel.v1") == ProfileId::kPetrelV1);
    CHECK(profile_by_name("im-sdk") == ProfileId::kImSdk);
    CHECK(profile_by_name("mobileimsdk") == ProfileId::kMobileImSdk);
    for (const std::string name : {"", "undecided", "petrel", "IM-SDK", "petrel.v2"}) {
        CAPTURE(name);
        CHECK_FALSE(profile_by_name(name));
    }
}

TEST_CASE("profile: acks and kick-outs have the types of the protocol's table") {
    CHECK(profile(ProfileId::kPetrelV1).server_ack_type == 54);
    CHECK(profile(ProfileId::kImSdk).server_ack_type == 54);
    CHECK(profile(ProfileId::kMobileImSdk).server_ack_type == 4);
    CHECK(profile(ProfileId::kPetrelV1).kickout_type == 55);
    CHECK(profile(ProfileId::kImSdk).kickout_type == 0);
    CHECK(profile(ProfileId::kMobileImSdk).kickout_type == 54);
}

TEST_CASE("profile: before it is known both spellings are written") {
    const Profile& undecided = profile(ProfileId::kUndecided);
    CHECK(undecided.writes_qos_im_sdk);
    CHECK(undecided.writes_qos_mobile);
}

TEST_CASE("profile: plain timings are those of the published programs") {
    const Profile& im_sdk = profile(ProfileId::kImSdk);
    CHECK(im_sdk.heartbeat_interval_ms == 20'000);
    CHECK(im_sdk.heartbeat_patience_ms == 10'000);
    CHECK_FALSE(im_sdk.patience_since_last_answer);
    CHECK(im_sdk.relogin_first_ms == 2'000);
    CHECK(im_sdk.relogin_ms == 2'000);
    const Profile& mobile = profile(ProfileId::kMobileImSdk);
    CHECK(mobile.heartbeat_interval_ms == 15'000);
    CHECK(mobile.heartbeat_patience_ms == 20'000);
    CHECK(mobile.patience_since_last_answer);
    CHECK(mobile.relogin_first_ms == 0);
    CHECK(mobile.relogin_ms == 3'000);
}

TEST_CASE("error: codes are the wire's numbers in a category of their own") {
    const std::error_code code = Errc::kBusy;
    CHECK(code.value() == 302);
    CHECK(std::string(code.category().name()) == "petrel");
    CHECK(code == Errc::kBusy);
    CHECK(code != Errc::kTooLarge);
    CHECK_FALSE(std::error_code(Errc::kOk));
}

TEST_CASE("error: every known code has a sentence of its own") {
    std::string texts = "|";
    for (const int code : {0,   1,   2,   3,   4,   201, 202, 203, 204, 205, 301, 302,
                           303, 304, 305, 306, 307, 308, 401, 402, 403, 404, 409, 503}) {
        CAPTURE(code);
        const std::string text(describe(code));
        CHECK(text.rfind("error ", 0) == std::string::npos);
        CHECK(texts.find("|" + text + "|") == std::string::npos);
        texts += text + "|";
    }
}

TEST_CASE("error: an unknown code is described by its number") {
    CHECK(describe(1234) == "error 1234");
    CHECK(describe(-1) == "error -1");
    CHECK(describe(2147483647) == "error 2147483647");
    CHECK(std::string(describe(-2147483647 - 1).data()) == "error -2147483648");
    CHECK(make_error_code(static_cast<Errc>(1025)).message() == "error 1025");
}

TEST_CASE("error: a Result is a value or a reason") {
    const Result<int> value = 5;
    CHECK(value);
    CHECK(*value == 5);
    CHECK_FALSE(value.error());
    const Result<int> failure = Errc::kTooLarge;
    CHECK_FALSE(failure);
    CHECK(failure.error() == Errc::kTooLarge);
}
