#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/client/client.hpp"
#include "tools/petrel/child_process.hpp"
#include "tools/petrel/client_options.hpp"
#include "tools/petrel/log_event.hpp"

// The users of `petrel demo`: most of them in its own process, one in a process that is killed.

namespace petrel::tools {

// One user with an outbox file and an inbox file, who writes to others and is written to.
class DemoUser {
public:
    // Tells what the user sees, on a thread of its own.
    using OnEvent = std::function<void(const Event&)>;

    static constexpr const char* kDevice = "demo";

    DemoUser(std::string name, OnEvent on_event)
        : name_(std::move(name)), on_event_(std::move(on_event)) {}
    virtual ~DemoUser() = default;
    DemoUser(const DemoUser&) = delete;
    DemoUser& operator=(const DemoUser&) = delete;

    const std::string& name() const { return name_; }

    // Logs in. False with a sentence in `why`.
    virtual bool begin(std::string& why) = 0;
    // Logs out; what has no outcome stays in the file. Idempotent.
    virtual void end() = 0;
    // One that is refused is told as an outcome, rejected.
    virtual void send(const Fingerprint& fp, const std::string& to, const std::string& text) = 0;
    // For a person.
    virtual std::string describe() const = 0;
    // Received again and dropped, of what is known.
    virtual std::uint64_t duplicates() const = 0;

protected:
    const std::string name_;
    const OnEvent on_event_;
};

// Its files are FOLDER/NAME.outbox and FOLDER/NAME.inbox.
std::unique_ptr<DemoUser> make_demo_user(std::string name, std::string url, std::string folder,
                                         Runtime& runtime, DemoUser::OnEvent on_event);

// A user in a process of its own (`petrel demo-user`), which can be killed and started again.
class DemoUserProcess final : public DemoUser {
public:
    DemoUserProcess(std::string name, std::string url, std::string folder, OnEvent on_event);
    ~DemoUserProcess() override { child_.kill(); }

    bool begin(std::string& why) override;  // Also after kill(), on the same files.
    void end() override;
    void send(const Fingerprint& fp, const std::string& to, const std::string& text) override;
    std::string describe() const override;
    std::uint64_t duplicates() const override;

    void kill() { child_.kill(); }
    void flush() { child_.flush(); }

private:
    void on_line(const std::string& line);

    const std::vector<std::string> arguments_;
    LogEventParser parser_;     // Of the child's thread.
    mutable std::mutex mutex_;  // Guards the next two.
    // Given to the child, which has not said yet that its outbox has them. A killed one is given
    // them again: under their fingerprints no harm can come of it.
    struct Order {
        std::string fp;
        std::string line;
    };
    std::deque<Order> orders_;
    std::uint64_t duplicates_ = 0;  // Of lives that ended in peace.
    ChildProcess child_;            // Last: its thread uses all the others.
};

// What a line of `petrel demo-user` tells. False: nothing that an event could say.
bool to_event(const LogEvent& line, Event& event);

}  // namespace petrel::tools
