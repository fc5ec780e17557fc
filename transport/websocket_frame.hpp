#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/utf8.hpp"

// Frames of RFC 6455 section 5, without I/O: bytes in, messages out, and the other way round.

namespace petrel::ws {

enum class Opcode : std::uint8_t {
    kContinuation = 0x0,
    kText = 0x1,
    kBinary = 0x2,
    kClose = 0x8,
    kPing = 0x9,
    kPong = 0xa,
};

using Mask = std::array<unsigned char, 4>;

constexpr std::size_t kControlBytesMax = 125;       // RFC 6455 section 5.5.
constexpr std::size_t kFrameHeaderBytesMax = 14;    // With a 64-bit length and a mask.
constexpr std::size_t kMessageBytesMax = 16 << 20;  // No limit set goes beyond it.

// XORs `data` with the mask; the first byte with mask[0].
void apply_mask(char* data, std::size_t size, const Mask& mask) noexcept;

// Appends one whole frame. `mask` for a client's, nullptr for a server's.
void append_frame(Opcode opcode, std::string_view payload, const Mask* mask, std::string& out);
// 1005 makes an empty frame. `reason` of at most 123 bytes.
void append_close_frame(std::uint16_t code, std::string_view reason, const Mask* mask,
                        std::string& out);

// Finds the messages in a stream of bytes that arrive in pieces of any size. A message that is
// whole in its piece is handed up where it lies; only what is cut by the end of a piece is copied,
// and given back when it has been read. Nothing is kept of binary messages but their size.
//
//   while (has bytes) {
//       const FrameReader::Event event = reader.next(at, end);
//       ... kNothing: at == end; kFault: next() may not be called again.
//   }
class FrameReader {
public:
    struct Options {
        bool is_masked = false;  // The peer is a client. A frame of the other kind: 1002.
        std::size_t message_bytes_max = 0;  // Of a message, all its frames together. Above: 1009.
    };
    enum class Kind { kNothing, kText, kBinary, kPing, kPong, kClose, kFault };
    struct Event {
        Kind kind = Kind::kNothing;
        std::uint16_t code = 0;    // kClose: 1005 for none. kFault: with which to close.
        std::size_t size = 0;      // kBinary.
        std::string_view payload;  // Valid until the next call. kClose: the reason; kFault: why.
    };

    explicit FrameReader(Options options)
        : message_bytes_max_(
              static_cast<std::uint32_t>(std::min(options.message_bytes_max, kMessageBytesMax))),
          is_masked_(options.is_masked) {}

    // Reads on from `at`, which moves; unmasks in place.
    Event next(char*& at, char* end);

private:
    struct Header {
        std::size_t size = 0;  // Bytes of the header itself; 0: not whole yet.
        Opcode opcode = Opcode::kContinuation;
        bool is_final = false;
        bool is_masked = false;
        bool has_reserved_bits = false;
        bool is_minimal = true;  // The shortest form of the length.
        std::uint64_t length = 0;
        Mask mask{};
    };

    // What has come of what is not whole yet.
    struct Kept {
        std::string message;
        std::string control;  // One may come while a message is under way.
    };

    static Header read_header(const unsigned char* bytes, std::size_t size) noexcept;
    bool take_header(char*& at, char* end, Header& header) noexcept;
    Event begin_frame(const Header& header);
    Event take_data(char* data, std::size_t size);
    Event take_control(char* data, std::size_t size);
    Event end_message(std::string_view text);
    Event read_close(std::string_view payload) const;
    Kept& kept();
    void forget_kept() noexcept;

    const std::uint32_t message_bytes_max_;
    std::uint32_t left_ = 0;           // Of the payload of the frame that is being read.
    std::uint32_t message_bytes_ = 0;  // Of the message so far, this frame's whole length included.
    std::unique_ptr<Kept> kept_;       // While something came in pieces, until it has been read.
    const bool is_masked_;             // Each frame must be, or none.
    std::array<unsigned char, kFrameHeaderBytesMax> header_{};  // One that is not whole yet.
    std::uint8_t header_size_ = 0;
    Mask mask_{};  // Of this frame, turned to the next byte.
    Opcode opcode_ = Opcode::kContinuation;
    bool is_in_frame_ = false;
    bool is_masked_frame_ = false;
    bool is_final_ = false;
    bool is_in_message_ = false;  // Between the first frame of a message and its last.
    bool is_text_ = false;        // That message is one.
    bool is_kept_read_ = false;   // Something of kept_ was handed up.
    Utf8Stream utf8_;
};

}  // namespace petrel::ws
