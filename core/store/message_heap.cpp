#include "core/store/message_heap.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace petrel {

MessageHeap::Place MessageHeap::add(const MessageRow& row) {
    scratch_.clear();
    append_log_message(row, scratch_);
    return append(scratch_);
}

LogRecord MessageHeap::at(Place place) const {
    std::string_view rest = chunks_[place.chunk].behind(place.offset);
    return take(rest);
}

LogRecord MessageHeap::take(std::string_view& rest) {
    LogRecord record;
    [[maybe_unused]] const bool is_whole = take_log_record(rest, record);
    assert(is_whole);
    return record;
}

void MessageHeap::remove(Place place) {
    Chunk& chunk = chunks_[place.chunk];
    std::string_view rest = chunk.behind(place.offset);
    take(rest);
    const std::size_t bytes = chunk.used - rest.size() - place.offset;
    live_bytes_ -= bytes;
    chunk.live -= bytes;
    if (chunk.live > 0) return;
    if (place.chunk == open_) {
        chunk.used = 0;
    } else {
        release(place.chunk);
    }
}

MessageHeap::Place MessageHeap::append(std::string_view record) {
    std::size_t into = open_;
    if (record.size() > kSharedMax) {
        into = start(record.size());
    } else if (open_ == kNone || chunks_[open_].size - chunks_[open_].used < record.size()) {
        into = open_ = start(kChunkBytes);
    }
    Chunk& chunk = chunks_[into];
    const Place place{static_cast<std::uint32_t>(into), static_cast<std::uint32_t>(chunk.used)};
    std::memcpy(chunk.bytes.get() + chunk.used, record.data(), record.size());
    chunk.used += record.size();
    chunk.live += record.size();
    live_bytes_ += record.size();
    return place;
}

// A new chunk.
std::size_t MessageHeap::start(std::size_t bytes) {
    if (free_.empty()) {
        free_.push_back(static_cast<std::uint32_t>(chunks_.size()));
        chunks_.emplace_back();
    }
    const std::uint32_t chunk = free_.back();
    free_.pop_back();
    chunks_[chunk].size = bytes;
    chunks_[chunk].bytes.reset(new char[bytes]);
    chunk_bytes_ += bytes;
    return chunk;
}

// Takes it out, with what it holds.
MessageHeap::Chunk MessageHeap::release(std::size_t chunk) {
    Chunk released = std::exchange(chunks_[chunk], {});
    live_bytes_ -= released.live;
    chunk_bytes_ -= released.size;
    free_.push_back(static_cast<std::uint32_t>(chunk));
    return released;
}

}  // namespace petrel
