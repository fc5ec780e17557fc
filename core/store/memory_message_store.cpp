#include "core/store/memory_message_store.hpp"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>

#include "core/store/message_heap.hpp"
#include "core/store/message_rules.hpp"
#include "core/store/message_tables.hpp"
#include "daemons/ring.hpp"
#include "daemons/slab.hpp"

namespace petrel {
namespace {

// Of a message, beside its record: its places in inbox and log. Of a fingerprint: row and cells.
constexpr std::size_t kPlacesBytes = 48;
constexpr std::size_t kDedupBytes = 112;

class MemoryTables final : public MessageTables {
public:
    bool is_in_memory() const override { return true; }

    std::error_code begin() override { return {}; }
    void end() override {}

    std::error_code apply(WriteSet& set) override {
        forget(set);
        for (const WriteSet::User& write : set.users) {
            const UserRow& row = *write.row;
            if (write.is_new) add(row);
            User& owner = user(row.id);
            owner.last = row.last;
            if (write.only_last) continue;
            owner.generation = row.generation;
            owner.epoch = epoch_of(row.epoch);
        }
        for (const auto& [id, epoch] : set.epochs) user(id).epoch = epoch_of(epoch);
        for (const WriteSet::Device& write : set.devices) {
            put(user(write.user).devices, *write.row, &DeviceRow::device);
        }
        for (const WriteSet::Stream& write : set.streams) {
            put(user(write.user).streams, *write.row, &StreamRow::stream);
        }
        for (const auto& [pair, cseq] : set.conversations) conversations_[pair] = cseq;
        for (std::size_t i = 0; i < set.dedup->size(); ++i) {
            const DedupTable::Entry& entry = set.dedup->entry(i);
            dedup_.put(entry.key, entry.row);
            dedup_ends_ = std::max(dedup_ends_, entry.row.accepted_at);
        }
        for (MessageRow& row : set.messages) {
            if (row.is_gone) continue;
            add_to_log(row);
            ++messages_;
            user(row.user).inbox.push_back(heap_.add(row));
        }
        heap_.compact(
            [this](const LogRecord& record) { return place_of(record.user, record.seq); });
        last_now_ = set.now;
        return {};
    }

    std::error_code find_user(std::string_view app, std::string_view name, UserRow& row,
                              bool& is_found) override {
        const Slot found = find(app, name);
        is_found = found != kNoSlot;
        if (!is_found) return {};
        const User& owner = users_[found];
        row.id = id_of(found);
        row.app = app;
        row.name = name;
        row.epoch = owner.epoch.to_string();
        row.last = owner.last;
        row.floor = owner.floor;
        row.generation = owner.generation;
        return {};
    }

    std::error_code find_devices(UserId id, std::vector<DeviceRow>& rows) override {
        rows = user(id).devices;
        return {};
    }

    std::error_code find_streams(UserId id, std::vector<StreamRow>& rows) override {
        rows = user(id).streams;
        return {};
    }

    std::error_code find_conversation(const ConversationKey& pair, std::uint64_t& cseq) override {
        const auto it = conversations_.find(pair);
        if (it != conversations_.end()) cseq = it->second;
        return {};
    }

    std::error_code find_dedup(const DedupKey& dedup_key, DedupRow& row, bool& is_found) override {
        const DedupRow* found = dedup_.find(dedup_key);
        if (!found) found = older_dedup_.find(dedup_key);
        is_found = found != nullptr;
        if (is_found) row = *found;
        return {};
    }

    std::error_code find_fingerprint(UserId id, Position seq, Fingerprint& fp) override {
        const MessageHeap::Place* const place = place_of(id, seq);
        if (place) fp = fingerprint_of(heap_.at(*place));
        return {};
    }

    std::error_code find_messages(
        const UserRow& wanted, Position after, std::size_t messages_max, std::size_t bytes_max,
        std::vector<std::pair<Position, std::shared_ptr<const StoredMessage>>>& rows) override {
        const User& owner = user(wanted.id);
        std::size_t bytes = 0;
        for (Position seq = std::max(after, owner.floor) + 1;
             seq <= owner.floor + owner.inbox.size() && rows.size() < messages_max; ++seq) {
            const LogRecord record = heap_.at(owner.inbox[seq - owner.floor - 1]);
            bytes += record.text.size();
            if (bytes > bytes_max && !rows.empty()) break;
            rows.emplace_back(
                seq, message_of(record, wanted.app, user(record.sender).name, wanted.name));
        }
        return {};
    }

    std::size_t memory_bytes() const override {
        return heap_.bytes() + messages_ * kPlacesBytes +
               (dedup_.size() + older_dedup_.size()) * kDedupBytes;
    }

