#include "tools/petrel/wire_storm.hpp"

#include <algorithm>

#include "tools/petrel/wire_lane.hpp"

namespace petrel::tools {
namespace {

constexpr Direction kDirections[] = {Direction::kToTarget, Direction::kToClient};

Direction opposite(Direction direction) {
    return direction == Direction::kToTarget ? Direction::kToClient : Direction::kToTarget;
}

}  // namespace

// One client's connection and the one to the target that belongs to it. Each direction has a
// source, a lane and a sink. A stream is gone when it broke, or was closed for good.
//
//   connecting -- target answers --> passing -- both gone, cut or broken --> retired
//        \-- unreachable: the client is reset -----------------------------^
class WireStorm::Link {
public:
    Link(WireStorm& storm, std::uint64_t number, std::unique_ptr<ByteStream> client);

    void apply(const WireStep& step, TimePoint until);
    void cut();

private:
    class End final : public ByteStream::Handler {
    public:
        End(Link& link, Direction outward) : link_(link), outward_(outward) {}
        void on_open() override { link_.on_target_open(); }
        void on_bytes(std::string_view bytes) override { link_.on_bytes(outward_, bytes); }
        void on_sent() override { link_.on_sent(opposite(outward_)); }
        void on_finished() override { link_.on_finished(outward_); }
        void on_broken() override { link_.on_broken(outward_); }

    private:
        Link& link_;
        Direction outward_;  // Of what this end says.
    };
    struct Way {
        WireLane lane;
        bool is_source_paused = false;
        bool is_source_finished = false;
        bool is_sink_finished = false;  // Its FIN has been sent.
    };

    void on_target_open();
    void on_bytes(Direction direction, std::string_view bytes);
    void on_sent(Direction direction);
    void on_finished(Direction direction);
    void on_broken(Direction direction);
    void begin_input() { storm_.timers_.set_now(storm_.loop_.now()); }
    void flush();
    bool flush(Direction direction);
    void repeat(std::size_t index);
    void retire();
    Way& way(Direction direction) { return ways_[static_cast<std::size_t>(direction)]; }
    std::unique_ptr<ByteStream>& source(Direction direction) {
        return direction == Direction::kToTarget ? client_ : target_;
    }
    std::unique_ptr<ByteStream>& sink(Direction direction) { return source(opposite(direction)); }

    struct Repeated {
        const WireStep* step;
        TimeDice dice;
        std::unique_ptr<Timer> timer;
    };

    WireStorm& storm_;
    const std::uint64_t number_;
    Way ways_[2];
    End client_end_;
    End target_end_;
    std::unique_ptr<ByteStream> client_;  // Null when gone.
    std::unique_ptr<ByteStream> target_;
    bool is_target_open_ = false;
    bool is_retired_ = false;
    Timer flush_timer_;
    std::vector<Repeated> repeated_;
};

class WireStorm::Door final : public ByteNetwork::Acceptor {
public:
    explicit Door(WireStorm& storm) : storm_(storm) {}
    void on_accept(std::unique_ptr<ByteStream> stream, const std::string& peer) override {
        storm_.accept(std::move(stream), peer);
    }

private:
    WireStorm& storm_;
};

WireStorm::Link::Link(WireStorm& storm, std::uint64_t number, std::unique_ptr<ByteStream> client)
    : storm_(storm),
      number_(number),
      client_end_(*this, Direction::kToTarget),
      target_end_(*this, Direction::kToClient),
      client_(std::move(client)),
      flush_timer_(storm.timers_, "wire flush", [this] { flush(); }) {
    client_->set_handler(client_end_);
    target_ =
        storm.network_.connect(storm.options_.target_host, storm.options_.target_port, target_end_);
    const std::vector<WireStep>& steps = storm.options_.steps;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        if (!steps[i].is_repeated) continue;
        const std::size_t index = repeated_.size();
        repeated_.push_back({&steps[i], TimeDice(storm.options_.seed, number, i),
                             std::make_unique<Timer>(storm.timers_, "wire step",
                                                     [this, index] { repeat(index); })});
        repeated_.back().timer->start(repeated_.back().dice.around(steps[i].when));
    }
}

