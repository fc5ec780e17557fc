#pragma once

#include <memory>

#include "core/store/inbox.hpp"
#include "core/store/outbox.hpp"

namespace petrel {

// The client's default: nothing survives the process. Calls `done` at once.
std::unique_ptr<Outbox> make_memory_outbox();
// Keeps the cursor only, while the process lives.
std::unique_ptr<Inbox> make_memory_inbox();

}  // namespace petrel
