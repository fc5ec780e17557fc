#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tools/petrel/ledger_report.hpp"
#include "tools/petrel/ledger_tables.hpp"

namespace petrel::tools {

// What a message is known by everywhere.
struct MessageKey {
    std::string_view app = "default";
    std::string_view from;
    std::string_view fp;
};

struct DeviceKey {
    std::string_view app = "default";
    std::string_view user;
    std::string_view device;
};

// The fingerprint ledger: takes what senders, recipients and gateways say they did and judges
// every message by DESIGN section 1. Fed by calls (petrel demo) or by lines (LedgerReader).
//
//   Ledger ledger;
//   const auto alice = ledger.open_source("alice");     // one for each client or gateway
//   ledger.queued(alice, {"default", "alice", fp}, "bob", "phone");
//   ledger.accepted(alice, {"default", "alice", fp}, {...});
//   ledger.handed_up(bob, {"default", "bob", "phone"}, {...});
//   const Report report = ledger.report();              // as often as one likes
//
// Within one source events are given in the order they happened; among sources any order will do.
// About 100 bytes a message. Thread-compatible; strings are copied.
class Ledger {
public:
    struct Options {
        // About 100 bytes each: 2 GB. Events of later ones are counted (overflow), not judged.
        std::size_t messages_max = 20'000'000;
        // Users, devices, conversations, fingerprints that are no UUIDs: what a log may call as it
        // likes. 1 GiB is some 10 million of them. Counted and not judged beyond, as messages are.
        std::size_t names_bytes_max = std::size_t{1} << 30;
        std::size_t devices_per_message_max = 64;  // A user has 16 (DESIGN section 5).
        std::size_t problems_max = 20;             // Examples that a report carries.
        bool is_order_judged = true;               // Plain profiles promise none under faults.
    };
    using Source = std::uint32_t;

    Ledger() : Ledger(Options{}) {}
    explicit Ledger(Options options);

    // A log, a client or a gateway. Opened even when it stays silent.
    Source open_source(std::string_view name);

    // --- What a sender says. `device` may be "" when it is not known.
    // Queueing the same fingerprint again (an outbox file that was reopened) is the same message.
    // Without QoS nothing is promised, so nothing is judged.
    void queued(Source source, const MessageKey& key, std::string_view to, std::string_view device,
                bool has_qos = true);
    struct Accepted {
        std::string_view to;  // "" when not known.
        std::optional<std::uint64_t> cseq;
        std::uint32_t attempts = 1;
        std::optional<double> ms;  // From queueing to the ack.
    };
    void accepted(Source source, const MessageKey& key, const Accepted& accepted);
    // Any other outcome; `code` is that of kRejected.
    void settled(Source source, const MessageKey& key, Outcome outcome, int code = 0,
                 std::uint32_t attempts = 0);

    // --- What a recipient says.
    struct HandedUp {
        std::string_view app = "default";
        std::string_view from;
        std::string_view to;
        std::string_view fp;
        std::string_view conv;
        std::optional<std::uint64_t> cseq;
        bool is_redelivered = false;
        bool has_qos = true;  // Without it nothing is judged, and `fp` may be "".
    };
    void handed_up(Source source, const DeviceKey& device, const HandedUp& message);

    // --- What any client says. `device.user` may be "": the one this source spoke of before.
    void online(Source source, const DeviceKey& device);
    // That this device takes messages, even if none comes: without a message lost on its way there
    // could not be told from one for a user whose log is not given. A source that is online and
    // queues nothing itself is taken for one that listens.
    void listening(Source source, const DeviceKey& device);
    void offline(Source source, const DeviceKey& device = {});
    void broke(Source source, const DeviceKey& device = {});  // recovered=false

    // --- What a gateway says.
    void committed(Source source, const MessageKey& key, std::string_view to,
                   std::optional<std::uint64_t> cseq);
    void duplicate(Source source, const MessageKey& key);  // Suppressed by the gateway.
    void pushed(Source source, const MessageKey& key);     // From an inbox, so it was committed.
    void refused(Source source, const MessageKey& key, int code);

    // Judges all that is known by now.
    Report report();
    // Every message in the order first seen, judged by the last report().
    void for_each(const std::function<void(const JudgedMessage&)>& visit) const;

