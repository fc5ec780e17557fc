#include "tests/bench/peer_protocols.hpp"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tests/bench/peer_websockets.hpp"

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
        } else if (std::exchange(has_stream_, true)) {
            listener_.on_ready();
        } else {
            create_consumer();
        }
    }
    void create_consumer() {
        send("$JS.API.CONSUMER.CREATE.BENCH", inbox_,
             R"({"stream_name":"BENCH","config":{"deliver_subject":"d.)" + channel_ +
                 R"(","deliver_policy":"all","ack_policy":"all","max_ack_pending":100000,)"
                 R"("filter_subject":")" +
                 subject_ + R"("}})");
    }
    void on_pong() override { listener_.on_ready(); }
    void on_all_taken() override {
        if (!ack_to_.empty()) send(ack_to_, {}, "+ACK");
        ack_to_.clear();
    }

    const std::string subject_;
    std::string inbox_;
    std::string ack_to_;       // Of the last message of this read.
    bool has_stream_ = false;  // It was answered.
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
    return make_websocket_peer(protocol, options, listener, channel);
}

}  // namespace petrel::bench
