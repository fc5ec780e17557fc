#include <CLI/CLI.hpp>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "core/client/client.hpp"
#include "tools/petrel/client_files.hpp"
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
    "Each message ends in exactly one of accepted (the gateway's store has it durably), rejected\n"
    "(with a code), expired, lost (no outcome within --timeout). Without TEXT, each line of stdin\n"
    "is a message.\n"
    "\n"
    "With --outbox, a message survives a crash of this process once it is queued. What has no\n"
    "outcome within --timeout stays in the file (pending), and the next run with it sends that\n"
    "first; without TEXT and with an empty stdin it does only that, and needs no --to. While the\n"
    "disk is full or fails, messages are rejected (code 3) and nothing of them is kept; with\n"
    "--wait-for-disk they wait for it instead.\n"
    "\n"
    "Exit status: 0 all accepted; 1 one was not; 3 never online within --timeout; 4 refused.\n"
    "\n"
    "Examples:\n"
    "  petrel send --url ws://127.0.0.1:9600/ws --user alice --to bob \"hello\"\n"
    "  seq 1000 | petrel send --url ws://127.0.0.1:9600/ws --user alice --to bob --json";

constexpr std::chrono::seconds kQueuePatience{
    5};  // A commit of the outbox file takes milliseconds.

constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;

struct SendCommand {
    ClientCommand client;
    std::string to;
    bool is_group = false;
    bool no_qos = false;
    std::string outbox;  // "": memory.
    bool waits_for_disk = false;
    std::optional<std::string> text;
};

// Sends and waits. The main thread reads and submits, the engine's thread reports.
class Sender {
public:
    explicit Sender(const SendCommand& command)
        : command_(command),
          device_(command.client.device.empty() ? fresh_device() : command.client.device),
          lines_(command.client, device_),
          started_(Clock::now()),
          progress_at_(started_) {}

    ExitStatus run() {
        StopSignals signals([this] {
            const std::lock_guard<std::mutex> lock(mutex_);
            is_stopped_ = true;
            changed_.notify_all();
        });
        Runtime runtime;
        ClientOptions options = make_client_options(command_.client, device_);
        options.engine.window = 0;  // It takes no messages.
        options.on_event = [this](const Event& event) { on_event(event); };
        if (has_file()) {
            Outbox::Kept left;
            options.outbox = open_outbox(command_.outbox, command_.client, runtime,
                                         command_.waits_for_disk, left);
            if (!options.outbox) return ExitStatus::kFailed;
            take_over(left);
        }
        client_ = std::make_unique<Client>(runtime, std::move(options));
        client_->login();
        if (command_.text) {
            submit(*command_.text);
        } else {
            read_all(signals.descriptor());
        }
        wait_for_outcomes();
        if (!has_file()) {
            const ExitStatus status = finish();
            client_->logout(false);
            client_.reset();
            return status;
        }
        // What is still on its way has its outcome by then, or is in the file.
        wait_for_queue();
        client_->logout(true);
        client_.reset();
        return finish();
    }

private:
    bool has_file() const { return !command_.outbox.empty(); }

    // What an earlier run has left in the file is sent first, and what it may not have told is
    // told.
    void take_over(const Outbox::Kept& left) {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (const OutcomeRecord& record : left.outcomes) open_.add(record.fp, record.to, 0);
        for (const OutboxRecord& record : left.messages) {
            const Data& message = record.message;
            open_.add(message.fp, message.to, message.text.size());
            if (command_.client.common.is_json) lines_.queued(message.fp, message.to, true);
        }
        taken_over_ = left.outcomes.size() + left.messages.size();
        totals_.sent = taken_over_;
    }

    void read_all(int stop_descriptor) {
        LineReader reader(STDIN_FILENO, kLineBytesMax);
        std::string line;
        for (;;) {
            const bool is_in_time = wait_for_room();
            if (!is_in_time && !may_still_take()) return;
            switch (reader.next(line, is_in_time ? 200 : 0, stop_descriptor)) {
                case LineReader::Status::kLine:
                    if (!has_recipient()) return;
                    submit(std::move(line));
                    break;
                case LineReader::Status::kTimeout:
                    if (!is_in_time) return;
                    if (command_.to.empty() && !has_open()) return;
                    break;
                case LineReader::Status::kTooLong:
                    log(LogLevel::kError, "a line of over 1 MiB was not sent");
                    note_unsent();
                    break;
                case LineReader::Status::kStopped:
                case LineReader::Status::kEnd: return;
            }
        }
    }

