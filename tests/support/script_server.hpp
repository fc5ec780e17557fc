#pragma once

#include <doctest/doctest.h>

#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "daemons/timer.hpp"
#include "protocol/packet.hpp"

// A server that follows a script: what it expects, in order, and what it answers.
//
//   server.expect(login()).reply(login_ok(), 2ms);
//
// What was not expected fails, and prints the packets readably.

namespace petrel::test {

// One packet in a few words: "login gen 0 from e/3", "data a@1", "ack 3", "beat 1/2/2".
inline std::string words(const Packet& packet) {
    struct Words {
        std::string operator()(const Login& p) const {
            std::string text = "login " + p.user;
            if (p.first_login_time) text += " first " + std::to_string(*p.first_login_time);
            if (!p.v1) return text;
            text += " gen " + std::to_string(p.v1->generation);
            if (p.v1->inbox) {
                text += " from " + p.v1->inbox->epoch + "/" + std::to_string(p.v1->inbox->seq);
            }
            return text + " first " + std::to_string(p.v1->outbox.first);
        }
        std::string operator()(const LoginResponse& p) const {
            return "login-response " + std::to_string(p.code);
        }
        std::string operator()(const Heartbeat& p) const { return "beat" + positions(p.positions); }
        std::string operator()(const HeartbeatResponse& p) const {
            return "beat-response" + positions(p.positions);
        }
        std::string operator()(const Data& p) const {
            std::string text = "data " + p.text;
            if (p.seq != 0) text += "@" + std::to_string(p.seq);
            if (p.prev) text += "<" + std::to_string(*p.prev);
            if (p.h) text += "+ack " + std::to_string(*p.h);
            return text;
        }
        std::string operator()(const Logout&) const { return "logout"; }
        std::string operator()(const Ack& p) const {
            if (!p.h) return "ack " + p.fp.to_string();
            std::string text = "ack " + std::to_string(*p.h);
            if (p.gap) text += " gap " + std::to_string(p.rx.value_or(0));
            return text;
        }
        std::string operator()(const Echo& p) const { return "echo " + p.text; }
        std::string operator()(const ErrorPacket& p) const {
            return "error " + std::to_string(p.code);
        }
        std::string operator()(const Kickout& p) const { return "kick " + std::to_string(p.code); }
        std::string operator()(const Receipt& p) const {
            return "receipt " + std::to_string(p.delivered);
        }
        std::string operator()(const UnknownPacket& p) const {
            return "type " + std::to_string(p.type);
        }
        static std::string positions(const std::optional<Positions>& p) {
            if (!p) return {};
            return " " + std::to_string(p->sent) + "/" + std::to_string(p->rx) + "/" +
                   std::to_string(p->h);
        }
    };
    return std::visit(Words{}, packet);
}

struct Matcher {
    std::string what;
    std::function<bool(const Packet&)> matches;
};

template <class T>
Matcher any_of(std::string what) {
    return {std::move(what), [](const Packet& p) { return std::holds_alternative<T>(p); }};
}
inline Matcher exactly(std::string text) {
    return {text, [text](const Packet& p) { return words(p) == text; }};
}

inline Matcher login() { return any_of<Login>("login"); }
inline Matcher heartbeat() { return any_of<Heartbeat>("beat"); }
inline Matcher logout() { return any_of<Logout>("logout"); }
inline Matcher ack() { return any_of<Ack>("ack"); }
inline Matcher echo() { return any_of<Echo>("echo"); }
inline Matcher anything() {
    return {"anything", [](const Packet&) { return true; }};
}
inline Matcher data(const std::string& text) {
    return {"data " + text, [text](const Packet& p) {
                const auto* data = std::get_if<Data>(&p);
                return data != nullptr && data->text == text;
            }};
}

struct Reply {
    Packet packet;
    Duration delay{0};
};

class ScriptServer {
public:
    class Step {
    public:
        Step(Matcher matcher) : matcher_(std::move(matcher)) {}
        Step& reply(Packet packet, Duration delay = Duration::zero()) {
            replies_.push_back({std::move(packet), delay});
            return *this;
        }

    private:
        friend class ScriptServer;
        Matcher matcher_;
        std::vector<Reply> replies_;
    };

    ~ScriptServer() {
        for (const Step& step : steps_) FAIL_CHECK("never came: " << step.matcher_.what);
    }

    // In this order.
    Step& expect(Matcher matcher) { return steps_.emplace_back(std::move(matcher)); }
    // At any time, any number of times.
    void allow(Matcher matcher) { allowed_.push_back(std::move(matcher)); }

    // What to answer.
    std::vector<Reply> on_packet(const Packet& packet) {
        took_.push_back(words(packet));
        if (!steps_.empty() && steps_.front().matcher_.matches(packet)) {
            auto replies = std::move(steps_.front().replies_);
            steps_.pop_front();
            return replies;
        }
        for (const Matcher& matcher : allowed_) {
            if (matcher.matches(packet)) return {};
        }
        FAIL_CHECK("unexpected packet: " << words(packet) << "; expected: "
                                         << (steps_.empty() ? "none" : steps_.front().matcher_.what)
                                         << "; before it: " << list(took_));
        return {};
    }

    // What came since the last call, comma between.
    std::string took() { return list(std::exchange(took_, {})); }

    static std::string list(const std::vector<std::string>& lines) {
        std::string text;
        for (const std::string& line : lines) {
            if (!text.empty()) text += ", ";
            text += line;
        }
        return text;
    }

private:
    std::deque<Step> steps_;
    std::vector<Matcher> allowed_;
    std::vector<std::string> took_;
};

}  // namespace petrel::test
