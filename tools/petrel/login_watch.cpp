#include "tools/petrel/login_watch.hpp"

#include "protocol/error.hpp"

namespace petrel::tools {

bool LoginWatch::on_event(const Event& event) {
    if (const auto* state = std::get_if<StateEvent>(&event)) {
        const bool was_online = is_online_;
        is_online_ = state->state == ClientState::kOnline;
        was_ever_online_ = was_ever_online_ || is_online_;
        if (!end_ && !state->reason.empty()) reason_ = state->reason;
        if (!end_ && state->code != 0) code_ = state->code;
        if (!end_ && state->state == ClientState::kStopped) {
            end_ = ExitStatus::kRefused;
            if (reason_.empty()) reason_ = describe(code_);
        }
        return was_online != is_online_ || end_.has_value();
    }
    if (const auto* login = std::get_if<LoginEvent>(&event); login != nullptr && login->code != 0) {
        code_ = login->code;
        reason_ = login->message.empty() ? std::string(describe(login->code)) : login->message;
    } else if (const auto* kicked = std::get_if<KickedEvent>(&event)) {
        code_ = kicked->code;
        reason_ = "kicked out: " + kicked->reason;
        end_ = ExitStatus::kRefused;
        return true;
    } else if (const auto* error = std::get_if<ErrorEvent>(&event)) {
        reason_ = error->message;
    } else if (const auto* token = std::get_if<TokenNeededEvent>(&event)) {
        // Nobody here can provide another one.
        code_ = token->code;
        reason_ = "the token has expired: get a new one and give it with --token-file";
        end_ = ExitStatus::kRefused;
        return true;
    }
    return false;
}

std::string LoginWatch::never_online_text(const std::string& url) const {
    return "never online at " + url + ": " + (reason_.empty() ? "no answer" : reason_);
}

}  // namespace petrel::tools
