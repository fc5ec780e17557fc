#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "core/client/engine.hpp"
#include "protocol/codec.hpp"
#include "tests/support/fake_boxes.hpp"
#include "tests/support/script_server.hpp"

namespace petrel::test {

using namespace std::chrono_literals;

inline Fingerprint fp(const std::string& text) { return Fingerprint::parse(text).value(); }

// "fp-1", "fp-2"...
class CountingSource final : public FingerprintSource {
public:
    Fingerprint next() override { return fp("fp-" + std::to_string(++count_)); }

private:
    int count_ = 0;
};

// ---- what servers say ----

inline LoginResponse login_ok() {
    LoginResponse reply;
    reply.to = "alice";
    LoginReplyV1& v1 = reply.v1.emplace();
    v1.session = "s";
    v1.generation = 7;
    v1.inbox = {"e", 0, 0, true};
    return reply;
}
inline LoginResponse login_ok_from(Position seq, Position accepted = 0) {
    LoginResponse reply = login_ok();
    reply.v1->inbox.seq = seq;
    reply.v1->inbox.last = seq;
    reply.v1->accepted = accepted;
    return reply;
}
inline LoginResponse login_refused(int code, std::optional<bool> retry = std::nullopt) {
    LoginResponse reply;
    reply.code = code;
    reply.to = "alice";
    reply.retry = retry;
    return reply;
}
inline LoginResponse plain_login(int code = 0) {
    LoginResponse reply;
    reply.code = code;
    reply.to = "alice";
    return reply;
}
// A message to us at an inbox position.
inline Data push(Position seq, std::string text = {}) {
    Data data;
    data.from = "bob";
    data.to = "alice";
    data.qos = true;
    data.typeu = kTypeuSingle;
    data.seq = seq;
    data.text = text.empty() ? "m" + std::to_string(seq) : std::move(text);
    data.fp = fp("in-" + std::to_string(seq));
    data.conv = "u:alice:bob";
    data.cseq = seq;
    data.send_ts = 1000;
    return data;
}
inline Ack accepted(Position h, std::vector<Acceptance> acc = {}) {
    Ack ack;
    ack.h = h;
    ack.acc = std::move(acc);
    return ack;
}
inline Ack gap(Position h, Position rx) {
    Ack ack = accepted(h);
    ack.rx = rx;
    ack.gap = true;
    return ack;
}
inline ErrorPacket refusal(const std::string& id, Position seq, int code) {
    ErrorPacket error;
    error.code = code;
    error.message = "no";
    error.fp = fp(id);
    error.seq = seq;
    return error;
}
inline HeartbeatResponse beat_response(Position sent, Position rx, Position h) {
    HeartbeatResponse response;
    response.positions = Positions{sent, rx, h};
    return response;
}

// One Engine in virtual time against a scripted server. Connections open at once.
class EngineWorld : public EngineHost {
public:
    explicit EngineWorld(EngineOptions wanted = {}) : options(std::move(wanted)) {
        if (options.user.empty()) options.user = "alice";
        if (options.device.empty()) options.device = "phone";
    }
    virtual ~EngineWorld() {
        if (engine_) CHECK(engine_->is_consistent());
        CHECK(inbox.was_dense);
    }

    // ---- before the engine exists ----
    EngineOptions options;
    FakeOutbox outbox;
    FakeInbox inbox;
    ScriptServer server;
    std::string echoed = "petrel.v1";          // "" for a plain server.
    ProfileId profile = ProfileId::kPetrelV1;  // How the server writes.
    bool opens = true;                         // Else connections stay in the air.
    std::size_t queued = 0;                    // Bytes on the socket; of nobody's sending.
    std::size_t bytes_kept_per_send = 0;       // Nonzero: what is sent stays queued until drain().
    WallMillis wall = 1'000'000;

    Engine& engine() {
        if (!engine_) {
            engine_ = std::make_unique<Engine>(options, *this, outbox, inbox, source, 1, now_);
        }
        return *engine_;
    }
    // The process ends and starts again with the same boxes.
    void restart() {
        engine_.reset();
        is_open_ = false;
        told_.clear();
    }
    void kill() { engine_.reset(); }

