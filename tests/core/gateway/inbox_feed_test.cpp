#include <doctest/doctest.h>

#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "core/gateway/inbox_feed.hpp"

using namespace petrel;

namespace {

Delivery delivery(Position seq, std::size_t bytes = 1) {
    auto message = std::make_shared<StoredMessage>();
    message->text = std::string(bytes, 'x');
    Delivery made;
    made.seq = seq;
    made.message = std::move(message);
    return made;
}

ReadResult page(Position first, Position last, Position inbox_last) {
    ReadResult result;
    for (Position seq = first; seq <= last; ++seq) result.deliveries.push_back(delivery(seq));
    result.last = inbox_last;
    return result;
}

InboxFeed feed_of(Position after, Position last, std::vector<Position> skip = {},
                  InboxFeed::Options options = {}) {
    InboxFeed feed(options);
    feed.start(after, last, std::move(skip));
    return feed;
}

// Takes out all that is ready.
std::string popped(InboxFeed& feed) {
    std::string text;
    while (const Delivery* next = feed.front()) {
        if (!text.empty()) text += ' ';
        text += std::to_string(next->seq);
        feed.pop();
    }
    return text;
}

}  // namespace

TEST_CASE("InboxFeed: with nothing new it wants nothing") {
    InboxFeed feed = feed_of(5, 5);
    CHECK(feed.front() == nullptr);
    CHECK_FALSE(feed.wants_page());
    CHECK(feed.last() == 5);
}

TEST_CASE("InboxFeed: deliveries in order are handed on without a page") {
    InboxFeed feed = feed_of(5, 5);
    feed.on_delivery(delivery(6));
    feed.on_delivery(delivery(7));
    CHECK(popped(feed) == "6 7");
    CHECK_FALSE(feed.wants_page());
}

TEST_CASE("InboxFeed: what was there at the login is read in pages, the next while one goes out") {
    InboxFeed::Options options;
    options.queue_max = 4;
    InboxFeed feed = feed_of(2, 8, {}, options);
    CHECK(feed.wants_page());
    CHECK(feed.page_after() == 2);
    feed.on_page_requested();
    CHECK_FALSE(feed.wants_page());
    REQUIRE(feed.on_page(page(3, 5, 8)));
    CHECK_FALSE(feed.wants_page());  // More than half full.
    CHECK(feed.popped_to() == 2);
    feed.pop();
    CHECK(feed.wants_page());
    CHECK(feed.page_after() == 5);
    CHECK(feed.popped_to() == 3);
    feed.on_page_requested();
    feed.on_delivery(delivery(9));
    REQUIRE(feed.on_page(page(6, 8, 8)));
    CHECK(popped(feed) == "4 5 6 7 8");
    CHECK(feed.wants_page());
    CHECK(feed.page_after() == 8);
    REQUIRE(feed.on_page(page(9, 9, 9)));
    CHECK(popped(feed) == "9");
    CHECK_FALSE(feed.wants_page());
}

TEST_CASE("InboxFeed: a delivery while a page is read comes once, with or without the page") {
    InboxFeed feed = feed_of(0, 2);
    feed.on_page_requested();
    feed.on_delivery(delivery(3));
    SUBCASE("the page has it") { REQUIRE(feed.on_page(page(1, 3, 3))); }
    SUBCASE("the page is older") {
        REQUIRE(feed.on_page(page(1, 2, 2)));
        CHECK(popped(feed) == "1 2");
        CHECK(feed.wants_page());
        CHECK(feed.page_after() == 2);
        REQUIRE(feed.on_page(page(3, 3, 3)));
        CHECK(popped(feed) == "3");
        return;
    }
    CHECK(popped(feed) == "1 2 3");
}

TEST_CASE("InboxFeed: a delivery that a page has brought is dropped") {
    InboxFeed feed = feed_of(0, 2);
    feed.on_page_requested();
    REQUIRE(feed.on_page(page(1, 3, 3)));
    feed.on_delivery(delivery(3));
    feed.on_delivery(delivery(4));
    CHECK(popped(feed) == "1 2 3 4");
}

