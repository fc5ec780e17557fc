#include <algorithm>
#include <cstdint>
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
constexpr std::size_t kChartLines = 4'000;
// A run of 200 messages takes some ten thousand; more mean that something never comes to rest.
constexpr std::uint64_t kStepsMax = 1'000'000;
constexpr std::uint64_t kStepsOfMessage = 1'000;
// Bytes on the wire against those of a world without faults. Loss, go-back-N and a reconnect every
// few seconds needed 4.4 times as many in the worst of 2,000 seeds, 0.8 times in the median.
constexpr std::uint64_t kStormFactor = 8;

struct Switch {
    std::string_view name;
    bool Faults::*member;
};

constexpr Switch kSwitches[] = {
    {"drop", &Faults::drop},
    {"duplicate", &Faults::duplicate},
    {"delay", &Faults::delay},
    {"truncated", &Faults::truncated},
    {"garbage", &Faults::garbage},
    {"cut", &Faults::cut},
    {"silent-cut", &Faults::silent_cut},
    {"reorder", &Faults::reorder},
    {"half-open-up", &Faults::half_open_up},
    {"half-open-down", &Faults::half_open_down},
    {"stall", &Faults::stall},
    {"slow-reader", &Faults::slow_reader},
    {"partition", &Faults::partition},
    {"gateway-crash", &Faults::gateway_crash},
    {"drain", &Faults::drain},
    {"store-busy", &Faults::store_busy},
    {"store-full", &Faults::store_full},
    {"store-lost", &Faults::store_lost},
    {"inbox-full", &Faults::inbox_full},
    {"limits", &Faults::limits},
    {"narrow", &Faults::narrow},
    {"client-crash", &Faults::client_crash},
    {"suspend", &Faults::suspend},
    {"wall-jump", &Faults::wall_jump},
    {"token", &Faults::token},
    {"token-end", &Faults::token_end},
    {"kick", &Faults::kick},
    {"logout", &Faults::logout},
    {"hints", &Faults::hints},
    {"disk-full", &Faults::disk_full},
    {"disk-slow", &Faults::disk_slow},
    {"manual", &Faults::manual},
    {"second-device", &Faults::second_device},
    {"large", &Faults::large},
    {"refused", &Faults::refused},
    {"expiry", &Faults::expiry},
    {"cancel", &Faults::cancel},
};

// Another process that logs in with a client's account and device, and then says nothing more.
class Intruder final : private Endpoint {
public:
    Intruder(std::shared_ptr<Connection> connection, const std::string& login)
        : connection_(std::move(connection)) {
        connection_->attach(Connection::End::kClient, this);
        connection_->send(Connection::End::kClient, login);
    }
    ~Intruder() { connection_->detach(Connection::End::kClient); }
    Intruder(const Intruder&) = delete;
    Intruder& operator=(const Intruder&) = delete;

private:
    void on_packet(std::string_view) override {}
    void on_drained() override {}
    void on_closed(std::uint16_t, std::string_view) override {}

    std::shared_ptr<Connection> connection_;
};

class World {
public:
    explicit World(const Options& options)
        : options_(options),
          faults_(faults_of(options)),
          is_lossless_(faults_.is_lossless()),
          schedule_(options.seed),
          checker_(schedule_, is_lossless_),
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
        begin();
        const TimePoint calm = TimePoint{} + kBusyTime;
        while (is_going_on() && schedule_.step(calm)) ++steps_;
        faults_ = Faults::none();
        partitioned_until_ = calm;
        gateway_.become_calm();
        for (auto& client : clients_) client->become_calm();
        const TimePoint end = calm + kDrainTime;
        while (is_going_on() && !(steps_ % 64 == 0 && is_settled()) && schedule_.step(end)) {
            ++steps_;
        }
        if (steps_ >= steps_max()) checker_.fail("does not come to rest");
        if (!is_settled()) {
            const std::string missing = checker_.missing();
            checker_.fail("not drained " +
                          std::to_string(std::chrono::duration_cast<seconds>(kDrainTime).count()) +
                          " s after the faults stopped: " +
                          (missing.empty() ? "files still hold what is done with" : missing));
        }
        for (auto& client : clients_) client->check_end(is_lossless_);
        return report();
    }

