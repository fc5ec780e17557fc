#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/codec.hpp"
#include "protocol/json_text.hpp"

// The half of the codec that writes.

namespace petrel {
namespace {

const Fingerprint kNoFingerprint;

// What all packets have in common, before the profile's way of writing it.
struct Envelope {
    int type = 0;
    std::string_view from;
    std::string_view to;
    std::optional<std::string_view> content;  // dataContent; none is null.
    const Fingerprint* fp = &kNoFingerprint;
    bool qos = false;
    int typeu = kTypeuNone;
    bool bridge = false;
    int retry_count = 0;
    std::optional<WallMillis> send_ts;
};

class PacketWriter {
public:
    PacketWriter(ProfileId id, Side side, std::string& out)
        : profile_(profile(id)), side_(side), out_(out) {}

    void operator()(const Data& data) {
        // Room for the keys and numbers, so that an ordinary packet is one allocation at most.
        constexpr std::size_t kOverhead = 256;
        out_.reserve(out_.size() + data.text.size() + kOverhead);
        Envelope envelope;
        envelope.type = 2;
        envelope.from = data.from;
        envelope.to = data.to;
        envelope.content = data.text;
        envelope.fp = &data.fp;
        envelope.qos = data.qos;
        envelope.typeu = data.typeu;
        envelope.bridge = data.bridge;
        envelope.retry_count = data.retry_count;
        envelope.send_ts = data.send_ts;
        JsonObjectWriter json(out_);
        write(envelope, json);
        if (is_v1()) {
            if (data.seq != 0) json.number("seq", data.seq);
            if (data.prev) json.number("prev", *data.prev);
            if (!data.conv.empty()) json.text("conv", data.conv);
            if (data.cseq != 0) json.number("cseq", data.cseq);
            if (data.h) json.number("h", *data.h);
            write_acc(data.acc, json);
        }
        json.close();
    }

    void operator()(const Ack& ack) {
        Envelope envelope;
        envelope.type = side_ == Side::kServer ? profile_.server_ack_type : 4;
        envelope.from = ack.from;
        envelope.to = ack.to;
        envelope.bridge = ack.bridge;
        const bool has_positions = is_v1() && ack.h.has_value();
        if (!has_positions) {
            assert(!ack.fp.empty());
            text_ = ack.fp.to_string();
            envelope.content = text_;
        }
        JsonObjectWriter json(out_);
        write(envelope, json);
        if (has_positions) {
            json.number("h", *ack.h);
            if (ack.rx) json.number("rx", *ack.rx);
            if (ack.gap) json.boolean("gap", true);
            write_acc(ack.acc, json);
        }
        json.close();
    }

    void operator()(const Login& login) {
        JsonObjectWriter content(text_);
        content.text("loginUserId", login.user);
        content.text("loginToken", login.token);
        const bool is_im_sdk = profile_.id == ProfileId::kImSdk;
        write_optional("app", login.app, is_im_sdk, content);
        write_optional("extra", login.extra, is_im_sdk, content);
        if (profile_.id == ProfileId::kMobileImSdk) {
            content.number("firstLoginTime", login.first_login_time.value_or(0));
        } else if (profile_.id == ProfileId::kUndecided && login.first_login_time) {
            content.number("firstLoginTime", *login.first_login_time);
        }
        if (is_v1() && login.v1) write_login_v1(*login.v1, content);
        content.close();
        // In petrel.v1 the user id inside says it all.
        write_control(0, is_v1() ? std::string_view() : login.user, client_to());
    }

    void operator()(const LoginResponse& reply) {
        JsonObjectWriter content(text_);
        content.number("code", reply.code);
        if (!is_v1() && reply.first_login_time) {
            content.number("firstLoginTime", *reply.first_login_time);
        }
        if (is_v1()) {
            if (reply.v1) write_reply_v1(*reply.v1, content);
            if (!reply.error_msg.empty()) content.text("errorMsg", reply.error_msg);
            if (reply.retry) content.boolean("retry", *reply.retry);
            if (reply.retry_after_ms) content.number("retryAfterMs", *reply.retry_after_ms);
        }
        content.close();
        write_control(50, server_from(), reply.to);
    }

    void operator()(const Heartbeat& heartbeat) {
        write_heartbeat(1, heartbeat.from, client_to(), heartbeat.positions);
    }
    void operator()(const HeartbeatResponse& response) {
        write_heartbeat(51, server_from(), response.to, response.positions);
    }

    void operator()(const Logout& logout) {
        Envelope envelope;
        envelope.type = 3;
        envelope.from = logout.from;
        envelope.to = client_to();
        write_whole(envelope);
    }

