#include "core/gateway/metrics.hpp"

#include <doctest/doctest.h>

#include <string>

#include "tests/support/gateway_world.hpp"

namespace petrel {
namespace {

using test::FakeClient;
using test::GatewayWorld;

std::string written(const GatewayFigures& figures) {
    MetricsText text;
    write_metrics(figures, text);
    return text.text();
}

bool has_line(const std::string& text, const std::string& line) {
    return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

}  // namespace

TEST_CASE("Metrics: codes are told apart up to a bound, and counted beyond it") {
    CodeCounts counts;
    for (int round = 0; round < 2; ++round) {
        for (int code = 0; code < 40; ++code) counts.add(code);
    }
    CHECK(counts.of(0) == 2);
    CHECK(counts.of(31) == 2);
    CHECK(counts.of(32) == 0);
    CHECK(counts.other() == 16);
    CHECK(counts.end() - counts.begin() == 32);
}

TEST_CASE("Metrics: sums of codes and counters keep every part") {
    SessionCounters one, two;
    one.accepted = 3;
    two.accepted = 4;
    two.acks_out = 1;
    one.closes.add(4001);
    two.closes.add(4001, 2);
    two.closes.add(4005);
    for (int code = 0; code < 40; ++code) two.errors.add(code);
    one += two;
    CHECK(one.accepted == 7);
    CHECK(one.acks_out == 1);
    CHECK(one.closes.of(4001) == 3);
    CHECK(one.closes.of(4005) == 1);
    CHECK(one.errors.other() == 8);
}

TEST_CASE("Metrics: of the largest of several shards it stays the largest") {
    ShardFigures one, two;
    one.backlog = 10, one.backlog_max = 9, one.queued_bytes_max = 1;
    two.backlog = 5, two.backlog_max = 5, two.queued_bytes_max = 7;
    one += two;
    CHECK(one.backlog == 15);
    CHECK(one.backlog_max == 9);
    CHECK(one.queued_bytes_max == 7);
}

TEST_CASE("Metrics: a histogram is cumulative, and its bounds belong to their bucket") {
    Histogram values{0.5, 1, 2};
    for (const double value : {0.25, 0.5, 1.5, 99.0}) values.add(value);
    MetricsText text;
    text.family("petrel_test_seconds", "histogram", "A test").histogram(values);
    CHECK(text.text() ==
          "# HELP petrel_test_seconds A test\n"
          "# TYPE petrel_test_seconds histogram\n"
          "petrel_test_seconds_bucket{le=\"0.5\"} 2\n"
          "petrel_test_seconds_bucket{le=\"1\"} 2\n"
          "petrel_test_seconds_bucket{le=\"2\"} 3\n"
          "petrel_test_seconds_bucket{le=\"+Inf\"} 4\n"
          "petrel_test_seconds_sum 101.25\n"
          "petrel_test_seconds_count 4\n");
}

TEST_CASE("Metrics: what could end a label's value is escaped") {
    MetricsText text;
    text.family("petrel_test", "gauge", "A test").sample("name", "a\"b\\c\nd", 1);
    CHECK(has_line(text.text(), "petrel_test{name=\"a\\\"b\\\\c\\nd\"} 1"));
}

TEST_CASE("Metrics: every family is described once, and every sample belongs to the last one") {
    const std::string text = written({});
    std::string family;
    std::vector<std::string> families;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = text.find('\n', at);
        const std::string line = text.substr(at, end - at);
        at = end + 1;
        if (line.rfind("# HELP ", 0) == 0) {
            family = line.substr(7, line.find(' ', 7) - 7);
            CHECK(std::find(families.begin(), families.end(), family) == families.end());
            families.push_back(family);
        } else if (line.rfind("# TYPE ", 0) == 0) {
            CHECK(line.rfind("# TYPE " + family + " ", 0) == 0);
            const bool is_counter = line.find(" counter") != std::string::npos;
            const bool ends_so =
                family.size() > 6 && family.compare(family.size() - 6, 6, "_total") == 0;
            CHECK_MESSAGE(is_counter == ends_so, family);
        } else {
            CHECK_MESSAGE(line.rfind(family, 0) == 0, line);
        }
    }
    CHECK(families.size() > 30);
}

TEST_CASE("Metrics: a session counts logins by result, errors and closes by code, acks") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    FakeClient& bob = world.online({"bob"});
    alice.say({"a", 1});
    alice.say({"b", 2, "bob", std::nullopt, {}, "mallory"});
    bob.ack(1);
    world.verdict.code = 401;
    FakeClient& eve = world.connect();
    eve.login({"eve"});
    bob.send("{\"type\":3}");