    // ---- the app ----
    void login() {
        engine().login(now_);
        turn();
    }
    // Logs in, with that reply.
    void go_online(LoginResponse reply = login_ok()) {
        server.expect(test::login()).reply(std::move(reply));
        login();
        turn();
    }
    // As try_send, and it must be taken.
    void send(const std::string& text, SendRequest request = {}) {
        CHECK(try_send(text, std::move(request)));
    }
    Result<Fingerprint> try_send(const std::string& text, SendRequest request = {}) {
        auto result = send_later(text, std::move(request));
        turn();
        if (!*result) return Errc::kUnknown;
        return **result;
    }
    using SendResult = std::shared_ptr<std::optional<Result<Fingerprint>>>;
    // fp = text, to bob, unless the request says otherwise.
    SendResult send_later(const std::string& text, SendRequest request = {}) {
        if (request.to.empty()) request.to = "bob";
        if (request.text.empty()) request.text = text;
        if (request.fp.empty()) request.fp = fp(text);
        auto result = std::make_shared<std::optional<Result<Fingerprint>>>();
        engine().send(now_, std::move(request), [result](Result<Fingerprint> r) {
            CHECK_FALSE(result->has_value());
            result->emplace(std::move(r));
        });
        return result;
    }

    // ---- the network ----
    void say(Packet packet) {
        std::string text;
        encode(packet, profile, Side::kServer, text);
        say_text(text);
        turn();
    }
    // Many in one turn.
    void say_all(const std::vector<Packet>& packets) {
        for (const Packet& packet : packets) {
            std::string text;
            encode(packet, profile, Side::kServer, text);
            say_text(text);
        }
        turn();
    }
    void say_text(const std::string& text) { engine().on_text(now_, attempt_, text); }
    void open() {
        is_open_ = true;
        engine().on_connected(now_, attempt_, echoed);
        turn();
    }
    void cut(std::uint16_t code = 1006, const std::string& reason = "cut", int http_status = 0,
             std::optional<Duration> retry_after = std::nullopt) {
        is_open_ = false;
        engine().on_closed(now_, attempt_, code, reason, http_status, retry_after);
        turn();
    }
    void drain() {
        queued = 0;
        engine().on_drained(now_, attempt_);
        turn();
    }
    // Until the next login has been answered; the backoff takes its time (section 4.9).
    void come_back(LoginResponse reply = login_ok()) {
        server.expect(test::login()).reply(std::move(reply));
        for (Duration left = 31s; left > 0s && engine().state() != ClientState::kOnline;) {
            advance(10ms);
            left -= 10ms;
        }
        CHECK(engine().state() == ClientState::kOnline);
    }

    // ---- time ----
    void advance(Duration by) {
        const TimePoint end = now_ + by;
        for (;;) {
            TimePoint next = end;
            if (const auto deadline = engine().next_deadline()) next = std::min(next, *deadline);
            if (!replies_.empty()) next = std::min(next, replies_.begin()->first);
            set_now(std::max(next, now_));
            deliver_replies();
            engine().advance_to(now_);
            turn();
            if (now_ >= end && (replies_.empty() || replies_.begin()->first > now_) &&
                (!engine().next_deadline() || *engine().next_deadline() > now_)) {
                break;
            }
        }
    }
    // The process slept: all that became due fires late.
    void pause(Duration by) {
        set_now(now_ + by);
        engine().advance_to(now_);
        turn();
    }
    TimePoint now() const { return now_; }

    // The end of an event-loop turn, as an owner does it.
    void turn() {
        for (int round = 0; round < 1000; ++round) {
            const bool moved = connect_if_wanted() || deliver_replies();
            if (pulls) take_events();
            engine().flush(now_);
            if (pulls) take_events();
            if (!moved && !turn_wanted_ && !connect_wanted_ && !has_due_reply()) return;
            turn_wanted_ = false;
        }
        FAIL("the engine never comes to rest");
    }
    bool pulls = true;                           // Else the events stay in the engine.
    std::function<void(const Event&)> on_event;  // The app's callback.

    // What the app was told since the last call, in words.
    std::string told() { return ScriptServer::list(std::exchange(told_, {})); }
    // Only what begins with that word.
    std::string told(const std::string& word) {
        std::vector<std::string> some;
        for (std::string& line : std::exchange(told_, {})) {
            if (line.rfind(word, 0) == 0) some.push_back(std::move(line));
        }
        return ScriptServer::list(some);
    }
    std::vector<Event> events;  // All of them.
    std::string logged;
    std::vector<std::string> closes;  // disconnect() calls: "4006 reason"
    std::vector<std::string> asked;   // Subprotocols of connect() calls.
    std::vector<std::uint64_t> message_ids;
    std::uint64_t attempt() const { return attempt_; }
    CountingSource source;

    template <class T>
    const T* last() const {
        for (auto it = events.rbegin(); it != events.rend(); ++it) {
            if (const auto* found = std::get_if<T>(&*it)) return found;
        }
        return nullptr;
    }

    void take_events() {
        while (auto event = engine().next_event()) {
            told_.push_back(words_of(*event));
            events.push_back(*event);
            if (const auto* message = std::get_if<MessageEvent>(&*event)) {
                message_ids.push_back(message->id);
            }
            if (on_event) on_event(*event);
            engine().on_event_done(now_, *event);
        }
    }