private:
    bool is_going_on() const { return !checker_.violation() && steps_ < steps_max(); }
    std::uint64_t steps_max() const { return kStepsMax + options_.messages * kStepsOfMessage; }

    bool is_settled() const {
        return checker_.is_settled() && std::all_of(clients_.begin(), clients_.end(),
                                                    [](const auto& c) { return c->is_idle(); });
    }

    void begin() {
        for (auto& client : clients_) {
            schedule_.after(schedule_.random(Duration{0}, milliseconds{500}),
                            [&client] { client->start(); });
        }
        arrange_sends();
        arrange_faults();
    }

    Report report() {
        Report report;
        checker_.summarize(report);
        report.trace_hash = schedule_.hash();
        report.simulated = schedule_.now().time_since_epoch();
        report.connections = next_connection_ - 1;
        for (const auto& client : clients_) report.packets += client->packets_out();
        report.bytes = traffic_.bytes;
        report.bytes_needed = bytes_needed();
        if (!report.violation && report.bytes > kStormFactor * report.bytes_needed) {
            report.violation = "a storm: " + std::to_string(report.bytes) + " bytes sent, " +
                               std::to_string(report.bytes_needed) + " needed";
        }
        if (report.violation) report.last_packets = chart_of(*report.violation);
        return report;
    }

    // Each message up once and down once a device, acks, a login a connection, heartbeats.
    std::uint64_t bytes_needed() const {
        constexpr std::uint64_t kLogin = 1'500;
        constexpr std::uint64_t kBeat = 400;  // And its answer.
        const auto time =
            std::chrono::duration_cast<seconds>(schedule_.now().time_since_epoch()).count();
        return checker_.bytes_needed() + (next_connection_ - 1) * kLogin +
               clients_.size() * static_cast<std::uint64_t>(time) / 15 * kBeat;
    }

    void add(const std::string& user, const std::string& device, ProfileId profile) {
        Checker::Device id{user, device, profile != ProfileId::kPetrelV1};
        clients_.push_back(std::make_unique<SimClient>(
            schedule_, faults_, checker_, std::move(id), profile,
            [this, label = user + "/" + device](std::string_view subprotocol) {
                return dial(subprotocol, label);
            },
            [this](const std::string& line) { chart(line); }));
    }

    std::shared_ptr<Connection> dial(std::string_view subprotocol, const std::string& label) {
        if (!gateway_.is_up() || schedule_.now() < partitioned_until_) return nullptr;
        auto connection = std::make_shared<Connection>(
            schedule_, faults_, traffic_, next_connection_++, label,
            [this](const std::string& line) { chart(line); },
            [this](const std::string& what) { checker_.fail(what); });
        connections_.push_back(connection);
        gateway_.accept(connection, subprotocol);
        return connection;
    }

    void chart(const std::string& line) {
        chart_.push_back({schedule_.now(), line});
        if (chart_.size() > kChartLines) chart_.pop_front();
    }

    // What led to the violation: all that names its message (by fingerprint), and the last of
    // everything.
    std::vector<std::string> chart_of(const std::string& violation) const {
        constexpr std::size_t kLast = 30;
        constexpr std::size_t kOfMessage = 40;
        constexpr std::size_t kWidth = 180;
        std::string fp;
        for (std::size_t at = 0; at + 36 <= violation.size() && fp.empty(); ++at) {
            if (violation[at + 8] == '-' && violation[at + 13] == '-' &&
                violation[at + 18] == '-' && violation[at + 23] == '-') {
                fp = violation.substr(at, 36);
            }
        }
        std::vector<std::size_t> wanted;
        for (std::size_t i = 0; i < chart_.size(); ++i) {
            const bool is_of_message =
                !fp.empty() && chart_[i].second.find(fp) != std::string::npos;
            if (is_of_message) wanted.push_back(i);
        }
        if (wanted.size() > kOfMessage) {
            wanted.erase(wanted.begin(), wanted.end() - static_cast<std::ptrdiff_t>(kOfMessage));
        }
        std::size_t next = chart_.size() - std::min(chart_.size(), kLast);
        if (!wanted.empty()) next = std::max(next, wanted.back() + 1);
        for (; next < chart_.size(); ++next) wanted.push_back(next);
        std::vector<std::string> lines;
        std::size_t before = SIZE_MAX;
        for (const std::size_t i : wanted) {
            if (before != SIZE_MAX && i > before + 1) {
                lines.push_back("            ... " + std::to_string(i - before - 1) + " more ...");
            }
            before = i;
            const auto at =
                std::chrono::duration_cast<milliseconds>(chart_[i].first.time_since_epoch())
                    .count();
            std::string time =
                std::to_string(at / 1000) + "." + std::to_string(at % 1000 + 1000).substr(1) + " s";
            time.insert(0, time.size() < 10 ? 10 - time.size() : 0, ' ');
            std::string line = time + "  " + chart_[i].second;
            if (line.size() > kWidth) line = line.substr(0, kWidth - 3) + "...";
            lines.push_back(std::move(line));
        }
        return lines;
    }

    Connection::End any_end() {
        return schedule_.chance(0.5) ? Connection::End::kClient : Connection::End::kServer;
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
                std::string to = users_[schedule_.random(0, users_.size() - 1)];
                int typeu = kTypeuSingle;
                if (faults_.refused && schedule_.chance(0.03)) typeu = kTypeuGroup;
                std::size_t size = 20;
                if (faults_.large && schedule_.chance(0.03)) size = schedule_.random(1'000, 65'536);
                any_client().send(to, typeu, size, expiry);
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
            const bool is_half = faults_.silent_cut && schedule_.chance(0.33);
            const bool is_late = faults_.reorder && schedule_.chance(0.5);
            connection->cut(!is_half || schedule_.chance(0.3), !is_half || schedule_.chance(0.3),
                            is_late ? schedule_.random(milliseconds{1}, seconds{8}) : Duration{0});
        });
        repeat(faults_.half_open_up, seconds{60} / share, [this] {
            if (const auto connection = any_connection()) {
                connection->mute(Connection::End::kServer);
            }
        });
        repeat(faults_.half_open_down, seconds{60} / share, [this] {
            if (const auto connection = any_connection()) {
                connection->mute(Connection::End::kClient);
            }
        });
        repeat(faults_.slow_reader, seconds{60} / share, [this] {
            if (const auto connection = any_connection()) {
                connection->slow_down(any_end(), schedule_.random(seconds{1}, seconds{20}),
                                      schedule_.random(2'048, 65'536));
            }
        });
        repeat(faults_.stall, seconds{30} / share, [this] {
            const auto connection = any_connection();
            if (!connection) return;
            connection->stall(any_end(), schedule_.random(milliseconds{100}, seconds{8}));
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
                chart("       *** the gateway is killed, and its store is lost");
                gateway_.crash();
                gateway_.lose_store();
                gateway_.restart();
            });
        }
        repeat(faults_.gateway_crash, seconds{60}, [this] {
            chart("       *** the gateway is killed");
            gateway_.crash();
            schedule_.after(schedule_.random(milliseconds{10}, seconds{8}), [this] {
                chart("       *** the gateway is started");
                gateway_.restart();
            });
        });
        repeat(faults_.drain, seconds{120}, [this] { gateway_.drain(); });
        repeat(faults_.store_full, seconds{60},
               [this] { gateway_.fill_store(schedule_.random(milliseconds{500}, seconds{10})); });
        repeat(faults_.kick, seconds{80} / share, [this] {
            SimClient& victim = any_client();
            const auto connection = dial(victim.subprotocol(), "thief");
            if (!connection) return;
            victim.expect_kick();
            intruders_.push_back(
                std::make_unique<Intruder>(connection, victim.login_of_another_process()));
        });
        repeat(faults_.logout, seconds{80} / share,
               [this] { any_client().log_out(schedule_.random(milliseconds{1}, seconds{10})); });
        repeat(faults_.hints, seconds{40} / share, [this] {
            any_client().lose_network(schedule_.random(milliseconds{1}, seconds{10}));
        });
        repeat(faults_.disk_full, seconds{60} / share,
               [this] { any_client().fill_disk(schedule_.random(milliseconds{10}, seconds{10})); });
        repeat(faults_.client_crash, seconds{60} / share, [this] {
            SimClient& client = any_client();
            if (!client.device().is_plain) client.crash();
        });
        repeat(faults_.suspend, seconds{40} / share, [this] {
            // Nothing is lost by sleeping, as long as the gateway's patience lasts.
            const Duration longest = is_lossless_             ? seconds{20}
                                     : schedule_.chance(0.05) ? seconds{600}
                                                              : seconds{60};
            SimClient& client = any_client();
            const Duration duration = schedule_.random(milliseconds{100}, longest);
            if (is_lossless_ && (client.is_asleep() || !client.is_online())) return;
            client.suspend(duration);
        });
        repeat(faults_.wall_jump, seconds{60}, [this] {
            constexpr std::int64_t kHour = 3'600'000;
            schedule_.jump_wall(static_cast<std::int64_t>(schedule_.random(0, 2 * kHour)) - kHour);
        });
        repeat(faults_.cancel, seconds{10} / share, [this] { any_client().cancel_something(); });
    }

    const Options options_;
    Faults faults_;
    const bool is_lossless_;
    // Before all that may still write to them when it ends.
    std::deque<std::pair<TimePoint, std::string>> chart_;
    Traffic traffic_;
    Schedule schedule_;
    Checker checker_;
    SimGateway gateway_;
    std::vector<std::string> users_;
    std::vector<std::unique_ptr<SimClient>> clients_;
    std::vector<std::unique_ptr<Intruder>> intruders_;
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