    std::size_t size() const noexcept { return messages_.size(); }

private:
    static constexpr std::uint32_t kNone = NameTable::kNone;
    // Of memory, for an entry and its place in an index.
    static constexpr std::size_t kEntryBytes = 80;
    static constexpr std::size_t kStreamBytes = 160;
    enum Flag : std::uint16_t {
        kQueued = 1 << 0,     // By the sender's own log.
        kOpen = 1 << 1,       // Queued, and no outcome since.
        kAccepted = 1 << 2,   // By the sender's own log.
        kCommitted = 1 << 3,  // By a trace: written, pushed, or found as a duplicate.
        kHasCseq = 1 << 4,    // `cseq` is set, by a commit.
        kDelivered = 1 << 5,
        kDoubled = 1 << 6,
        kRedelivered = 1 << 7,
        kAfterBreak = 1 << 8,
        kCseqFell = 1 << 9,  // A device got it after a later one of its conversation.
        kLate = 1 << 10,     // A device got it after one that was queued later; by report().
        kContradicted = 1 << 11,
        kNoQos = 1 << 12,
        kAckHadCseq = 1 << 13,
    };
    struct Message {
        FingerprintKey fp;
        std::uint64_t cseq = 0;
        std::uint32_t sender = kNone;      // A party.
        std::uint32_t recipient = kNone;   // A party; kNone: nobody said.
        std::uint32_t deliveries = kNone;  // The newest one.
        std::uint32_t attempts = 0;
        std::uint32_t stream = kNone;  // The newest that has it.
        std::uint32_t outcome_source = kNone;
        float ms = -1;
        std::uint16_t flags = 0;
        std::uint16_t code = 0;
        Outcome outcome = Outcome::kNone;
    };
    struct Delivery {
        std::uint32_t device;
        std::uint32_t position;  // Among the first deliveries of the device, from 1.
        std::uint32_t next;      // An older one of the same message.
        std::uint32_t breaks;    // Of the device when it last got the message.
    };
    struct Device {
        std::uint32_t party;
        std::uint32_t name;
        std::uint32_t deliveries = 0;
        std::uint32_t breaks = 0;
    };
    struct Party {
        std::uint32_t app;
        std::uint32_t user;
        bool has_listened = false;
    };
    struct SourceState {
        std::uint32_t name;
        std::uint32_t device = kNone;  // The last one it spoke of.
        std::uint64_t onlines = 0;
        bool has_queued = false;
    };
    struct Height {
        std::uint64_t cseq;
        std::uint32_t breaks;
    };

    std::uint32_t party(std::string_view app, std::string_view user);
    std::uint32_t device(const DeviceKey& key);
    std::uint32_t speaking_device(Source source, const DeviceKey& key);
    std::uint32_t find_or_add(const MessageKey& key);
    std::uint32_t find_or_add(std::uint32_t sender, std::string_view fp);
    void set_recipient(Message& message, std::string_view app, std::string_view to);
    void append_to_stream(Source source, std::uint32_t index, std::string_view device_name);
    static void note_outcome(Source source, Message& message, Outcome outcome, int code);
    void note_first(Message& message, std::uint32_t device_number, const HandedUp& event);
    void note_again(Message& message, Delivery& delivery, bool is_marked);
    bool is_heard_of(const Message& message) const;
    bool is_uncommitted(const Message& message) const;
    void mark_listeners();
    void mark_late();
    Verdict judge(const Message& message) const;
    JudgedMessage describe(const Message& message) const;
    void count(const Message& message, Report& report) const;

    Options options_;
    NameTable names_;
    std::vector<SourceState> sources_;
    std::vector<Party> parties_;
    std::vector<Device> devices_;
    std::vector<Message> messages_;
    std::vector<Delivery> deliveries_;
    std::vector<std::vector<std::uint32_t>> streams_;  // Messages in the order of their queueing.
    std::unordered_map<std::uint64_t, std::uint32_t> party_index_;   // By app and user.
    std::unordered_map<std::uint64_t, std::uint32_t> device_index_;  // By party and name.
    TripleIndex stream_index_;                           // By source, sending device, recipient.
    std::unordered_map<std::uint64_t, Height> heights_;  // By device and conversation.
    // Source and party, each once. The party listens, unless the source sends.
    std::unordered_set<std::uint64_t> onlines_;
    SlotIndex message_index_;

    bool has_trace_ = false;
    std::uint64_t duplicates_suppressed_ = 0;
    std::uint64_t refused_ = 0;
    std::uint64_t breaks_ = 0;
    std::uint64_t again_marked_ = 0;
    std::uint64_t again_unmarked_ = 0;
    std::uint64_t overflow_ = 0;
};

}  // namespace petrel::tools
