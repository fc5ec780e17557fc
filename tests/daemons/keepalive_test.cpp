#include "daemons/keepalive.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/fake_context.hpp"

using namespace petrel;
using namespace std::chrono_literals;
using petrel::test::FakeContext;

namespace {

using KeepaliveState = KeepaliveDaemon::State;

// A worker that is online since 0 and beats at 25 s, 50 s... unless a test says otherwise; the
// times of its beats, written down.
struct KeepaliveWorld final : KeepaliveDaemon::Listener {
    explicit KeepaliveWorld(KeepaliveDaemon::Options options = {})
        : keepalive(context, *this, options) {}

    void on_beat_due() override {
        CHECK(keepalive.is_consistent());
        beats.push_back(context.now().time_since_epoch());
        if (answers_after) {
            const auto rx = answered_rx;
            pending.push_back({context.now() + *answers_after, rx});
        }
    }
    void on_link_dead(std::string_view) override {
        CHECK(keepalive.is_consistent());
        CHECK(keepalive.state() == KeepaliveState::kOffline);
        dead_at = context.now().time_since_epoch();
    }

    void online(Duration interval = 25s) {
        context.set_next_random(UINT64_MAX);  // The first beat a whole interval from now.
        keepalive.on_online(interval);
    }
    // Time goes by; the other side answers as told.
    void advance(Duration by) {
        const TimePoint end = context.now() + by;
        while (context.now() < end) {
            TimePoint next = end;
            if (const auto due = context.timers().next_deadline()) next = std::min(next, *due);
            for (const auto& answer : pending) next = std::min(next, answer.first);
            context.advance(next - context.now());
            const TimePoint now = context.now();
            for (const auto& answer : pending) {
                if (answer.first <= now) keepalive.on_beat_answered(answer.second);
            }
            pending.erase(std::remove_if(pending.begin(), pending.end(),
                                         [now](const auto& a) { return a.first <= now; }),
                          pending.end());
            CHECK(keepalive.is_consistent());
        }
    }
    std::vector<Duration> take() { return std::exchange(beats, {}); }
    bool is_dead() const { return dead_at.has_value(); }
    KeepaliveState state() const { return keepalive.state(); }

    FakeContext context;
    std::vector<Duration> beats;
    std::optional<Duration> dead_at;
    std::optional<Duration> answers_after;  // None: nobody answers.
    std::optional<Position> answered_rx;
    std::vector<std::pair<TimePoint, std::optional<Position>>> pending;
    KeepaliveDaemon keepalive;
};

KeepaliveDaemon::Options plain(Duration patience, bool since_answer) {
    KeepaliveDaemon::Options options;
    options.patience = patience;
    options.patience_since_answer = since_answer;
    return options;
}

}  // namespace

// ---- beats ----

TEST_CASE("Keepalive: the first beat comes at a random time within the interval") {
    for (const Duration first : {Duration(0s), Duration(7s), Duration(25s)}) {
        KeepaliveWorld world;
        world.context.set_next_random(static_cast<std::uint64_t>(first.count()));
        world.keepalive.on_online(25s);
        world.answers_after = 50ms;
        world.advance(25s);
        CHECK(world.take().front() == first);
    }
}

TEST_CASE("Keepalive: beats every interval, whatever else comes and goes") {
    KeepaliveWorld world;
    world.answers_after = 50ms;
    world.online();
    for (int i = 0; i < 101; ++i) {
        world.advance(1s);
        world.keepalive.on_inbound();
    }
    CHECK(world.take() == std::vector<Duration>{25s, 50s, 75s, 100s});
}

TEST_CASE("Keepalive: an extra beat does not shift the regular ones") {
    KeepaliveWorld world;
    world.answers_after = 50ms;
    world.online();
    world.advance(10s);
    world.keepalive.probe_now();
    world.advance(20s);
    CHECK(world.take() == std::vector<Duration>{10s, 25s});
}

TEST_CASE("Keepalive: after a pause one beat is enough") {
    KeepaliveWorld world;
    world.answers_after = 50ms;
    world.online();
    world.context.pause(10min);
    CHECK(world.take() == std::vector<Duration>{10min});
    world.advance(25s);
    CHECK(world.take() == std::vector<Duration>{10min + 25s});
}

