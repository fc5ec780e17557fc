#include "tools/petrel/demo_user.hpp"

#include <CLI/CLI.hpp>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <climits>
#include <utility>

#include "protocol/error.hpp"
#include "tools/petrel/client_files.hpp"
#include "tools/petrel/commands.hpp"
#include "tools/petrel/event_lines.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/line_reader.hpp"
#include "tools/petrel/log.hpp"

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kLineBytesMax = std::size_t{1} << 20;

std::string to_text(ClientState state) {
    switch (state) {
        case ClientState::kOffline: return "offline";
        case ClientState::kConnecting: return "connecting";
        case ClientState::kOnline: return "online";
        case ClientState::kNoNetwork: return "without a network";
        case ClientState::kStopped: return "stopped for good";
    }
    return "?";
}

Event rejected(const Fingerprint& fp, const std::string& to, std::error_code why) {
    OutcomeEvent event;
    event.record.fp = fp;
    event.record.to = to;
    event.record.outcome = petrel::Outcome::kRejected;
    event.record.code = why.value();
    return event;
}

// A client in this process.
class LocalUser final : public DemoUser {
public:
    // `on_queued` comes on the engine's thread, before anything else of that message.
    using OnQueued = std::function<void(const Fingerprint&, const std::string& to)>;

    LocalUser(ClientCommand command, std::string folder, Runtime& runtime, OnEvent on_event,
              OnQueued on_queued = {})
        : DemoUser(command.user, std::move(on_event)),
          command_(std::move(command)),
          folder_(std::move(folder)),
          runtime_(runtime),
          on_queued_(std::move(on_queued)) {}
    ~LocalUser() override { LocalUser::end(); }

    bool begin(std::string& why) override {
        ClientOptions options = make_client_options(command_, kDevice);
        EngineOptions& engine = options.engine;
        engine.require_v1 = true;
        // Quick to notice and quick to come back: the storm shows in seconds what takes others
        // hours.
        engine.relogin.backoff_base = 100ms;
        engine.relogin.backoff_max = 2s;
        engine.relogin.connect_timeout = 2s;
        engine.relogin.login_timeout = 1s;
        engine.keepalive.round_trip.timeout_min = 500ms;
        engine.keepalive.round_trip.timeout_max = 2s;
        options.connect.handshake_timeout = 2s;
        options.on_event = on_event_;
        Outbox::Kept left;
        options.outbox =
            open_outbox(folder_ + "/" + name_ + ".outbox", command_, runtime_, false, left);
        options.inbox = open_inbox(folder_ + "/" + name_ + ".inbox", command_, runtime_, kDevice);
        if (!options.outbox || !options.inbox) {
            why = "the files of " + name_ + " cannot be used";
            return false;
        }
        client_ = std::make_unique<Client>(runtime_, std::move(options));
        client_->login();
        return true;
    }

    void end() override {
        if (!client_) return;
        client_->logout(true);
        duplicates_ += client_->stats().duplicates;
        client_.reset();
    }

    void send(const Fingerprint& fp, const std::string& to, const std::string& text) override {
        SendRequest request;
        request.to = to;
        request.text = text;
        request.fp = fp;
        client_->send_async(std::move(request), [this, fp, to](const Result<Fingerprint>& taken) {
            if (!taken) return on_event_(rejected(fp, to, taken.error()));
            if (on_queued_) on_queued_(fp, to);
        });
    }

    std::string describe() const override {
        if (!client_) return "gone";
        return to_text(client_->state()) + ", " + std::to_string(client_->stats().kept) +
               " messages kept";
    }

    std::uint64_t duplicates() const override {
        return duplicates_ + (client_ ? client_->stats().duplicates : 0);
    }

private:
    const ClientCommand command_;
    const std::string folder_;
    Runtime& runtime_;
    const OnQueued on_queued_;
    std::unique_ptr<Client> client_;
    std::uint64_t duplicates_ = 0;
};

