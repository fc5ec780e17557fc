#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "protocol/codec.hpp"
#include "transport/event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel::test {

// Long enough for any machine; a test that waits for it has failed.
constexpr std::chrono::seconds kPatience{30};

// Runs it on the loop and waits.
inline void on_loop(EventLoop& loop, const std::function<void()>& work) {
    std::promise<void> done;
    loop.post([&] {
        work();
        done.set_value();
    });
    REQUIRE(done.get_future().wait_for(kPatience) == std::future_status::ready);
}

// Values that threads hand one another.
template <class T>
class Mailbox {
public:
    void put(T value) {
        // Under the lock: who waited may destroy this as soon as it is let go.
        const std::lock_guard lock(mutex_);
        values_.push_back(std::move(value));
        changed_.notify_all();
    }
    // Waits until there are so many.
    bool wait_for(std::size_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, kPatience, [&] { return values_.size() >= count; });
    }
    std::vector<T> all() {
        const std::lock_guard lock(mutex_);
        return values_;
    }
    std::size_t size() { return all().size(); }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<T> values_;
};

// A petrel.v1 server for one test: accepts every login and every message, answers heartbeats and
// echoes. Lives on its loop's thread; what the test may ask from outside is in mailboxes.
class LoopServer final : public Listener::Handler {
public:
    explicit LoopServer(std::unique_ptr<Listener> listener) : listener_(std::move(listener)) {
        ListenOptions options;
        const auto port = listener_->listen(options, *this);
        REQUIRE_MESSAGE(port, listener_->last_error());
        port_ = *port;
    }

    std::uint16_t port() const { return port_; }
    bool acks = true;                 // Else messages stay unanswered.
    std::vector<std::string> pushes;  // To everyone who logs in, as positions 1, 2...
    Mailbox<std::string> messages;    // "text" of every type 2, in order of arrival.
    Mailbox<Position> handled;        // `h` of every ack.
    Mailbox<std::string> closes;      // "1000", of every connection that ended.

    void cut_all() { sessions_.clear(); }

    void on_accept(std::unique_ptr<Transport> transport, const PeerInfo&) override {
        auto session = std::make_unique<Session>(*this, std::move(transport));
        session->transport->set_handler(*session);
        sessions_.emplace(session.get(), std::move(session));
    }

private:
    struct Session final : Transport::Handler {
        Session(LoopServer& owner, std::unique_ptr<Transport> connection)
            : server(owner), transport(std::move(connection)) {}

        void on_open(std::string_view) override {}
        void on_binary(std::size_t) override {}
        void on_drained() override {}
        void on_text(std::string_view text) override {
            const auto decoded = decode(text, ProfileId::kPetrelV1);
            REQUIRE(decoded);
            std::visit([this](const auto& packet) { on(packet); }, decoded->packet);
        }
        void on_closed(const CloseInfo& info) override {
            server.closes.put(std::to_string(info.code));
            is_closed = true;
        }

        void on(const Login& login) {
            LoginResponse reply;
            reply.to = login.user;
            LoginReplyV1& v1 = reply.v1.emplace();
            v1.generation = 1;
            v1.inbox.epoch = "e";
            if (login.v1->inbox) v1.inbox.seq = login.v1->inbox->seq;
            v1.inbox.last = server.pushes.size();
            v1.accepted = server.accepted_[login.v1->outbox.stream];
            stream = login.v1->outbox.stream;
            say(reply);
            for (Position seq = v1.inbox.seq + 1; seq <= server.pushes.size(); ++seq) {
                Data data;
                data.from = "bob";
                data.to = login.user;
                data.qos = true;
                data.seq = seq;
                data.fp = Fingerprint::parse("push-" + std::to_string(seq)).value();
                data.text = server.pushes[seq - 1];
                say(data);
            }
        }
        void on(const Heartbeat& beat) {
            HeartbeatResponse response;
            response.positions =
                Positions{server.pushes.size(), beat.positions->sent, server.accepted_[stream]};
            say(response);
        }
        void on(const Data& data) {
            server.messages.put(data.text);
            if (data.h) server.handled.put(*data.h);
            if (!data.qos || !server.acks) return;
            Position& height = server.accepted_[stream];
            height = std::max(height, data.seq);
            Ack ack;
            ack.h = height;
            say(ack);
        }
        void on(const Ack& ack) { server.handled.put(*ack.h); }
        void on(const Echo& echo) {
            Echo response = echo;
            response.is_response = true;
            say(response);
        }
        template <class Other>
        void on(const Other&) {}

        void say(const Packet& packet) {
            std::string text;
            encode(packet, ProfileId::kPetrelV1, Side::kServer, text);
            transport->send(text);
        }

        LoopServer& server;
        std::unique_ptr<Transport> transport;
        std::string stream;
        bool is_closed = false;
    };

    std::unique_ptr<Listener> listener_;
    std::uint16_t port_ = 0;
    std::map<Session*, std::unique_ptr<Session>> sessions_;
    std::map<std::string, Position> accepted_;  // By stream.
};

}  // namespace petrel::test