TEST_CASE("Keepalive: nothing beats before online and after offline") {
    KeepaliveWorld world;
    world.keepalive.probe_now();
    world.keepalive.on_inbound();
    world.keepalive.on_beat_answered(7);
    world.context.advance(1h);
    CHECK(world.take().empty());
    world.online();
    world.keepalive.on_offline();
    world.keepalive.on_offline();
    world.context.advance(1h);
    CHECK(world.take().empty());
    CHECK_FALSE(world.is_dead());
}

// ---- verdicts ----

TEST_CASE("Keepalive: no packet at all within the probe's time: the link is dead, said once") {
    KeepaliveWorld world;
    world.online();
    world.advance(28s - 1ns);
    CHECK(world.state() == KeepaliveState::kProbing);
    world.advance(1ns);
    CHECK(*world.dead_at == 28s);
    world.dead_at.reset();
    world.advance(1h);
    CHECK_FALSE(world.is_dead());
    CHECK(world.take().size() == 1);
}

TEST_CASE("Keepalive: any packet proves life, up to the last moment") {
    KeepaliveWorld world;
    world.online();
    world.advance(28s - 1ns);
    world.keepalive.on_inbound();
    CHECK(world.state() == KeepaliveState::kListening);
    world.advance(10s);
    CHECK_FALSE(world.is_dead());
}

TEST_CASE("Keepalive: the probe's time follows the round trip, from 3 s to 20 s") {
    const std::pair<Duration, Duration> cases[] = {{1ms, 3s}, {1s, 3s},  {2s, 6s},
                                                   {5s, 15s}, {8s, 20s}, {1min, 20s}};
    for (const auto& row : cases) {
        const auto& sample = row.first;
        const auto& timeout = row.second;
        CAPTURE(sample.count());
        KeepaliveWorld world;
        world.keepalive.on_round_trip(sample);
        world.online();
        world.advance(1min);
        CHECK(*world.dead_at == 25s + timeout);
    }
}

TEST_CASE("Keepalive: a beat during a probe starts no other") {
    KeepaliveDaemon::Options options;
    options.round_trip.timeout_min = 3s;
    KeepaliveWorld world(options);
    world.online(1s);
    world.advance(10s);
    CHECK(world.take() == std::vector<Duration>{1s, 2s, 3s});
    CHECK(*world.dead_at == 4s);
}

TEST_CASE("Keepalive: a dead link makes the next probe more patient, until a sample comes") {
    KeepaliveWorld world;
    world.online();
    world.advance(28s);
    REQUIRE(world.is_dead());
    CHECK(world.keepalive.ack_timeout() == 6s);
    world.keepalive.on_round_trip(100ms);
    CHECK(world.keepalive.ack_timeout() == 3s);
}

TEST_CASE("Keepalive: a link slower than the shortest probe is not cut for ever") {
    KeepaliveWorld world;
    world.answers_after = 5s;
    int deaths = 0;
    for (int session = 0; session < 5; ++session) {
        world.online();
        world.advance(2min);
        deaths += world.is_dead() ? 1 : 0;
        world.dead_at.reset();
        world.pending.clear();
        world.keepalive.on_offline();
    }
    CHECK(deaths == 1);
}

// ---- pauses (what KNOWN_FAILURES 16 reports) ----

TEST_CASE("Keepalive: after a pause of 2.5 s a packet in the socket keeps the link alive") {
    // Wherever in the probe the pause begins.
    for (Duration begin = 25s; begin < 28s; begin += 10ms) {
        CAPTURE(begin.count());
        KeepaliveWorld world;
        world.online();
        world.advance(begin);
        world.context.pause(2500ms);  // The timers run first...
        CHECK_FALSE(world.is_dead());
        world.keepalive.on_inbound();  // ...then the socket is read.
        world.advance(1s);
        CHECK_FALSE(world.is_dead());
    }
}

TEST_CASE("Keepalive: after a pause an empty socket is dead, a grace later") {
    KeepaliveWorld world;
    world.online();
    world.advance(26s);
    world.context.pause(1h);
    CHECK_FALSE(world.is_dead());
    world.advance(200ms);
    CHECK(*world.dead_at == 1h + 26s + 200ms);
}

