#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/store/store_writer.hpp"

// What a gateway counts, and how it is told: the text format of Prometheus 0.0.4, with its
// conventions for names and units (https://prometheus.io/docs/practices/naming/).

namespace petrel {

// Counts by a number of the protocol: an error code, a close code. The first kCodesMax numbers are
// told apart, those after them only counted.
class CodeCounts {
public:
    static constexpr std::size_t kCodesMax = 32;  // PROTOCOL.md has 25 error codes, 11 of closes.

    void add(int code, std::uint64_t count = 1);
    CodeCounts& operator+=(const CodeCounts& other);
    std::uint64_t of(int code) const;
    std::uint64_t other() const noexcept { return other_; }

    struct Entry {
        int code = 0;
        std::uint64_t count = 0;
    };
    const Entry* begin() const noexcept { return entries_.data(); }  // As they came.
    const Entry* end() const noexcept { return entries_.data() + size_; }

private:
    std::array<Entry, kCodesMax> entries_{};
    std::size_t size_ = 0;
    std::uint64_t other_ = 0;
};

// Of all sessions of a shard. Plain numbers: the shard's thread counts, and only it reads. To add
// one, write it here and into the table of metrics.cpp; without that it does not compile.
struct SessionCounters {
    std::uint64_t connections = 0;  // Ever accepted.
    std::uint64_t packets_in = 0, packets_out = 0, bytes_in = 0, bytes_out = 0;
    std::uint64_t malformed = 0, ignored = 0, unknown_acks = 0;
    std::uint64_t logins_accepted = 0, logins_refused = 0;
    std::uint64_t accepted = 0, duplicates = 0, refused = 0, failed = 0;
    std::uint64_t rate_limited = 0;
    std::uint64_t acks_in = 0, acks_out = 0;
    std::uint64_t pushed = 0, retransmitted = 0, handled = 0, direct_dropped = 0;
    CodeCounts logins;          // By the code of the answer.
    CodeCounts errors;          // Packets 52, by code.
    CodeCounts closes;          // By the gateway.
    CodeCounts closes_by_peer;  // And lost ones (1006).

    SessionCounters& operator+=(const SessionCounters& other);
};

// How a shard stands now.
struct ShardFigures {
    SessionCounters counters;
    std::uint64_t connections = 0;
    std::uint64_t sessions_v1 = 0, sessions_im_sdk = 0, sessions_mobileimsdk = 0;  // Logged in.
    std::uint64_t users = 0;  // Whose home it is, with a session.
    std::uint64_t in_flight = 0;
    std::uint64_t backlog = 0, backlog_max = 0;            // Of one session: the largest.
    std::uint64_t queued_bytes = 0, queued_bytes_max = 0;  // On sockets.

    ShardFigures& operator+=(const ShardFigures& other);
};

struct GatewayFigures {
    ShardFigures shards;  // Sum.
    StoreWriter::Stats store;
    std::uint64_t connections_before_login = 0;
    std::uint64_t connections_refused = 0;  // No room (HTTP 503), since the start.
    bool is_draining = false;
};

// Families of samples, one after the other:
//   text.family("petrel_connections", "gauge", "Open connections").sample(3);
class MetricsText {
public:
    // `name` and `help` are literals without backslashes and newlines.
    MetricsText& family(std::string_view name, std::string_view type, std::string_view help);
    MetricsText& sample(std::uint64_t value) { return sample({}, {}, value); }
    MetricsText& sample(std::string_view label, std::string_view label_value, std::uint64_t value);
    MetricsText& sample_real(double value);
    MetricsText& samples(std::string_view label, const CodeCounts& counts);
    MetricsText& histogram(const Histogram& values);
    const std::string& text() const noexcept { return text_; }

private:
    void begin(std::string_view suffix, std::string_view label, std::string_view label_value);
    void append(double value);

    std::string text_;
    std::string name_;
};

void write_metrics(const GatewayFigures& figures, MetricsText& text);

}  // namespace petrel