    // ---- EngineHost ----
    void connect(std::uint64_t attempt, std::string_view subprotocol) override {
        attempt_ = attempt;
        is_open_ = false;
        connect_wanted_ = opens;
        asked.emplace_back(subprotocol);
    }
    void send_text(std::uint64_t attempt, std::string_view text) override {
        REQUIRE(attempt == attempt_);
        REQUIRE(is_open_);
        queued += bytes_kept_per_send;
        const auto decoded = decode(text, profile);
        REQUIRE_MESSAGE(decoded, "not a packet: " << std::string(text));
        for (Reply& reply : server.on_packet(decoded->packet)) {
            std::string answer;
            encode(reply.packet, profile, Side::kServer, answer);
            replies_.emplace(now_ + reply.delay, std::pair(attempt, std::move(answer)));
        }
        texts.emplace_back(text);
    }
    void disconnect(std::uint64_t attempt, std::uint16_t code, std::string_view reason) override {
        CHECK(attempt == attempt_);
        is_open_ = false;
        connect_wanted_ = false;
        closes.push_back(std::to_string(code) + " " + std::string(reason));
    }
    std::size_t queued_bytes() const override { return queued; }
    std::size_t queued_packets() const override { return queued / 100; }
    WallMillis wall_ms() const override { return wall; }
    void log(LogLevel, std::string_view text) override { logged.append(text).append("\n"); }
    void on_turn_wanted() override { turn_wanted_ = true; }
    std::vector<std::string> texts;  // All that was sent.

private:
    void set_now(TimePoint now) {
        wall += std::chrono::duration_cast<std::chrono::milliseconds>(now - now_).count();
        now_ = now;
    }
    bool connect_if_wanted() {
        if (!std::exchange(connect_wanted_, false)) return false;
        is_open_ = true;
        engine().on_connected(now_, attempt_, echoed);
        return true;
    }
    bool has_due_reply() const { return !replies_.empty() && replies_.begin()->first <= now_; }
    bool deliver_replies() {
        bool moved = false;
        while (has_due_reply()) {
            const auto [attempt, text] = replies_.begin()->second;
            replies_.erase(replies_.begin());
            engine().on_text(now_, attempt, text);
            moved = true;
        }
        return moved;
    }
    static std::string outcome_words(const OutcomeRecord& record) {
        static const char* const kWords[] = {"accepted",  "rejected", "expired",
                                             "cancelled", "lost",     "unknown"};
        std::string text = kWords[static_cast<std::size_t>(record.outcome)];
        text += " " + record.fp.to_string() + "/" + std::to_string(record.attempts);
        if (record.cseq) text += " cseq " + std::to_string(*record.cseq);
        if (record.code != 0) text += " code " + std::to_string(record.code);
        return text;
    }
    static std::string words_of(const Event& event) {
        struct Words {
            std::string operator()(const StateEvent& e) const {
                static const char* const kWords[] = {"offline", "connecting", "online",
                                                     "no-network", "stopped"};
                std::string text = kWords[static_cast<std::size_t>(e.state)];
                return e.code == 0 ? text : text + " " + std::to_string(e.code);
            }
            std::string operator()(const LoginEvent& e) const {
                std::string text = "login " + std::to_string(e.code);
                return e.will_retry ? text + " retry" : text;
            }
            std::string operator()(const MessageEvent& e) const {
                return (e.is_redelivered ? "again " : "message ") + e.text;
            }
            std::string operator()(const OutcomeEvent& e) const {
                return (e.is_correction ? "correction " : "") + outcome_words(e.record);
            }
            std::string operator()(const DeliveredEvent& e) const {
                return "delivered " + e.conv + " " + std::to_string(e.delivered);
            }
            std::string operator()(const TokenNeededEvent& e) const {
                return "token-needed " + std::to_string(e.code);
            }
            std::string operator()(const KickedEvent& e) const {
                return "kicked " + std::to_string(e.code) + " " + e.device;
            }
            std::string operator()(const BreakEvent& e) const {
                return std::string("break ") +
                       (e.side == BreakEvent::Side::kInbox ? "inbox " : "outbox ") + e.epoch + "/" +
                       std::to_string(e.resumed_after);
            }
            std::string operator()(const ErrorEvent& e) const {
                return "error " + std::to_string(e.code);
            }
            std::string operator()(const EchoEvent& e) const { return "echo " + e.text; }
        };
        return std::visit(Words{}, event);
    }

    TimePoint now_{std::chrono::hours{1}};
    std::uint64_t attempt_ = 0;
    bool is_open_ = false;
    bool connect_wanted_ = false;
    bool turn_wanted_ = false;
    std::multimap<TimePoint, std::pair<std::uint64_t, std::string>> replies_;
    std::vector<std::string> told_;
    std::unique_ptr<Engine> engine_;
};

}  // namespace petrel::test
