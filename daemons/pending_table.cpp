#include "daemons/pending_table.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <new>
#include <utility>

namespace petrel {

namespace {

// Times of taking only serve a limit of hours (limit_age): 31 bits of these are four years.
using Tick = std::chrono::duration<std::int64_t, std::ratio<1, 16>>;
constexpr std::int64_t kTicksMax = 0x7fff'ffff;
constexpr std::int64_t kMiddleTick = std::int64_t{1} << 30;

// UUIDs are random already; foreign fingerprints come hashed.
std::uint64_t mix(std::uint64_t x) noexcept {  // The finaliser of MurmurHash3.
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    return x;
}

}  // namespace

PendingTable::~PendingTable() {
    for (std::uint32_t i = 0; i < entries_.chunks(); ++i) {
        entries_.visit_chunk(i, [this](Slot slot) { free_body(entries_[slot]); });
    }
}

// ---- bodies ----

bool PendingTable::fits_block(const Data& message) {
    return message.from.empty() && message.to.size() <= UINT8_MAX && !message.fp.empty() &&
           message.qos && message.typeu >= INT16_MIN && message.typeu <= INT16_MAX &&
           !message.bridge && message.retry_count == 0 && !message.send_ts &&
           message.text.size() <= UINT32_MAX && message.seq == 0 && !message.prev &&
           message.conv.empty() && message.cseq == 0 && !message.h && message.acc.empty();
}

// A body is a pointer with a mark in its low bit. NOLINTBEGIN(performance-no-int-to-ptr)
const PendingTable::Block* PendingTable::block(const Entry& entry) const {
    assert((entry.body & kWhole) == 0);
    return reinterpret_cast<const Block*>(entry.body);
}

Data* PendingTable::whole(const Entry& entry) const {
    return (entry.body & kWhole) == 0 ? nullptr : reinterpret_cast<Data*>(entry.body - kWhole);
}

void PendingTable::free_body(const Entry& entry) {
    if (whole(entry) != nullptr) {
        delete whole(entry);
    } else {
        ::operator delete(reinterpret_cast<void*>(entry.body));
    }
}
// NOLINTEND(performance-no-int-to-ptr)

Slot PendingTable::add(Data&& message, TimePoint taken_at) {
    Entry entry;
    entry.fp = fingerprint_words(message.fp);
    entry.expires_at = TimePoint::max();
    entry.more = ticks(taken_at);
    if (fits_block(message)) {
        const std::string_view fp = message.fp.text();
        const std::size_t size =
            sizeof(Block) + message.to.size() + fp.size() + message.text.size();
        void* const memory = ::operator new(size);
        auto* const head = new (memory) Block;
        head->text_size = static_cast<std::uint32_t>(message.text.size());
        head->typeu = static_cast<std::int16_t>(message.typeu);
        head->to_size = static_cast<std::uint8_t>(message.to.size());
        head->fp_size = static_cast<std::uint8_t>(fp.size());
        char* at = reinterpret_cast<char*>(head + 1);
        for (const std::string_view part :
             {std::string_view(message.to), fp, std::string_view(message.text)}) {
            at = std::copy(part.begin(), part.end(), at);  // memcpy() takes no null, even for none.
        }
        entry.body = reinterpret_cast<std::uintptr_t>(memory);
    } else {
        entry.body = reinterpret_cast<std::uintptr_t>(new Data(std::move(message))) | kWhole;
    }
    const Slot slot = entries_.add(entry);
    while (bounds_.size() < entries_.chunks()) bounds_.push_back(TimePoint::max());
    order_.push_back(entries_, slot);
    ++size_;
    if (is_indexed_) add_to_index(slot);
    return slot;
}

Data& PendingTable::message(Slot slot, Data& scratch) const {
    const Entry& entry = entries_[slot];
    if (Data* const data = whole(entry)) return *data;
    const Block* const head = block(entry);
    const char* at = reinterpret_cast<const char*>(head + 1);
    const auto part = [&at](std::size_t size) {
        const char* const begin = at;
        at += size;
        return std::string_view(begin, size);
    };
    scratch.to = part(head->to_size);
    part(head->fp_size);
    scratch.fp = fingerprint(slot);
    scratch.qos = true;
    scratch.typeu = head->typeu;
    scratch.retry_count = 0;
    scratch.seq = sent(slot) != nullptr ? sent(slot)->position : 0;
    scratch.prev.reset();
    scratch.text = part(head->text_size);
    return scratch;
}

Fingerprint PendingTable::fingerprint(Slot slot) const {
    const Entry& entry = entries_[slot];
    if (const Data* const data = whole(entry)) return data->fp;
    const Block* const head = block(entry);
    if (head->fp_size > 0) {
        const char* const text = reinterpret_cast<const char*>(head + 1) + head->to_size;
        return Fingerprint::parse({text, head->fp_size}).value_or(Fingerprint());
    }
    std::array<std::uint8_t, 16> uuid;
    std::memcpy(uuid.data(), entry.fp.data(), uuid.size());
    return Fingerprint::from_uuid(uuid);
}

std::size_t PendingTable::text_size(Slot slot) const {
    const Entry& entry = entries_[slot];
    const Data* const data = whole(entry);
    return data != nullptr ? data->text.size() : block(entry)->text_size;
}

void PendingTable::detach(Slot slot, SlotList& to) {
    clear_expiry(slot);
    if (is_indexed_) by_fp_.remove(entries_, slot, hash(entries_[slot].fp));
    order_.remove(entries_, slot);
    if (--size_ == 0) is_indexed_ = false;
    to.push_back(entries_, slot);
}

void PendingTable::free(Slot slot) {
    const Entry& entry = entries_[slot];
    if ((entry.more & kIsSent) != 0) sent_.remove(entry.more & ~kIsSent);
    free_body(entry);
    entries_.remove(slot);
    const std::uint32_t chunk = entries_.chunk_of(slot);
    if (entries_.size() == 0) {
        bounds_.clear();
        if (bounds_.capacity() > entries_.kPerChunk) std::vector<TimePoint>().swap(bounds_);
    } else if (entries_.is_chunk_empty(chunk)) {
        bounds_[chunk] = TimePoint::max();
    }
}

// ---- on the wire ----

const PendingTable::Sent* PendingTable::sent(Slot slot) const {
    const std::uint32_t more = entries_[slot].more;
    return (more & kIsSent) == 0 ? nullptr : &sent_[more & ~kIsSent];
}

PendingTable::Sent* PendingTable::sent(Slot slot) {
    return const_cast<Sent*>(std::as_const(*this).sent(slot));
}

PendingTable::Sent& PendingTable::make_sent(Slot slot) {
    if (Sent* const sent = this->sent(slot)) return *sent;
    Sent sent;
    sent.taken_at = entries_[slot].more;
    const Slot added = sent_.add(sent);
    entries_[slot].more = added | kIsSent;
    return sent_[added];
}

std::uint32_t PendingTable::ticks(TimePoint at) const noexcept {
    // Rounded first: the difference of any two times fits then.
    const auto ticks = std::chrono::floor<Tick>(at.time_since_epoch()) -
                       std::chrono::floor<Tick>(middle_.time_since_epoch());
    return static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(ticks.count() + kMiddleTick, 0, kTicksMax));
}

