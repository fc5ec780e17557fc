#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/store/message_store.hpp"
#include "protocol/error.hpp"
#include "protocol/fingerprint.hpp"

namespace petrel {

struct SqliteTuning {
    int cache_kib = 65'536;
    int checkpoint_pages = 2048;  // 16 MiB of WAL: hot pages are copied to the file rarely.
    // New dedup rows wait in memory until there are so many that a run of them is worth a look at
    // its filter with each new message; some 14 MiB, twice. Or until an opening would have to read
    // so many bytes of the messages again.
    std::size_t dedup_recent_max = 131'072;
    std::size_t dedup_recent_bytes_max = 64 << 20;
};

// The gateway's store file: SQLite, WAL, synchronous=FULL, exclusive to this process. `why` gets a
// sentence for a person when the file cannot be used (foreign, corrupt, newer schema, locked).
Result<std::unique_ptr<MessageStore>> open_sqlite_message_store(const std::string& path,
                                                                const StoreOptions& options,
                                                                FingerprintSource& epochs,
                                                                std::string& why,
                                                                const SqliteTuning& tuning = {});

// What open_sqlite_message_store() would find, without changing anything. An error, with a sentence
// in `why`, when it would fail.
enum class StoreCheck : std::uint8_t {
    kUsable,
    kWouldBeMade,  // There is no file, and it can be made.
    kInUse,        // By another process, a gateway that runs most likely: not looked into.
};
Result<StoreCheck> check_sqlite_message_store(const std::string& path, std::string& why);

}  // namespace petrel
