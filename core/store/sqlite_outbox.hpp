#pragma once

#include <memory>
#include <string>

#include "core/store/client_file.hpp"
#include "core/store/outbox.hpp"
#include "protocol/error.hpp"

namespace petrel {

// An outbox that survives the process: one SQLite file (WAL, synchronous=FULL, mode 0600) of one
// account, exclusive to this process. `done` of an append gets kSendFailed when the disk fails, and
// kFingerprintReused when the outbox has the fingerprint already; nothing of the batch is then
// kept. What else is asked for is tried until it succeeds. An append whose `done` was not called
// before destruction is not kept.
//
// On failure `why` is a sentence for a person. A damaged or foreign file is set aside as
// PATH.corrupt-N; another account's, one of another kind, of a newer version or in use (kBusy) is
// left untouched. `left`: what load() will give.
Result<std::unique_ptr<Outbox>> open_sqlite_outbox(const std::string& path,
                                                   const AccountId& account,
                                                   const ClientFileOptions& options,
                                                   std::string& why, Outbox::Kept* left = nullptr);

}  // namespace petrel
