#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "core/gateway/router.hpp"
#include "core/gateway/session.hpp"
#include "core/store/message_store.hpp"
#include "tests/simulation/boxes.hpp"
#include "tests/simulation/checker.hpp"
#include "tests/simulation/network.hpp"
#include "tests/simulation/schedule.hpp"

namespace petrel::sim {

// Fingerprints that a seed repeats.
class SeededSource final : public FingerprintSource {
public:
    explicit SeededSource(std::uint64_t seed) : random_(seed) {}
    Fingerprint next() override {
        std::array<std::uint8_t, 16> bytes{};
        for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random_());
        return Fingerprint::from_uuid(bytes);
    }

private:
    std::mt19937_64 random_;
};

// Believes every user whose token has not been expired, nor has ended by itself.
class SimAuthenticator final : public Authenticator {
public:
    SimAuthenticator(Schedule& schedule, const Faults& faults)
        : schedule_(schedule), faults_(faults) {}

    Verdict verify(const Credentials& who, WallMillis) override {
        const std::string token(who.token);
        if (expired_.count(token) != 0) return refuse();
        if (!faults_.token_end) return {};
        // It is as if it had been made just before it is seen first.
        const auto [end, is_new] = ends_.try_emplace(token);
        if (is_new) {
            end->second = schedule_.now() +
                          schedule_.random(std::chrono::seconds{40}, std::chrono::seconds{80});
        }
        if (end->second <= schedule_.now()) return refuse();
        return {0, {}, end->second - schedule_.now()};
    }
    void expire(const std::string& token) { expired_.insert(token); }

private:
    static Verdict refuse() { return {static_cast<int>(Errc::kTokenExpired), "expired"}; }

    Schedule& schedule_;
    const Faults& faults_;
    std::set<std::string> expired_;
    std::map<std::string, TimePoint> ends_;
};

constexpr std::uint32_t kNarrowWindow = 4;  // Faults::narrow.

// Real Router and Sessions over a store whose commits take time, may fail, and are lost by a crash
// when they had not returned. The store itself outlives crashes.
class SimGateway final : private RouterHost {
public:
    SimGateway(Schedule& schedule, const Faults& faults, Checker& checker);
    ~SimGateway();

    // Crashes where the probe says so, and comes back a second later; for tests of one such point.
    void set_probe(Probe probe) { probe_ = std::move(probe); }
    // nullptr endpoint when it is down: the connection is refused.
    bool accept(std::shared_ptr<Connection> connection, std::string_view subprotocol);
    void crash();  // Sockets die silently or not, memory is gone.
    void restart();
    void drain();
    void lose_store();                   // While it is down: comes back empty.
    void fill_store(Duration duration);  // No commit succeeds meanwhile.
    void become_calm();
    void expire_token(const std::string& token) { authenticator_.expire(token); }
    bool is_up() const { return router_ != nullptr; }

private:
    class SimSession;
    using Request = std::variant<AppendRequest, OpenRequest, ReadRequest, CursorUpdate>;

    bool store_append(AppendRequest request) override;
    bool store_open(OpenRequest request) override;
    bool store_read(ReadRequest request) override;
    void store_advance(CursorUpdate update) override;
    void post(unsigned, ShardMessage) override {}
    WallMillis wall_ms() const override { return schedule_.wall_ms(); }
    TraceSink* trace() override { return nullptr; }

    static const char* name_of(const Request& request);
    void enqueue(Request request);
    void commit();
    bool crashes_at(const std::string& step);
    void begin_input();
    void check(const SimSession* session);  // After every input.
    void end_turn();
    void wake_at_next_deadline();

    Schedule& schedule_;
    const Faults& faults_;
    Checker& checker_;
    StoreOptions store_options_;
    SessionOptions session_options_;
    SessionCounters counters_;
    SimAuthenticator authenticator_;
    SeededSource fingerprints_;
    std::string scratch_;  // The sessions'.
    SeededSource epochs_;
    std::unique_ptr<MessageStore> store_;
    Probe probe_;
    bool is_dying_ = false;   // Nothing takes effect any more: the crash is under way.
    std::uint64_t life_ = 0;  // Of the process.
    TimePoint store_full_until_{};
    std::uint64_t next_connection_ = 1;
    std::unique_ptr<TimerQueue> timers_;  // While up, as is the router.
    std::unique_ptr<Router> router_;
    std::map<std::uint64_t, std::unique_ptr<SimSession>> sessions_;
    std::vector<std::uint64_t> to_flush_;
    std::vector<std::uint64_t> to_bury_;
    std::vector<Request> queue_;
    bool is_commit_due_ = false;
    bool is_turn_end_due_ = false;
    std::optional<TimePoint> wake_at_;
    TimePoint results_at_{};  // Of the last commit's answers.
};

}  // namespace petrel::sim