TEST_CASE("Keepalive: pause after pause never judges unread") {
    KeepaliveWorld world;
    world.online();
    world.advance(26s);
    for (int i = 0; i < 10; ++i) world.context.pause(5s);
    CHECK_FALSE(world.is_dead());
    world.keepalive.on_inbound();
    CHECK(world.state() == KeepaliveState::kListening);
}

// ---- overdue acks ----

TEST_CASE("Keepalive: an overdue ack beats at once, counted from when the packet left") {
    KeepaliveWorld world;
    world.answers_after = 50ms;
    world.online();
    world.advance(2s);
    world.keepalive.on_outstanding(1, TimePoint{1s});
    world.advance(2s - 1ns);
    CHECK(world.take().empty());
    world.advance(1ns);
    CHECK(world.take() == std::vector<Duration>{4s});
}

TEST_CASE("Keepalive: an ack in time saves the beat, and the next position has its own time") {
    KeepaliveWorld world;
    world.online();
    world.keepalive.on_outstanding(1, TimePoint{0s});
    world.advance(2s);
    world.keepalive.on_outstanding(2, TimePoint{2s});
    world.advance(2s);
    CHECK(world.take().empty());
    world.keepalive.on_outstanding(std::nullopt, TimePoint{});
    world.advance(20s);
    CHECK(world.take().empty());
}

TEST_CASE("Keepalive: an unanswered overdue beat ends the link") {
    KeepaliveWorld world;
    world.online();
    world.keepalive.on_outstanding(1, TimePoint{0s});
    world.advance(10s);
    CHECK(world.take() == std::vector<Duration>{3s});
    CHECK(*world.dead_at == 6s);
}

TEST_CASE("Keepalive: a slow store makes the probes rarer, up to 20 s") {
    KeepaliveWorld world;
    world.answers_after = 0s;
    world.answered_rx = 1;
    world.online(1h);
    world.keepalive.on_outstanding(1, TimePoint{0s});
    world.advance(90s);
    CHECK(world.take() == std::vector<Duration>{3s, 9s, 21s, 41s, 61s, 81s});
    CHECK_FALSE(world.is_dead());
}

TEST_CASE("Keepalive: a slow store is forgotten when the outstanding position moves") {
    KeepaliveWorld world;
    world.answers_after = 0s;
    world.answered_rx = 1;
    world.online(1h);
    world.keepalive.on_outstanding(1, TimePoint{0s});
    world.advance(10s);
    CHECK(world.keepalive.ack_timeout() == 12s);
    world.keepalive.on_outstanding(2, TimePoint{10s});
    CHECK(world.keepalive.ack_timeout() == 3s);
    world.take();
    world.answered_rx = 2;
    world.advance(10s);
    CHECK(world.take() == std::vector<Duration>{13s, 19s});
}

TEST_CASE("Keepalive: an answer that does not cover the overdue position slows nothing") {
    for (const auto rx : {std::optional<Position>{}, std::optional<Position>{0}}) {
        KeepaliveWorld world;
        world.answers_after = 0s;
        world.answered_rx = rx;
        world.online(1h);
        world.keepalive.on_outstanding(1, TimePoint{0s});
        world.advance(10s);
        CHECK(world.take() == std::vector<Duration>{3s, 6s, 9s});
    }
}

TEST_CASE("Keepalive: an answer that covers a position not yet overdue slows nothing") {
    KeepaliveWorld world;
    world.online();
    world.keepalive.on_outstanding(1, TimePoint{0s});
    world.keepalive.probe_now();
    world.advance(50ms);
    world.keepalive.on_beat_answered(1);
    CHECK(world.keepalive.ack_timeout() == 3s);
}

TEST_CASE("Keepalive: a regular beat's answer tells of a slow store too") {
    KeepaliveWorld world;
    world.online(4s);
    world.advance(2s);
    world.keepalive.on_outstanding(1, TimePoint{2s});
    world.advance(2s);  // The regular beat at 4 s; the ack is overdue at 5 s, while it is probed.
    world.advance(1500ms);
    world.keepalive.on_beat_answered(1);
    CHECK(world.keepalive.ack_timeout() > 3s);
    CHECK(world.take() == std::vector<Duration>{4s});
}

