#include "tests/bench/peer_websockets.hpp"

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

std::unique_ptr<PeerConnection> make_websocket_peer(std::string_view protocol,
                                                    const PeerOptions& options,
                                                    PeerConnection::Listener& listener,
                                                    const std::string& channel) {
    if (protocol == "relay") return std::make_unique<RelayPeer>(listener, channel);
    if (protocol == "petrel") {
        return std::make_unique<PetrelPeer>(listener, channel, options.window);
    }
    return nullptr;
}

}  // namespace petrel::bench
