#include <algorithm>
#include <cassert>

#include "core/store/message_rules.hpp"
#include "protocol/error.hpp"

// The half of MessageRules that is about devices: sessions, cursors, reading, upkeep.

namespace petrel {
namespace {

// The name decides among equals, so that every form of the store forgets the same one.
bool is_longer_unused(const DeviceRow& a, const DeviceRow& b) {
    return a.used_at != b.used_at ? a.used_at < b.used_at : a.device < b.device;
}

}  // namespace

// ---- devices ----

std::error_code MessageRules::load_devices(User& user) {
    if (!user.has_devices) {
        std::vector<DeviceRow> rows;
        if (std::error_code error = tables_->find_devices(user.row.id, rows)) return error;
        users_.add_weight(rows.size());
        for (DeviceRow& row : rows) user.devices.push_back({std::move(row), false});
        user.has_devices = true;
    }
    for (std::size_t i = user.devices.size(); i-- > 0;) {
        const DeviceRow& row = user.devices[i].row;
        if (!is_expired(row.used_at, options_.device_retention)) continue;
        writes_.forgotten_devices.push_back({user.row.id, row.device});
        list_changed(user);
        user.devices.erase(user.devices.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return {};
}

MessageRules::Device* MessageRules::find_device(User& user, const std::string& device) {
    for (Device& each : user.devices) {
        if (each.row.device == device) return &each;
    }
    return nullptr;
}

void MessageRules::add_device(User& user, const std::string& device, Position cursor) {
    if (options_.devices_max == 0) return;
    while (user.devices.size() >= options_.devices_max) {
        const auto oldest = std::min_element(
            user.devices.begin(), user.devices.end(),
            [](const Device& a, const Device& b) { return is_longer_unused(a.row, b.row); });
        writes_.forgotten_devices.push_back({user.row.id, oldest->row.device});
        user.devices.erase(oldest);
    }
    DeviceRow row;
    row.device = device;
    row.cursor = cursor;
    row.used_at = now_;
    user.devices.push_back({std::move(row), true});
    users_.add_weight(1);
    list_changed(user);
}

// A plain cursor is a floor and what was acked above it. What is gone counts as acked.
void MessageRules::settle_plain(const User& user, Device& device) {
    DeviceRow& row = device.row;
    const Position before = row.cursor;
    row.cursor = std::max(row.cursor, user.row.floor);
    std::size_t settled = 0;
    while (settled < row.acked.size() && row.acked[settled] <= row.cursor + 1) {
        row.cursor = std::max(row.cursor, row.acked[settled]);
        ++settled;
    }
    row.acked.erase(row.acked.begin(), row.acked.begin() + static_cast<std::ptrdiff_t>(settled));
    if (row.cursor != before || settled > 0) device.is_changed = true;
}

// ---- sessions ----

std::error_code MessageRules::find_fingerprint(User& user, Position seq, Fingerprint& fp) {
    if (!user.pending.empty() && seq >= writes_.messages[user.pending.front()].seq) {
        const Position first = writes_.messages[user.pending.front()].seq;
        fp = writes_.messages[user.pending[seq - first]].message->fp;
        return {};
    }
    return tables_->find_fingerprint(user.row.id, seq, fp);
}

// PROTOCOL.md section 4.2, "Inbox".
std::error_code MessageRules::resume(User& user, Device* device, const OpenRequest& request,
                                     InboxResume& inbox) {
    UserRow& row = user.row;
    const Position own = device ? std::max(device->row.cursor, row.floor) : row.floor;
    inbox.recovered = true;
    if (!request.inbox) {
        inbox.seq = own;
        inbox.recovered = !device || device->row.cursor >= row.floor;
    } else {
        const InboxCursor& cursor = *request.inbox;
        inbox.seq = cursor.seq;
        if (cursor.epoch != row.epoch) {
            inbox.recovered = false;
        } else if (cursor.seq < row.floor) {
            inbox.recovered = false;
        } else {
            bool is_older_copy = cursor.seq > row.last;
            if (!is_older_copy && cursor.seq > row.floor && !cursor.fp.empty()) {
                Fingerprint fp;
                if (auto error = find_fingerprint(user, cursor.seq, fp)) return error;
                is_older_copy = fp != cursor.fp;
            }
            if (is_older_copy) {
                row.epoch = epochs_.next().to_string();
                change_row(user);
                inbox.recovered = false;
            }
        }
        if (!inbox.recovered) inbox.seq = own;
    }
    inbox.epoch = row.epoch;
    inbox.last = row.last;
    return {};
}

std::error_code MessageRules::open_session(const OpenRequest& request, OpenResult& result) {
    assert(is_open_);
    result = {};
    result.ticket = request.ticket;
    const auto fail = [&](std::error_code error) {
        result = {};
        result.ticket = request.ticket;
        result.error = make_error_code(Errc::kLoginBusy);
        return error;
    };
    User* found = nullptr;
    if (auto error = find_user(request.app, request.user, found)) return fail(error);
    User& user = found ? *found : create_user(request.app, request.user);
    user.is_opened = true;
    if (auto error = load_devices(user)) return fail(error);

    std::uint64_t generation = std::min(request.generation, kNumberMax);
    if (generation == 0) {
        const auto wall = static_cast<std::uint64_t>(std::max<WallMillis>(request.wall, 0));
        generation = std::min(std::max(wall, user.row.generation + 1), kNumberMax);
    }
    result.generation = generation;
    if (generation > user.row.generation) {
        user.row.generation = generation;
        change_row(user);
    }

    Device* device = find_device(user, request.device);
    if (auto error = resume(user, device, request, result.inbox)) return fail(error);
    result.handled = device ? device->row.cursor : result.inbox.seq;
    if (device) {
        if (request.is_plain) {
            settle_plain(user, *device);
            result.inbox.seq = device->row.cursor;
            result.acked_above = device->row.acked;
        }
        device->row.used_at = now_;
        device->is_changed = true;
        list_changed(user);
    } else if (request.receives) {
        add_device(user, request.device, result.inbox.seq);
    }

    if (!request.stream.empty()) {
        Stream* stream = nullptr;
        if (auto error = find_stream(user, request.stream, stream)) return fail(error);
        result.accepted = stream ? stream->row.position : 0;
        const Position skipped = std::min(std::max<Position>(request.first, 1) - 1, kNumberMax);
        const Position taken_up = std::max(result.accepted, skipped);
        // A stream without a row stands at 0 anyway.
        if (taken_up > 0) move_stream(user, stream, request.stream, taken_up);
    }
    return {};
}

std::error_code MessageRules::advance(const CursorUpdate& update) {
    assert(is_open_);
    User* user = nullptr;
    if (auto error = find_user(update.app, update.user, user)) return error;
    if (!user) return {};
    if (auto error = load_devices(*user)) return error;
    Device* device = find_device(*user, update.device);
    if (!device) return {};
    DeviceRow& row = device->row;
    if (update.is_plain) {
        settle_plain(*user, *device);
        const auto at = std::lower_bound(row.acked.begin(), row.acked.end(), update.position);
        const bool is_known = at != row.acked.end() && *at == update.position;
        const bool has_room =
            row.acked.size() < options_.plain_acked_max || update.position == row.cursor + 1;
        if (update.position > row.cursor && update.position <= user->row.last && !is_known &&
            has_room) {
            row.acked.insert(at, update.position);
            settle_plain(*user, *device);
            device->is_changed = true;
        }
    } else if (const Position to = std::min(update.position, user->row.last); to > row.cursor) {
        row.cursor = to;
        device->is_changed = true;
    }
    if (device->is_changed) {
        row.used_at = now_;
        list_changed(*user);
    }
    return {};
}

std::error_code MessageRules::read(const ReadRequest& request, ReadResult& result) {
    result = {};
    result.ticket = request.ticket;
    result.after = request.after;
    User* user = nullptr;
    std::error_code error = find_user(request.app, request.user, user);
    if (!error && user) {
        result.last = user->row.last;
        const Position after = std::max(request.after, user->row.floor);
        const auto& pending = user->pending;
        const Position stored_last =
            pending.empty() ? user->row.last : writes_.messages[pending.front()].seq - 1;
        rows_.clear();
        if (after < stored_last && request.messages_max > 0) {
            error = tables_->find_messages(user->row, after, request.messages_max,
                                           request.bytes_max, rows_);
        }
        std::size_t bytes = 0;
        for (auto& [seq, message] : rows_) {
            bytes += message->text.size();
            result.deliveries.push_back({seq, std::move(message)});
        }
        Position next = (result.deliveries.empty() ? after : result.deliveries.back().seq) + 1;
        while (!error && next > stored_last && next <= user->row.last &&
               result.deliveries.size() < request.messages_max) {
            const auto& message = writes_.messages[pending[next - stored_last - 1]].message;
            bytes += message->text.size();
            if (bytes > request.bytes_max && !result.deliveries.empty()) break;
            result.deliveries.push_back({next++, message});
        }
        rows_.clear();
    }
    if (error) {
        result.deliveries.clear();
        result.error = error;
    }
    return error;
}

// ---- upkeep ----

std::error_code MessageRules::trim_messages(std::size_t& budget) {
    std::vector<MessageTables::ExpiredMessage> expired;
    const std::int64_t before = now_ - options_.message_retention.count();
    if (auto error = tables_->find_expired_messages(before, expired_seen_, budget, expired)) {
        return error;
    }
    expired_seen_ += expired.size();
    budget -= expired.size();
    for (const auto& [app, name, seq] : expired) {
        User* user = nullptr;
        if (auto error = find_user(app, name, user)) return error;
        if (!user || seq <= user->row.floor) continue;
        user->row.floor = std::min(seq, user->row.last);
        change_row(*user);
    }
    return {};
}

bool MessageRules::is_memory_short() const {
    return tables_->memory_bytes() > options_.memory_max - options_.memory_max / 4;
}

bool MessageRules::wants_trim() const { return is_memory_short() && now_ >= memory_rest_until_; }

std::string MessageRules::complaint() const {
    const bool has_room = tables_->memory_bytes() < options_.memory_max - options_.memory_max / 8;
    if (!was_refused_for_memory_ || has_room) return {};
    return "its memory is full of messages that no device has handled, or of the fingerprints of "
           "the dedup horizon";
}

// From inbox to inbox, in rounds: what at least one device has handled goes, up to `budget`
// messages a call.
std::error_code MessageRules::trim_memory(std::size_t budget) {
    if (!wants_trim()) return {};
    std::vector<MessageTables::FilledInbox> inboxes;
    tables_->find_filled_inboxes(memory_at_, kInboxesLookedAt, inboxes);
    for (const auto& [id, app, name] : inboxes) {
        User* user = nullptr;
        if (auto error = find_user(app, name, user)) return error;
        if (auto error = load_devices(*user)) return error;
        const Position floor = user->row.floor;
        const Position handled = std::min(handled_by_any(*user, user->row.last), user->row.last);
        if (handled > floor) {
            user->row.floor = std::min(handled, floor + budget);
            change_row(*user);
            budget -= user->row.floor - floor;
            was_memory_freed_ = true;
            if (user->row.floor < handled) return {};
        }
        memory_at_ = id;
        if (budget == 0) return {};
    }
    if (inboxes.size() == kInboxesLookedAt) return {};  // There are more.
    if (!std::exchange(was_memory_freed_, false)) memory_rest_until_ = now_ + kMemoryRestMs;
    memory_at_ = 0;
    return {};
}

std::error_code MessageRules::sweep(Sweep& sweep, std::size_t& budget, std::vector<NamedKey>& keys,
                                    std::error_code (MessageTables::*find)(
                                        std::int64_t, std::size_t, std::vector<NamedKey>&, bool&)) {
    if (budget == 0 || !is_due(sweep)) return {};
    const std::size_t before = keys.size();
    bool is_finished = false;
    const std::int64_t expired = now_ - options_.device_retention.count();
    if (auto error = (tables_.get()->*find)(expired, budget, keys, is_finished)) return error;
    budget -= std::min(budget, keys.size() - before);
    note(sweep, options_.device_retention, is_finished);
    return {};
}

bool MessageRules::is_due(const Sweep& sweep) const {
    return sweep.is_running || now_ >= sweep.next_at;
}

void MessageRules::note(Sweep& sweep, std::chrono::milliseconds keep, bool is_finished) {
    sweep.is_running = !is_finished;
    if (is_finished) sweep.next_at = now_ + keep.count() / kSweepsInRetention;
}

std::error_code MessageRules::trim(std::size_t rows_max, bool& has_more) {
    assert(is_open_);
    has_more = false;
    std::size_t budget = rows_max;
    if (rows_max == 0) return {};
    if (auto error = trim_memory(rows_max)) return error;
    if (auto error = trim_messages(budget)) return error;
    if (is_due(dedup_sweep_)) {
        bool is_finished = false;
        const std::int64_t expired = now_ - options_.dedup_horizon.count();
        if (auto error = tables_->expire_dedup(expired, is_finished)) return error;
        note(dedup_sweep_, options_.dedup_horizon, is_finished);
    }
    if (auto error = sweep(stream_sweep_, budget, writes_.forgotten_streams,
                           &MessageTables::sweep_streams)) {
        return error;
    }
    if (auto error = sweep(device_sweep_, budget, writes_.forgotten_devices,
                           &MessageTables::sweep_devices)) {
        return error;
    }
    has_more = budget == 0 || dedup_sweep_.is_running || stream_sweep_.is_running ||
               device_sweep_.is_running;
    return {};
}

std::error_code MessageRules::renew_epochs() {
    assert(is_open_);
    std::vector<UserId> ids;
    if (auto error = tables_->find_user_ids(ids)) return error;
    std::vector<std::pair<UserId, User*>> cached;
    users_.for_each([&](User& user) { cached.emplace_back(user.row.id, &user); });
    std::sort(cached.begin(), cached.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (auto& [id, user] : cached) {
        user->row.epoch = epochs_.next().to_string();
        change_row(*user);
    }
    for (const UserId id : ids) {
        const auto at =
            std::lower_bound(cached.begin(), cached.end(), id,
                             [](const auto& each, UserId wanted) { return each.first < wanted; });
        if (at != cached.end() && at->first == id) continue;
        writes_.epochs.emplace_back(id, epochs_.next().to_string());
    }
    return {};
}

}  // namespace petrel
