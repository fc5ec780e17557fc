#include "tests/support/gateway_world.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ostream>

#include "core/store/memory_message_store.hpp"
#include "protocol/codec.hpp"

namespace petrel::test {
namespace {

constexpr WallMillis kWallAtStart = 1'700'000'000'000;

std::string describe_packet(const Decoded& decoded) {
    const std::string type = std::to_string(decoded.type);
    struct Visitor {
        const std::string& type;

        std::string operator()(const LoginResponse& reply) const {
            std::string text = type + ' ';
            if (reply.v1) {
                text += std::to_string(reply.v1->inbox.seq) + '/' +
                        std::to_string(reply.v1->inbox.last) + " accepted " +
                        std::to_string(reply.v1->accepted);
                if (!reply.v1->inbox.recovered) text += " break";
                return text;
            }
            text += std::to_string(reply.code);
            if (reply.first_login_time) text += " first " + std::to_string(*reply.first_login_time);
            if (reply.retry) text += *reply.retry ? " retry" : " final";
            if (reply.retry_after_ms) text += " after " + std::to_string(*reply.retry_after_ms);
            return text;
        }
        std::string operator()(const Data& data) const {
            std::string text = type + ' ' + (data.fp.empty() ? data.text : data.fp.to_string());
            if (data.seq != 0) text += '@' + std::to_string(data.seq);
            return text;
        }
        std::string operator()(const Ack& ack) const {
            if (!ack.h) return type + ' ' + ack.fp.to_string();
            std::string text = type + " h" + std::to_string(*ack.h);
            if (ack.gap) text += " gap";
            if (ack.rx) text += " rx" + std::to_string(*ack.rx);
            if (!ack.acc.empty()) text += " acc";
            for (const Acceptance& entry : ack.acc) {
                text += ' ' + std::to_string(entry.cseq) + '@' + std::to_string(entry.seq);
            }
            return text;
        }
        std::string operator()(const HeartbeatResponse& response) const {
            if (!response.positions) return type;
            const Positions& at = *response.positions;
            return type + " sent" + std::to_string(at.sent) + " rx" + std::to_string(at.rx) + " h" +
                   std::to_string(at.h);
        }
        std::string operator()(const ErrorPacket& error) const {
            std::string text = type + ' ' + std::to_string(error.code);
            if (!error.fp.empty() || error.seq) text += ' ' + error.fp.to_string();
            if (error.seq) text += '@' + std::to_string(*error.seq);
            if (error.retry_after_ms) text += " after " + std::to_string(*error.retry_after_ms);
            return text;
        }
        std::string operator()(const Kickout& kickout) const {
            return type + ' ' + std::to_string(kickout.code) +
                   (kickout.device.empty() ? "" : ' ' + kickout.device);
        }
        std::string operator()(const Receipt& receipt) const {
            return type + ' ' + receipt.conv + ' ' + std::to_string(receipt.delivered) + " by " +
                   receipt.user;
        }
        std::string operator()(const Echo& echo) const { return type + ' ' + echo.text; }
        std::string operator()(const Login&) const { return type; }
        std::string operator()(const Heartbeat&) const { return type; }
        std::string operator()(const Logout&) const { return type; }
        std::string operator()(const UnknownPacket&) const { return type + " unknown"; }
    };
    return std::visit(Visitor{type}, decoded.packet);
}

}  // namespace

// Numbers its fingerprints, so that a run repeats.
class GatewayWorld::Counting final : public FingerprintSource {
public:
    explicit Counting(std::uint8_t kind) : kind_(kind) {}
    Fingerprint next() override {
        std::array<std::uint8_t, 16> bytes{};
        bytes[0] = kind_;
        ++count_;
        for (std::size_t i = 0; i < 8; ++i) {
            bytes[15 - i] = static_cast<std::uint8_t>(count_ >> (8 * i));
        }
        return Fingerprint::from_uuid(bytes);
    }

private:
    std::uint8_t kind_;
    std::uint64_t count_ = 0;
};

class GatewayWorld::TestAuthenticator final : public Authenticator {
public:
    explicit TestAuthenticator(GatewayWorld& world) : world_(world) {}
    Verdict verify(const Credentials& who, WallMillis) override {
        world_.asked_about.append(who.user).append("/").append(who.device).append("/");
        world_.asked_about.append(who.device_class).append(" ");
        return world_.verdict;
    }

private:
    GatewayWorld& world_;
};

class GatewayWorld::Host final : public RouterHost {
public:
    Host(GatewayWorld& world, const Router::Options& options)
        : world_(world), router(*this, options) {}

