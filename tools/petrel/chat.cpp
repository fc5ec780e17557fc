#include <CLI/CLI.hpp>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "core/client/client.hpp"
#include "protocol/conversation.hpp"
#include "tools/petrel/client_options.hpp"
#include "tools/petrel/commands.hpp"
#include "tools/petrel/event_lines.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/line_reader.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/login_watch.hpp"
#include "tools/petrel/open_messages.hpp"
#include "tools/petrel/signals.hpp"

namespace petrel::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kFooter =
    "Each line typed is a message. What is shown of it, by its number:\n"
    "  #1 sent        given to the gateway (or waiting, while there is no connection)\n"
    "  #1 accepted    the gateway's store has it durably\n"
    "  #1 delivered   a device of the other one has handled it (petrel.v1)\n"
    "What others write appears as it comes. /quit or Ctrl-D waits for what is still open and\n"
    "ends; Ctrl-C ends at once.\n"
    "\n"
    "Exit status: 0 all accepted; 1 one was not; 3 never online within --timeout; 4 refused.\n"
    "\n"
    "Examples:\n"
    "  petrel chat --url ws://127.0.0.1:9600/ws --user alice --to bob\n"
    "  petrel chat --url ws://127.0.0.1:9600/ws --user bob --to alice --json";

constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;
// Accepted ones that wait for "delivered"; of older ones it is not told.
constexpr std::size_t kUndeliveredMax = 10'000;

struct ChatCommand {
    ClientCommand client;
    std::string to;
};

// The main thread reads what is typed, the engine's thread reports.
class Chat {
public:
    explicit Chat(const ChatCommand& command)
        : command_(command),
          device_(command.client.device.empty() ? "chat" : command.client.device),
          conversation_(conversation_of_users(command.client.user, command.to)),
          is_json_(command.client.common.is_json),
          is_terminal_(!is_json_ && isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0),
          lines_(command.client, device_),
          started_(Clock::now()) {}

    ExitStatus run() {
        StopSignals signals([this] {
            const std::lock_guard<std::mutex> lock(mutex_);
            is_stopped_ = true;
            changed_.notify_all();
        });
        Runtime runtime;
        ClientOptions options = make_client_options(command_.client, device_);
        options.on_event = [this](const Event& event) { on_event(event); };
        Client client(runtime, std::move(options));
        client_ = &client;
        client.login();
        if (is_terminal_) {
            say("You are " + command_.client.user + ", writing to " + command_.to +
                ". /quit or Ctrl-D ends it.");
        }
        read_all(signals.descriptor());
        wait_for_outcomes();
        const ExitStatus status = finish();
        client.logout(false);
        return status;
    }

private:
    struct Undelivered {
        std::uint64_t number = 0;
        std::uint64_t cseq = 0;  // 0: not told, as after a reconnect.
    };

    void read_all(int stop_descriptor) {
        LineReader reader(STDIN_FILENO, kLineBytesMax);
        std::string line;
        while (wait_for_room()) {
            switch (reader.next(line, 200, stop_descriptor)) {
                case LineReader::Status::kLine:
                    if (line == "/quit") return;
                    if (!line.empty()) submit(std::move(line));
                    break;
                case LineReader::Status::kTimeout: break;
                case LineReader::Status::kTooLong: {
                    log(LogLevel::kError, "a line of over 1 MiB was not sent");
                    const std::lock_guard<std::mutex> lock(mutex_);
                    ++totals_.rejected;
                    break;
                }
                case LineReader::Status::kStopped:
                case LineReader::Status::kEnd: return;
            }
        }
    }

    // False: it is over, for whatever reason.
    bool wait_for_room() {
        std::unique_lock<std::mutex> lock(mutex_);
        while (!is_over()) {
            if (open_.has_room()) return true;
            changed_.wait_for(lock, std::chrono::milliseconds{100});
        }
        return false;
    }

    void wait_for_outcomes() {
        std::unique_lock<std::mutex> lock(mutex_);
        progress_at_ = Clock::now();
        while ((!open_.empty() || submitting_ > 0 || !watch_.was_ever_online()) && !is_over()) {
            if (Clock::now() - progress_at_ > command_.client.timeout) return;
            changed_.wait_for(lock, std::chrono::milliseconds{100});
        }
    }

