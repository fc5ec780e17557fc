#include "tools/petrel/storm_proxy.hpp"

#include <algorithm>
#include <deque>
#include <utility>

namespace petrel::tools {
namespace {

constexpr std::uint16_t kTryAgainLater = 1013;  // IANA's registry of WebSocket close codes.
constexpr std::uint16_t kNoStatus = 1005;
constexpr std::uint16_t kCut = 1006;

// Codes that a close frame may carry (RFC 6455 section 7.4).
bool is_sendable(std::uint16_t code) {
    const bool is_standard =
        code >= 1000 && code <= 1014 && code != 1004 && code != kNoStatus && code != kCut;
    return is_standard || (code >= 3000 && code <= 4999);
}

}  // namespace

// One client's connection and the one to the target that belongs to it.
//
//   connecting -- target answers --> passing -- a side closes or is cut --> retired
//        \-- target unreachable: the client gets 1013 ----------------------^
class Storm::Link {
public:
    Link(Storm& storm, std::uint64_t number, std::unique_ptr<Transport> client_transport,
         const PeerInfo& peer);

    void connect(const std::string& subprotocol);
    void cut();  // Both sides, without a close frame.

private:
    struct Item {
        enum class Kind : std::uint8_t { kText, kClose, kCut };
        Kind kind = Kind::kText;
        TimePoint due;
        std::string text;  // Or the reason of a close.
        std::uint16_t code = 0;

        // Empty packets take room too.
        std::size_t cost() const { return sizeof(Item) + text.size(); }
    };

    // One end; what it says goes into the lane towards the other one.
    class Side final : public Transport::Handler {
    public:
        Side(Link& link, Direction outward) : link_(link), outward_(outward) {}

        void on_open(std::string_view) override { link_.on_target_open(); }
        void on_text(std::string_view text) override { link_.on_text(outward_, text); }
        void on_binary(std::size_t) override { ++link_.storm_.stats_.binary; }
        void on_drained() override {}
        void on_closed(const CloseInfo& info) override { link_.on_closed(outward_, info); }

    private:
        Link& link_;
        Direction outward_;
    };

    struct Lane {
        Lane(const Storm& storm, std::uint64_t number, Direction direction)
            : dice(storm.options_.seed, number, direction) {}
        std::deque<Item> items;
        std::size_t bytes = 0;
        TimePoint last_due{};  // Nothing leaves before what came before it.
        FaultDice dice;
    };

    void tell(std::string_view what, Direction direction = Direction::kToTarget,
              std::string_view packet = {}) const {
        if (storm_.options_.on_fault) storm_.options_.on_fault(what, number_, direction, packet);
    }
    void on_target_open();
    void on_text(Direction direction, std::string_view text);
    void on_closed(Direction direction, const CloseInfo& info);
    void push(Direction direction, Item item, Duration delay);
    void flush();
    bool flush(Direction direction);
    void stall();
    void plan_stall();
    void retire();
    std::size_t held_bytes() const;
    bool is_overflowing() const { return held_bytes() > storm_.options_.queued_bytes_max; }
    Lane& lane(Direction direction) { return lanes_[static_cast<std::size_t>(direction)]; }
    Transport* outlet(Direction direction) const {
        return direction == Direction::kToTarget ? target_.get() : client_.get();
    }