    void operator()(const Echo& echo) {
        Envelope envelope;
        envelope.type = echo.is_response ? 53 : 5;
        envelope.from = echo.from;
        envelope.to = echo.to;
        envelope.content = echo.text;
        envelope.fp = &echo.fp;
        envelope.qos = echo.qos;
        envelope.typeu = echo.typeu;
        envelope.bridge = echo.bridge;
        envelope.retry_count = echo.retry_count;
        envelope.send_ts = echo.send_ts;
        write_whole(envelope);
    }

    void operator()(const ErrorPacket& error) {
        JsonObjectWriter content(text_);
        content.number("errorCode", error.code);
        content.text("errorMsg", error.message);
        if (is_v1()) {
            if (!error.fp.empty()) content.text("fp", error.fp.to_string());
            if (error.seq) content.number("seq", *error.seq);
            if (error.retry_after_ms) content.number("retryAfterMs", *error.retry_after_ms);
        }
        content.close();
        write_control(52, server_from(), error.to);
    }

    void operator()(const Kickout& kickout) {
        JsonObjectWriter content(text_);
        content.number("code", kickout.code);
        if (!kickout.reason.empty()) content.text("reason", kickout.reason);
        if (is_v1() && !kickout.device.empty()) content.text("device", kickout.device);
        content.close();
        // im-sdk has none; its readers ignore the type of petrel.v1.
        const int type = profile_.kickout_type != 0 ? profile_.kickout_type : 55;
        write_control(type, server_from(), kickout.to);
    }

    void operator()(const Receipt& receipt) {
        JsonObjectWriter content(text_);
        content.text("conv", receipt.conv);
        content.text("user", receipt.user);
        content.number("delivered", receipt.delivered);
        content.close();
        write_control(56, server_from(), receipt.to);
    }

    void operator()(const UnknownPacket&) { assert(!"an unknown packet cannot be written"); }

private:
    bool is_v1() const { return profile_.has_positions; }

    // petrel.v1 leaves out what is understood.
    std::string_view client_to() const { return is_v1() ? "" : kServerUser; }
    std::string_view server_from() const { return is_v1() ? "" : kServerUser; }

    void write(const Envelope& envelope, JsonObjectWriter& json) {
        if (is_v1()) {
            write_v1(envelope, json);
        } else {
            write_plain(envelope, json);
        }
    }

    void write_v1(const Envelope& envelope, JsonObjectWriter& json) const {
        const bool is_data = envelope.type == 2;
        json.number("type", envelope.type);
        if (envelope.content) json.text("dataContent", *envelope.content);
        if (!envelope.from.empty()) json.text("from", envelope.from);
        if (is_data || !envelope.to.empty()) json.text("to", envelope.to);
        if (!envelope.fp->empty()) write_fingerprint(*envelope.fp, json);
        if (is_data || envelope.qos) json.boolean("Qos", envelope.qos);
        if (is_data || envelope.typeu != kTypeuNone) json.number("typeu", envelope.typeu);
        if (envelope.bridge) json.boolean("bridge", true);
        if (envelope.retry_count != 0) json.number("retryCount", envelope.retry_count);
        if (envelope.send_ts) json.number("sendTs", *envelope.send_ts);
    }

    // The keys and their order are those of the published programs: the im-sdk client writes all
    // ten of its keys, MobileIMSDK (Gson) leaves null ones out.
    void write_plain(const Envelope& envelope, JsonObjectWriter& json) const {
        const bool is_im_sdk_client = profile_.id == ProfileId::kImSdk && side_ == Side::kClient;
        const bool is_mobile = profile_.id == ProfileId::kMobileImSdk;
        json.boolean("bridge", envelope.bridge);
        json.number("type", envelope.type);
        if (envelope.content) {
            json.text("dataContent", *envelope.content);
        } else if (!is_mobile) {
            json.null("dataContent");
        }
        json.text("from", address(envelope.from, side_ == Side::kClient ? kNobody : kServerUser));
        json.text("to", address(envelope.to, side_ == Side::kClient ? kServerUser : kNobody));
        if (!envelope.fp->empty()) {
            write_fingerprint(*envelope.fp, json);
        } else if (is_im_sdk_client) {
            json.null("fp");
        }
        if (profile_.writes_qos_im_sdk) json.boolean("Qos", envelope.qos);
        if (profile_.writes_qos_mobile) json.boolean("QoS", envelope.qos);
        json.number("typeu", envelope.typeu);
        if (is_im_sdk_client || (!is_mobile && envelope.retry_count != 0)) {
            json.number("retryCount", envelope.retry_count);
        }
        if (profile_.writes_qos_im_sdk) {
            if (envelope.send_ts) {
                json.number("sendTs", *envelope.send_ts);
            } else {
                json.null("sendTs");
            }
        }
        // A Java long there: it has no null.
        if (profile_.writes_qos_mobile) json.number("sm", envelope.send_ts.value_or(-1));
    }