    bool store_append(AppendRequest request) override { return enqueue(std::move(request)); }
    bool store_open(OpenRequest request) override { return enqueue(std::move(request)); }
    bool store_read(ReadRequest request) override { return enqueue(std::move(request)); }
    void store_advance(CursorUpdate update) override {
        world_.requests_.emplace_back(std::move(update));
    }
    void post(unsigned shard, ShardMessage message) override {
        world_.posts_.emplace_back(shard, std::move(message));
    }
    WallMillis wall_ms() const override { return world_.wall_ms(); }
    TraceSink* trace() override { return nullptr; }

private:
    bool enqueue(Request request) {
        if (world_.is_full_) return false;
        world_.requests_.push_back(std::move(request));
        return true;
    }

    GatewayWorld& world_;

public:
    Router router;
};

// ---- FakeClient ----

FakeClient::FakeClient(GatewayWorld& world, unsigned shard, std::uint64_t serial,
                       std::string_view subprotocol)
    : world_(world),
      subprotocol_(subprotocol == kSubprotocolV1 ? ProfileId::kPetrelV1 : ProfileId::kUndecided) {
    session_ = std::make_unique<Session>(*this, world.router(shard), world.options_.session,
                                         world.counters_, serial, subprotocol);
}

FakeClient::~FakeClient() {
    is_lost_ = true;
    session_.reset();
}

ProfileId FakeClient::profile() const {
    if (subprotocol_ == ProfileId::kPetrelV1) return subprotocol_;
    const ProfileId known = session_->identity().profile();
    return known == ProfileId::kMobileImSdk ? known : ProfileId::kImSdk;
}

void FakeClient::send(std::string_view text) {
    if (is_closed() || is_lost_) return;
    session_->on_text(text);
    world_.settle();
}

void FakeClient::say(const Message& message) { send(text_of(message, profile())); }

void FakeClient::login(const LoginAs& as) {
    LoginAs whole = as;
    if (as.stream.empty()) whole.stream = "stream-" + std::to_string(world_.next_stream_++);
    send(text_of(whole));
}

void FakeClient::login_im_sdk(const std::string& user) {
    send(R"({"bridge":false,"type":0,"dataContent":"{\"loginUserId\":\")" + user +
         R"(\",\"loginToken\":\"token\",\"app\":\"default\",\"extra\":null}","from":")" + user +
         R"(","to":"0","fp":null,"Qos":false,"typeu":-1,"retryCount":0,"sendTs":null})");
}

void FakeClient::login_mobile(const std::string& user, std::int64_t first_login_time) {
    send(R"({"bridge":false,"type":0,"dataContent":"{\"loginUserId\":\")" + user +
         R"(\",\"loginToken\":\"token\",\"firstLoginTime\":)" + std::to_string(first_login_time) +
         R"(}","from":")" + user + R"(","to":"0","QoS":false,"typeu":-1,"sm":-1})");
}

void FakeClient::ack(Position h) { send(R"({"type":4,"h":)" + std::to_string(h) + "}"); }

void FakeClient::gap(Position h, Position rx) {
    send(R"({"type":4,"h":)" + std::to_string(h) + R"(,"rx":)" + std::to_string(rx) +
         R"(,"gap":true})");
}

void FakeClient::ack(const std::string& name, const std::string& from, const std::string& to) {
    send(R"({"bridge":false,"type":4,"dataContent":")" + name + R"(","from":")" + from +
         R"(","to":")" + to + R"(","typeu":-1})");
}

void FakeClient::heartbeat() { send(R"({"type":1,"dataContent":"{}"})"); }

void FakeClient::heartbeat(Position sent, Position rx, Position h) {
    send(R"({"type":1,"dataContent":"{\"sent\":)" + std::to_string(sent) + R"(,\"rx\":)" +
         std::to_string(rx) + R"(,\"h\":)" + std::to_string(h) + R"(}"})");
}

void FakeClient::binary() {
    if (is_closed() || is_lost_) return;
    session_->on_binary();
    world_.settle();
}

void FakeClient::drop() {
    is_lost_ = true;
    session_->on_connection_closed(1006);
    world_.settle();
}

void FakeClient::read_bytes(std::size_t bytes) {
    while (!queued_.empty() && bytes > 0) {
        const std::size_t taken = std::min(bytes, queued_.front());
        queued_.front() -= taken;
        queued_bytes_ -= taken;
        bytes -= taken;
        if (queued_.front() == 0) queued_.pop_front();
    }
    if (!queued_.empty() || is_closed()) return;
    session_->on_drained();
    world_.settle();
}

void FakeClient::start_reading() {
    is_reading_ = true;
    read_bytes(queued_bytes_);
}

void FakeClient::send_text(std::string_view text) {
    CHECK_FALSE(is_closed());  // Nothing follows the close.
    CHECK_FALSE(is_lost_);
    texts_.emplace_back(text);
    if (is_reading_) return;
    queued_.push_back(text.size());
    queued_bytes_ += text.size();
}

