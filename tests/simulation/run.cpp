#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/simulation/checker.hpp"
#include "tests/simulation/network.hpp"
#include "tests/simulation/options.hpp"
#include "tests/simulation/schedule.hpp"
#include "tests/simulation/sim_client.hpp"
#include "tests/simulation/sim_gateway.hpp"

namespace petrel::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kBusyTime = seconds{120};  // Faults and sends happen in here.
// After the faults stop: the longest backoff, a login, a dead probe, a beat and repairs, twice.
constexpr Duration kDrainTime = seconds{400};
constexpr std::size_t kChartLines = 60;

struct Switch {
    std::string_view name;
    bool Faults::*member;
};

constexpr Switch kSwitches[] = {
    {"drop", &Faults::drop},
    {"duplicate", &Faults::duplicate},
    {"delay", &Faults::delay},
    {"cut", &Faults::cut},
    {"half-open", &Faults::half_open},
    {"stall", &Faults::stall},
    {"partition", &Faults::partition},
    {"garbage", &Faults::garbage},
    {"large", &Faults::large},
    {"gateway-crash", &Faults::gateway_crash},
    {"drain", &Faults::drain},
    {"client-crash", &Faults::client_crash},
    {"suspend", &Faults::suspend},
    {"wall-jump", &Faults::wall_jump},
    {"store-busy", &Faults::store_busy},
    {"store-lost", &Faults::store_lost},
    {"token", &Faults::token},
    {"token-end", &Faults::token_end},
    {"second-device", &Faults::second_device},
    {"expiry", &Faults::expiry},
    {"cancel", &Faults::cancel},
};

class World {
public:
    explicit World(const Options& options)
        : options_(options),
          faults_(faults_of(options)),
          schedule_(options.seed),
          checker_(schedule_),
          gateway_(schedule_, faults_, checker_) {
        const bool has_plain = options.with_plain && options.seed % 4 == 3;
        for (unsigned i = 0; i < options.clients; ++i) {
            const std::string user = "u" + std::to_string(i);
            users_.push_back(user);
            if (has_plain && i % 2 == 1) {
                add(user, "-", i % 4 == 1 ? ProfileId::kImSdk : ProfileId::kMobileImSdk);
                continue;
            }
            add(user, "d0", ProfileId::kPetrelV1);
            if (faults_.second_device && i % 3 == 0) add(user, "d1", ProfileId::kPetrelV1);
        }
    }

    Report run() {
        for (auto& client : clients_) {
            schedule_.after(schedule_.random(Duration{0}, milliseconds{500}),
                            [&client] { client->start(); });
        }
        arrange_sends();
        arrange_faults();
        const TimePoint calm = TimePoint{} + kBusyTime;
        while (!checker_.violation() && schedule_.step(calm)) ++steps_;
        faults_ = Faults::none();
        partitioned_until_ = calm;
        gateway_.restart();
        for (auto& client : clients_) client->become_calm();
        const TimePoint end = calm + kDrainTime;
        while (!checker_.violation() && !(steps_ % 64 == 0 && checker_.is_settled()) &&
               schedule_.step(end)) {
            ++steps_;
        }
        if (!checker_.violation() && !checker_.is_settled()) {
            checker_.fail("not drained " +
                          std::to_string(std::chrono::duration_cast<seconds>(kDrainTime).count()) +
                          " s after the faults stopped: " + checker_.missing());
        }
        Report report;
        checker_.summarize(report);
        report.trace_hash = schedule_.hash();
        report.simulated = schedule_.now().time_since_epoch();
        report.connections = next_connection_ - 1;
        for (const auto& client : clients_) report.packets += client->packets_out();
        report.last_packets.assign(chart_.begin(), chart_.end());
        return report;
    }

private:
    void add(const std::string& user, const std::string& device, ProfileId profile) {
        Checker::Device id{user, device, profile != ProfileId::kPetrelV1};
        clients_.push_back(std::make_unique<SimClient>(
            schedule_, faults_, checker_, std::move(id), profile,
            [this](std::string_view subprotocol) { return dial(subprotocol); }));
    }

    std::shared_ptr<Connection> dial(std::string_view subprotocol) {
        if (!gateway_.is_up() || schedule_.now() < partitioned_until_) return nullptr;
        auto connection = std::make_shared<Connection>(schedule_, faults_, next_connection_++,
                                                       [this](std::string line) { chart(line); });
        connections_.push_back(connection);
        gateway_.accept(connection, subprotocol);
        return connection;
    }

    void chart(const std::string& line) {
        const auto now =
            std::chrono::duration_cast<milliseconds>(schedule_.now().time_since_epoch()).count();
        chart_.push_back(std::to_string(now) + " ms " + line);
        if (chart_.size() > kChartLines) chart_.pop_front();
    }

    SimClient& any_client() { return *clients_[schedule_.random(0, clients_.size() - 1)]; }

