#include "tests/bench/peer_protocols.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include "protocol/codec.hpp"
#include "protocol/fingerprint.hpp"
#include "protocol/json_text.hpp"
#include "protocol/packet.hpp"
#include "protocol/profile.hpp"
#include "tests/bench/relay_wire.hpp"
#include "transport/handshake.hpp"
#include "transport/http_head.hpp"
#include "transport/mask_source.hpp"
#include "transport/websocket_frame.hpp"
#include "transport/websocket_handshake.hpp"

namespace petrel::bench {
namespace {

// ---- MQTT 3.1.1 ----

class MqttPeer final : public PeerConnection {
public:
    MqttPeer(Listener& listener, const std::string& channel, int qos)
        : PeerConnection(listener, channel), qos_(qos) {}

    void on_connected(bool is_sender) override {
        is_sender_ = is_sender;
        std::string body;
        add_text(body, "MQTT");
        body += '\4';          // 3.1.1
        body += '\2';          // Clean session.
        body.append(2, '\0');  // No keepalive.
        add_text(body, channel_ + (is_sender ? "-s" : "-r"));
        add_packet('\x10', body);
    }

    void publish(std::string_view payload) override {
        std::string body;
        add_text(body, channel_);
        add_number(body, next_id());
        body += payload;
        add_packet(static_cast<char>(0x30 | (qos_ << 1)), body);
    }

    std::size_t take(std::string_view data) override {
        std::size_t taken = 0;
        while (const std::size_t size = packet_size(data.substr(taken))) {
            on_packet(data.substr(taken, size));
            taken += size;
        }
        return taken;
    }

private:
    static void add_number(std::string& to, unsigned number) {
        to += static_cast<char>(number >> 8);
        to += static_cast<char>(number & 0xff);
    }
    static void add_text(std::string& to, std::string_view text) {
        add_number(to, static_cast<unsigned>(text.size()));
        to += text;
    }
    static unsigned number_at(std::string_view data, std::size_t at) {
        return static_cast<unsigned>(static_cast<unsigned char>(data[at]) << 8 |
                                     static_cast<unsigned char>(data[at + 1]));
    }
    void add_packet(char type, std::string_view body) {
        out += type;
        std::size_t left = body.size();
        do {
            const std::size_t low = left & 0x7f;
            left >>= 7;
            out += static_cast<char>(low | (left != 0 ? 0x80 : 0));
        } while (left != 0);
        out += body;
    }
    void add_answer(char type, unsigned id) {
        out += type;
        out += '\2';
        add_number(out, id);
    }
    unsigned next_id() {
        id_ = id_ % 65'535 + 1;
        return id_;
    }

    // 0: not whole yet.
    std::size_t packet_size(std::string_view data) {
        std::size_t length = 0;
        for (std::size_t i = 1; i < data.size() && i <= 4; ++i) {
            const auto byte = static_cast<unsigned char>(data[i]);
            length |= std::size_t{byte & 0x7fU} << (7 * (i - 1));
            if ((byte & 0x80) != 0) continue;
            header_ = i + 1;
            return data.size() >= header_ + length ? header_ + length : 0;
        }
        return 0;
    }

    void on_packet(std::string_view packet) {
        const auto type = static_cast<unsigned char>(packet[0]);
        const std::string_view body = packet.substr(header_);
        switch (type >> 4) {
            case 2:  // CONNACK
                if (body.size() < 2 || body[1] != 0) return listener_.on_refused("MQTT: no login");
                if (is_sender_) return listener_.on_ready();
                subscribe();
                return;
            case 9: return listener_.on_ready();                    // SUBACK
            case 4: return listener_.on_acked();                    // PUBACK
            case 7: return listener_.on_acked();                    // PUBCOMP
            case 5: return add_answer('\x62', number_at(body, 0));  // PUBREC: PUBREL
            case 6: return add_answer('\x70', number_at(body, 0));  // PUBREL: PUBCOMP
            case 3: break;
            default: return;
        }
        const std::size_t topic = 2 + number_at(body, 0);
        const unsigned id = number_at(body, topic);
        add_answer(qos_ == 1 ? '\x40' : '\x50', id);
        listener_.on_message(body.substr(topic + 2));
    }

