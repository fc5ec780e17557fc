// Up to six connections to real sessions, routers and a store: raw text, well-formed packets with
// any numbers, and what a well-behaved client would do next, so that sessions live long enough to
// get somewhere; lost connections, time, refused logins, a store that fails. The world asserts
// after every input that all of it is consistent. Here: what is sent can be read, no ack covers a
// message that the store has not seen, no window is overrun.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/codec.hpp"
#include "tests/fuzz/check.hpp"
#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

constexpr std::size_t kClientsMax = 6;
constexpr int kStepsMax = 200;

// What a device knows from one connection to the next.
struct Device {
    std::string stream;
    Position acked = 0;  // Of it.
    std::string epoch;
    Position taken = 0;  // Highest position pushed in order.
    std::uint64_t generation = 0;
};

// A connection, and what its client has seen of it.
struct End {
    FakeClient* client = nullptr;
    bool is_v1 = false;
    bool is_tame = false;  // It has said and acked only what a client may: the window is checked.
    std::size_t read = 0;  // Of client->texts().
    std::string user;
    // v1:
    Device* device = nullptr;
    std::string stream;
    Position first = 1;            // As the login said.
    Position said = 0;             // Highest position sent; the next message has the next one.
    std::optional<Position> prev;  // After a refusal: of the next message.
    Position taken = 0;
    std::set<Position> unhandled;  // Pushed and not acked.
    std::uint32_t window = 0;
    // Plain: fingerprint and sender.
    std::vector<std::pair<Fingerprint, std::string>> unacked;
};

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
        for (int i = 0; i < kStepsMax && input_.remaining_bytes() > 0; ++i) {
            step();
            read_all();
        }
        world_.release_posts();
        world_.release();
        read_all();
    }

