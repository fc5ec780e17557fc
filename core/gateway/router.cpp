#include "core/gateway/router.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace petrel {

namespace {

// Unambiguous whatever the names hold.
std::string device_key(const UserRef& user, std::string_view device) {
    std::string key = std::to_string(user.app.size()) + ' ' + std::to_string(user.user.size());
    return key.append(" ").append(user.app).append(user.user).append(device);
}

}  // namespace

std::size_t Router::waiting_of(const UserEntry& entry) {
    return entry.waiting ? entry.waiting->size() : 0;
}

Router::Router(RouterHost& host, Options options) : host_(host), options_(options) {}

unsigned Router::home_of(const UserRef& user) const {
    if (options_.shards <= 1) return 0;
    // FNV-1a: the same on every shard, unlike std::hash by contract.
    std::uint64_t hash = 14'695'981'039'346'656'037u;
    for (const std::string_view part : {user.app, std::string_view("\0", 1), user.user}) {
        for (const char c : part)
            hash = (hash ^ static_cast<unsigned char>(c)) * 1'099'511'628'211u;
    }
    return static_cast<unsigned>(hash % options_.shards);
}

SessionId Router::add(RoutedSession& session) {
    const SessionId id = (SessionId{options_.shard} << kShardShift) | next_session_++;
    sessions_.emplace(id, &session);
    return id;
}

void Router::remove(SessionId id, const Identity* user) {
    if (sessions_.erase(id) == 0) return;
    if (user != nullptr) send(home_of(user->user_ref()), SessionGone{id, user->user_key()});
}

void Router::login(LoginAsk ask) {
    const unsigned home = home_of(ask.identity->user_ref());
    send(home, std::move(ask));
}

void Router::send_direct(UserKey to, Data data) {
    const unsigned home = home_of(to);
    send(home, DirectMessage{0, std::move(to), std::move(data)});
}

void Router::handled(Handled handled) {
    const unsigned home = home_of(handled.user);
    send(home, std::move(handled));
}

void Router::on_append_results(const std::vector<AppendResult>& results) {
    for (const AppendResult& result : results) {
        const auto found = sessions_.find(result.ticket);
        if (found != sessions_.end()) found->second->on_append_result(result);
    }
}

void Router::on_deliveries(const std::vector<Delivery>& deliveries) {
    UserRef key("", "");
    Users::iterator user = users_.end();
    for (const Delivery& delivery : deliveries) {
        const StoredMessage& message = *delivery.message;
        if (key.user != message.to || key.app != message.app || user == users_.end()) {
            key = UserRef(message.app, message.to);
            user = users_.find(key);
        }
        if (user == users_.end()) continue;
        for (const LiveSession& live : user->second.live) {
            const unsigned shard = shard_of(live.session);
            if (shard == options_.shard) {
                deliver(live.session, delivery);
            } else {
                host_.post(shard, DeliverTo{live.session, delivery});
            }
        }
    }
}

// A session only takes note: it needs no queue.
void Router::deliver(SessionId session, const Delivery& delivery) {
    const auto found = sessions_.find(session);
    if (found != sessions_.end()) found->second->on_delivery(delivery);
}

void Router::on_read(const ReadResult& result) {
    const auto found = sessions_.find(result.ticket);
    if (found != sessions_.end()) found->second->on_page(result);
}

void Router::on_message(ShardMessage message) {
    local_.push_back(std::move(message));
    drain();
}

// To this shard it goes through a queue too: a handler never runs inside another one.
void Router::send(unsigned shard, ShardMessage message) {
    if (shard != options_.shard) {
        host_.post(shard, std::move(message));
        return;
    }
    local_.push_back(std::move(message));
    drain();
}

void Router::drain() {
    if (is_draining_) return;
    is_draining_ = true;
    while (!local_.empty()) {
        ShardMessage message = std::move(local_.front());
        local_.pop_front();
        std::visit([this](auto& m) { handle(m); }, message);
    }
    is_draining_ = false;
}

// ---- logins, at the user's home ----

void Router::handle(LoginAsk& ask) {
    const UserKey key = ask.identity->user_key();
    UserEntry& entry = users_[ask.identity->user_ref()];
    if (!entry.identity) entry.identity = ask.identity;
    if (!entry.current) {
        begin_login(key, entry, std::move(ask));
    } else if (waiting_of(entry) < options_.logins_waiting_max) {
        if (!entry.waiting) entry.waiting = std::make_unique<std::vector<LoginAsk>>();
        entry.waiting->push_back(std::move(ask));
    } else {
        refuse(ask, static_cast<int>(Errc::kLoginBusy), true, "too many logins of this account");
    }
}