    void find_filled_inboxes(UserId after, std::size_t rows_max,
                             std::vector<FilledInbox>& rows) override {
        for (auto at = static_cast<std::size_t>(after); at < users_.size(); ++at) {
            if (rows.size() >= rows_max) return;
            const User& owner = users_[at];
            if (owner.inbox.empty()) continue;
            rows.push_back({id_of(static_cast<Slot>(at)), *apps_[owner.app], owner.name});
        }
    }

    std::error_code find_user_ids(std::vector<UserId>& ids) override {
        for (std::size_t i = 0; i < users_.size(); ++i) ids.push_back(static_cast<UserId>(i + 1));
        return {};
    }

    std::error_code find_expired_messages(std::int64_t before, std::size_t skip,
                                          std::size_t rows_max,
                                          std::vector<ExpiredMessage>& rows) override {
        for (const LogRun& run : log_) {
            if (run.accepted_at >= before) break;
            const User& owner = user(run.user);
            for (Position seq = std::max(run.first, owner.floor + 1); seq <= run.last; ++seq) {
                if (rows.size() >= rows_max) return {};
                if (skip > 0) {
                    --skip;
                    continue;
                }
                rows.push_back({*apps_[owner.app], owner.name, seq});
            }
        }
        return {};
    }

    // All of older_dedup_ came before the first of dedup_, and has expired with it. (A row that was
    // put again has grown younger in its place: then they stay longer.)
    std::error_code expire_dedup(std::int64_t before, bool& is_finished) override {
        if (!dedup_.empty() && dedup_.entry(0).row.accepted_at < before) {
            older_dedup_ = std::exchange(dedup_, {});
            older_dedup_ends_ = dedup_ends_;
        } else if (!older_dedup_.empty() && older_dedup_ends_ < before) {
            older_dedup_ = {};
        }
        is_finished = true;
        return {};
    }

    std::error_code sweep_streams(std::int64_t before, std::size_t rows_max,
                                  std::vector<NamedKey>& keys, bool& is_finished) override {
        sweep(before, rows_max, &User::streams, &StreamRow::stream, stream_sweep_, keys,
              is_finished);
        return {};
    }

    std::error_code sweep_devices(std::int64_t before, std::size_t rows_max,
                                  std::vector<NamedKey>& keys, bool& is_finished) override {
        sweep(before, rows_max, &User::devices, &DeviceRow::device, device_sweep_, keys,
              is_finished);
        return {};
    }

    bool is_immediate() const override { return true; }
    std::int64_t last_now() const override { return last_now_; }
    UserId last_user_id() const override { return static_cast<UserId>(users_.size()); }
    std::string last_error() const override { return {}; }

private:
    // A UserRow and what belongs to it. There are many of them, and most of them rest.
    struct User {
        std::string name;
        Fingerprint epoch;
        Position last = 0;
        Position floor = 0;  // inbox[0] has position floor + 1.
        std::uint64_t generation = 0;
        Ring<MessageHeap::Place> inbox;
        std::vector<DeviceRow> devices;
        std::vector<StreamRow> streams;
        Slot app = 0;  // In apps_.
        Slot chain = kNoSlot;
    };
    // What one inbox got within a tick of the store's clock.
    struct LogRun {
        std::int64_t accepted_at;
        UserId user;
        Position first;
        Position last;
    };

    static UserId id_of(Slot slot) { return static_cast<UserId>(slot) + 1; }
    static Fingerprint epoch_of(std::string_view text) {
        return Fingerprint::parse(text).value_or(Fingerprint());  // It was one.
    }
    static std::size_t hash(Slot app, std::string_view name) {
        return RowHash::mix(std::hash<std::string_view>()(name) + app);
    }

    Slot find(std::string_view app, std::string_view name) {
        scratch_.assign(app);
        const auto known = app_slots_.find(scratch_);
        if (known == app_slots_.end()) return kNoSlot;
        return by_name_.find(users_, hash(known->second, name), [&](Slot slot) {
            return users_[slot].app == known->second && users_[slot].name == name;
        });
    }

    void add(const UserRow& row) {
        const auto slot = static_cast<Slot>(row.id - 1);
        if (users_.size() <= slot) users_.resize(slot + std::size_t{1});
        const auto [app, is_new] = app_slots_.emplace(row.app, static_cast<Slot>(apps_.size()));
        if (is_new) apps_.push_back(&app->first);
        User& added = users_[slot];
        added.name = row.name;
        added.app = app->second;
        added.floor = row.floor;
        by_name_.add(users_, slot,
                     [this](Slot each) { return hash(users_[each].app, users_[each].name); });
    }

    User& user(UserId id) { return users_[static_cast<std::size_t>(id - 1)]; }

    template <class Row>
    static void put(std::vector<Row>& rows, const Row& row, std::string Row::*name) {
        for (Row& each : rows) {
            if (each.*name != row.*name) continue;
            each = row;
            return;
        }
        rows.push_back(row);
    }

