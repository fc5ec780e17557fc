// Outbox and inbox files whose bytes are anything, or a good file's with some changed, or whose
// rows hold anything: opening one never crashes, what it holds is well-formed, an engine lives on
// it, and a file that is refused is still there.

#include <fuzzer/FuzzedDataProvider.h>
#include <sqlite3.h>
#include <unistd.h>

#include <array>
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

#include "core/client/engine.hpp"
#include "core/store/memory_boxes.hpp"
#include "core/store/sqlite_inbox.hpp"
#include "core/store/sqlite_outbox.hpp"
#include "protocol/codec.hpp"
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
    FUZZ_CHECK(!data.fp.empty() || !data.qos);
    FUZZ_CHECK(is_valid_utf8(data.text));
    FUZZ_CHECK(is_valid_utf8(data.to));
    FUZZ_CHECK(data.seq <= kNumberMax);
}

// What a table holds, one row of it. The column's type is enforced by SQLite; what is in it is not.
struct Column {
    const char* table;
    const char* name;
};
constexpr std::array kOutboxColumns = {
    Column{"message", "id"},         Column{"message", "fp"},       Column{"message", "recipient"},
    Column{"message", "typeu"},      Column{"message", "qos"},      Column{"message", "bridge"},
    Column{"message", "expires_at"}, Column{"message", "taken_at"}, Column{"message", "text"},
    Column{"outcome", "id"},         Column{"outcome", "fp"},       Column{"outcome", "recipient"},
    Column{"outcome", "outcome"},    Column{"outcome", "code"},     Column{"outcome", "cseq"},
    Column{"outcome", "send_ts"},    Column{"outcome", "attempts"}};
constexpr std::array kInboxColumns = {
    Column{"device", "name"},    Column{"cursor", "epoch"},    Column{"cursor", "seq"},
    Column{"cursor", "fp"},      Column{"message", "id"},      Column{"message", "epoch"},
    Column{"message", "seq"},    Column{"message", "sender"},  Column{"message", "recipient"},
    Column{"message", "fp"},     Column{"message", "qos"},     Column{"message", "typeu"},
    Column{"message", "cseq"},   Column{"message", "send_ts"}, Column{"message", "conv"},
    Column{"message", "bridge"}, Column{"message", "text"}};

