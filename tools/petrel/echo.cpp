#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/client/client.hpp"
#include "protocol/fingerprint.hpp"
#include "tools/petrel/client_options.hpp"
#include "tools/petrel/commands.hpp"
#include "tools/petrel/duration.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/login_watch.hpp"
#include "tools/petrel/signals.hpp"

namespace petrel::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kFooter =
    "Each echo is sent after the one before was answered. One whose connection breaks, or that\n"
    "has no answer within --timeout, is lost: the protocol does not repeat echoes.\n"
    "\n"
    "Exit status: 0 all answered; 1 one was not; 3 never online within --timeout; 4 refused.\n"
    "\n"
    "Examples:\n"
    "  petrel echo --url ws://127.0.0.1:9600/ws\n"
    "  petrel echo --url ws://127.0.0.1:9600/ws --count 1000 --interval 0s --size 1000 --json";

struct EchoCommand {
    ClientCommand client;
    std::uint64_t count = 10;
    std::size_t size = 32;
    std::chrono::nanoseconds interval = std::chrono::milliseconds{200};
};

// The percentiles' memory; of a longer run the last so many count.
constexpr std::size_t kSamplesMax = 1'000'000;

class Echoing {
public:
    explicit Echoing(const EchoCommand& command)
        : command_(command), text_(command.size, '.'), started_(Clock::now()) {}

    ExitStatus run() {
        StopSignals signals([this] {
            const std::lock_guard<std::mutex> lock(mutex_);
            is_stopped_ = true;
            changed_.notify_all();
        });
        Runtime runtime;
        ClientOptions options = make_client_options(command_.client, fresh_device());
        if (options.engine.user.empty()) {
            options.engine.user = "echo-" + UuidSource().next().to_string();
        }
        options.engine.window = 0;  // It takes no messages.
        options.on_event = [this](const Event& event) { on_event(event); };
        Client client(runtime, std::move(options));
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            client_ = &client;
        }
        client.login();
        while (wait_until_due()) {
            echo(client);
        }
        const ExitStatus status = finish();
        client.logout(false);
        return status;
    }

private:
    // Until online and the interval is over; false when that is the end.
    bool wait_until_due() {
        std::unique_lock<std::mutex> lock(mutex_);
        const auto offline_since = Clock::now();
        for (;;) {
            if (is_stopped_ || watch_.end()) return false;
            if (command_.count != 0 && sent_ >= command_.count) return false;
            const auto now = Clock::now();
            if (watch_.is_online() && now >= due_at_) return true;
            if (!watch_.is_online()) {
                const auto since = watch_.was_ever_online() ? offline_since : started_;
                if (now - since > command_.client.timeout) {
                    is_given_up_ = true;
                    return false;
                }
            }
            const auto patience =
                watch_.is_online() ? due_at_ - now : Clock::duration(std::chrono::milliseconds{50});
            changed_.wait_for(lock, patience);
        }
    }

    void echo(Client& client) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++sent_;
        is_answered_ = false;
        is_waiting_ = true;
        const auto sent_at = Clock::now();
        due_at_ = sent_at + command_.interval;
        lock.unlock();
        const std::error_code error = client.echo(text_);
        lock.lock();
        const auto is_over = [this] {
            return is_answered_ || is_stopped_ || watch_.end() || !watch_.is_online();
        };
        if (!error) changed_.wait_until(lock, sent_at + command_.client.timeout, is_over);
        is_waiting_ = false;
        if (is_answered_) return;
        if (is_stopped_) {
            --sent_;  // Nobody waits for it any more.
            return;
        }
        const std::string why = error                ? error.message()
                                : watch_.is_online() ? "no answer"
                                                     : "the connection broke";
        if (command_.client.common.is_json) {
            JsonLine("lost").number("number", sent_).text("reason", why).print();
        } else {
            print_text("lost: " + why);
        }
    }

    void on_event(const Event& event) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (renew_token(tokens_, client_, event)) return;
        watch_.on_event(event);
        if (const auto* echo = std::get_if<EchoEvent>(&event); echo != nullptr && is_waiting_) {
            const double ms = std::chrono::duration<double, std::milli>(echo->round_trip).count();
            if (samples_.size() < kSamplesMax) {
                samples_.push_back(ms);
            } else {
                samples_[received_ % kSamplesMax] = ms;
            }
            ++received_;
            is_answered_ = true;
            report(ms);
        }
        changed_.notify_all();
    }

    void report(double ms) const {
        if (command_.client.common.is_json) {
            JsonLine("echo").real("ms", ms).print();
        } else {
            print_text(std::to_string(text_.size()) + " bytes: " + format_ms(ms));
        }
    }

    ExitStatus finish() {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::sort(samples_.begin(), samples_.end());
        double sum = 0;
        for (const double sample : samples_) sum += sample;
        std::optional<double> min, avg, p99, max;
        if (!samples_.empty()) {
            min = samples_.front();
            avg = sum / static_cast<double>(samples_.size());
            p99 = samples_[(samples_.size() * 99 + 99) / 100 - 1];  // The nearest rank.
            max = samples_.back();
        }
        if (command_.client.common.is_json) {
            JsonLine("summary")
                .number("sent", sent_)
                .number("received", received_)
                .real("min", min)
                .real("avg", avg)
                .real("p99", p99)
                .real("max", max)
                .print();
        } else {
            std::string text =
                std::to_string(sent_) + " sent, " + std::to_string(received_) + " answered";
            if (min) {
                text += "; min/avg/p99/max " + format_ms(*min) + " / " + format_ms(*avg) + " / " +
                        format_ms(*p99) + " / " + format_ms(*max);
            }
            print_text(text);
        }
        if (watch_.end()) {
            log(LogLevel::kError, watch_.reason());
            return *watch_.end();
        }
        if (!watch_.was_ever_online() && !is_stopped_) {
            log(LogLevel::kError, watch_.never_online_text(command_.client.url));
            return ExitStatus::kNeverOnline;
        }
        return received_ < sent_ || is_given_up_ ? ExitStatus::kFailed : ExitStatus::kDone;
    }

    static std::string format_ms(double ms) {
        char text[40];
        std::snprintf(text, sizeof text, "%.3f ms", ms);
        return text;
    }

    const EchoCommand& command_;
    const std::string text_;
    const Clock::time_point started_;
    std::mutex mutex_;  // Guards everything below.
    std::condition_variable changed_;
    Client* client_ = nullptr;
    TokenSource tokens_{command_.client.token_file, command_.client.token};
    LoginWatch watch_;
    Clock::time_point due_at_{};
    std::vector<double> samples_;  // ms
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
    bool is_waiting_ = false;
    bool is_answered_ = false;
    bool is_stopped_ = false;
    bool is_given_up_ = false;  // Offline for too long.
};

}  // namespace

void add_echo(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<EchoCommand>();
    CLI::App* const app = root.add_subcommand("echo", "Round trips to the gateway, like ping");
    app->footer(kFooter);
    add_client_options(*app, command->client, false);
    app->add_option("--count", command->count, "End after so many; 0: at Ctrl-C")
        ->capture_default_str();
    app->add_option("--size", command->size, "Bytes of an echo")
        ->check(CLI::Range(std::size_t{0}, std::size_t{65'536}))
        ->capture_default_str();
    add_duration(*app, "--interval", command->interval, "From one echo to the next, at least",
                 {std::chrono::nanoseconds{0}, std::chrono::hours{24}});
    app->callback([command, &exit] { exit = Echoing(*command).run(); });
}

}  // namespace petrel::tools
