#include "tests/simulation/network.hpp"

#include <algorithm>
#include <iterator>

namespace petrel::sim {
namespace {

constexpr double kDrop = 0.05;
constexpr double kDuplicate = 0.03;
constexpr double kGarbage = 0.002;

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

TimePoint Connection::arrival(End towards) {
    Side& to = side(towards);
    const Duration delay = faults_.delay ? schedule_.random(std::chrono::milliseconds{5},
                                                            std::chrono::milliseconds{200})
                                         : Duration(std::chrono::milliseconds{1});
    TimePoint when = std::max(schedule_.now() + delay, to.stalled_until);
    when = std::max(when, to.last_arrival);
    to.last_arrival = when;
    return when;
}

void Connection::send(End from, std::string_view text) {
    if (!is_open_ || schedule_.chance(faults_.drop ? kDrop : 0)) return;
    const End towards = other(from);
    Side& sender = side(from);
    const int copies = schedule_.chance(faults_.duplicate ? kDuplicate : 0) ? 2 : 1;
    for (int copy = 0; copy < copies; ++copy) {
        std::string packet(text);
        if (schedule_.chance(faults_.garbage ? kGarbage : 0)) {
            // What integrity checks below us let through: cut short, or something else entirely.
            static constexpr std::string_view kJunk[] = {"",
                                                         "null",
                                                         "[]",
                                                         "{}",
                                                         "not json",
                                                         R"({"type":77})",
                                                         R"({"type":"x"})",
                                                         R"({"type":57,"dataContent":"?"})",
                                                         "\xff\xfe"};
            if (schedule_.chance(0.5) && !packet.empty()) {
                packet.resize(schedule_.random(0, packet.size() - 1));
            } else {
                packet = kJunk[schedule_.random(0, std::size(kJunk) - 1)];
            }
        }
        if (copy == 0) {
            sender.queued_bytes += text.size();
            ++sender.queued_packets;
        }
        const auto self = shared_from_this();
        schedule_.at(arrival(towards), [self, towards, size = text.size(), copy,
                                        packet = std::move(packet)]() mutable {
            const End back = other(towards);
            Side& origin = self->side(back);
            if (copy == 0) {
                origin.queued_bytes -= size;
                --origin.queued_packets;
            }
            self->deliver(towards, std::move(packet), copy > 0);
            if (copy == 0 && origin.queued_bytes == 0 && self->is_open_ &&
                origin.endpoint != nullptr) {
                origin.endpoint->on_drained();
            }
        });
    }
}

void Connection::deliver(End towards, std::string text, bool is_copy) {
    if (!is_open_) return;
    Side& to = side(towards);
    if (to.endpoint == nullptr || to.was_told_closed) return;
    for (const char c : text) schedule_.note(static_cast<unsigned char>(c));
    chart_(std::string(towards == End::kServer ? "C>S " : "S>C ") + "#" + std::to_string(number_) +
           (is_copy ? " again " : " ") + text);
    to.endpoint->on_packet(text);
}

void Connection::close(End from, std::uint16_t code, std::string_view reason) {
    if (!is_open_) return;
    side(from).was_told_closed = true;
    side(from).endpoint = nullptr;
    const auto self = shared_from_this();
    schedule_.at(arrival(other(from)), [self, from, code, why = std::string(reason)] {
        if (!self->is_open_) return;
        self->is_open_ = false;
        self->tell_closed(other(from), code, why);
    });
}

void Connection::cut(bool tell_client, bool tell_server) {
    if (!is_open_) return;
    is_open_ = false;
    chart_("--- #" + std::to_string(number_) + " cut" + (tell_client ? ", client told" : "") +
           (tell_server ? ", server told" : ""));
    const auto self = shared_from_this();
    if (tell_client) {
        schedule_.after({}, [self] { self->tell_closed(End::kClient, 1006, "cut"); });
    }
    if (tell_server) {
        schedule_.after({}, [self] { self->tell_closed(End::kServer, 1006, "cut"); });
    }
}

void Connection::stall(End towards, Duration duration) {
    Side& to = side(towards);
    to.stalled_until = std::max(to.stalled_until, schedule_.now() + duration);
}

void Connection::tell_closed(End end, std::uint16_t code, std::string_view reason) {
    Side& side = this->side(end);
    if (side.was_told_closed || side.endpoint == nullptr) return;
    side.was_told_closed = true;
    schedule_.note(code);
    side.endpoint->on_closed(code, reason);
}

}  // namespace petrel::sim
