#pragma once

#include <optional>
#include <string>

#include "core/client/engine.hpp"
#include "tools/petrel/exit_status.hpp"

namespace petrel::tools {

// What a client's events say about being logged in, and with what status a command ends for it.
// Thread-compatible.
class LoginWatch {
public:
    // Looks at any event; true when the state changed.
    bool on_event(const Event& event);

    bool is_online() const { return is_online_; }
    bool was_ever_online() const { return was_ever_online_; }
    // Set once it is over for good.
    std::optional<ExitStatus> end() const { return end_; }
    const std::string& reason() const { return reason_; }  // Of the last change, for a person.
    int code() const { return code_; }
    // For a command that gives up: where it wanted to, and why it was not let in.
    std::string never_online_text(const std::string& url) const;

private:
    bool is_online_ = false;
    bool was_ever_online_ = false;
    std::optional<ExitStatus> end_;
    std::string reason_;
    int code_ = 0;
};

}  // namespace petrel::tools
