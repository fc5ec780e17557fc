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
    int checkpoint_pages = 2048;   // 16 MiB of WAL: hot pages are copied to the file rarely.
    bool is_log_prepared = false;  // SqliteFile::Schema
    // What can be told from the log waits in memory until there are so many rows of it: some 14 MiB
    // of dedup rows, twice (a run of them is worth a look at its filter with each new message), and
    // some 8 MiB of inboxes, streams and conversations, twice. Or until an opening would have to
    // read so many bytes of the log again.
    std::size_t dedup_recent_max = 131'072;
    std::size_t index_recent_max = 131'072;
    std::size_t recent_bytes_max = 64 << 20;
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