void WireStorm::Link::repeat(std::size_t index) {
    Repeated& again = repeated_[index];
    const WireStep& step = *again.step;
    again.timer->start(again.dice.around(step.when) + step.lasts.value_or(Duration::zero()));
    apply(step, step.lasts ? saturating_add(storm_.timers_.now(), *step.lasts) : TimePoint::max());
}

void WireStorm::Link::apply(const WireStep& step, TimePoint until) {
    if (is_retired_) return;
    if (step.action == WireAction::kCut) {
        ++storm_.stats_.resets;
        storm_.tell(to_string(step.action), number_, {}, &step);
        return cut();
    }
    bool is_new = false;
    for (const Direction direction : kDirections) {
        if (!step.touches(direction)) continue;
        WireLane& lane = way(direction).lane;
        switch (step.action) {
            case WireAction::kCutInFrame: lane.cut_in_frame(); break;
            case WireAction::kStall: lane.stall_until(until); break;
            case WireAction::kSwallow:
                is_new = is_new || !lane.is_swallowed();
                lane.swallow();
                break;
            case WireAction::kRate: lane.set_rate(step.amount, storm_.timers_.now(), until); break;
            case WireAction::kSlice: lane.set_slice(step.amount, until); break;
            case WireAction::kCut:
            case WireAction::kRefuse: break;
        }
    }
    if (step.action == WireAction::kSwallow && !is_new) return;  // It was so before.
    if (step.action == WireAction::kStall) ++storm_.stats_.stalls;
    if (step.action == WireAction::kSwallow) ++storm_.stats_.swallows;
    // A cut in a frame is told when it comes about.
    if (step.action != WireAction::kCutInFrame) {
        storm_.tell(to_string(step.action), number_, {}, &step);
    }
    flush();
}

void WireStorm::Link::cut() {
    if (client_) client_->reset();
    if (target_) target_->reset();
    client_.reset();
    target_.reset();
    retire();
}

void WireStorm::Link::retire() {
    if (std::exchange(is_retired_, true)) return;
    flush_timer_.stop();
    for (Repeated& again : repeated_) again.timer->stop();
    storm_.tell("closed", number_);
    storm_.retire(number_);
}

void WireStorm::Link::on_target_open() {
    begin_input();
    is_target_open_ = true;
    flush();
    storm_.rearm();
}

void WireStorm::Link::on_bytes(Direction direction, std::string_view bytes) {
    begin_input();
    Way& to = way(direction);
    if (!sink(direction)) return;  // Nobody is left to take it.
    to.lane.push(bytes);
    if (!to.is_source_paused && to.lane.held() >= storm_.options_.held_bytes_max) {
        to.is_source_paused = true;
        source(direction)->pause_reading();
    }
    flush();
    storm_.rearm();
}

void WireStorm::Link::on_sent(Direction) {
    begin_input();
    flush();
    storm_.rearm();
}

void WireStorm::Link::on_finished(Direction direction) {
    begin_input();
    way(direction).is_source_finished = true;
    flush();
    storm_.rearm();
}

void WireStorm::Link::on_broken(Direction direction) {
    begin_input();
    const bool is_target = direction == Direction::kToClient;
    source(direction).reset();
    if (is_target && !is_target_open_) {
        ++storm_.stats_.unreachable;
        storm_.tell("unreachable", number_);
        cut();
    } else if (!way(direction).lane.is_swallowed() || !sink(direction)) {
        // A reset overtakes what was under way.
        cut();
    } else {
        // Half-open: the other end never hears of it.
        way(direction).is_source_finished = true;
        Way& back = way(opposite(direction));
        back.lane.swallow();
        if (std::exchange(back.is_source_paused, false)) sink(direction)->resume_reading();
        flush();
    }
    storm_.rearm();
}

