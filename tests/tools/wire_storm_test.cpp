#include "tools/petrel/wire_storm.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tests/tools/virtual_loop.hpp"
#include "transport/asio_byte_stream.hpp"
#include "transport/asio_event_loop.hpp"

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;
using test::VirtualLoop;

// A stream in memory. The test is its far end: it gives it bytes and sees what it was told.
class FakeStream final : public ByteStream {
public:
    struct Far {  // Outlives the stream.
        Handler* handler = nullptr;
        FakeStream* stream = nullptr;
        std::string got;
        std::size_t writes = 0;
        bool is_finished = false;
        bool is_reset = false;
        bool is_paused = false;
        bool is_stuck = false;  // Takes nothing more: its kernel's buffer is full.
    };

    FakeStream(VirtualLoop& loop, std::shared_ptr<Far> far) : loop_(loop), far_(std::move(far)) {
        far_->stream = this;
    }
    ~FakeStream() override {
        far_->handler = nullptr;
        far_->stream = nullptr;
    }
    void set_handler(Handler& handler) override { far_->handler = &handler; }
    void write(std::string_view bytes) override {
        CHECK_FALSE(is_writing_);
        is_writing_ = true;
        far_->got += bytes;
        ++far_->writes;
        if (!far_->is_stuck) {
            loop_.post([far = far_] {
                if (far->stream) far->stream->end_write();
            });
        }
    }
    void end_write() {
        is_writing_ = false;
        far_->handler->on_sent();
    }
    bool is_writing() const override { return is_writing_; }
    void pause_reading() override { far_->is_paused = true; }
    void resume_reading() override { far_->is_paused = false; }
    void finish() override { far_->is_finished = true; }
    void reset() override {
        far_->is_reset = true;
        far_->handler = nullptr;
    }

private:
    VirtualLoop& loop_;
    std::shared_ptr<Far> far_;
    bool is_writing_ = false;
};
using Far = std::shared_ptr<FakeStream::Far>;

class FakeNetwork final : public ByteNetwork {
public:
    explicit FakeNetwork(VirtualLoop& loop) : loop_(loop) {}
    Result<std::uint16_t> listen(const std::string&, std::uint16_t, Acceptor& acceptor) override {
        acceptor_ = &acceptor;
        return std::uint16_t{1};
    }
    void stop_listening() override { acceptor_ = nullptr; }
    std::unique_ptr<ByteStream> connect(const std::string&, std::uint16_t,
                                        ByteStream::Handler& handler) override {
        auto far = std::make_shared<FakeStream::Far>();
        auto stream = std::make_unique<FakeStream>(loop_, far);
        stream->set_handler(handler);
        targets.push_back(far);
        return stream;
    }
    Far accept() {
        auto far = std::make_shared<FakeStream::Far>();
        acceptor_->on_accept(std::make_unique<FakeStream>(loop_, far), "1.2.3.4:5");
        return far;
    }

    std::vector<Far> targets;
    bool is_listening() const { return acceptor_ != nullptr; }

private:
    VirtualLoop& loop_;
    Acceptor* acceptor_ = nullptr;
};

class WireWorld {
public:
    explicit WireWorld(const std::string& script, std::uint64_t seed = 1,
                       std::size_t held_bytes_max = 1024) {
        WireStorm::Options options;
        std::string why;
        const auto steps = parse_wire_script(script, why);
        REQUIRE_MESSAGE(steps, why);
        options.steps = *steps;
        options.seed = seed;
        options.held_bytes_max = held_bytes_max;
        options.connections_max = 3;
        storm = std::make_unique<WireStorm>(
            loop, network, options, [this](const WireStorm::Event& event) {
                log.push_back(std::string(event.what) + " " + std::to_string(event.connection));
            });
        REQUIRE(storm->start());
    }

    // The two far ends of a new connection.
    std::pair<Far, Far> connect() {
        Far client = network.accept();
        Far target = network.targets.back();
        if (target->handler) target->handler->on_open();
        loop.settle();
        return {client, target};
    }
    void say(const Far& far, std::string_view bytes) {
        REQUIRE(far->handler != nullptr);
        far->handler->on_bytes(bytes);
        loop.settle();
    }
    void finish(const Far& far) {
        REQUIRE(far->handler != nullptr);
        far->handler->on_finished();
        loop.settle();
    }
    void break_off(const Far& far) {
        REQUIRE(far->handler != nullptr);
        far->handler->on_broken();
        loop.settle();
    }

    VirtualLoop loop;
    FakeNetwork network{loop};
    std::vector<std::string> log;
    std::unique_ptr<WireStorm> storm;
};

