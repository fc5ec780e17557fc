// Tokens and kick-outs as an app meets them: the C ABI against a gateway that asks for tokens.

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "core/gateway/jwt_authenticator.hpp"
#include "tests/abi/c_world.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

const std::string kSecret = "a secret of thirty-two bytes, or";

// `lasts` from now on; what has passed has ended.
std::string token_for(const std::string& user, std::chrono::seconds lasts) {
    const auto now = std::chrono::duration_cast<std::chrono::seconds>(
        std::chrono::system_clock::now().time_since_epoch());
    JwtClaims claims;
    claims.user = user;
    claims.expires = now + lasts;
    return mint_jwt(claims, kSecret);
}

GatewayOptions with_grace(Duration grace) {
    GatewayOptions options;
    options.session.token_grace = grace;
    return options;
}

std::unique_ptr<Authenticator> jwt() {
    JwtAuthenticator::Options options;
    options.key = kSecret;
    options.leeway = 0s;
    return std::make_unique<JwtAuthenticator>(std::move(options));
}

// The app's token provider: gives the next of its tokens when it is asked.
class Provider {
public:
    Provider(Ears& ears, std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
        ears.on_seen = [this](petrel_client* client, const Seen& seen) {
            if (seen.type != PETREL_EVENT_TOKEN_NEEDED) return;
            std::string token;
            {
                const std::lock_guard lock(mutex_);
                if (next_ == tokens_.size()) return;
                token = tokens_[next_++];
            }
            if (!token.empty()) petrel_client_set_token(client, token.c_str());
        };
    }
    std::size_t given() {
        const std::lock_guard lock(mutex_);
        return next_;
    }

private:
    std::mutex mutex_;
    std::vector<std::string> tokens_;  // "": it is asked and does not answer.
    std::size_t next_ = 0;
};

std::int32_t state_of(petrel_client* client) {
    std::int32_t state = -1;
    petrel_client_state(client, &state);
    return state;
}

// Until a state event says that state.
bool wait_for_state(Ears& ears, std::int32_t state) {
    for (std::size_t count = 1;; ++count) {
        if (!ears.wait_for(PETREL_EVENT_STATE, count)) return false;
        if (ears.all(PETREL_EVENT_STATE)[count - 1].value == state) return true;
    }
}

std::string codes(const std::vector<Seen>& events) {
    std::string text;
    for (const Seen& event : events) text += std::to_string(event.code) + " ";
    return text;
}

}  // namespace

TEST_CASE("Identity: an expired token is asked for, and the next one logs in") {
    RunningGateway gateway(GatewayOptions{}, jwt());
    Ears ears;
    Provider provider(ears, {token_for("alice", 1h)});
    CRuntime runtime;
    petrel_client_options options = options_for(gateway.url(), "alice", &ears);
    const std::string old_token = token_for("alice", -10s);
    options.token = old_token.c_str();
    petrel_client* const alice = runtime.client(options);
    petrel_client_login(alice);
    REQUIRE(wait_for_state(ears, PETREL_STATE_ONLINE));
    REQUIRE(ears.wait_for(PETREL_EVENT_LOGIN, 2));
    CHECK(codes(ears.all(PETREL_EVENT_LOGIN)) == "402 0 ");
    CHECK(provider.given() == 1);
    send(alice, "alice", "to myself");
    CHECK(ears.wait_for(PETREL_EVENT_MESSAGE));
    petrel_client_destroy(alice);
}

TEST_CASE("Identity: a second expired token in a row is final, and login() begins anew") {
    RunningGateway gateway(GatewayOptions{}, jwt());
    Ears ears;
    Provider provider(ears, {token_for("alice", -10s), token_for("alice", 1h)});
    CRuntime runtime;
    petrel_client_options options = options_for(gateway.url(), "alice", &ears);
    const std::string old_token = token_for("alice", -20s);
    options.token = old_token.c_str();
    petrel_client* const alice = runtime.client(options);
    petrel_client_login(alice);
    REQUIRE(wait_for_state(ears, PETREL_STATE_STOPPED));
    REQUIRE(ears.wait_for(PETREL_EVENT_LOGIN, 2));
    CHECK(codes(ears.all(PETREL_EVENT_LOGIN)) == "402 402 ");
    CHECK(provider.given() == 1);
    petrel_client_login(alice);
    REQUIRE(wait_for_state(ears, PETREL_STATE_ONLINE));
    CHECK(provider.given() == 2);
    petrel_client_destroy(alice);
}

TEST_CASE("Identity: another user's token is refused for good, and no other is asked for") {
    RunningGateway gateway(GatewayOptions{}, jwt());
    Ears ears;
    Provider provider(ears, {token_for("alice", 1h)});
    CRuntime runtime;
    petrel_client_options options = options_for(gateway.url(), "alice", &ears);
    const std::string bobs = token_for("bob", 1h);
    options.token = bobs.c_str();
    petrel_client* const alice = runtime.client(options);
    petrel_client_login(alice);
    REQUIRE(wait_for_state(ears, PETREL_STATE_STOPPED));
    REQUIRE(ears.wait_for(PETREL_EVENT_LOGIN));
    CHECK(codes(ears.all(PETREL_EVENT_LOGIN)) == "403 ");
    CHECK(ears.all(PETREL_EVENT_TOKEN_NEEDED).empty());
    petrel_client_destroy(alice);
}

