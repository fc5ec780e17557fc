#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/client/client.hpp"
#include "core/client/event_signal.hpp"
#include "protocol/fingerprint.hpp"
#include "transport/event_loop.hpp"

namespace petrel {

// What a Client owns. Lives on the loop's thread, but for what is marked as shared.
//
//   kRunning -- finish() --> kLingering -- closed, linger_max --> kGone
//
// While it runs it keeps itself alive; afterwards whoever still refers to it finds it gone.
class Client::Impl final : public EngineHost, public std::enable_shared_from_this<Impl> {
public:
    Impl(Runtime& runtime, ClientOptions options);

    // ---- from any thread ----
    void start();
    void destroy();
    bool is_on_loop() const { return loop_.is_loop_thread(); }
    // Later, on the loop.
    void post(std::function<void(Engine&, TimePoint)> input);
    // On the loop: now. Else posts.
    void tell(std::function<void(Engine&, TimePoint)> input);
    // On the loop: now. Else posts and waits. `gone` when there is no engine any more.
    template <class Result, class Ask>
    Result ask(Result gone, Ask ask);
    Result<Fingerprint> send(SendRequest request);
    void send_async(SendRequest request, Engine::SendDone done);
    ClientState state() const { return state_.load(); }
    std::optional<Event> next_event(std::chrono::milliseconds timeout);
    void wake();
    int event_fd() const { return signal_ ? signal_->fd() : -1; }

    // ---- EngineHost ----
    void connect(std::uint64_t attempt, std::string_view subprotocol) override;
    void send_text(std::uint64_t attempt, std::string_view text) override;
    void disconnect(std::uint64_t attempt, std::uint16_t code, std::string_view reason) override;
    std::size_t queued_bytes() const override;
    std::size_t queued_packets() const override;
    WallMillis wall_ms() const override { return loop_.wall_ms(); }
    void log(LogLevel level, std::string_view text) override;
    void on_turn_wanted() override;

private:
    enum class Life : std::uint8_t { kRunning, kLingering, kGone };

    // One connection; its number tells the engine whose events are whose.
    class Link final : public Transport::Handler {
    public:
        Link(Impl& owner, std::uint64_t number) : owner_(owner), attempt(number) {}
        void on_open(std::string_view subprotocol) override;
        void on_text(std::string_view text) override;
        void on_binary(std::size_t size) override;
        void on_drained() override;
        void on_closed(const CloseInfo& info) override;

    private:
        Impl& owner_;

    public:
        const std::uint64_t attempt;
        std::unique_ptr<Transport> transport;
        bool is_open = false;
        bool is_retired = false;  // The engine is done with it: it only waits for its close.
        bool is_closed = false;
    };

    struct PostedSend {
        SendRequest request;
        Engine::SendDone done;
        bool is_refused = false;
    };

    // Every stay on the loop: what the app must hear, and what it asked for, waits for the
    // outermost one to end.
    template <class Work>
    void enter(Work work);
    void leave();
    template <class Work>
    void input(Work work);
    void run_posted_sends();
    void run_finished_sends();
    void schedule_turn();
    void turn();
    void deliver_logs();
    bool deliver_events();  // True if there were any.
    bool deliver_to_queue();
    void arm();
    void retire(std::unique_ptr<Link> link);
    void bury();
    bool is_lingering() const;
    void post_to_loop(std::function<void()> task);
    void finish();
    void release();
    void finish_send(Engine::SendDone&& done, Result<Fingerprint>&& result);
    void report_late_failure(const Fingerprint& fp, const std::string& to, std::error_code error);

    EventLoop& loop_;
    Connector& connector_;
    ClientOptions options_;
    std::shared_ptr<Impl> self_;  // Until kGone.

    UuidSource fingerprints_;
    std::unique_ptr<EventLoop::Alarm> alarm_;
    std::optional<TimePoint> armed_at_;
    std::unique_ptr<Engine> engine_;  // While kRunning.
    Life life_ = Life::kRunning;
    unsigned depth_ = 0;  // Of enter().
    bool is_turn_posted_ = false;
    bool is_turn_wanted_ = false;
    bool is_destroy_wanted_ = false;
    bool is_finishing_sends_ = false;
    std::unique_ptr<Link> link_;  // Of the current attempt.
    std::vector<std::unique_ptr<Link>> retired_;
    std::deque<std::pair<LogLevel, std::string>> logs_;
    std::vector<PostedSend> spare_sends_;  // Empty: room for the next posted_sends_.
    std::deque<std::pair<Engine::SendDone, Result<Fingerprint>>> finished_sends_;
    std::deque<Event> extra_events_;  // Of our own making.

    // ---- shared ----
    std::atomic<ClientState> state_{ClientState::kOffline};
    std::atomic<bool> has_posted_sends_{false};  // Set and cleared with mutex_ held.
    mutable std::mutex mutex_;  // Of all below; never held while the app is called.
    std::condition_variable changed_;
    std::vector<PostedSend> posted_sends_;
    std::shared_ptr<void> lease_;  // The runtime waits for us.
    bool is_gone_ = false;
    std::deque<Event> queue_;              // Pull.
    std::unique_ptr<EventSignal> signal_;  // Pull: set while queue_ is not empty.
    std::optional<Event> taken_;  // With the app, not yet handled: what on_event_done needs.
    std::vector<Event> done_;     // Handled, and not yet told to the engine.
    bool is_woken_ = false;
};

template <class Work>
void Client::Impl::enter(Work work) {
    const auto keep = shared_from_this();
    ++depth_;
    work();
    leave();
}

// One input of the engine. What was posted before comes before it.
template <class Work>
void Client::Impl::input(Work work) {
    enter([&] {
        if (life_ != Life::kRunning) return;
        run_posted_sends();
        is_turn_wanted_ = true;
        work(*engine_, loop_.now());
    });
}

template <class Result, class Ask>
Result Client::Impl::ask(Result gone, Ask ask) {
    if (is_on_loop()) {
        Result result = std::move(gone);
        input([&](Engine& engine, TimePoint now) { result = ask(engine, now); });
        return result;
    }
    struct Answer {
        std::mutex mutex;
        std::condition_variable is_there;
        std::optional<Result> result;
    };
    auto answer = std::make_shared<Answer>();
    post_to_loop([self = shared_from_this(), answer, ask, gone] {
        Result result = gone;
        self->input([&](Engine& engine, TimePoint now) { result = ask(engine, now); });
        {
            const std::lock_guard lock(answer->mutex);
            answer->result.emplace(std::move(result));
        }
        answer->is_there.notify_all();
    });
    std::unique_lock lock(answer->mutex);
    answer->is_there.wait(lock, [&answer] { return answer->result.has_value(); });
    return std::move(*answer->result);
}

}  // namespace petrel
