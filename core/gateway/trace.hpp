#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/fingerprint.hpp"
#include "protocol/packet.hpp"

namespace petrel {

// One event in the life of a message or a session, as the gateway saw it; `petrel track` reads
// the lines. Fields that an event does not have are left out of its line.
struct TraceEvent {
    std::string_view
        event;  // received, committed, duplicate, refused, pushed, handled, login, closed
    std::uint64_t connection = 0;
    std::string_view app, user, device, from, to, conv;
    const Fingerprint* fp = nullptr;
    Position seq = 0;
    Position h = 0;
    std::uint64_t cseq = 0;
    WallMillis send_ts = 0;
    int code = 0;
};

class TraceSink {
public:
    virtual void on_trace(const TraceEvent& event) = 0;

protected:
    ~TraceSink() = default;
};

}  // namespace petrel
