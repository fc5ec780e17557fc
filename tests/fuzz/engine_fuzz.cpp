// The client engine between an app that calls anything and a server that says anything, in any
// order and at any time, and often what a server says next, so that sessions get somewhere: it
// stays consistent, writes packets only, acks nothing that it did not get, and every
// message that it took has its outcome in the end.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/client/engine.hpp"
#include "core/store/memory_boxes.hpp"
#include "protocol/codec.hpp"
#include "tests/fuzz/check.hpp"

using namespace petrel;

namespace {

constexpr int kStepsMax = 300;

class Counted final : public FingerprintSource {
public:
    Fingerprint next() override {
        return Fingerprint::parse("fp-" + std::to_string(++count_)).value();
    }

private:
    int count_ = 0;
};

class Play final : private EngineHost {
public:
    explicit Play(FuzzedDataProvider& input)
        : input_(input), engine_(options(), *this, *outbox_, *inbox_, source_, 1, now_) {}

    void run() {
        for (int i = 0; i < kStepsMax && input_.remaining_bytes() > 0; ++i) {
            step();
            turn();
            FUZZ_CHECK(engine_.is_consistent());
        }
        engine_.shut_down(now_);
        take_events();
        // A fingerprint may be sent again: while it is kept that is one message, later another.
        for (const auto& [fp, count] : outcomes_) FUZZ_CHECK(count <= taken_[fp]);
        for (const auto& [fp, count] : taken_) FUZZ_CHECK(count > 0 && outcomes_[fp] > 0);
    }

private:
    EngineOptions options() {
        EngineOptions options;
        options.user = "alice";
        options.device = "phone";
        options.profile = input_.PickValueInArray(
            {ProfileId::kPetrelV1, ProfileId::kImSdk, ProfileId::kMobileImSdk});
        options.manual_confirm = input_.ConsumeBool();
        options.window = input_.ConsumeIntegralInRange<std::uint32_t>(0, 8);
        options.send.window_packets_max = input_.ConsumeIntegralInRange<std::size_t>(1, 8);
        options.send.kept_max = 32;
        options.unhandled_max = 16;
        options.notices_max = 16;
        return options;
    }

    // ---- EngineHost ----
    void connect(std::uint64_t attempt, std::string_view subprotocol) override {
        attempt_ = attempt;
        subprotocol_ = subprotocol;
        is_connecting_ = true;
        is_login_open_ = false;
        pushed_max_ = 0;
        unacked_.clear();
    }
    void send_text(std::uint64_t attempt, std::string_view text) override {
        FUZZ_CHECK(attempt == attempt_);
        const Result<Decoded> decoded = decode(text, engine_.profile());
        FUZZ_CHECK(static_cast<bool>(decoded));
        hear(decoded->packet);
        queued_ = input_.ConsumeBool() ? text.size() : 0;
    }
    void disconnect(std::uint64_t, std::uint16_t, std::string_view) override {}
    std::size_t queued_bytes() const override { return queued_; }
    std::size_t queued_packets() const override { return queued_ > 0 ? 1 : 0; }
    WallMillis wall_ms() const override {
        return 1'000'000 + now_.time_since_epoch() / std::chrono::milliseconds{1};
    }
    void log(LogLevel, std::string_view) override {}
    void on_turn_wanted() override {}

    // ---- what the server knows ----
    void hear(const Packet& packet) {
        if (const auto* login = std::get_if<Login>(&packet)) {
            is_login_open_ = true;
            if (!login->v1) return;
            if (login->v1->outbox.stream != stream_) {
                stream_ = login->v1->outbox.stream;
                sent_ = accepted_ = login->v1->outbox.first - 1;
            }
        } else if (const auto* data = std::get_if<Data>(&packet)) {
            if (data->seq != 0) {
                sent_ = std::max(sent_, data->seq);
                last_fp_ = data->fp;
            } else if (data->qos && unacked_.size() < 64) {
                unacked_.push_back(data->fp);
            }
            if (data->h) FUZZ_CHECK(*data->h <= pushed_max_);
        } else if (const auto* ack = std::get_if<Ack>(&packet)) {
            if (ack->h) FUZZ_CHECK(*ack->h <= pushed_max_);
        } else if (const auto* beat = std::get_if<Heartbeat>(&packet)) {
            if (beat->positions) FUZZ_CHECK(beat->positions->h <= pushed_max_);
        }
    }

    bool is_v1() const { return engine_.profile() == ProfileId::kPetrelV1; }

    // ---- what a server says next ----
    void welcome() {
        if (!std::exchange(is_login_open_, false)) return;
        LoginResponse reply;
        reply.to = "alice";
        if (engine_.profile() == ProfileId::kMobileImSdk) reply.first_login_time = 1;
        if (is_v1()) {
            LoginReplyV1& v1 = reply.v1.emplace();
            v1.session = "s";
            v1.generation = ++generation_;
            pushed_max_ = pushed_;
            v1.inbox = {"e", pushed_, pushed_, input_.ConsumeIntegralInRange(0, 7) > 0};
            v1.accepted = accepted_;
            v1.window = input_.ConsumeIntegralInRange<std::uint32_t>(1, 8);
        }
        say(reply);
    }

