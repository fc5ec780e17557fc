#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/client/engine.hpp"
#include "tools/petrel/ledger.hpp"

namespace petrel::tools {

// What the users and the gateway of a demo say they did: the ledger, and how far it all is.
// Thread-safe.
class DemoScore {
public:
    explicit DemoScore(std::uint64_t messages) : messages_(messages) {}

    struct Progress {
        std::uint64_t queued = 0;
        std::uint64_t settled = 0;    // Have an outcome.
        std::uint64_t delivered = 0;  // Were handed over, each counted once.
    };

    Ledger::Source open_source(const std::string& name);

    // ---- of the users, on any thread ----
    // Before the user is told to send it, in the order of sending.
    void on_queued(Ledger::Source source, const std::string& from, const std::string& device,
                   const Fingerprint& fp, const std::string& to, const std::string& text);
    void on_event(Ledger::Source source, const std::string& user, const std::string& device,
                  const Event& event);

    // ---- of the gateway: all that its lives have written. False with a sentence in `why`.
    bool read_trace(const std::string& path, std::string& why);

    Progress progress() const;
    // Waits for everything to be settled and delivered, or for wake(), or for so long.
    void wait_for(std::chrono::milliseconds patience);
    void wake();
    bool is_complete() const;
    // Of what is missing: a sentence for each of the first few messages.
    std::vector<std::string> missing(std::size_t sentences_max) const;

    Report report();

private:
    struct Message {
        std::string name;  // "alice to bob: message 7"
        bool is_settled = false;
        bool is_delivered = false;
        std::chrono::steady_clock::time_point queued_at;
    };

    bool is_complete_locked() const {
        return progress_.settled == messages_ && progress_.delivered == messages_;
    }
    void on_outcome(Ledger::Source source, const std::string& user, const OutcomeRecord& record);
    void on_message(Ledger::Source source, const std::string& user, const std::string& device,
                    const MessageEvent& message);

    const std::uint64_t messages_;
    mutable std::mutex mutex_;  // Guards everything below.
    std::condition_variable changed_;
    Ledger ledger_;
    std::unordered_map<Fingerprint, Message> open_;  // By fingerprint, all that were queued.
    Progress progress_;
    bool is_woken_ = false;
};

}  // namespace petrel::tools
