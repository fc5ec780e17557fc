#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/store/message_store.hpp"
#include "core/store/message_tables.hpp"
#include "core/store/recent_cache.hpp"

namespace petrel {

// What a MessageStore does (PROTOCOL.md section 4, DESIGN.md section 5), over any MessageTables.
//
//   begin -- operations: read tables and caches, change memory only --> commit: tables.apply()
//                                                     \-- rollback, or apply() failed: forgotten
//
// All that a transaction changes stays in memory until commit hands it to the tables in one piece.
// So a rollback is: forget what was changed here. Rows in use are cached (bounded); what has
// expired counts as gone, whether or not trim() has removed it from the tables. Thread-compatible.
class MessageRules final : public MessageStore {
public:
    MessageRules(std::unique_ptr<MessageTables> tables, const StoreOptions& options,
                 FingerprintSource& epochs);

    std::error_code begin(std::int64_t now, WallMillis wall) override;
    std::error_code commit() override;
    void rollback() override;

    std::error_code append(const AppendRequest& request, AppendResult& result,
                           std::vector<Delivery>& deliveries) override;
    std::error_code open_session(const OpenRequest& request, OpenResult& result) override;
    std::error_code advance(const CursorUpdate& update) override;
    std::error_code read(const ReadRequest& request, ReadResult& result) override;
    std::error_code trim(std::size_t rows_max, bool& has_more) override;
    bool is_immediate() const override { return tables_->is_immediate(); }
    bool wants_trim() const override;
    std::error_code renew_epochs() override;
    std::int64_t last_now() const override { return tables_->last_now(); }
    std::string complaint() const override;
    std::string last_error() const override { return tables_->last_error(); }
    StoreFault last_fault() const override { return tables_->last_fault(); }

private:
    // Rows cached: users, each with its devices and streams, and conversations.
    static constexpr std::size_t kUserRowsCachedMax = 262'144;
    static constexpr std::size_t kConversationsCachedMax = 262'144;
    // A table is swept for what has expired this many times in the time that its rows are kept.
    static constexpr std::int64_t kSweepsInRetention = 8;
    static constexpr std::int64_t kMemoryRestMs = 1000;
    static constexpr std::size_t kInboxesLookedAt = 256;  // A call of trim_memory().

    struct Device {
        DeviceRow row;
        bool is_changed = false;
    };
    struct Stream {
        StreamRow row;
        bool is_changed = false;
    };
    struct User {
        UserRow row;
        bool is_new = false;
        bool is_changed = false;  // The row, beyond `last`.
        bool is_last_moved = false;
        bool is_listed = false;     // In changed_users_.
        bool is_opened = false;     // By a login, in this transaction.
        Position stored_floor = 0;  // What the tables know.
        bool has_devices = false;   // Loaded.
        bool has_streams = false;
        std::vector<Device> devices;
        std::vector<Stream> streams;       // The one used last is in front.
        std::vector<std::size_t> pending;  // Its messages in writes_.messages, ascending.
    };
    struct Conversation {
        std::uint64_t cseq = 0;
        std::string name;  // "" until it is needed.
        bool is_changed = false;
    };
    struct Sweep {
        bool is_running = false;
        std::int64_t next_at = 0;
    };
    // What append() has found, before it changes anything.
    struct Found {
        User* sender = nullptr;
        Stream* stream = nullptr;
        User* recipient = nullptr;
        Position recipient_floor = 0;  // Where it moves to make room.
        Digest128 digest{};
    };

    const std::string& user_key(std::string_view app, std::string_view name);
    std::error_code find_user(std::string_view app, std::string_view name, User*& user);
    User& create_user(const std::string& app, const std::string& name);
    void list_changed(User& user);
    void change_row(User& user);
    std::error_code load_devices(User& user);
    Device* find_device(User& user, const std::string& device);
    void add_device(User& user, const std::string& device, Position cursor);
    std::error_code load_streams(User& user);
    std::error_code find_stream(User& user, const std::string& name, Stream*& stream);
    void move_stream(User& user, Stream* stream, const std::string& name, Position position);
    std::error_code find_dedup(const DedupKey& key, DedupRow& row, bool& is_found);
    std::error_code find_conversation(const ConversationKey& key, Conversation*& conversation);
    std::error_code find_fingerprint(User& user, Position seq, Fingerprint& fp);
    static Position handled_by_any(const User& user, Position needed);
    std::error_code make_room(User& user, Position& floor, bool& has_room);
    std::error_code judge(const AppendRequest& request, AppendResult& result, Found& found);
    std::error_code accept(const AppendRequest& request, const Found& found, AppendResult& result,
                           std::vector<Delivery>& deliveries);
    std::error_code resume(User& user, Device* device, const OpenRequest& request,
                           InboxResume& inbox);
    void settle_plain(const User& user, Device& device);
    std::error_code trim_messages(std::size_t& budget);
    std::error_code trim_memory(std::size_t budget);
    bool is_memory_short() const;
    bool is_memory_full() const { return tables_->memory_bytes() >= options_.memory_max; }
    std::error_code sweep(Sweep& sweep, std::size_t& budget, std::vector<NamedKey>& keys,
                          std::error_code (MessageTables::*find)(std::int64_t, std::size_t,
                                                                 std::vector<NamedKey>&, bool&));
    bool is_due(const Sweep& sweep) const;
    void note(Sweep& sweep, std::chrono::milliseconds keep, bool is_finished);
    void collect_writes();
    bool has_writes() const;
    void finish(bool is_committed);
    bool is_expired(std::int64_t since, std::chrono::milliseconds keep) const {
        return now_ - since > keep.count();
    }

    const std::unique_ptr<MessageTables> tables_;
    const StoreOptions options_;
    FingerprintSource& epochs_;

    RecentCache<std::string, User> users_;
    RecentCache<ConversationKey, Conversation, RowHash> conversations_;
    Sweep dedup_sweep_;
    Sweep stream_sweep_;
    Sweep device_sweep_;
    UserId memory_at_ = 0;                // Where trim_memory() goes on.
    bool was_memory_freed_ = false;       // In this round of it.
    std::int64_t memory_rest_until_ = 0;  // A round has freed nothing.
    bool was_refused_for_memory_ = false;

    // Of the open transaction.
    bool is_open_ = false;
    std::int64_t now_ = 0;
    WallMillis wall_ = 0;
    UserId last_user_id_ = 0;
    std::size_t expired_seen_ = 0;  // Rows of find_expired_messages() dealt with.
    WriteSet writes_;
    DedupTable dedup_;
    std::vector<User*> changed_users_;
    std::vector<std::pair<ConversationKey, Conversation*>> changed_conversations_;

    std::string key_;  // Scratch, to save allocations.
    std::string scratch_;
    std::vector<std::pair<Position, std::shared_ptr<const StoredMessage>>> rows_;
};

}  // namespace petrel