bool Faults::is_lossless() const {
    Faults rest = *this;
    // Every packet of these arrives, in time, and is welcome.
    for (const auto harmless : {&Faults::duplicate, &Faults::delay, &Faults::suspend,
                                &Faults::wall_jump, &Faults::second_device, &Faults::large,
                                &Faults::expiry, &Faults::cancel, &Faults::narrow}) {
        rest.*harmless = false;
    }
    for (const Switch& item : kSwitches) {
        if (rest.*item.member) return false;
    }
    return true;
}

// What would drown everything else if every seed had it, and now and then nothing that loses: only
// there a needless retransmission can be told from a needed one.
Faults faults_of(const Options& options) {
    Faults faults = options.faults;
    if (!options.with_rare) return faults;
    if (options.seed % 10 == 9) {
        Faults harmless = Faults::none();
        for (const auto member :
             {&Faults::duplicate, &Faults::delay, &Faults::suspend, &Faults::wall_jump,
              &Faults::second_device, &Faults::large, &Faults::expiry, &Faults::cancel}) {
            harmless.*member = faults.*member;
        }
        // A plain client that wakes up within a second of its check may send in vain.
        if (options.seed % 4 == 3) harmless.suspend = false;
        return harmless;
    }
    faults.store_lost = faults.store_lost || options.seed % 5 == 2;
    faults.inbox_full = faults.inbox_full || options.seed % 7 == 3;
    faults.narrow = faults.narrow || options.seed % 3 == 1;
    // Of what one device has handled the other's may be dropped: another promise.
    if (faults.inbox_full) faults.second_device = false;
    // Not those of seeds that have found bugs: they stay the runs that they were.
    const std::uint64_t of_seven = options.seed % 7;
    faults.token_end = faults.token_end || of_seven == 1 || of_seven == 5;
    const std::uint64_t of_thirteen = options.seed % 13;
    faults.hints = faults.hints || of_thirteen == 5 || of_thirteen == 12;
    faults.disk_full = faults.disk_full || of_thirteen == 9 || of_thirteen == 12;
    faults.disk_slow = faults.disk_slow || of_thirteen == 2 || of_thirteen == 7;
    faults.manual = faults.manual || of_thirteen == 5 || of_thirteen == 9 || of_thirteen == 12;
    return faults;
}

Report run(const Options& options) { return World(options).run(); }

}  // namespace petrel::sim
