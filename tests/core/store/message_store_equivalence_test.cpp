#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include <doctest/doctest.h>

#include "tests/core/store/failing_vfs.hpp"
#include "tests/core/store/store_support.hpp"

// The two forms side by side: whatever is asked of them in whatever order, they say the same.

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

bool same(const StoredMessage& a, const StoredMessage& b) {
    return a.app == b.app && a.from == b.from && a.to == b.to && a.fp == b.fp &&
           a.typeu == b.typeu && a.bridge == b.bridge && a.text == b.text && a.conv == b.conv &&
           a.cseq == b.cseq && a.send_ts == b.send_ts;
}

bool same(const std::vector<Delivery>& a, const std::vector<Delivery>& b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i].seq != b[i].seq || !same(*a[i].message, *b[i].message)) {
            return false;
        }
    }
    return true;
}

bool same(const AppendResult& a, const AppendResult& b) {
    return a.ticket == b.ticket && a.fate == b.fate && a.code == b.code && a.seq == b.seq &&
           a.fp == b.fp && a.cseq == b.cseq && a.send_ts == b.send_ts;
}

bool same(const OpenResult& a, const OpenResult& b) {
    return a.ticket == b.ticket && a.error == b.error && a.generation == b.generation &&
           a.inbox.epoch == b.inbox.epoch && a.inbox.seq == b.inbox.seq &&
           a.inbox.last == b.inbox.last && a.inbox.recovered == b.inbox.recovered &&
           a.handled == b.handled && a.accepted == b.accepted && a.acked_above == b.acked_above;
}

class Pair {
public:
    explicit Pair(unsigned seed) : random_(seed) {
        options_.message_retention = 4000ms;
        options_.dedup_horizon = 2500ms;
        options_.device_retention = 3000ms;
        options_.inbox_max = seed % 2 == 0 ? 12 : 1000;
        options_.devices_max = 3;
        options_.streams_max = 3;
        options_.plain_acked_max = 4;
        tuning_.dedup_recent_max = 1 + random_() % 40;
        tuning_.index_recent_max = 1 + random_() % 60;
        tuning_.checkpoint_pages = 50;
        memory_ = make_memory_message_store(options_, memory_epochs_);
        open_file();
    }

    void run(int transactions) {
        for (int i = 0; i < transactions; ++i) {
            INFO("transaction ", i);
            transaction();
            if (below(40) == 0) {
                sqlite_.reset();
                open_file();
            }
        }
    }
    int operations() const { return operations_; }
    int failures() const { return vfs_.failures(); }
    // By fate, then breaks.
    const std::array<int, 6>& seen() const { return seen_; }

private:
    std::size_t below(std::size_t end) { return random_() % end; }

    void open_file() {
        std::string why;
        auto opened = open_sqlite_message_store(folder_.file("petrel.db"), options_, sqlite_epochs_,
                                                why, tuning_);
        REQUIRE_MESSAGE(bool(opened), why);
        sqlite_ = std::move(*opened);
    }

    void transaction() {
        now_ += static_cast<std::int64_t>(below(60));
        if (below(200) == 0) now_ += 3000;
        const WallMillis wall = now_ + static_cast<WallMillis>(below(1000));
        REQUIRE(!memory_->begin(now_, wall));
        REQUIRE(!sqlite_->begin(now_, wall));
        for (std::size_t left = below(12); left > 0; --left) operation();
        const std::size_t fate = below(10);
        if (fate == 0) {
            memory_->rollback();
            sqlite_->rollback();
        } else if (fate == 1) {
            vfs_.fail_writes_after(static_cast<int>(below(4)), SQLITE_FULL);
            const bool has_failed = bool(sqlite_->commit());
            vfs_.heal();
            if (has_failed) {
                memory_->rollback();
            } else {
                REQUIRE(!memory_->commit());
            }
        } else {
            REQUIRE(!memory_->commit());
            REQUIRE(!sqlite_->commit());
        }
    }

    std::string user() { return "user" + std::to_string(below(6)); }
    std::string device() { return "device" + std::to_string(below(5)); }
    std::string app() { return below(8) == 0 ? "other" : "default"; }

    void operation() {
        ++operations_;
        switch (below(11)) {
            case 0: return open();
            case 1:
            case 2: return advance();
            case 3: return read();
            case 4: return below(3) == 0 ? trim() : read();
            default: return append();
        }
    }

    void append() {
        AppendRequest request;
        if (!sent_.empty() && below(4) == 0) {
            request =
                copy_of(sent_[sent_.size() - 1 - below(std::min<std::size_t>(sent_.size(), 60))]);
            if (below(4) == 0) request.message->text += "!";
        } else {
            request.message = std::make_shared<StoredMessage>();
            request.message->app = app();
            request.message->from = user();
            request.message->to = user();
            request.message->fp = fingerprints_.next();
            if (below(10) == 0)
                request.message->fp = fingerprint("text" + std::to_string(below(30)));
            request.message->typeu = static_cast<int>(below(4)) == 1 ? 3 : 0;
            request.message->bridge = below(2) == 0;
            request.message->text = std::string(below(300), static_cast<char>('a' + below(26)));
            if (below(15) == 0) request.refusal = 306;
        }
        if (below(3) != 0) {
            request.stream = stream_named("stream" + std::to_string(below(5)));
            Position& next = positions_[request.message->from + *request.stream];
            request.prev = next > 2 && below(5) == 0 ? next - 1 - below(2) : next;
            request.seq = request.prev + 1 + below(3);
            next = below(10) == 0 ? 0 : request.seq;
        } else {
            request.stream = nullptr;
        }
        request.ticket = static_cast<std::uint64_t>(operations_);
        AppendResult one;
        AppendResult other;
        std::vector<Delivery> ones;
        std::vector<Delivery> others;
        REQUIRE(!memory_->append(copy_of(request), one, ones));
        REQUIRE(!sqlite_->append(copy_of(request), other, others));
        REQUIRE(same(one, other));
        REQUIRE(same(ones, others));
        ++seen_[static_cast<std::size_t>(one.fate)];
        sent_.push_back(request);
    }

