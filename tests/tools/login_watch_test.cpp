#include "tools/petrel/login_watch.hpp"

#include <doctest/doctest.h>

using namespace petrel;
using petrel::tools::ExitStatus;
using petrel::tools::LoginWatch;

namespace {

Event state(ClientState to, std::string reason = {}, int code = 0) {
    return StateEvent{to, code, std::move(reason)};
}

}  // namespace

TEST_CASE("LoginWatch: online and offline are changes, all else is not") {
    LoginWatch watch;
    CHECK_FALSE(watch.on_event(state(ClientState::kConnecting)));
    CHECK(watch.on_event(state(ClientState::kOnline)));
    CHECK(watch.is_online());
    CHECK_FALSE(watch.on_event(MessageEvent{}));
    CHECK(watch.on_event(state(ClientState::kConnecting, "the connection broke", 1006)));
    CHECK_FALSE(watch.is_online());
    CHECK(watch.was_ever_online());
    CHECK(watch.reason() == "the connection broke");
    CHECK_FALSE(watch.end().has_value());
}

TEST_CASE("LoginWatch: a refusal that is tried again is no end") {
    LoginWatch watch;
    LoginEvent refused;
    refused.code = 503;
    refused.message = "busy";
    refused.will_retry = true;
    watch.on_event(refused);
    CHECK_FALSE(watch.end().has_value());
    CHECK(watch.never_online_text("ws://x") == "never online at ws://x: busy");
}

TEST_CASE("LoginWatch: stopped for good ends with 4 and the server's words") {
    LoginWatch watch;
    LoginEvent refused;
    refused.code = 403;
    refused.message = "not you";
    watch.on_event(refused);
    CHECK(watch.on_event(state(ClientState::kStopped)));
    CHECK(watch.end() == ExitStatus::kRefused);
    CHECK(watch.reason() == "not you");
}

TEST_CASE("LoginWatch: kicked out ends with 4, whatever is said afterwards") {
    LoginWatch watch;
    watch.on_event(state(ClientState::kOnline));
    KickedEvent kicked;
    kicked.code = 409;
    kicked.reason = "logged in elsewhere";
    CHECK(watch.on_event(kicked));
    CHECK(watch.end() == ExitStatus::kRefused);
    CHECK(watch.on_event(state(ClientState::kStopped, "closed", 4004)));
    CHECK(watch.reason() == "kicked out: logged in elsewhere");
    CHECK_FALSE(watch.is_online());
}

TEST_CASE("LoginWatch: nobody here can get a new token") {
    LoginWatch watch;
    CHECK(watch.on_event(TokenNeededEvent{402}));
    CHECK(watch.end() == ExitStatus::kRefused);
    CHECK(watch.code() == 402);
}

TEST_CASE("LoginWatch: without a word from the server there was no answer") {
    CHECK(LoginWatch().never_online_text("ws://x") == "never online at ws://x: no answer");
}
