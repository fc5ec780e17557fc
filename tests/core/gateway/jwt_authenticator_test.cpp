// Who gets in with `--auth jwt`. Tokens are made by libjwt, and by hand where it would not make
// them.

#include <doctest/doctest.h>

#include <jwt.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "core/gateway/jwt_authenticator.hpp"

using namespace petrel;
using namespace std::chrono_literals;
using Algorithm = JwtAuthenticator::Algorithm;

namespace {

constexpr std::int64_t kNow = 1'700'000'000;  // Seconds.
const std::string kSecret = "a secret of thirty-two bytes, or";

// `claims` is a JSON object.
std::string sign(const std::string& claims, jwt_alg_t algorithm, const std::string& key,
                 const std::string& header = {}) {
    jwt_t* jwt = nullptr;
    REQUIRE(jwt_new(&jwt) == 0);
    REQUIRE(jwt_add_grants_json(jwt, claims.c_str()) == 0);
    if (!header.empty()) REQUIRE(jwt_add_headers_json(jwt, header.c_str()) == 0);
    const auto* bytes = reinterpret_cast<const unsigned char*>(key.data());
    REQUIRE(jwt_set_alg(jwt, algorithm, key.empty() ? nullptr : bytes,
                        static_cast<int>(key.size())) == 0);
    char* const text = jwt_encode_str(jwt);
    REQUIRE(text != nullptr);
    std::string token(text);
    std::free(text);
    jwt_free(jwt);
    return token;
}

std::string sign(const std::string& claims) { return sign(claims, JWT_ALG_HS256, kSecret); }

std::string base64url(std::string_view text) {
    std::string out(4 * (text.size() / 3 + 1) + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                       reinterpret_cast<const unsigned char*>(text.data()),
                                       static_cast<int>(text.size()));
    out.resize(static_cast<std::size_t>(length));
    while (!out.empty() && out.back() == '=') out.pop_back();
    for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
    return out;
}

// {"sub":"alice","exp":...} and what else is given.
std::string claims(const std::string& more = {}, std::int64_t expires = kNow + 60) {
    return R"({"sub":"alice","exp":)" + std::to_string(expires) + more + "}";
}

// "0 for 90s", "402"; the message of a refusal is checked to be one, and free of the token.
std::string verdict_of(const std::string& token, Algorithm algorithm, const std::string& key,
                       Credentials who, std::int64_t now_ms = kNow * 1000) {
    JwtAuthenticator authenticator({algorithm, key, 30s});
    who.token = token;
    const Authenticator::Verdict verdict = authenticator.verify(who, now_ms);
    if (verdict.code == 0) {
        REQUIRE(verdict.lasts);
        return "0 for " +
               std::to_string(
                   std::chrono::duration_cast<std::chrono::seconds>(*verdict.lasts).count()) +
               "s";
    }
    CHECK_FALSE(verdict.message.empty());
    CHECK_FALSE(verdict.lasts);
    // A close reason (RFC 6455) has room for 123 bytes.
    CHECK(verdict.message.size() <= 123);
    if (token.size() > 8) CHECK(verdict.message.find(token.substr(0, 8)) == std::string::npos);
    return std::to_string(verdict.code);
}

const Credentials kAlice{"default", "alice", "phone", "mobile", ""};

std::string verdict_of(const std::string& token, std::int64_t now_ms = kNow * 1000) {
    return verdict_of(token, Algorithm::kHs256, kSecret, kAlice, now_ms);
}

// A key pair, PEM.
struct KeyPair {
    std::string secret;
    std::string open;
};

KeyPair to_pem(EVP_PKEY* key) {
    const auto text = [](BIO* bio) {
        char* data = nullptr;
        const long length = BIO_get_mem_data(bio, &data);
        std::string result(data, static_cast<std::size_t>(length));
        BIO_free(bio);
        return result;
    };
    REQUIRE(key != nullptr);
    BIO* const secret = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(secret, key, nullptr, nullptr, 0, nullptr, nullptr);
    BIO* const open = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(open, key);
    EVP_PKEY_free(key);
    KeyPair pair;
    pair.secret = text(secret);
    pair.open = text(open);
    return pair;
}

const KeyPair& rsa() {
    static const KeyPair pair = to_pem(EVP_RSA_gen(2048));
    return pair;
}
const KeyPair& ec() {
    static const KeyPair pair = to_pem(EVP_EC_gen("P-256"));
    return pair;
}

}  // namespace

