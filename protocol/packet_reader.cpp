#include "protocol/packet_reader.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace petrel {
namespace {

// ---- the keys of each object ----

namespace envelope {
enum Key : int {
    kBridge,
    kType,
    kDataContent,
    kFrom,
    kTo,
    kFp,
    kQosImSdk,
    kQosMobile,
    kTypeu,
    kRetryCount,
    kSendTs,
    kSm,
    kSeq,
    kPrev,
    kConv,
    kCseq,
    kH,
    kRx,
    kGap,
    kAcc,
    kCount
};
constexpr std::array<JsonKey, kCount> kKeys = {{
    {"bridge"}, {"type"}, {"dataContent"}, {"from"},  {"to"},
    {"fp"},     {"Qos"},  {"QoS"},         {"typeu"}, {"retryCount"},
    {"sendTs"}, {"sm"},   {"seq"},         {"prev"},  {"conv"},
    {"cseq"},   {"h"},    {"rx"},          {"gap"},   {"acc", kJsonRoot, JsonShape::kTriples},
}};
}  // namespace envelope

namespace login_keys {
enum Key : int {
    kUser,
    kToken,
    kApp,
    kExtra,
    kFirstLoginTime,
    kPetrel,
    kDevice,
    kClass,
    kGeneration,
    kInbox,
    kInboxEpoch,
    kInboxSeq,
    kInboxFp,
    kOutbox,
    kOutboxStream,
    kOutboxFirst,
    kWindow,
    kWindowBytes,
    kCount
};
constexpr std::array<JsonKey, kCount> kKeys = {{
    {"loginUserId"},
    {"loginToken"},
    {"app"},
    {"extra"},
    {"firstLoginTime"},
    {"petrel", kJsonRoot, JsonShape::kObject},
    {"device", kPetrel},
    {"class", kPetrel},
    {"generation", kPetrel},
    {"inbox", kPetrel, JsonShape::kObject},
    {"epoch", kInbox},
    {"seq", kInbox},
    {"fp", kInbox},
    {"outbox", kPetrel, JsonShape::kObject},
    {"stream", kOutbox},
    {"first", kOutbox},
    {"window", kPetrel},
    {"windowBytes", kPetrel},
}};
}  // namespace login_keys

namespace reply_keys {
enum Key : int {
    kCode,
    kFirstLoginTime,
    kPetrel,
    kSession,
    kGeneration,
    kInbox,
    kInboxEpoch,
    kInboxSeq,
    kInboxLast,
    kInboxRecovered,
    kOutbox,
    kOutboxAccepted,
    kHeartbeatMs,
    kDedupHorizonMs,
    kWindow,
    kWindowBytes,
    kMaxPayload,
    kServerTs,
    kErrorMsg,
    kRetry,
    kRetryAfterMs,
    kCount
};
constexpr std::array<JsonKey, kCount> kKeys = {{
    {"code"},
    {"firstLoginTime"},
    {"petrel", kJsonRoot, JsonShape::kObject},
    {"session", kPetrel},
    {"generation", kPetrel},
    {"inbox", kPetrel, JsonShape::kObject},
    {"epoch", kInbox},
    {"seq", kInbox},
    {"last", kInbox},
    {"recovered", kInbox},
    {"outbox", kPetrel, JsonShape::kObject},
    {"accepted", kOutbox},
    {"heartbeatMs", kPetrel},
    {"dedupHorizonMs", kPetrel},
    {"window", kPetrel},
    {"windowBytes", kPetrel},
    {"maxPayload", kPetrel},
    {"serverTs", kPetrel},
    {"errorMsg"},
    {"retry"},
    {"retryAfterMs"},
}};
}  // namespace reply_keys

namespace positions_keys {
enum Key : int { kSent, kRx, kH, kCount };
constexpr std::array<JsonKey, kCount> kKeys = {{{"sent"}, {"rx"}, {"h"}}};
}  // namespace positions_keys

namespace error_keys {
enum Key : int { kErrorCode, kErrorMsg, kFp, kSeq, kRetryAfterMs, kCount };
constexpr std::array<JsonKey, kCount> kKeys = {
    {{"errorCode"}, {"errorMsg"}, {"fp"}, {"seq"}, {"retryAfterMs"}}};
}  // namespace error_keys

namespace kickout_keys {
enum Key : int { kCode, kReason, kDevice, kCount };
constexpr std::array<JsonKey, kCount> kKeys = {{{"code"}, {"reason"}, {"device"}}};
}  // namespace kickout_keys

namespace receipt_keys {
enum Key : int { kConv, kUser, kDelivered, kCount };
constexpr std::array<JsonKey, kCount> kKeys = {{{"conv"}, {"user"}, {"delivered"}}};
}  // namespace receipt_keys

// Two ids, every byte percent-encoded, and "u::".
std::size_t conv_bytes_max(const CodecLimits& limits) { return 6 * limits.id_bytes_max + 3; }

std::size_t count_characters(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    }));
}

