#include "tests/simulation/network.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace petrel::sim {
namespace {

constexpr double kDrop = 0.05;
constexpr double kDuplicate = 0.03;
constexpr double kTruncated = 0.001;
constexpr double kGarbage = 0.001;

// What integrity checks below us let through.
constexpr std::string_view kJunk[] = {"",
                                      "null",
                                      "[]",
                                      "{}",
                                      "not json",
                                      R"({"type":77})",
                                      R"({"type":"x"})",
                                      R"({"type":57,"dataContent":"?"})",
                                      "\xff\xfe"};

}  // namespace

std::string packet_name(std::string_view text) {
    constexpr std::string_view kKey = R"("type":)";
    const std::size_t at = text.find(kKey);
    if (at == std::string_view::npos) return "packet";
    const std::string_view rest = text.substr(at + kKey.size());
    const std::string_view type = rest.substr(0, rest.find_first_not_of("0123456789"));
    if (type == "2") return "data";
    if (type == "4") return "ack";
    if (type == "54") return "accepted";
    return "packet";
}

TimePoint Connection::arrival(End towards, std::size_t size) {
    Side& to = side(towards);
    const Duration delay = faults_.delay ? schedule_.random(std::chrono::milliseconds{5},
                                                            std::chrono::milliseconds{200})
                                         : Duration(std::chrono::milliseconds{1});
    TimePoint when = std::max(schedule_.now() + delay, to.stalled_until);
    when = std::max(when, to.last_arrival);
    if (schedule_.now() < to.slow_until) {
        when += Duration(std::chrono::seconds{1}) * static_cast<Duration::rep>(size) /
                static_cast<Duration::rep>(to.bytes_per_second);
    }
    to.last_arrival = when;
    return when;
}

void Connection::send(End from, std::string_view text) {
    traffic_.bytes += text.size();
    check_gap_answer(side(from), text);
    if (!is_open_ || is_severed_ || side(other(from)).is_muted) return;
    if (schedule_.chance(faults_.drop ? kDrop : 0)) {
        chart(from == End::kClient ? "--x" : "x--", text);
        return;
    }
    const End towards = other(from);
    Side& sender = side(from);
    const int copies = schedule_.chance(faults_.duplicate ? kDuplicate : 0) ? 2 : 1;
    for (int copy = 0; copy < copies; ++copy) {
        std::string packet(text);
        if (schedule_.chance(faults_.truncated ? kTruncated : 0) && !packet.empty()) {
            packet.resize(schedule_.random(0, packet.size() - 1));
        }
        if (schedule_.chance(faults_.garbage ? kGarbage : 0)) {
            packet = kJunk[schedule_.random(0, std::size(kJunk) - 1)];
        }
        if (copy == 0) {
            sender.queued_bytes += text.size();
            ++sender.queued_packets;
        }
        const auto self = shared_from_this();
        schedule_.at(arrival(towards, text.size()), [self, towards, size = text.size(), copy,
                                                     packet = std::move(packet)]() mutable {
            self->arrive(towards, std::move(packet), copy > 0, size);
        });
    }
}