    void subscribe() {
        std::string body;
        add_number(body, next_id());
        add_text(body, channel_);
        body += static_cast<char>(qos_);
        add_packet('\x82', body);
    }

    const int qos_;
    bool is_sender_ = false;
    unsigned id_ = 0;
    std::size_t header_ = 0;  // Of the packet last measured.
};

// ---- Redis streams ----

// XADD by the sender; XREAD from where it was by the receiver, as much as there is.
class RedisPeer final : public PeerConnection {
public:
    RedisPeer(Listener& listener, const std::string& channel, std::size_t size)
        : PeerConnection(listener, channel), size_(size) {}

    void on_connected(bool is_sender) override {
        is_sender_ = is_sender;
        if (!is_sender) read_on();
        listener_.on_ready();
    }

    void publish(std::string_view payload) override {
        command({"XADD", channel_, "*", "m", payload});
    }

    std::size_t take(std::string_view data) override {
        std::size_t taken = 0;
        while (taken < data.size()) {
            const std::size_t end = reply_end(data, taken, false);
            if (end == 0) break;
            if (data[taken] == '-') {
                listener_.on_refused("Redis: " + std::string(data.substr(taken, end - taken)));
                return end;
            }
            if (is_sender_) {
                listener_.on_acked();
            } else {
                reply_end(data, taken, true);
                read_on();
            }
            taken = end;
        }
        return taken;
    }

private:
    void command(std::initializer_list<std::string_view> words) {
        out += '*' + std::to_string(words.size()) + "\r\n";
        for (const std::string_view word : words) {
            out += '$' + std::to_string(word.size()) + "\r\n";
            out += word;
            out += "\r\n";
        }
    }
    void read_on() {
        command({"XREAD", "COUNT", "1000", "BLOCK", "0", "STREAMS", channel_, last_id_});
    }

    // Where the reply that begins at `at` ends; 0: not there yet. `is_told`: its payloads are
    // handed up, and the last entry's id is kept.
    std::size_t reply_end(std::string_view data, std::size_t at, bool is_told) {
        const std::size_t line = data.find("\r\n", at);
        if (line == std::string_view::npos) return 0;
        long number = 0;
        std::from_chars(data.data() + at + 1, data.data() + line, number);
        std::size_t end = line + 2;
        if (data[at] == '$' && number >= 0) {
            const auto size = static_cast<std::size_t>(number);
            if (data.size() < end + size + 2) return 0;
            const std::string_view text = data.substr(end, size);
            if (is_told && size == size_) {
                listener_.on_message(text);
            } else if (is_told && text.find('-') != std::string_view::npos && text != channel_) {
                last_id_ = text;
            }
            return end + size + 2;
        }
        if (data[at] != '*') return end;
        for (long i = 0; i < number; ++i) {
            if (end >= data.size()) return 0;
            end = reply_end(data, end, is_told);
            if (end == 0) return 0;
        }
        return end;
    }

    const std::size_t size_;
    bool is_sender_ = false;
    std::string last_id_ = "0-0";
};

// ---- NATS ----

// The protocol that both ways of NATS below share.
class NatsConnection : public PeerConnection {
public:
    using PeerConnection::PeerConnection;

    void on_connected(bool is_sender) override {
        is_sender_ = is_sender;
        out += "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
    }

    std::size_t take(std::string_view data) override {
        std::size_t taken = 0;
        for (;;) {
            const std::size_t line = data.find("\r\n", taken);
            if (line == std::string_view::npos) break;
            const std::string_view head = data.substr(taken, line - taken);
            if (head.substr(0, 4) != "MSG ") {
                taken = line + 2;
                on_line(head);
                continue;
            }
            const std::size_t space = head.rfind(' ');
            std::size_t size = 0;
            std::from_chars(head.data() + space + 1, head.data() + head.size(), size);
            if (data.size() < line + 2 + size + 2) break;
            on_msg(head.substr(4, space - 4), data.substr(line + 2, size));
            taken = line + 2 + size + 2;
        }
        on_all_taken();
        return taken;
    }

protected:
    // `head`: "subject sid [reply]".
    virtual void on_msg(std::string_view head, std::string_view payload) = 0;
    virtual void on_pong() = 0;
    virtual void on_all_taken() {}  // Of a read.

