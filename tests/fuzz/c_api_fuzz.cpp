// Calls of the C interface in any order, with a host's transport that reports anything, and often
// what a server says next: statuses only, no crash, and no callback after destroy.

#include <fuzzer/FuzzedDataProvider.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "petrel/petrel.h"
#include "protocol/codec.hpp"
#include "tests/fuzz/check.hpp"

using namespace petrel;

namespace {

constexpr int kStepsMax = 100;

// A host whose connections do what the input says.
class Host {
public:
    Host() {
        table_.struct_size = sizeof table_;
        table_.user_data = this;
        table_.open = [](void* self, petrel_connection* connection, const char*, const char*,
                         void** data) -> std::int32_t {
            auto& host = *static_cast<Host*>(self);
            const std::lock_guard lock(host.mutex_);
            host.open_.push_back(connection);
            *data = connection;
            return PETREL_OK;
        };
        table_.send = [](void* self, void*, const char* text, std::size_t size) {
            static_cast<Host*>(self)->hear({text, size});
        };
        table_.close = [](void* self, void* data, std::uint16_t, const char*) {
            static_cast<Host*>(self)->end(static_cast<petrel_connection*>(data));
        };
    }
    ~Host() {
        while (petrel_connection* const connection = take_last()) {
            petrel_connection_closed(connection, 1006, "over", 0, -1);
        }
    }

    const petrel_transport* table() const { return &table_; }

    void report(FuzzedDataProvider& input) {
        const std::lock_guard lock(mutex_);
        if (open_.empty()) return;
        petrel_connection* const connection = open_.back();
        switch (input.ConsumeIntegralInRange(0, 8)) {
            case 0:
                is_v1_ = input.ConsumeBool();
                petrel_connection_opened(connection, is_v1_ ? "petrel.v1" : "");
                break;
            case 1: {
                const std::string text = input.ConsumeRandomLengthString(256);
                petrel_connection_text(connection, text.data(), text.size());
                break;
            }
            case 2:
                petrel_connection_sent(connection, input.ConsumeIntegral<std::uint16_t>());
                break;
            case 3:
                petrel_connection_binary(connection, input.ConsumeIntegral<std::uint16_t>());
                break;
            case 4: say(welcome(input)); break;
            case 5: say(next_message()); break;
            case 6: say(next_ack(input)); break;
            case 7: say(refusal(input)); break;
            case 8: say(Kickout{2, "an admin", "", "alice"}); break;
        }
    }
    void open(FuzzedDataProvider& input) {
        const std::lock_guard lock(mutex_);
        if (open_.empty()) return;
        is_v1_ = input.ConsumeIntegralInRange(0, 3) > 0;
        petrel_connection_opened(open_.back(), is_v1_ ? "petrel.v1" : "");
    }
    void end_one() {
        if (petrel_connection* const connection = take_last()) {
            petrel_connection_closed(connection, 1000, nullptr, 0, -1);
        }
    }

private:
    ProfileId profile() const { return is_v1_ ? ProfileId::kPetrelV1 : ProfileId::kImSdk; }

    void hear(std::string_view text) {
        const std::lock_guard lock(mutex_);
        const Result<Decoded> decoded = decode(text, profile());
        if (!decoded) return;  // It may speak another profile than opened() was told.
        if (const auto* data = std::get_if<Data>(&decoded->packet)) {
            sent_ = data->seq;
            last_fp_ = data->fp;
        }
    }
    void say(const Packet& packet) {
        std::string text;
        encode(packet, profile(), Side::kServer, text);
        petrel_connection_text(open_.back(), text.data(), text.size());
    }
    Packet welcome(FuzzedDataProvider& input) {
        LoginResponse reply;
        reply.to = "alice";
        reply.code = input.PickValueInArray({0, 0, 0, 401, 402, 503});
        if (is_v1_ && reply.code == 0) {
            LoginReplyV1& v1 = reply.v1.emplace();
            v1.session = "s";
            v1.generation = 1;
            v1.inbox = {"e", pushed_, pushed_, input.ConsumeBool()};
            v1.window = 8;
        }
        return reply;
    }
    Packet next_message() {
        Data data;
        data.from = "bob";
        data.to = "alice";
        data.qos = true;
        data.typeu = kTypeuSingle;
        data.fp = Fingerprint::parse("p-" + std::to_string(++pushed_)).value();
        data.text = "x";
        if (is_v1_) {
            data.seq = data.cseq = pushed_;
            data.conv = "u:alice:bob";
        }
        return data;
    }
    Packet next_ack(FuzzedDataProvider& input) {
        Ack ack;
        if (is_v1_) {
            ack.h = input.ConsumeBool() ? sent_ : 1;
            ack.acc.push_back({1, 1, *ack.h});
        } else {
            ack.fp = last_fp_.empty() ? Fingerprint::parse("none").value() : last_fp_;
            ack.from = "bob";
            ack.to = "alice";
        }
        return ack;
    }
    Packet refusal(FuzzedDataProvider& input) {
        ErrorPacket error;
        error.code = input.PickValueInArray({301, 302, 303, 304, 305, 308, 402});
        error.message = "no";
        error.fp = last_fp_;
        if (is_v1_) error.seq = sent_;
        return error;
    }