    static std::string_view address(std::string_view id, std::string_view otherwise) {
        return id.empty() ? otherwise : id;
    }

    void write_fingerprint(const Fingerprint& fp, JsonObjectWriter& json) const {
        if (!fp.is_uuid()) return json.text("fp", fp.to_string());
        // Hex digits and hyphens: nothing to escape, and no text of its own to be made.
        json.begin("fp");
        out_ += '"';
        fp.append_to(out_);
        out_ += '"';
    }

    static void write_optional(std::string_view name, const std::optional<std::string>& value,
                               bool writes_null, JsonObjectWriter& json) {
        if (value) {
            json.text(name, *value);
        } else if (writes_null) {
            json.null(name);
        }
    }

    void write_acc(const std::vector<Acceptance>& acc, JsonObjectWriter& json) {
        if (acc.empty()) return;
        json.begin("acc");
        char separator = '[';
        for (const Acceptance& entry : acc) {
            out_ += separator;
            out_ += '[';
            append_number(out_, entry.cseq);
            out_ += ',';
            append_number(out_, entry.send_ts);
            out_ += ',';
            append_number(out_, entry.seq);
            out_ += ']';
            separator = ',';
        }
        out_ += ']';
    }

    void write_login_v1(const LoginV1& v1, JsonObjectWriter& content) {
        content.begin("petrel");
        JsonObjectWriter petrel(text_);
        petrel.text("device", v1.device);
        petrel.text("class", v1.device_class);
        petrel.number("generation", v1.generation);
        if (v1.inbox) {
            petrel.begin("inbox");
            JsonObjectWriter inbox(text_);
            inbox.text("epoch", v1.inbox->epoch);
            inbox.number("seq", v1.inbox->seq);
            if (!v1.inbox->fp.empty()) inbox.text("fp", v1.inbox->fp.to_string());
            inbox.close();
        } else {
            petrel.null("inbox");
        }
        petrel.begin("outbox");
        JsonObjectWriter outbox(text_);
        outbox.text("stream", v1.outbox.stream);
        outbox.number("first", v1.outbox.first);
        outbox.close();
        petrel.number("window", v1.window);
        petrel.number("windowBytes", v1.window_bytes);
        petrel.close();
    }

    void write_reply_v1(const LoginReplyV1& v1, JsonObjectWriter& content) {
        content.begin("petrel");
        JsonObjectWriter petrel(text_);
        petrel.text("session", v1.session);
        petrel.number("generation", v1.generation);
        petrel.begin("inbox");
        JsonObjectWriter inbox(text_);
        inbox.text("epoch", v1.inbox.epoch);
        inbox.number("seq", v1.inbox.seq);
        inbox.number("last", v1.inbox.last);
        inbox.boolean("recovered", v1.inbox.recovered);
        inbox.close();
        petrel.begin("outbox");
        JsonObjectWriter outbox(text_);
        outbox.number("accepted", v1.accepted);
        outbox.close();
        petrel.number("heartbeatMs", v1.heartbeat_ms);
        petrel.number("dedupHorizonMs", v1.dedup_horizon_ms);
        petrel.number("window", v1.window);
        petrel.number("windowBytes", v1.window_bytes);
        petrel.number("maxPayload", v1.max_payload);
        petrel.number("serverTs", v1.server_ts);
        petrel.close();
    }

    void write_heartbeat(int type, std::string_view from, std::string_view to,
                         const std::optional<Positions>& positions) {
        JsonObjectWriter content(text_);
        if (is_v1() && positions) {
            content.number("sent", positions->sent);
            content.number("rx", positions->rx);
            content.number("h", positions->h);
        }
        content.close();
        write_control(type, from, to);
    }

    // The packet whose dataContent is the object in text_.
    void write_control(int type, std::string_view from, std::string_view to) {
        Envelope envelope;
        envelope.type = type;
        envelope.from = from;
        envelope.to = to;
        envelope.content = text_;
        write_whole(envelope);
    }

    void write_whole(const Envelope& envelope) {
        JsonObjectWriter json(out_);
        write(envelope, json);
        json.close();
    }

    const Profile& profile_;
    Side side_;
    std::string& out_;
    std::string text_;  // dataContent, when it is made here.
};

}  // namespace

void encode(const Packet& packet, ProfileId profile, Side writer, std::string& out) {
    std::visit(PacketWriter(profile, writer, out), packet);
}

void encode(const Data& data, ProfileId profile, Side writer, std::string& out) {
    PacketWriter(profile, writer, out)(data);
}

}  // namespace petrel
