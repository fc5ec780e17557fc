#include <doctest/doctest.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <ostream>
#include <string>

#include "transport/public_key.hpp"

using namespace petrel;

namespace {

std::string take(BIO* bio) {
    char* data = nullptr;
    const long length = BIO_get_mem_data(bio, &data);
    std::string text(data, static_cast<std::size_t>(length));
    BIO_free(bio);
    return text;
}

std::string public_pem(EVP_PKEY* key) {
    REQUIRE(key != nullptr);
    BIO* const bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(bio, key);
    EVP_PKEY_free(key);
    return take(bio);
}

// "RSA", "P-256", or what is wrong.
std::string kind_of(const std::string& pem) {
    std::string why;
    const auto kind = inspect_public_key(pem, why);
    CHECK(why.empty() == kind.has_value());
    if (!kind) return why;
    return *kind == PublicKeyKind::kRsa ? "RSA" : "P-256";
}

bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("PublicKey: RSA and P-256 are told apart") {
    CHECK(kind_of(public_pem(EVP_RSA_gen(2048))) == "RSA");
    CHECK(kind_of(public_pem(EVP_EC_gen("P-256"))) == "P-256");
    CHECK(kind_of("A comment.\n" + public_pem(EVP_EC_gen("P-256"))) == "P-256");
}

TEST_CASE("PublicKey: a short RSA key and other curves are refused with a reason") {
    CHECK(holds(kind_of(public_pem(EVP_RSA_gen(1024))), "less than 2048 bits"));
    CHECK(holds(kind_of(public_pem(EVP_EC_gen("P-384"))), "neither"));
    CHECK(holds(kind_of(public_pem(EVP_EC_gen("secp256k1"))), "neither"));
    CHECK(holds(kind_of(public_pem(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"))), "neither"));
}

TEST_CASE("PublicKey: a private key is refused as one") {
    EVP_PKEY* const key = EVP_EC_gen("P-256");
    BIO* const bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
    EVP_PKEY_free(key);
    CHECK(holds(kind_of(take(bio)), "must not have"));
}

TEST_CASE("PublicKey: what is none is refused with how to make one") {
    for (const char* text : {"", "x", "-----BEGIN PUBLIC KEY-----\n",
                             "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                             "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}) {
        CHECK(holds(kind_of(text), "openssl pkey"));
    }
}
