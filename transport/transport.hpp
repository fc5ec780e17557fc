#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/error.hpp"
#include "transport/connection_limits.hpp"

// The contract that every carrier of packets keeps: both WebSockets, the loopback pair, what a host
// supplies. One conformance suite (tests/transport) runs on each.

namespace petrel {

// How a connection ended, or why there never was one.
struct CloseInfo {
    std::uint16_t code = 1006;  // Of the peer's close frame, or of our own; 1006: there was none.
    std::string reason;         // The peer's, or a sentence about what went wrong.
    bool was_open = false;      // on_open had been called.
    int http_status = 0;        // Of a refused upgrade.
    std::optional<std::chrono::seconds> retry_after;  // Its Retry-After.
};

// One connection. Single-threaded: lives on its EventLoop. Handler calls come from the loop only,
// never from inside a call to this object. Messages arrive whole and in order.
class Transport {
public:
    class Handler {
    public:
        // A connecting one only; an accepted one is open from the start.
        virtual void on_open(std::string_view subprotocol) = 0;  // "" when the server chose none.
        virtual void on_text(std::string_view text) = 0;         // Valid during the call.
        virtual void on_binary(std::size_t size) = 0;            // A data frame nobody speaks.
        virtual void on_drained() = 0;  // queued_bytes() reached 0 after it had been above 0.
        virtual void on_closed(const CloseInfo& info) = 0;  // Once, and last.

    protected:
        ~Handler() = default;
    };

    // Destroying is allowed at any time, also from inside a Handler call: no call follows. After
    // close() what was queued and the close frame still go out in the background (5 s at most);
    // without it the socket is cut.
    virtual ~Transport() = default;

    // Accepted transports only, before returning from on_accept.
    virtual void set_handler(Handler& handler) = 0;

    // Queues one text frame, copied. Ignored unless open. All that is queued in one turn leaves in
    // as few writes as possible.
    virtual void send(std::string_view text) = 0;

    // Starts the closing handshake (or abandons the attempt); on_closed follows within 5 s. Second
    // calls are ignored. `reason` is cut at 123 bytes (RFC 6455 section 5.5).
    virtual void close(std::uint16_t code, std::string_view reason) = 0;

    // Given to send() and not yet to the kernel. The caller limits it: nothing here does.
    virtual std::size_t queued_bytes() const = 0;
    virtual std::size_t queued_packets() const = 0;
};

struct TlsClientOptions {
    std::string ca_file;       // PEM; "" = the system's.
    bool is_insecure = false;  // Verifies nothing but pins. Whoever sets it says so in its log.
    // Base64 of the SHA-256 of a public key (RFC 7469 section 2.4). Unless empty, one of them must
    // be the server's; without is_insecure one of its verified authorities' will do too.
    std::vector<std::string> pins;
};

struct ConnectOptions {
    std::string url;                                      // ws://host[:port]/path or wss://...
    std::string subprotocol;                              // Asked for; "" = none.
    std::chrono::milliseconds handshake_timeout{10'000};  // DNS, TCP, TLS and upgrade together.
    std::size_t frame_bytes_max = 6 * 65'536 + 4096;      // Of a message received; above: 1009.
    TlsClientOptions tls;
};

// Makes connecting transports. An unusable URL is reported by on_closed, like any failure.
class Connector {
public:
    virtual ~Connector() = default;
    virtual std::unique_ptr<Transport> connect(const ConnectOptions& options,
                                               Transport::Handler& handler) = 0;
};

class TlsServer;  // transport/tls.hpp

struct ListenOptions {
    std::string address = "127.0.0.1";
    std::uint16_t port = 0;                                       // 0 picks one.
    bool reuse_port = false;                                      // Several shards on one port.
    std::vector<std::string> paths = {"/ws", "/websocket", "/"};  // Upgrades elsewhere: 404.
    std::size_t frame_bytes_max = 6 * 65'536 + 4096;              // Above: close 1009.
    std::chrono::milliseconds handshake_timeout{10'000};          // TLS and upgrade together.
    // Request line and headers: 431 above. What others allow too (nginx, Apache); a token in a
    // cookie fits. Never above 16,000, where the parser gives up.
    std::size_t header_bytes_max = 8192;
    // Web pages that may connect, as "https://chat.example"; others: 403. Empty: all. Clients
    // that send no Origin, as apps do, always may: whoever is no browser can write any Origin.
    std::vector<std::string> origins;
    // Never nullptr; shared by the listeners of a gateway, as by all copies. Beyond: HTTP 503.
    std::shared_ptr<ConnectionLimits> limits =
        std::make_shared<ConnectionLimits>(ConnectionLimits::Options{});
    std::string tls_cert_file;  // PEM chain; "" = plain ws.
    std::string tls_key_file;
    // Wins over the files: shared by several listeners, and reloaded by whoever else holds it.
    std::shared_ptr<TlsServer> tls;
    // The answer to a plain GET of a path in `paths`; 404 for others.
    std::string http_page = "A WebSocket endpoint.\n";
};

struct PeerInfo {
    std::string address;  // "127.0.0.1:40312"
    std::string path;
    std::weak_ptr<ConnectionLimits::Place> place;  // Ends with the connection.
    std::string subprotocol;  // What the client asked for and we echoed: petrel.v1 if it was among
                              // them, else the first; "" when it asked for none.
};

class Listener {
public:
    class Handler {
    public:
        // The handshake is done. The handler keeps the transport (or drops it: cut).
        virtual void on_accept(std::unique_ptr<Transport> transport, const PeerInfo& peer) = 0;

    protected:
        ~Handler() = default;
    };

    virtual ~Listener() = default;  // Stops.
    virtual Result<std::uint16_t> listen(const ListenOptions& options, Handler& handler) = 0;
    // What went wrong in the last failed listen(), for a person.
    virtual std::string last_error() const = 0;
    virtual void stop() = 0;  // No further on_accept. Idempotent; accepted ones live on.
};

}  // namespace petrel
