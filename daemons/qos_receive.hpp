#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "daemons/context.hpp"
#include "daemons/id_table.hpp"
#include "daemons/keyed_hash.hpp"
#include "daemons/timer.hpp"
#include "protocol/packet.hpp"

namespace petrel {

// Takes each message once and says when to ack: by position (petrel.v1, sections 4.1, 4.3, 4.4;
// constant memory), or by (sender, fingerprint) within a memory bounded in time and count (plain
// profiles). Serves both ends: on the gateway "handled" means accepted by the store.
//
// Positions:   h <= rx.  rx: highest taken in order.  h: highest durable or handled.
//     seq <= rx: duplicate, h is said again     prev <= rx < seq: taken     prev > rx: gap
//
// Thread-compatible.
class QosReceiveDaemon {
public:
    enum class Verdict : std::uint8_t {
        kTake,       // Hand it on; report on_handled later.
        kDuplicate,  // Drop; acked again if it had been handled.
        kGap,        // Drop; the gap was answered now or less than gap_interval ago.
    };

    struct Options {
        // Section 4.3: at most one ack a turn, at least one per 16 messages, half the window, or
        // 20 ms from the first unacked. The gateway uses delay 0: one ack a commit.
        std::size_t ack_every_max = 16;
        Duration ack_delay_max = std::chrono::milliseconds{20};
        Duration gap_interval = std::chrono::milliseconds{250};  // Section 4.4.
        // Plain profiles, section 3.
        Duration dedup_memory = std::chrono::minutes{10};  // 10 days at the most.
        Duration dedup_sweep = std::chrono::minutes{5};
        // The oldest handled one is forgotten first; only when there is none, the oldest.
        std::size_t dedup_entries_max = 100'000;
    };

    struct AckDue {
        Position h = 0;
        std::optional<Position> rx;  // With gap.
        bool gap = false;
    };

    class Listener {
    public:
        virtual void on_ack_due(const AckDue& ack) = 0;                               // Positions.
        virtual void on_ack_due(std::string_view sender, const Fingerprint& fp) = 0;  // Plain.

    protected:
        ~Listener() = default;
    };

    QosReceiveDaemon(DaemonContext& context, Listener& listener, Options options);

    // Login accepted, in any profile (nothing is acked before). rx becomes `resume`; so does h,
    // unless the app has only handled a lower position so far. The other side knows both: nothing
    // is due. `window` is what this side takes unacked.
    void on_online(Position resume, std::size_t window,
                   std::optional<Position> handled = std::nullopt);
    void on_offline();  // Nothing is due any more; plain memory stays.

    // ---- positions ----
    // While offline, and for seq 0: kDuplicate.
    Verdict on_data(Position seq, std::optional<Position> prev);
    // Everything up to `h` is durable/handled; counts up to rx. Lower than before, or while
    // offline: ignored.
    void on_handled(Position h);
    // The other side says it has sent up to `sent` (heartbeat): above rx it is a gap.
    void on_sent_mark(Position sent);
    // The gateway took positions that the store then refused: rx falls back (never below h).
    void rewind(Position rx);
    // The ack that rides in a type 2 now leaving, if one is due soon; it counts as sent.
    std::optional<Position> take_riding_ack();

    Position rx() const noexcept { return rx_; }
    Position h() const noexcept { return h_; }

    // ---- plain ----
    Verdict on_data(std::string_view sender, const Fingerprint& fp);
    void on_handled(std::string_view sender, const Fingerprint& fp);  // Acked at once, if online.
    // Taken, but not kept after all (the store refused it): the next copy is taken again.
    void forget(std::string_view sender, const Fingerprint& fp);
    std::size_t dedup_size() const noexcept { return plain_ ? plain_->seen.size() : 0; }

    // End of an event-loop turn: what is due leaves here.
    void flush();

    // Positions: whatever was taken is handled and said; one made anew would go on the same way.
    bool is_at_rest() const noexcept {
        return h_said_ == rx_ && !must_say_ && !gap_said_at_ && !plain_;
    }
    std::uint64_t duplicates() const noexcept { return duplicates_; }
    std::uint64_t gaps() const noexcept { return gaps_; }
    bool is_consistent() const;

private:
    // What has been taken of plain messages, if anything was. Sender and fingerprint are known by a
    // hash of 128 bits with a secret of this worker's own: nobody can choose fingerprints that
    // crowd one chain, and two different messages that share one, the second of which would be
    // taken for a duplicate, are not to be found but by chance: of a million remembered, one in
    // 10^32 messages.
    struct Plain {
        explicit Plain(DaemonContext& context);
        const KeyedHash::Key secret;
        IdTable seen;  // Marked: handled.
    };

    IdTable::Id id_of(std::string_view sender, const Fingerprint& fp) const;
    Slot find_seen(std::string_view sender, const Fingerprint& fp) const;
    std::size_t ack_threshold() const noexcept;
    void answer_gap();
    void say(bool with_gap);
    void forget_oldest();
    void sweep();

    DaemonContext& context_;
    Listener& listener_;
    Options options_;
    Timer ack_timer_;    // From the first unacked, positions only.
    Timer sweep_timer_;  // While plain_ is not empty.
    bool is_online_ = false;
    std::size_t window_ = 64;
    Position rx_ = 0;
    Position h_ = 0;
    Position h_said_ = 0;                   // In the last ack or riding ack.
    bool must_say_ = false;                 // A duplicate came: the current h at the next flush.
    std::optional<TimePoint> gap_said_at_;  // Since rx moved last.
    std::unique_ptr<Plain> plain_;
    std::uint64_t duplicates_ = 0;
    std::uint64_t gaps_ = 0;
};

}  // namespace petrel
