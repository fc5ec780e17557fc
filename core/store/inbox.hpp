#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "protocol/packet.hpp"

namespace petrel {

struct InboxMessage {
    std::string epoch;  // Of its position.
    Data data;
};

// The receiving device's memory: how far it has come in its inbox and, with a file, what it has
// stored and not yet recorded as handled. `done` as in Outbox. Operations take effect in call
// order.
class Inbox {
public:
    using Done = std::function<void(std::error_code)>;

    virtual ~Inbox() = default;

    virtual bool is_durable() const = 0;
    // The device id that a file belongs to; "" when it has none.
    virtual std::string device() const = 0;
    // For the next login: epoch and highest position stored. nullopt: nothing yet.
    virtual std::optional<InboxCursor> cursor() const = 0;
    // Stored and not recorded as handled by an earlier process, in the order of storing; once,
    // before all else.
    virtual std::vector<InboxMessage> load_unhandled() = 0;

    // The login told where the gateway resumes. Another epoch, or a resume elsewhere than at the
    // cursor (a break, a device without a cursor): the cursor moves there.
    virtual void on_resume(const std::string& epoch, Position seq) = 0;
    // Dense positions of the current epoch, all of the batch or none.
    virtual void append(std::vector<Data> batch, Done done) = 0;
    // The `count` oldest of what is stored are handled. (A count, because positions begin anew when
    // the gateway's store was lost, and what came before is still to be handled.)
    virtual void record_handled(std::size_t count, Done done) = 0;

    // What the disk failed with last, for a person; "" when it works.
    virtual std::string last_error() const { return {}; }
};

}  // namespace petrel
