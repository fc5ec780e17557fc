#pragma once

#include <memory>

#include "core/store/message_store.hpp"
#include "protocol/fingerprint.hpp"

namespace petrel {

// The gateway's `--store :memory:`. `epochs` makes epoch ids (injected for simulation).
std::unique_ptr<MessageStore> make_memory_message_store(const StoreOptions& options,
                                                        FingerprintSource& epochs);

}  // namespace petrel
