#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/gateway/router.hpp"
#include "core/gateway/session.hpp"
#include "core/store/message_store.hpp"

namespace petrel::test {

class GatewayWorld;

inline Fingerprint fp(std::string_view text) { return Fingerprint::parse(text).value(); }

// A message whose fingerprint and text are `name`; `seq` 0: no position.
struct Message {
    std::string name;
    Position seq = 0;
    std::string to = "bob";
    std::optional<Position> prev = std::nullopt;
    std::string text = {};  // "": the name.
    std::string from = {};
    int typeu = 0;
    bool qos = true;
    bool bridge = false;
    std::optional<Position> h = std::nullopt;
};

inline Message no_qos(std::string name, std::string to = "bob") {
    Message message;
    message.name = std::move(name);
    message.to = std::move(to);
    message.qos = false;
    return message;
}

struct LoginAs {
    std::string user;
    std::string device = "phone";
    std::string device_class = "mobile";
    std::uint64_t generation = 0;
    std::optional<InboxCursor> inbox = std::nullopt;
    std::string stream = {};  // "": a new one.
    Position first = 1;
    std::uint32_t window = 64;
    std::uint32_t window_bytes = 1 << 20;
    std::string token = "token";
    std::optional<std::string> app = std::nullopt;
};

// A client's end of a fake connection with a real Session at the other. What the gateway sent since
// the last received() is told as text, packets and the close separated by ", ":
//
//   50 0/3 accepted 2        a v1 login reply: inbox resumes after 0 of 3; "break" when not
//   recovered 50 409 retry after 1000  a refusal; plain: "50 0", "50 0 first 1700000000000" 2 a@1
//   2 a              a message by its fingerprint, v1 with its position 54 h2 gap rx1 acc 7@2    a
//   v1 ack: [cseq 7, seq 2]; plain: "54 a", "4 a" 51 sent3 rx2 h1   52 303 a@3 after 1000   53 text
//   55 1 laptop   54 1 (kick-out) 56 u:alice:bob 2 by bob  closed 4004
class FakeClient final : public SessionHost {
public:
    FakeClient(GatewayWorld& world, unsigned shard, std::uint64_t serial,
               std::string_view subprotocol);
    ~FakeClient();

    // ---- client to gateway ----
    void send(std::string_view text);
    void say(const Message& message);
    void login(const LoginAs& as);
    void login_im_sdk(const std::string& user);
    void login_mobile(const std::string& user, std::int64_t first_login_time = 0);
    void ack(Position h);
    void gap(Position h, Position rx);
    void ack(const std::string& name, const std::string& from, const std::string& to);  // Plain.
    void heartbeat();                                                                   // "{}"
    void heartbeat(Position sent, Position rx, Position h);
    void binary();
    void drop();  // The connection is lost.
    void stop_reading() { is_reading_ = false; }
    void read_bytes(std::size_t bytes);  // The kernel takes some of what is queued.
    void start_reading();                // And takes all.

    // ---- gateway to client ----
    std::string received();
    const std::vector<std::string>& texts() const { return texts_; }  // All ever sent.
    std::vector<Decoded> packets() const;                             // The same, decoded.
    std::string last_text() const { return texts_.empty() ? "" : texts_.back(); }
    template <class T>
    T last() const {
        const std::vector<Decoded> all = packets();
        for (auto it = all.rbegin(); it != all.rend(); ++it) {
            if (const T* found = std::get_if<T>(&it->packet)) return *found;
        }
        return {};
    }
    bool is_login_told() const { return is_login_told_; }  // To the connection's host.
    bool is_closed() const { return close_.has_value(); }
    std::uint16_t close_code() const { return close_ ? close_->first : 0; }
    std::string close_reason() const { return close_ ? close_->second : ""; }
    Session& session() { return *session_; }
    std::size_t queued_bytes() const override { return queued_bytes_; }
    std::size_t queued_packets() const override { return queued_.size(); }

private:
    friend class GatewayWorld;

    void send_text(std::string_view text) override;
    void close(std::uint16_t code, std::string_view reason) override;
    void want_flush(Session& session) override;
    TimerQueue& timers() override;
    std::uint64_t random(std::uint64_t low, std::uint64_t high) override;
    FingerprintSource& fingerprints() override;
    Authenticator& authenticator() override;
    std::string& scratch() override;
    void log(LogLevel, std::string_view) override {}
    Duration take_login() override;
    Duration take_login(const UserKey& account) override;
    void on_login() override { is_login_told_ = true; }
    ProfileId profile() const;