    void come_online() {
        engine_.login(now_);
        turn();
        if (std::exchange(is_connecting_, false)) {
            engine_.on_connected(now_, attempt_, subprotocol_);
            turn();
        }
        welcome();
    }

    void push_next() {
        Data data;
        data.from = "bob";
        data.to = "alice";
        data.qos = true;
        data.typeu = kTypeuSingle;
        data.fp = Fingerprint::parse("p-" + std::to_string(++pushes_)).value();
        data.text = "x";
        if (is_v1()) {
            data.seq = ++pushed_;
            data.conv = "u:alice:bob";
            data.cseq = pushed_;
            if (input_.ConsumeBool()) data.h = accept();
        }
        say_data(data);
    }

    Position accept() {
        return accepted_ = input_.ConsumeIntegralInRange(std::min(accepted_, sent_), sent_);
    }

    void ack_next() {
        Ack ack;
        if (is_v1()) {
            const Position from = accepted_;
            ack.h = accept();
            for (Position seq = from + 1; seq <= *ack.h && ack.acc.size() < 8; ++seq) {
                ack.acc.push_back({seq, 1, seq});
            }
            if (input_.ConsumeIntegralInRange(0, 7) == 0) {
                ack.gap = true;
                ack.rx = *ack.h;
            }
        } else {
            if (unacked_.empty()) return;
            ack.fp = unacked_.back();
            unacked_.pop_back();
            ack.from = "bob";
            ack.to = "alice";
        }
        say(ack);
    }

    void refuse_next() {
        ErrorPacket error;
        error.code = input_.PickValueInArray({301, 302, 303, 304, 305, 306, 308});
        error.message = "no";
        error.fp = is_v1() || unacked_.empty() ? last_fp_ : unacked_.back();
        if (is_v1()) error.seq = sent_;
        if (error.code == 302) error.retry_after_ms = input_.ConsumeIntegral<std::uint8_t>();
        say(error);
    }

    void answer_next() {
        HeartbeatResponse response;
        response.to = "alice";
        if (is_v1()) response.positions = Positions{pushed_, sent_, accept()};
        say(response);
    }

    // ---- what happens ----
    Position position() {
        return input_.ConsumeBool() ? input_.ConsumeIntegralInRange<Position>(0, 12)
                                    : input_.ConsumeIntegral<Position>() >> 11;
    }
    Fingerprint fp() {
        return Fingerprint::parse("fp-" + std::to_string(input_.ConsumeIntegralInRange(1, 12)))
            .value();
    }

    void say(const Packet& packet) {
        std::string text;
        encode(packet, engine_.profile(), Side::kServer, text);
        engine_.on_text(now_, attempt_, text);
    }

    void say_anything() {
        const std::string text = input_.ConsumeRandomLengthString(512);
        if (const auto decoded = decode(text, engine_.profile())) {
            if (const auto* data = std::get_if<Data>(&decoded->packet)) {
                pushed_max_ = std::max(pushed_max_, data->seq);
            } else if (const auto* reply = std::get_if<LoginResponse>(&decoded->packet)) {
                if (reply->v1) pushed_max_ = std::max(pushed_max_, reply->v1->inbox.seq);
            }
        }
        engine_.on_text(now_, attempt(), text);
    }

    void say_login() {
        LoginResponse reply;
        reply.code = input_.PickValueInArray({0, 0, 0, 401, 402, 409, 503});
        if (input_.ConsumeBool()) reply.retry = input_.ConsumeBool();
        if (reply.code == 0 && input_.ConsumeIntegralInRange(0, 7) > 0) {
            LoginReplyV1& v1 = reply.v1.emplace();
            v1.session = "s";
            v1.generation = input_.ConsumeIntegralInRange<std::uint64_t>(0, 9);
            v1.inbox = {input_.PickValueInArray({"e", "f"}), position(), position(),
                        input_.ConsumeBool()};
            pushed_max_ = std::max(pushed_max_, v1.inbox.seq);
            v1.accepted = position();
            v1.window = input_.ConsumeIntegralInRange<std::uint32_t>(0, 8);
        }
        say(reply);
    }

    void say_data() {
        Data data;
        data.from = "bob";
        data.to = "alice";
        data.qos = input_.ConsumeBool();
        data.typeu = kTypeuSingle;
        data.seq = position();
        if (input_.ConsumeBool()) data.h = position();
        data.fp = fp();
        data.conv = "u:alice:bob";
        data.cseq = position();
        data.text = "x";
        say_data(data);
    }
    void say_data(const Data& data) {
        pushed_max_ = std::max(pushed_max_, data.seq);
        say(data);
    }

    void say_ack() {
        Ack ack;
        ack.fp = fp();
        ack.h = position();
        if (input_.ConsumeBool()) ack.rx = position();
        ack.gap = input_.ConsumeBool();
        if (input_.ConsumeBool()) ack.acc.push_back({position(), 1, position()});
        say(ack);
    }