TEST_CASE("Keepalive: a retransmitted position gets its time anew") {
    KeepaliveWorld world;
    world.online();
    world.keepalive.on_outstanding(1, TimePoint{0s});
    world.advance(2s);
    world.keepalive.on_outstanding(1, TimePoint{2s});
    world.advance(2s);
    CHECK(world.take().empty());
    world.advance(1s);
    CHECK(world.take() == std::vector<Duration>{5s});
}

TEST_CASE("Keepalive: what is outstanding when the session begins counts") {
    KeepaliveWorld world;
    world.answers_after = 50ms;
    world.keepalive.on_outstanding(1, TimePoint{0s});
    world.online();
    world.advance(4s);
    CHECK(world.take() == std::vector<Duration>{3s});
    world.keepalive.on_offline();
    world.online();
    world.advance(20s);
    CHECK(world.take().empty());
}

// ---- round trips ----

TEST_CASE("Keepalive: the answer of a single beat is a round-trip sample") {
    KeepaliveWorld world;
    world.answers_after = 80ms;
    world.online();
    world.advance(26s);
    CHECK(world.keepalive.round_trip().smoothed() == 80ms);
    world.keepalive.on_offline();
    CHECK(world.keepalive.round_trip().has_sample());
}

TEST_CASE("Keepalive: answers are no samples while several beats are out, nor right after") {
    KeepaliveDaemon::Options options;
    options.round_trip.timeout_min = 10s;
    KeepaliveWorld world(options);
    world.online(1s);
    world.advance(2500ms);  // Beats at 1 s and 2 s.
    world.keepalive.on_beat_answered({});
    world.advance(1s);  // A beat at 3 s: an answer may be of the one at 2 s.
    world.keepalive.on_beat_answered({});
    CHECK_FALSE(world.keepalive.round_trip().has_sample());
    world.advance(1s);  // At 4 s: alone again.
    world.keepalive.on_beat_answered({});
    CHECK(world.keepalive.round_trip().smoothed() == 500ms);
    world.keepalive.on_beat_answered({});  // Nobody waits for it.
    CHECK(world.keepalive.round_trip().smoothed() == 500ms);
}

// ---- plain ----

TEST_CASE("Keepalive: im-sdk waits its patience after an unanswered beat") {
    KeepaliveWorld world(plain(10s, false));
    world.online(20s);
    world.advance(19s);
    world.keepalive.on_inbound();
    world.advance(1min);
    CHECK(*world.dead_at == 30s);
}

TEST_CASE("Keepalive: mobileimsdk waits its patience since the last packet") {
    KeepaliveWorld world(plain(20s, true));
    world.online(15s);
    world.advance(12s);
    world.keepalive.on_inbound();
    world.advance(1min);
    CHECK(*world.dead_at == 32s);
    CHECK(world.take() == std::vector<Duration>{15s, 30s});
}

TEST_CASE(
    "Keepalive: a patience since the last packet below the interval still leaves an answer time") {
    KeepaliveWorld world(plain(5s, true));
    world.answers_after = 1s;
    world.online(15s);
    world.advance(1min);
    CHECK_FALSE(world.is_dead());
    world.answers_after.reset();
    world.advance(1min);
    CHECK(*world.dead_at == 78s);
}

TEST_CASE("Keepalive: plain profiles beat for no overdue ack, and can be set and unset") {
    KeepaliveWorld world;
    world.keepalive.set_plain(20s, 10s, false);
    world.online(0s);
    world.keepalive.on_outstanding(1, TimePoint{0s});
    world.advance(1min);
    CHECK(world.take() == std::vector<Duration>{20s});
    CHECK(*world.dead_at == 30s);

    world.keepalive.set_v1(25s);
    world.keepalive.on_round_trip(100ms);
    world.dead_at.reset();
    world.online(0s);
    world.advance(1min);
    CHECK(*world.dead_at == 60s + 25s + 3s);
}

// ---- hints ----

TEST_CASE("Keepalive: probe_now beats at once, but not on top of a probe") {
    KeepaliveWorld world;
    world.online();
    world.advance(1s);
    world.keepalive.probe_now();
    world.keepalive.probe_now();
    CHECK(world.take() == std::vector<Duration>{1s});
    world.advance(3s);
    CHECK(*world.dead_at == 4s);
}

