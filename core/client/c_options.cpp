#include "core/client/c_options.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "protocol/codec.hpp"
#include "protocol/utf8.hpp"
#include "transport/tls.hpp"

namespace petrel {

namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

constexpr std::int64_t kMsMax = 3'153'600'000'000;  // 100 years: no sum overflows.
constexpr std::uint64_t kCountMax = std::uint64_t{1} << 40;
constexpr std::size_t kNameMax = 4096;  // Bytes of a url or a file name.
constexpr std::size_t kDeviceMax = 64;  // PROTOCOL.md section 4.2.
// Older than any petrel.h: no struct ever had less.
constexpr std::uint32_t kSizeMin = 8;

// Every number of petrel_client_options with its place in ClientOptions, once for both ways.
template <class C, class Options, class Visit>
void for_each_number(C& c, Options& o, Visit visit) {
    auto& engine = o.engine;
    visit.flag(c.require_v1, engine.require_v1);
    visit.flag(c.tls_insecure, o.connect.tls.is_insecure);
    visit.flag(c.manual_confirm, engine.manual_confirm);
    visit.count(c.window, engine.window);
    visit.count(c.window_bytes, engine.window_bytes);

    visit.ms(c.expires_after_ms, engine.expires_after);
    visit.count(c.payload_max, engine.payload_max);
    visit.count(c.socket_packets_max, engine.socket_packets_max);
    visit.count(c.socket_bytes_max, engine.socket_bytes_max);
    visit.count(c.echoes_max, engine.echoes_max);
    visit.count(c.confirm_ahead_max, engine.confirm_ahead_max);
    visit.count(c.unhandled_max, engine.unhandled_max);
    visit.count(c.notices_max, engine.notices_max);
    visit.count(c.events_max, o.events_max);
    visit.ms(c.linger_max_ms, o.linger_max);
    visit.ms(c.handshake_timeout_ms, o.connect.handshake_timeout);
    visit.count(c.frame_bytes_max, o.connect.frame_bytes_max);

    auto& relogin = engine.relogin;
    visit.ms(c.backoff_base_ms, relogin.backoff_base);
    visit.ms(c.backoff_max_ms, relogin.backoff_max);
    visit.ms(c.stable_after_ms, relogin.stable_after);
    visit.ms(c.connect_timeout_ms, relogin.connect_timeout);
    visit.ms(c.login_timeout_ms, relogin.login_timeout);
    visit.ms_or_none(c.relogin_first_ms, relogin.fixed_first);
    visit.ms_or_none(c.relogin_interval_ms, relogin.fixed_interval);
    visit.ms(c.told_max_ms, relogin.told_max);

    auto& keepalive = engine.keepalive;
    visit.ms(c.heartbeat_interval_ms, keepalive.interval);
    visit.ms(c.heartbeat_interval_min_ms, keepalive.interval_min);
    visit.ms(c.ack_timeout_min_ms, keepalive.round_trip.timeout_min);
    visit.ms(c.ack_timeout_max_ms, keepalive.round_trip.timeout_max);
    visit.ms_or_none(c.patience_ms, keepalive.patience);
    visit.ms(c.late_after_ms, keepalive.late.late_after);
    visit.ms(c.late_grace_ms, keepalive.late.late_grace);

    auto& send = engine.send;
    visit.count(c.send_window_packets_max, send.window_packets_max);
    visit.count(c.send_window_bytes_max, send.window_bytes_max);
    visit.count(c.kept_max, send.kept_max);
    visit.count(c.kept_bytes_max, send.kept_bytes_max);
    visit.ms(c.pause_max_ms, send.pause_max);
    visit.ms(c.send_check_period_ms, send.check_period);
    visit.ms(c.retry_not_younger_ms, send.retry_not_younger);
    visit.count(c.late_ack_memory, send.late_ack_memory);

    auto& receive = engine.receive;
    visit.count(c.ack_every_max, receive.ack_every_max);
    visit.ms(c.ack_delay_max_ms, receive.ack_delay_max);
    visit.ms(c.gap_interval_ms, receive.gap_interval);
    visit.ms(c.dedup_memory_ms, receive.dedup_memory);
    visit.ms(c.dedup_sweep_ms, receive.dedup_sweep);
    visit.count(c.dedup_entries_max, receive.dedup_entries_max);
}

// ClientOptions' defaults into C.
struct Show {
    void flag(std::uint32_t& c, bool o) { c = o ? 1 : 0; }
    template <class C, class O>
    void count(C& c, const O& o) {
        c = static_cast<C>(o);
    }
    template <class O>
    void ms(std::int64_t& c, const O& o) {
        c = duration_cast<milliseconds>(o).count();
    }
    void ms_or_none(std::int64_t& c, const std::optional<Duration>& o) {
        c = o ? duration_cast<milliseconds>(*o).count() : -1;
    }
};

// What C says into ClientOptions.
struct Take {
    bool& is_good;