TEST_CASE("Jwt: a good token lets its user in for as long as it lasts, and the leeway") {
    CHECK(verdict_of(sign(claims())) == "0 for 90s");
    CHECK(verdict_of(sign(claims(R"(,"nbf":1700000000,"app":"default","iss":"x")"))) ==
          "0 for 90s");
}

TEST_CASE("Jwt: RS256 and ES256 are verified by the public key") {
    CHECK(verdict_of(sign(claims(), JWT_ALG_RS256, rsa().secret), Algorithm::kRs256, rsa().open,
                     kAlice) == "0 for 90s");
    CHECK(verdict_of(sign(claims(), JWT_ALG_ES256, ec().secret), Algorithm::kEs256, ec().open,
                     kAlice) == "0 for 90s");
}

TEST_CASE("Jwt: another key's signature is refused") {
    const KeyPair other_rsa = to_pem(EVP_RSA_gen(2048));
    const KeyPair other_ec = to_pem(EVP_EC_gen("P-256"));
    CHECK(verdict_of(sign(claims(), JWT_ALG_HS256,
                          "another secret of at least thirty-two bytes")) == "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_RS256, other_rsa.secret), Algorithm::kRs256, rsa().open,
                     kAlice) == "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_ES256, other_ec.secret), Algorithm::kEs256, ec().open,
                     kAlice) == "401");
}

TEST_CASE("Jwt: alg none is refused, whatever is or is not its signature") {
    const std::string unsigned_token = sign(claims(), JWT_ALG_NONE, "");
    CHECK(verdict_of(unsigned_token) == "401");
    CHECK(verdict_of(unsigned_token + "AAAA") == "401");
    for (const char* name : {"none", "None", "NONE", "nOnE"}) {
        const std::string header = base64url(std::string(R"({"alg":")") + name + R"("})");
        for (const std::string signature : {"", "AAAA", "eyJh"}) {
            const std::string token = header + "." + base64url(claims()) + "." + signature;
            CHECK(verdict_of(token) == "401");
            CHECK(verdict_of(token, Algorithm::kRs256, rsa().open, kAlice) == "401");
        }
    }
}

TEST_CASE("Jwt: a public key is no secret: HS256 signed with it is refused") {
    CHECK(verdict_of(sign(claims(), JWT_ALG_HS256, rsa().open), Algorithm::kRs256, rsa().open,
                     kAlice) == "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_HS256, ec().open), Algorithm::kEs256, ec().open,
                     kAlice) == "401");
}

TEST_CASE("Jwt: any other algorithm than the key's is refused") {
    CHECK(verdict_of(sign(claims(), JWT_ALG_HS384, kSecret)) == "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_HS512, kSecret)) == "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_RS256, rsa().secret)) == "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_RS512, rsa().secret), Algorithm::kRs256, rsa().open,
                     kAlice) == "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_RS256, rsa().secret), Algorithm::kEs256, ec().open,
                     kAlice) == "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_ES256, ec().secret), Algorithm::kRs256, rsa().open,
                     kAlice) == "401");
}

TEST_CASE("Jwt: a key that is none lets nobody in") {
    for (const std::string key : {"", "x", "-----BEGIN PUBLIC KEY-----\n"}) {
        CHECK(verdict_of(sign(claims()), Algorithm::kHs256, key, kAlice) == "401");
        CHECK(verdict_of(sign(claims(), JWT_ALG_RS256, rsa().secret), Algorithm::kRs256, key,
                         kAlice) == "401");
    }
}

TEST_CASE("Jwt: it ends at exp and the leeway, to the second") {
    const std::string token = sign(claims("", kNow));
    CHECK(verdict_of(token, (kNow + 29) * 1000 + 999) == "0 for 1s");
    CHECK(verdict_of(token, (kNow + 30) * 1000) == "402");
    CHECK(verdict_of(token, (kNow + 1'000'000) * 1000) == "402");
}