    void open() {
        OpenRequest request;
        request.app = app();
        request.user = user();
        request.is_plain = below(4) == 0;
        request.device = request.is_plain ? "-" : device();
        request.receives = below(5) != 0;
        request.generation = below(2) == 0 ? 0 : below(5000);
        request.wall = now_;
        if (!request.is_plain && below(3) != 0) {
            InboxCursor cursor;
            cursor.epoch = below(8) == 0 ? "other" : epochs_[request.app + request.user];
            cursor.seq = below(60);
            ReadRequest look;
            look.app = request.app;
            look.user = request.user;
            look.after = cursor.seq > 0 ? cursor.seq - 1 : 0;
            look.messages_max = 1;
            ReadResult seen;
            REQUIRE(!memory_->read(look, seen));
            if (below(4) != 0) cursor.seq = std::min<Position>(cursor.seq, seen.last);
            if (!seen.deliveries.empty()) cursor.fp = seen.deliveries[0].message->fp;
            request.inbox = cursor;
        }
        if (!request.is_plain) {
            request.stream = "stream" + std::to_string(below(5));
            request.first = below(20);
        }
        OpenResult one;
        OpenResult other;
        REQUIRE(!memory_->open_session(request, one));
        REQUIRE(!sqlite_->open_session(request, other));
        REQUIRE(same(one, other));
        if (!one.inbox.recovered) ++seen_[5];
        epochs_[request.app + request.user] = one.inbox.epoch;
        positions_[request.user + request.stream] = std::max(one.accepted, request.first);
    }

    void advance() {
        CursorUpdate update;
        update.app = app();
        update.user = user();
        update.is_plain = below(3) == 0;
        update.device = update.is_plain ? "-" : device();
        ReadRequest look;
        look.app = update.app;
        look.user = update.user;
        ReadResult seen;
        REQUIRE(!memory_->read(look, seen));
        update.position = seen.last - std::min<Position>(seen.last, below(15)) + below(2);
        REQUIRE(!memory_->advance(update));
        REQUIRE(!sqlite_->advance(update));
    }

    void read() {
        ReadRequest request;
        request.app = app();
        request.user = user();
        request.after = below(3) == 0 ? 0 : below(80);
        request.messages_max = below(20);
        request.bytes_max = below(2000);
        ReadResult one;
        ReadResult other;
        REQUIRE(!memory_->read(request, one));
        REQUIRE(!sqlite_->read(request, other));
        REQUIRE(one.last == other.last);
        REQUIRE(same(one.deliveries, other.deliveries));
    }

    // All that may go: in how many steps is each form's own affair.
    void trim() {
        const std::size_t rows_max = 1 + below(20);
        for (bool has_more = true; has_more;) REQUIRE(!memory_->trim(rows_max, has_more));
        for (bool has_more = true; has_more;) REQUIRE(!sqlite_->trim(rows_max, has_more));
    }

    std::mt19937 random_;
    FailingVfs vfs_;
    TemporaryFolder folder_;
    StoreOptions options_;
    SqliteTuning tuning_;
    NumberedSource memory_epochs_{0xee};
    NumberedSource sqlite_epochs_{0xee};
    NumberedSource fingerprints_{0xff};
    std::unique_ptr<MessageStore> memory_;
    std::unique_ptr<MessageStore> sqlite_;
    std::vector<AppendRequest> sent_;
    std::unordered_map<std::string, Position> positions_;
    std::unordered_map<std::string, std::string> epochs_;
    std::int64_t now_ = 1;
    int operations_ = 0;
    std::array<int, 6> seen_{};
};

}  // namespace

TEST_CASE("MessageStore: both forms say the same to thousands of random operations") {
    int operations = 0;
    int failures = 0;
    std::array<int, 6> seen{};
    for (unsigned seed = 1; seed <= 12; ++seed) {
        CAPTURE(seed);
        Pair pair(seed);
        pair.run(400);
        operations += pair.operations();
        failures += pair.failures();
        for (std::size_t i = 0; i < seen.size(); ++i) seen[i] += pair.seen()[i];
    }
    CHECK(operations > 10'000);
    CHECK(failures > 50);
    for (const Fate fate : {Fate::kAccepted, Fate::kDuplicate, Fate::kRefused, Fate::kNotTaken}) {
        CHECK(seen[static_cast<std::size_t>(fate)] > 200);
    }
    CHECK(seen[5] > 100);
}