    void flag(std::uint32_t c, bool& o) {
        is_good &= c <= 1;
        o = c != 0;
    }
    template <class C, class O>
    void count(const C& c, O& o) {
        constexpr std::uint64_t kMost =
            std::min<std::uint64_t>(kCountMax, std::numeric_limits<O>::max());
        is_good &= c <= kMost;
        o = static_cast<O>(std::min<std::uint64_t>(c, kMost));
    }
    template <class O>
    void ms(std::int64_t c, O& o) {
        is_good &= c >= 0 && c <= kMsMax;
        o = milliseconds(std::clamp<std::int64_t>(c, 0, kMsMax));
    }
    void ms_or_none(std::int64_t c, std::optional<Duration>& o) {
        if (c == -1) {
            o.reset();
            return;
        }
        ms(c, o.emplace());
    }
};

bool take_text(const char* from, std::size_t size_max, std::string& to) {
    if (from == nullptr) from = "";
    const std::size_t size = strnlen(from, size_max + 1);
    if (size > size_max || !is_valid_utf8({from, size})) return false;
    to.assign(from, size);
    return true;
}

}  // namespace

petrel_client_options default_client_options() {
    petrel_client_options c;
    std::memset(&c, 0, sizeof c);
    c.struct_size = sizeof c;
    c.log_level = PETREL_LOG_INFO;
    const ClientOptions o;
    for_each_number(c, o, Show{});
    c.send_retries = o.engine.send.retries.value_or(0);
    return c;
}

petrel_send_options default_send_options() {
    petrel_send_options c;
    std::memset(&c, 0, sizeof c);
    c.struct_size = sizeof c;
    c.typeu = PETREL_TYPEU_SINGLE;
    c.expires_after_ms = -1;
    c.qos = 1;
    return c;
}

bool write_sized(void* to, std::size_t size, const void* from, std::size_t known) {
    if (size < kSizeMin || size > std::numeric_limits<std::uint32_t>::max()) return false;
    std::memset(to, 0, size);
    std::memcpy(to, from, std::min(size, known));
    // The caller's own size: read_sized reads no further.
    const auto told = static_cast<std::uint32_t>(size);
    std::memcpy(to, &told, sizeof told);
    return true;
}

bool read_sized(void* to, std::size_t known, const void* from) {
    std::uint32_t size = 0;
    std::memcpy(&size, from, sizeof size);
    // A struct that was never initialised has any size: look no further than a plausible one.
    if (size < kSizeMin || size > 16 * known) return false;
    const auto* const bytes = static_cast<const unsigned char*>(from);
    for (std::size_t i = known; i < size; ++i) {
        if (bytes[i] != 0) return false;
    }
    std::memcpy(to, from, std::min<std::size_t>(size, known));
    return true;
}

