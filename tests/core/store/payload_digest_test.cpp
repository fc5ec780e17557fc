#include <set>
#include <string>

#include <doctest/doctest.h>

#include "core/store/payload_digest.hpp"

using namespace petrel;

TEST_CASE("PayloadDigest: MurmurHash3_x64_128 gives the reference's values") {
    CHECK(murmur3_x64_128("") == Digest128{0, 0});
    CHECK(murmur3_x64_128("hello") == Digest128{0xcbd8a7b341bd9b02, 0x5b1e906a48ae1d19});
    CHECK(murmur3_x64_128("hello, world") == Digest128{0x342fac623a5ebc8e, 0x4cdcbc079642414d});
    CHECK(murmur3_x64_128("The quick brown fox jumps over the lazy dog.") ==
          Digest128{0xcd99481f9ee902c9, 0x695da1a38987b6e7});
}

TEST_CASE("PayloadDigest: every length and every byte counts") {
    std::set<Digest128> seen;
    for (std::size_t length = 0; length <= 40; ++length) {
        seen.insert(murmur3_x64_128(std::string(length, 'a')));
        for (std::size_t at = 0; at < length; ++at) {
            std::string text(length, 'a');
            text[at] = '\xff';
            seen.insert(murmur3_x64_128(text));
        }
    }
    CHECK(seen.size() == 41 + 40 * 41 / 2);
}

TEST_CASE("PayloadDigest: the fields do not run into one another") {
    std::string scratch = "left over";
    std::set<Digest128> seen;
    seen.insert(payload_digest("bob", 0, "text", scratch));
    seen.insert(payload_digest("bobt", 0, "ext", scratch));
    seen.insert(payload_digest("bo", 0, "btext", scratch));
    seen.insert(payload_digest("bob", 1, "text", scratch));
    seen.insert(payload_digest("bob", -1, "text", scratch));
    seen.insert(payload_digest("", 0, "", scratch));
    CHECK(seen.size() == 6);
    CHECK(payload_digest("bob", 0, "text", scratch) == payload_digest("bob", 0, "text", scratch));
}
