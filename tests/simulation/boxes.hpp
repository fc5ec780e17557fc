#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "core/store/inbox.hpp"
#include "core/store/outbox.hpp"
#include "tests/simulation/schedule.hpp"

namespace petrel::sim {

// Asked at each step of a process, by name ("told append"); true: the process crashes right there.
// Before an effect the name begins with "write", "send", "take", "tell"; behind it with "told",
// "sent", "took".
using Probe = std::function<bool(const std::string& step)>;

// A disk with a delay: what was asked for takes effect, in order, some time later, and only then is
// reported. A crash loses what has not taken effect. Between the two it may strike too.
class Disk {
public:
    static constexpr Duration kSlowestWrite = std::chrono::milliseconds{4};

    // `on_step` is asked before an operation takes effect and before it is reported; true: the
    // process crashes there.
    Disk(Schedule& schedule, Probe on_step) : schedule_(schedule), on_step_(std::move(on_step)) {}

    // Waits while the disk is full.
    void write(std::string what, std::function<void()> effect, std::function<void()> report);
    // Fails while the disk is full, and when `effect` does: then `report` hears of it.
    void try_write(std::string what, std::function<bool()> effect,
                   std::function<void(std::error_code)> report);
    void crash();  // Forgets what is under way.
    void fill(Duration duration) { full_until_ = schedule_.now() + duration; }
    TimePoint full_until() const { return full_until_; }
    void set_slowest(Duration write) { slowest_ = write; }

private:
    Schedule& schedule_;
    Probe on_step_;
    bool is_full() const { return schedule_.now() < full_until_; }
    void run(TimePoint when, std::string what, std::function<void()> effect,
             std::function<void()> report);
    TimePoint next_time();

    std::uint64_t life_ = 0;
    Duration slowest_ = kSlowestWrite;
    TimePoint last_{};
    TimePoint full_until_{};
};

// What a file would hold; outlives the process.
struct OutboxFile {
    std::list<OutboxRecord> messages;
    std::list<OutcomeRecord> outcomes;
};
struct InboxFile {
    std::optional<InboxCursor> cursor;
    std::list<InboxMessage> unhandled;
};

std::unique_ptr<Outbox> make_sim_outbox(OutboxFile& file, Disk& disk);
// `on_recorded` hears of every message that the file now knows as handled.
std::unique_ptr<Inbox> make_sim_inbox(InboxFile& file, Disk& disk,
                                      std::function<void(const InboxMessage&)> on_recorded);

}  // namespace petrel::sim