void FakeClient::close(std::uint16_t code, std::string_view reason) {
    CHECK_FALSE(is_closed());
    close_.emplace(code, std::string(reason));
}

void FakeClient::want_flush(Session&) {
    if (is_flush_wanted_) return;
    is_flush_wanted_ = true;
    world_.to_flush_.push_back(this);
}

Duration FakeClient::take_login() { return world_.address_wait; }
Duration FakeClient::take_login(const UserKey&) { return world_.account_wait; }
TimerQueue& FakeClient::timers() { return world_.timers_; }
std::uint64_t FakeClient::random(std::uint64_t low, std::uint64_t) { return low; }
FingerprintSource& FakeClient::fingerprints() { return *world_.fingerprints_; }

Authenticator& FakeClient::authenticator() { return *world_.authenticator_; }

std::string& FakeClient::scratch() { return world_.scratch_; }

std::vector<Decoded> FakeClient::packets() const {
    std::vector<Decoded> all;
    for (const std::string& text : texts_) {
        Result<Decoded> decoded = decode(text, profile());
        REQUIRE_MESSAGE(static_cast<bool>(decoded), text);
        all.push_back(std::move(*decoded));
    }
    return all;
}

std::string FakeClient::received() {
    std::string told;
    const auto tell = [&told](const std::string& what) {
        if (!told.empty()) told += ", ";
        told += what;
    };
    for (; told_ < texts_.size(); ++told_) {
        const Result<Decoded> decoded = decode(texts_[told_], profile());
        REQUIRE_MESSAGE(static_cast<bool>(decoded), texts_[told_]);
        tell(describe_packet(*decoded));
    }
    if (is_closed() && !is_close_told_) {
        is_close_told_ = true;
        tell("closed " + std::to_string(close_code()));
    }
    return told;
}

std::string text_of(const Message& message, ProfileId profile) {
    Data data;
    data.from = message.from;
    data.to = message.to;
    if (!message.name.empty()) data.fp = fp(message.name);
    data.qos = message.qos;
    data.typeu = message.typeu;
    data.bridge = message.bridge;
    data.text = message.text.empty() ? message.name : message.text;
    data.seq = message.seq;
    data.prev = message.prev;
    data.h = message.h;
    std::string text;
    encode(data, profile, Side::kClient, text);
    return text;
}

std::string text_of(const LoginAs& as) {
    Login login;
    login.user = as.user;
    login.token = as.token;
    login.app = as.app;
    LoginV1 v1;
    v1.device = as.device;
    v1.device_class = as.device_class;
    v1.generation = as.generation;
    v1.inbox = as.inbox;
    v1.outbox.stream = as.stream;
    v1.outbox.first = as.first;
    v1.window = as.window;
    v1.window_bytes = as.window_bytes;
    login.v1 = std::move(v1);
    std::string text;
    encode(Packet(std::move(login)), ProfileId::kPetrelV1, Side::kClient, text);
    return text;
}

// ---- GatewayWorld ----

GatewayWorld::GatewayWorld(const Options& options)
    : options_(options),
      timers_(TimePoint{}),
      epochs_(std::make_unique<Counting>(0xee)),
      fingerprints_(std::make_unique<Counting>(0xff)),
      store_(make_memory_message_store(options.store, *epochs_)),
      authenticator_(std::make_unique<TestAuthenticator>(*this)) {
    for (unsigned shard = 0; shard < options_.shards; ++shard) {
        Router::Options router_options;
        router_options.shard = shard;
        router_options.shards = options_.shards;
        router_options.policy = options_.policy;
        hosts_.push_back(std::make_unique<Host>(*this, router_options));
    }
}

GatewayWorld::~GatewayWorld() { clients_.clear(); }

FakeClient& GatewayWorld::connect(std::string_view subprotocol, unsigned shard) {
    clients_.push_back(std::make_unique<FakeClient>(*this, shard, next_connection_++, subprotocol));
    return *clients_.back();
}

FakeClient& GatewayWorld::online(const LoginAs& as, unsigned shard) {
    FakeClient& client = connect(shard);
    client.login(as);
    REQUIRE(client.session().state() == Session::State::kOnline);
    client.received();
    return client;
}

FakeClient& GatewayWorld::online_im_sdk(const std::string& user, unsigned shard) {
    FakeClient& client = connect_plain(shard);
    client.login_im_sdk(user);
    REQUIRE(client.session().state() == Session::State::kOnline);
    client.received();
    return client;
}

FakeClient& GatewayWorld::online_mobile(const std::string& user, unsigned shard) {
    FakeClient& client = connect_plain(shard);
    client.login_mobile(user);
    REQUIRE(client.session().state() == Session::State::kOnline);
    client.received();
    return client;
}

Router& GatewayWorld::router(unsigned shard) { return hosts_[shard]->router; }

