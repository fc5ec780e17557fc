#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/gateway/login_policy.hpp"
#include "core/gateway/shard_message.hpp"
#include "core/gateway/trace.hpp"
#include "core/store/message_store.hpp"

namespace petrel {

// What a router needs done. Store requests come back later as Router::on_*; none of these calls
// back from inside.
class RouterHost {
public:
    // False: the store's queue is full or it has stopped.
    [[nodiscard]] virtual bool store_append(AppendRequest request) = 0;
    [[nodiscard]] virtual bool store_open(OpenRequest request) = 0;
    [[nodiscard]] virtual bool store_read(ReadRequest request) = 0;
    virtual void store_advance(CursorUpdate update) = 0;
    virtual void post(unsigned shard, ShardMessage message) = 0;  // In order, to another shard.
    virtual WallMillis wall_ms() const = 0;
    virtual TraceSink* trace() = 0;  // nullptr: nobody watches.

protected:
    ~RouterHost() = default;
};

// A session as its router sees it.
class RoutedSession {
public:
    virtual void on_login_verdict(const LoginVerdict& verdict) = 0;
    // Closes; takes and sends nothing any more once it returned.
    virtual void on_displaced(bool is_same_login, const std::string& device) = 0;
    virtual void on_append_result(const AppendResult& result) = 0;
    virtual void on_delivery(const Delivery& delivery) = 0;
    virtual void on_page(const ReadResult& page) = 0;
    virtual void on_direct(const Data& data) = 0;
    virtual void on_receipt(const Receipt& receipt) = 0;

protected:
    ~RoutedSession() = default;
};

// One a shard: finds the way between sessions, the store and the other shards, and decides about
// logins for the users whose home it is. I/O-free, thread-compatible.
class Router {
public:
    struct Options {
        unsigned shard = 0;
        unsigned shards = 1;
        SessionPolicy policy = SessionPolicy::kMulti;
        std::size_t logins_waiting_max = 16;  // A user, behind one under decision; then 503.
        std::int64_t busy_retry_ms = 1'000;   // Told with 503.
        // A user's conversations whose receipts are remembered; beyond, all are forgotten, and a
        // second device may make one come again.
        std::size_t conversations_max = 256;
        // Devices whose session has ended, with its connection; the longest known is forgotten. A
        // late login of an older connection would only make the device's next one look superseded;
        // how many end while such a packet is under way (seconds) is what counts.
        std::size_t ended_max = 4096;
    };

    Router(RouterHost& host, Options options);

    // ---- of sessions ----
    SessionId add(RoutedSession& session);  // The id it is known by until remove().
    // `user` once it had asked for a login: then its home is told.
    void remove(SessionId id, const Identity* user);
    void login(LoginAsk ask);
    [[nodiscard]] bool append(AppendRequest request) {
        return host_.store_append(std::move(request));
    }
    [[nodiscard]] bool read(ReadRequest request) { return host_.store_read(std::move(request)); }
    void advance(CursorUpdate update) { host_.store_advance(std::move(update)); }
    void send_direct(UserKey to, Data data);
    void handled(Handled handled);
    WallMillis wall_ms() const { return host_.wall_ms(); }
    TraceSink* trace() { return host_.trace(); }

    // ---- of the store: the parts whose ticket, or whose recipient's home, is this shard ----
    void on_append_results(const std::vector<AppendResult>& results);
    void on_deliveries(const std::vector<Delivery>& deliveries);
    void on_opened(OpenResult result);
    void on_read(const ReadResult& result);

    // ---- of other shards ----
    void on_message(ShardMessage message);

    unsigned home_of(const UserRef& user) const;
    std::size_t session_count() const noexcept { return sessions_.size(); }
    std::size_t user_count() const noexcept { return users_.size(); }
    bool is_consistent() const;

private:
    struct PendingLogin {
        std::uint64_t id = 0;
        LoginAsk ask;
        std::size_t displacing = 0;  // Losers whose Displaced has not come yet.
        bool is_cancelled = false;   // Its session ended meanwhile.
    };
    // By conversation: the receipts up to this cseq have gone out.
    using Receipts = std::unordered_map<std::string, std::uint64_t>;
    struct UserEntry {                             // Of a user whose home this is.
        std::shared_ptr<const Identity> identity;  // Who came first: the names of its key.
        std::vector<LiveSession> live;
        std::unique_ptr<PendingLogin> current;
        std::unique_ptr<std::vector<LoginAsk>> waiting;  // Behind the current one; never empty.
        std::unique_ptr<Receipts> delivered;             // Once one has gone out.
    };
    using Users = std::unordered_map<UserRef, UserEntry, UserKeyHash>;

    void send(unsigned shard, ShardMessage message);
    void deliver(SessionId session, const Delivery& delivery);
    void drain();
    void handle(LoginAsk& ask);
    void handle(LoginVerdict& verdict);
    void handle(Displace& displace);
    void handle(Displaced& displaced);
    void handle(SessionGone& gone);
    void handle(DeliverTo& message);
    void handle(DirectMessage& direct);
    void handle(Handled& handled);
    void handle(ReceiptFor& receipt);
    void handle(OpenResult& result);

    static std::size_t waiting_of(const UserEntry& entry);
    void begin_login(const UserKey& key, UserEntry& entry, LoginAsk ask);
    void open(UserEntry& entry);
    void finish_login(const UserKey& key, UserEntry& entry);
    void refuse(const LoginAsk& ask, int code, bool retry, std::string message);
    void erase_if_idle(const UserKey& key);
    void remember_ended(const UserKey& key, const LiveSession& session);
    bool is_outlived(const UserKey& key, const LoginAsk& ask) const;

    RouterHost& host_;
    Options options_;
    std::uint64_t next_session_ = 1;
    std::uint64_t next_login_ = 1;
    std::unordered_map<SessionId, RoutedSession*> sessions_;
    Users users_;
    std::unordered_map<std::uint64_t, UserKey> logins_;  // Under decision here, by id.
    // By user and device: the connection of the newest session that ended. In order of arrival.
    std::unordered_map<std::string, std::uint64_t> ended_;
    std::deque<std::string> ended_order_;
    std::deque<ShardMessage> local_;  // To this shard, in order.
    bool is_draining_ = false;
};

}  // namespace petrel
