#pragma once

#include <cstdint>
#include <string>

#include "core/client/engine.hpp"
#include "petrel/petrel.h"

namespace petrel {

std::int32_t state_number(ClientState state);
petrel_stats show_stats(const EngineStats& stats);

// An Event as C sees it. Points into the Event and into itself: both must stay where they are for
// as long as the app looks at it. Reused for one event after another.
class CEvent {
public:
    CEvent() = default;
    CEvent(const CEvent&) = delete;
    CEvent& operator=(const CEvent&) = delete;

    const petrel_event* show(const Event& event);

private:
    void fill(const StateEvent& event);
    void fill(const LoginEvent& event);
    void fill(const MessageEvent& event);
    void fill(const OutcomeEvent& event);
    void fill(const DeliveredEvent& event);
    void fill(const TokenNeededEvent& event);
    void fill(const KickedEvent& event);
    void fill(const BreakEvent& event);
    void fill(const ErrorEvent& event);
    void fill(const EchoEvent& event);

    petrel_event event_{};
    union {
        petrel_state_event state;
        petrel_login_event login;
        petrel_message_event message;
        petrel_outcome_event outcome;
        petrel_delivered_event delivered;
        petrel_token_needed_event token_needed;
        petrel_kicked_event kicked;
        petrel_break_event broken;
        petrel_error_event error;
        petrel_echo_event echo;
    } body_{};
    std::string fingerprint_;
};

}  // namespace petrel