    bool has_recipient() {
        if (!command_.to.empty()) return true;
        log(LogLevel::kError, "there is something to send: --to says to whom");
        is_usage_wrong_ = true;
        return false;
    }

    bool has_open() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return !open_.empty();
    }

    void note_unsent() {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++totals_.rejected;
    }

    // False: no more sending, for whatever reason.
    bool wait_for_room() {
        std::unique_lock<std::mutex> lock(mutex_);
        while (!is_over()) {
            if (open_.has_room() && (!command_.no_qos || watch_.is_online())) return true;
            changed_.wait_for(lock, std::chrono::milliseconds{100});
        }
        return false;
    }

    // Time is up, but a file keeps what standard input already holds, for the next run.
    bool may_still_take() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return has_file() && !is_stopped_ && open_.has_room();
    }

    void wait_for_outcomes() {
        std::unique_lock<std::mutex> lock(mutex_);
        while ((!open_.empty() || submitting_ > 0) && !is_over()) {
            changed_.wait_for(lock, std::chrono::milliseconds{100});
        }
    }

    // Until it is known of each message whether the file has it.
    void wait_for_queue() {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait_for(lock, kQueuePatience, [this] { return submitting_ == 0; });
    }

    // With the lock held.
    bool is_over() {
        if (is_stopped_ || watch_.end()) return true;
        const auto now = Clock::now();
        if (!watch_.was_ever_online()) {
            is_never_online_ = now - started_ > command_.client.timeout;
            return is_never_online_;
        }
        const bool is_waiting = !open_.empty() || submitting_ > 0;
        if (!is_waiting) progress_at_ = now;
        return is_waiting && now - progress_at_ > command_.client.timeout;
    }

    void submit(std::string text) {
        if (command_.no_qos && !wait_for_room()) return;
        SendRequest request;
        request.to = command_.to;
        request.typeu = command_.is_group ? kTypeuGroup : kTypeuSingle;
        request.qos = !command_.no_qos;
        request.text = std::move(text);
        request.fp = fingerprints_.next();
        const Fingerprint fp = request.fp;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            ++submitting_;
            if (request.qos) open_.add(fp, request.to, request.text.size());
        }
        client_->send_async(std::move(request), [this, fp](const Result<Fingerprint>& taken) {
            on_queued(fp, taken.error());
        });
    }

    void on_queued(const Fingerprint& fp, std::error_code error) {
        const std::lock_guard<std::mutex> lock(mutex_);
        --submitting_;
        if (error) {
            (void)open_.take(fp);
            ++totals_.rejected;
            report_rejected(fp, command_.to, error.value());
        } else {
            ++totals_.sent;
            if (command_.client.common.is_json) {
                lines_.queued(fp, command_.to, !command_.no_qos);
            }
        }
        changed_.notify_all();
    }

    void on_event(const Event& event) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (renew_token(tokens_, client_.get(), event)) return;
        if (watch_.on_event(event)) {
            log(LogLevel::kInfo, watch_.is_online() ? "online" : "offline: " + watch_.reason());
            if (watch_.is_online()) progress_at_ = Clock::now();
        }
        if (const auto* outcome = std::get_if<OutcomeEvent>(&event)) on_outcome(*outcome);
        changed_.notify_all();
    }

    void on_outcome(const OutcomeEvent& event) {
        const OutcomeRecord& record = event.record;
        progress_at_ = Clock::now();
        const auto open = open_.take(record.fp);
        switch (record.outcome) {
            case Outcome::kAccepted:
                if (event.is_correction) --totals_.lost;
                ++totals_.accepted;
                if (command_.client.common.is_json) {
                    // Of what an earlier run queued nobody knows when.
                    const bool is_timed = open && open->number > taken_over_;
                    lines_.accepted(record, is_timed ? std::optional(open->age_ms()) : std::nullopt,
                                    event.is_correction);
                } else if (command_.text) {
                    print_text("accepted");
                }
                return;
            case Outcome::kRejected:
                ++totals_.rejected;
                report_rejected(record.fp, record.to, record.code);
                return;
            case Outcome::kExpired:
                ++totals_.expired;
                report_given_up("expired", record.fp, record.to, record.attempts);
                return;
            case Outcome::kLost:
            case Outcome::kUnknown:
            case Outcome::kCancelled:
                if (is_finished_) return;  // Our own logout: told already.
                ++totals_.lost;
                report_given_up("lost", record.fp, record.to, record.attempts);
                return;
        }
    }

    ExitStatus finish() {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_finished_ = true;
        for (const auto& [fp, open] : open_.in_order()) {
            if (has_file()) {
                ++totals_.pending;
                continue;
            }
            ++totals_.lost;
            report_given_up("lost", fp, open.to, std::nullopt);
        }
        if (command_.client.common.is_json) {
            totals_.print_json();
        } else if (!command_.text) {
            print_text(totals_.to_string());
        }
        if (is_usage_wrong_) return ExitStatus::kUsage;
        if (watch_.end()) {
            log(LogLevel::kError, watch_.reason());
            return *watch_.end();
        }
        if (is_never_online_) {
            log(LogLevel::kError, watch_.never_online_text(command_.client.url));
            return ExitStatus::kNeverOnline;
        }
        return totals_.has_failed() ? ExitStatus::kFailed : ExitStatus::kDone;
    }

    void report_rejected(const Fingerprint& fp, const std::string& to, int code) const {
        if (command_.client.common.is_json) {
            lines_.rejected(fp, to, code);
        } else {
            print_text("rejected (" + std::to_string(code) + "): " + std::string(describe(code)));
        }
    }

    void report_given_up(std::string_view event, const Fingerprint& fp, const std::string& to,
                         std::optional<unsigned> attempts) const {
        if (command_.client.common.is_json) {
            lines_.given_up(event, fp, to, attempts);
        } else {
            print_text(std::string(event) + ": " + fp.to_string());
        }
    }

    const SendCommand& command_;
    const std::string device_;
    const EventLines lines_;
    const Clock::time_point started_;
    std::unique_ptr<Client> client_;
    UuidSource fingerprints_;  // Main thread, as is the next one.
    bool is_usage_wrong_ = false;
    std::mutex mutex_;  // Guards everything below.
    std::condition_variable changed_;
    TokenSource tokens_{command_.client.token_file, command_.client.token};
    LoginWatch watch_;
    Clock::time_point progress_at_;
    OpenMessages open_;
    std::size_t taken_over_ = 0;  // The first of open_ are from an earlier run.
    std::size_t submitting_ = 0;  // Not yet in the outbox.
    bool is_stopped_ = false;
    bool is_finished_ = false;
    bool is_never_online_ = false;  // Within --timeout, and there was something to send.
    SendTotals totals_;
};

}  // namespace

void add_send(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<SendCommand>();
    CLI::App* const app =
        root.add_subcommand("send", "Send a message, or each line of stdin as one");
    app->footer(kFooter);
    add_client_options(*app, command->client);
    app->add_option("--to", command->to, "The recipient's user id");
    app->add_flag("--group", command->is_group, "--to is a group");
    app->add_flag("--no-qos", command->no_qos,
                  "At most once, to those online now; nothing is acked or kept");
    app->add_option("--outbox", command->outbox,
                    "Keep messages in this file until they have an outcome")
        ->type_name("FILE");
    app->add_flag("--wait-for-disk", command->waits_for_disk,
                  "With --outbox: wait for a disk that is full or fails, instead of rejecting");
    app->add_option("TEXT", command->text, "The message; without it each line of stdin");
    app->callback([command, &exit] {
        const bool may_be_empty = !command->outbox.empty() && !command->text;
        if (command->to.empty() && !may_be_empty) throw CLI::RequiredError("--to");
        exit = Sender(*command).run();
    });
}

}  // namespace petrel::tools