    // A one-digit sid.
    static char sid_of(std::string_view head) { return head[head.find(' ') + 1]; }
    static std::string_view reply_of(std::string_view head) {
        const std::size_t end = head.find(' ') + 2;
        return head.size() > end + 1 ? head.substr(end + 1) : std::string_view();
    }
    void subscribe(std::string_view subject, char sid) {
        out += "SUB ";
        out += subject;
        out += ' ';
        out += sid;
        out += "\r\n";
    }
    void send(std::string_view subject, std::string_view reply, std::string_view payload) {
        out += "PUB ";
        out += subject;
        out += ' ';
        if (!reply.empty()) {
            out += reply;
            out += ' ';
        }
        out += std::to_string(payload.size());
        out += "\r\n";
        out += payload;
        out += "\r\n";
    }

    bool is_sender_ = false;

private:
    void on_line(std::string_view line) {
        if (line == "PING") {
            out += "PONG\r\n";
        } else if (line == "PONG") {
            on_pong();
        } else if (line.substr(0, 4) == "-ERR") {
            listener_.on_refused("NATS: " + std::string(line));
        }
    }
};

// The receiver answers each message to the subject that the sender listens on: nothing is stored,
// and the ack is the receiver's own.
class NatsCorePeer final : public NatsConnection {
public:
    NatsCorePeer(Listener& listener, const std::string& channel)
        : NatsConnection(listener, channel), subject_("bench." + channel), inbox_("i." + channel) {}

    void on_connected(bool is_sender) override {
        NatsConnection::on_connected(is_sender);
        subscribe(is_sender ? inbox_ : subject_, '1');
        out += "PING\r\n";  // Its PONG comes behind the subscription.
    }

    void publish(std::string_view payload) override { send(subject_, inbox_, payload); }

private:
    void on_msg(std::string_view head, std::string_view payload) override {
        if (is_sender_) return listener_.on_acked();
        send(reply_of(head), {}, {});
        listener_.on_message(payload);
    }
    void on_pong() override { listener_.on_ready(); }

    const std::string subject_;
    const std::string inbox_;
};

// JetStream: one stream of all pairs in a file; each receiver has a push consumer and acks all up
// to the last message of a read.
class JetStreamPeer final : public NatsConnection {
public:
    JetStreamPeer(Listener& listener, const std::string& channel)
        : NatsConnection(listener, channel), subject_("bench." + channel), inbox_("i." + channel) {}

    void on_connected(bool is_sender) override {
        NatsConnection::on_connected(is_sender);
        inbox_ += is_sender ? ".s" : ".r";
        subscribe(inbox_, '1');
        if (is_sender) {
            out += "PING\r\n";
            return;
        }
        subscribe("d." + channel_, kDelivery);
        // Made by whoever is first; to the others the same answer.
        send("$JS.API.STREAM.CREATE.BENCH", inbox_,
             R"({"name":"BENCH","subjects":["bench.*"],"storage":"file"})");
        send("$JS.API.CONSUMER.CREATE.BENCH", inbox_,
             R"({"stream_name":"BENCH","config":{"deliver_subject":"d.)" + channel_ +
                 R"(","deliver_policy":"all","ack_policy":"all","max_ack_pending":100000,)"
                 R"("filter_subject":")" +
                 subject_ + R"("}})");
    }

    void publish(std::string_view payload) override { send(subject_, inbox_, payload); }

