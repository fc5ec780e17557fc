#include <CLI/CLI.hpp>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/client/client.hpp"
#include "tools/petrel/client_options.hpp"
#include "tools/petrel/commands.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/line_reader.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/login_watch.hpp"
#include "tools/petrel/signals.hpp"

namespace petrel::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kFooter =
    "Each message ends in exactly one of accepted (the gateway's store has it durably), rejected\n"
    "(with a code), expired, lost (no outcome within --timeout). Without TEXT, each line of stdin\n"
    "is a message.\n"
    "\n"
    "Exit status: 0 all accepted; 1 one was not; 3 never online within --timeout; 4 refused.\n"
    "\n"
    "Examples:\n"
    "  petrel send --url ws://127.0.0.1:9600/ws --user alice --to bob \"hello\"\n"
    "  seq 1000 | petrel send --url ws://127.0.0.1:9600/ws --user alice --to bob --json";

// Open at once: below the engine's own limit of kept messages, so that none is refused for it.
constexpr std::size_t kOpenMax = 4'096;
constexpr std::size_t kOpenBytesMax = std::size_t{16} << 20;
constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;

struct SendCommand {
    ClientCommand client;
    std::string to;
    bool is_group = false;
    bool no_qos = false;
    std::optional<std::string> text;
};

// Sends and waits. The main thread reads and submits, the engine's thread reports.
class Sender {
public:
    explicit Sender(const SendCommand& command)
        : command_(command), started_(Clock::now()), progress_at_(started_) {}

    ExitStatus run() {
        StopSignals signals([this] {
            const std::lock_guard<std::mutex> lock(mutex_);
            is_stopped_ = true;
            changed_.notify_all();
        });
        Runtime runtime;
        ClientOptions options = make_client_options(command_.client, fresh_device());
        options.engine.window = 0;   // It takes no messages.
        device_ = options.engine.device;
        options.on_event = [this](const Event& event) { on_event(event); };
        Client client(runtime, std::move(options));
        client_ = &client;
        client.login();
        if (command_.text) {
            submit(*command_.text);
        } else {
            read_all(signals.descriptor());
        }
        wait_for_outcomes();
        const ExitStatus status = finish();
        client.logout(false);
        return status;
    }

private:
    struct Open {
        std::uint64_t number = 0;
        std::string to;
        std::size_t bytes = 0;
        Clock::time_point queued_at;
    };

    void read_all(int stop_descriptor) {
        LineReader reader(STDIN_FILENO, kLineBytesMax);
        std::string line;
        for (;;) {
            if (!wait_for_room()) return;
            switch (reader.next(line, 200, stop_descriptor)) {
                case LineReader::Status::kLine: submit(std::move(line)); break;
                case LineReader::Status::kTimeout: break;
                case LineReader::Status::kTooLong:
                    log(LogLevel::kError, "a line of over 1 MiB was not sent");
                    note_unsent();
                    break;
                case LineReader::Status::kStopped:
                case LineReader::Status::kEnd: return;
            }
        }
    }

    void note_unsent() {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++rejected_;
    }

    // False: no more sending, for whatever reason.
    bool wait_for_room() {
        std::unique_lock<std::mutex> lock(mutex_);
        while (!is_over()) {
            const bool has_room = open_.size() < kOpenMax && open_bytes_ < kOpenBytesMax;
            if (has_room && (!command_.no_qos || watch_.is_online())) return true;
            changed_.wait_for(lock, std::chrono::milliseconds{100});
        }
        return false;
    }

    void wait_for_outcomes() {
        std::unique_lock<std::mutex> lock(mutex_);
        while ((!open_.empty() || submitting_ > 0) && !is_over()) {
            changed_.wait_for(lock, std::chrono::milliseconds{100});
        }
    }