// A number, or a number in a string as MobileIMSDK's readers take it.
std::optional<std::int64_t> read_type(const JsonValue& value) {
    if (value.kind == JsonKind::kNumber) return value.number;
    constexpr std::size_t kDigitsMax = 15;  // Below 2^53 in any case.
    if (value.kind != JsonKind::kText) return std::nullopt;
    std::string_view digits = value.text;
    const bool is_negative = !digits.empty() && digits.front() == '-';
    if (is_negative) digits.remove_prefix(1);
    if (digits.empty() || digits.size() > kDigitsMax) return std::nullopt;
    std::int64_t type = 0;
    for (const char c : digits) {
        if (c < '0' || c > '9') return std::nullopt;
        type = type * 10 + (c - '0');
    }
    return is_negative ? -type : type;
}

std::optional<std::string> optional_text(JsonFields& in, int key, std::size_t bytes_max) {
    if (!in.has(key)) return std::nullopt;
    return std::string(in.text(key, bytes_max));
}

}  // namespace

Result<Decoded> PacketReader::read(char* text, std::size_t size) {
    std::array<JsonValue, envelope::kCount> table;
    if (!read_json_object(text, size, envelope::kKeys.data(), table.data(), envelope::kCount,
                          limits_.depth_max, &common_.acc)) {
        return Errc::kInvalidPacket;
    }
    const auto type = read_type(table[envelope::kType]);
    if (!type) return Errc::kInvalidPacket;
    JsonFields fields(table.data());
    decoded_.type = *type;
    common_.frame = text;
    read_common(fields);
    if (!fields.is_valid()) return Errc::kInvalidPacket;
    read_packet(*type);
    if (!is_valid_) return Errc::kInvalidPacket;
    return std::move(decoded_);
}

// Checked in every packet, whether its type has a use for the field or not.
void PacketReader::read_common(JsonFields& fields) {
    using namespace envelope;
    common_.from = fields.text(kFrom, limits_.id_bytes_max);
    common_.to = fields.text(kTo, limits_.id_bytes_max);
    common_.has_to = fields.has(kTo);
    common_.content = fields.text(kDataContent, limits_.frame_bytes_max);
    common_.fp = fields.text(kFp, limits_.frame_bytes_max);
    const bool qos_im_sdk = fields.truth(kQosImSdk);
    const bool qos_mobile = fields.truth(kQosMobile);
    common_.qos = qos_im_sdk || qos_mobile;
    if (fields.has(kQosImSdk) != fields.has(kQosMobile)) {
        decoded_.spelling = fields.has(kQosImSdk) ? Spelling::kImSdk : Spelling::kMobileImSdk;
    }
    common_.typeu = fields.small_number(kTypeu, kTypeuNone);
    common_.bridge = fields.truth(kBridge);
    common_.retry_count = fields.small_number(kRetryCount, 0);
    const auto send_ts = fields.number(kSendTs);
    const auto sm = fields.number(kSm);
    common_.send_ts = send_ts ? send_ts : sm;
    // MobileIMSDK's clients write -1 for "none".
    if (common_.send_ts && *common_.send_ts < 0) common_.send_ts.reset();
    if (!is_v1()) return;
    common_.seq = fields.position_or(kSeq, 0);
    common_.prev = fields.position(kPrev);
    common_.conv = fields.text(kConv, conv_bytes_max(limits_));
    common_.cseq = fields.position_or(kCseq, 0);
    common_.h = fields.position(kH);
    common_.rx = fields.position(kRx);
    common_.gap = fields.truth(kGap);
    if (!fields.list(kAcc)) common_.acc.clear();
}

