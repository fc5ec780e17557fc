#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/store/message_tables.hpp"

// A piece of the gateway's log: what one commit did to inboxes, conversations and streams, or a
// part of it. When it was accepted (store clock), then one record behind the other. A store in
// memory keeps its messages as such records, too (message_heap.hpp).

namespace petrel {

// The views are into the piece.
struct LogRecord {
    enum class Kind : std::uint8_t { kMessage = 1, kStream = 2 };
    Kind kind = Kind::kMessage;
    bool is_gone = false;  // A message that is in no inbox; a stream that was forgotten.
    UserId user = 0;       // Whose inbox, whose stream.

    Position seq = 0;  // A message's, from here.
    UserId sender = 0;
    std::uint64_t cseq = 0;
    WallMillis send_ts = 0;
    int typeu = 0;
    bool bridge = false;
    std::string_view fp;  // FingerprintBlob
    std::string_view text;

    Position position = 0;  // A stream's, from here.
    std::int64_t used_at = 0;
    std::string_view name;
};

// Of a message, at most, beside its text.
std::size_t log_record_bytes_max();

void begin_log_piece(std::int64_t accepted_at, std::string& piece);
void append_log_message(const MessageRow& row, std::string& piece);
void append_log_stream(UserId user, const StreamRow& row, std::string& piece);
void append_log_forgotten_stream(const NamedKey& key, std::string& piece);

// The message of a record, between users of these names.
std::shared_ptr<const StoredMessage> message_of(const LogRecord& record, std::string_view app,
                                                std::string_view from, std::string_view to);
Fingerprint fingerprint_of(const LogRecord& record);

// Takes the record at the front of `rest` off it. False, and nothing has changed: it is damaged.
bool take_log_record(std::string_view& rest, LogRecord& record);

// Reads a piece, whatever it holds. Thread-compatible.
class LogPieceReader {
public:
    explicit LogPieceReader(std::string_view piece);

    std::int64_t accepted_at() const { return accepted_at_; }
    // False: there is no more, or the rest is damaged.
    bool next(LogRecord& record);
    bool is_damaged() const { return is_damaged_; }

private:
    std::string_view rest_;
    std::int64_t accepted_at_ = 0;
    bool is_damaged_ = false;
};

}  // namespace petrel