    // With the lock held.
    bool is_over() {
        if (is_stopped_ || watch_.end()) return true;
        const auto now = Clock::now();
        if (!watch_.was_ever_online()) return now - started_ > command_.client.timeout;
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
            if (request.qos) {
                Open open;
                open.number = ++numbers_;
                open.to = request.to;
                open.bytes = request.text.size();
                open.queued_at = Clock::now();
                open_bytes_ += open.bytes;
                open_.emplace(fp, std::move(open));
            }
        }
        client_->send_async(std::move(request), [this, fp](Result<Fingerprint> taken) {
            on_queued(fp, taken.error());
        });
    }

    void on_queued(const Fingerprint& fp, std::error_code error) {
        const std::lock_guard<std::mutex> lock(mutex_);
        --submitting_;
        if (error) {
            forget(fp);
            ++rejected_;
            report_rejected(fp, command_.to, error.value());
        } else {
            ++sent_;
            if (command_.client.common.is_json) {
                line("queued", fp).text("to", command_.to).text("device", device_)
                    .boolean("qos", !command_.no_qos).print();
            }
        }
        changed_.notify_all();
    }

    void on_event(const Event& event) {
        const std::lock_guard<std::mutex> lock(mutex_);
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
        const std::optional<double> ms = forget(record.fp);
        switch (record.outcome) {
            case Outcome::kAccepted:
                if (event.is_correction) --lost_;
                ++accepted_;
                report_accepted(record, ms, event.is_correction);
                return;
            case Outcome::kRejected:
                ++rejected_;
                report_rejected(record.fp, record.to, record.code);
                return;
            case Outcome::kExpired:
                ++expired_;
                report_other("expired", record.fp, record.to, record.attempts);
                return;
            case Outcome::kLost:
            case Outcome::kUnknown:
            case Outcome::kCancelled:
                if (is_finished_) return;   // Our own logout: told already.
                ++lost_;
                report_other("lost", record.fp, record.to, record.attempts);
                return;
        }
    }

    // Milliseconds since it was queued.
    std::optional<double> forget(const Fingerprint& fp) {
        const auto found = open_.find(fp);
        if (found == open_.end()) return std::nullopt;
        const std::chrono::duration<double, std::milli> took =
            Clock::now() - found->second.queued_at;
        open_bytes_ -= found->second.bytes;
        open_.erase(found);
        return took.count();
    }

    ExitStatus finish() {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_finished_ = true;
        std::vector<std::pair<Fingerprint, Open>> left(open_.begin(), open_.end());
        std::sort(left.begin(), left.end(),
                  [](const auto& a, const auto& b) { return a.second.number < b.second.number; });
        for (const auto& [fp, open] : left) {
            ++lost_;
            report_other("lost", fp, open.to, std::nullopt);
        }
        report_summary();
        if (watch_.end()) {
            log(LogLevel::kError, watch_.reason());
            return *watch_.end();
        }
        if (!watch_.was_ever_online() && !is_stopped_) {
            log(LogLevel::kError, "never online at " + command_.client.url + ": " +
                                      (watch_.reason().empty() ? "no answer" : watch_.reason()));
            return ExitStatus::kNeverOnline;
        }
        return lost_ + rejected_ + expired_ == 0 ? ExitStatus::kDone : ExitStatus::kFailed;
    }

    // ---- what the user sees ----

    JsonLine line(std::string_view event, const Fingerprint& fp) const {
        JsonLine result(event);
        result.text("fp", fp.to_string()).text("from", command_.client.user)
            .text("app", app_of(command_.client));
        return result;
    }

    void report_accepted(const OutcomeRecord& record, std::optional<double> ms,
                         bool is_correction) const {
        if (command_.client.common.is_json) {
            JsonLine result = line("accepted", record.fp);
            result.text("to", record.to).number("cseq", record.cseq)
                .number("sendTs", record.send_ts).number("attempts", record.attempts)
                .real("ms", ms);
            if (is_correction) result.boolean("correction", true);
            result.print();
        } else if (command_.text) {
            print_text("accepted");
        }
    }

    void report_rejected(const Fingerprint& fp, const std::string& to, int code) const {
        if (command_.client.common.is_json) {
            line("rejected", fp).text("to", to).number("code", code).print();
        } else {
            print_text("rejected (" + std::to_string(code) + "): " + std::string(describe(code)));
        }
    }

    void report_other(std::string_view event, const Fingerprint& fp, const std::string& to,
                      std::optional<unsigned> attempts) const {
        if (command_.client.common.is_json) {
            JsonLine result = line(event, fp);
            result.text("to", to);
            if (attempts) result.number("attempts", *attempts);
            result.print();
        } else {
            print_text(std::string(event) + ": " + fp.to_string());
        }
    }

    void report_summary() const {
        if (command_.client.common.is_json) {
            JsonLine("summary").number("sent", sent_).number("accepted", accepted_)
                .number("rejected", rejected_).number("expired", expired_).number("lost", lost_)
                .number("pending", 0).print();
        } else if (!command_.text) {
            print_text(std::to_string(sent_) + " sent, " + std::to_string(accepted_) +
                       " accepted, " + std::to_string(rejected_) + " rejected, " +
                       std::to_string(expired_) + " expired, " + std::to_string(lost_) + " lost");
        }
    }

    const SendCommand& command_;
    const Clock::time_point started_;
    Client* client_ = nullptr;
    std::string device_;
    UuidSource fingerprints_;        // Main thread.
    std::mutex mutex_;               // Guards everything below.
    std::condition_variable changed_;
    LoginWatch watch_;
    Clock::time_point progress_at_;
    std::unordered_map<Fingerprint, Open> open_;
    std::size_t open_bytes_ = 0;
    std::size_t submitting_ = 0;     // Not yet in the outbox.
    std::uint64_t numbers_ = 0;
    bool is_stopped_ = false;
    bool is_finished_ = false;
    std::uint64_t sent_ = 0, accepted_ = 0, rejected_ = 0, expired_ = 0, lost_ = 0;
};

}  // namespace

void add_send(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<SendCommand>();
    CLI::App* const app = root.add_subcommand("send", "Send a message, or each line of stdin as one");
    app->footer(kFooter);
    add_client_options(*app, command->client);
    app->add_option("--to", command->to, "The recipient's user id")->required();
    app->add_flag("--group", command->is_group, "--to is a group");
    app->add_flag("--no-qos", command->no_qos,
                  "At most once, to those online now; nothing is acked or kept");
    app->add_option("TEXT", command->text, "The message; without it each line of stdin");
    app->callback([command, &exit] { exit = Sender(*command).run(); });
}

}  // namespace petrel::tools