TEST_CASE("WireStorm: bytes pass both ways, and what came before the target opened too") {
    WireWorld world("");
    const Far client = world.network.accept();
    const Far target = world.network.targets.at(0);
    world.say(client, "early");
    CHECK(target->got.empty());
    target->handler->on_open();
    world.loop.settle();
    world.say(target, "back");
    CHECK(target->got == "early");
    CHECK(client->got == "back");
    CHECK(world.storm->stats().bytes_to_target == 5);
    CHECK(world.storm->stats().bytes_to_client == 4);
}

TEST_CASE("WireStorm: a target that cannot be reached resets the client") {
    WireWorld world("");
    const Far client = world.network.accept();
    world.break_off(world.network.targets.at(0));
    CHECK(client->is_reset);
    CHECK(world.storm->stats().unreachable == 1);
    CHECK(world.storm->connection_count() == 0);
}

TEST_CASE("WireStorm: an end passes behind the bytes, and both ends end the connection") {
    WireWorld world("every 1h stall c>s 1s");
    const auto [client, target] = world.connect();
    world.say(client, "last");
    world.finish(client);
    CHECK(target->got == "last");
    CHECK(target->is_finished);
    world.say(target, "answer");
    CHECK(client->got == "answer");
    world.finish(target);
    CHECK(world.storm->connection_count() == 0);
    CHECK_FALSE(client->is_reset);
}

TEST_CASE("WireStorm: a reset passes as a reset") {
    WireWorld world("");
    const auto [client, target] = world.connect();
    world.break_off(client);
    CHECK(target->is_reset);
    CHECK(world.storm->connection_count() == 0);
}

TEST_CASE("WireStorm: at its time a cut resets both ends of all connections, and later ones live") {
    WireWorld world("at 5s cut");
    const auto [first, first_target] = world.connect();
    const auto [second, second_target] = world.connect();
    world.loop.advance(5s - 1ns);
    CHECK_FALSE(first->is_reset);
    world.loop.advance(1ns);
    CHECK(first->is_reset);
    CHECK(first_target->is_reset);
    CHECK(second->is_reset);
    CHECK(second_target->is_reset);
    CHECK(world.storm->stats().resets == 2);
    const auto [third, third_target] = world.connect();
    world.loop.advance(1h);
    CHECK_FALSE(third->is_reset);
}

TEST_CASE("WireStorm: a stall holds its direction only, then lets all go") {
    WireWorld world("at 0s stall c>s 3s");
    const auto [client, target] = world.connect();
    world.say(client, "ab");
    world.say(target, "c");
    CHECK(target->got.empty());
    CHECK(client->got == "c");
    world.loop.advance(3s);
    CHECK(target->got == "ab");
}

TEST_CASE("WireStorm: a step that lasts meets the connections that come meanwhile, no others") {
    WireWorld world("at 1s stall c<>s 2s\nat 1s slice c>s 1");
    world.loop.advance(2s);
    const auto [during, during_target] = world.connect();
    world.say(during, "abc");
    CHECK(during_target->got.empty());
    world.loop.advance(1s);
    CHECK(during_target->got == "abc");
    CHECK(during_target->writes == 3);  // The slices last for good.
    const auto [after, after_target] = world.connect();
    world.say(after, "abc");
    CHECK(after_target->got == "abc");
    CHECK(after_target->writes == 3);
}

TEST_CASE("WireStorm: while it refuses, new connections are reset and old ones live") {
    WireWorld world("at 1s refuse 2s");
    const auto [old, old_target] = world.connect();
    world.loop.advance(2s);
    const Far refused = world.network.accept();
    CHECK(refused->is_reset);
    world.loop.advance(1s);
    const auto [later, later_target] = world.connect();
    CHECK_FALSE(later->is_reset);
    CHECK_FALSE(old->is_reset);
    CHECK(world.storm->stats().refused == 1);
}

TEST_CASE("WireStorm: of two times of refusing the later one counts") {
    WireWorld world("at 1s refuse 1h\nat 2s refuse 1s");
    world.loop.advance(2s);
    CHECK(world.network.accept()->is_reset);
    world.loop.advance(1s);
    CHECK_FALSE(world.network.accept()->is_reset);
}

TEST_CASE("WireStorm: struck again, its times count from then, and repeated steps stay") {
    WireWorld world("at 1s cut");
    world.connect();
    world.loop.advance(5s);
    world.connect();
    world.log.clear();
    std::string why;
    const auto steps = parse_wire_script("at 1s cut\nat 0s refuse 10s\nevery 1s stall c>s 1s", why);
    REQUIRE(world.storm->strike(*steps));
    world.network.accept();
    world.loop.advance(999ms);
    CHECK(world.log == std::vector<std::string>{"refuse 2", "refused 0"});
    world.loop.advance(1ms);
    CHECK(world.log == std::vector<std::string>{"refuse 2", "refused 0", "cut 2", "closed 2"});
    world.loop.advance(9s);
    world.connect();
    CHECK(world.log.back() == "opened 3");
}

