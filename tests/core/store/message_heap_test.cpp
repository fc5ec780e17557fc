#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include "core/store/message_heap.hpp"
#include "tests/core/store/store_support.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

using Place = MessageHeap::Place;

MessageRow row_of(UserId user, Position seq, const std::string& text) {
    MessageRow row;
    row.user = user;
    row.seq = seq;
    row.message = message_of("app", "alice", "bob", text, fingerprint("m" + std::to_string(seq)));
    return row;
}

// What lies in the heap, and what it says.
struct World {
    std::map<std::pair<UserId, Position>, std::pair<Place, std::string>> kept;
    MessageHeap heap;

    void add(UserId user, Position seq, const std::string& text) {
        kept[{user, seq}] = {heap.add(row_of(user, seq, text)), text};
    }
    void remove(UserId user, Position seq) {
        const auto found = kept.find({user, seq});
        heap.remove(found->second.first);
        kept.erase(found);
    }
    void compact() {
        heap.compact([this](const LogRecord& record) -> Place* {
            const auto found = kept.find({record.user, record.seq});
            return found == kept.end() ? nullptr : &found->second.first;
        });
    }
    void check() const {
        for (const auto& [key, value] : kept) {
            const LogRecord record = heap.at(value.first);
            REQUIRE(record.user == key.first);
            REQUIRE(record.seq == key.second);
            REQUIRE(record.text == value.second);
        }
    }
};

constexpr std::size_t kSlack = 6 * 64 * 1024;

}  // namespace

TEST_CASE("MessageHeap: a message comes back as it was") {
    MessageHeap heap;
    MessageRow row = row_of(7, 9, "hello");
    auto message = std::make_shared<StoredMessage>(*row.message);
    message->typeu = -1;
    message->bridge = true;
    message->cseq = 1'000'000;
    message->send_ts = -5;
    row.sender = 300;
    row.message = message;
    SUBCASE("a fingerprint of text") {}
    SUBCASE("a UUID") { message->fp = NumberedSource().next(); }
    SUBCASE("as large as a message may be") { message->text.assign(1'000'000, 'x'); }
    SUBCASE("no text") { message->text.clear(); }
    heap.add(row_of(1, 1, "before"));
    const Place place = heap.add(row);
    heap.add(row_of(1, 2, "behind"));
    const LogRecord record = heap.at(place);
    CHECK(record.user == 7);
    CHECK(record.seq == 9);
    CHECK(record.sender == 300);
    const auto back = petrel::message_of(record, "app", "alice", "bob");
    CHECK(back->app == "app");
    CHECK(back->from == "alice");
    CHECK(back->to == "bob");
    CHECK(back->conv == "u:alice:bob");
    CHECK(back->fp == message->fp);
    CHECK(back->text == message->text);
    CHECK(back->typeu == -1);
    CHECK(back->bridge);
    CHECK(back->cseq == 1'000'000);
    CHECK(back->send_ts == -5);
}

TEST_CASE("MessageHeap: emptied, it holds one chunk at the most") {
    World world;
    for (Position seq = 1; seq <= 5000; ++seq) world.add(1, seq, std::string(seq % 700, 'x'));
    CHECK(world.heap.chunk_bytes() > 1'000'000);
    for (Position seq = 1; seq <= 5000; ++seq) world.remove(1, seq);
    CHECK(world.heap.bytes() == 0);
    CHECK(world.heap.chunk_bytes() <= 64 * 1024);
    world.add(1, 5001, std::string(100'000, 'y'));
    world.remove(1, 5001);
    CHECK(world.heap.chunk_bytes() <= 64 * 1024);
}

TEST_CASE("MessageHeap: messages that fill a chunk badly waste nothing and are not moved") {
    for (const std::size_t size : {7'000, 9'000, 22'000, 40'000, 65'000}) {
        CAPTURE(size);
        World world;
        for (Position seq = 1; seq <= 500; ++seq) world.add(1, seq, std::string(size, 'x'));
        CHECK(world.heap.chunk_bytes() <= world.heap.bytes() * 5 / 4 + kSlack);
        const auto before = world.kept;
        for (int i = 0; i < 10; ++i) world.compact();
        for (const auto& [key, value] : before) {
            const Place now = world.kept.at(key).first;
            REQUIRE((now.chunk == value.first.chunk && now.offset == value.first.offset));
        }
    }
}

TEST_CASE("MessageHeap: a few old messages among many that went do not hold their chunks") {
    World world;
    for (Position seq = 1; seq <= 20'000; ++seq) {
        world.add(1, seq, std::string(300, 'x'));
        if (seq % 100 == 0) world.add(2, seq, "kept " + std::to_string(seq));
    }
    for (Position seq = 1; seq <= 20'000; ++seq) world.remove(1, seq);
    CHECK(world.heap.chunk_bytes() > 100 * world.heap.bytes());
    world.compact();
    CHECK(world.heap.chunk_bytes() <= world.heap.bytes() * 5 / 4 + kSlack);
    CHECK(world.kept.size() == 200);
    world.check();
}

TEST_CASE("MessageHeap: whatever comes and goes, the rest is whole and little is wasted") {
    for (unsigned seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        World world;
        Position seq = 0;
        for (int round = 0; round < 60; ++round) {
            const unsigned adds = random() % 400;
            for (unsigned i = 0; i < adds; ++i) {
                const std::size_t size = random() % 50 == 0 ? random() % 90'000 : random() % 900;
                ++seq;
                world.add(1 + random() % 9, seq,
                          std::string(size, static_cast<char>('a' + seq % 26)));
            }
            for (unsigned i = random() % 400; i > 0 && !world.kept.empty(); --i) {
                auto found = world.kept.lower_bound({1 + random() % 9, random() % (seq + 1)});
                if (found == world.kept.end()) found = world.kept.begin();
                world.remove(found->first.first, found->first.second);
            }
            world.compact();
            REQUIRE(world.heap.chunk_bytes() <= world.heap.bytes() * 5 / 4 + kSlack);
        }
        world.check();
    }
}
