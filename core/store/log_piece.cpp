#include "core/store/log_piece.hpp"

#include "core/store/sqlite_blobs.hpp"
#include "protocol/conversation.hpp"

namespace petrel {
namespace {

// A record: its kind, flags, whose it is. Then a message: seq, sender, cseq, send_ts, typeu, sizes
// of fingerprint and text, the fingerprint, the text. Or a stream: position, used_at, the size of
// the name, the name. All numbers are varints.
constexpr std::size_t kTimeBytes = 8;
constexpr std::size_t kNumbersMax = 8;

constexpr unsigned kGone = 1;
constexpr unsigned kBridge = 2;

void append_head(LogRecord::Kind kind, unsigned flags, UserId user, std::string& piece) {
    piece.push_back(static_cast<char>(kind));
    piece.push_back(static_cast<char>(flags));
    append_varint(static_cast<std::uint64_t>(user), piece);
}

// So that small ones are short whatever their sign.
std::uint64_t zigzag(std::int64_t value) {
    return static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63);
}
std::int64_t unzigzag(std::uint64_t value) {
    return static_cast<std::int64_t>(value >> 1 ^ (~(value & 1) + 1));
}

// Takes bytes off the front of `rest` in the order in which a record has them.
class Fields {
public:
    explicit Fields(std::string_view rest) : rest_(rest) {}

    std::uint64_t number() {
        std::uint64_t value = 0;
        is_whole_ = is_whole_ && take_varint(rest_, value);
        return value;
    }
    std::string_view text(std::uint64_t size) {
        is_whole_ = is_whole_ && size <= rest_.size();
        if (!is_whole_) return {};
        const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(size));
        rest_.remove_prefix(taken.size());
        return taken;
    }
    bool is_whole() const { return is_whole_; }
    std::string_view rest() const { return rest_; }

private:
    std::string_view rest_;
    bool is_whole_ = true;
};

}  // namespace

std::size_t log_record_bytes_max() {
    return 2 + kNumbersMax * kVarintMax + Fingerprint::kTextMax + 1;
}

void begin_log_piece(std::int64_t accepted_at, std::string& piece) {
    piece.clear();
    append_number(static_cast<std::uint64_t>(accepted_at), piece);
}

void append_log_message(const MessageRow& row, std::string& piece) {
    const StoredMessage& message = *row.message;
    const FingerprintBlob fp(message.fp);
    append_head(LogRecord::Kind::kMessage,
                (row.is_gone ? kGone : 0) | (message.bridge ? kBridge : 0), row.user, piece);
    append_varint(row.seq, piece);
    append_varint(static_cast<std::uint64_t>(row.sender), piece);
    append_varint(message.cseq, piece);
    append_varint(zigzag(message.send_ts), piece);
    append_varint(zigzag(message.typeu), piece);
    append_varint(fp.view().size(), piece);
    append_varint(message.text.size(), piece);
    piece += fp.view();
    piece += message.text;
}

void append_log_stream(UserId user, const StreamRow& row, std::string& piece) {
    append_head(LogRecord::Kind::kStream, 0, user, piece);
    append_varint(row.position, piece);
    append_varint(zigzag(row.used_at), piece);
    append_varint(row.stream.size(), piece);
    piece += row.stream;
}

void append_log_forgotten_stream(const NamedKey& key, std::string& piece) {
    append_head(LogRecord::Kind::kStream, kGone, key.user, piece);
    append_varint(0, piece);
    append_varint(0, piece);
    append_varint(key.name.size(), piece);
    piece += key.name;
}

std::shared_ptr<const StoredMessage> message_of(const LogRecord& record, std::string_view app,
                                                std::string_view from, std::string_view to) {
    auto message = std::make_shared<StoredMessage>();
    message->app = app;
    message->from = from;
    message->to = to;
    message->fp = fingerprint_of(record);
    message->typeu = record.typeu;
    message->bridge = record.bridge;
    message->text = record.text;
    message->conv = conversation_of_users(message->from, message->to);
    message->cseq = record.cseq;
    message->send_ts = record.send_ts;
    return message;
}

Fingerprint fingerprint_of(const LogRecord& record) { return FingerprintBlob::parse(record.fp); }

LogPieceReader::LogPieceReader(std::string_view piece) : rest_(piece) {
    is_damaged_ = rest_.size() < kTimeBytes;
    if (is_damaged_) return;
    accepted_at_ = static_cast<std::int64_t>(number_at(rest_, 0));
    rest_.remove_prefix(kTimeBytes);
}

bool LogPieceReader::next(LogRecord& record) {
    if (is_damaged_ || rest_.empty()) return false;
    is_damaged_ = !take_log_record(rest_, record);
    return !is_damaged_;
}

bool take_log_record(std::string_view& rest, LogRecord& record) {
    Fields fields(rest);
    const std::string_view head = fields.text(2);
    if (!fields.is_whole()) return false;
    const auto flags = static_cast<unsigned char>(head[1]);
    record = LogRecord();
    record.kind = static_cast<LogRecord::Kind>(head[0]);
    record.is_gone = (flags & kGone) != 0;
    record.user = static_cast<UserId>(fields.number());
    if (record.kind == LogRecord::Kind::kMessage) {
        record.seq = fields.number();
        record.sender = static_cast<UserId>(fields.number());
        record.cseq = fields.number();
        record.send_ts = unzigzag(fields.number());
        record.typeu = static_cast<int>(unzigzag(fields.number()));
        record.bridge = (flags & kBridge) != 0;
        const std::uint64_t fp_bytes = fields.number();
        const std::uint64_t text_bytes = fields.number();
        record.fp = fields.text(fp_bytes);
        record.text = fields.text(text_bytes);
    } else if (record.kind == LogRecord::Kind::kStream) {
        record.position = fields.number();
        record.used_at = unzigzag(fields.number());
        record.name = fields.text(fields.number());
    } else {
        return false;
    }
    if (!fields.is_whole()) return false;
    rest = fields.rest();
    return true;
}

}  // namespace petrel
