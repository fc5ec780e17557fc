// Outbox and inbox files whose bytes are anything, or a good file's with some changed: opening one
// never crashes, what it holds is well-formed, and a file that is refused is still there.

#include <fuzzer/FuzzedDataProvider.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/store/sqlite_inbox.hpp"
#include "core/store/sqlite_outbox.hpp"
#include "protocol/utf8.hpp"
#include "tests/fuzz/check.hpp"

using namespace petrel;

namespace {

namespace fs = std::filesystem;

const AccountId kAccount{"app", "alice"};

// In memory if the system has such a place: a disk would be the slowest part.
fs::path folder() {
    // Never destroyed: the exit handler needs it.
    static const fs::path& path = *[] {
        const fs::path base = fs::is_directory("/dev/shm") ? "/dev/shm" : fs::temp_directory_path();
        auto* const made = new fs::path(base / ("petrel-fuzz-" + std::to_string(getpid())));
        fs::create_directories(*made);
        std::atexit([] { fs::remove_all(folder()); });
        return made;
    }();
    return path;
}

std::string read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// The engine's thread, as far as a file needs one. Answers are not waited for.
ClientFileOptions options() {
    ClientFileOptions options;
    options.post = [](std::function<void()>) {};
    options.on_health = [](const std::string&) {};
    options.retry_pause = std::chrono::milliseconds{1};
    return options;
}

Data message(int number) {
    Data data;
    data.fp = Fingerprint::parse("fp-" + std::to_string(number)).value();
    data.from = "bob";
    data.to = "alice";
    data.qos = true;
    data.seq = static_cast<Position>(number);
    data.text = "text " + std::to_string(number);
    return data;
}

std::string good_outbox() {
    const fs::path path = folder() / "good.outbox";
    std::string why;
    {
        auto outbox = open_sqlite_outbox(path, kAccount, options(), why);
        FUZZ_CHECK(static_cast<bool>(outbox));
        (*outbox)->load();
        (*outbox)->append({{message(1), 5, 1}, {message(2), {}, {}}, {message(3), 7, 3}}, {});
        OutcomeRecord outcome;
        outcome.fp = message(1).fp;
        outcome.to = "bob";
        outcome.outcome = Outcome::kAccepted;
        (*outbox)->record_outcomes({outcome}, {});
    }
    return read(path);
}

std::string good_inbox() {
    const fs::path path = folder() / "good.inbox";
    std::string why;
    {
        auto inbox = open_sqlite_inbox(path, kAccount, "phone", options(), why);
        FUZZ_CHECK(static_cast<bool>(inbox));
        (*inbox)->load_unhandled();
        (*inbox)->on_resume("e", 0);
        (*inbox)->append({message(1), message(2), message(3)}, {});
        (*inbox)->record_handled(1, {});
    }
    return read(path);
}

void check(const Data& data) {
    FUZZ_CHECK(!data.fp.empty());
    FUZZ_CHECK(is_valid_utf8(data.text));
    FUZZ_CHECK(is_valid_utf8(data.to));
}

// A refused file's bytes are where they were, or beside it.
bool is_kept(const fs::path& path, const std::string& bytes) {
    if (read(path) == bytes) return true;
    for (const auto& entry : fs::directory_iterator(path.parent_path())) {
        if (entry.path().string().rfind(path.string(), 0) == 0 && read(entry.path()) == bytes) {
            return true;
        }
    }
    return false;
}

void open_outbox(const fs::path& path, const std::string& bytes) {
    std::string why;
    auto outbox = open_sqlite_outbox(path, kAccount, options(), why);
    if (!outbox) {
        FUZZ_CHECK(!why.empty());
        FUZZ_CHECK(is_kept(path, bytes));
        return;
    }
    const Outbox::Kept kept = (*outbox)->load();
    for (const OutboxRecord& record : kept.messages) check(record.message);
    for (const OutcomeRecord& record : kept.outcomes) FUZZ_CHECK(!record.fp.empty());
    (*outbox)->append({{message(9), {}, {}}}, {});
}

void open_inbox(const fs::path& path, const std::string& bytes) {
    std::string why;
    auto inbox = open_sqlite_inbox(path, kAccount, "", options(), why);
    if (!inbox) {
        FUZZ_CHECK(!why.empty());
        FUZZ_CHECK(is_kept(path, bytes));
        return;
    }
    for (const InboxMessage& stored : (*inbox)->load_unhandled()) check(stored.data);
    const auto cursor = (*inbox)->cursor();
    (*inbox)->on_resume("other", 0);
    (*inbox)->append({message(1)}, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string kOutbox = good_outbox();
    static const std::string kInbox = good_inbox();
    FuzzedDataProvider input(data, size);
    const bool is_outbox = input.ConsumeBool();
    std::string bytes;
    if (input.ConsumeIntegralInRange(0, 7) == 0) {
        bytes = input.ConsumeRemainingBytesAsString();
    } else {
        bytes = is_outbox ? kOutbox : kInbox;
        if (input.ConsumeBool()) {
            bytes.resize(input.ConsumeIntegralInRange<std::size_t>(0, bytes.size()));
        }
        while (input.remaining_bytes() > 0 && !bytes.empty()) {
            const auto at = input.ConsumeIntegralInRange<std::size_t>(0, bytes.size() - 1);
            bytes[at] = static_cast<char>(input.ConsumeIntegral<std::uint8_t>());
        }
    }
    const fs::path place = folder() / "try";
    fs::create_directories(place);
    const fs::path path = place / "file";
    std::ofstream(path, std::ios::binary) << bytes;
    if (is_outbox) {
        open_outbox(path, bytes);
    } else {
        open_inbox(path, bytes);
    }
    fs::remove_all(place);
    return 0;
}