private:
    static constexpr char kDelivery = '2';  // The sid of the consumer's messages.

    void on_msg(std::string_view head, std::string_view payload) override {
        if (sid_of(head) == kDelivery) {
            ack_to_ = reply_of(head);
            listener_.on_message(payload);
        } else if (payload.find("\"error\"") != std::string_view::npos) {
            listener_.on_refused("JetStream: " + std::string(payload));
        } else if (is_sender_) {
            listener_.on_acked();
        } else if (++answers_ == 2) {
            listener_.on_ready();
        }
    }
    void on_pong() override { listener_.on_ready(); }
    void on_all_taken() override {
        if (!ack_to_.empty()) send(ack_to_, {}, "+ACK");
        ack_to_.clear();
    }

    const std::string subject_;
    std::string inbox_;
    std::string ack_to_;  // Of the last message of this read.
    int answers_ = 0;
};

// ---- WebSocket ----

// The upgrade and the frames, for both protocols below: packets are texts of JSON.
class WebSocketPeer : public PeerConnection {
public:
    WebSocketPeer(Listener& listener, const std::string& channel, std::string name,
                  std::string resource, std::string subprotocol)
        : PeerConnection(listener, channel),
          name_(std::move(name)),
          resource_(std::move(resource)),
          subprotocol_(std::move(subprotocol)) {}

    void on_connected(bool is_sender) override {
        is_sender_ = is_sender;
        key_ = ws::make_key(masks_.nonce());
        Url url;
        url.host = "127.0.0.1";
        url.port = 80;  // For the Host field only, which nobody reads.
        url.resource = resource_;
        out += ws::make_request(url, key_, subprotocol_);
    }

    std::size_t take(std::string_view data) override {
        std::size_t taken = is_upgraded_ ? 0 : take_answer(data);
        while (is_upgraded_) {
            const std::string_view left = data.substr(taken);
            const relay::FrameHead head = relay::read_frame_head(left);
            if (head.size == 0 || left.size() - head.size < head.length) break;
            const auto size = static_cast<std::size_t>(head.length);
            const std::string_view text = left.substr(head.size, size);
            taken += head.size + size;
            if (head.first_byte == relay::kWholeText && !head.is_masked && on_text(text)) continue;
            refuse("a frame that is none of its own: " + std::string(text));
            break;
        }
        on_all_taken();
        return taken;
    }

protected:
    virtual void on_upgraded() = 0;
    virtual bool on_text(std::string_view text) = 0;  // False: not of this protocol.
    virtual void on_all_taken() {}                    // Of a read.

    void refuse(const std::string& why) { listener_.on_refused(name_ + ": " + why); }
    // What is in text_, as a frame.
    void add_text() {
        const ws::Mask mask = masks_.next();
        ws::append_frame(ws::Opcode::kText, text_, &mask, out);
    }

    bool is_sender_ = false;
    std::string text_;

private:
    // Of the server to the upgrade; 0: not whole yet.
    std::size_t take_answer(std::string_view data) {
        const auto size = find_http_head_end(data, 0);
        if (!size) return 0;
        const ws::Upgraded upgraded = ws::judge_response(data.substr(0, *size), key_, subprotocol_);
        if (!upgraded.is_upgraded || upgraded.subprotocol != subprotocol_) {
            refuse("no upgrade: " + upgraded.failure.reason);
            return *size;
        }
        is_upgraded_ = true;
        on_upgraded();
        return *size;
    }

    const std::string name_;
    const std::string resource_;
    const std::string subprotocol_;
    MaskSource masks_;
    std::string key_;
    bool is_upgraded_ = false;
};

// ---- practical_limit.cpp ----

class RelayPeer final : public WebSocketPeer {
public:
    RelayPeer(Listener& listener, const std::string& channel)
        : WebSocketPeer(listener, channel, "relay", "/", "") {}

    void publish(std::string_view payload) override {
        text_ = R"({"to":")";
        text_ += channel_;
        text_ += R"(-r","fp":")";
        add_fingerprint(published_++);
        text_ += R"(","payload":")";
        text_ += payload;  // Nothing in it needs an escape.
        text_ += R"("})";
        add_text();
    }

