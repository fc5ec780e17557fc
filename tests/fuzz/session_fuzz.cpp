// Up to four clients against real sessions, a router and a store: raw text, well-formed packets
// with any numbers, lost connections, time, a store that fails. The world asserts after every
// input that all of it is consistent.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <fuzzer/FuzzedDataProvider.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/fuzz/check.hpp"
#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

constexpr std::size_t kClientsMax = 4;
constexpr int kStepsMax = 200;

void fail_loudly(const doctest::AssertData& data) {
    std::fprintf(stderr, "%s:%d: does not hold: %s\n", data.m_file, data.m_line, data.m_expr);
    std::abort();
}

const bool is_doctest_ready = [] {
    static doctest::Context context;
    context.setAsDefaultForAssertsOutOfTestCases();
    context.setAssertHandler(fail_loudly);
    return true;
}();

class Play {
public:
    explicit Play(FuzzedDataProvider& input) : input_(input), world_(options()) {}

    void run() {
        for (int i = 0; i < kStepsMax && input_.remaining_bytes() > 0; ++i) step();
        world_.release();
    }

private:
    GatewayWorld::Options options() {
        GatewayWorld::Options options;
        options.policy = input_.PickValueInArray(
            {SessionPolicy::kMulti, SessionPolicy::kOnePerClass, SessionPolicy::kSingle});
        options.session.window = input_.ConsumeIntegralInRange<std::uint32_t>(1, 8);
        options.session.message_rate = {
            std::chrono::milliseconds{input_.ConsumeIntegral<std::uint8_t>()}, 2};
        options.store.inbox_max = input_.ConsumeIntegralInRange<std::size_t>(1, 16);
        return options;
    }

    std::string user() { return input_.PickValueInArray({"alice", "bob", "0"}); }
    std::string name() { return "m" + std::to_string(input_.ConsumeIntegralInRange(0, 15)); }
    Position position() {
        return input_.ConsumeBool() ? input_.ConsumeIntegralInRange<Position>(0, 16)
                                    : input_.ConsumeIntegral<Position>() >> 11;
    }

    FakeClient& client() {
        if (clients_.size() < kClientsMax && (clients_.empty() || input_.ConsumeBool())) {
            clients_.push_back(
                &world_.connect(input_.PickValueInArray<const char*>({"petrel.v1", "", "other"})));
            return *clients_.back();
        }
        return *clients_[input_.ConsumeIntegralInRange<std::size_t>(0, clients_.size() - 1)];
    }

    LoginAs login() {
        LoginAs as;
        as.user = user();
        as.device = input_.PickValueInArray({"phone", "laptop"});
        as.generation = input_.ConsumeIntegralInRange<std::uint64_t>(0, 3);
        if (input_.ConsumeBool()) as.inbox = InboxCursor{"e", position(), fp(name())};
        as.stream = input_.PickValueInArray({"s1", "s2"});
        as.first = input_.ConsumeIntegralInRange<Position>(1, 8);
        as.window = input_.ConsumeIntegralInRange<std::uint32_t>(0, 4);
        return as;
    }

    Message message() {
        Message out;
        out.name = name();
        out.seq = position();
        out.to = user();
        if (input_.ConsumeBool()) out.prev = position();
        if (input_.ConsumeBool()) out.h = position();
        out.text = input_.ConsumeRandomLengthString(32);
        for (char& c : out.text) c = static_cast<char>(c & 0x7f);
        out.typeu = input_.ConsumeIntegralInRange(-1, 2);
        out.qos = input_.ConsumeBool();
        return out;
    }

    void step() {
        FakeClient& one = client();
        switch (input_.ConsumeIntegralInRange(0, 15)) {
            case 0: one.send(input_.ConsumeRandomLengthString(512)); break;
            case 1: one.login(login()); break;
            case 2: one.login_im_sdk(user()); break;
            case 3:
                one.login_mobile(user(), input_.ConsumeIntegralInRange<std::int64_t>(-1, 2));
                break;
            case 4:
            case 5: one.say(message()); break;
            case 6: one.ack(position()); break;
            case 7: one.gap(position(), position()); break;
            case 8: one.ack(name(), user(), user()); break;
            case 9: one.heartbeat(position(), position(), position()); break;
            case 10:
                world_.advance(std::chrono::milliseconds{input_.ConsumeIntegral<std::uint16_t>()});
                break;
            case 11:
                world_.pause(std::chrono::milliseconds{input_.ConsumeIntegral<std::uint16_t>()});
                break;
            case 12: one.drop(); break;
            case 13:
                if (input_.ConsumeBool()) {
                    one.stop_reading();
                } else {
                    one.start_reading();
                }
                break;
            case 14: store(); break;
            case 15: one.binary(); break;
        }
    }

    void store() {
        switch (input_.ConsumeIntegralInRange(0, 5)) {
            case 0: world_.hold(); break;
            case 1: world_.commit(); break;
            case 2: world_.release(); break;
            case 3: world_.set_failing(input_.ConsumeBool()); break;
            case 4: world_.set_full(input_.ConsumeBool()); break;
            case 5: world_.trim(); break;
        }
    }

    FuzzedDataProvider& input_;
    GatewayWorld world_;
    std::vector<FakeClient*> clients_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    Play(input).run();
    return 0;
}