    void arrange_sends() {
        for (unsigned i = 0; i < options_.messages; ++i) {
            // Some alone, some in bursts that fill the window.
            const TimePoint when =
                TimePoint{} +
                (i % 3 == 0 ? Duration(seconds{10} * (i % 10) + milliseconds{1'000 + i % 7})
                            : schedule_.random(Duration(seconds{1}), kBusyTime - seconds{1}));
            schedule_.at(when, [this] {
                std::optional<Duration> expiry;
                if (faults_.expiry && schedule_.chance(0.05)) {
                    expiry = schedule_.random(milliseconds{10}, seconds{5});
                }
                std::size_t size = 20;
                if (faults_.large && schedule_.chance(0.03)) size = schedule_.random(1'000, 65'536);
                any_client().send(users_[schedule_.random(0, users_.size() - 1)], size, expiry);
            });
        }
    }

    // Calls `strike` again and again, `mean` apart on average, until the calm.
    void repeat(bool is_on, Duration mean, std::function<void()> strike) {
        if (!is_on) return;
        const Duration next = schedule_.random(Duration{0}, 2 * mean);
        if (schedule_.now() + next >= TimePoint{} + kBusyTime) return;
        schedule_.after(next, [this, mean, strike = std::move(strike)]() mutable {
            strike();
            repeat(true, mean, std::move(strike));
        });
    }

    std::shared_ptr<Connection> any_connection() {
        connections_.erase(std::remove_if(connections_.begin(), connections_.end(),
                                          [](const auto& weak) {
                                              const auto connection = weak.lock();
                                              return !connection || !connection->is_open();
                                          }),
                           connections_.end());
        if (connections_.empty()) return nullptr;
        return connections_[schedule_.random(0, connections_.size() - 1)].lock();
    }

    void arrange_faults() {
        const auto share = static_cast<int>(std::max<std::size_t>(1, clients_.size()));
        repeat(faults_.cut, seconds{20} / share, [this] {
            const auto connection = any_connection();
            if (!connection) return;
            const bool is_half = faults_.half_open && schedule_.chance(0.33);
            connection->cut(!is_half || schedule_.chance(0.3), !is_half || schedule_.chance(0.3));
        });
        repeat(faults_.stall, seconds{30} / share, [this] {
            const auto connection = any_connection();
            if (!connection) return;
            connection->stall(
                schedule_.chance(0.5) ? Connection::End::kClient : Connection::End::kServer,
                schedule_.random(milliseconds{100}, seconds{8}));
        });
        repeat(faults_.partition, seconds{90}, [this] {
            partitioned_until_ = schedule_.now() + schedule_.random(milliseconds{500}, seconds{40});
            while (const auto connection = any_connection()) connection->cut(false, false);
        });
        repeat(faults_.token, seconds{60} / share, [this] {
            // One that works now: of two expired in a row the second is final.
            const SimClient& client = any_client();
            if (client.is_online() && !client.is_renewing()) {
                gateway_.expire_token(client.token());
            }
        });
        if (faults_.store_lost) {
            schedule_.after(schedule_.random(seconds{20}, seconds{80}), [this] {
                gateway_.crash();
                gateway_.lose_store();
                gateway_.restart();
            });
        }
        repeat(faults_.gateway_crash, seconds{60}, [this] {
            gateway_.crash();
            schedule_.after(schedule_.random(milliseconds{10}, seconds{8}),
                            [this] { gateway_.restart(); });
        });
        repeat(faults_.drain, seconds{120}, [this] { gateway_.drain(); });
        repeat(faults_.client_crash, seconds{60} / share, [this] {
            SimClient& client = any_client();
            if (!client.device().is_plain) client.crash();
        });
        repeat(faults_.suspend, seconds{40} / share, [this] {
            const Duration longest = schedule_.chance(0.05) ? seconds{600} : seconds{60};
            any_client().suspend(schedule_.random(milliseconds{100}, longest));
        });
        repeat(faults_.wall_jump, seconds{60}, [this] {
            constexpr std::int64_t kHour = 3'600'000;
            schedule_.jump_wall(static_cast<std::int64_t>(schedule_.random(0, 2 * kHour)) - kHour);
        });
        repeat(faults_.cancel, seconds{10} / share, [this] { any_client().cancel_something(); });
    }

    const Options options_;
    Faults faults_;
    std::deque<std::string> chart_;  // Before all that may still write to it when it ends.
    Schedule schedule_;
    Checker checker_;
    SimGateway gateway_;
    std::vector<std::string> users_;
    std::vector<std::unique_ptr<SimClient>> clients_;
    std::vector<std::weak_ptr<Connection>> connections_;
    std::uint64_t next_connection_ = 1;
    TimePoint partitioned_until_{};
    std::uint64_t steps_ = 0;
};

}  // namespace

const std::vector<std::string_view>& Faults::names() {
    static const std::vector<std::string_view> all = [] {
        std::vector<std::string_view> result;
        for (const Switch& item : kSwitches) result.push_back(item.name);
        return result;
    }();
    return all;
}

bool Faults::set(std::string_view name, bool value) {
    for (const Switch& item : kSwitches) {
        if (item.name != name) continue;
        this->*item.member = value;
        return true;
    }
    return false;
}

bool Faults::get(std::string_view name) const {
    for (const Switch& item : kSwitches) {
        if (item.name == name) return this->*item.member;
    }
    return false;
}

Faults Faults::none() {
    Faults faults;
    for (const Switch& item : kSwitches) faults.*item.member = false;
    return faults;
}

// What would drown everything else if every seed had it.
Faults faults_of(const Options& options) {
    Faults faults = options.faults;
    faults.store_lost = faults.store_lost || (options.with_rare && options.seed % 5 == 2);
    // Not those of seeds that have found bugs: they stay the runs that they were.
    const std::uint64_t of_seven = options.seed % 7;
    faults.token_end = faults.token_end || (options.with_rare && (of_seven == 1 || of_seven == 5));
    return faults;
}

Report run(const Options& options) { return World(options).run(); }

}  // namespace petrel::sim