TEST_CASE("Keepalive: a suspended worker neither beats nor judges") {
    KeepaliveWorld world;
    world.online();
    world.advance(26s);
    world.take();
    world.keepalive.suspend();
    world.keepalive.suspend();
    world.keepalive.probe_now();
    world.keepalive.on_outstanding(1, TimePoint{26s});
    world.advance(1h);
    CHECK(world.take().empty());
    CHECK_FALSE(world.is_dead());
}

TEST_CASE("Keepalive: a resume reads first, then probes") {
    for (const bool is_probing : {false, true}) {
        KeepaliveWorld world;
        world.online();
        world.advance(is_probing ? 26s : 5s);
        world.keepalive.on_outstanding(1, TimePoint{2s});
        world.keepalive.suspend();
        world.advance(1h);
        world.take();
        world.keepalive.resume();
        const Duration at = world.context.now().time_since_epoch();
        world.advance(1min);
        CHECK(world.take() == std::vector<Duration>{at + 200ms});
        CHECK(*world.dead_at == at + 200ms + 3s);
    }
}

TEST_CASE("Keepalive: an answer across a suspension is no sample") {
    KeepaliveWorld world;
    world.online();
    world.advance(26s);
    world.keepalive.suspend();
    world.advance(1h);
    world.keepalive.resume();
    world.keepalive.on_beat_answered({});
    CHECK_FALSE(world.keepalive.round_trip().has_sample());
}

TEST_CASE("Keepalive: a session that begins while suspended waits for the resume") {
    KeepaliveWorld world;
    world.keepalive.suspend();
    world.online();
    world.advance(1h);
    CHECK(world.take().empty());
    world.keepalive.resume();
    world.advance(1s);
    CHECK(world.take().size() == 1);
}

TEST_CASE("Keepalive: a resume of what was not suspended changes nothing") {
    KeepaliveWorld world;
    world.keepalive.resume();
    world.online();
    world.keepalive.resume();
    world.advance(24s);
    CHECK(world.take().empty());
}

// ---- options and inputs ----

TEST_CASE("Keepalive: every state takes every input, suspended or not") {
    using Input = std::function<void(KeepaliveDaemon&, TimePoint)>;
    const std::pair<const char*, Input> inputs[] = {
        {"on_online", [](KeepaliveDaemon& k, TimePoint) { k.on_online(5s); }},
        {"on_offline", [](KeepaliveDaemon& k, TimePoint) { k.on_offline(); }},
        {"on_inbound", [](KeepaliveDaemon& k, TimePoint) { k.on_inbound(); }},
        {"on_beat_answered", [](KeepaliveDaemon& k, TimePoint) { k.on_beat_answered(1); }},
        {"answered plain", [](KeepaliveDaemon& k, TimePoint) { k.on_beat_answered({}); }},
        {"outstanding", [](KeepaliveDaemon& k, TimePoint now) { k.on_outstanding(1, now); }},
        {"long outstanding", [](KeepaliveDaemon& k, TimePoint) { k.on_outstanding(2, {}); }},
        {"none outstanding", [](KeepaliveDaemon& k, TimePoint) { k.on_outstanding({}, {}); }},
        {"on_round_trip", [](KeepaliveDaemon& k, TimePoint) { k.on_round_trip(1s); }},
        {"negative sample", [](KeepaliveDaemon& k, TimePoint) { k.on_round_trip(-1s); }},
        {"probe_now", [](KeepaliveDaemon& k, TimePoint) { k.probe_now(); }},
        {"suspend", [](KeepaliveDaemon& k, TimePoint) { k.suspend(); }},
        {"resume", [](KeepaliveDaemon& k, TimePoint) { k.resume(); }},
    };
    for (const bool is_suspended : {false, true}) {
        for (const KeepaliveState state :
             {KeepaliveState::kOffline, KeepaliveState::kListening, KeepaliveState::kProbing}) {
            for (const auto& row : inputs) {
                const auto& name = row.first;
                const auto& input = row.second;
                CAPTURE(name);
                CAPTURE(static_cast<int>(state));
                KeepaliveWorld world;
                world.context.advance(1min);
                if (state != KeepaliveState::kOffline) world.online();
                if (state == KeepaliveState::kProbing) world.keepalive.probe_now();
                if (is_suspended) world.keepalive.suspend();
                REQUIRE(world.state() == state);
                for (int i = 0; i < 2; ++i) {
                    input(world.keepalive, world.context.now());
                    CHECK(world.keepalive.is_consistent());
                }
                const std::string is = name;
                if (is == "on_online") {
                    CHECK(world.state() == KeepaliveState::kListening);
                } else if (state == KeepaliveState::kOffline || is == "on_offline") {
                    CHECK(world.state() == KeepaliveState::kOffline);
                } else {
                    CHECK(world.state() != KeepaliveState::kOffline);
                }
                world.advance(1min);
                CHECK(world.keepalive.is_consistent());
            }
        }
    }
}

