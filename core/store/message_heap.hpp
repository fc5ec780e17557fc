#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/store/log_piece.hpp"

namespace petrel {

// Messages of a store in memory, at rest: records of the log (log_piece.hpp) in chunks. They take
// half of what objects with strings do, and those, made for each packet that comes, go soon and
// lend their memory to the next. At most 2^32 chunks. Thread-compatible.
class MessageHeap {
public:
    struct Place {
        std::uint32_t chunk = 0;
        std::uint32_t offset = 0;
    };

    Place add(const MessageRow& row);
    // Its views hold until the next change.
    LogRecord at(Place place) const;
    void remove(Place place);

    std::size_t bytes() const { return live_bytes_; }  // Of records.
    // Of chunks: after compact() at most a quarter more, and a few chunks.
    std::size_t chunk_bytes() const { return chunk_bytes_; }

    // Empties chunks that are badly filled, until little is wasted: over time it moves at most four
    // bytes for each that was removed. `find(record)` says where the record's place is kept,
    // nullptr when it was removed.
    template <class Find>
    void compact(Find find) {
        for (std::size_t left = chunks_.size(); left > 0 && is_wasteful(); --left) {
            sweep_ = sweep_ + 1 < chunks_.size() ? sweep_ + 1 : 0;
            if (!is_sparse(sweep_)) continue;
            const Chunk sparse = release(sweep_);
            for (std::string_view rest = sparse.behind(0); !rest.empty();) {
                const std::string_view all = rest;
                Place* const place = find(take(rest));
                if (place != nullptr) *place = append(all.substr(0, all.size() - rest.size()));
            }
        }
    }

private:
    static constexpr std::size_t kChunkBytes = 64 * 1024;
    // A larger one has a chunk of its own, so that little is left over at the end of the others.
    static constexpr std::size_t kSharedMax = kChunkBytes / 8;
    static constexpr std::uint32_t kNone = 0xffff'ffff;

    struct Chunk {
        std::unique_ptr<char[]> bytes;
        std::size_t size = 0;
        std::size_t used = 0;
        std::size_t live = 0;  // Of `used`.
        std::string_view behind(std::size_t offset) const {
            return {bytes.get() + offset, used - offset};
        }
    };

    static LogRecord take(std::string_view& rest);
    Place append(std::string_view record);
    std::size_t start(std::size_t bytes);
    Chunk release(std::size_t chunk);
    bool is_wasteful() const {
        return chunk_bytes_ > live_bytes_ + live_bytes_ / 4 + 4 * kChunkBytes;
    }
    bool is_sparse(std::size_t chunk) const {
        const Chunk& each = chunks_[chunk];
        return each.bytes && chunk != open_ && each.live < each.size - each.size / 5;
    }

    std::vector<Chunk> chunks_;  // Without bytes: free.
    std::vector<std::uint32_t> free_;
    std::size_t open_ = kNone;  // The one that is being filled.
    std::size_t sweep_ = 0;     // Looked at last by compact().
    std::size_t live_bytes_ = 0;
    std::size_t chunk_bytes_ = 0;
    std::string scratch_;
};

}  // namespace petrel
