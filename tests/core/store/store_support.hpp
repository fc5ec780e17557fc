#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdlib.h>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "core/store/memory_message_store.hpp"
#include "core/store/message_store.hpp"
#include "core/store/sqlite_message_store.hpp"

namespace petrel::test {

using Fate = AppendResult::Fate;

// UUIDs 1, 2, 3... in their last bytes: the same for every run.
class NumberedSource final : public FingerprintSource {
public:
    explicit NumberedSource(std::uint8_t first_byte = 0) { bytes_[0] = first_byte; }
    Fingerprint next() override {
        for (std::size_t i = bytes_.size(); i-- > 1 && ++bytes_[i] == 0;) {
        }
        return Fingerprint::from_uuid(bytes_);
    }

private:
    std::array<std::uint8_t, 16> bytes_{};
};

inline Fingerprint fingerprint(const std::string& text) { return Fingerprint::parse(text).value(); }

// As a session hands it over.
inline std::shared_ptr<StoredMessage> message_of(const std::string& app, const std::string& from,
                                                 const std::string& to, const std::string& text,
                                                 const Fingerprint& fp) {
    auto message = std::make_shared<StoredMessage>();
    message->app = app;
    message->from = from;
    message->to = to;
    message->text = text;
    message->fp = fp;
    return message;
}

inline std::shared_ptr<const std::string> stream_named(const std::string& name) {
    return std::make_shared<const std::string>(name);
}

// With a message of its own.
inline AppendRequest copy_of(const AppendRequest& request) {
    AppendRequest copy = request;
    copy.message = std::make_shared<StoredMessage>(*request.message);
    return copy;
}

// A folder of its own, gone with the object.
class TemporaryFolder {
public:
    TemporaryFolder() {
        // In memory where the system has such a place: these files are synced thousands of times.
        std::filesystem::path where = "/dev/shm";
        std::error_code error;
        if (!std::filesystem::is_directory(where, error)) {
            where = std::filesystem::temp_directory_path();
        }
        std::string name = (where / "petrel-test-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    std::string file(const std::string& name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

struct MemoryForm {
    static constexpr bool kIsFile = false;
    std::unique_ptr<MessageStore> open(const StoreOptions& options, FingerprintSource& epochs) {
        return make_memory_message_store(options, epochs);
    }
};

struct SqliteForm {
    static constexpr bool kIsFile = true;
    TemporaryFolder folder;
    SqliteTuning tuning;
    std::unique_ptr<MessageStore> open(const StoreOptions& options, FingerprintSource& epochs) {
        std::string why;
        auto store =
            open_sqlite_message_store(folder.file("petrel.db"), options, epochs, why, tuning);
        REQUIRE_MESSAGE(bool(store), why);
        return std::move(*store);
    }
};

// Next to nothing waits in memory: rows of the log are always on their way to the tables.
struct SettlingForm : SqliteForm {
    SettlingForm() {
        tuning.dedup_recent_max = 3;
        tuning.index_recent_max = 5;
    }
};

// A store with a clock; each call is a transaction of its own, unless in_transaction().
template <class Form>
class StoreWorld {
public:
    explicit StoreWorld(const StoreOptions& options = {})
        : options_(options), store_(form_.open(options, epochs_)) {}

    MessageStore& store() { return *store_; }
    Form& form() { return form_; }
    FingerprintSource& epochs() { return epochs_; }
    void advance(std::int64_t milliseconds) { now_ += milliseconds; }
    std::int64_t now() const { return now_; }
    void set_wall(WallMillis wall) { wall_ = wall; }

    // A restart: a file is read again, memory stays as it is.
    void reopen() {
        if (!Form::kIsFile) return;
        store_.reset();
        store_ = form_.open(options_, epochs_);
    }

    template <class Function>
    void in_transaction(Function&& function) {
        REQUIRE(!store_->begin(now_, wall_));
        is_open_ = true;
        function();
        is_open_ = false;
        REQUIRE(!store_->commit());
    }

    // By name: ("alice", "bob", "hello") with a fresh fingerprint.
    AppendResult send(const std::string& from, const std::string& to,
                      const std::string& text = "hello") {
        return append(request(from, to, text));
    }
    AppendRequest request(const std::string& from, const std::string& to,
                          const std::string& text = "hello") {
        AppendRequest request;
        request.ticket = ++ticket_;
        request.message = message_of("default", from, to, text, fingerprints_.next());
        return request;
    }
    AppendRequest streamed(const std::string& from, const std::string& to, Position seq,
                           std::optional<Position> prev = {}, const std::string& stream = "s") {
        AppendRequest made = request(from, to);
        made.stream = stream_named(stream);
        made.seq = seq;
        made.prev = prev.value_or(seq - 1);
        return made;
    }
    AppendResult append(const AppendRequest& request) {
        AppendResult result;
        deliveries_.clear();
        // A copy: the store keeps what it is given, and the test may go on to change its own.
        const AppendRequest given = copy_of(request);
        run([&] { REQUIRE(!store_->append(given, result, deliveries_)); });
        CHECK(result.ticket == request.ticket);
        CHECK(result.fp == request.message->fp);
        CHECK(result.seq == request.seq);
        return result;
    }
    const std::vector<Delivery>& deliveries() const { return deliveries_; }

    static OpenRequest login(const std::string& user, const std::string& device = "phone") {
        OpenRequest request;
        request.app = "default";
        request.user = user;
        request.device = device;
        request.generation = 1;
        return request;
    }
    OpenResult open(const OpenRequest& request) {
        OpenResult result;
        run([&] { REQUIRE(!store_->open_session(request, result)); });
        CHECK(!result.error);
        return result;
    }
    OpenResult open(const std::string& user, const std::string& device = "phone") {
        return open(login(user, device));
    }
    OpenResult open_with_cursor(const std::string& user, const std::string& device,
                                const InboxCursor& cursor) {
        OpenRequest request = login(user, device);
        request.inbox = cursor;
        return open(request);
    }
    OpenResult open_plain(const std::string& user) {
        OpenRequest request = login(user, "-");
        request.is_plain = true;
        return open(request);
    }

    void ack(const std::string& user, Position position, const std::string& device = "phone") {
        run([&] { REQUIRE(!store_->advance({"default", user, device, false, position})); });
    }
    void ack_plain(const std::string& user, Position position) {
        run([&] { REQUIRE(!store_->advance({"default", user, "-", true, position})); });
    }

    ReadResult read(const std::string& user, Position after = 0, std::size_t messages_max = 10'000,
                    std::size_t bytes_max = 1 << 30) {
        ReadRequest request;
        request.ticket = ++ticket_;
        request.app = "default";
        request.user = user;
        request.after = after;
        request.messages_max = messages_max;
        request.bytes_max = bytes_max;
        ReadResult result;
        run([&] { REQUIRE(!store_->read(request, result)); });
        CHECK(result.ticket == request.ticket);
        return result;
    }
    std::vector<Position> positions(const std::string& user, Position after = 0) {
        std::vector<Position> found;
        for (const Delivery& delivery : read(user, after).deliveries) found.push_back(delivery.seq);
        return found;
    }

    // All that may go.
    void trim(std::size_t rows_max = 1000) {
        bool has_more = false;
        do {
            run([&] { REQUIRE(!store_->trim(rows_max, has_more)); });
        } while (has_more);
    }

private:
    template <class Function>
    void run(Function&& function) {
        if (is_open_) return function();
        in_transaction(function);
    }

    Form form_;
    StoreOptions options_;
    NumberedSource epochs_{0xee};
    NumberedSource fingerprints_{0xff};
    std::unique_ptr<MessageStore> store_;
    std::vector<Delivery> deliveries_;
    std::int64_t now_ = 1'000'000;
    WallMillis wall_ = 1'700'000'000'000;
    std::uint64_t ticket_ = 0;
    bool is_open_ = false;
};

using Seqs = std::vector<Position>;

}  // namespace petrel::test