// As another program, or an earlier version with a bug, may have written it.
void change_rows(const fs::path& path, bool is_outbox, FuzzedDataProvider& input) {
    sqlite3* db = nullptr;
    FUZZ_CHECK(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
    while (input.remaining_bytes() > 0) {
        const Column column = is_outbox ? input.PickValueInArray(kOutboxColumns)
                                        : input.PickValueInArray(kInboxColumns);
        const std::string sql =
            std::string("UPDATE ") + column.table + " SET " + column.name +
            " = ? WHERE rowid = " + std::to_string(input.ConsumeIntegralInRange(1, 3));
        sqlite3_stmt* update = nullptr;
        FUZZ_CHECK(sqlite3_prepare_v2(db, sql.c_str(), -1, &update, nullptr) == SQLITE_OK);
        std::string bytes;
        switch (input.ConsumeIntegralInRange(0, 4)) {
            case 0: sqlite3_bind_null(update, 1); break;
            case 1: sqlite3_bind_int64(update, 1, input.ConsumeIntegral<std::int64_t>()); break;
            case 2: sqlite3_bind_int64(update, 1, input.ConsumeIntegralInRange(-1, 10)); break;
            case 3:
                bytes = input.ConsumeRandomLengthString(64);
                sqlite3_bind_text(update, 1, bytes.data(), static_cast<int>(bytes.size()),
                                  SQLITE_TRANSIENT);
                break;
            case 4:
                bytes = input.ConsumeRandomLengthString(64);
                sqlite3_bind_blob(update, 1, bytes.data(), static_cast<int>(bytes.size()),
                                  SQLITE_TRANSIENT);
                break;
        }
        sqlite3_step(update);  // The type or a constraint may refuse it.
        sqlite3_finalize(update);
    }
    sqlite3_close(db);
}

// An app's engine on what the file holds, until it has connected once.
class Life final : private EngineHost, private FingerprintSource {
public:
    Life(Outbox& outbox, Inbox& inbox)
        : engine_(options(), *this, outbox, inbox, *this, 1, TimePoint{}) {
        turn();
        engine_.login(TimePoint{});
        turn();
        engine_.on_connected(TimePoint{}, 1, kSubprotocolV1);
        turn();
        LoginResponse reply;
        LoginReplyV1& v1 = reply.v1.emplace();
        v1.session = "s";
        v1.inbox.epoch = "e";
        std::string text;
        encode(Packet(reply), ProfileId::kPetrelV1, Side::kServer, text);
        engine_.on_text(TimePoint{}, 1, text);
        turn();
        engine_.shut_down(TimePoint{});
    }

private:
    static EngineOptions options() {
        EngineOptions options;
        options.user = "alice";
        return options;
    }
    void turn() {
        for (int i = 0; i < 2; ++i) {
            while (const auto event = engine_.next_event()) {
                engine_.on_event_done(TimePoint{}, *event);
            }
            engine_.flush(TimePoint{});
        }
        FUZZ_CHECK(engine_.is_consistent());
    }
    void connect(std::uint64_t, std::string_view) override {}
    void send_text(std::uint64_t, std::string_view text) override {
        FUZZ_CHECK(static_cast<bool>(decode(text, ProfileId::kPetrelV1)));
    }
    void disconnect(std::uint64_t, std::uint16_t, std::string_view) override {}
    std::size_t queued_bytes() const override { return 0; }
    std::size_t queued_packets() const override { return 0; }
    WallMillis wall_ms() const override { return 1'700'000'000'000; }
    void log(LogLevel, std::string_view) override {}
    void on_turn_wanted() override {}
    Fingerprint next() override {
        return Fingerprint::parse("made-" + std::to_string(++made_)).value();
    }

    int made_ = 0;
    Engine engine_;
};

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

void open_outbox(const fs::path& path, const std::string& bytes, bool has_engine) {
    std::string why;
    auto outbox = open_sqlite_outbox(path, kAccount, options(), why);
    if (!outbox) {
        FUZZ_CHECK(!why.empty());
        FUZZ_CHECK(is_kept(path, bytes));
        return;
    }
    if (has_engine) {
        const auto inbox = make_memory_inbox();
        Life(**outbox, *inbox);
        return;
    }
    const Outbox::Kept kept = (*outbox)->load();
    for (const OutboxRecord& record : kept.messages) check(record.message);
    for (const OutcomeRecord& record : kept.outcomes) {
        FUZZ_CHECK(!record.fp.empty());
        FUZZ_CHECK(record.outcome <= Outcome::kUnknown);
    }
    (*outbox)->append({{message(9), {}, {}}}, {});
}

void open_inbox(const fs::path& path, const std::string& bytes, bool has_engine) {
    std::string why;
    auto inbox = open_sqlite_inbox(path, kAccount, "", options(), why);
    if (!inbox) {
        FUZZ_CHECK(!why.empty());
        FUZZ_CHECK(is_kept(path, bytes));
        return;
    }
    if (has_engine) {
        const auto outbox = make_memory_outbox();
        Life(*outbox, **inbox);
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
    const int way = input.ConsumeIntegralInRange(0, 7);
    const bool has_rows = way > 4;
    const bool has_engine = input.ConsumeBool();
    if (way == 0) {
        bytes = input.ConsumeRemainingBytesAsString();
    } else {
        bytes = is_outbox ? kOutbox : kInbox;
        if (!has_rows && input.ConsumeBool()) {
            bytes.resize(input.ConsumeIntegralInRange<std::size_t>(0, bytes.size()));
        }
        while (!has_rows && input.remaining_bytes() > 0 && !bytes.empty()) {
            const auto at = input.ConsumeIntegralInRange<std::size_t>(0, bytes.size() - 1);
            bytes[at] = static_cast<char>(input.ConsumeIntegral<std::uint8_t>());
        }
    }
    const fs::path place = folder() / "try";
    fs::create_directories(place);
    const fs::path path = place / "file";
    std::ofstream(path, std::ios::binary) << bytes;
    if (has_rows) {
        change_rows(path, is_outbox, input);
        bytes = read(path);
    }
    if (is_outbox) {
        open_outbox(path, bytes, has_engine);
    } else {
        open_inbox(path, bytes, has_engine);
    }
    fs::remove_all(place);
    return 0;
}