ClientCommand command_of(std::string name, std::string url) {
    ClientCommand command;
    command.user = std::move(name);
    command.url = std::move(url);
    return command;
}

// ---- petrel demo-user ----

struct DemoUserCommand {
    CommonOptions common;
    ClientCommand client;
    std::string folder;
};

// The lines of send and listen, of one client.
class Teller {
public:
    explicit Teller(const ClientCommand& command) : lines_(command, DemoUser::kDevice) {}

    void on_queued(const Fingerprint& fp, const std::string& to) const {
        lines_.queued(fp, to, true);
    }

    void on_event(const Event& event) {
        if (const auto* state = std::get_if<StateEvent>(&event)) {
            const bool is_online = state->state == ClientState::kOnline;
            if (is_online) lines_.online();
            if (is_online_ && !is_online) lines_.offline(state->reason);
            is_online_ = is_online;
        } else if (const auto* outcome = std::get_if<OutcomeEvent>(&event)) {
            on_outcome(outcome->record);
        } else if (const auto* message = std::get_if<MessageEvent>(&event)) {
            lines_.message(*message);
        } else if (const auto* gap = std::get_if<BreakEvent>(&event)) {
            if (gap->side == BreakEvent::Side::kInbox) lines_.inbox_break(*gap);
        }
    }

private:
    void on_outcome(const OutcomeRecord& record) const {
        switch (record.outcome) {
            case petrel::Outcome::kAccepted: return lines_.accepted(record, std::nullopt, false);
            case petrel::Outcome::kRejected:
                return lines_.rejected(record.fp, record.to, record.code);
            case petrel::Outcome::kExpired:
                return lines_.given_up("expired", record.fp, record.to, record.attempts);
            case petrel::Outcome::kCancelled:
            case petrel::Outcome::kLost:
            case petrel::Outcome::kUnknown:
                return lines_.given_up("lost", record.fp, record.to, record.attempts);
        }
    }

    const EventLines lines_;
    bool is_online_ = false;
};

// Orders come as lines, "FINGERPRINT RECIPIENT TEXT"; the end of them is the end.
ExitStatus demo_user(const DemoUserCommand& command) {
    Runtime runtime;
    Teller teller(command.client);
    LocalUser user(
        command.client, command.folder, runtime,
        [&teller](const Event& event) { teller.on_event(event); },
        [&teller](const Fingerprint& fp, const std::string& to) { teller.on_queued(fp, to); });
    std::string why;
    if (!user.begin(why)) {
        log(LogLevel::kError, why);
        return ExitStatus::kFailed;
    }
    LineReader orders(STDIN_FILENO, kLineBytesMax);
    std::string line;
    for (;;) {
        const auto status = orders.next(line, INT_MAX, -1);
        if (status == LineReader::Status::kEnd) break;
        if (status != LineReader::Status::kLine) continue;
        const std::size_t first = line.find(' ');
        const std::size_t second = line.find(' ', first + 1);
        const auto fp = Fingerprint::parse(line.substr(0, first));
        if (!fp || second == std::string::npos) {
            log(LogLevel::kError, "not an order: " + line);
            return ExitStatus::kFailed;
        }
        user.send(*fp, line.substr(first + 1, second - first - 1), line.substr(second + 1));
    }
    user.end();
    JsonLine("ended").number("code", user.duplicates()).print();
    return ExitStatus::kDone;
}

}  // namespace

std::unique_ptr<DemoUser> make_demo_user(std::string name, std::string url, std::string folder,
                                         Runtime& runtime, DemoUser::OnEvent on_event) {
    return std::make_unique<LocalUser>(command_of(std::move(name), std::move(url)),
                                       std::move(folder), runtime, std::move(on_event));
}

// ---- DemoUserProcess ----

DemoUserProcess::DemoUserProcess(std::string name, std::string url, std::string folder,
                                 OnEvent on_event)
    : DemoUser(std::move(name), std::move(on_event)),
      arguments_({"demo-user", "--url", std::move(url), "--user", name_, "--folder",
                  std::move(folder), "--log-level", std::string(log_level_name())}) {}