TEST_CASE("Jwt: it begins at nbf less the leeway") {
    const std::string token = sign(claims(R"(,"nbf":1700000031)"));
    CHECK(verdict_of(token, kNow * 1000) == "401");
    CHECK(verdict_of(token, (kNow + 1) * 1000) == "0 for 89s");
}

TEST_CASE("Jwt: a fraction of a second is a time, too (RFC 7519)") {
    CHECK(verdict_of(sign(R"({"sub":"alice","exp":1700000060.5})")) == "0 for 90s");
    CHECK(verdict_of(sign(R"({"sub":"alice","exp":1.70000006e9})")) == "0 for 90s");
}

TEST_CASE("Jwt: what must be there and is not, or is something else, is refused") {
    CHECK(verdict_of(sign("{}")) == "401");
    CHECK(verdict_of(sign(R"({"sub":"alice"})")) == "401");
    CHECK(verdict_of(sign(R"({"exp":1700000060})")) == "401");
    for (const char* wrong : {"\"1700000060\"", "null", "true", "[]", "{}", "-1", "1e300"}) {
        CAPTURE(wrong);
        CHECK(verdict_of(sign(std::string(R"({"sub":"alice","exp":)") + wrong + "}")) == "401");
        CHECK(verdict_of(sign(claims(std::string(R"(,"nbf":)") + wrong))) == "401");
    }
    for (const char* wrong : {"1", "null", "[\"alice\"]", "{}", "true"}) {
        CAPTURE(wrong);
        CHECK(verdict_of(sign(std::string(R"({"exp":1700000060,"sub":)") + wrong + "}")) == "401");
        CHECK(verdict_of(sign(claims(std::string(R"(,"app":)") + wrong))) == "404");
        CHECK(verdict_of(sign(claims(std::string(R"(,"dev":)") + wrong))) == "403");
        CHECK(verdict_of(sign(claims(std::string(R"(,"cls":)") + wrong))) == "403");
    }
}

TEST_CASE("Jwt: a token is for one user of one app") {
    const auto as = [](const char* app, const char* user, const std::string& token) {
        return verdict_of(token, Algorithm::kHs256, kSecret, {app, user, "phone", "mobile", ""});
    };
    CHECK(as("default", "bob", sign(claims())) == "403");
    CHECK(as("default", "Alice", sign(claims())) == "403");
    CHECK(as("shop", "alice", sign(claims())) == "404");
    CHECK(as("default", "alice", sign(claims(R"(,"app":"shop")"))) == "404");
    CHECK(as("shop", "alice", sign(claims(R"(,"app":"shop")"))) == "0 for 90s");
    CHECK(as("shop", "bob", sign(claims(R"(,"app":"shop")"))) == "403");
}

TEST_CASE("Jwt: dev and cls bind it to a device and to a class, when they are there") {
    CHECK(verdict_of(sign(claims(R"(,"dev":"phone","cls":"mobile")"))) == "0 for 90s");
    CHECK(verdict_of(sign(claims(R"(,"dev":"laptop")"))) == "403");
    CHECK(verdict_of(sign(claims(R"(,"dev":"")"))) == "403");
    CHECK(verdict_of(sign(claims(R"(,"cls":"desktop")"))) == "403");
}

TEST_CASE("Jwt: an expired token of somebody else is refused as his, not as expired") {
    // 402 would make a client ask for a new token that will not help it.
    CHECK(verdict_of(sign(claims("", kNow - 100)), Algorithm::kHs256, kSecret,
                     {"default", "bob", "phone", "mobile", ""}) == "403");
    CHECK(verdict_of(sign(claims("", kNow - 100)), Algorithm::kHs256, kSecret,
                     {"shop", "alice", "phone", "mobile", ""}) == "404");
}

TEST_CASE("Jwt: an extension that must be understood is refused") {
    CHECK(verdict_of(sign(claims(), JWT_ALG_HS256, kSecret, R"({"crit":["b64"],"b64":true})")) ==
          "401");
    CHECK(verdict_of(sign(claims(), JWT_ALG_HS256, kSecret, R"({"kid":"7"})")) == "0 for 90s");
}

