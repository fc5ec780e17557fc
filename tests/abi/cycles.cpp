// Creates, logs in, sends and destroys clients over and over, from several threads: no callback
// may come after destroy returned, every message has exactly one outcome by then, and memory stays
// flat. Run it longer by hand:
//
//   build/debug/tests/abi/cycles CYCLES SECONDS     until either is reached

#include <malloc.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/gateway/gateway.hpp"
#include "core/store/memory_message_store.hpp"
#include "petrel/petrel.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kThreads = 4;
// Connections linger for 5 s at the gateway, tens of MB at this pace; a leak is far beyond.
constexpr long kGrowthMaxKib = 64 * 1024;

// Of one client. Never reused, so that a late callback is seen and hits no freed memory.
struct Life {
    std::atomic<bool> is_destroyed{false};
    std::atomic<int> outcomes{0};
    std::atomic<int> events{0};
};

std::atomic<std::uint64_t> cycles_done{0};
std::atomic<std::uint64_t> late_callbacks{0};
std::atomic<std::uint64_t> wrong_outcomes{0};
std::atomic<std::uint64_t> failed_calls{0};

void on_event(void* user_data, petrel_client*, const petrel_event* event) {
    auto& life = *static_cast<Life*>(user_data);
    if (life.is_destroyed) ++late_callbacks;
    ++life.events;
    if (event->type == PETREL_EVENT_OUTCOME) ++life.outcomes;
}

void must(std::int32_t status) {
    if (status != PETREL_OK) ++failed_calls;
}

// At another moment of its life each time: before, while and after the login.
void run_cycle(petrel_runtime* runtime, const std::string& url, const std::string& user,
               std::uint64_t number, Life& life) {
    petrel_client_options options;
    must(petrel_client_options_init(&options, sizeof options));
    options.url = url.c_str();
    options.user = user.c_str();
    options.device = "cycles";
    options.on_event = on_event;
    options.user_data = &life;
    options.log_level = PETREL_LOG_NONE;
    options.linger_max_ms = 0;
    petrel_client* client = nullptr;
    must(petrel_client_create(runtime, &options, &client));
    if (client == nullptr) return;
    must(petrel_client_login(client));
    const int messages = static_cast<int>(number % 3);
    for (int i = 0; i < messages; ++i) {
        must(petrel_client_send(client, user.c_str(), "x", 1, nullptr, nullptr));
    }
    // A client that goes at once never connects; every eighth lives to hear something.
    const int wanted = number % 8 == 0 ? 1 + static_cast<int>(number / 8 % 3) : 0;
    for (int turns = 0; life.events < wanted && turns < 1'000'000; ++turns) {
        std::this_thread::yield();
    }
    must(petrel_client_destroy(client));
    life.is_destroyed = true;
    if (life.outcomes != messages) ++wrong_outcomes;
}

void run_thread(int index, const std::string& url, std::uint64_t cycles, Clock::time_point end) {
    petrel_runtime* runtime = nullptr;
    must(petrel_runtime_create(&runtime));
    const std::string user = "user" + std::to_string(index);
    std::vector<std::unique_ptr<Life>> lives;  // The latest, for what may come late.
    constexpr std::size_t kLivesMax = 1024;
    for (std::uint64_t i = 0; i < cycles && Clock::now() < end; ++i) {
        auto life = std::make_unique<Life>();
        run_cycle(runtime, url, user, i, *life);
        if (lives.size() < kLivesMax) {
            lives.push_back(std::move(life));
        } else {
            lives[i % kLivesMax] = std::move(life);
        }
        ++cycles_done;
    }
    must(petrel_runtime_destroy(runtime));
}

// What is allocated and not freed; all arenas. (What the allocator keeps for itself is its affair.)
long heap_kib() { return static_cast<long>(mallinfo2().uordblks / 1024); }

void run_threads(const std::string& url, std::uint64_t cycles, Clock::time_point end) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
        threads.emplace_back(run_thread, i, url, cycles / kThreads, end);
    }
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fputs("usage: cycles CYCLES SECONDS\n", stderr);
        return 2;
    }
    const std::uint64_t cycles = std::strtoull(argv[1], nullptr, 10);
    const auto end = Clock::now() + std::chrono::seconds(std::strtoul(argv[2], nullptr, 10));

    // A store that forgets at once, so that what grows is the library's.
    petrel::StoreOptions store_options;
    store_options.message_retention = std::chrono::seconds{1};
    store_options.dedup_horizon = std::chrono::seconds{1};
    store_options.streams_max = 16;
    petrel::UuidSource epochs;
    petrel::GatewayOptions options;
    options.logins.per_address = {};  // No limit: nobody else logs in so often.
    options.logins.per_account = {};
    petrel::Gateway gateway(options, petrel::make_memory_message_store(store_options, epochs),
                            std::make_unique<petrel::OpenAuthenticator>());
    std::string why;
    const auto port = gateway.start(why);
    if (!port) {
        std::fprintf(stderr, "no gateway: %s\n", why.c_str());
        return 1;
    }
    const std::string url = "ws://127.0.0.1:" + std::to_string(*port) + "/ws";

    run_threads(url, cycles / 10, end);
    const long before = heap_kib();
    run_threads(url, cycles - cycles / 10, end);
    const long after = heap_kib();

    std::printf("%llu cycles, %ld KiB of heap in use after a tenth of them, %ld at the end\n",
                static_cast<unsigned long long>(cycles_done.load()), before, after);
    std::printf("%llu late callbacks, %llu with wrong outcomes, %llu failed calls\n",
                static_cast<unsigned long long>(late_callbacks.load()),
                static_cast<unsigned long long>(wrong_outcomes.load()),
                static_cast<unsigned long long>(failed_calls.load()));
    const bool is_flat = PETREL_TEST_IS_SANITIZED || after < before + kGrowthMaxKib;
    if (!is_flat) std::puts("memory grew");
    const bool is_good = cycles_done > 0 && is_flat && late_callbacks == 0 && wrong_outcomes == 0 &&
                         failed_calls == 0;
    return is_good ? 0 : 1;
}