void PacketReader::read_packet(std::int64_t type) {
    switch (type) {
        case 0: return read_login();
        case 1: {
            auto& heartbeat = decoded_.packet.emplace<Heartbeat>();
            heartbeat.from = common_.from;
            heartbeat.positions = read_positions();
            return;
        }
        case 2: return read_data();
        case 3: decoded_.packet.emplace<Logout>().from = common_.from; return;
        case 4: return read_ack(type);
        case 5: return read_echo(false);
        case 50: return read_login_response();
        case 51: {
            auto& response = decoded_.packet.emplace<HeartbeatResponse>();
            response.to = common_.to;
            response.positions = read_positions();
            return;
        }
        case 52: return read_error();
        case 53: return read_echo(true);
        case 54: return profile_ == ProfileId::kMobileImSdk ? read_kickout() : read_ack(type);
        case 55: return is_v1() ? read_kickout() : read_unknown(type);
        case 56: return is_v1() ? read_receipt() : read_unknown(type);
        default: return read_unknown(type);
    }
}

void PacketReader::read_unknown(std::int64_t type) {
    decoded_.packet.emplace<UnknownPacket>().type = type;
}

void PacketReader::read_data() {
    Data& data = decoded_.packet.emplace<Data>();
    data.from = common_.from;
    data.to = common_.has_to ? common_.to : std::string_view(kServerUser);
    data.fp = read_fingerprint();
    data.qos = common_.qos;
    data.typeu = common_.typeu;
    data.bridge = common_.bridge;
    data.retry_count = common_.retry_count;
    data.send_ts = common_.send_ts;
    data.text = common_.content;
    data.seq = common_.seq;
    data.prev = common_.prev;
    data.conv = common_.conv;
    data.cseq = common_.cseq;
    data.h = common_.h;
    data.acc = std::move(common_.acc);
}

void PacketReader::read_echo(bool is_response) {
    Echo& echo = decoded_.packet.emplace<Echo>();
    echo.is_response = is_response;
    echo.from = common_.from;
    echo.to = common_.to;
    echo.fp = read_fingerprint();
    echo.qos = common_.qos;
    echo.typeu = common_.typeu;
    echo.bridge = common_.bridge;
    echo.retry_count = common_.retry_count;
    echo.send_ts = common_.send_ts;
    echo.text = common_.content;
}

// Without QoS nobody needs the fingerprint: one that is not valid is left out.
Fingerprint PacketReader::read_fingerprint() {
    if (common_.fp.empty()) return {};
    auto fp = Fingerprint::parse(common_.fp);
    if (fp) return std::move(*fp);
    if (common_.qos) refuse();
    return {};
}

void PacketReader::read_ack(std::int64_t type) {
    Ack& ack = decoded_.packet.emplace<Ack>();
    ack.from = common_.from;
    ack.to = common_.to;
    ack.bridge = common_.bridge;
    if (common_.h) {
        if (common_.gap && !common_.rx) refuse();  // Nobody could tell where to go back to.
        ack.h = common_.h;
        ack.rx = common_.rx;
        ack.gap = common_.gap;
        ack.acc = std::move(common_.acc);
        return;
    }
    if (auto fp = Fingerprint::parse(common_.content)) {
        ack.fp = std::move(*fp);
        return;
    }
    // A plain server may kick with a 54 whose text names nothing that we sent: no fault of its.
    if (type == 54) return read_unknown(type);
    refuse();
}