TEST_CASE("WireStorm: what has struck and is over is forgotten, one strike after the other") {
    WireWorld world("");
    std::string why;
    const auto steps = parse_wire_script("at 0s refuse 1s", why);
    for (std::size_t round = 1; round <= 3; ++round) {
        REQUIRE(world.storm->strike(*steps));
        world.network.accept();
        CHECK(world.storm->stats().refused == round);
        world.loop.advance(2s);
        world.network.accept();
        CHECK(world.storm->stats().refused == round);
        CHECK(world.storm->connection_count() == round);
    }
}

TEST_CASE("WireStorm: of what has struck only what is under way counts against its limit") {
    WireWorld world("");
    const std::vector<WireStep> steps(kWireStepsMax, [] {
        WireStep step;
        step.when = 1s;
        return step;
    }());
    REQUIRE(world.storm->strike(steps));
    CHECK_FALSE(world.storm->strike({steps.front()}));
    world.loop.advance(1s);
    CHECK(world.storm->strike(steps));
}

TEST_CASE("WireStorm: half-open, a direction vanishes and the other one lives") {
    WireWorld world("at 1s swallow c>s");
    const auto [client, target] = world.connect();
    world.loop.advance(1s);
    world.say(client, "gone");
    world.say(target, "here");
    CHECK(target->got.empty());
    CHECK(client->got == "here");
    CHECK(world.storm->stats().swallows == 1);
}

TEST_CASE("WireStorm: half-open, the target never hears of the client's end") {
    for (const bool is_reset : {false, true}) {
        CAPTURE(is_reset);
        WireWorld world("at 1s swallow c>s");
        const auto [client, target] = world.connect();
        world.loop.advance(1s);
        if (is_reset) {
            world.break_off(client);
        } else {
            world.finish(client);
        }
        CHECK_FALSE(target->is_finished);
        CHECK_FALSE(target->is_reset);
        CHECK(world.storm->connection_count() == 1);
        world.say(target, "anyone?");  // It may talk for long.
        world.finish(target);          // Its patience is over.
        CHECK(world.storm->connection_count() == 0);
    }
}

TEST_CASE("WireStorm: half-open, a dead client's connection does not stop reading the target") {
    WireWorld world("at 1s swallow c>s", 1, 100);
    const auto [client, target] = world.connect();
    client->is_stuck = true;
    world.say(target, "a");
    world.say(target, std::string(100, 'x'));
    CHECK(target->is_paused);
    world.loop.advance(1s);
    world.break_off(client);
    CHECK_FALSE(target->is_paused);
}

TEST_CASE("WireStorm: what one side does not take is not read from the other") {
    WireWorld world("", 1, 1000);
    const auto [client, target] = world.connect();
    target->is_stuck = true;
    world.say(client, "a");  // Under way.
    world.say(client, std::string(999, 'x'));
    CHECK_FALSE(client->is_paused);
    world.say(client, "y");
    CHECK(client->is_paused);
    target->is_stuck = false;
    target->stream->end_write();
    world.loop.settle();
    CHECK_FALSE(client->is_paused);
    CHECK(target->got == "a" + std::string(999, 'x') + "y");
}

TEST_CASE("WireStorm: a cut in a frame comes when half of it has left") {
    WireWorld world("at 1s cut-in-frame s>c");
    const auto [client, target] = world.connect();
    world.say(target, "HTTP/1.1 101 x\r\n\r\n");
    world.loop.advance(1s);
    CHECK_FALSE(client->is_reset);
    world.say(target,
              "\x81\x04"
              "abcd");
    CHECK(client->got ==
          "HTTP/1.1 101 x\r\n\r\n\x81\x04"
          "ab");
    CHECK(client->is_reset);
    CHECK(target->is_reset);
    CHECK(world.storm->stats().resets == 1);
    CHECK(world.log == std::vector<std::string>{"opened 1", "cut-in-frame 1", "closed 1"});
}

TEST_CASE("WireStorm: a repeated step comes after half to 1.5 times its interval") {
    WireWorld world("every 10s cut");
    const auto [client, target] = world.connect();
    world.loop.advance(5s - 1ns);
    CHECK_FALSE(client->is_reset);
    world.loop.advance(10s + 2ns);
    CHECK(client->is_reset);
}

// When the first `count` connections are cut.
std::vector<std::int64_t> cut_times(const std::string& script, std::uint64_t seed, int count) {
    WireWorld world(script, seed);
    std::vector<std::int64_t> times;
    for (int i = 0; i < count; ++i) {
        const auto [client, target] = world.connect();
        const auto begin = world.loop.now();
        while (!client->is_reset) world.loop.advance(1ms);
        times.push_back((world.loop.now() - begin) / 1ms);
    }
    return times;
}