    petrel_connection* take_last() {
        const std::lock_guard lock(mutex_);
        if (open_.empty()) return nullptr;
        petrel_connection* const last = open_.back();
        open_.pop_back();
        return last;
    }
    void end(petrel_connection* connection) {
        {
            const std::lock_guard lock(mutex_);
            std::size_t i = 0;
            while (i < open_.size() && open_[i] != connection) ++i;
            if (i == open_.size()) return;  // Ended by the input already.
            open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(i));
        }
        petrel_connection_closed(connection, 1000, "bye", 0, -1);
    }

    std::mutex mutex_;
    std::vector<petrel_connection*> open_;
    bool is_v1_ = true;
    Position sent_ = 0;
    Position pushed_ = 0;
    Fingerprint last_fp_;
    petrel_transport table_{};
};

struct Ears {
    std::atomic<bool> is_destroyed{false};
    static void hear(void* self, petrel_client*, const petrel_event* event) {
        FUZZ_CHECK(!static_cast<Ears*>(self)->is_destroyed);
        FUZZ_CHECK(event != nullptr && event->struct_size > 0);
    }
};

class Play {
public:
    Play(FuzzedDataProvider& input, petrel_runtime* runtime) : input_(input) {
        petrel_client_options options;
        FUZZ_CHECK(petrel_client_options_init(&options, sizeof options) == PETREL_OK);
        const std::string user = input.ConsumeRandomLengthString(8);
        options.url = "ws://127.0.0.1:1/ws";
        options.user = user.c_str();
        options.log_level = PETREL_LOG_NONE;
        options.linger_max_ms = 0;
        options.transport = host_.table();
        options.profile =
            input.PickValueInArray<const char*>({"petrel.v1", "im-sdk", "mobileimsdk"});
        options.manual_confirm = input.ConsumeBool();
        options.window = input.ConsumeIntegral<std::uint32_t>();
        options.kept_max = input.ConsumeIntegralInRange<std::uint64_t>(0, 8);
        options.backoff_base_ms = input.ConsumeIntegral<std::int16_t>();
        is_push_ = input.ConsumeBool();
        if (is_push_) options.on_event = Ears::hear;
        options.user_data = &ears_;
        petrel_client_create(runtime, &options, &client_);
    }
    ~Play() {
        petrel_client_destroy(client_);
        ears_.is_destroyed = true;
    }

    void run() {
        for (int i = 0; i < kStepsMax && input_.remaining_bytes() > 0; ++i) step();
    }

private:
    void send() {
        petrel_send_options options;
        petrel_send_options_init(&options, sizeof options);
        const std::string fingerprint = input_.ConsumeRandomLengthString(8);
        options.fingerprint = fingerprint.c_str();
        options.typeu = input_.ConsumeIntegral<std::int8_t>();
        options.qos = input_.ConsumeIntegralInRange<std::uint32_t>(0, 2);
        options.expires_after_ms = input_.ConsumeIntegral<std::int16_t>();
        const std::string text = input_.ConsumeRandomLengthString(64);
        char out[PETREL_FINGERPRINT_SIZE];
        petrel_client_send(client_, input_.ConsumeBool() ? "bob" : nullptr, text.data(),
                           text.size(), input_.ConsumeBool() ? &options : nullptr, out);
    }

    void step() {
        switch (input_.ConsumeIntegralInRange(0, 19)) {
            case 0: petrel_client_login(client_); break;
            case 1: petrel_client_logout(client_, input_.ConsumeIntegralInRange(-1, 2)); break;
            case 2: send(); break;
            case 3:
                petrel_client_cancel(client_, input_.ConsumeRandomLengthString(8).c_str());
                break;
            case 4: petrel_client_confirm(client_, input_.ConsumeIntegral<std::uint8_t>()); break;
            case 5: petrel_client_echo(client_, "x", 1); break;
            case 6: petrel_client_set_token(client_, "token"); break;
            case 7: petrel_client_network_available(client_); break;
            case 8: petrel_client_network_lost(client_); break;
            case 9: petrel_client_suspend(client_); break;
            case 10: petrel_client_resume(client_); break;
            case 11: {
                petrel_stats stats;
                petrel_client_stats(client_, &stats,
                                    input_.ConsumeIntegralInRange<std::size_t>(0, sizeof stats));
                break;
            }
            case 12: {
                const petrel_event* event = nullptr;
                const std::int32_t status = petrel_client_next_event(client_, &event, 0);
                FUZZ_CHECK(!is_push_ || status != PETREL_OK);
                break;
            }
            case 13: host_.report(input_); break;
            case 14: host_.end_one(); break;
            case 15:
            case 16: host_.report(input_); break;
            case 17:
                petrel_client_login(client_);
                wait();
                host_.open(input_);
                break;
            case 18:
            case 19: wait(); break;
        }
    }

    // Until the engine's thread has done what was asked of it so far.
    void wait() {
        petrel_stats stats;
        petrel_client_stats(client_, &stats, sizeof stats);
    }

    FuzzedDataProvider& input_;
    Host host_;
    Ears ears_;
    bool is_push_ = false;
    petrel_client* client_ = nullptr;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static petrel_runtime* const runtime = [] {
        petrel_runtime* made = nullptr;
        FUZZ_CHECK(petrel_runtime_create(&made) == PETREL_OK);
        return made;
    }();
    FuzzedDataProvider input(data, size);
    Play(input, runtime).run();
    return 0;
}