std::int64_t GatewayWorld::now_ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(timers_.now().time_since_epoch())
        .count();
}

WallMillis GatewayWorld::wall_ms() const { return kWallAtStart + now_ms(); }

void GatewayWorld::advance(Duration by) {
    const TimePoint end = timers_.now() + by;
    while (timers_.next_deadline() && *timers_.next_deadline() <= end) {
        timers_.advance_to(*timers_.next_deadline());
        settle();
    }
    timers_.advance_to(end);
    settle();
}

void GatewayWorld::pause(Duration by) {
    timers_.advance_to(timers_.now() + by);
    settle();
}

void GatewayWorld::drain() {
    for (auto& client : clients_) client->session().drain();
    settle();
}

void GatewayWorld::settle() {
    if (is_settling_) return;
    is_settling_ = true;
    for (;;) {
        flush_all();
        if (!is_holding_posts_ && deliver_one_post()) continue;
        if (!is_holding_ && !requests_.empty()) {
            run_store();
            continue;
        }
        if (to_flush_.empty()) break;
    }
    is_settling_ = false;
    check_consistency();
}

void GatewayWorld::in_one_turn(const std::function<void()>& inputs) {
    is_settling_ = true;
    inputs();
    is_settling_ = false;
    settle();
}

void GatewayWorld::flush_all() {
    while (!to_flush_.empty()) {
        const std::vector<FakeClient*> batch = std::exchange(to_flush_, {});
        for (FakeClient* const client : batch) {
            client->is_flush_wanted_ = false;
            client->session_->flush();
        }
    }
}

void GatewayWorld::check_consistency() const {
    for (const auto& host : hosts_) CHECK(host->router.is_consistent());
    for (const auto& client : clients_) CHECK(client->session_->is_consistent());
}

void GatewayWorld::release_posts() {
    is_holding_posts_ = false;
    settle();
}

bool GatewayWorld::deliver_one_post() {
    if (posts_.empty()) return false;
    auto [shard, message] = std::move(posts_.front());
    posts_.pop_front();
    hosts_[shard]->router.on_message(std::move(message));
    return true;
}

void GatewayWorld::release() {
    is_holding_ = false;
    settle();
}

void GatewayWorld::commit() {
    is_holding_ = false;
    run_store();
    is_holding_ = true;
    settle();
}

void GatewayWorld::trim() {
    bool has_more = true;
    while (has_more) {
        REQUIRE_FALSE(store_->begin(now_ms(), wall_ms()));
        REQUIRE_FALSE(store_->trim(1000, has_more));
        REQUIRE_FALSE(store_->commit());
    }
}

void GatewayWorld::run_store() {
    std::deque<Request> batch = std::exchange(requests_, {});
    for (Request& request : batch) do_request(request);
}

void GatewayWorld::do_request(Request& request) {
    const auto in_transaction = [this](auto work) {
        REQUIRE_FALSE(store_->begin(now_ms(), wall_ms()));
        REQUIRE_FALSE(work());
        REQUIRE_FALSE(store_->commit());
    };
    if (auto* append = std::get_if<AppendRequest>(&request)) {
        appends.push_back(*append);
        AppendResult result;
        std::vector<Delivery> deliveries;
        if (is_failing_ || next_fate_) {
            result.ticket = append->ticket;
            result.seq = append->seq;
            result.fp = append->message->fp;
            result.fate = next_fate_.value_or(AppendResult::Fate::kFailed);
            next_fate_.reset();
        } else {
            in_transaction([&] { return store_->append(*append, result, deliveries); });
        }
        const unsigned shard = shard_of(result.ticket);
        hosts_[shard]->router.on_append_results({result});
        for (Delivery& delivery : deliveries) {
            Router& home =
                hosts_[router().home_of({delivery.message->app, delivery.message->to})]->router;
            home.on_deliveries({std::move(delivery)});
        }
    } else if (auto* open = std::get_if<OpenRequest>(&request)) {
        opens.push_back(*open);
        OpenResult result;
        if (is_failing_) {
            result.ticket = open->ticket;
            result.error = Errc::kLoginBusy;
        } else {
            in_transaction([&] { return store_->open_session(*open, result); });
        }
        hosts_[shard_of(result.ticket)]->router.on_opened(std::move(result));
    } else if (auto* read = std::get_if<ReadRequest>(&request)) {
        reads.push_back(*read);
        ReadResult result;
        if (is_failing_) {
            result.ticket = read->ticket;
            result.error = Errc::kBusy;
        } else {
            in_transaction([&] { return store_->read(*read, result); });
        }
        hosts_[shard_of(result.ticket)]->router.on_read(result);
    } else {
        const CursorUpdate& update = std::get<CursorUpdate>(request);
        cursor_updates.push_back(update);
        in_transaction([&] { return store_->advance(update); });
    }
}

}  // namespace petrel::test
