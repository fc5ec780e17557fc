#include "core/store/message_rules.hpp"

#include <algorithm>
#include <cassert>

#include "protocol/conversation.hpp"
#include "protocol/error.hpp"

namespace petrel {
namespace {

int code_of(Errc error) { return static_cast<int>(error); }

// The name decides among equals, so that every form of the store forgets the same one.
bool is_longer_unused(const StreamRow& a, const StreamRow& b) {
    return a.used_at != b.used_at ? a.used_at < b.used_at : a.stream < b.stream;
}

}  // namespace

MessageRules::MessageRules(std::unique_ptr<MessageTables> tables, const StoreOptions& options,
                           FingerprintSource& epochs)
    : tables_(std::move(tables)),
      options_(options),
      epochs_(epochs),
      users_(kUserRowsCachedMax),
      conversations_(kConversationsCachedMax),
      now_(tables_->last_now()),
      last_user_id_(tables_->last_user_id()) {}

// ---- transactions ----

std::error_code MessageRules::begin(std::int64_t now, WallMillis wall) {
    if (is_open_) rollback();
    users_.rotate();
    conversations_.rotate();
    now_ = std::max({now, now_, tables_->last_now()});
    wall_ = std::clamp<WallMillis>(wall, 0, static_cast<WallMillis>(kNumberMax));
    if (std::error_code error = tables_->begin()) return error;
    is_open_ = true;
    return {};
}

std::error_code MessageRules::commit() {
    assert(is_open_);
    collect_writes();
    if (!has_writes() && !tables_->has_upkeep()) {
        tables_->end();
        finish(true);
        return {};
    }
    writes_.now = now_;
    writes_.dedup = &dedup_;
    const std::error_code error = tables_->apply(writes_);
    finish(!error);
    return error;
}

void MessageRules::rollback() {
    if (!is_open_) return;
    tables_->end();
    finish(false);
}

void MessageRules::collect_writes() {
    for (User* user : changed_users_) {
        if (user->is_new || user->is_changed || user->is_last_moved) {
            writes_.users.push_back({&user->row, user->is_new, !user->is_changed});
        }
        if (user->row.floor > user->stored_floor && !user->is_new) {
            writes_.forgotten_messages.emplace_back(user->row.id, user->row.floor);
        }
        for (const Device& device : user->devices) {
            if (device.is_changed) writes_.devices.push_back({user->row.id, &device.row});
        }
        for (const Stream& stream : user->streams) {
            if (stream.is_changed) writes_.streams.push_back({user->row.id, &stream.row});
        }
        for (const std::size_t at : user->pending) {
            if (writes_.messages[at].seq > user->row.floor) break;
            writes_.messages[at].is_gone = true;
        }
    }
    for (const auto& [key, conversation] : changed_conversations_) {
        writes_.conversations.emplace_back(key, conversation->cseq);
    }
}

bool MessageRules::has_writes() const {
    const WriteSet& set = writes_;
    return !(set.users.empty() && set.epochs.empty() && set.devices.empty() &&
             set.streams.empty() && set.conversations.empty() && set.messages.empty() &&
             dedup_.empty() && set.forgotten_devices.empty() && set.forgotten_streams.empty() &&
             set.forgotten_messages.empty());
}

// After a commit the caches say what the tables say. Otherwise what was changed is dropped from
// them, to be read again.
void MessageRules::finish(bool is_committed) {
    for (User* user : changed_users_) {
        if (!is_committed) {
            users_.erase(std::string(user_key(user->row.app, user->row.name)));
            continue;
        }
        if (user->is_opened && tables_->is_in_memory()) {
            // Most who log in stay idle: they need no second copy of their rows.
            users_.erase(std::string(user_key(user->row.app, user->row.name)));
            continue;
        }
        user->is_opened = false;
        user->is_new = user->is_changed = user->is_last_moved = user->is_listed = false;
        user->stored_floor = user->row.floor;
        for (Device& device : user->devices) device.is_changed = false;
        for (Stream& stream : user->streams) stream.is_changed = false;
        user->pending.clear();
    }
    for (const auto& [key, conversation] : changed_conversations_) {
        if (is_committed) {
            conversation->is_changed = false;
        } else {
            conversations_.erase(ConversationKey(key));
        }
    }
    if (!is_committed) last_user_id_ = tables_->last_user_id();
    changed_users_.clear();
    changed_conversations_.clear();
    dedup_.clear();
    writes_.forgotten_devices.clear();
    writes_.forgotten_streams.clear();
    writes_.forgotten_messages.clear();
    writes_.users.clear();
    writes_.epochs.clear();
    writes_.devices.clear();
    writes_.streams.clear();
    writes_.conversations.clear();
    writes_.messages.clear();
    expired_seen_ = 0;
    is_open_ = false;
}

// ---- users ----

const std::string& MessageRules::user_key(std::string_view app, std::string_view name) {
    const std::size_t size = app.size();
    key_.assign(reinterpret_cast<const char*>(&size), sizeof size);
    key_.append(app);
    key_.append(name);
    return key_;
}

std::error_code MessageRules::find_user(std::string_view app, std::string_view name, User*& user) {
    user = users_.find(user_key(app, name));
    if (user) return {};
    UserRow row;
    bool is_found = false;
    if (std::error_code error = tables_->find_user(app, name, row, is_found)) return error;
    if (!is_found) return {};
    User loaded;
    loaded.stored_floor = row.floor;
    loaded.row = std::move(row);
    user = &users_.insert(user_key(app, name), std::move(loaded));
    return {};
}

MessageRules::User& MessageRules::create_user(const std::string& app, const std::string& name) {
    User created;
    created.row.id = ++last_user_id_;
    created.row.app = app;
    created.row.name = name;
    created.row.epoch = epochs_.next().to_string();
    created.is_new = created.has_devices = created.has_streams = true;
    User& user = users_.insert(user_key(app, name), std::move(created));
    change_row(user);
    return user;
}

void MessageRules::list_changed(User& user) {
    if (user.is_listed) return;
    user.is_listed = true;
    changed_users_.push_back(&user);
}

void MessageRules::change_row(User& user) {
    user.is_changed = true;
    list_changed(user);
}

// ---- streams ----

std::error_code MessageRules::load_streams(User& user) {
    if (user.has_streams) return {};
    std::vector<StreamRow> rows;
    if (std::error_code error = tables_->find_streams(user.row.id, rows)) return error;
    users_.add_weight(rows.size());
    for (StreamRow& row : rows) user.streams.push_back({std::move(row), false});
    user.has_streams = true;
    return {};
}

// nullptr when it is unknown or expired: it then stands at 0.
std::error_code MessageRules::find_stream(User& user, const std::string& name, Stream*& stream) {
    stream = nullptr;
    if (std::error_code error = load_streams(user)) return error;
    const auto it = std::find_if(user.streams.begin(), user.streams.end(),
                                 [&](const Stream& each) { return each.row.stream == name; });
    if (it == user.streams.end()) return {};
    // Longer than the dedup horizon: a session that was silent for a day must go on.
    if (is_expired(it->row.used_at, options_.device_retention)) {
        writes_.forgotten_streams.push_back({user.row.id, name});
        list_changed(user);
        user.streams.erase(it);
        return {};
    }
    std::iter_swap(it, user.streams.begin());
    stream = &user.streams.front();
    return {};
}

// `stream` is what find_stream() said.
void MessageRules::move_stream(User& user, Stream* stream, const std::string& name,
                               Position position) {
    list_changed(user);
    if (stream) {
        stream->row.position = position;
        stream->row.used_at = now_;
        stream->is_changed = true;
        return;
    }
    if (options_.streams_max == 0) return;
    while (user.streams.size() >= options_.streams_max) {
        const auto oldest = std::min_element(
            user.streams.begin(), user.streams.end(),
            [](const Stream& a, const Stream& b) { return is_longer_unused(a.row, b.row); });
        writes_.forgotten_streams.push_back({user.row.id, oldest->row.stream});
        user.streams.erase(oldest);
    }
    user.streams.push_back({{name, position, now_}, true});
    users_.add_weight(1);
    std::iter_swap(user.streams.begin(), user.streams.end() - 1);
}

// ---- append ----

std::error_code MessageRules::find_dedup(const DedupKey& key, DedupRow& row, bool& is_found) {
    is_found = false;
    if (const DedupRow* const added = dedup_.find(key)) {
        row = *added;
        is_found = true;
    } else if (std::error_code error = tables_->find_dedup(key, row, is_found)) {
        return error;
    }
    if (is_found && is_expired(row.accepted_at, options_.dedup_horizon)) is_found = false;
    return {};
}

std::error_code MessageRules::find_conversation(const ConversationKey& key,
                                                Conversation*& conversation) {
    conversation = conversations_.find(key);
    if (conversation) return {};
    std::uint64_t cseq = 0;
    if (std::error_code error = tables_->find_conversation(key, cseq)) return error;
    conversation = &conversations_.insert(key, {cseq, {}, false});
    return {};
}

// Up to where each message was handled by at least one device; no further than `needed` is looked.
// Its devices are loaded.
Position MessageRules::handled_by_any(const User& user, Position needed) {
    Position handled = user.row.floor;
    for (const Device& device : user.devices) handled = std::max(handled, device.row.cursor);
    for (bool moves = true; moves && handled < needed;) {
        moves = false;
        for (const Device& device : user.devices) {
            const auto& acked = device.row.acked;
            if (std::binary_search(acked.begin(), acked.end(), handled + 1)) {
                ++handled;
                moves = true;
            }
        }
    }
    return handled;
}

// The floor at which one more message fits into the inbox: the oldest go, as long as at least one
// device has handled them.
std::error_code MessageRules::make_room(User& user, Position& floor, bool& has_room) {
    floor = user.row.floor;
    has_room = true;
    if (user.row.last - floor < options_.inbox_max) return {};
    has_room = false;
    if (options_.inbox_max == 0) return {};
    const Position needed = user.row.last + 1 - options_.inbox_max;
    if (std::error_code error = load_devices(user)) return error;
    if (handled_by_any(user, needed) < needed) return {};
    floor = needed;
    has_room = true;
    return {};
}

// Decides without changing anything: result.fate is kAccepted when the message is to be taken.
std::error_code MessageRules::judge(const AppendRequest& request, AppendResult& result,
                                    Found& found) {
    const StoredMessage& message = *request.message;
    if (auto error = find_user(message.app, message.from, found.sender)) return error;
    if (request.stream) {
        if (found.sender) {
            const std::string& stream = *request.stream;
            if (auto error = find_stream(*found.sender, stream, found.stream)) return error;
        }
        const Position stands =
            std::max(found.stream ? found.stream->row.position : 0, request.told);
        if (request.prev > stands || request.seq <= stands || request.seq > kNumberMax) {
            result.fate = AppendResult::Fate::kNotTaken;
            return {};
        }
    }
    const auto refuse = [&](int code) {
        result.fate = AppendResult::Fate::kRefused;
        result.code = code;
        return std::error_code();
    };
    found.digest = payload_digest(message.to, message.typeu, message.text, scratch_);
    if (found.sender) {
        DedupRow row;
        bool is_found = false;
        const DedupKey key{found.sender->row.id, message.fp};
        if (std::error_code error = find_dedup(key, row, is_found)) return error;
        if (is_found) {
            if (row.digest != found.digest) return refuse(code_of(Errc::kFingerprintReused));
            result.fate = AppendResult::Fate::kDuplicate;
            result.cseq = row.cseq;
            result.send_ts = row.send_ts;
            return {};
        }
    }
    if (request.refusal != 0) return refuse(request.refusal);

    bool has_room = options_.inbox_max > 0;
    if (auto error = find_user(message.app, message.to, found.recipient)) return error;
    if (found.recipient) {
        if (auto error = make_room(*found.recipient, found.recipient_floor, has_room)) return error;
        if (found.recipient->row.last >= kNumberMax) has_room = false;
    }
    if (!has_room) return refuse(code_of(Errc::kInboxFull));
    if (is_memory_full()) {
        was_refused_for_memory_ = true;
        result.fate = AppendResult::Fate::kFailed;
        result.code = code_of(Errc::kBusy);
        return {};
    }
    result.fate = AppendResult::Fate::kAccepted;
    return {};
}

std::error_code MessageRules::accept(const AppendRequest& request, const Found& found,
                                     AppendResult& result, std::vector<Delivery>& deliveries) {
    StoredMessage& message = *request.message;
    User& sender = found.sender ? *found.sender : create_user(message.app, message.from);
    User& recipient = found.recipient              ? *found.recipient
                      : message.to == message.from ? sender
                                                   : create_user(message.app, message.to);
    const ConversationKey conversation_key{std::min(sender.row.id, recipient.row.id),
                                           std::max(sender.row.id, recipient.row.id)};
    Conversation* conversation = nullptr;
    if (auto error = find_conversation(conversation_key, conversation)) return error;
    if (conversation->cseq >= kNumberMax) {
        result.fate = AppendResult::Fate::kRefused;
        result.code = code_of(Errc::kInboxFull);
        return {};
    }
    if (!conversation->is_changed) {
        conversation->is_changed = true;
        changed_conversations_.emplace_back(conversation_key, conversation);
    }
    result.cseq = ++conversation->cseq;
    result.send_ts = wall_;

    if (found.recipient && found.recipient_floor > recipient.row.floor) {
        recipient.row.floor = found.recipient_floor;
        change_row(recipient);
    }
    const Position seq = ++recipient.row.last;
    recipient.is_last_moved = true;
    list_changed(recipient);

    if (conversation->name.empty()) {
        conversation->name = conversation_of_users(message.from, message.to);
    }
    message.conv = conversation->name;
    message.cseq = result.cseq;
    message.send_ts = wall_;

    recipient.pending.push_back(writes_.messages.size());
    writes_.messages.push_back({recipient.row.id, seq, sender.row.id, now_, request.message});
    dedup_.put({sender.row.id, message.fp}, {found.digest, result.cseq, wall_, now_});
    deliveries.push_back({seq, request.message});
    if (request.stream) move_stream(sender, found.stream, *request.stream, request.seq);
    return {};
}

std::error_code MessageRules::append(const AppendRequest& request, AppendResult& result,
                                     std::vector<Delivery>& deliveries) {
    assert(is_open_ && !request.message->fp.empty());
    result = {};
    result.ticket = request.ticket;
    result.seq = request.seq;
    result.fp = request.message->fp;
    Found found;
    std::error_code error = judge(request, result, found);
    if (!error && result.fate == AppendResult::Fate::kAccepted) {
        error = accept(request, found, result, deliveries);
    }
    if (error) {
        result.fate = AppendResult::Fate::kFailed;
        result.code = code_of(Errc::kBusy);
        return error;
    }
    if (result.fate == AppendResult::Fate::kDuplicate && request.stream) {
        move_stream(*found.sender, found.stream, *request.stream, request.seq);
    }
    return {};
}

}  // namespace petrel