TEST_CASE("Identity: a token that ends while online is renewed without a break") {
    RunningGateway gateway(with_grace(1h), jwt());
    Ears ears;
    Provider provider(ears, {token_for("alice", 1h)});
    CRuntime runtime;
    petrel_client_options options = options_for(gateway.url(), "alice", &ears);
    const std::string short_token = token_for("alice", 2s);
    options.token = short_token.c_str();
    petrel_client* const alice = runtime.client(options);
    petrel_client_login(alice);
    REQUIRE(wait_for_state(ears, PETREL_STATE_ONLINE));
    REQUIRE(ears.wait_for(PETREL_EVENT_TOKEN_NEEDED));
    send(alice, "alice", "behind it");
    REQUIRE(ears.wait_for(PETREL_EVENT_MESSAGE));
    CHECK(ears.all(PETREL_EVENT_TOKEN_NEEDED).size() == 1);
    CHECK(ears.all(PETREL_EVENT_LOGIN).size() == 1);
    CHECK(ears.all(PETREL_EVENT_ERROR).empty());
    petrel_stats stats;
    REQUIRE(petrel_client_stats(alice, &stats, sizeof stats) == PETREL_OK);
    CHECK(stats.reconnects == 0);
    CHECK(state_of(alice) == PETREL_STATE_ONLINE);
    petrel_client_destroy(alice);
}

TEST_CASE("Identity: who is asked and does not answer is closed, asked again, and comes back") {
    RunningGateway gateway(with_grace(100ms), jwt());
    Ears ears;
    Provider provider(ears, {"", token_for("alice", 1h)});
    CRuntime runtime;
    petrel_client_options options = options_for(gateway.url(), "alice", &ears);
    const std::string short_token = token_for("alice", 2s);
    options.token = short_token.c_str();
    petrel_client* const alice = runtime.client(options);
    petrel_client_login(alice);
    REQUIRE(ears.wait_for(PETREL_EVENT_TOKEN_NEEDED, 2));
    // Login, refused login, login.
    REQUIRE(ears.wait_for(PETREL_EVENT_LOGIN, 3));
    CHECK(codes(ears.all(PETREL_EVENT_LOGIN)) == "0 402 0 ");
    CHECK(state_of(alice) == PETREL_STATE_ONLINE);
    petrel_client_destroy(alice);
}

TEST_CASE("Identity: two devices that come back by themselves under single settle at once") {
    GatewayOptions policy;
    policy.session.drain_window_ms = 100;
    RunningGateway gateway(policy, std::make_unique<OpenAuthenticator>());
    CRuntime runtime;
    Ears phone_hears, laptop_hears;
    petrel_client_options options = options_for(gateway.url(), "alice", &phone_hears);
    options.device = "phone";
    petrel_client* const phone = runtime.client(options);
    options = options_for(gateway.url(), "alice", &laptop_hears);
    options.device = "laptop";
    petrel_client* const laptop = runtime.client(options);
    petrel_client_login(phone);
    REQUIRE(phone_hears.wait_for(PETREL_EVENT_LOGIN));
    petrel_client_login(laptop);
    REQUIRE(laptop_hears.wait_for(PETREL_EVENT_LOGIN));

    policy.policy = SessionPolicy::kSingle;
    gateway.restart(policy);
    // The person was at the laptop last. In whatever order both come back, it stays.
    REQUIRE(wait_for_state(phone_hears, PETREL_STATE_STOPPED));
    REQUIRE(laptop_hears.wait_for(PETREL_EVENT_LOGIN, 2));
    CHECK(state_of(laptop) == PETREL_STATE_ONLINE);
    CHECK(laptop_hears.all(PETREL_EVENT_KICKED).empty());
    CHECK(state_of(phone) == PETREL_STATE_STOPPED);
    CHECK(gateway.gateway().counters().logins_accepted <= 2);

    // Only the person's own login at the phone takes over.
    const std::size_t logins = phone_hears.all(PETREL_EVENT_LOGIN).size();
    petrel_client_login(phone);
    REQUIRE(phone_hears.wait_for(PETREL_EVENT_LOGIN, logins + 1));
    REQUIRE(laptop_hears.wait_for(PETREL_EVENT_KICKED));
    REQUIRE(wait_for_state(laptop_hears, PETREL_STATE_STOPPED));
    CHECK(laptop_hears.all(PETREL_EVENT_KICKED)[0].code == 1);
    CHECK(state_of(phone) == PETREL_STATE_ONLINE);
    petrel_client_destroy(phone);
    petrel_client_destroy(laptop);
}
