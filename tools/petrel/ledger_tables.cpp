#include "tools/petrel/ledger_tables.hpp"

#include <array>
#include <cstring>

#include "protocol/fingerprint.hpp"

namespace petrel::tools {

std::uint32_t NameTable::intern(std::string_view text) {
    const auto found = index_.find(text);
    if (found != index_.end()) return found->second;
    constexpr std::size_t kNodeBytes = 100;  // A std::string, and its place in the index.
    const auto number = static_cast<std::uint32_t>(names_.size());
    if (number == kNone || !take(kNodeBytes + text.size())) return kNone;
    names_.emplace_back(text);
    index_.emplace(names_.back(), number);
    return number;
}

bool NameTable::take(std::size_t bytes) {
    if (bytes > bytes_left_) {
        ++refused_;
        return false;
    }
    bytes_left_ -= bytes;
    return true;
}

std::optional<FingerprintKey> FingerprintKey::make(std::string_view text, NameTable& names) {
    FingerprintKey key;
    const auto fp = Fingerprint::parse(text);
    if (fp && fp->is_uuid()) {
        std::memcpy(&key.high, fp->uuid().data(), 8);
        std::memcpy(&key.low, fp->uuid().data() + 8, 8);
        key.is_uuid = true;
    } else {
        const std::uint32_t name = names.intern(text);
        if (name == NameTable::kNone) return std::nullopt;
        key.high = name;
    }
    return key;
}

std::string FingerprintKey::to_string(const NameTable& names) const {
    if (!is_uuid) return names[static_cast<std::uint32_t>(high)];
    std::array<std::uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &high, 8);
    std::memcpy(bytes.data() + 8, &low, 8);
    return Fingerprint::from_uuid(bytes).to_string();
}

std::uint64_t FingerprintKey::hash() const noexcept {
    return mix_bits(high ^ mix_bits(low + (is_uuid ? 1 : 0)));
}

std::uint64_t mix_bits(std::uint64_t value) noexcept {
    value += 0x9e3779b97f4a7c15ULL;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

}  // namespace petrel::tools