    template <class Row>
    static void remove(std::vector<Row>& rows, const std::string& wanted, std::string Row::*name) {
        rows.erase(std::remove_if(rows.begin(), rows.end(),
                                  [&](const Row& each) { return each.*name == wanted; }),
                   rows.end());
    }

    template <class Row>
    void sweep(std::int64_t before, std::size_t rows_max, std::vector<Row> User::*rows,
               std::string Row::*name, std::size_t& at, std::vector<NamedKey>& keys,
               bool& is_finished) {
        const std::size_t end = std::min(users_.size(), at + rows_max);
        const std::size_t keys_max = keys.size() + rows_max;
        for (; at < end && keys.size() < keys_max; ++at) {
            for (const Row& row : users_[at].*rows) {
                if (row.used_at < before) keys.push_back({id_of(static_cast<Slot>(at)), row.*name});
            }
        }
        is_finished = at >= users_.size();
        if (is_finished) at = 0;
    }

    void forget(const WriteSet& set) {
        for (const NamedKey& each : set.forgotten_devices) {
            if (is_known(each.user)) remove(user(each.user).devices, each.name, &DeviceRow::device);
        }
        for (const NamedKey& each : set.forgotten_streams) {
            if (is_known(each.user)) remove(user(each.user).streams, each.name, &StreamRow::stream);
        }
        for (const auto& [id, up_to] : set.forgotten_messages) {
            User& owner = user(id);
            const auto gone = std::min<Position>(up_to - owner.floor, owner.inbox.size());
            for (Position i = 0; i < gone; ++i) {
                heap_.remove(owner.inbox.front());
                owner.inbox.pop_front();
            }
            owner.floor = up_to;
            messages_ -= gone;
            forgotten_in_log_ += gone;
        }
        shrink_log();
    }

    bool is_known(UserId id) const { return static_cast<std::size_t>(id) <= users_.size(); }

    void add_to_log(const MessageRow& row) {
        const bool goes_on = !log_.empty() && log_.back().accepted_at == row.accepted_at &&
                             log_.back().user == row.user && log_.back().last + 1 == row.seq;
        if (goes_on) {
            log_.back().last = row.seq;
        } else {
            log_.push_back({row.accepted_at, row.user, row.seq, row.seq});
        }
    }

    // Messages that are gone leave from the front, or, when too many of them wait behind one that
    // is kept, all at once.
    void shrink_log() {
        // How many it took off the run.
        const auto shrink = [this](LogRun& run) {
            const Position gone_to = std::min(user(run.user).floor, run.last);
            if (gone_to < run.first) return Position{0};
            return gone_to + 1 - std::exchange(run.first, gone_to + 1);
        };
        const auto is_gone = [](const LogRun& run) { return run.first > run.last; };
        while (!log_.empty() && forgotten_in_log_ > 0) {
            forgotten_in_log_ -= shrink(log_.front());
            if (!is_gone(log_.front())) break;
            log_.pop_front();
        }
        if (forgotten_in_log_ < 1024 || forgotten_in_log_ < messages_) return;
        for (LogRun& run : log_) shrink(run);
        log_.erase(std::remove_if(log_.begin(), log_.end(), is_gone), log_.end());
        forgotten_in_log_ = 0;
    }

    // nullptr when it is in no inbox.
    MessageHeap::Place* place_of(UserId id, Position seq) {
        User& owner = user(id);
        const bool is_here = seq > owner.floor && seq - owner.floor <= owner.inbox.size();
        return is_here ? &owner.inbox[seq - owner.floor - 1] : nullptr;
    }

    std::deque<User> users_;  // By id - 1.
    SlotIndex by_name_;
    std::unordered_map<std::string, Slot> app_slots_;
    std::vector<const std::string*> apps_;  // By slot.
    std::unordered_map<ConversationKey, std::uint64_t, RowHash> conversations_;
    // Of the current span of a horizon, and of the one before.
    DedupTable dedup_;
    DedupTable older_dedup_;
    std::int64_t dedup_ends_ = 0;  // When the last row of each was accepted.
    std::int64_t older_dedup_ends_ = 0;
    std::deque<LogRun> log_;  // By accepted_at.
    std::size_t forgotten_in_log_ = 0;
    MessageHeap heap_;
    std::size_t messages_ = 0;
    std::size_t stream_sweep_ = 0;
    std::size_t device_sweep_ = 0;
    std::int64_t last_now_ = 0;
    std::string scratch_;
};

}  // namespace

std::unique_ptr<MessageStore> make_memory_message_store(const StoreOptions& options,
                                                        FingerprintSource& epochs) {
    return std::make_unique<MessageRules>(std::make_unique<MemoryTables>(), options, epochs);
}

}  // namespace petrel