template <class Keys, class Table>
bool PacketReader::read_content(const Keys& keys, Table& table) {
    if (common_.content.empty()) {
        refuse();
        return false;
    }
    // It may be written to: it stands in the frame's buffer, and so does the quote behind it,
    // which nobody needs any more.
    char* const content = common_.frame + (common_.content.data() - common_.frame);
    content[common_.content.size()] = '\0';
    const bool is_object =
        read_json_object(content, common_.content.size(), keys.data(), table.data(),
                         static_cast<int>(keys.size()), limits_.depth_max, nullptr);
    if (!is_object) refuse();
    return is_object;
}

void PacketReader::read_login() {
    using namespace login_keys;
    std::array<JsonValue, kCount> table;
    if (!read_content(kKeys, table)) return;
    JsonFields in(table.data());
    Login& login = decoded_.packet.emplace<Login>();
    login.user = in.text(kUser, limits_.id_bytes_max);
    if (login.user.empty()) in.refuse();
    login.token = in.text(kToken, limits_.token_bytes_max);
    login.app = optional_text(in, kApp, limits_.id_bytes_max);
    login.extra = optional_text(in, kExtra, limits_.token_bytes_max);
    login.first_login_time = in.number(kFirstLoginTime);
    if (in.object(kPetrel)) read_login_v1(in, login.v1.emplace());
    if (!in.is_valid()) refuse();
}

void PacketReader::read_login_v1(JsonFields& in, LoginV1& v1) {
    using namespace login_keys;
    constexpr std::size_t kDeviceCharactersMax = 64;  // PROTOCOL.md section 4.2.
    v1.device = in.text(kDevice, limits_.id_bytes_max);
    if (v1.device.empty() || count_characters(v1.device) > kDeviceCharactersMax) in.refuse();
    // A class that a later version adds is one of the others to us.
    const std::string_view name = in.text(kClass, limits_.id_bytes_max);
    const bool is_known = name == "mobile" || name == "desktop" || name == "web";
    v1.device_class = is_known ? name : std::string_view("other");
    v1.generation = in.position_or(kGeneration, 0);
    if (in.object(kInbox)) {
        InboxCursor& inbox = v1.inbox.emplace();
        in.require(kInboxEpoch);
        in.require(kInboxSeq);
        inbox.epoch = in.text(kInboxEpoch, limits_.id_bytes_max);
        inbox.seq = in.position_or(kInboxSeq, 0);
        inbox.fp = in.fingerprint(kInboxFp);
    }
    if (in.object(kOutbox)) {
        v1.outbox.stream = in.text(kOutboxStream, limits_.id_bytes_max);
        v1.outbox.first = in.position_or(kOutboxFirst, 1);
        if (v1.outbox.first == 0) in.refuse();  // Positions begin at 1.
    }
    v1.window = in.size(kWindow, v1.window);
    v1.window_bytes = in.size(kWindowBytes, v1.window_bytes);
}

void PacketReader::read_login_response() {
    using namespace reply_keys;
    std::array<JsonValue, kCount> table;
    if (!read_content(kKeys, table)) return;
    JsonFields in(table.data());
    LoginResponse& reply = decoded_.packet.emplace<LoginResponse>();
    in.require(kCode);
    reply.code = in.small_number(kCode, 0);
    reply.to = common_.to;
    reply.first_login_time = in.number(kFirstLoginTime);
    if (is_v1()) {
        if (in.object(kPetrel)) read_reply_v1(in, reply.v1.emplace());
        reply.error_msg = in.text(kErrorMsg, limits_.frame_bytes_max);
        if (in.has(kRetry)) reply.retry = in.truth(kRetry);
        if (in.has(kRetryAfterMs)) reply.retry_after_ms = in.duration(kRetryAfterMs, 0);
    }
    if (!in.is_valid()) refuse();
}

