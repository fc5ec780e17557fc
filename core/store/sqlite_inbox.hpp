#pragma once

#include <memory>
#include <string>

#include "core/store/client_file.hpp"
#include "core/store/inbox.hpp"
#include "protocol/error.hpp"

namespace petrel {

// An inbox that survives the process: one SQLite file (WAL, synchronous=FULL, mode 0600) of one
// account and device, exclusive to this process. Messages and cursor are one transaction. `done` of
// an append gets kSendFailed when the disk fails; so do all that were appended behind it by then,
// and nothing of them is stored. What else is asked for is tried until it succeeds.
//
// cursor() says what is stored: the gateway pushes again what is only on its way into the file.
//
// A new file gets `device` (a fresh one if empty); a file of another device is refused, unless
// `device` is empty. Failures as in open_sqlite_outbox.
Result<std::unique_ptr<Inbox>> open_sqlite_inbox(const std::string& path, const AccountId& account,
                                                 const std::string& device,
                                                 const ClientFileOptions& options,
                                                 std::string& why);

}  // namespace petrel