namespace {

// Words with spaces between.
bool take_pins(const char* from, std::vector<std::string>& pins) {
    constexpr std::size_t kPinsMax = 16;
    std::string text;
    if (!take_text(from, kNameMax, text)) return false;
    std::istringstream words(text);
    for (std::string pin; words >> pin;) {
        if (pins.size() == kPinsMax || !is_key_pin(pin)) return false;
        pins.push_back(pin);
    }
    return true;
}

}  // namespace

std::int32_t read_options(const petrel_client_options& from, ClientOptions& to, const char*& why) {
    EngineOptions& engine = to.engine;
    std::string profile_name;
    why = "a name is too long or not UTF-8";
    const CodecLimits wire;
    if (!take_text(from.url, kNameMax, to.connect.url) ||
        !take_text(from.user, wire.id_bytes_max, engine.user) ||
        !take_text(from.token, wire.token_bytes_max, engine.token) ||
        !take_text(from.app, wire.id_bytes_max, engine.app) ||
        !take_text(from.device, kDeviceMax, engine.device) ||
        !take_text(from.extra, wire.token_bytes_max, engine.extra) ||
        !take_text(from.profile, kNameMax, profile_name) ||
        !take_text(from.tls_ca_file, kNameMax, to.connect.tls.ca_file)) {
        return PETREL_BAD_ARGUMENT;
    }
    why = "tls_pins are not at most 16 of 44 characters each, the base64 of a SHA-256";
    if (!take_pins(from.tls_pins, to.connect.tls.pins)) return PETREL_BAD_ARGUMENT;
    // Else they would be given and never looked at.
    why = "tls_pins need a wss:// url";
    if (!to.connect.tls.pins.empty() && to.connect.url.rfind("ws://", 0) == 0) {
        return PETREL_BAD_ARGUMENT;
    }
    why = "a name is too long or not UTF-8";
    std::string device_class;
    if (!take_text(from.device_class, kNameMax, device_class)) return PETREL_BAD_ARGUMENT;
    if (!device_class.empty()) {
        why = "device_class is none of mobile, desktop, web, other";
        if (device_class != "mobile" && device_class != "desktop" && device_class != "web" &&
            device_class != "other") {
            return PETREL_BAD_ARGUMENT;
        }
        engine.device_class = device_class;
    }
    if (!profile_name.empty()) {
        why = "profile is none of petrel.v1, im-sdk, mobileimsdk";
        const auto id = profile_by_name(profile_name);
        if (!id) return PETREL_BAD_ARGUMENT;
        engine.profile = *id;
    }
    why = "user is missing";
    if (engine.user.empty()) return PETREL_BAD_ARGUMENT;
    why = "url is missing";
    if (to.connect.url.empty()) return PETREL_NO_SERVER_ADDRESS;

    bool is_good = true;
    for_each_number(from, to, Take{is_good});
    why = "a number is out of range";
    if (!is_good || from.log_level < PETREL_LOG_DEBUG || from.log_level > PETREL_LOG_NONE) {
        return PETREL_BAD_ARGUMENT;
    }
    engine.send.retries = from.send_retries;
    // One process, one idea of lateness.
    engine.relogin.patience = engine.keepalive.late;
    why = "";
    return PETREL_OK;
}

std::optional<SendRequest> read_send(const petrel_send_options& from) {
    SendRequest request;
    request.typeu = from.typeu;
    if (from.qos > 1) return std::nullopt;
    request.qos = from.qos == 1;
    if (from.fingerprint != nullptr && *from.fingerprint != '\0') {
        const std::size_t size = strnlen(from.fingerprint, Fingerprint::kTextMax + 1);
        const auto fp = Fingerprint::parse({from.fingerprint, size});
        if (!fp) return std::nullopt;
        request.fp = *fp;
    }
    if (from.expires_after_ms != -1) {
        if (from.expires_after_ms < 0 || from.expires_after_ms > kMsMax) return std::nullopt;
        request.expires_after = milliseconds(from.expires_after_ms);
    }
    return request;
}

}  // namespace petrel
