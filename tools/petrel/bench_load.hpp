#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/client/client.hpp"
#include "tools/petrel/exit_status.hpp"
#include "tools/petrel/histogram.hpp"
#include "transport/event_loop.hpp"

namespace petrel::tools {

// The clients of `petrel bench`: pairs of a sender and a receiver, and idle ones, all on one engine
// thread. Every message tells its pair, its number and when it was due, so that the receiver sees
// what is lost, doubled or out of order, and how long it took.
//
//   idle clients log in -> pairs log in -> messages -> every one accepted and received -> closed
//
// Closed loop: each sender has `window` messages unacked, and an ack brings the next. Open loop
// (`per_second`): messages are due at fixed times, whatever became of those before, and their time
// runs from when they were due: a stall counts for every message that it holds up (no coordinated
// omission).
//
// All calls from one thread.
class BenchLoad {
public:
    static constexpr std::size_t kSizeMin = 48;  // The header of a message.

    struct Options {
        std::string url;
        ProfileId profile = ProfileId::kPetrelV1;
        std::uint32_t pairs = 1;
        std::uint32_t window = 64;
        std::uint64_t messages = 100'000;  // Of all pairs together.
        std::size_t size = 200;            // Bytes of a message's text.
        double per_second = 0;             // Of all pairs together; 0: closed loop.
        std::uint32_t idle = 0;
        std::chrono::nanoseconds timeout = std::chrono::seconds{30};  // Without any progress.
    };

    struct Progress {
        std::uint64_t idle_online = 0;
        std::uint64_t accepted = 0;
        std::uint64_t received = 0;
    };

    struct Result {
        std::uint64_t sent = 0, accepted = 0, not_accepted = 0;
        std::uint64_t received = 0, lost = 0, doubled = 0, disordered = 0;
        std::chrono::nanoseconds took{0};  // From the first send to the last outcome and message.
        Histogram to_accepted;             // Nanoseconds from due to the sender's ack...
        Histogram to_received;             // ...and to the receiver's callback.
        // Nobody is lost, doubled or out of order, and all were accepted.
        bool is_clean() const {
            return not_accepted == 0 && lost == 0 && doubled == 0 && disordered == 0;
        }
    };

    // `on_progress` is called every second while something is waited for.
    BenchLoad(Options options, std::function<void(const Progress&)> on_progress);
    ~BenchLoad();
    BenchLoad(const BenchLoad&) = delete;
    BenchLoad& operator=(const BenchLoad&) = delete;

    // Each returns when it is done, stopped, or has made no progress for `timeout`; nullopt means
    // done, and else `why` says what is wrong in words.
    std::optional<ExitStatus> log_idle_in(std::string& why);
    std::optional<ExitStatus> log_pairs_in(std::string& why);
    std::optional<ExitStatus> run(Result& result, std::string& why);
    // Lets time pass with whoever is logged in.
    void rest(std::chrono::nanoseconds time);

    void stop();  // Thread-safe: what runs ends soon.
    bool is_stopped() const { return is_stopped_; }

private:
    struct Pair;

    std::unique_ptr<Client> make_client(std::string user, std::uint32_t window,
                                        std::function<void(const Event&)> on_event);
    // Waits until `is_done`; false when stopped or without progress for `timeout`.
    bool wait_for(const std::function<bool()>& is_done);
    std::optional<ExitStatus> log_in(const char* who, std::uint64_t wanted,
                                     const std::function<void(std::uint64_t)>& begin,
                                     std::string& why);
    void on_login(const Event& event);  // Of anybody.
    void on_sender(Pair& pair, const Event& event);
    void on_receiver(Pair& pair, const Event& event);
    void begin();
    void submit(Pair& pair, std::chrono::nanoseconds due);
    void submit_due();
    void finish(const Pair& pair);  // If it has everything, and all have: the end.
    void finish_all();
    void finish_if_answered();
    void end();
    std::chrono::nanoseconds now() const { return loop_.now().time_since_epoch(); }

    const Options options_;
    const std::function<void(const Progress&)> on_progress_;
    const std::string run_;  // Part of every user's name: no other run's messages.
    Runtime runtime_;
    EventLoop& loop_;
    std::vector<std::unique_ptr<Client>> idle_;
    std::vector<std::unique_ptr<Pair>> pairs_;

    // ---- on the engine thread, or before it has anything to do ----
    std::unique_ptr<EventLoop::Alarm> alarm_;  // Open loop: the next message.
    std::chrono::nanoseconds started_{0};
    std::uint64_t submitted_ = 0;
    std::string padding_;
    Result result_;
    std::size_t finished_pairs_ = 0;
    std::size_t last_answers_ = 0;  // Receivers that have nothing more coming.
    bool is_over_ = false;

    // ---- shared ----
    std::atomic<std::uint64_t> online_{0};
    std::atomic<std::uint64_t> accepted_{0};
    std::atomic<std::uint64_t> received_{0};
    std::atomic<std::uint64_t> steps_{0};  // Anything that is progress.
    std::atomic<bool> is_stopped_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_done_ = false;
    std::optional<ExitStatus> failure_;
    std::string reason_;
};

}  // namespace petrel::tools
