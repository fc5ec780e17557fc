#include "core/gateway/metrics.hpp"

#include <algorithm>
#include <charconv>

#include "protocol/error.hpp"

namespace petrel {
namespace {

struct CounterRow {
    std::uint64_t SessionCounters::*counter;
    const char* name;
    const char* help;
};

constexpr CounterRow kCounters[] = {
    {&SessionCounters::connections, "petrel_connections_accepted_total",
     "WebSocket connections that were opened"},
    {&SessionCounters::packets_in, "petrel_received_packets_total", "Packets from clients"},
    {&SessionCounters::packets_out, "petrel_sent_packets_total", "Packets to clients"},
    {&SessionCounters::bytes_in, "petrel_received_bytes_total", "Bytes of packets from clients"},
    {&SessionCounters::bytes_out, "petrel_sent_bytes_total", "Bytes of packets to clients"},
    {&SessionCounters::malformed, "petrel_protocol_errors_total",
     "Frames that were no valid packet"},
    {&SessionCounters::ignored, "petrel_ignored_packets_total",
     "Packets of an unknown type or of the other direction"},
    {&SessionCounters::unknown_acks, "petrel_acks_unknown_total",
     "Acks of clients for what was not in flight"},
    {&SessionCounters::logins_accepted, "petrel_logins_accepted_total", "Logins that succeeded"},
    {&SessionCounters::logins_refused, "petrel_logins_refused_total", "Logins that were refused"},
    {&SessionCounters::accepted, "petrel_messages_accepted_total",
     "Messages of sessions that were committed to the store"},
    {&SessionCounters::duplicates, "petrel_messages_duplicate_total",
     "Messages that came again and were not stored again"},
    {&SessionCounters::refused, "petrel_messages_refused_total",
     "Messages that were refused for good"},
    {&SessionCounters::failed, "petrel_messages_failed_total",
     "Messages that the store could not commit (302)"},
    {&SessionCounters::rate_limited, "petrel_messages_rate_limited_total",
     "Messages beyond their session's rate (302)"},
    {&SessionCounters::acks_in, "petrel_acks_received_total", "Ack packets of clients"},
    {&SessionCounters::acks_out, "petrel_acks_sent_total", "Ack packets to clients"},
    {&SessionCounters::pushed, "petrel_messages_pushed_total",
     "Messages to receivers, retransmits included"},
    {&SessionCounters::retransmitted, "petrel_messages_retransmitted_total",
     "Messages to receivers that had been sent before on the same connection"},
    {&SessionCounters::handled, "petrel_messages_handled_total",
     "Messages that receivers have acked"},
    {&SessionCounters::direct_dropped, "petrel_messages_without_qos_dropped_total",
     "Messages without QoS that a slow reader did not get"},
};

struct CodesRow {
    CodeCounts SessionCounters::*counts;
    const char* name;
    const char* label;
    const char* help;
};

constexpr CodesRow kCodes[] = {
    {&SessionCounters::logins, "petrel_logins_total", "result",
     "Logins by result: the code of the answer, 0 is success"},
    {&SessionCounters::errors, "petrel_errors_sent_total", "code",
     "Error packets to clients: what was rejected, by code"},
    {&SessionCounters::closes, "petrel_closes_total", "code",
     "Connections that the gateway closed, by close code"},
    {&SessionCounters::closes_by_peer, "petrel_closes_by_peer_total", "code",
     "Connections that clients closed, by close code; 1006: lost"},
};

static_assert(sizeof(SessionCounters) == std::size(kCounters) * sizeof(std::uint64_t) +
                                             std::size(kCodes) * sizeof(CodeCounts),
              "every counter of SessionCounters has its row above");

// What the label `result` of a login says.
std::string login_result(int code) {
    switch (static_cast<Errc>(code)) {
        case Errc::kOk: return "accepted";
        case Errc::kInvalidPacket: return "invalid";
        case Errc::kBadToken: return "bad_token";
        case Errc::kTokenExpired: return "token_expired";
        case Errc::kForbidden: return "forbidden";
        case Errc::kUnknownApp: return "unknown_app";
        case Errc::kSuperseded: return "superseded";
        case Errc::kLoginBusy: return "busy";
        default: return std::to_string(code);
    }
}

constexpr const char* kFaultNames[] = {"other", "full", "read_only", "io", "in_use", "damaged"};
static_assert(std::size(kFaultNames) == kStoreFaults);

}  // namespace

void CodeCounts::add(int code, std::uint64_t count) {
    for (std::size_t i = 0; i < size_; ++i) {
        if (entries_[i].code != code) continue;
        entries_[i].count += count;
        return;
    }
    if (size_ == kCodesMax) {
        other_ += count;
    } else {
        entries_[size_++] = Entry{code, count};
    }
}

CodeCounts& CodeCounts::operator+=(const CodeCounts& other) {
    for (const Entry& entry : other) add(entry.code, entry.count);
    other_ += other.other_;
    return *this;
}

std::uint64_t CodeCounts::of(int code) const {
    const Entry* const found =
        std::find_if(begin(), end(), [&](const Entry& entry) { return entry.code == code; });
    return found == end() ? 0 : found->count;
}

SessionCounters& SessionCounters::operator+=(const SessionCounters& other) {
    for (const CounterRow& row : kCounters) this->*row.counter += other.*row.counter;
    for (const CodesRow& row : kCodes) this->*row.counts += other.*row.counts;
    return *this;
}

ShardFigures& ShardFigures::operator+=(const ShardFigures& other) {
    counters += other.counters;
    connections += other.connections;
    sessions_v1 += other.sessions_v1;
    sessions_im_sdk += other.sessions_im_sdk;
    sessions_mobileimsdk += other.sessions_mobileimsdk;
    users += other.users;
    in_flight += other.in_flight;
    backlog += other.backlog;
    backlog_max = std::max(backlog_max, other.backlog_max);
    queued_bytes += other.queued_bytes;
    queued_bytes_max = std::max(queued_bytes_max, other.queued_bytes_max);
    return *this;
}

// ---- text ----

MetricsText& MetricsText::family(std::string_view name, std::string_view type,
                                 std::string_view help) {
    name_ = name;
    for (const auto& [key, value] : {std::pair{"# HELP ", help}, std::pair{"# TYPE ", type}}) {
        text_ += key;
        text_ += name;
        text_ += ' ';
        text_ += value;
        text_ += '\n';
    }
    return *this;
}

void MetricsText::begin(std::string_view suffix, std::string_view label,
                        std::string_view label_value) {
    text_ += name_;
    text_ += suffix;
    if (!label.empty()) {
        text_ += '{';
        text_ += label;
        text_ += "=\"";
        for (const char c : label_value) {
            if (c == '\n') {
                text_ += "\\n";
                continue;
            }
            if (c == '\\' || c == '"') text_ += '\\';
            text_ += c;
        }
        text_ += "\"}";
    }
    text_ += ' ';
}

MetricsText& MetricsText::sample(std::string_view label, std::string_view label_value,
                                 std::uint64_t value) {
    begin({}, label, label_value);
    text_ += std::to_string(value);
    text_ += '\n';
    return *this;
}

void MetricsText::append(double value) {
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    text_.append(digits.data(), end);
}

MetricsText& MetricsText::sample_real(double value) {
    begin({}, {}, {});
    append(value);
    text_ += '\n';
    return *this;
}

MetricsText& MetricsText::samples(std::string_view label, const CodeCounts& counts) {
    for (const CodeCounts::Entry& entry : counts) {
        const bool is_login = label == "result";
        sample(label, is_login ? login_result(entry.code) : std::to_string(entry.code),
               entry.count);
    }
    if (counts.other() > 0) sample(label, "other", counts.other());
    return *this;
}

MetricsText& MetricsText::histogram(const Histogram& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::array<char, 32> digits{};
        const auto end =
            std::to_chars(digits.data(), digits.data() + digits.size(), values.bound(i)).ptr;
        begin("_bucket", "le", std::string_view(digits.data(), end - digits.data()));
        text_ += std::to_string(values.count_up_to(i));
        text_ += '\n';
    }
    begin("_bucket", "le", "+Inf");
    text_ += std::to_string(values.count());
    text_ += '\n';
    begin("_sum", {}, {});
    append(values.sum());
    text_ += '\n';
    begin("_count", {}, {});
    text_ += std::to_string(values.count());
    text_ += '\n';
    return *this;
}

