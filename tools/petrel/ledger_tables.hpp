#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

// The tables that keep the ledger small: numbers instead of strings.

namespace petrel::tools {

// Strings by number, each kept once. Numbers count from 0 in the order of first use. Together with
// what else its owner keeps for each they take so many bytes at most.
class NameTable {
public:
    static constexpr std::uint32_t kNone = UINT32_MAX;

    explicit NameTable(std::size_t bytes_max = SIZE_MAX) : bytes_left_(bytes_max) {}
    // kNone: it is new, and there is no room.
    std::uint32_t intern(std::string_view text);
    const std::string& operator[](std::uint32_t number) const { return names_[number]; }
    // Room for something else; counted as refused if there is none.
    bool take(std::size_t bytes);
    std::uint64_t refused() const noexcept { return refused_; }

private:
    std::deque<std::string> names_;  // Never moves what the index points to.
    std::unordered_map<std::string_view, std::uint32_t> index_;
    std::size_t bytes_left_;
    std::uint64_t refused_ = 0;
};

// A fingerprint in 16 bytes: a lower-case UUID itself, anything else by its number among the names.
struct FingerprintKey {
    std::uint64_t high = 0;
    std::uint64_t low = 0;
    bool is_uuid = false;

    // nullopt: no room for its name.
    static std::optional<FingerprintKey> make(std::string_view text, NameTable& names);
    std::string to_string(const NameTable& names) const;
    friend bool operator==(const FingerprintKey& a, const FingerprintKey& b) noexcept {
        return a.high == b.high && a.low == b.low && a.is_uuid == b.is_uuid;
    }
    std::uint64_t hash() const noexcept;
};

// An open hash table of 32-bit slots; the entries live in the owner's vector.
class SlotIndex {
public:
    static constexpr std::uint32_t kEmpty = UINT32_MAX;

    // The entry for which is_same(slot) holds, or kEmpty.
    template <class IsSame>
    std::uint32_t find(std::uint64_t hash, IsSame is_same) const {
        if (slots_.empty()) return kEmpty;
        for (std::size_t i = hash & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
            if (slots_[i] == kEmpty || is_same(slots_[i])) return slots_[i];
        }
    }
    // `slot` must not be there yet; hash_of(slot) gives the hash of any entry.
    template <class HashOf>
    void insert(std::uint32_t slot, HashOf hash_of) {
        if ((size_ + 1) * 10 > slots_.size() * 7) grow(hash_of);
        place(slot, hash_of(slot));
        ++size_;
    }

private:
    template <class HashOf>
    void grow(HashOf hash_of) {
        const std::vector<std::uint32_t> old = std::move(slots_);
        slots_.assign(old.empty() ? 64 : old.size() * 2, kEmpty);
        for (const std::uint32_t slot : old) {
            if (slot != kEmpty) place(slot, hash_of(slot));
        }
    }
    void place(std::uint32_t slot, std::uint64_t hash) {
        std::size_t i = hash & (slots_.size() - 1);
        while (slots_[i] != kEmpty) i = (i + 1) & (slots_.size() - 1);
        slots_[i] = slot;
    }

    std::vector<std::uint32_t> slots_;
    std::size_t size_ = 0;
};

using TripleIndex =
    std::map<std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>, std::uint32_t>;

// A good spread of 64 bits (the finalizer of splitmix64).
std::uint64_t mix_bits(std::uint64_t value) noexcept;

}  // namespace petrel::tools