TEST_CASE("Keepalive: ten thousand random inputs leave it consistent") {
    KeepaliveWorld world;
    std::mt19937_64 random(5);
    bool is_good = true;
    for (int i = 0; i < 10'000; ++i) {
        KeepaliveDaemon& k = world.keepalive;
        const TimePoint now = world.context.now();
        const Position position = random() % 3;
        switch (random() % 12) {
            case 0: k.on_online(Duration(random() % 30'000'000'000)); break;
            case 1:
                if (random() % 4 == 0) k.on_offline();
                break;
            case 2: k.on_inbound(); break;
            case 3: k.on_beat_answered(position); break;
            case 4: k.on_outstanding(position, now - Duration(random() % 9'000'000'000)); break;
            case 5: k.on_outstanding({}, {}); break;
            case 6: k.on_round_trip(Duration(random() % 9'000'000'000)); break;
            case 7: k.probe_now(); break;
            case 8: k.suspend(); break;
            case 9: k.resume(); break;
            case 10: world.context.advance(Duration(random() % 9'000'000'000)); break;
            default: world.context.pause(Duration(random() % 9'000'000'000)); break;
        }
        is_good = is_good && k.is_consistent();
    }
    CHECK(is_good);
    CHECK(world.beats.size() > 100);
}

TEST_CASE("Keepalive: intervals at zero, one and the most") {
    const std::pair<Duration, Duration> cases[] = {
        {-1s, 25s}, {0s, 25s}, {1ns, 100ms}, {100ms, 100ms}, {1h, 1h}};
    for (const auto& row : cases) {
        const auto& interval = row.first;
        const auto& expected = row.second;
        CAPTURE(interval.count());
        KeepaliveWorld world;
        world.answers_after = 0s;
        world.online(interval);
        world.advance(2 * expected);
        CHECK(world.take() == std::vector<Duration>{expected, 2 * expected});
    }
    KeepaliveWorld never;
    never.online(Duration::max());
    never.context.advance(24h * 365);
    CHECK(never.take().empty());
    CHECK(never.keepalive.is_consistent());
}

TEST_CASE("Keepalive: no option makes it beat in a loop") {
    KeepaliveDaemon::Options options;
    options.interval = 0s;
    options.interval_min = 0s;
    options.round_trip = {0s, 0s};
    KeepaliveWorld world(options);
    world.answers_after = 0s;
    world.answered_rx = 0;
    world.online(0s);
    world.keepalive.on_outstanding(1, TimePoint{});
    world.advance(1s);
    CHECK(world.take().size() <= 201);
    CHECK_FALSE(world.is_dead());
}

TEST_CASE("Keepalive: patience and lateness at zero, one and the most") {
    for (const Duration time : {Duration(-1), Duration(0), Duration(1), Duration::max()}) {
        CAPTURE(time.count());
        KeepaliveWorld patient(plain(time, false));
        patient.online(20s);
        patient.advance(21s);
        CHECK(patient.is_dead() == (time < 1s));
        KeepaliveWorld since(plain(time, true));
        since.online(20s);
        since.advance(24s);
        CHECK(since.is_dead() == (time < 1s));

        KeepaliveDaemon::Options options;
        options.late = {time, 200ms};
        KeepaliveWorld late(options);
        late.online();
        late.advance(28s);
        CHECK(late.is_dead());

        options.late = {1s, time};
        KeepaliveWorld grace(options);
        grace.online();
        grace.advance(28s + 1ns);
        CHECK(grace.is_dead() == (time < 1s));
    }
}