void WireStorm::Link::flush() {
    if (is_retired_) return;
    for (const Direction direction : kDirections) {
        if (!flush(direction)) return;
    }
    flush_timer_.stop();
    TimePoint next = TimePoint::max();
    for (const Direction direction : kDirections) {
        const ByteStream* const to = sink(direction).get();
        if (to == nullptr || to->is_writing() || !is_target_open_) continue;
        const auto at = way(direction).lane.next_at(storm_.timers_.now());
        if (at) next = std::min(next, *at);
    }
    if (next != TimePoint::max()) flush_timer_.start_at(next);
}

// False when that was the end of the connection.
bool WireStorm::Link::flush(Direction direction) {
    Way& by = way(direction);
    ByteStream* const to = sink(direction).get();
    ByteStream* const from = source(direction).get();
    if (to != nullptr && !to->is_writing() && is_target_open_) {
        const std::string_view bytes = by.lane.take(storm_.timers_.now());
        if (!bytes.empty()) {
            to->write(bytes);
            (direction == Direction::kToTarget ? storm_.stats_.bytes_to_target
                                               : storm_.stats_.bytes_to_client) += bytes.size();
        }
    }
    if (by.lane.is_cut() && (to == nullptr || !to->is_writing())) {
        ++storm_.stats_.resets;
        storm_.tell(to_string(WireAction::kCutInFrame), number_);
        cut();
        return false;
    }
    const std::size_t resume_at = storm_.options_.held_bytes_max / 2;
    if (by.is_source_paused && from != nullptr && by.lane.held() <= resume_at) {
        by.is_source_paused = false;
        from->resume_reading();
    }
    if (by.is_source_finished && by.lane.held() == 0 && !by.lane.is_swallowed() &&
        !by.is_sink_finished && is_target_open_) {
        by.is_sink_finished = true;
        if (to != nullptr) to->finish();
    }
    // Both ends have said all: what is written leaves by itself.
    const auto is_over = [this](Direction of) {
        const Way& one = way(of);
        const bool is_heard = one.is_sink_finished || one.lane.is_swallowed();
        return one.is_source_finished && is_heard && !(sink(of) && sink(of)->is_writing());
    };
    if (is_over(Direction::kToTarget) && is_over(Direction::kToClient)) {
        client_.reset();
        target_.reset();
        retire();
        return false;
    }
    return true;
}

WireStorm::WireStorm(EventLoop& loop, ByteNetwork& network, Options options, Observer observer)
    : loop_(loop),
      network_(network),
      options_(std::move(options)),
      observer_(std::move(observer)),
      timers_(loop.now()),
      door_(std::make_unique<Door>(*this)),
      is_alive_(std::make_shared<bool>(true)) {
    alarm_ = loop_.make_alarm([this] {
        timers_.advance_to(loop_.now());
        rearm();
    });
}

WireStorm::~WireStorm() {
    *is_alive_ = false;
    observer_ = {};
    stop();
}

Result<std::uint16_t> WireStorm::start() {
    const auto port = network_.listen(options_.address, options_.port, *door_);
    if (!port) return port;
    timers_.set_now(loop_.now());
    for (const WireStep& step : options_.steps) {
        if (!step.is_repeated) schedule(step);
    }
    timers_.advance_to(timers_.now());  // What is to be so from the beginning.
    rearm();
    return port;
}

void WireStorm::stop() {
    network_.stop_listening();
    // Each leaves the map as it is cut.
    while (!links_.empty()) links_.begin()->second->cut();
    step_timers_.clear();
    alarm_->disarm();
}