TEST_CASE("InboxFeed: a delivery behind a hole is read later, never out of order") {
    InboxFeed feed = feed_of(0, 0);
    feed.on_delivery(delivery(2));
    CHECK(feed.front() == nullptr);
    CHECK(feed.wants_page());
    REQUIRE(feed.on_page(page(1, 2, 2)));
    CHECK(popped(feed) == "1 2");
}

TEST_CASE("InboxFeed: the queue is bounded in messages, the rest comes from the store") {
    InboxFeed::Options options;
    options.queue_max = 2;
    InboxFeed feed = feed_of(0, 0, {}, options);
    for (Position seq = 1; seq <= 4; ++seq) feed.on_delivery(delivery(seq));
    CHECK(popped(feed) == "1 2");
    CHECK(feed.wants_page());
    CHECK(feed.page_after() == 2);
    REQUIRE(feed.on_page(page(3, 4, 4)));
    feed.on_delivery(delivery(5));
    CHECK(popped(feed) == "3 4");
    CHECK(feed.page_after() == 4);
}

TEST_CASE("InboxFeed: the queue is bounded in bytes") {
    InboxFeed::Options options;
    options.queue_bytes_max = 10 + InboxFeed::kMessageOverhead;
    InboxFeed feed = feed_of(0, 0, {}, options);
    feed.on_delivery(delivery(1, 10));
    feed.on_delivery(delivery(2, 1));
    CHECK(popped(feed) == "1");
    CHECK(feed.wants_page());
}

TEST_CASE("InboxFeed: with no queue at all everything comes from the store") {
    InboxFeed::Options options;
    options.queue_max = 0;
    InboxFeed feed = feed_of(0, 0, {}, options);
    feed.on_delivery(delivery(1));
    CHECK(feed.wants_page());
    REQUIRE(feed.on_page(page(1, 1, 1)));
    CHECK(popped(feed) == "1");
}

TEST_CASE("InboxFeed: a failed page is wanted again") {
    InboxFeed feed = feed_of(0, 1);
    feed.on_page_requested();
    feed.on_page_failed();
    CHECK(feed.wants_page());
}

TEST_CASE("InboxFeed: positions that are gone from the store end it") {
    InboxFeed feed = feed_of(2, 6);
    feed.on_page_requested();
    SUBCASE("some") { CHECK_FALSE(feed.on_page(page(4, 6, 6))); }
    SUBCASE("all") { CHECK_FALSE(feed.on_page(ReadResult{})); }
}

TEST_CASE("InboxFeed: acked positions of a plain client are left out") {
    InboxFeed feed = feed_of(2, 8, {3, 5, 6});
    CHECK(feed.page_after() == 3);
    feed.on_page_requested();
    REQUIRE(feed.on_page(page(4, 8, 8)));
    CHECK(popped(feed) == "4 7 8");
    CHECK_FALSE(feed.wants_page());
}

TEST_CASE("InboxFeed: when all that is left was acked nothing is wanted") {
    InboxFeed feed = feed_of(2, 4, {3, 4});
    CHECK_FALSE(feed.wants_page());
    feed.on_delivery(delivery(5));
    CHECK(popped(feed) == "5");
}

TEST_CASE("InboxFeed: acked positions at the end of a page need no further page") {
    InboxFeed feed = feed_of(0, 3, {2, 3});
    feed.on_page_requested();
    REQUIRE(feed.on_page(page(1, 3, 3)));
    CHECK(popped(feed) == "1");
    CHECK_FALSE(feed.wants_page());
    feed.on_delivery(delivery(4));
    CHECK(popped(feed) == "4");
}

TEST_CASE("InboxFeed: a last below the resume position does not count") {
    InboxFeed feed = feed_of(7, 3);
    CHECK(feed.last() == 7);
    CHECK_FALSE(feed.wants_page());
}