// PROTOCOL.md section 4.4: at once when rx has moved since the last answer, else every 250 ms.
void Connection::check_gap_answer(Side& from, std::string_view text) {
    constexpr std::string_view kRx = R"("rx":)";
    if (text.size() > 1'000 || text.find(R"("gap":true)") == std::string_view::npos) return;
    const std::size_t at = text.find(kRx);
    if (at == std::string_view::npos) return;
    const std::string_view rest = text.substr(at + kRx.size());
    const std::string_view rx = rest.substr(0, rest.find_first_not_of("0123456789"));
    if (rx != from.gap_rx || schedule_.now() - from.gap_at >= std::chrono::milliseconds{250}) {
        from.gap_rx = rx;
        from.gap_at = schedule_.now();
        from.gaps = 0;
    }
    // A few more may be due: rx had moved, and each time a failed commit took it back.
    if (++from.gaps > 4) on_violation_("a gap is answered again and again: " + label_);
}

void Connection::arrive(End towards, std::string text, bool is_copy, std::size_t size) {
    if (is_severed_ && towards == End::kServer && schedule_.now() < late_until_) {
        // In order, somewhere within what is left of the time.
        Side& to = side(towards);
        to.last_arrival =
            std::max(schedule_.random(schedule_.now() - TimePoint{}, late_until_ - TimePoint{}) +
                         TimePoint{},
                     to.last_arrival);
        const auto self = shared_from_this();
        schedule_.at(std::min(to.last_arrival, late_until_),
                     [self, towards, is_copy, packet = std::move(text)]() mutable {
                         self->deliver(towards, std::move(packet), is_copy);
                     });
        return;
    }
    Side& origin = side(other(towards));
    if (!is_copy) {
        origin.queued_bytes -= size;
        --origin.queued_packets;
    }
    deliver(towards, std::move(text), is_copy);
    if (!is_copy && origin.queued_bytes == 0 && is_open_ && !is_severed_ &&
        origin.endpoint != nullptr && !origin.was_told_closed) {
        origin.endpoint->on_drained();
    }
}

void Connection::deliver(End towards, std::string text, bool is_copy) {
    if (!is_open_ || (is_severed_ && towards == End::kClient)) return;
    Side& to = side(towards);
    if (to.endpoint == nullptr) return;
    schedule_.note(text);
    const std::string_view arrow =
        towards == End::kServer ? (is_copy ? "=>>" : "-->") : (is_copy ? "<<=" : "<--");
    chart(arrow, text);
    to.endpoint->on_packet(text);
}

void Connection::chart(std::string_view what, std::string_view text) {
    std::string line = label_;
    line.resize(std::max<std::size_t>(line.size(), 6), ' ');
    line.append(" ").append(what).append(" #").append(std::to_string(number_)).append("  ");
    chart_(line.append(text));
}

void Connection::close(End from, std::uint16_t code, std::string_view reason,
                       bool goes_on_listening) {
    if (!is_open_ || side(from).was_told_closed) return;
    side(from).was_told_closed = true;
    side(from).is_lingering = goes_on_listening;
    if (!goes_on_listening) side(from).endpoint = nullptr;
    chart(from == End::kClient ? "--|" : "|--",
          "closed with " + std::to_string(code) + " " + std::string(reason));
    if (is_severed_ || side(other(from)).is_muted) return;
    const auto self = shared_from_this();
    schedule_.at(arrival(other(from), 0), [self, from, code, why = std::string(reason)] {
        if (!self->is_open_ || self->is_severed_) return;
        self->is_open_ = false;
        self->tell_closed(other(from), code, why);
        self->tell_closed(from, 1000, "");  // If it lingers.
    });
}

void Connection::cut(bool tell_client, bool tell_server, Duration late) {
    if (!is_open_ || is_severed_) return;
    chart("-/-", std::string("cut") + (tell_client ? ", client told" : "") +
                     (tell_server ? ", server told" : "") +
                     (late > Duration{0} ? ", what is under way arrives late" : ""));
    const auto self = shared_from_this();
    if (tell_client) {
        schedule_.after({}, [self] { self->tell_closed(End::kClient, 1006, "cut"); });
    }
    if (late > Duration{0}) {
        is_severed_ = true;
        late_until_ = schedule_.now() + late;
        schedule_.at(late_until_, [self, tell_server] {
            self->is_open_ = false;
            if (tell_server) self->tell_closed(End::kServer, 1006, "cut");
        });
        return;
    }
    is_open_ = false;
    if (tell_server) {
        schedule_.after({}, [self] { self->tell_closed(End::kServer, 1006, "cut"); });
    }
}

void Connection::stall(End towards, Duration duration) {
    Side& to = side(towards);
    to.stalled_until = std::max(to.stalled_until, schedule_.now() + duration);
}

void Connection::slow_down(End towards, Duration duration, std::uint64_t bytes_per_second) {
    Side& to = side(towards);
    to.slow_until = schedule_.now() + duration;
    to.bytes_per_second = bytes_per_second;
}

void Connection::mute(End towards) {
    chart("-/-", towards == End::kServer ? "half-open: nothing reaches the server any more"
                                         : "half-open: nothing reaches the client any more");
    side(towards).is_muted = true;
}

void Connection::tell_closed(End end, std::uint16_t code, std::string_view reason) {
    Side& side = this->side(end);
    if (side.endpoint == nullptr) return;
    if (side.was_told_closed && !std::exchange(side.is_lingering, false)) return;
    side.was_told_closed = true;
    schedule_.note(code);
    side.endpoint->on_closed(code, reason);
}

}  // namespace petrel::sim
