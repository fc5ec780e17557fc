// Bytes to a WebSocket listener, over a socket of this machine: whatever comes, it answers or
// closes, and then takes the next connection.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tests/fuzz/check.hpp"
#include "tests/transport/raw_socket.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/native_server.hpp"
#include "transport/transport.hpp"

using namespace petrel;
using petrel::test::RawSocket;

namespace {

constexpr std::string_view kHandshake =
    "GET /ws HTTP/1.1\r\nHost: petrel\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Protocol: petrel.v1\r\n\r\n";
// Turns of the loop in which what was written is read and answered.
constexpr int kTurnsMax = 30;

// Sends back what it gets.
struct Mirror final : Transport::Handler {
    void on_open(std::string_view) override {}
    void on_text(std::string_view text) override { transport->send(text); }
    void on_binary(std::size_t) override {}
    void on_drained() override {}
    void on_closed(const CloseInfo&) override { is_closed = true; }

    bool is_closed = false;
    std::unique_ptr<Transport> transport;
};

class Gate final : public Listener::Handler {
public:
    Gate() {
        ListenOptions options;
        options.frame_bytes_max = 4096;
        const Result<std::uint16_t> port = listener_.listen(options, *this);
        FUZZ_CHECK(static_cast<bool>(port));
        port_ = *port;
    }

    void play(std::string_view bytes) {
        RawSocket raw(RawSocket::connect(port_));
        // The first byte: with a good handshake before it, and where it is cut in two.
        if (bytes.front() & 1) raw.send(kHandshake);
        const std::size_t cut = (static_cast<unsigned char>(bytes.front()) >> 1) % bytes.size();
        bytes.remove_prefix(1);
        raw.send(bytes.substr(0, cut));
        turn(raw);
        raw.send(bytes.substr(std::min(cut, bytes.size())));
        turn(raw);
        raw.end();
        turn(raw);
        mirror_ = {};
    }

private:
    void on_accept(std::unique_ptr<Transport> transport, const PeerInfo&) override {
        mirror_ = std::make_unique<Mirror>();
        transport->set_handler(*mirror_);
        mirror_->transport = std::move(transport);
    }

    // Until nothing more comes, as far as can be told without waiting.
    void turn(RawSocket& raw) {
        for (int i = 0; i < kTurnsMax && !raw.has_ended(); ++i) {
            loop_.post([this] { loop_.post([this] { loop_.stop(); }); });
            loop_.run();
        }
    }

    AsioEventLoop loop_;
    NativeListener listener_{loop_};
    std::uint16_t port_ = 0;
    std::unique_ptr<Mirror> mirror_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    static Gate gate;
    gate.play({reinterpret_cast<const char*>(data), size});
    return 0;
}
