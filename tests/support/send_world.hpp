#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "daemons/qos_send.hpp"
#include "tests/support/fake_context.hpp"

namespace petrel::test {

inline Fingerprint fp(const std::string& text) { return Fingerprint::parse(text).value(); }

// A message whose fingerprint and text are `name`.
inline Data data(const std::string& name) {
    Data message;
    message.to = "bob";
    message.fp = fp(name);
    message.qos = true;
    message.text = name;
    return message;
}

inline QosSendDaemon::Options window_of(std::size_t packets) {
    QosSendDaemon::Options options;
    options.window_packets_max = packets;
    return options;
}

// A QosSendDaemon in virtual time. What happens is told as text: packets as "a@1" (fingerprint at
// position, "<0" for prev 0), outcomes as "accepted a/1" (after one attempt).
class SendWorld final : public QosSendDaemon::Listener {
public:
    explicit SendWorld(QosSendDaemon::Options options = {}) : daemon(context, *this, options) {}
    ~SendWorld() { CHECK(daemon.is_consistent()); }

    void on_accepted(const QosSendDaemon::Settled& m, const Acceptance* at) override {
        std::string text = outcome("accepted", m);
        if (at != nullptr) text += " cseq " + std::to_string(at->cseq);
        tell(text);
    }
    void on_rejected(const QosSendDaemon::Settled& m, int code) override {
        tell(outcome("rejected", m) + " code " + std::to_string(code));
    }
    void on_expired(const QosSendDaemon::Settled& m) override { tell(outcome("expired", m)); }
    void on_lost(const QosSendDaemon::Settled& m) override { tell(outcome("lost", m)); }
    void on_late_ack(const Fingerprint& id) override { tell("late " + id.to_string()); }
    void on_peer_lost_accepted(Position accepted, Position first) override {
        tell("peer lost " + std::to_string(accepted) + " first " + std::to_string(first));
    }
    void on_new_stream_wanted() override { tell("new stream"); }
    void on_outstanding_changed() override {
        ++outstanding_changes;
        if (outstanding_hook) outstanding_hook();
    }
    void on_round_trip(Duration sample) override { round_trips.push_back(sample); }

    std::error_code submit(const std::string& name,
                           std::optional<Duration> expires_after = std::nullopt) {
        std::optional<TimePoint> expires_at;
        if (expires_after) expires_at = context.now() + *expires_after;
        return daemon.submit(data(name), expires_at);
    }
    void submit_all(const std::vector<std::string>& names) {
        for (const auto& name : names) REQUIRE_FALSE(submit(name));
    }
    void online(Position accepted = 0, std::size_t window = 64,
                std::size_t window_bytes = std::size_t{1} << 20) {
        daemon.on_online({accepted, window, window_bytes});
    }
    void reconnect(Position accepted = 0, std::size_t window = 64) {
        daemon.on_offline();
        online(accepted, window);
    }
    bool ack(Position h, std::vector<Acceptance> acc = {}) { return daemon.on_ack(h, acc); }
    bool refuse(const std::string& name, Position seq, int code, Duration retry = Duration{0}) {
        return daemon.on_refused(fp(name), seq, code, retry);
    }
    std::vector<std::pair<Data, unsigned>> take_all() {
        std::vector<std::pair<Data, unsigned>> all;
        daemon.take_all([&all](const Data& message, unsigned attempts) {
            all.emplace_back(message, attempts);
        });
        return all;
    }
    void advance(Duration by) { context.advance(by); }

    // What left since the last call.
    std::string sent() {
        std::string text;
        for (const Packet& packet : context.take_sent()) {
            const Data& message = std::get<Data>(packet);
            if (!text.empty()) text += ' ';
            text += message.fp.to_string();
            if (message.seq != 0) text += '@' + std::to_string(message.seq);
            if (message.prev) text += '<' + std::to_string(*message.prev);
        }
        return text;
    }
    // What was told since the last call.
    std::string told() { return std::exchange(told_, {}); }

    FakeContext context;
    std::vector<Duration> round_trips;
    int outstanding_changes = 0;
    std::function<void()> outstanding_hook;
    std::function<void(const std::string&)> hook;  // Called with each thing told.
    QosSendDaemon daemon;

private:
    static std::string outcome(const char* what, const QosSendDaemon::Settled& m) {
        return std::string(what) + ' ' + m.message.fp.to_string() + '/' +
               std::to_string(m.attempts);
    }
    void tell(const std::string& text) {
        CHECK(daemon.is_consistent());  // State is settled before anybody hears of it.
        if (!told_.empty()) told_ += ", ";
        told_ += text;
        if (hook) hook(text);
    }

    std::string told_;
};

}  // namespace petrel::test
