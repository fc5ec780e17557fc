#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/client/engine.hpp"
#include "core/store/inbox.hpp"
#include "core/store/message_store.hpp"
#include "tests/simulation/options.hpp"
#include "tests/simulation/schedule.hpp"

namespace petrel::sim {

// DESIGN.md section 1 as code: sees every send, commit, outcome and message handed up, and speaks
// up at the first one that breaks a guarantee.
class Checker {
public:
    // `is_lossless`: no packet is lost, and no connection.
    Checker(Schedule& schedule, bool is_lossless)
        : schedule_(schedule), is_lossless_(is_lossless) {}

    struct Device {
        std::string user;
        std::string device;
        bool is_plain = false;
        friend bool operator<(const Device& a, const Device& b) {
            return a.user != b.user ? a.user < b.user : a.device < b.device;
        }
    };

    void on_device(const Device& device);  // It will want all of its user's messages.
    // send() returned the fingerprint: from now on the message must have one outcome.
    void on_taken(const Device& sender, const std::string& to, std::size_t size,
                  const Fingerprint& fp);
    void on_committed(const AppendRequest& request, const AppendResult& result,
                      const std::vector<Delivery>& deliveries);
    void on_outcome(const Device& sender, const OutcomeEvent& event);
    void on_outcome_done(const Device& sender, const Fingerprint& fp);
    void on_message(const Device& receiver, const MessageEvent& event);
    void on_recorded(const Device& receiver, const InboxMessage& message);  // As handled.
    void on_cursor(const CursorUpdate& update);  // Of a device, in the gateway's store.
    void on_receipt(const DeliveredEvent& event);
    void on_crash(const Device& device, bool has_cursor);  // Of the client's process.
    // The gateway's store came back empty: what it had accepted may be lost, or come again; every
    // device that had been online before must be told by a break.
    void on_store_lost();
    void on_break(const Device& device, bool is_inbox);
    void on_online(const Device& device);
    void on_intruder(const Device& device);  // Another process takes its place.
    bool had_intruder(const Device& device) const { return intruded_.count(device) != 0; }
    void fail(const std::string& what);

    // All taken have an outcome, all committed arrived, and the gateway knows that they did.
    bool is_settled() const;
    std::string missing() const;  // What is_settled() waits for.
    const std::optional<std::string>& violation() const { return violation_; }
    void summarize(Report& report) const;
    // Had nothing gone wrong: each message up, and down to each of the recipient's devices.
    std::uint64_t bytes_needed() const;

private:
    struct Message {
        Device sender;
        std::string to;
        std::size_t size = 0;
        std::uint64_t order = 0;  // Of the send calls of that device.
        std::optional<Outcome> outcome;
        unsigned attempts = 0;  // As told with the outcome.
        bool is_outcome_done = false;
        bool is_corrected = false;
        bool is_committed = false;
        std::uint64_t cseq = 0;
        WallMillis send_ts = 0;
        bool was_taken = false;
        bool was_lost = false;       // With a store that had accepted it; until accepted anew.
        bool was_ever_lost = false;  // A copy of that store's may still be under way.
    };
    struct Arrivals {
        std::map<std::string, unsigned> times;            // By key of the message.
        std::map<std::string, std::uint64_t> last_order;  // By sender device.
        std::map<std::string, std::uint64_t> last_cseq;   // By conversation.
        std::set<std::string> recorded;  // Keys: the inbox file says that they were handled.
        Position cursor = 0;             // v1: verified up to here.
        bool was_online = false;
        bool is_break_due = false;  // The store it had logged in to is lost.
    };
    static std::string key_of(const std::string& sender, const Fingerprint& fp);

    Schedule& schedule_;
    const bool is_lossless_;
    std::map<std::string, Message> messages_;
    std::map<Device, Arrivals> devices_;
    // Keys, by recipient; position n of the inbox at n - 1.
    std::map<std::string, std::vector<std::string>> committed_to_;
    // By conversation: what it holds, by cseq.
    std::map<std::string, std::map<std::uint64_t, std::string>> cseqs_;
    std::map<Device, std::uint64_t> next_order_;
    std::set<Device> crashed_;                                               // At least once.
    std::set<Device> intruded_;                                              // At least once.
    std::map<std::pair<std::string, std::string>, std::uint64_t> receipts_;  // By conv and user.
    std::uint64_t handed_up_ = 0;
    std::uint64_t redelivered_ = 0;
    bool was_store_lost_ = false;
    std::optional<std::string> violation_;
};

}  // namespace petrel::sim
