#pragma once

#include <memory>
#include <string>

#include "core/client/client.hpp"
#include "core/store/inbox.hpp"
#include "core/store/outbox.hpp"
#include "tools/petrel/client_options.hpp"

// The --outbox and --inbox files of send and listen. nullptr: the log says why not.

namespace petrel::tools {

// `left`: what an earlier run has left in it. `waits_for_disk`: a send waits for a disk that fails,
// instead of being refused.
std::unique_ptr<Outbox> open_outbox(const std::string& path, const ClientCommand& command,
                                    Runtime& runtime, bool waits_for_disk, Outbox::Kept& left);
// Without --device it is the file's device, and `new_device` in a new file.
std::unique_ptr<Inbox> open_inbox(const std::string& path, const ClientCommand& command,
                                  Runtime& runtime, const std::string& new_device);

}  // namespace petrel::tools