void Router::begin_login(const UserKey& key, UserEntry& entry, LoginAsk ask) {
    LoginDecision decision = decide_login(options_.policy, ask, entry.live);
    if (decision.code == 0 && is_outlived(key, ask)) {
        decision.code = static_cast<int>(Errc::kSuperseded);
        decision.retry = true;
        decision.message = "a newer connection of this device has been online";
    }
    if (decision.code != 0) {
        refuse(ask, decision.code, decision.retry, std::move(decision.message));
        finish_login(key, entry);
        return;
    }
    PendingLogin pending;
    pending.id = (std::uint64_t{options_.shard} << kShardShift) | next_login_++;
    pending.displacing = decision.losers.size();
    pending.ask = std::move(ask);
    logins_.emplace(pending.id, key);
    // In place before anybody is told: a loser on this shard answers at once.
    entry.current = std::make_unique<PendingLogin>(std::move(pending));
    if (decision.losers.empty()) return open(entry);
    for (const LiveSession& loser : decision.losers) {
        entry.live.erase(std::find_if(entry.live.begin(), entry.live.end(), [&](const auto& live) {
            return live.session == loser.session;
        }));
    }
    const LoginAsk& winner = entry.current->ask;
    std::vector<Displace> displaces;
    for (const LiveSession& loser : decision.losers) {
        Displace displace;
        displace.session = loser.session;
        displace.login = entry.current->id;
        displace.user = key;
        displace.is_same_login = winner.generation != 0 && winner.generation == loser.generation;
        displace.device = winner.identity->device();
        displaces.push_back(std::move(displace));
    }
    // From here on the entry may be gone: the last answer may end the login.
    for (Displace& displace : displaces) {
        const unsigned shard = shard_of(displace.session);
        send(shard, std::move(displace));
    }
}

void Router::handle(Displace& displace) {
    const auto found = sessions_.find(displace.session);
    if (found != sessions_.end()) {
        found->second->on_displaced(displace.is_same_login, displace.device);
    }
    const unsigned home = home_of(displace.user);
    send(home, Displaced{displace.login, std::move(displace.user)});
}

void Router::handle(Displaced& displaced) {
    const auto user = users_.find(displaced.user);
    if (user == users_.end()) return;
    UserEntry& entry = user->second;
    if (!entry.current || entry.current->id != displaced.login) return;
    if (--entry.current->displacing == 0) open(entry);
}

// Behind every append of the losers: they were queued before their Displaced was sent.
void Router::open(UserEntry& entry) {
    const PendingLogin& pending = *entry.current;
    const LoginAsk& ask = pending.ask;
    OpenRequest request;
    request.ticket = pending.id;
    request.app = ask.identity->app();
    request.user = ask.identity->user();
    request.device = ask.identity->device();
    request.is_plain = is_plain(ask.identity->profile());
    request.receives = ask.receives;
    request.generation = ask.generation;
    request.wall = host_.wall_ms();
    request.inbox = ask.inbox;
    request.stream = ask.outbox.stream;
    request.first = ask.outbox.first;
    if (host_.store_open(std::move(request))) return;
    const UserKey key = ask.identity->user_key();
    refuse(ask, static_cast<int>(Errc::kLoginBusy), true, "the message store is busy");
    logins_.erase(pending.id);
    finish_login(key, entry);
}

void Router::on_opened(OpenResult result) {
    // What it sends waits until it is done, as in every handler.
    is_draining_ = true;
    handle(result);
    is_draining_ = false;
    drain();
}

void Router::handle(OpenResult& result) {
    const auto login = logins_.find(result.ticket);
    if (login == logins_.end()) return;
    const UserKey key = login->second;
    logins_.erase(login);
    UserEntry& entry = users_.at(key);
    assert(entry.current && entry.current->id == result.ticket);
    PendingLogin& pending = *entry.current;
    if (result.error) {
        refuse(pending.ask, static_cast<int>(Errc::kLoginBusy), true,
               "the message store cannot write now");
    } else if (!pending.is_cancelled) {
        LiveSession live;
        live.session = pending.ask.session;
        live.connection = pending.ask.connection;
        live.generation = result.generation;
        live.identity = pending.ask.identity;
        entry.live.push_back(std::move(live));
        LoginVerdict verdict;
        verdict.session = pending.ask.session;
        verdict.opened = std::move(result);
        send(shard_of(pending.ask.session), std::move(verdict));
    }
    finish_login(key, entry);
}

void Router::finish_login(const UserKey& key, UserEntry& entry) {
    entry.current.reset();
    if (entry.waiting) {
        LoginAsk next = std::move(entry.waiting->front());
        entry.waiting->erase(entry.waiting->begin());
        if (entry.waiting->empty()) entry.waiting.reset();
        begin_login(key, entry, std::move(next));
    } else {
        erase_if_idle(key);
    }
}

void Router::refuse(const LoginAsk& ask, int code, bool retry, std::string message) {
    LoginVerdict verdict;
    verdict.session = ask.session;
    verdict.code = code;
    verdict.message = std::move(message);
    verdict.retry = retry;
    if (code == static_cast<int>(Errc::kLoginBusy)) verdict.retry_after_ms = options_.busy_retry_ms;
    send(shard_of(ask.session), std::move(verdict));
}

void Router::handle(LoginVerdict& verdict) {
    const auto found = sessions_.find(verdict.session);
    if (found != sessions_.end()) found->second->on_login_verdict(verdict);
}

