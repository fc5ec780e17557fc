#pragma once

#include <memory>
#include <string>

#include "core/store/message_store.hpp"
#include "protocol/error.hpp"
#include "protocol/fingerprint.hpp"

namespace petrel {

// The gateway's store file: SQLite, WAL, synchronous=FULL, exclusive to this process. `why` gets a
// sentence for a person when the file cannot be used (foreign, corrupt, newer schema, locked).
Result<std::unique_ptr<MessageStore>> open_sqlite_message_store(const std::string& path,
                                                                const StoreOptions& options,
                                                                FingerprintSource& epochs,
                                                                std::string& why);

}  // namespace petrel