void write_metrics(const GatewayFigures& figures, MetricsText& text) {
    const ShardFigures& shards = figures.shards;
    const auto gauge = [&](const char* name, const char* help, std::uint64_t value) {
        text.family(name, "gauge", help).sample(value);
    };
    gauge("petrel_connections", "Open connections", shards.connections);
    gauge("petrel_connections_before_login", "Open connections that have not logged in",
          figures.connections_before_login);
    text.family("petrel_connections_refused_total", "counter",
                "Connections for which there was no room (503)")
        .sample(figures.connections_refused);
    text.family("petrel_sessions", "gauge", "Sessions that are logged in, by profile")
        .sample("profile", "petrel.v1", shards.sessions_v1)
        .sample("profile", "im-sdk", shards.sessions_im_sdk)
        .sample("profile", "mobileimsdk", shards.sessions_mobileimsdk);
    gauge("petrel_users", "Users with a session", shards.users);
    gauge("petrel_messages_in_flight", "Messages pushed and not yet acked", shards.in_flight);
    gauge("petrel_inbox_backlog_messages",
          "Messages in inboxes that sessions online have not acked yet", shards.backlog);
    gauge("petrel_inbox_backlog_max_messages", "The same of the session that is furthest behind",
          shards.backlog_max);
    gauge("petrel_socket_queue_bytes", "Bytes that wait for sockets", shards.queued_bytes);
    gauge("petrel_socket_queue_max_bytes", "Bytes that wait for the slowest socket",
          shards.queued_bytes_max);
    gauge("petrel_draining", "1 while clients are told to come back later", figures.is_draining);
    for (const CounterRow& row : kCounters) {
        text.family(row.name, "counter", row.help).sample(shards.counters.*row.counter);
    }
    for (const CodesRow& row : kCodes) {
        text.family(row.name, "counter", row.help).samples(row.label, shards.counters.*row.counts);
    }

    const StoreWriter::Stats& store = figures.store;
    gauge("petrel_store_up", "0 while the store cannot write", store.error.empty());
    gauge("petrel_store_queue_requests", "Requests that wait for the store", store.queued);
    gauge("petrel_store_queue_bytes", "Bytes of messages that wait for the store",
          store.queued_bytes);
    text.family("petrel_store_messages_total", "counter", "Messages that were committed")
        .sample(store.appended);
    text.family("petrel_store_requests_failed_total", "counter",
                "Requests that could not be committed")
        .sample(store.failed);
    text.family("petrel_store_commit_failures_total", "counter",
                "Commits that failed, by what the disk said");
    for (std::size_t i = 0; i < kStoreFaults; ++i) {
        text.sample("reason", kFaultNames[i], store.commit_failures[i]);
    }
    text.family("petrel_store_commit_duration_seconds", "histogram",
                "How long transactions took, those that failed included")
        .histogram(store.commit_seconds);
    text.family("petrel_store_commit_batch_requests", "histogram", "Requests of a transaction")
        .histogram(store.batch_requests);
}

}  // namespace petrel