TEST_CASE("Jwt: garbage is refused") {
    const std::string good = sign(claims());
    for (const std::string& token : {std::string(),
                                     std::string("token"),
                                     std::string("."),
                                     std::string(".."),
                                     std::string("..."),
                                     std::string("a.b.c"),
                                     std::string("aa.bb"),
                                     std::string("aa.bb."),
                                     std::string(".bb.cc"),
                                     std::string("aa..cc"),
                                     std::string("aa.bb.cc.dd"),
                                     good + ".",
                                     good + "=",
                                     good + " ",
                                     good + "\n",
                                     " " + good,
                                     "Bearer " + good,
                                     good.substr(1),
                                     good.substr(0, good.size() - 1),
                                     good + "A",
                                     std::string(good).append(1, '\0'),
                                     base64url("[]") + ".bb.cc",
                                     base64url("{}") + "." + base64url("{}") + ".cc",
                                     base64url("\"\"") + ".bb.cc",
                                     std::string("\xff\xfe.\x80.\x80")}) {
        CAPTURE(token);
        CHECK(verdict_of(token) == "401");
    }
}

TEST_CASE("Jwt: a flipped bit anywhere is refused") {
    const std::string good = sign(claims());
    // The last character has bits that mean nothing.
    for (std::size_t i = 0; i + 1 < good.size(); ++i) {
        std::string bad = good;
        bad[i] = bad[i] == 'A' ? 'B' : 'A';
        if (good[i] == '.') continue;
        CAPTURE(i);
        CHECK(verdict_of(bad) == "401");
    }
}

TEST_CASE("Jwt: a token longer than the most is not looked at, one as long is") {
    JwtAuthenticator::Options options;
    options.key = kSecret;
    const std::string token = sign(claims());
    Credentials who = kAlice;
    who.token = token;
    for (const std::size_t most :
         {token.size(), token.size() - 1, std::size_t{1}, std::size_t{0}}) {
        options.token_bytes_max = most;
        CHECK((JwtAuthenticator(options).verify(who, kNow * 1000).code == 0) ==
              (most >= token.size()));
    }
}

TEST_CASE("Jwt: a megabyte of token is refused") {
    CHECK(verdict_of(std::string(1 << 20, 'A')) == "401");
    CHECK(verdict_of(std::string(1 << 19, 'A') + "." + std::string(1 << 19, 'A') + ".AA") == "401");
    CHECK(verdict_of(sign(claims(R"(,"x":")" + std::string(1 << 20, 'x') + "\""))) == "401");
    // A depth bomb that fits.
    CHECK(verdict_of(base64url(std::string(3'000, '[')) + "." + base64url(std::string(2'000, '[')) +
                     ".AAAA") == "401");
}

TEST_CASE("Jwt: a minted token is good for its user, and says what it was told") {
    JwtClaims claims;
    claims.user = "alice";
    claims.not_before = std::chrono::seconds{kNow};
    claims.expires = std::chrono::seconds{kNow + 60};
    CHECK(verdict_of(mint_jwt(claims, kSecret)) == "0 for 90s");
    claims.app = "shop";
    CHECK(verdict_of(mint_jwt(claims, kSecret)) == "404");
    claims.app = "default";
    claims.device = "laptop";
    CHECK(verdict_of(mint_jwt(claims, kSecret)) == "403");
    claims.device = "phone";
    claims.device_class = "web";
    CHECK(verdict_of(mint_jwt(claims, kSecret)) == "403");
    claims.device_class = "mobile";
    CHECK(verdict_of(mint_jwt(claims, kSecret)) == "0 for 90s");
    CHECK(verdict_of(mint_jwt(claims, kSecret + "!")) == "401");
}

TEST_CASE("Jwt: a name that is no UTF-8 is not minted") {
    JwtClaims claims;
    claims.user = "al\xffice";
    claims.expires = std::chrono::seconds{kNow};
    CHECK(mint_jwt(claims, kSecret).empty());
}
