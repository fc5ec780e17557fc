#include "core/store/log_piece.hpp"

#include "core/store/sqlite_blobs.hpp"

namespace petrel {
namespace {

// A record: its kind, flags, its size (all of it), whose it is. Then a message: seq, sender, cseq,
// send_ts, typeu, the size of the fingerprint, the fingerprint, the text. Or a stream: position,
// used_at, name.
constexpr std::size_t kNumberBytes = 8;
constexpr std::size_t kHeadBytes = 2 + 2 * kNumberBytes;
constexpr std::size_t kMessageBytes = kHeadBytes + 5 * kNumberBytes + 1;
constexpr std::size_t kStreamBytes = kHeadBytes + 2 * kNumberBytes;

constexpr unsigned kGone = 1;
constexpr unsigned kBridge = 2;

void append_head(LogRecord::Kind kind, unsigned flags, std::size_t size, UserId user,
                 std::string& piece) {
    piece.push_back(static_cast<char>(kind));
    piece.push_back(static_cast<char>(flags));
    append_number(size, piece);
    append_number(static_cast<std::uint64_t>(user), piece);
}

}  // namespace

std::size_t log_record_bytes_max() { return kMessageBytes + Fingerprint::kTextMax + 1; }

void begin_log_piece(std::int64_t accepted_at, std::string& piece) {
    piece.clear();
    append_number(static_cast<std::uint64_t>(accepted_at), piece);
}

void append_log_message(const MessageRow& row, std::string& piece) {
    const StoredMessage& message = *row.message;
    const FingerprintBlob fp(message.fp);
    append_head(LogRecord::Kind::kMessage,
                (row.is_gone ? kGone : 0) | (message.bridge ? kBridge : 0),
                kMessageBytes + fp.view().size() + message.text.size(), row.user, piece);
    append_number(row.seq, piece);
    append_number(static_cast<std::uint64_t>(row.sender), piece);
    append_number(message.cseq, piece);
    append_number(static_cast<std::uint64_t>(message.send_ts), piece);
    append_number(static_cast<std::uint64_t>(message.typeu), piece);
    piece.push_back(static_cast<char>(fp.view().size()));
    piece += fp.view();
    piece += message.text;
}

void append_log_stream(UserId user, const StreamRow& row, std::string& piece) {
    append_head(LogRecord::Kind::kStream, 0, kStreamBytes + row.stream.size(), user, piece);
    append_number(row.position, piece);
    append_number(static_cast<std::uint64_t>(row.used_at), piece);
    piece += row.stream;
}

void append_log_forgotten_stream(const NamedKey& key, std::string& piece) {
    append_head(LogRecord::Kind::kStream, kGone, kStreamBytes + key.name.size(), key.user, piece);
    append_number(0, piece);
    append_number(0, piece);
    piece += key.name;
}

LogPieceReader::LogPieceReader(std::string_view piece) : rest_(piece) {
    is_damaged_ = rest_.size() < kNumberBytes;
    if (is_damaged_) return;
    accepted_at_ = static_cast<std::int64_t>(number_at(rest_, 0));
    rest_.remove_prefix(kNumberBytes);
}

bool LogPieceReader::next(LogRecord& record) {
    if (is_damaged_ || rest_.empty()) return false;
    is_damaged_ = true;
    if (rest_.size() < kHeadBytes) return false;
    const auto kind = static_cast<LogRecord::Kind>(rest_[0]);
    const auto flags = static_cast<unsigned char>(rest_[1]);
    const std::uint64_t size = number_at(rest_, 2);
    if (size > rest_.size()) return false;
    const std::string_view body = rest_.substr(0, static_cast<std::size_t>(size));
    record = LogRecord();
    record.kind = kind;
    record.is_gone = (flags & kGone) != 0;
    if (kind == LogRecord::Kind::kMessage && size >= kMessageBytes) {
        const std::size_t fp_size = static_cast<unsigned char>(body[kMessageBytes - 1]);
        if (size < kMessageBytes + fp_size) return false;
        record.seq = number_at(body, kHeadBytes);
        record.sender = static_cast<UserId>(number_at(body, kHeadBytes + kNumberBytes));
        record.cseq = number_at(body, kHeadBytes + 2 * kNumberBytes);
        record.send_ts = static_cast<WallMillis>(number_at(body, kHeadBytes + 3 * kNumberBytes));
        record.typeu = static_cast<int>(
            static_cast<std::int64_t>(number_at(body, kHeadBytes + 4 * kNumberBytes)));
        record.bridge = (flags & kBridge) != 0;
        record.fp = body.substr(kMessageBytes, fp_size);
        record.text = body.substr(kMessageBytes + fp_size);
    } else if (kind == LogRecord::Kind::kStream && size >= kStreamBytes) {
        record.position = number_at(body, kHeadBytes);
        record.used_at = static_cast<std::int64_t>(number_at(body, kHeadBytes + kNumberBytes));
        record.name = body.substr(kStreamBytes);
    } else {
        return false;
    }
    record.user = static_cast<UserId>(number_at(body, 2 + kNumberBytes));
    rest_.remove_prefix(body.size());
    is_damaged_ = false;
    return true;
}

}  // namespace petrel
