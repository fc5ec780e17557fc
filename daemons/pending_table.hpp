#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "daemons/slab.hpp"
#include "daemons/timer.hpp"
#include "protocol/packet.hpp"

namespace petrel {

// The messages that a QosSendDaemon keeps, in order of their adding. Beside recipient and text, one
// block of memory, a waiting message takes 48 bytes; what only matters once it was on the wire has
// a place of its own (Sent). The index of fingerprints, 5 bytes more, is made when somebody first
// looks for one, and dropped when the table is empty. Nothing else but find_due() looks at more
// than its message, and that at as many as may be due.
//
// A slot names a message until free(). kNoSlot is the end of the order, behind the last.
// Thread-compatible.
class PendingTable {
public:
    struct Sent {
        Position position = 0;  // 0: not in this stream.
        TimePoint last_sent_at{};
        unsigned attempts = 0;
        unsigned retries = 0;        // Plain: transmissions by the check clock.
        std::uint32_t session = 0;   // Of the last transmission.
        unsigned session_sends = 0;  // In that session: > 1 gives no round-trip sample.
        std::uint32_t taken_at = 0;
        bool is_in_flight = false;  // If that session is the current one.
    };

    // `now` is the table's middle of time: it reckons with two years before and after.
    explicit PendingTable(TimePoint now) : middle_(now) {}
    ~PendingTable();
    PendingTable(const PendingTable&) = delete;
    PendingTable& operator=(const PendingTable&) = delete;

    Slot add(Data&& message, TimePoint taken_at);
    void free(Slot slot);
    // Out of the order, the index and the expiries, to the end of `to`, where next() leads on; what
    // it is can still be asked.
    void detach(Slot slot, SlotList& to);

    // ---- order ----
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return order_.empty(); }
    Slot front() const noexcept { return order_.front; }
    Slot next(Slot slot) const { return entries_[slot].next; }
    Slot prev(Slot slot) const { return slot == kNoSlot ? order_.back : entries_[slot].prev; }

    // ---- a message ----
    // As it was added, with its position in `seq`: made in `scratch`, which needs nothing but to
    // have been default-made once; or, of one that is kept whole, that itself.
    Data& message(Slot slot, Data& scratch) const;
    Fingerprint fingerprint(Slot slot) const;
    std::size_t text_size(Slot slot) const;
    // nullptr before make_sent().
    const Sent* sent(Slot slot) const;
    Sent* sent(Slot slot);
    Sent& make_sent(Slot slot);
    // Rounded down, by less than kTakenRounding.
    static constexpr Duration kTakenRounding = std::chrono::nanoseconds{std::nano::den / 16};
    TimePoint taken_at(Slot slot) const;
    bool is_named(Slot slot, const Fingerprint& fp) const;
    // Any of them, if several have that name.
    Slot find(const Fingerprint& fp);

    // ---- expiry ----
    // TimePoint::max() is never.
    void set_expiry(Slot slot, TimePoint at);
    TimePoint expiry(Slot slot) const { return entries_[slot].expires_at; }
    bool has_expiries() const noexcept { return expiring_ > 0; }
    // None expires before; take_due() makes it exact.
    TimePoint no_expiry_before() const noexcept { return no_expiry_before_; }
    // take(Slot), of what expires at `now` or before, the earliest first: it must detach it.
    template <class Take>
    void take_due(TimePoint now, Take take) {
        if (no_expiry_before_ > now) return;
        for (const Slot slot : find_due(now)) take(slot);
    }

    bool is_consistent() const;

private:
    // Recipient and text of a message that has nothing else: the header, `to`, a foreign
    // fingerprint, the text.
    struct Block {
        std::uint32_t text_size;
        std::int16_t typeu;
        std::uint8_t to_size;
        std::uint8_t fp_size;  // 0: a UUID, in the entry.
    };
    struct Entry {
        // Of a foreign fingerprint: its hash.
        std::array<std::uint64_t, 2> fp;
        std::uintptr_t body;  // Block, or Data with kWhole.
        TimePoint expires_at;
        Slot prev, next;
        Slot chain;
        std::uint32_t more;  // kIsSent and a slot of sent_, or when it was taken.
    };
    static_assert(sizeof(Entry) == 48);

    static constexpr std::uintptr_t kWhole = 1;  // Both kinds of body are aligned to more.
    static constexpr std::uint32_t kIsSent = 0x8000'0000;

    static bool fits_block(const Data& message);
    static std::array<std::uint64_t, 2> fingerprint_words(const Fingerprint& fp);
    static std::uint64_t hash(const std::array<std::uint64_t, 2>& fp) noexcept;
    const Block* block(const Entry& entry) const;
    Data* whole(const Entry& entry) const;
    void add_to_index(Slot slot);
    void free_body(const Entry& entry);
    std::uint32_t ticks(TimePoint at) const noexcept;
    void clear_expiry(Slot slot);
    std::vector<Slot> find_due(TimePoint now);

    const TimePoint middle_;
    bool is_indexed_ = false;  // All of order_ are in by_fp_.
    Slab<Entry> entries_;
    Slab<Sent> sent_;
    SlotList order_;
    std::size_t size_ = 0;  // Of order_.
    SlotIndex by_fp_;
    std::vector<TimePoint> bounds_;  // For each chunk of entries_: none expires before.
    TimePoint no_expiry_before_ = TimePoint::max();
    std::size_t expiring_ = 0;
};

}  // namespace petrel
