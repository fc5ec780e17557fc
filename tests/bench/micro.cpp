// What the pieces of the engine cost, with Google Benchmark: times by the CPU's clock, bytes by
// counting what operator new hands out. Run it on an idle machine:
//
//   ninja -C build/release tests/bench/micro && build/release/tests/bench/micro

#include <benchmark/benchmark.h>
#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "daemons/qos_receive.hpp"
#include "daemons/qos_send.hpp"
#include "protocol/codec.hpp"

// ---- bytes in use ----

namespace {

std::size_t bytes_in_use = 0;  // This program has one thread.

void* count_new(std::size_t size) {
    void* const memory = std::malloc(size);
    if (memory == nullptr) std::abort();
    bytes_in_use += malloc_usable_size(memory);
    return memory;
}
void count_delete(void* memory) noexcept {
    if (memory == nullptr) return;
    bytes_in_use -= malloc_usable_size(memory);
    std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) { return count_new(size); }
void* operator new[](std::size_t size) { return count_new(size); }
void operator delete(void* memory) noexcept { count_delete(memory); }
void operator delete[](void* memory) noexcept { count_delete(memory); }
void operator delete(void* memory, std::size_t) noexcept { count_delete(memory); }
void operator delete[](void* memory, std::size_t) noexcept { count_delete(memory); }

namespace petrel {
namespace {

// A worker's world that throws away what is sent.
class Nowhere final : public DaemonContext {
public:
    void send(const Packet&) override {}
    void send(const Data&) override {}
    TimerQueue& timers() override { return timers_; }
    std::uint64_t random(std::uint64_t low, std::uint64_t) override { return low; }
    void log(LogLevel, std::string_view) override {}

private:
    TimerQueue timers_{TimePoint{}};
};

class NoOutcome final : public QosSendDaemon::Listener {
public:
    void on_accepted(const QosSendDaemon::Settled&, const Acceptance*) override {}
    void on_rejected(const QosSendDaemon::Settled&, int) override {}
    void on_expired(const QosSendDaemon::Settled&) override {}
    void on_lost(const QosSendDaemon::Settled&) override {}
    void on_late_ack(const Fingerprint&) override {}
    void on_peer_lost_accepted(Position, Position) override {}
    void on_new_stream_wanted() override {}
    void on_outstanding_changed() override {}
    void on_round_trip(Duration) override {}
};

class NoAck final : public QosReceiveDaemon::Listener {
public:
    void on_ack_due(const QosReceiveDaemon::AckDue&) override {}
    void on_ack_due(std::string_view, const Fingerprint&) override {}
};

// A type 2 as a client sends it: some 250 bytes in all.
Data message(UuidSource& fingerprints, std::size_t text_bytes = 130) {
    Data data;
    data.to = "bob";
    data.fp = fingerprints.next();
    data.qos = true;
    data.typeu = kTypeuSingle;
    data.text.assign(text_bytes, 'x');
    data.seq = 4711;
    return data;
}

// ---- protocol ----

void codec_encode(benchmark::State& state) {
    UuidSource fingerprints;
    const Data data = message(fingerprints);
    std::string out;
    for (auto _ : state) {
        out.clear();
        encode(data, ProfileId::kPetrelV1, Side::kClient, out);
        benchmark::DoNotOptimize(out.data());
    }
    state.counters["bytes"] = static_cast<double>(out.size());
}
BENCHMARK(codec_encode);

void codec_decode(benchmark::State& state) {
    UuidSource fingerprints;
    std::string text;
    encode(message(fingerprints), ProfileId::kPetrelV1, Side::kClient, text);
    for (auto _ : state) {
        auto decoded = decode(text, ProfileId::kPetrelV1);
        if (!decoded) state.SkipWithError("not decoded");
        benchmark::DoNotOptimize(decoded);
    }
    state.counters["bytes"] = static_cast<double>(text.size());
}
BENCHMARK(codec_decode);

void codec_decode_ack_of_16(benchmark::State& state) {
    Ack ack;
    ack.h = 123'456;
    for (Position i = 0; i < 16; ++i) ack.acc.push_back({i + 1, 1'764'000'000'000, 123'441 + i});
    std::string text;
    encode(ack, ProfileId::kPetrelV1, Side::kServer, text);
    for (auto _ : state) benchmark::DoNotOptimize(decode(text, ProfileId::kPetrelV1));
}
BENCHMARK(codec_decode_ack_of_16);

void fingerprint_make(benchmark::State& state) {
    UuidSource fingerprints;
    for (auto _ : state) benchmark::DoNotOptimize(fingerprints.next());
}
BENCHMARK(fingerprint_make);

void fingerprint_print_and_parse(benchmark::State& state) {
    UuidSource fingerprints;
    const Fingerprint fp = fingerprints.next();
    for (auto _ : state) benchmark::DoNotOptimize(Fingerprint::parse(fp.to_string()));
}
BENCHMARK(fingerprint_print_and_parse);

// ---- the pending table ----

constexpr std::size_t kTextBytes = 200;

// Seconds of this thread on the CPU, so that messages can be made between the measurements.
double cpu_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// What a message's recipient and text alone take, as one block.
double body_bytes(const Data& data) {
    void* const block = std::malloc(data.to.size() + data.text.size());
    const auto bytes = static_cast<double>(malloc_usable_size(block));
    std::free(block);
    return bytes;
}

struct Pending {
    explicit Pending(std::size_t total)
        : count(total), bytes_before(bytes_in_use), daemon(context, listener, options(total)) {}
    static QosSendDaemon::Options options(std::size_t count) {
        QosSendDaemon::Options options;
        options.kept_max = count;
        options.kept_bytes_max = SIZE_MAX / 2;
        options.window_packets_max = count;
        options.window_bytes_max = SIZE_MAX / 2;
        return options;
    }
    // Seconds that submit() took for all of them. `is_fresh`: their fingerprints are the engine's.
    double submit_all(bool is_fresh = true) {
        double seconds = 0;
        for (std::size_t done = 0; done < count;) {
            std::vector<Data> some;
            for (; some.size() < 1000 && done < count; ++done) {
                some.push_back(message(fingerprints, kTextBytes));
                some.back().seq = 0;  // It gets its position when it leaves.
                bodies += body_bytes(some.back());
            }
            const double started = cpu_seconds();
            for (Data& data : some) {
                const TimePoint expiry(std::chrono::hours{12});
                if (daemon.submit(std::move(data), expiry, 0, std::nullopt, is_fresh)) {
                    std::abort();
                }
            }
            seconds += cpu_seconds() - started;
        }
        return seconds;
    }
    void go_online() {
        QosSendDaemon::Resume resume;
        resume.window = count;
        resume.window_bytes = SIZE_MAX / 2;
        daemon.on_online(resume);
    }
    // Beside the bodies.
    double bytes_each() const {
        const auto bytes = static_cast<double>(bytes_in_use - bytes_before);
        return (bytes - bodies) / static_cast<double>(count);
    }

    const std::size_t count;
    const std::size_t bytes_before;
    double bodies = 0;
    Nowhere context;
    NoOutcome listener;
    UuidSource fingerprints;
    QosSendDaemon daemon;
};

void per_message(benchmark::State& state) {
    state.counters["each"] = benchmark::Counter(
        static_cast<double>(state.range(0)),
        benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void measure_add(benchmark::State& state, bool is_fresh) {
    double bytes = 0;
    for (auto _ : state) {
        Pending pending(static_cast<std::size_t>(state.range(0)));
        state.SetIterationTime(pending.submit_all(is_fresh));
        bytes = pending.bytes_each();
    }
    per_message(state);
    state.counters["bytes_each"] = bytes;
}

// Targets, a million pending: 250 ns to add, 64 bytes each beside the body.
void pending_add(benchmark::State& state) { measure_add(state, true); }
BENCHMARK(pending_add)
    ->RangeMultiplier(10)
    ->Range(1'000, 1'000'000)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

// The same by an app that gives fingerprints of its own: each is looked for first.
void pending_add_named(benchmark::State& state) { measure_add(state, false); }
BENCHMARK(pending_add_named)
    ->RangeMultiplier(10)
    ->Range(1'000, 1'000'000)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

// Cumulative acks of 16, as the other end sends them, of messages that are all in flight. Target, a
// million pending: 150 ns to ack. The bytes are those of messages in flight: at most a window.
void pending_ack(benchmark::State& state) {
    const auto count = static_cast<std::size_t>(state.range(0));
    double bytes = 0;
    for (auto _ : state) {
        Pending pending(count);
        pending.submit_all();
        pending.go_online();
        bytes = pending.bytes_each();
        const double started = cpu_seconds();
        for (Position h = 16; h < count + 16; h += 16) {
            if (!pending.daemon.on_ack(std::min<Position>(h, count), {})) std::abort();
        }
        state.SetIterationTime(cpu_seconds() - started);
    }
    per_message(state);
    state.counters["bytes_each"] = bytes;
}
BENCHMARK(pending_ack)
    ->RangeMultiplier(10)
    ->Range(1'000, 1'000'000)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

// A million wait and 64 are in flight: each message costs its ack, and the next one's leaving.
void pending_flow(benchmark::State& state) {
    const auto count = static_cast<std::size_t>(state.range(0));
    for (auto _ : state) {
        Pending pending(count);
        pending.submit_all();
        QosSendDaemon::Resume resume;
        pending.daemon.on_online(resume);
        const double started = cpu_seconds();
        for (Position h = 16; h < count + 16; h += 16) {
            if (!pending.daemon.on_ack(std::min<Position>(h, count), {})) std::abort();
        }
        state.SetIterationTime(cpu_seconds() - started);
    }
    per_message(state);
}
BENCHMARK(pending_flow)->Arg(1'000'000)->UseManualTime()->Unit(benchmark::kMillisecond);

// ---- the dedup table of plain profiles ----

// A message comes, and is handled: two looks at the table. Target, a million remembered: 40 bytes.
void dedup_add_and_find(benchmark::State& state) {
    const auto count = static_cast<std::size_t>(state.range(0));
    UuidSource fingerprints;
    std::vector<Fingerprint> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(fingerprints.next());
    double bytes = 0;
    for (auto _ : state) {
        state.PauseTiming();
        Nowhere context;
        NoAck listener;
        QosReceiveDaemon::Options options;
        options.dedup_entries_max = count;
        auto daemon = std::make_unique<QosReceiveDaemon>(context, listener, options);
        const std::size_t before = bytes_in_use;
        state.ResumeTiming();
        for (const Fingerprint& fp : all) {
            daemon->on_data("alice", fp);
            daemon->on_handled("alice", fp);
        }
        state.PauseTiming();
        bytes = static_cast<double>(bytes_in_use - before) / static_cast<double>(count);
        daemon.reset();
        state.ResumeTiming();
    }
    per_message(state);
    state.counters["bytes_each"] = bytes;
}
BENCHMARK(dedup_add_and_find)
    ->RangeMultiplier(10)
    ->Range(1'000, 1'000'000)
    ->Unit(benchmark::kMillisecond);

// ---- timers ----

void timer_restart(benchmark::State& state) {
    TimerQueue queue{TimePoint{}};
    std::vector<std::unique_ptr<Timer>> timers;
    for (std::int64_t i = 0; i < state.range(0); ++i) {
        timers.push_back(std::make_unique<Timer>(queue, "bench", [] {}));
        timers.back()->start(std::chrono::seconds{25});
    }
    std::size_t next = 0;
    for (auto _ : state) {
        timers[next]->start(std::chrono::seconds{25} + std::chrono::nanoseconds{next});
        next = next + 1 == timers.size() ? 0 : next + 1;
    }
}
BENCHMARK(timer_restart)->Arg(1)->Arg(10'000);

}  // namespace
}  // namespace petrel

BENCHMARK_MAIN();
