#include <doctest/doctest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "core/gateway/login_policy.hpp"

using namespace petrel;

namespace {

std::shared_ptr<const Identity> on(const std::string& device, const std::string& device_class) {
    Identity::Names names;
    names.device = device;
    names.device_class = device_class;
    return std::make_shared<Identity>(names, ProfileId::kPetrelV1);
}

LiveSession live(std::uint64_t connection, std::uint64_t generation,
                 const std::string& device = "phone", const std::string& device_class = "mobile") {
    LiveSession session;
    session.session = connection;
    session.connection = connection;
    session.generation = generation;
    session.identity = on(device, device_class);
    return session;
}

LoginAsk ask(std::uint64_t connection, std::uint64_t generation,
             const std::string& device = "phone", const std::string& device_class = "mobile") {
    LoginAsk login;
    login.session = login.connection = connection;
    login.generation = generation;
    login.identity = on(device, device_class);
    return login;
}

// "admitted", "admitted without 1 2", "409 retry", "409 final"
std::string decide(SessionPolicy policy, const LoginAsk& login,
                   const std::vector<LiveSession>& sessions) {
    const LoginDecision decision = decide_login(policy, login, sessions);
    if (decision.code != 0) {
        CHECK(decision.losers.empty());
        CHECK_FALSE(decision.message.empty());
        return std::to_string(decision.code) + (decision.retry ? " retry" : " final");
    }
    std::string text = "admitted";
    if (!decision.losers.empty()) text += " without";
    for (const LiveSession& loser : decision.losers) text += ' ' + std::to_string(loser.session);
    return text;
}

constexpr SessionPolicy kMulti = SessionPolicy::kMulti;
constexpr SessionPolicy kOnePerClass = SessionPolicy::kOnePerClass;
constexpr SessionPolicy kSingle = SessionPolicy::kSingle;

}  // namespace

TEST_CASE("LoginPolicy: the first session of a user is admitted") {
    CHECK(decide(kMulti, ask(1, 0), {}) == "admitted");
    CHECK(decide(kSingle, ask(1, 5), {}) == "admitted");
}

TEST_CASE("LoginPolicy: multi keeps one session a device") {
    const std::vector<LiveSession> sessions = {live(1, 10, "phone"), live(2, 11, "laptop")};
    CHECK(decide(kMulti, ask(3, 0, "tablet"), sessions) == "admitted");
    CHECK(decide(kMulti, ask(3, 0, "phone"), sessions) == "admitted without 1");
}

TEST_CASE("LoginPolicy: one-per-class keeps one session a class, too") {
    const std::vector<LiveSession> sessions = {live(1, 10, "phone", "mobile"),
                                               live(2, 11, "laptop", "desktop")};
    CHECK(decide(kOnePerClass, ask(3, 0, "tablet", "mobile"), sessions) == "admitted without 1");
    CHECK(decide(kOnePerClass, ask(3, 0, "browser", "web"), sessions) == "admitted");
    CHECK(decide(kOnePerClass, ask(3, 0, "laptop", "mobile"), sessions) == "admitted without 1 2");
}

TEST_CASE("LoginPolicy: single keeps one session a user") {
    const std::vector<LiveSession> sessions = {live(1, 10, "phone", "mobile"),
                                               live(2, 11, "laptop", "desktop")};
    CHECK(decide(kSingle, ask(3, 0, "browser", "web"), sessions) == "admitted without 1 2");
}

TEST_CASE("LoginPolicy: the higher generation stays") {
    CHECK(decide(kMulti, ask(2, 11), {live(1, 10)}) == "admitted without 1");
    CHECK(decide(kMulti, ask(2, 9), {live(1, 10)}) == "409 final");
}

TEST_CASE("LoginPolicy: of equal generations the newer connection stays") {
    CHECK(decide(kMulti, ask(2, 10), {live(1, 10)}) == "admitted without 1");
    CHECK(decide(kMulti, ask(1, 10), {live(2, 10)}) == "409 retry");
}

TEST_CASE("LoginPolicy: a login on an older connection than the live one's is stale") {
    CHECK(decide(kMulti, ask(1, 0), {live(2, 10)}) == "409 retry");
    CHECK(decide(kMulti, ask(1, 11), {live(2, 10)}) == "409 retry");
    CHECK(decide(kMulti, ask(1, 0, "phone"), {live(2, 10, "laptop")}) == "admitted");
}

TEST_CASE("LoginPolicy: a final refusal wins over one that may be repeated") {
    const std::vector<LiveSession> stale_first = {live(5, 3, "a"), live(1, 10, "b")};
    const std::vector<LiveSession> final_first = {live(1, 10, "b"), live(5, 3, "a")};
    CHECK(decide(kSingle, ask(2, 4, "c"), stale_first) == "409 final");
    CHECK(decide(kSingle, ask(2, 4, "c"), final_first) == "409 final");
}

TEST_CASE("LoginPolicy: who is refused displaces nobody") {
    CHECK(decide(kSingle, ask(3, 4, "c"), {live(1, 3, "a"), live(2, 10, "b")}) == "409 final");
    CHECK(decide(kSingle, ask(3, 4, "c"), {live(1, 3, "a"), live(9, 3, "b")}) == "409 retry");
}
