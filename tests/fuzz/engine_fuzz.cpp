// The client engine between an app that calls anything and a server that says anything, in any
// order and at any time: it stays consistent, writes packets only, and every message that it took
// has its outcome in the end.

#include <fuzzer/FuzzedDataProvider.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
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
    void connect(std::uint64_t attempt, std::string_view) override {
        attempt_ = attempt;
        is_connecting_ = true;
    }
    void send_text(std::uint64_t attempt, std::string_view text) override {
        FUZZ_CHECK(attempt == attempt_);
        FUZZ_CHECK(static_cast<bool>(decode(text, engine_.profile())));
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
        switch (input_.ConsumeIntegralInRange(0, 24)) {
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
            case 14: engine_.on_text(now_, attempt(), input_.ConsumeRandomLengthString(512)); break;
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
    std::size_t queued_ = 0;
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