private:
    void on_upgraded() override {
        text_ = R"({"user":")" + channel_ + (is_sender_ ? R"(-s"})" : R"(-r"})");
        add_text();
    }

    bool on_text(std::string_view text) override {
        relay::Packet packet;
        if (!relay::parse(text, packet)) return false;
        on_packet(packet);
        return true;
    }

    void on_packet(const relay::Packet& packet) {
        if (!packet.payload.empty()) {
            text_ = R"({"ack":")";
            text_ += packet.fp;
            text_ += R"("})";
            add_text();
            listener_.on_message(packet.payload);
        } else if (!packet.ack.empty()) {
            text_.clear();
            add_fingerprint(acked_++);
            if (packet.ack != text_) return refuse("an ack for another");
            listener_.on_acked();
        } else if (!packet.user.empty()) {
            listener_.on_ready();
        } else {
            refuse("refused " + std::string(packet.refused));
        }
    }

    void add_fingerprint(std::uint64_t number) {
        text_ += channel_;
        text_ += '-';
        append_number(text_, number);
    }

    std::uint64_t published_ = 0, acked_ = 0;
};

// ---- petrel.v1 ----

// As little as a client of PROTOCOL.md section 4 may do whose connection never breaks: it keeps
// nothing to send again, so whatever would ask for that ends the run. The receiver acks all of a
// read at once.
class PetrelPeer final : public WebSocketPeer {
public:
    PetrelPeer(Listener& listener, const std::string& channel, std::uint32_t window)
        : WebSocketPeer(listener, channel, "petrel", "/ws", "petrel.v1"),
          asked_window_(window == 0 ? kWindowOfOpenLoop : std::max(window, kWindowMin)) {}

    void publish(std::string_view payload) override {
        text_ = R"({"type":2,"dataContent":")";
        text_ += payload;  // Nothing in it needs an escape.
        text_ += R"(","to":")";
        text_ += channel_;
        text_ += R"(-r","fp":")";
        uuids_.next().append_to(text_);
        text_ += R"(","Qos":true,"typeu":0,"seq":)";
        append_number(text_, ++published_);
        text_ += '}';
        if (waiting_.empty() && has_room(text_.size())) {
            send_data();
        } else {
            waiting_.push_back(text_);
        }
    }

    void keep_alive() override {
        if (!is_online_) return;
        Heartbeat heartbeat;
        heartbeat.positions = Positions{sent(), rx_, rx_};
        send(Packet(std::move(heartbeat)));
    }