private:
    GatewayWorld::Options options() {
        GatewayWorld::Options options;
        options.shards = input_.ConsumeIntegralInRange<unsigned>(1, 2);
        options.policy = input_.PickValueInArray(
            {SessionPolicy::kMulti, SessionPolicy::kOnePerClass, SessionPolicy::kSingle});
        options.session.window = input_.ConsumeIntegralInRange<std::uint32_t>(1, 8);
        if (input_.ConsumeBool()) {
            options.session.message_rate = {
                std::chrono::milliseconds{input_.ConsumeIntegral<std::uint8_t>()}, 2};
        }
        options.store.inbox_max = input_.ConsumeIntegralInRange<std::size_t>(1, 16);
        shards_ = options.shards;
        return options;
    }

    std::string user() { return input_.PickValueInArray({"alice", "bob", "0"}); }
    std::string device() { return input_.PickValueInArray({"phone", "laptop"}); }
    std::string name() { return "m" + std::to_string(input_.ConsumeIntegralInRange(0, 15)); }
    Position position() {
        return input_.ConsumeBool() ? input_.ConsumeIntegralInRange<Position>(0, 16)
                                    : input_.ConsumeIntegral<Position>() >> 11;
    }
    std::chrono::milliseconds while_() {
        return std::chrono::milliseconds{input_.ConsumeIntegral<std::uint16_t>()};
    }

    End& connect() {
        End end;
        const std::string subprotocol =
            input_.PickValueInArray<const char*>({"petrel.v1", "petrel.v1", "", "other"});
        end.client =
            &world_.connect(subprotocol, input_.ConsumeIntegralInRange<unsigned>(0, shards_ - 1));
        end.is_v1 = subprotocol == "petrel.v1";
        ends_.push_back(std::move(end));
        return ends_.back();
    }
    End& any_end() {
        if (ends_.empty()) return connect();
        return ends_[input_.ConsumeIntegralInRange<std::size_t>(0, ends_.size() - 1)];
    }

    // ---- what no client would say ----
    LoginAs login() {
        LoginAs as;
        as.user = user();
        as.device = device();
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

    void misbehave(End& end) {
        FakeClient& one = *end.client;
        end.is_tame = false;
        switch (input_.ConsumeIntegralInRange(0, 9)) {
            case 0: one.send(input_.ConsumeRandomLengthString(512)); break;
            case 1: one.login(login()); break;
            case 2: one.login_im_sdk(user()); break;
            case 3:
                one.login_mobile(user(), input_.ConsumeIntegralInRange<std::int64_t>(-1, 2));
                break;
            case 4: one.say(message()); break;
            case 5: one.ack(position()); break;
            case 6: one.gap(position(), position()); break;
            case 7: one.ack(name(), user(), user()); break;
            case 8: one.heartbeat(position(), position(), position()); break;
            case 9: one.binary(); break;
        }
    }

    // ---- what a client says next ----
    void log_in(End& end) {
        // Once a connection; more is misbehaviour.
        if (end.client->session().state() != Session::State::kFresh) return misbehave(end);
        end.user = user();
        end.is_tame = true;
        if (!end.is_v1) {
            if (input_.ConsumeBool()) {
                end.client->login_im_sdk(end.user);
            } else {
                end.client->login_mobile(end.user);
            }
            return;
        }
        LoginAs as;
        as.user = end.user;
        as.device = device();
        as.device_class = input_.PickValueInArray({"mobile", "desktop"});
        end.device = &devices_[as.user + '/' + as.device];
        if (end.device->stream.empty() || input_.ConsumeBool()) {
            end.device->stream = "stream" + std::to_string(++streams_);
            end.device->acked = 0;
        }
        as.stream = end.stream = end.device->stream;
        as.first = end.first = end.device->acked + 1;
        if (input_.ConsumeBool()) as.generation = end.device->generation;
        if (!end.device->epoch.empty() && input_.ConsumeBool()) {
            as.inbox = InboxCursor{end.device->epoch, end.device->taken, {}};
        }
        as.window = end.window = input_.ConsumeIntegralInRange<std::uint32_t>(0, 8);
        end.client->login(as);
    }

    void say_next(End& end) {
        Message out;
        out.to = user();
        out.name =
            input_.ConsumeIntegralInRange(0, 7) == 0 ? name() : "n" + std::to_string(++names_);
        if (input_.ConsumeIntegralInRange(0, 15) == 0) {
            out.qos = false;
        } else if (end.device != nullptr) {
            out.seq = ++end.said;
            out.prev = end.prev;
        }
        if (end.device != nullptr && input_.ConsumeBool()) out.h = handle(end);
        end.client->say(out);
    }

    void ack_what_came(End& end) {
        if (end.device != nullptr) {
            end.client->ack(handle(end));
            return;
        }
        const auto acked = std::exchange(end.unacked, {});
        for (const auto& [fp, from] : acked) end.client->ack(fp.to_string(), end.user, from);
    }

    // As if some on the way, in either direction, had been lost.
    void lose(End& end) {
        if (end.device == nullptr) return;
        if (input_.ConsumeBool()) {
            ++end.said;
            return;
        }
        const Position handled = end.unhandled.empty() ? end.taken : *end.unhandled.begin() - 1;
        end.taken = input_.ConsumeIntegralInRange(std::min(handled, end.taken), end.taken);
        end.client->gap(std::min(handled, end.taken), end.taken);
    }

    void beat(End& end) {
        if (end.device != nullptr) {
            end.client->heartbeat(end.said, end.taken, handle(end));
        } else {
            end.client->heartbeat();
        }
    }

    // Everything taken is handled now.
    static Position handle(End& end) {
        end.unhandled.erase(end.unhandled.begin(), end.unhandled.upper_bound(end.taken));
        return end.taken;
    }

    // ---- what the clients get ----
    void read_all() {
        for (; appends_seen_ < world_.appends.size(); ++appends_seen_) {
            const AppendRequest& asked = world_.appends[appends_seen_];
            if (!asked.stream) continue;
            Position& seen = seen_[asked.message->from + '/' + *asked.stream];
            seen = std::max(seen, asked.seq);
        }
        for (End& end : ends_) read(end);
    }

    void read(End& end) {
        const std::vector<std::string>& texts = end.client->texts();
        ProfileId profile = ProfileId::kPetrelV1;
        if (!end.is_v1) {
            const ProfileId spoken = end.client->session().profile_id();
            profile = spoken == ProfileId::kMobileImSdk ? spoken : ProfileId::kImSdk;
        }
        for (; end.read < texts.size(); ++end.read) {
            Result<Decoded> decoded = decode(texts[end.read], profile);
            FUZZ_CHECK(static_cast<bool>(decoded));
            if (const auto* reply = std::get_if<LoginResponse>(&decoded->packet)) {
                on_login(end, *reply);
            } else if (const auto* data = std::get_if<Data>(&decoded->packet)) {
                on_data(end, *data);
            } else if (const auto* ack = std::get_if<Ack>(&decoded->packet)) {
                on_ack(end, *ack);
            } else if (const auto* error = std::get_if<ErrorPacket>(&decoded->packet)) {
                on_refused(end, *error);
            }
        }
    }

    void on_login(End& end, const LoginResponse& reply) {
        if (!reply.v1 || end.device == nullptr) return;
        end.device->epoch = reply.v1->inbox.epoch;
        end.device->taken = end.taken = reply.v1->inbox.seq;
        end.device->generation = reply.v1->generation;
        end.said = end.device->acked = std::max(reply.v1->accepted, end.first - 1);
        end.unhandled.clear();
        check_ack(end, reply.v1->accepted);
    }

    void on_data(End& end, const Data& data) {
        if (!end.is_v1) {
            if (data.qos && end.unacked.size() < 64) end.unacked.emplace_back(data.fp, data.from);
            return;
        }
        if (data.h) check_ack(end, *data.h);
        if (end.device == nullptr || data.seq == 0) return;
        if (data.prev.value_or(data.seq - 1) <= end.taken && end.taken < data.seq) {
            end.device->taken = end.taken = data.seq;
        }
        end.unhandled.insert(data.seq);
        if (end.is_tame) FUZZ_CHECK(end.unhandled.size() <= end.window);
    }

    void on_ack(End& end, const Ack& ack) {
        if (end.device == nullptr || !ack.h) return;
        check_ack(end, *ack.h);
        end.device->acked = std::max(end.device->acked, *ack.h);
        if (end.prev && *ack.h > *end.prev) end.prev.reset();
        if (ack.gap) end.said = ack.rx.value_or(*ack.h);
    }

    void on_refused(End& end, const ErrorPacket& error) {
        if (end.device == nullptr || !error.seq) return;
        if (error.code == 302) {
            end.said = *error.seq - 1;
            return;
        }
        end.said = *error.seq;
        if (!end.prev) end.prev = *error.seq - 1;
    }

    // Durable before acked: the store has looked at everything that an ack covers.
    void check_ack(const End& end, Position h) const {
        if (!end.is_tame || end.device == nullptr) return;
        const auto seen = seen_.find(end.user + '/' + end.stream);
        FUZZ_CHECK(h < end.first || (seen != seen_.end() && h <= seen->second));
    }

    // ---- what happens ----
    void step() {
        End& end = any_end();
        switch (input_.ConsumeIntegralInRange(0, 17)) {
            case 0:
                if (ends_.size() < kClientsMax) connect();
                break;
            case 1: misbehave(end); break;
            case 2:
            case 3: log_in(end); break;
            case 4:
            case 5:
            case 6: say_next(end); break;
            case 7:
            case 8: ack_what_came(end); break;
            case 9: beat(end); break;
            case 10: world_.advance(while_()); break;
            case 11: world_.pause(while_()); break;
            case 12:
                end.client->drop();
                ends_.erase(ends_.begin() + (&end - ends_.data()));
                break;
            case 13: read_or_not(*end.client); break;
            case 14:
            case 15: store(); break;
            case 16: manage(end); break;
            case 17: lose(end); break;
        }
    }

    void read_or_not(FakeClient& one) {
        switch (input_.ConsumeIntegralInRange(0, 2)) {
            case 0: one.stop_reading(); break;
            case 1: one.start_reading(); break;
            case 2: one.read_bytes(input_.ConsumeIntegral<std::uint16_t>()); break;
        }
    }

    void store() {
        switch (input_.ConsumeIntegralInRange(0, 8)) {
            case 0: world_.hold(); break;
            case 1: world_.commit(); break;
            case 2: world_.release(); break;
            case 3: world_.set_failing(input_.ConsumeBool()); break;
            case 4: world_.set_full(input_.ConsumeBool()); break;
            case 5: world_.trim(); break;
            case 6: world_.hold_posts(); break;
            case 7: world_.deliver_one_post(); break;
            case 8: world_.release_posts(); break;
        }
    }

    // What a person or an authority does to sessions.
    void manage(End& end) {
        switch (input_.ConsumeIntegralInRange(0, 4)) {
            case 0:
                if (!end.client->is_closed()) end.client->session().kick("an admin");
                world_.settle();
                break;
            case 1: world_.drain(); break;
            case 2:
                world_.verdict.code = input_.PickValueInArray({0, 0, 401, 402, 409, 503});
                break;
            case 3:
                world_.verdict.lasts.reset();
                if (input_.ConsumeBool()) world_.verdict.lasts = while_();
                break;
            case 4: (input_.ConsumeBool() ? world_.address_wait : world_.account_wait) = while_();
        }
    }

    FuzzedDataProvider& input_;
    unsigned shards_ = 1;
    GatewayWorld world_;
    std::vector<End> ends_;
    std::map<std::string, Device> devices_;  // By user/device.
    std::map<std::string, Position> seen_;   // By sender/stream: what the store was asked.
    std::size_t appends_seen_ = 0;
    int names_ = 0;
    int streams_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    FuzzedDataProvider input(data, size);
    Play(input).run();
    return 0;
}