    void say_error() {
        ErrorPacket error;
        error.code = input_.PickValueInArray({4, 301, 302, 304, 306, 308, 402, 1025});
        error.message = "no";
        error.fp = fp();
        error.seq = position();
        if (input_.ConsumeBool()) error.retry_after_ms = input_.ConsumeIntegral<std::int16_t>();
        say(error);
    }

    void send() {
        SendRequest request;
        request.to = "bob";
        request.text = std::string(input_.ConsumeIntegralInRange<std::size_t>(0, 64), 'x');
        request.qos = input_.ConsumeIntegralInRange(0, 7) > 0;
        if (input_.ConsumeBool()) request.fp = fp();
        if (input_.ConsumeBool()) {
            request.expires_after =
                std::chrono::milliseconds{input_.ConsumeIntegral<std::uint16_t>()};
        }
        const bool qos = request.qos;
        engine_.send(now_, std::move(request), [this, qos](Result<Fingerprint> taken) {
            if (taken && qos) ++taken_[taken->to_string()];
        });
    }

    void step() {
        switch (input_.ConsumeIntegralInRange(0, 34)) {
            case 0: engine_.login(now_); break;
            case 1: engine_.logout(now_, input_.ConsumeBool()); break;
            case 2:
            case 3: send(); break;
            case 4: (void)engine_.cancel(now_, fp()); break;
            case 5: (void)engine_.confirm(now_, input_.ConsumeIntegralInRange(0, 20)); break;
            case 6: (void)engine_.echo(now_, "echo"); break;
            case 7: engine_.set_token(now_, "token"); break;
            case 8: engine_.network_available(now_); break;
            case 9: engine_.network_lost(now_); break;
            case 10: engine_.suspend(now_); break;
            case 11: engine_.resume(now_); break;
            case 12:
            case 13:
                // A transport opens once; whatever an older one says is dropped.
                if (!std::exchange(is_connecting_, false)) break;
                engine_.on_connected(now_, attempt_,
                                     input_.PickValueInArray<const char*>({"petrel.v1", "", "x"}));
                break;
            case 14: say_anything(); break;
            case 15: engine_.on_binary(now_, attempt()); break;
            case 16:
                queued_ = 0;
                engine_.on_drained(now_, attempt());
                break;
            case 17:
                is_connecting_ = false;
                engine_.on_closed(now_, attempt(), input_.ConsumeIntegral<std::uint16_t>(), "1000",
                                  input_.PickValueInArray({0, 404, 503}), std::nullopt);
                break;
            case 18: say_login(); break;
            case 19: say_data(); break;
            case 20: say_ack(); break;
            case 21: say_error(); break;
            case 22: {
                HeartbeatResponse response;
                response.positions = Positions{position(), position(), position()};
                say(response);
                break;
            }
            case 23: {
                Kickout kickout;
                kickout.code = 1;
                say(kickout);
                break;
            }
            case 24: pass_time(); break;
            case 25: come_online(); break;
            case 26: welcome(); break;
            case 27: push_next(); break;
            case 28:
            case 29: ack_next(); break;
            case 30: refuse_next(); break;
            case 31: answer_next(); break;
            case 32: (void)engine_.confirm(now_, last_id_); break;
            case 33:
            case 34: send(); break;
        }
    }

    std::uint64_t attempt() {
        return input_.ConsumeIntegralInRange(0, 9) > 0 ? attempt_ : attempt_ / 2;
    }

    void pass_time() {
        now_ += std::chrono::milliseconds{input_.ConsumeIntegral<std::uint16_t>()};
        engine_.advance_to(now_);
    }

    void turn() {
        take_events();
        engine_.flush(now_);
        take_events();
    }

    void take_events() {
        while (const auto event = engine_.next_event()) {
            if (const auto* outcome = std::get_if<OutcomeEvent>(&*event)) {
                if (!outcome->is_correction) ++outcomes_[outcome->record.fp.to_string()];
            } else if (const auto* message = std::get_if<MessageEvent>(&*event)) {
                last_id_ = message->id;
            }
            engine_.on_event_done(now_, *event);
        }
    }

    FuzzedDataProvider& input_;
    TimePoint now_{std::chrono::hours{1}};
    std::unique_ptr<Outbox> outbox_ = make_memory_outbox();
    std::unique_ptr<Inbox> inbox_ = make_memory_inbox();
    Counted source_;
    std::uint64_t attempt_ = 0;
    bool is_connecting_ = false;
    std::string subprotocol_;
    std::size_t queued_ = 0;
    bool is_login_open_ = false;
    std::uint64_t generation_ = 0;
    std::string stream_;  // Of the outbox, as the last login said: what was sent in it, and acked.
    Position sent_ = 0;
    Position accepted_ = 0;
    Fingerprint last_fp_;
    std::vector<Fingerprint> unacked_;  // Plain.
    Position pushed_ = 0;               // By push_next().
    Position pushed_max_ = 0;           // On this connection, by whatever was said.
    int pushes_ = 0;
    std::uint64_t last_id_ = 0;  // Of a message handed over.
    std::map<std::string, int> taken_;
    std::map<std::string, int> outcomes_;
    Engine engine_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    Play(input).run();
    return 0;
}