    GatewayFigures figures;
    figures.shards.counters = world.counters();
    const std::string text = written(figures);
    CHECK(has_line(text, "petrel_logins_total{result=\"accepted\"} 2"));
    CHECK(has_line(text, "petrel_logins_total{result=\"bad_token\"} 1"));
    CHECK(has_line(text, "petrel_messages_accepted_total 1"));
    CHECK(has_line(text, "petrel_messages_refused_total 1"));
    CHECK(has_line(text, "petrel_messages_pushed_total 1"));
    CHECK(has_line(text, "petrel_messages_handled_total 1"));
    CHECK(has_line(text, "petrel_errors_sent_total{code=\"306\"} 1"));
    CHECK(has_line(text, "petrel_closes_total{code=\"4003\"} 1"));
    CHECK(has_line(text, "petrel_closes_total{code=\"1000\"} 1"));
    CHECK(has_line(text, "petrel_acks_received_total 1"));
    CHECK(has_line(text, "petrel_acks_sent_total 1"));
}

TEST_CASE("Metrics: a store that fails says why") {
    GatewayFigures figures;
    figures.store.error = "disk full";
    figures.store.commit_failures[static_cast<std::size_t>(StoreFault::kFull)] = 3;
    const std::string text = written(figures);
    CHECK(has_line(text, "petrel_store_up 0"));
    CHECK(has_line(text, "petrel_store_commit_failures_total{reason=\"full\"} 3"));
    CHECK(has_line(text, "petrel_store_commit_failures_total{reason=\"read_only\"} 0"));
    CHECK(has_line(written({}), "petrel_store_up 1"));
}

TEST_CASE("Session: an admin's kick-out is told, and ends it") {
    GatewayWorld world;
    FakeClient& bob = world.online({"bob"});
    FakeClient& plain = world.online_im_sdk("carol");
    FakeClient& mobile = world.online_mobile("dave");
    for (FakeClient* const client : {&bob, &plain, &mobile}) {
        client->session().kick("stolen phone");
        world.settle();
    }
    CHECK(bob.received() == "55 2, closed 4004");
    CHECK(plain.received() == "closed 4004");
    CHECK(mobile.received() == "54 2, closed 4004");
    CHECK(bob.close_reason() == "stolen phone");
    CHECK(bob.last<Kickout>().reason == "stolen phone");
    bob.session().kick("again");
    CHECK(world.counters().closes.of(4004) == 3);
}

TEST_CASE("Session: the backlog is what its client has not acked") {
    GatewayWorld world;
    FakeClient& alice = world.online({"alice"});
    for (Position seq = 1; seq <= 5; ++seq) alice.say({"m" + std::to_string(seq), seq});
    test::LoginAs as{"bob"};
    as.window = 2;
    FakeClient& bob = world.online(as);
    CHECK(bob.session().backlog() == 5);
    CHECK(bob.session().in_flight() == 2);
    bob.ack(2);
    CHECK(bob.session().backlog() == 3);
    bob.ack(4);
    bob.ack(5);
    CHECK(bob.session().backlog() == 0);
    CHECK(alice.session().backlog() == 0);
}

}  // namespace petrel