bool DemoUserProcess::begin(std::string& why) {
    if (!child_.start(
            arguments_, [this](const std::string& line) { on_line(line); }, why)) {
        return false;
    }
    std::string again;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (const Order& order : orders_) again += order.line;
    }
    child_.write(again);
    return true;
}

void DemoUserProcess::end() { child_.finish(); }

void DemoUserProcess::send(const Fingerprint& fp, const std::string& to, const std::string& text) {
    Order order{fp.to_string(), {}};
    order.line = order.fp + " " + to + " " + text + "\n";
    const std::string line = order.line;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        orders_.push_back(std::move(order));
    }
    if (child_.is_running()) child_.write(line);
}

std::string DemoUserProcess::describe() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::string("a process that ") + (child_.is_running() ? "runs" : "has ended") + ", " +
           std::to_string(orders_.size()) + " messages not yet in its outbox";
}

std::uint64_t DemoUserProcess::duplicates() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return duplicates_;
}

void DemoUserProcess::on_line(const std::string& line) {
    const LogEvent* const told = parser_.parse(line);
    if (told == nullptr) return;  // The kill cut it off.
    if (told->event == "queued" || told->event == "rejected") {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto is_it = [told](const Order& order) { return order.fp == told->fp; };
        // Nearly always the first.
        const auto found = std::find_if(orders_.begin(), orders_.end(), is_it);
        if (found != orders_.end()) orders_.erase(found);
    }
    if (told->event == "ended") {
        const std::lock_guard<std::mutex> lock(mutex_);
        duplicates_ += told->code.value_or(0);
    }
    Event event;
    if (to_event(*told, event)) on_event_(event);
}

bool to_event(const LogEvent& line, Event& event) {
    if (line.event == "online" || line.event == "offline") {
        StateEvent state;
        state.state = line.event == "online" ? ClientState::kOnline : ClientState::kOffline;
        event = std::move(state);
        return true;
    }
    if (line.event == "break") {
        event = BreakEvent();
        return true;
    }
    const auto fp = Fingerprint::parse(line.fp);
    if (!fp) return false;
    if (line.event == "message") {
        MessageEvent message;
        message.fp = *fp;
        message.from = line.from;
        message.to = line.to;
        message.conv = line.conv;
        message.cseq = line.cseq.value_or(0);
        message.seq = line.seq.value_or(0);
        message.qos = line.has_qos;
        message.is_redelivered = line.is_redelivered;
        event = std::move(message);
        return true;
    }
    OutcomeEvent outcome;
    OutcomeRecord& record = outcome.record;
    record.fp = *fp;
    record.to = line.to;
    record.cseq = line.cseq;
    record.attempts = static_cast<unsigned>(line.attempts.value_or(0));
    record.code = static_cast<int>(line.code.value_or(0));
    if (line.event == "accepted") {
        record.outcome = petrel::Outcome::kAccepted;
    } else if (line.event == "rejected") {
        record.outcome = petrel::Outcome::kRejected;
    } else if (line.event == "expired") {
        record.outcome = petrel::Outcome::kExpired;
    } else if (line.event == "lost") {
        record.outcome = petrel::Outcome::kLost;
    } else {
        return false;
    }
    event = std::move(outcome);
    return true;
}

void add_demo_user(CLI::App& root, ExitStatus& exit) {
    auto command = std::make_shared<DemoUserCommand>();
    CLI::App* const app =
        root.add_subcommand("demo-user", "One user of a demo, in a process of its own");
    app->group("");  // Not for people: `petrel demo` starts it.
    add_common(*app, command->common);
    app->add_option("--url", command->client.url)->required();
    app->add_option("--user", command->client.user)->required();
    app->add_option("--folder", command->folder)->required();
    app->callback([command, &exit] { exit = demo_user(*command); });
}

}  // namespace petrel::tools
