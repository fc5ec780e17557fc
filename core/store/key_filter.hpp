#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace petrel {

// "Certainly not" or "maybe" about a 64-bit hash: a split block Bloom filter as Apache Parquet
// describes it (parquet-format, BloomFilter.md). One cache line a question; of hashes never added
// about 1 in 1000 is "maybe" when it holds keys_max. More than that only makes it say so more
// often. Thread-compatible.
class KeyFilter {
public:
    explicit KeyFilter(std::size_t keys_max)
        : blocks_(keys_max * kBitsPerKey / kBlockBits + 1, Block{}) {}

    void add(std::uint64_t hash) {
        Block& block = block_of(hash);
        for (std::size_t i = 0; i < block.size(); ++i) block[i] |= bit(hash, i);
        ++size_;
    }
    bool may_have(std::uint64_t hash) const {
        const Block& block = block_of(hash);
        for (std::size_t i = 0; i < block.size(); ++i) {
            if ((block[i] & bit(hash, i)) == 0) return false;
        }
        return true;
    }
    std::size_t size() const noexcept { return size_; }

private:
    static constexpr std::size_t kBitsPerKey = 17;
    static constexpr std::size_t kBlockBits = 256;
    using Block = std::array<std::uint32_t, 8>;

    // The upper half of the hash chooses the block, the lower one a bit in each of its words.
    static std::uint32_t bit(std::uint64_t hash, std::size_t word) {
        constexpr std::uint32_t kSalts[] = {0x47b6137bU, 0x44974d91U, 0x8824ad5bU, 0xa2b7289dU,
                                            0x705495c7U, 0x2df1424bU, 0x9efc4947U, 0x5c6bfb31U};
        return std::uint32_t{1} << ((static_cast<std::uint32_t>(hash) * kSalts[word]) >> 27);
    }
    std::size_t index_of(std::uint64_t hash) const {
        return static_cast<std::size_t>(((hash >> 32) * blocks_.size()) >> 32);
    }
    Block& block_of(std::uint64_t hash) { return blocks_[index_of(hash)]; }
    const Block& block_of(std::uint64_t hash) const { return blocks_[index_of(hash)]; }

    std::vector<Block> blocks_;
    std::size_t size_ = 0;
};

}  // namespace petrel