TimePoint PendingTable::taken_at(Slot slot) const {
    const Sent* const sent = this->sent(slot);
    const std::uint32_t ticks = sent != nullptr ? sent->taken_at : entries_[slot].more;
    return TimePoint(std::chrono::floor<Tick>(middle_.time_since_epoch()) +
                     Tick(std::int64_t{ticks} - kMiddleTick));
}

// ---- fingerprints ----

std::array<std::uint64_t, 2> PendingTable::fingerprint_words(const Fingerprint& fp) {
    std::array<std::uint64_t, 2> words{fp.hash(), 0};
    if (fp.is_uuid()) std::memcpy(words.data(), fp.uuid().data(), sizeof words);
    return words;
}

std::uint64_t PendingTable::hash(const std::array<std::uint64_t, 2>& fp) noexcept {
    return mix(fp[0] ^ mix(fp[1]));
}

bool PendingTable::is_named(Slot slot, const Fingerprint& fp) const {
    const Entry& entry = entries_[slot];
    if (const Data* const data = whole(entry)) return data->fp == fp;
    const Block* const head = block(entry);
    if (fp.is_uuid() != (head->fp_size == 0)) return false;
    if (fp.is_uuid()) return entry.fp == fingerprint_words(fp);
    const char* const text = reinterpret_cast<const char*>(head + 1) + head->to_size;
    return fp.text() == std::string_view(text, head->fp_size);
}

