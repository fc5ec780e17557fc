#include "protocol/fingerprint.hpp"

#include <cerrno>
#include <cstring>
#include <sys/random.h>
#include <uuid/uuid.h>

namespace petrel {
namespace {

constexpr std::size_t kUuidTextSize = 36;

constexpr int kNotHex = -1;

constexpr int lower_hex_value(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return kNotHex;
}

constexpr std::array<std::int8_t, 256> make_hex_table() noexcept {
    std::array<std::int8_t, 256> table{};
    for (int c = 0; c < 256; ++c) {
        table[static_cast<std::size_t>(c)] =
            static_cast<std::int8_t>(lower_hex_value(static_cast<char>(c)));
    }
    return table;
}

constexpr std::array<std::int8_t, 256> kHexTable = make_hex_table();

// Where the two digits of each byte stand in the canonical text.
constexpr std::array<std::uint8_t, 16> kDigitOffset = {0,  2,  4,  6,  9,  11, 14, 16,
                                                       19, 21, 24, 26, 28, 30, 32, 34};

// Not uuid_parse(): that takes upper case too, which could not be printed back exactly, and this
// runs for every message in both directions.
bool parse_canonical_uuid(std::string_view text, std::array<std::uint8_t, 16>& bytes) noexcept {
    if (text.size() != kUuidTextSize) return false;
    if (text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-') return false;
    int seen = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        // -1 for no digit: a number, no character. NOLINTBEGIN(bugprone-signed-char-misuse)
        const int high = kHexTable[static_cast<unsigned char>(text[kDigitOffset[i]])];
        const int low = kHexTable[static_cast<unsigned char>(text[kDigitOffset[i] + 1U])];
        // NOLINTEND(bugprone-signed-char-misuse)
        seen |= high | low;  // Negative as soon as one of them is no digit.
        bytes[i] = static_cast<std::uint8_t>((high & 0xf) * 16 + (low & 0xf));
    }
    return seen >= 0;
}

bool fill_with_entropy(std::uint8_t* out, std::size_t size) noexcept {
    while (size > 0) {
        const ssize_t got = ::getrandom(out, size, 0);
        if (got < 0) {
            if (errno == EINTR) continue;
            return false;
        }
        out += got;
        size -= static_cast<std::size_t>(got);
    }
    return true;
}

std::uint64_t mix(std::uint64_t x) noexcept {  // The finaliser of MurmurHash3.
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    x ^= x >> 33;
    return x;
}

}  // namespace

std::optional<Fingerprint> Fingerprint::parse(std::string_view text) {
    if (text.empty() || text.size() > kTextMax) return std::nullopt;
    Fingerprint fp;
    if (parse_canonical_uuid(text, fp.uuid_)) {
        fp.is_uuid_ = true;
        return fp;
    }
    for (const char c : text) {
        if (c < 0x20 || c > 0x7e) return std::nullopt;
    }
    fp.uuid_ = {};
    fp.text_ = std::make_unique<const std::string>(text);
    return fp;
}

Fingerprint Fingerprint::from_uuid(const std::array<std::uint8_t, 16>& bytes) {
    Fingerprint fp;
    fp.uuid_ = bytes;
    fp.is_uuid_ = true;
    return fp;
}

std::string Fingerprint::to_string() const {
    std::string out;
    append_to(out);
    return out;
}

void Fingerprint::append_to(std::string& out) const {
    if (!is_uuid_) {
        out += text();
        return;
    }
    char text[kUuidTextSize + 1];
    uuid_unparse_lower(uuid_.data(), text);
    out.append(text, kUuidTextSize);
}

std::size_t Fingerprint::hash() const noexcept {
    if (!is_uuid_) return std::hash<std::string_view>()(text());
    std::uint64_t halves[2];
    std::memcpy(halves, uuid_.data(), sizeof halves);
    return static_cast<std::size_t>(mix(halves[0] ^ mix(halves[1])));
}

bool operator==(const Fingerprint& a, const Fingerprint& b) noexcept {
    if (a.is_uuid_ != b.is_uuid_) return false;
    return a.is_uuid_ ? a.uuid_ == b.uuid_ : a.text() == b.text();
}

bool operator<(const Fingerprint& a, const Fingerprint& b) noexcept {
    if (a.is_uuid_ != b.is_uuid_) return b.is_uuid_;
    return a.is_uuid_ ? a.uuid_ < b.uuid_ : a.text() < b.text();
}

Fingerprint UuidSource::next() {
    std::array<std::uint8_t, 16> bytes;
    if (used_ == entropy_.size()) {
        if (!fill_with_entropy(entropy_.data(), entropy_.size())) {
            uuid_generate_random(bytes.data());  // Has its own ways where getrandom is forbidden.
            return Fingerprint::from_uuid(bytes);
        }
        used_ = 0;
    }
    std::memcpy(bytes.data(), entropy_.data() + used_, bytes.size());
    used_ += bytes.size();
    bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);  // RFC 4122 4.4: version 4,
    bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);  // variant 10.
    return Fingerprint::from_uuid(bytes);
}

}  // namespace petrel
