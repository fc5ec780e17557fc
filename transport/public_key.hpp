#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace petrel {

enum class PublicKeyKind : std::uint8_t { kRsa, kP256 };

// What a PEM file of a public key ("-----BEGIN PUBLIC KEY-----") holds: RSA of 2048 bits or more,
// or an elliptic curve key on P-256. nullopt for anything else, and then `why` says what is wrong
// and what to do.
std::optional<PublicKeyKind> inspect_public_key(std::string_view pem, std::string& why);

}  // namespace petrel