void PendingTable::add_to_index(Slot slot) {
    by_fp_.add(entries_, slot, [this](Slot other) { return hash(entries_[other].fp); });
}

Slot PendingTable::find(const Fingerprint& fp) {
    if (!is_indexed_) {
        for (Slot slot = front(); slot != kNoSlot; slot = next(slot)) add_to_index(slot);
        is_indexed_ = size_ > 0;
    }
    return by_fp_.find(entries_, hash(fingerprint_words(fp)),
                       [&](Slot slot) { return is_named(slot, fp); });
}

// ---- expiry ----

void PendingTable::clear_expiry(Slot slot) {
    TimePoint& at = entries_[slot].expires_at;
    if (at == TimePoint::max()) return;
    at = TimePoint::max();
    if (--expiring_ == 0) no_expiry_before_ = TimePoint::max();
}

void PendingTable::set_expiry(Slot slot, TimePoint at) {
    clear_expiry(slot);
    if (at == TimePoint::max()) return;
    entries_[slot].expires_at = at;
    ++expiring_;
    TimePoint& bound = bounds_[entries_.chunk_of(slot)];
    bound = std::min(bound, at);
    no_expiry_before_ = std::min(no_expiry_before_, at);
}

std::vector<Slot> PendingTable::find_due(TimePoint now) {
    std::vector<Slot> due;
    no_expiry_before_ = TimePoint::max();
    for (std::uint32_t i = 0; i < bounds_.size(); ++i) {
        if (bounds_[i] <= now) {
            bounds_[i] = TimePoint::max();
            entries_.visit_chunk(i, [&](Slot slot) {
                const TimePoint at = entries_[slot].expires_at;
                if (at <= now) {
                    due.push_back(slot);
                } else {
                    bounds_[i] = std::min(bounds_[i], at);
                }
            });
        }
        no_expiry_before_ = std::min(no_expiry_before_, bounds_[i]);
    }
    const auto is_earlier = [this](Slot a, Slot b) { return expiry(a) < expiry(b); };
    const auto is_same = [this](Slot a, Slot b) { return expiry(a) == expiry(b); };
    std::stable_sort(due.begin(), due.end(), is_earlier);
    if (std::adjacent_find(due.begin(), due.end(), is_same) == due.end()) return due;
    // Those of one deadline come in the order of the others; they are mostly in front.
    const std::size_t count = due.size();
    due.clear();
    for (Slot slot = front(); due.size() < count; slot = next(slot)) {
        if (expiry(slot) <= now) due.push_back(slot);
    }
    std::stable_sort(due.begin(), due.end(), is_earlier);
    return due;
}

bool PendingTable::is_consistent() const {
    std::size_t size = 0;
    std::size_t expiring = 0;
    Slot last = kNoSlot;
    for (Slot slot = order_.front; slot != kNoSlot; last = slot, slot = next(slot)) {
        const Entry& entry = entries_[slot];
        ++size;
        if (entry.prev != last) return false;
        if (is_indexed_ && by_fp_.find(entries_, hash(entry.fp),
                                       [slot](Slot other) { return other == slot; }) != slot) {
            return false;
        }
        if (entry.expires_at == TimePoint::max()) continue;
        ++expiring;
        if (entry.expires_at < bounds_[entries_.chunk_of(slot)]) return false;
        if (entry.expires_at < no_expiry_before_) return false;
    }
    return last == order_.back && size == size_ && expiring == expiring_ &&
           size <= entries_.size() && by_fp_.size() == (is_indexed_ ? size : 0);
}

}  // namespace petrel