    Storm& storm_;
    std::uint64_t number_;
    TimeDice time_dice_;
    Lane lanes_[2];
    Side client_side_;
    Side target_side_;
    std::unique_ptr<Transport> client_;
    std::unique_ptr<Transport> target_;  // Null before connect() and when its end is known.
    bool is_target_open_ = false;
    bool is_stalled_ = false;
    bool is_retired_ = false;
    Timer flush_timer_;
    Timer reset_timer_;
    Timer stall_timer_;
};

class Storm::Door final : public Listener::Handler {
public:
    explicit Door(Storm& storm) : storm_(storm) {}
    void on_accept(std::unique_ptr<Transport> transport, const PeerInfo& peer) override {
        storm_.accept(std::move(transport), peer);
    }

private:
    Storm& storm_;
};

Storm::Link::Link(Storm& storm, std::uint64_t number, std::unique_ptr<Transport> client_transport,
                  const PeerInfo& peer)
    : storm_(storm),
      number_(number),
      time_dice_(storm.options_.seed, number),
      lanes_{Lane(storm, number, Direction::kToTarget), Lane(storm, number, Direction::kToClient)},
      client_side_(*this, Direction::kToTarget),
      target_side_(*this, Direction::kToClient),
      client_(std::move(client_transport)),
      flush_timer_(storm.timers_, "storm flush", [this] { flush(); }),
      reset_timer_(storm.timers_, "storm reset",
                   [this] {
                       ++storm_.stats_.resets;
                       tell("cut");
                       cut();
                   }),
      stall_timer_(storm.timers_, "storm stall", [this] { stall(); }) {
    client_->set_handler(client_side_);
    const Faults& faults = storm.options_.faults;
    if (faults.reset_every.count() > 0) reset_timer_.start(time_dice_.around(faults.reset_every));
    plan_stall();
    connect(peer.subprotocol);
}

void Storm::Link::connect(const std::string& subprotocol) {
    ConnectOptions options;
    options.url = storm_.options_.target_url;
    options.subprotocol = subprotocol;
    options.frame_bytes_max = storm_.options_.queued_bytes_max;
    target_ = storm_.connector_.connect(options, target_side_);
}

void Storm::Link::cut() {
    client_.reset();
    target_.reset();
    retire();
}

void Storm::Link::retire() {
    if (is_retired_) return;
    is_retired_ = true;
    flush_timer_.stop();
    reset_timer_.stop();
    stall_timer_.stop();
    storm_.retire(number_);
}

void Storm::Link::on_target_open() {
    storm_.timers_.set_now(storm_.loop_.now());
    is_target_open_ = true;
    flush();
    storm_.rearm();
}

void Storm::Link::on_text(Direction direction, std::string_view text) {
    if (is_retired_) return;
    storm_.timers_.set_now(storm_.loop_.now());
    Stats& stats = storm_.stats_;
    ++stats.packets;
    const FaultDice::Decision decision = lane(direction).dice.next(storm_.options_.faults);
    if (decision.is_dropped) {
        ++stats.dropped;
        tell("drop", direction, text);
        return;
    }
    if (decision.delay.count() > 0) ++stats.delayed;
    if (decision.is_duplicated) {
        ++stats.duplicated;
        tell("duplicate", direction, text);
    }
    push(direction, {Item::Kind::kText, {}, std::string(text), 0}, decision.delay);
    if (decision.is_duplicated) {
        push(direction, {Item::Kind::kText, {}, std::string(text), 0}, decision.duplicate_delay);
    }
    flush();
    if (!is_retired_ && is_overflowing()) {
        ++stats.overflows;
        cut();
    }
    storm_.rearm();
}

void Storm::Link::on_closed(Direction direction, const CloseInfo& info) {
    if (is_retired_) return;
    storm_.timers_.set_now(storm_.loop_.now());
    const bool is_target = direction == Direction::kToClient;
    Item item;
    if (is_target && !is_target_open_) {
        ++storm_.stats_.unreachable;
        item = {Item::Kind::kClose, {}, "target unreachable: " + info.reason, kTryAgainLater};
    } else if (info.code == kNoStatus) {
        item = {Item::Kind::kClose, {}, {}, 1000};
    } else if (is_sendable(info.code)) {
        item = {Item::Kind::kClose, {}, info.reason, info.code};
    } else {
        item.kind = Item::Kind::kCut;
    }
    (is_target ? target_ : client_).reset();
    if (!target_ && !client_) {
        cut();
        storm_.rearm();
        return;
    }
    // Nobody is left to take what goes the other way.
    Lane& back = lane(is_target ? Direction::kToTarget : Direction::kToClient);
    back.items.clear();
    back.bytes = 0;
    push(direction, std::move(item), storm_.options_.faults.delay);
    flush();
    storm_.rearm();
}

void Storm::Link::push(Direction direction, Item item, Duration delay) {
    if (outlet(direction) == nullptr) return;
    Lane& to = lane(direction);
    item.due = std::max(storm_.timers_.now() + delay, to.last_due);
    to.last_due = item.due;
    to.bytes += item.cost();
    to.items.push_back(std::move(item));
}

void Storm::Link::flush() {
    if (is_retired_) return;
    if (flush(Direction::kToTarget) && flush(Direction::kToClient) && !is_stalled_) {
        flush_timer_.stop();
        TimePoint next = TimePoint::max();
        for (const Lane& waiting : lanes_) {
            const bool is_blocked = &waiting == &lanes_[0] && !is_target_open_;
            if (!waiting.items.empty() && !is_blocked) {
                next = std::min(next, waiting.items.front().due);
            }
        }
        if (next != TimePoint::max()) flush_timer_.start_at(next);
    }
}

// False when that was the end of the connection.
bool Storm::Link::flush(Direction direction) {
    Lane& from = lane(direction);
    Transport* to = outlet(direction);
    const bool can_leave = !is_stalled_ && (direction == Direction::kToClient || is_target_open_);
    while (can_leave && !from.items.empty() && from.items.front().due <= storm_.timers_.now()) {
        const Item item = std::move(from.items.front());
        from.items.pop_front();
        from.bytes -= item.cost();
        if (item.kind == Item::Kind::kText) {
            to->send(item.text);
            ++storm_.stats_.forwarded;
            continue;
        }
        // Destroyed after close(), the transport still says goodbye by itself.
        if (item.kind == Item::Kind::kClose) to->close(item.code, item.text);
        cut();
        return false;
    }
    return true;
}

void Storm::Link::plan_stall() {
    const Faults& faults = storm_.options_.faults;
    if (faults.stall_every.count() <= 0 || faults.stall.count() <= 0) return;
    stall_timer_.start(time_dice_.around(faults.stall_every));
}

void Storm::Link::stall() {
    if (!is_stalled_) {
        is_stalled_ = true;
        ++storm_.stats_.stalls;
        tell("stall");
        flush_timer_.stop();
        stall_timer_.start(storm_.options_.faults.stall);
        return;
    }
    is_stalled_ = false;
    plan_stall();
    flush();
}

std::size_t Storm::Link::held_bytes() const {
    std::size_t bytes = lanes_[0].bytes + lanes_[1].bytes;
    if (client_) bytes += client_->queued_bytes();
    if (target_) bytes += target_->queued_bytes();
    return bytes;
}

Storm::Storm(EventLoop& loop, Listener& listener, Connector& connector, Options options)
    : loop_(loop),
      listener_(listener),
      connector_(connector),
      options_(std::move(options)),
      timers_(loop.now()),
      door_(std::make_unique<Door>(*this)),
      is_alive_(std::make_shared<bool>(true)) {
    alarm_ = loop_.make_alarm([this] {
        timers_.advance_to(loop_.now());
        rearm();
    });
}

Storm::~Storm() {
    *is_alive_ = false;
    stop();
}

Result<std::uint16_t> Storm::start() {
    ListenOptions listen;
    listen.address = options_.address;
    listen.port = options_.port;
    listen.frame_bytes_max = options_.queued_bytes_max;
    ConnectionLimits::Options limits;
    limits.connections_max = options_.connections_max;
    limits.before_login_max = options_.connections_max;  // It knows no logins.
    limits.per_address_max = options_.connections_max;
    listen.limits = std::make_shared<ConnectionLimits>(limits);
    listen.http_page = "A storm: a WebSocket proxy with faults.\n";
    auto port = listener_.listen(listen, *door_);
    if (port) port_ = *port;
    return port;
}

void Storm::stop() {
    listener_.stop();
    // Each leaves the map as it is cut.
    while (!links_.empty()) links_.begin()->second->cut();
    alarm_->disarm();
}

void Storm::cut_all() {
    while (!links_.empty()) {
        ++stats_.resets;
        links_.begin()->second->cut();
    }
    rearm();
}

void Storm::accept(std::unique_ptr<Transport> client, const PeerInfo& peer) {
    timers_.set_now(loop_.now());
    const std::uint64_t number = next_number_++;
    ++stats_.connections;
    links_.emplace(number, std::make_unique<Link>(*this, number, std::move(client), peer));
    rearm();
}

void Storm::retire(std::uint64_t number) {
    const auto found = links_.find(number);
    if (found == links_.end()) return;
    retired_.push_back(std::move(found->second));
    links_.erase(found);
    if (retired_.size() > 1) return;
    loop_.post([this, is_alive = is_alive_] {
        if (*is_alive) retired_.clear();
    });
}

void Storm::rearm() {
    if (const auto deadline = timers_.next_deadline()) {
        alarm_->arm(*deadline);
    } else {
        alarm_->disarm();
    }
}

}  // namespace petrel::tools