void PacketReader::read_reply_v1(JsonFields& in, LoginReplyV1& v1) {
    using namespace reply_keys;
    // Without these the client could not tell where it stands.
    if (!in.object(kInbox) || !in.object(kOutbox)) in.refuse();
    in.require(kInboxSeq);
    in.require(kInboxLast);
    in.require(kOutboxAccepted);
    v1.session = in.text(kSession, limits_.id_bytes_max);
    v1.generation = in.position_or(kGeneration, 0);
    v1.inbox.epoch = in.text(kInboxEpoch, limits_.id_bytes_max);
    v1.inbox.seq = in.position_or(kInboxSeq, 0);
    v1.inbox.last = in.position_or(kInboxLast, 0);
    v1.inbox.recovered = in.truth(kInboxRecovered, true);
    v1.accepted = in.position_or(kOutboxAccepted, 0);
    v1.heartbeat_ms = in.duration(kHeartbeatMs, v1.heartbeat_ms);
    v1.dedup_horizon_ms = in.duration(kDedupHorizonMs, v1.dedup_horizon_ms);
    v1.window = in.size(kWindow, v1.window);
    v1.window_bytes = in.size(kWindowBytes, v1.window_bytes);
    v1.max_payload = in.position_or(kMaxPayload, v1.max_payload);
    v1.server_ts = in.duration(kServerTs, v1.server_ts);
}

// Of a heartbeat or its response; none in plain profiles, whatever they write there.
std::optional<Positions> PacketReader::read_positions() {
    using namespace positions_keys;
    if (!is_v1() || common_.content.empty()) return std::nullopt;
    std::array<JsonValue, kCount> table;
    if (!read_content(kKeys, table)) return std::nullopt;
    JsonFields in(table.data());
    const Positions positions{in.position_or(kSent, 0), in.position_or(kRx, 0),
                              in.position_or(kH, 0)};
    if (!in.is_valid()) refuse();
    if (!in.has(kSent) && !in.has(kRx) && !in.has(kH)) return std::nullopt;
    return positions;
}

void PacketReader::read_error() {
    using namespace error_keys;
    std::array<JsonValue, kCount> table;
    if (!read_content(kKeys, table)) return;
    JsonFields in(table.data());
    ErrorPacket& error = decoded_.packet.emplace<ErrorPacket>();
    in.require(kErrorCode);
    error.code = in.small_number(kErrorCode, 0);
    error.message = in.text(kErrorMsg, limits_.frame_bytes_max);
    error.to = common_.to;
    if (is_v1()) {
        error.fp = in.fingerprint(kFp);
        error.seq = in.position(kSeq);
        if (in.has(kRetryAfterMs)) error.retry_after_ms = in.duration(kRetryAfterMs, 0);
    }
    if (!in.is_valid()) refuse();
}

void PacketReader::read_kickout() {
    using namespace kickout_keys;
    std::array<JsonValue, kCount> table;
    if (!read_content(kKeys, table)) return;
    JsonFields in(table.data());
    Kickout& kickout = decoded_.packet.emplace<Kickout>();
    in.require(kCode);
    kickout.code = in.small_number(kCode, 0);
    kickout.reason = in.text(kReason, limits_.frame_bytes_max);
    if (is_v1()) kickout.device = in.text(kDevice, limits_.id_bytes_max);
    kickout.to = common_.to;
    if (!in.is_valid()) refuse();
}

void PacketReader::read_receipt() {
    using namespace receipt_keys;
    std::array<JsonValue, kCount> table;
    if (!read_content(kKeys, table)) return;
    JsonFields in(table.data());
    Receipt& receipt = decoded_.packet.emplace<Receipt>();
    in.require(kConv);
    in.require(kUser);
    in.require(kDelivered);
    receipt.conv = in.text(kConv, conv_bytes_max(limits_));
    receipt.user = in.text(kUser, limits_.id_bytes_max);
    receipt.delivered = in.position_or(kDelivered, 0);
    receipt.to = common_.to;
    if (!in.is_valid()) refuse();
}

}  // namespace petrel
