#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/client/engine.hpp"
#include "tests/simulation/boxes.hpp"
#include "tests/simulation/checker.hpp"
#include "tests/simulation/network.hpp"
#include "tests/simulation/schedule.hpp"
#include "tests/simulation/sim_gateway.hpp"

namespace petrel::sim {

// A device: a real Engine in a process that may crash or sleep, and the files that survive it.
class SimClient final : private EngineHost {
public:
    // Opens a connection to the gateway; nullptr when it is down.
    using Dial = std::function<std::shared_ptr<Connection>(std::string_view subprotocol)>;

    SimClient(Schedule& schedule, const Faults& faults, Checker& checker, Checker::Device device,
              ProfileId profile, Dial dial, std::function<void(const std::string&)> chart);
    ~SimClient();

    // Crashes where the probe says so; for tests of one such point. The observer sees what the app
    // sees.
    void set_probe(Probe probe) { probe_ = std::move(probe); }
    void set_observer(std::function<void(const Event&)> observer) {
        observer_ = std::move(observer);
    }
    void start();
    void send(const std::string& to, int typeu, std::size_t size,
              std::optional<Duration> expires_after);
    void cancel_something();
    void crash();
    void suspend(Duration duration);
    void log_out(Duration duration);
    void lose_network(Duration duration);  // As the system tells the app; packets go on.
    void fill_disk(Duration duration);
    void expect_kick();  // Somebody else logs in with this account and device.
    std::string login_of_another_process();
    std::string_view subprotocol() const;
    bool is_asleep() const { return schedule_.now() < asleep_until_; }
    bool is_idle() const;
    // When all is over: without losses nothing was sent twice.
    void check_end(bool is_lossless);
    const Checker::Device& device() const { return device_; }
    bool is_online() const;
    void become_calm();  // No more crashes at disk steps, no more sleep.
    const std::string& token() const { return token_; }
    bool is_renewing() const { return renewals_ > 0; }  // The token was not given yet.
    std::uint64_t packets_out() const { return packets_out_; }

private:
    // EngineHost
    void connect(std::uint64_t attempt, std::string_view subprotocol) override;
    void send_text(std::uint64_t attempt, std::string_view text) override;
    void disconnect(std::uint64_t attempt, std::uint16_t code, std::string_view reason) override;
    std::size_t queued_bytes() const override;
    std::size_t queued_packets() const override;
    WallMillis wall_ms() const override { return schedule_.wall_ms(); }
    void log(LogLevel, std::string_view) override {}
    void on_turn_wanted() override;

    // What a connection reports, with its attempt: an old one's may come beside the new one's.
    class Link;
    void on_packet(std::uint64_t attempt, std::string_view text);
    void on_drained(std::uint64_t attempt);
    void on_closed(std::uint64_t attempt, std::uint16_t code, std::string_view reason);

    // One input for the engine: at once, or when the process wakes up.
    void input(std::function<void(Engine&)> what);
    void wake();
    void after_input();
    void take_events();
    void end_turn();
    void drop_connection(std::uint16_t code, std::string_view reason, bool goes_on_listening);
    void check_pace();
    void check_limits();
    void check_expiry(const Fingerprint& fp);
    void check_plain_retry(std::string_view text);
    void log_in_again();
    void confirm_later(const MessageEvent& message);
    void chart(const std::string& what);
    void give(const Event& event);
    void on_state(const StateEvent& event);
    void on_session_end(std::uint16_t code);
    void renew_token();
    bool crashes_at(const std::string& step);

    Schedule& schedule_;
    const Faults& faults_;
    Checker& checker_;
    const Checker::Device device_;
    const ProfileId profile_;
    const Duration slowest_write_;  // Of its disk.
    const std::uint32_t window_;    // Of either side.
    Dial dial_;
    std::function<void(const std::string&)> chart_;
    SeededSource fingerprints_;
    OutboxFile outbox_file_;
    InboxFile inbox_file_;
    Disk disk_;
    std::unique_ptr<Outbox> outbox_;
    std::unique_ptr<Inbox> inbox_;
    std::unique_ptr<Engine> engine_;  // While the process runs.
    std::uint64_t life_ = 0;          // Of the process.
    std::shared_ptr<Connection> connection_;
    std::uint64_t attempt_ = 0;                 // Of that connection, while it is wanted.
    std::vector<std::unique_ptr<Link>> links_;  // Of that one, and of older ones that linger.
    // The pace of reconnecting.
    unsigned dials_ = 0;  // Since a login was accepted.
    TimePoint first_dial_at_{};
    std::optional<TimePoint> online_since_;
    std::optional<TimePoint> quick_since_;  // A stable session ended: the next dial comes soon.
    std::uint64_t logouts_ = 0;
    Probe probe_;
    std::function<void(const Event&)> observer_;
    bool is_dying_ = false;  // Nothing takes effect any more: the crash is under way.
    bool is_calm_ = false;
    bool is_turn_end_due_ = false;
    bool is_pumping_ = false;
    std::optional<TimePoint> wake_at_;
    TimePoint asleep_until_{};
    bool has_slept_ = false;
    std::optional<TimePoint> suspend_told_at_;
    const bool is_manual_;  // It confirms by itself.
    // By this process, and not recorded yet. One that a lost store had accepted may come twice.
    std::multiset<Fingerprint> confirmed_;
    std::deque<std::function<void(Engine&)>> deferred_;  // While asleep: what waits outside.
    std::string token_;
    std::uint64_t tokens_ = 0;
    unsigned renewals_ = 0;  // Under way.
    std::uint64_t texts_ = 0;
    std::uint64_t packets_out_ = 0;
    // Plain: by fingerprint, on which attempt it was sent last, and when.
    std::map<std::string, std::pair<std::uint64_t, TimePoint>> plain_sent_;
    std::map<Fingerprint, TimePoint> expiries_;  // Of what this process sent with one of its own.
    std::deque<Fingerprint> recent_;             // The last few sent, to cancel one.
};

}  // namespace petrel::sim