    GatewayWorld& world_;
    ProfileId subprotocol_;
    std::unique_ptr<Session> session_;
    std::vector<std::string> texts_;
    std::size_t told_ = 0;  // Of texts_.
    bool is_close_told_ = false;
    bool is_login_told_ = false;
    bool is_lost_ = false;
    bool is_flush_wanted_ = false;
    bool is_reading_ = true;
    std::deque<std::size_t> queued_;
    std::size_t queued_bytes_ = 0;
    std::optional<std::pair<std::uint16_t, std::string>> close_;
};

// Routers and Sessions in virtual time over a real memory store whose commits the test holds back,
// fails or lets happen. Without that everything settles before an input returns.
class GatewayWorld {
public:
    struct Options {
        unsigned shards = 1;
        SessionPolicy policy = SessionPolicy::kMulti;
        SessionOptions session;
        StoreOptions store;
    };

    GatewayWorld() : GatewayWorld(Options{}) {}
    explicit GatewayWorld(const Options& options);
    ~GatewayWorld();

    FakeClient& connect(unsigned shard = 0) { return connect(kSubprotocolV1, shard); }
    FakeClient& connect(std::string_view subprotocol, unsigned shard = 0);
    FakeClient& connect_plain(unsigned shard = 0) { return connect("", shard); }
    // Logged in, the reply read.
    FakeClient& online(const LoginAs& as, unsigned shard = 0);
    FakeClient& online_im_sdk(const std::string& user, unsigned shard = 0);
    FakeClient& online_mobile(const std::string& user, unsigned shard = 0);

    void advance(Duration by);
    void pause(Duration by);  // The process sleeps: its timers come late.
    void settle();
    // Everything in `inputs` happens before the turn ends; commit() in it, too.
    void in_one_turn(const std::function<void()>& inputs);
    void drain();  // Every session.

    // ---- the store ----
    void hold() { is_holding_ = true; }  // What is asked of it waits.
    void release();                      // Everything that waits, and what comes from now on.
    void commit();                       // Everything that waits, then hold on.
    std::size_t waiting() const { return requests_.size(); }
    void set_failing(bool is_failing) { is_failing_ = is_failing; }     // Commits fail.
    void set_full(bool is_full) { is_full_ = is_full; }                 // Takes nothing more.
    void set_next_fate(AppendResult::Fate fate) { next_fate_ = fate; }  // Of one append.
    void trim();
    std::vector<CursorUpdate> cursor_updates;
    std::vector<OpenRequest> opens;
    std::vector<AppendRequest> appends;
    std::vector<ReadRequest> reads;

    Router& router(unsigned shard = 0);
    SessionCounters& counters() { return counters_; }
    WallMillis wall_ms() const;
    // Posts between shards wait while held; one at a time can be let through.
    void hold_posts() { is_holding_posts_ = true; }
    void release_posts();
    bool deliver_one_post();

    Authenticator::Verdict verdict;  // Of every login from now on.
    std::string asked_about;         // "user/device/class " of each.
    Duration address_wait{0};        // Of every login: its rate says so.
    Duration account_wait{0};

private:
    friend class FakeClient;
    class Host;
    class Counting;
    class TestAuthenticator;
    using Request = std::variant<AppendRequest, OpenRequest, ReadRequest, CursorUpdate>;

    void run_store();
    void do_request(Request& request);
    void flush_all();
    void check_consistency() const;
    std::int64_t now_ms() const;

    Options options_;
    TimerQueue timers_;
    SessionCounters counters_;
    std::unique_ptr<FingerprintSource> epochs_;
    std::unique_ptr<FingerprintSource> fingerprints_;
    std::string scratch_;  // The sessions'.
    std::unique_ptr<MessageStore> store_;
    std::unique_ptr<Authenticator> authenticator_;
    std::vector<std::unique_ptr<Host>> hosts_;
    std::vector<std::unique_ptr<FakeClient>> clients_;
    std::vector<FakeClient*> to_flush_;
    std::deque<std::pair<unsigned, ShardMessage>> posts_;
    std::deque<Request> requests_;
    std::uint64_t next_connection_ = 1;
    std::uint64_t next_stream_ = 1;
    bool is_holding_ = false;
    bool is_holding_posts_ = false;
    bool is_failing_ = false;
    bool is_full_ = false;
    bool is_settling_ = false;
    std::optional<AppendResult::Fate> next_fate_;
};

// {"type":...} of a message as a petrel.v1 client writes it, for what Message cannot say.
std::string text_of(const Message& message, ProfileId profile = ProfileId::kPetrelV1);
// A petrel.v1 login; it needs a stream.
std::string text_of(const LoginAs& as);

}  // namespace petrel::test
