#include <CLI/CLI.hpp>

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
#include "tools/petrel/duration.hpp"
#include "tools/petrel/event_lines.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/login_watch.hpp"
#include "tools/petrel/signals.hpp"

namespace petrel::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kFooter =
    "Prints what comes for the user, also what was sent before it started. A message counts as\n"
    "handled once it is printed. A line \"break\" means that messages may be missing: the gateway\n"
    "no longer has what this device has not yet got.\n"
    "\n"
    "With --inbox, what was received before a crash of this process and perhaps not printed comes\n"
    "first, marked \"redelivered\": only those can come twice.\n"
    "\n"
    "Exit status: 0 done (--count, --for, Ctrl-C); 3 never online within --timeout; 4 refused.\n"
    "\n"
    "Examples:\n"
    "  petrel listen --url ws://127.0.0.1:9600/ws --user bob\n"
    "  petrel listen --url ws://127.0.0.1:9600/ws --user bob --json --count 1000";

struct ListenCommand {
    ClientCommand client;
    std::string inbox;  // "": memory.
    std::optional<std::uint64_t> count;
    std::optional<std::chrono::nanoseconds> duration;
};

constexpr const char* kDevice = "listen";  // Unless another is named.

class Listening {
public:
    // `inbox`: nullptr for one in memory.
    Listening(const ListenCommand& command, Runtime& runtime, std::unique_ptr<Inbox> inbox)
        : command_(command),
          runtime_(runtime),
          inbox_(std::move(inbox)),
          device_(device_of(command, inbox_.get())),
          lines_(command.client, device_) {}

    ExitStatus run() {
        StopSignals signals([this] {
            const std::lock_guard<std::mutex> lock(mutex_);
            is_stopped_ = true;
            changed_.notify_all();
        });
        ClientOptions options = make_client_options(command_.client, device_);
        options.inbox = std::move(inbox_);
        // Confirmed when printed: what comes behind --count stays for the next time.
        options.engine.manual_confirm = true;
        options.on_event = [this](const Event& event) { on_event(event); };
        // What the file holds is handed up at once, and is to be confirmed: it waits for the lock.
        std::unique_lock<std::mutex> lock(mutex_);
        Client client(runtime_, std::move(options));
        client_ = &client;
        lock.unlock();
        client.login();
        wait();
        client.logout(true);  // What was confirmed is acked before it goes.
        return finish();
    }

private:
    static std::string device_of(const ListenCommand& command, const Inbox* inbox) {
        if (inbox) return inbox->device();
        return command.client.device.empty() ? kDevice : command.client.device;
    }

    void wait() {
        const auto started = Clock::now();
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            if (is_stopped_ || is_complete() || has_failed_ || watch_.end()) return;
            const auto now = Clock::now();
            if (command_.duration && now - started >= *command_.duration) return;
            if (!watch_.was_ever_online() && now - started > command_.client.timeout) return;
            auto patience = std::chrono::nanoseconds(std::chrono::milliseconds{100});
            if (command_.duration) {
                patience = std::min<std::chrono::nanoseconds>(patience,
                                                              *command_.duration - (now - started));
            }
            changed_.wait_for(lock, patience);
        }
    }

    bool is_complete() const { return command_.count && printed_ >= *command_.count; }

    ExitStatus finish() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (has_failed_) {
            log(LogLevel::kError,
                "cannot write to the standard output: what came last is not handled");
            return ExitStatus::kFailed;
        }
        if (is_stopped_ || is_complete()) return ExitStatus::kDone;
        if (watch_.end()) {
            log(LogLevel::kError, watch_.reason());
            return *watch_.end();
        }
        if (!watch_.was_ever_online()) {
            log(LogLevel::kError, watch_.never_online_text(command_.client.url));
            return ExitStatus::kNeverOnline;
        }
        return ExitStatus::kDone;
    }

    void on_event(const Event& event) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (renew_token(tokens_, client_, event)) return;
        const bool was_online = watch_.is_online();
        watch_.on_event(event);
        if (watch_.is_online() != was_online) report_online();
        if (const auto* message = std::get_if<MessageEvent>(&event)) {
            on_message(*message);
        } else if (const auto* gap = std::get_if<BreakEvent>(&event)) {
            if (gap->side == BreakEvent::Side::kInbox) report_break(*gap);
        }
        changed_.notify_all();
    }

    void on_message(const MessageEvent& message) {
        if (is_complete() || is_stopped_ || has_failed_) return;
        if (command_.client.common.is_json) {
            lines_.message(message);
        } else {
            print_text(printable(message.from + ": " + message.text));
        }
        // What nobody can have read is not handled: it comes again.
        has_failed_ = LineWriter::standard_output().has_failed();
        if (has_failed_) return;
        ++printed_;
        (void)client_->confirm(message.id);
    }

    void report_online() const {
        const bool is_online = watch_.is_online();
        if (!command_.client.common.is_json) {
            log(LogLevel::kInfo, is_online ? "online" : "offline: " + watch_.reason());
        } else if (is_online) {
            lines_.online();
        } else {
            lines_.offline(watch_.reason());
        }
    }

    void report_break(const BreakEvent& gap) const {
        if (command_.client.common.is_json) {
            lines_.inbox_break(gap);
        } else {
            print_text("-- messages may be missing here: the gateway no longer has them --");
        }
    }

    const ListenCommand& command_;
    Runtime& runtime_;
    std::unique_ptr<Inbox> inbox_;  // Until run().
    const std::string device_;
    const EventLines lines_;
    mutable std::mutex mutex_;  // Guards everything below.
    std::condition_variable changed_;
    Client* client_ = nullptr;
    TokenSource tokens_{command_.client.token_file, command_.client.token};
    LoginWatch watch_;
    std::uint64_t printed_ = 0;
    bool is_stopped_ = false;
    bool has_failed_ = false;  // Nothing can be printed any more.
};

ExitStatus listen(const ListenCommand& command) {
    Runtime runtime;
    std::unique_ptr<Inbox> inbox;
    if (!command.inbox.empty()) {
        inbox = open_inbox(command.inbox, command.client, runtime, kDevice);
        if (!inbox) return ExitStatus::kFailed;
    }
    return Listening(command, runtime, std::move(inbox)).run();
}

}  // namespace

void add_listen(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<ListenCommand>();
    CLI::App* const app = root.add_subcommand("listen", "Print the messages that come for a user");
    app->footer(kFooter);
    add_client_options(*app, command->client);
    app->add_option("--inbox", command->inbox,
                    "Keep what was received in this file until it is printed")
        ->type_name("FILE");
    app->add_option("--count", command->count, "End after so many messages")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 53));
    add_duration(*app, "--for", command->duration, "End after so long");
    app->callback([command, &exit] { exit = listen(*command); });
}

}  // namespace petrel::tools