    // With the lock held.
    bool is_over() const {
        if (is_stopped_ || watch_.end()) return true;
        return !watch_.was_ever_online() && Clock::now() - started_ > command_.client.timeout;
    }

    void submit(std::string text) {
        SendRequest request;
        request.to = command_.to;
        request.fp = fingerprints_.next();
        const Fingerprint fp = request.fp;
        std::uint64_t number = 0;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            ++submitting_;
            number = open_.add(fp, request.to, text.size());
        }
        request.text = std::move(text);
        client_->send_async(std::move(request),
                            [this, fp, number](const Result<Fingerprint>& taken) {
                                on_queued(fp, number, taken.error());
                            });
    }

    // ---- on the engine's thread ----

    void on_queued(const Fingerprint& fp, std::uint64_t number, std::error_code error) {
        const std::lock_guard<std::mutex> lock(mutex_);
        --submitting_;
        if (error) {
            (void)open_.take(fp);
            on_rejected(number, fp, command_.to, error.value());
        } else {
            ++totals_.sent;
            if (is_json_) {
                lines_.queued(fp, command_.to, true);
            } else {
                tell(number, watch_.is_online() ? "sent" : "waits for a connection");
            }
        }
        changed_.notify_all();
    }

    void on_event(const Event& event) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (renew_token(tokens_, client_, event)) return;
        const bool was_online = watch_.is_online();
        watch_.on_event(event);
        if (watch_.is_online() != was_online) on_online_changed();
        if (const auto* message = std::get_if<MessageEvent>(&event)) {
            on_message(*message);
        } else if (const auto* outcome = std::get_if<OutcomeEvent>(&event)) {
            on_outcome(*outcome);
        } else if (const auto* receipt = std::get_if<DeliveredEvent>(&event)) {
            on_delivered(*receipt);
        } else if (const auto* gap = std::get_if<BreakEvent>(&event)) {
            on_break(*gap);
        }
        changed_.notify_all();
    }

    void on_online_changed() {
        const bool is_online = watch_.is_online();
        if (is_json_) {
            if (is_online) {
                lines_.online();
            } else {
                lines_.offline(watch_.reason());
            }
        } else if (is_terminal_ && !is_finished_) {
            say(is_online ? "-- online --" : "-- offline: " + watch_.reason() + " --", true);
        }
    }

    void on_message(const MessageEvent& message) {
        if (is_json_) {
            lines_.message(message);
        } else {
            say(message.from + ": " + message.text);
        }
    }

    void on_break(const BreakEvent& gap) {
        if (gap.side != BreakEvent::Side::kInbox) return;
        if (is_json_) {
            lines_.inbox_break(gap);
        } else {
            say("-- messages may be missing here: the gateway no longer has them --");
        }
    }

    void on_outcome(const OutcomeEvent& event) {
        const OutcomeRecord& record = event.record;
        progress_at_ = Clock::now();
        const auto open = open_.take(record.fp);
        const std::uint64_t number = open ? open->number : 0;
        switch (record.outcome) {
            case Outcome::kAccepted:
                if (event.is_correction) --totals_.lost;
                ++totals_.accepted;
                on_accepted(event, open);
                return;
            case Outcome::kRejected: on_rejected(number, record.fp, record.to, record.code); return;
            case Outcome::kExpired:
                ++totals_.expired;
                on_given_up("expired", number, record.fp, record.to, record.attempts);
                return;
            case Outcome::kLost:
            case Outcome::kUnknown:
            case Outcome::kCancelled:
                if (is_finished_) return;  // Our own logout: told already.
                ++totals_.lost;
                on_given_up("lost", number, record.fp, record.to, record.attempts);
                return;
        }
    }

    void on_accepted(const OutcomeEvent& event, const std::optional<OpenMessages::Open>& open) {
        const OutcomeRecord& record = event.record;
        if (is_json_) {
            lines_.accepted(record, open ? std::optional(open->age_ms()) : std::nullopt,
                            event.is_correction);
            return;
        }
        if (!open) return;
        tell(open->number, "accepted");
        // To oneself there is no other side to deliver to.
        if (command_.to == command_.client.user) return;
        undelivered_.push_back({open->number, record.cseq.value_or(0)});
        if (undelivered_.size() > kUndeliveredMax) undelivered_.pop_front();
        tell_delivered();  // The receipt may have come first.
    }

    void on_delivered(const DeliveredEvent& receipt) {
        if (is_json_) {
            lines_.delivered(receipt);
            return;
        }
        if (receipt.conv != conversation_ || receipt.user != command_.to) return;
        delivered_ = std::max(delivered_, receipt.delivered);
        tell_delivered();
    }

    // A conversation is handed over in order: what is before a delivered one is delivered too.
    void tell_delivered() {
        std::size_t count = 0;
        for (std::size_t i = 0; i < undelivered_.size(); ++i) {
            const std::uint64_t cseq = undelivered_[i].cseq;
            if (cseq != 0 && cseq <= delivered_) count = i + 1;
        }
        for (; count > 0; --count) {
            tell(undelivered_.front().number, "delivered");
            undelivered_.pop_front();
        }
    }

    void on_rejected(std::uint64_t number, const Fingerprint& fp, const std::string& to, int code) {
        ++totals_.rejected;
        if (is_json_) {
            lines_.rejected(fp, to, code);
        } else {
            tell(number, "rejected (" + std::to_string(code) + "): " + std::string(describe(code)));
        }
    }

    void on_given_up(std::string_view event, std::uint64_t number, const Fingerprint& fp,
                     const std::string& to, std::optional<unsigned> attempts) {
        if (is_json_) {
            lines_.given_up(event, fp, to, attempts);
        } else {
            tell(number, event);
        }
    }

    // ----

    ExitStatus finish() {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_finished_ = true;
        for (const auto& [fp, open] : open_.in_order()) {
            ++totals_.lost;
            on_given_up("lost", open.number, fp, open.to, std::nullopt);
        }
        if (is_json_) totals_.print_json();
        if (watch_.end()) {
            log(LogLevel::kError, watch_.reason());
            return *watch_.end();
        }
        if (!watch_.was_ever_online() && !is_stopped_) {
            log(LogLevel::kError, watch_.never_online_text(command_.client.url));
            return ExitStatus::kNeverOnline;
        }
        return totals_.has_failed() ? ExitStatus::kFailed : ExitStatus::kDone;
    }

    void tell(std::uint64_t number, std::string_view what) const {
        say("#" + std::to_string(number) + " " + std::string(what), true);
    }

    void say(const std::string& text, bool is_dim = false) const {
        if (is_terminal_ && is_dim) {
            print_text("\033[2m" + printable(text) + "\033[0m");
        } else {
            print_text(printable(text));
        }
    }

    const ChatCommand& command_;
    const std::string device_;
    const std::string conversation_;
    const bool is_json_;
    const bool is_terminal_;
    const EventLines lines_;
    const Clock::time_point started_;
    Client* client_ = nullptr;
    UuidSource fingerprints_;  // Main thread.
    std::mutex mutex_;         // Guards everything below.
    std::condition_variable changed_;
    TokenSource tokens_{command_.client.token_file, command_.client.token};
    LoginWatch watch_;
    OpenMessages open_;
    std::deque<Undelivered> undelivered_;  // Accepted, in the order of sending.
    std::uint64_t delivered_ = 0;          // Highest cseq of this conversation told.
    std::size_t submitting_ = 0;           // Not yet in the outbox.
    Clock::time_point progress_at_;
    SendTotals totals_;
    bool is_stopped_ = false;
    bool is_finished_ = false;
};

}  // namespace

void add_chat(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<ChatCommand>();
    CLI::App* const app =
        root.add_subcommand("chat", "Write with somebody, and see what becomes of each message");
    app->footer(kFooter);
    add_client_options(*app, command->client);
    app->add_option("--to", command->to, "The other one's user id")->required();
    app->callback([command, &exit] { exit = Chat(*command).run(); });
}

}  // namespace petrel::tools
