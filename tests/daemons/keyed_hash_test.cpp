#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>

#include "daemons/keyed_hash.hpp"

using namespace petrel;

namespace {

constexpr KeyedHash::Key kKey = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};

// As bytes, in hex.
std::string hex(const KeyedHash::Value& value) {
    std::string text;
    for (std::uint64_t word : value) {
        for (int i = 0; i < 8; ++i, word >>= 8) {
            char byte[3];
            std::snprintf(byte, sizeof byte, "%02x", static_cast<unsigned>(word & 0xff));
            text += byte;
        }
    }
    return text;
}

std::string bytes(std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text.push_back(static_cast<char>(i));
    return text;
}

std::string hash_of(const std::string& text, const KeyedHash::Key& key = kKey) {
    KeyedHash hash(key);
    hash.add(text);
    return hex(hash.finish());
}

}  // namespace

// The authors' own, and what `openssl mac -macopt hexkey:000102...0f SIPHASH` prints.
TEST_CASE("KeyedHash: it is SipHash-2-4-128") {
    CHECK(hash_of("") == "a3817f04ba25a8e66df67214c7550293");
    CHECK(hash_of(bytes(1)) == "da87c1d86b99af44347659119b22fc45");
    CHECK(hash_of(bytes(9)) == "264499060ad9baabc47f8b02bb6d71ed");
}

TEST_CASE("KeyedHash: pieces count as one") {
    const std::string text = bytes(40);
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        KeyedHash hash(kKey);
        hash.add(std::string_view(text).substr(0, cut));
        hash.add(std::string_view(text).substr(cut));
        CHECK(hex(hash.finish()) == hash_of(text));
    }
}

TEST_CASE("KeyedHash: another key, another result") {
    CHECK(hash_of("a", {kKey[0], kKey[1] + 1}) != hash_of("a"));
    CHECK(hash_of("a", {kKey[0] + 1, kKey[1]}) != hash_of("a"));
}
