#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "core/store/log_piece.hpp"
#include "core/store/sqlite_blobs.hpp"
#include "tests/core/store/store_support.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

// A message, a stream, a forgotten stream.
std::string a_piece() {
    std::string piece;
    begin_log_piece(1'700'000'000'123, piece);
    MessageRow row;
    row.user = 70'000;
    row.seq = 1;
    row.sender = 2;
    row.message = test::message_of("app", "alice", "bob", "hello", fingerprint("m"));
    append_log_message(row, piece);
    append_log_stream(3, {"stream", kNumberMax, -1}, piece);
    append_log_forgotten_stream({4, "gone"}, piece);
    return piece;
}

}  // namespace

TEST_CASE("LogPiece: what was written is read") {
    const std::string piece = a_piece();
    LogPieceReader reader(piece);
    CHECK(reader.accepted_at() == 1'700'000'000'123);
    LogRecord record;
    REQUIRE(reader.next(record));
    CHECK(record.kind == LogRecord::Kind::kMessage);
    CHECK(record.user == 70'000);
    CHECK(record.text == "hello");
    CHECK(fingerprint_of(record) == fingerprint("m"));
    CHECK_FALSE(record.is_gone);
    REQUIRE(reader.next(record));
    CHECK(record.kind == LogRecord::Kind::kStream);
    CHECK(record.user == 3);
    CHECK(record.name == "stream");
    CHECK(record.position == kNumberMax);
    CHECK(record.used_at == -1);
    REQUIRE(reader.next(record));
    CHECK(record.is_gone);
    CHECK(record.user == 4);
    CHECK(record.name == "gone");
    CHECK_FALSE(reader.next(record));
    CHECK_FALSE(reader.is_damaged());
}

TEST_CASE("LogPiece: numbers of any size come back") {
    for (unsigned bits = 0; bits <= 64; ++bits) {
        const std::uint64_t value = bits == 0 ? 0 : ~std::uint64_t{0} >> (64 - bits);
        std::string bytes;
        append_varint(value, bytes);
        CHECK(bytes.size() <= kVarintMax);
        std::string_view rest = bytes;
        std::uint64_t back = 1;
        CHECK(take_varint(rest, back));
        CHECK(back == value);
        CHECK(rest.empty());
        rest = std::string_view(bytes).substr(0, bytes.size() - 1);
        CHECK_FALSE(take_varint(rest, back));
    }
    std::string_view endless = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    std::uint64_t value = 0;
    CHECK_FALSE(take_varint(endless, value));
}

TEST_CASE("LogPiece: a record is no longer than it may be") {
    MessageRow row;
    row.user = row.sender = std::numeric_limits<UserId>::max();
    row.seq = kNumberMax;
    const std::string name(Fingerprint::kTextMax, 'f');
    auto message = test::message_of("app", "a", "b", "", fingerprint(name));
    message->cseq = kNumberMax;
    message->send_ts = std::numeric_limits<WallMillis>::min();
    message->typeu = std::numeric_limits<int>::min();
    row.message = message;
    std::string record;
    append_log_message(row, record);
    CHECK(record.size() <= log_record_bytes_max());
    std::string_view rest = record;
    LogRecord back;
    REQUIRE(take_log_record(rest, back));
    CHECK(back.user == row.user);
    CHECK(back.send_ts == message->send_ts);
    CHECK(back.typeu == message->typeu);
}

TEST_CASE("LogPiece: a piece that ends too early is damaged") {
    const std::string piece = a_piece();
    LogPieceReader reader(piece);
    std::size_t records = 0;
    for (LogRecord record; reader.next(record);) ++records;
    REQUIRE(records == 3);
    unsigned undamaged = 0;
    for (std::size_t size = 0; size < piece.size(); ++size) {
        const std::string part = piece.substr(0, size);  // Of its own: a sanitizer sees its end.
        LogPieceReader cut(part);
        for (LogRecord record; cut.next(record);) {
        }
        undamaged += cut.is_damaged() ? 0 : 1;
    }
    CHECK(undamaged == 3);  // Where a record ends.
}

TEST_CASE("LogPiece: any bytes are read to an end") {
    std::mt19937 random(1);
    const std::string piece = a_piece();
    for (int i = 0; i < 20'000; ++i) {
        std::string bytes = piece;
        for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
            bytes[random() % bytes.size()] = static_cast<char>(random());
        }
        LogPieceReader reader(bytes);
        std::size_t records = 0;
        for (LogRecord record; reader.next(record); ++records) {
            REQUIRE(record.text.size() + record.name.size() <= bytes.size());
        }
        REQUIRE(records <= bytes.size());
    }
}
