#include "transport/public_key.hpp"

#if PETREL_HAS_TLS
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <array>
#include <memory>
#endif

namespace petrel {

#if PETREL_HAS_TLS

namespace {

constexpr int kRsaBitsMin = 2048;  // RFC 7518 section 3.3.
constexpr std::string_view kHowTo = "'openssl pkey -in private.pem -pubout' writes the public one";

}  // namespace

std::optional<PublicKeyKind> inspect_public_key(std::string_view pem, std::string& why) {
    if (pem.find("PRIVATE KEY-----") != std::string_view::npos) {
        why = "holds a private key, which a gateway must not have; ";
        why += kHowTo;
        return std::nullopt;
    }
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
        BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
        bio ? PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr) : nullptr, EVP_PKEY_free);
    ERR_clear_error();
    if (!key) {
        why = "holds no public key in PEM (-----BEGIN PUBLIC KEY-----); ";
        why += kHowTo;
        return std::nullopt;
    }
    if (EVP_PKEY_is_a(key.get(), "RSA")) {
        if (EVP_PKEY_get_bits(key.get()) >= kRsaBitsMin) return PublicKeyKind::kRsa;
        why = "holds an RSA key of less than 2048 bits, which can be broken: make a longer one";
        return std::nullopt;
    }
    std::array<char, 64> group{};
    if (EVP_PKEY_is_a(key.get(), "EC") &&
        EVP_PKEY_get_group_name(key.get(), group.data(), group.size(), nullptr) == 1 &&
        std::string_view(group.data()) == "prime256v1") {
        return PublicKeyKind::kP256;
    }
    why = "holds neither an RSA key (RS256) nor one on the curve P-256 (ES256)";
    return std::nullopt;
}

#else

std::optional<PublicKeyKind> inspect_public_key(std::string_view, std::string& why) {
    why = "cannot be used: built without OpenSSL (-Dtls=disabled)";
    return std::nullopt;
}

#endif

}  // namespace petrel