private:
    static constexpr std::uint32_t kWindowMin = 64;  // Of the receiver, as in `petrel bench`.
    static constexpr std::uint32_t kWindowOfOpenLoop = 1000;  // As the gateway's: compare.py.

    void on_upgraded() override {
        Login login;
        login.user = channel_ + (is_sender_ ? "-s" : "-r");
        login.app = "bench";
        login.v1.emplace();
        login.v1->device = "bare";
        login.v1->outbox.stream = uuids_.next().to_string();
        login.v1->window = is_sender_ ? 0 : asked_window_;
        send(Packet(std::move(login)));
    }

    // By hand where there are many; the codec reads the rest.
    bool on_text(std::string_view text) override {
        const auto type = number_behind(R"("type":)", text);
        if (type == 2) return on_data(text);
        if (type != 54 || text.find(R"("gap":)") != std::string_view::npos) return on_rare(text);
        const auto h = number_behind(R"("h":)", text);
        if (h) on_accepted(*h);
        return h.has_value();
    }

    bool on_data(std::string_view text) {
        constexpr std::string_view kContent = R"("dataContent":")";
        const std::size_t key = text.find(kContent);
        if (key == std::string_view::npos) return false;
        const std::size_t begin = key + kContent.size();
        const std::size_t end = text.find('"', begin);  // Nothing in it is escaped.
        if (end == std::string_view::npos) return false;
        const auto seq = number_behind(R"("seq":)", text);
        if (!seq) return false;
        if (*seq != rx_ + 1) {
            refuse("position " + std::to_string(*seq) + " behind " + std::to_string(rx_));
            return true;
        }
        rx_ = *seq;
        listener_.on_message(text.substr(begin, end - begin));
        return true;
    }

    bool on_rare(std::string_view text) {
        const auto decoded = decode(text, ProfileId::kPetrelV1);
        if (!decoded) return false;
        if (const auto* reply = std::get_if<LoginResponse>(&decoded->packet)) {
            if (reply->code != 0 || !reply->v1) return false;
            window_ = reply->v1->window;
            window_bytes_ = reply->v1->window_bytes;
            rx_ = handled_ = reply->v1->inbox.seq;
            is_online_ = true;
            listener_.on_ready();
            return true;
        }
        if (const auto* answer = std::get_if<HeartbeatResponse>(&decoded->packet)) {
            if (answer->positions) on_accepted(answer->positions->h);
            return true;
        }
        // Receipts tell a sender more than it asks. What else there is means trouble.
        return std::holds_alternative<Receipt>(decoded->packet);
    }

    // Everything up to `h` is.
    void on_accepted(Position h) {
        if (h > sent()) return refuse("an ack for what was not sent");
        while (acked_ < h) {
            ++acked_;
            unacked_bytes_ -= unacked_.front();
            unacked_.pop_front();
            listener_.on_acked();  // Which may publish.
        }
        for (; !waiting_.empty() && has_room(waiting_.front().size()); waiting_.pop_front()) {
            text_ = std::move(waiting_.front());
            send_data();
        }
    }

    void on_all_taken() override {
        if (rx_ == handled_) return;
        handled_ = rx_;
        text_ = R"({"type":4,"h":)";
        append_number(text_, handled_);
        text_ += '}';
        add_text();
    }

    Position sent() const { return acked_ + unacked_.size(); }
    // Section 4.6: one may always be under way.
    bool has_room(std::size_t size) const {
        return unacked_.empty() ||
               (unacked_.size() < window_ && unacked_bytes_ + size <= window_bytes_);
    }
    // What is in text_.
    void send_data() {
        unacked_.push_back(text_.size());
        unacked_bytes_ += text_.size();
        add_text();
    }
    void send(const Packet& packet) {
        text_.clear();
        encode(packet, ProfileId::kPetrelV1, Side::kClient, text_);
        add_text();
    }

    // No string that comes here has a quote in it that could make it look like a key.
    static std::optional<std::uint64_t> number_behind(std::string_view key, std::string_view text) {
        const std::size_t at = text.find(key);
        if (at == std::string_view::npos) return std::nullopt;
        const char* const end = text.data() + text.size();
        std::uint64_t number = 0;
        const auto read = std::from_chars(text.data() + at + key.size(), end, number);
        if (read.ec != std::errc()) return std::nullopt;
        return number;
    }

    const std::uint32_t asked_window_;
    UuidSource uuids_;
    bool is_online_ = false;

    // The sender's.
    std::uint32_t window_ = 0, window_bytes_ = 0;  // The gateway's, of the login.
    Position published_ = 0, acked_ = 0;
    std::deque<std::size_t> unacked_;  // Bytes of their frames.
    std::size_t unacked_bytes_ = 0;
    std::deque<std::string> waiting_;  // For room in the window.

    // The receiver's.
    Position rx_ = 0, handled_ = 0;
};

}  // namespace

std::unique_ptr<PeerConnection> make_peer(std::string_view protocol, const PeerOptions& options,
                                          PeerConnection::Listener& listener,
                                          const std::string& channel) {
    if (protocol == "mqtt1") return std::make_unique<MqttPeer>(listener, channel, 1);
    if (protocol == "mqtt2") return std::make_unique<MqttPeer>(listener, channel, 2);
    if (protocol == "redis") return std::make_unique<RedisPeer>(listener, channel, options.size);
    if (protocol == "nats") return std::make_unique<JetStreamPeer>(listener, channel);
    if (protocol == "nats-core") return std::make_unique<NatsCorePeer>(listener, channel);
    if (protocol == "relay") return std::make_unique<RelayPeer>(listener, channel);
    if (protocol == "petrel") {
        return std::make_unique<PetrelPeer>(listener, channel, options.window);
    }
    return nullptr;
}

}  // namespace petrel::bench