void Router::handle(SessionGone& gone) {
    const auto user = users_.find(gone.user);
    if (user == users_.end()) return;
    UserEntry& entry = user->second;
    const auto is_gone = [&](const auto& item) { return item.session == gone.session; };
    const auto ended = std::find_if(entry.live.begin(), entry.live.end(), is_gone);
    if (ended != entry.live.end()) remember_ended(gone.user, *ended);
    entry.live.erase(std::remove_if(entry.live.begin(), entry.live.end(), is_gone),
                     entry.live.end());
    if (entry.waiting) {
        std::vector<LoginAsk>& waiting = *entry.waiting;
        waiting.erase(std::remove_if(waiting.begin(), waiting.end(), is_gone), waiting.end());
        if (waiting.empty()) entry.waiting.reset();
    }
    if (entry.current && entry.current->ask.session == gone.session) {
        entry.current->is_cancelled = true;
    }
    erase_if_idle(gone.user);
}

void Router::remember_ended(const UserKey& key, const LiveSession& session) {
    if (options_.ended_max == 0) return;
    std::string name = device_key(key, session.identity->device());
    const auto [entry, is_new] = ended_.try_emplace(name, session.connection);
    if (!is_new) {
        entry->second = std::max(entry->second, session.connection);
        return;
    }
    ended_order_.push_back(std::move(name));
    if (ended_order_.size() <= options_.ended_max) return;
    ended_.erase(ended_order_.front());
    ended_order_.pop_front();
}

// A login that arrives late, on a connection which its client has given up since: it asked on a
// newer one, and was online there. Admitted, it would take a generation above the client's own.
bool Router::is_outlived(const UserKey& key, const LoginAsk& ask) const {
    const auto ended = ended_.find(device_key(key, ask.identity->device()));
    return ended != ended_.end() && ask.connection < ended->second;
}

void Router::erase_if_idle(const UserKey& key) {
    const auto user = users_.find(key);
    if (user == users_.end()) return;
    const UserEntry& entry = user->second;
    if (entry.live.empty() && !entry.current && !entry.waiting) users_.erase(user);
}

// ---- messages ----

void Router::handle(DeliverTo& message) { deliver(message.session, message.delivery); }

void Router::handle(DirectMessage& direct) {
    if (direct.session != 0) {
        const auto found = sessions_.find(direct.session);
        if (found != sessions_.end()) found->second->on_direct(direct.data);
        return;
    }
    const auto user = users_.find(direct.to);
    if (user == users_.end()) return;
    for (const LiveSession& live : user->second.live) {
        send(shard_of(live.session), DirectMessage{live.session, direct.to, direct.data});
    }
}

void Router::handle(Handled& handled) {
    const auto user = users_.find(handled.user);
    if (user == users_.end()) return;
    // Of several devices the first one counts; a receipt is never repeated.
    if (!user->second.delivered) user->second.delivered = std::make_unique<Receipts>();
    Receipts& delivered = *user->second.delivered;
    const auto told = delivered.find(handled.conv);
    if (told != delivered.end()) {
        if (handled.cseq <= told->second) return;
        told->second = handled.cseq;
    } else if (options_.conversations_max > 0) {
        if (delivered.size() >= options_.conversations_max) delivered.clear();
        delivered.emplace(handled.conv, handled.cseq);
    }
    ReceiptFor receipt;
    receipt.to = UserKey{handled.user.app, std::move(handled.sender)};
    receipt.receipt.conv = std::move(handled.conv);
    receipt.receipt.user = std::move(handled.user.user);
    receipt.receipt.delivered = handled.cseq;
    const unsigned home = home_of(receipt.to);
    send(home, std::move(receipt));
}

void Router::handle(ReceiptFor& receipt) {
    if (receipt.session != 0) {
        const auto found = sessions_.find(receipt.session);
        if (found != sessions_.end()) found->second->on_receipt(receipt.receipt);
        return;
    }
    const auto user = users_.find(receipt.to);
    if (user == users_.end()) return;
    for (const LiveSession& live : user->second.live) {
        if (live.identity->profile() != ProfileId::kPetrelV1) continue;
        send(shard_of(live.session), ReceiptFor{live.session, receipt.to, receipt.receipt});
    }
}

bool Router::is_consistent() const {
    std::size_t deciding = 0;
    for (const auto& [key, entry] : users_) {
        if (entry.live.empty() && !entry.current && !entry.waiting) return false;
        if (!entry.current && entry.waiting) return false;
        if (entry.waiting && entry.waiting->empty()) return false;
        if (waiting_of(entry) > options_.logins_waiting_max) return false;
        if (entry.delivered && entry.delivered->size() > options_.conversations_max) return false;
        if (!(key == entry.identity->user_ref())) return false;
        if (entry.current) ++deciding;
    }
    if (ended_.size() != ended_order_.size() || ended_.size() > options_.ended_max) return false;
    return deciding == logins_.size();
}

}  // namespace petrel