TEST_CASE("WireStorm: the same seed cuts the same connection at the same age, another one not") {
    const auto times = cut_times("every 10s cut", 7, 5);
    CHECK(cut_times("every 10s cut", 7, 5) == times);
    CHECK(cut_times("every 10s cut", 8, 5) != times);
    CHECK(times[0] != times[1]);
    // Another step changes nothing about it.
    CHECK(cut_times("every 10s cut\nevery 1s stall c>s 1ms", 7, 5) == times);
}

TEST_CASE("WireStorm: at its limit of connections one more is reset") {
    WireWorld world("");
    for (int i = 0; i < 3; ++i) world.connect();
    CHECK(world.network.accept()->is_reset);
    CHECK(world.storm->connection_count() == 3);
}

TEST_CASE("WireStorm: stopped, it resets all and takes nobody, and may be stopped again") {
    WireWorld world("at 1s cut\nevery 1s stall c>s 1s");
    const auto [client, target] = world.connect();
    world.storm->stop();
    world.storm->stop();
    CHECK(client->is_reset);
    CHECK(target->is_reset);
    CHECK_FALSE(world.network.is_listening());
    world.storm.reset();
    world.loop.advance(1h);
}

// A relay over TCP between a client that says something in one piece and a target that answers.
class TcpEnd final : public ByteStream::Handler, public ByteNetwork::Acceptor {
public:
    explicit TcpEnd(AsioEventLoop& event_loop) : loop(event_loop) {}
    void on_accept(std::unique_ptr<ByteStream> accepted, const std::string&) override {
        stream = std::move(accepted);
        stream->set_handler(*this);
    }
    void on_open() override { stream->write(to_say); }
    void on_bytes(std::string_view bytes) override {
        got += bytes;
        ++reads;
        if (got.size() == wanted) on_complete();
    }
    void on_sent() override {}
    void on_finished() override {
        is_finished = true;
        loop.stop();
    }
    void on_broken() override {
        is_broken = true;
        loop.stop();
    }

    AsioEventLoop& loop;
    std::unique_ptr<ByteStream> stream;
    std::string to_say;
    std::size_t wanted = 0;
    std::function<void()> on_complete;
    std::string got;
    std::size_t reads = 0;
    bool is_finished = false;
    bool is_broken = false;
};

TEST_CASE("WireStorm: over real sockets bytes pass sliced, an end passes, a cut is a reset") {
    for (const bool is_cut : {false, true}) {
        CAPTURE(is_cut);
        AsioEventLoop loop;
        AsioByteNetwork target_network(loop);
        AsioByteNetwork storm_network(loop);
        AsioByteNetwork client_network(loop);
        TcpEnd target(loop);
        const auto target_port = target_network.listen("127.0.0.1", 0, target);
        REQUIRE(target_port);
        WireStorm::Options options;
        options.target_port = *target_port;
        std::string why;
        options.steps = *parse_wire_script("at 0s slice c>s 7", why);
        if (is_cut) options.steps.push_back(*parse_wire_step("every 1ms cut-in-frame s>c", why));
        WireStorm storm(loop, storm_network, options);
        const auto port = storm.start();
        REQUIRE(port);
        TcpEnd client(loop);
        client.to_say = std::string(100'000, 'x');
        target.wanted = client.to_say.size();
        target.on_complete = [&] {
            // Cut, only half of it comes.
            target.stream->write("HTTP/1.1 101 x\r\n\r\n\x81\x7d" + std::string(125, 'y'));
            target.stream->finish();
        };
        client.stream = client_network.connect("127.0.0.1", *port, client);
        loop.run();
        CHECK(target.got == client.to_say);
        CHECK(client.is_broken == is_cut);
        CHECK(client.is_finished == !is_cut);
        if (!is_cut) CHECK(client.got.size() == 18 + 2 + 125);
        if (is_cut) CHECK(client.got.size() <= 18 + 2 + 63);  // RST overtakes what was not read.
    }
}

TEST_CASE("AsioByteNetwork: a port that is taken is an error") {
    AsioEventLoop loop;
    AsioByteNetwork first(loop);
    AsioByteNetwork second(loop);
    TcpEnd end(loop);
    const auto port = first.listen("127.0.0.1", 0, end);
    REQUIRE(port);
    CHECK_FALSE(second.listen("127.0.0.1", *port, end));
}

TEST_CASE("AsioByteNetwork: nobody there breaks the stream") {
    AsioEventLoop loop;
    std::uint16_t free_port = 0;
    {
        AsioByteNetwork closed(loop);
        TcpEnd nobody(loop);
        free_port = *closed.listen("127.0.0.1", 0, nobody);
    }
    AsioByteNetwork network(loop);
    TcpEnd client(loop);
    client.stream = network.connect("127.0.0.1", free_port, client);
    loop.run();
    CHECK(client.is_broken);
}

}  // namespace
}  // namespace petrel::tools
