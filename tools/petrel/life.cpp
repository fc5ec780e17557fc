#include "tools/petrel/life.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

namespace petrel::tools {
namespace {

int stage_of(std::string_view event) {
    if (event == "submitted" || event == "queued") return 0;
    if (event == "attempt") return 1;
    if (event == "storm") return 2;
    if (event == "received" || event == "committed" || event == "duplicate" || event == "refused") {
        return 3;
    }
    if (event == "pushed") return 5;
    if (event == "arrived") return 6;
    if (event == "message" || event == "handed") return 7;
    if (event == "handled") return 8;
    if (event == "receipt") return 9;
    return 4;  // An outcome.
}

std::string device_of(const LogEvent& event) {
    std::string device(event.app);
    device.append("/").append(event.user).append("/").append(event.device);
    return device;
}

void add_text(std::string& detail, std::string_view name, std::string_view value) {
    if (value.empty()) return;
    if (!detail.empty()) detail += ", ";
    detail.append(name).append(name.empty() ? "" : " ").append(value);
}

void add_number(std::string& detail, std::string_view name,
                const std::optional<std::uint64_t>& value) {
    if (value) add_text(detail, name, std::to_string(*value));
}

std::string describe(const LogEvent& event) {
    std::string detail;
    add_text(detail, "", event.what);
    add_text(detail, "", event.direction);
    if (!event.from.empty() && !event.to.empty()) {
        std::string way(event.from);
        add_text(detail, "", way.append(" -> ").append(event.to));
    } else {
        add_text(detail, "from", event.from);
        add_text(detail, "to", event.to);
    }
    if (event.app != "default") add_text(detail, "app", event.app);
    add_text(detail, "user", event.user);
    add_text(detail, "device", event.device);
    add_number(detail, "connection", event.conn);
    add_number(detail, "seq", event.seq);
    add_number(detail, "h", event.height);
    add_text(detail, "conversation", event.conv);
    add_number(detail, "cseq", event.cseq);
    add_number(detail, event.event == "pushed" ? "attempt" : "attempts", event.attempts);
    add_number(detail, "code", event.code);
    add_number(detail, "at", event.ts);
    if (event.ms) {
        std::array<char, 64> digits{};
        std::snprintf(digits.data(), digits.size(), "%.3g ms", *event.ms);
        add_text(detail, "", digits.data());
    }
    if (event.is_redelivered) add_text(detail, "", "redelivered");
    return detail;
}

}  // namespace

void Life::see(const LogEvent& event, std::string_view file, std::uint64_t line) {
    bool is_of_this = event.fp == fp_;
    if (event.event == "receipt" && event.delivered && receipts_.size() < kEntriesMax) {
        receipts_.push_back({{stage_of(event.event), std::string(file), line, "receipt",
                              describe(event), event.ts.value_or(0), 0},
                             std::string(event.conv),
                             *event.delivered});
        return;
    }
    if (event.event == "handled" && event.height && open_pushes_ > 0) {
        const std::string device = device_of(event);
        for (Push& push : pushes_) {
            if (push.is_handled || push.seq > *event.height || push.device != device) continue;
            push.is_handled = true;
            --open_pushes_;
            is_of_this = true;
        }
    }
    if (!is_of_this || entries_.size() >= kEntriesMax) return;
    if (event.event == "pushed" && event.seq) {
        pushes_.push_back({device_of(event), *event.seq, false});
        ++open_pushes_;
    }
    if (!event.conv.empty()) conv_ = event.conv;
    if (event.event != "pushed" && event.cseq) cseq_ = *event.cseq;
    entries_.push_back({stage_of(event.event), std::string(file), line, std::string(event.event),
                        describe(event), event.ts.value_or(0), event.conn.value_or(0)});
}

std::vector<Life::Entry> Life::entries() const {
    std::vector<Entry> sorted = entries_;
    for (const Receipt& receipt : receipts_) {
        if (conv_.empty() || receipt.conv != conv_ || receipt.delivered < cseq_) continue;
        sorted.push_back(receipt.entry);
        break;  // The first that covers it.
    }
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const Entry& a, const Entry& b) { return a.stage < b.stage; });
    return sorted;
}

}  // namespace petrel::tools