bool WireStorm::strike(const std::vector<WireStep>& steps) {
    timers_.set_now(loop_.now());
    forget_over();  // It points to them.
    for (auto old = struck_.begin(); old != struck_.end();) {
        if (!is_over(*old)) {
            ++old;
            continue;
        }
        step_timers_.erase(&*old);
        old = struck_.erase(old);
    }
    if (struck_.size() + steps.size() > kWireStepsMax) return false;
    for (const WireStep& step : steps) {
        if (!step.is_repeated) schedule(struck_.emplace_back(step));
    }
    timers_.advance_to(timers_.now());
    rearm();
    return true;
}

void WireStorm::schedule(const WireStep& step) {
    const auto made =
        step_timers_.try_emplace(&step, timers_, "wire script", [this, &step] { run_step(step); });
    made.first->second.start(step.when);
}

bool WireStorm::is_over(const WireStep& step) const {
    const auto timer = step_timers_.find(&step);
    if (timer != step_timers_.end() && timer->second.is_running()) return false;
    return std::none_of(lasting_.begin(), lasting_.end(), [&](const Lasting& one) {
        return one.step == &step && one.until > timers_.now();
    });
}

void WireStorm::forget_over() {
    const auto is_over = [this](const Lasting& one) { return one.until <= timers_.now(); };
    lasting_.erase(std::remove_if(lasting_.begin(), lasting_.end(), is_over), lasting_.end());
}

void WireStorm::run_step(const WireStep& step) {
    const TimePoint now = timers_.now();
    const bool is_for_good =
        !step.lasts && (step.action == WireAction::kRate || step.action == WireAction::kSlice);
    const TimePoint until = step.lasts    ? saturating_add(now, *step.lasts)
                            : is_for_good ? TimePoint::max()
                                          : now;
    forget_over();
    if (step.action == WireAction::kRefuse) {  // The later one replaces the earlier.
        const auto is_replaced = [](const Lasting& old) {
            return old.step->action == WireAction::kRefuse;
        };
        lasting_.erase(std::remove_if(lasting_.begin(), lasting_.end(), is_replaced),
                       lasting_.end());
    }
    if (until > now) lasting_.push_back({&step, until});
    // A link that is cut leaves the map.
    std::vector<std::uint64_t> numbers;
    numbers.reserve(links_.size());
    for (const auto& [number, link] : links_) numbers.push_back(number);
    for (const std::uint64_t number : numbers) {
        const auto found = links_.find(number);
        if (found != links_.end()) found->second->apply(step, until);
    }
}

bool WireStorm::is_refusing() const {
    return std::any_of(lasting_.begin(), lasting_.end(), [this](const Lasting& one) {
        return one.step->action == WireAction::kRefuse && one.until > timers_.now();
    });
}

void WireStorm::accept(std::unique_ptr<ByteStream> client, const std::string& peer) {
    timers_.set_now(loop_.now());
    if (is_refusing() || links_.size() >= options_.connections_max) {
        ++stats_.refused;
        tell("refused", 0, peer);
        client->reset();
        return;
    }
    const std::uint64_t number = next_number_++;
    ++stats_.connections;
    tell("opened", number, peer);
    Link& link = *links_.emplace(number, std::make_unique<Link>(*this, number, std::move(client)))
                      .first->second;
    for (const Lasting& one : lasting_) {
        if (one.until > timers_.now()) link.apply(*one.step, one.until);
    }
    rearm();
}

void WireStorm::retire(std::uint64_t number) {
    const auto found = links_.find(number);
    if (found == links_.end()) return;
    retired_.push_back(std::move(found->second));
    links_.erase(found);
    if (retired_.size() > 1) return;
    loop_.post([this, is_alive = is_alive_] {
        if (*is_alive) retired_.clear();
    });
}

void WireStorm::tell(std::string_view what, std::uint64_t connection, std::string_view peer,
                     const WireStep* step) const {
    if (observer_) observer_({what, connection, peer, step});
}

void WireStorm::rearm() {
    if (const auto deadline = timers_.next_deadline()) {
        alarm_->arm(*deadline);
    } else {
        alarm_->disarm();
    }
}

}  // namespace petrel::tools
