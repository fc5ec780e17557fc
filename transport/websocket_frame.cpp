#include "transport/websocket_frame.hpp"

#include <algorithm>
#include <cstring>

namespace petrel::ws {
namespace {

constexpr std::uint16_t kProtocolError = 1002;
constexpr std::uint16_t kNoCode = 1005;
constexpr std::uint16_t kNotUtf8 = 1007;
constexpr std::uint16_t kTooBig = 1009;

constexpr unsigned kFinalBit = 0x80, kReservedBits = 0x70, kOpcodeBits = 0x0f;
constexpr unsigned kMaskBit = 0x80, kLengthBits = 0x7f;
constexpr unsigned kLength16 = 126, kLength64 = 127;

bool is_control(Opcode opcode) { return static_cast<unsigned>(opcode) >= 0x8; }

bool is_known(Opcode opcode) {
    const auto number = static_cast<unsigned>(opcode);
    return number <= 0x2 || (number >= 0x8 && number <= 0xa);
}

// RFC 6455 section 7.4 and the registry it founded: what may stand in a close frame.
bool is_close_code(unsigned code) {
    const bool is_standard =
        code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
    return is_standard || (code >= 3000 && code <= 4999);
}

std::uint64_t read_number(const unsigned char* bytes, std::size_t size) {
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < size; ++i) number = number << 8 | bytes[i];
    return number;
}

FrameReader::Event fault(std::uint16_t code, std::string_view why) {
    FrameReader::Event event;
    event.kind = FrameReader::Kind::kFault;
    event.code = code;
    event.payload = why;
    return event;
}

// The mask as the byte after the next `count` sees it.
Mask turned(const Mask& mask, std::size_t count) {
    Mask out;
    for (std::size_t i = 0; i < mask.size(); ++i) out[i] = mask[(i + count) % mask.size()];
    return out;
}

}  // namespace

void apply_mask(char* data, std::size_t size, const Mask& mask) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, mask.data(), 4);
    std::memcpy(reinterpret_cast<char*>(&word) + 4, mask.data(), 4);
    constexpr std::size_t kWords = 4;  // At a time: compilers make vectors of it.
    for (; size >= sizeof word * kWords; size -= sizeof word * kWords) {
        std::uint64_t block[kWords];
        std::memcpy(block, data, sizeof block);
        for (std::uint64_t& part : block) part ^= word;
        std::memcpy(data, block, sizeof block);
        data += sizeof block;
    }
    for (; size >= sizeof word; size -= sizeof word) {
        std::uint64_t part = 0;
        std::memcpy(&part, data, sizeof part);
        part ^= word;
        std::memcpy(data, &part, sizeof part);
        data += sizeof part;
    }
    for (std::size_t i = 0; i < size; ++i) {
        data[i] = static_cast<char>(static_cast<unsigned char>(data[i]) ^ mask[i % 4]);
    }
}

void append_frame(Opcode opcode, std::string_view payload, const Mask* mask, std::string& out) {
    const std::size_t size = payload.size();
    const unsigned mask_bit = mask ? kMaskBit : 0U;
    char header[kFrameHeaderBytesMax];
    std::size_t used = 0;
    const auto put = [&](std::uint64_t byte) { header[used++] = static_cast<char>(byte & 0xffU); };
    put(kFinalBit | static_cast<unsigned>(opcode));
    if (size < kLength16) {
        put(mask_bit | size);
    } else if (size <= 0xffff) {
        put(mask_bit | kLength16);
        put(size >> 8);
        put(size);
    } else {
        put(mask_bit | kLength64);
        for (int shift = 56; shift >= 0; shift -= 8) put(std::uint64_t{size} >> shift);
    }
    if (mask) {
        for (const unsigned char byte : *mask) put(byte);
    }
    out.append(header, used);
    const std::size_t begin = out.size();
    out.append(payload);
    if (mask) apply_mask(out.data() + begin, size, *mask);
}

void append_close_frame(std::uint16_t code, std::string_view reason, const Mask* mask,
                        std::string& out) {
    std::string payload;
    if (code != kNoCode) {
        payload += static_cast<char>(code >> 8);
        payload += static_cast<char>(code & 0xff);
        payload += reason.substr(0, kControlBytesMax - 2);
    }
    append_frame(Opcode::kClose, payload, mask, out);
}

FrameReader::Event FrameReader::next(char*& at, char* end) {
    if (is_kept_read_) forget_kept();
    while (is_in_frame_ || at != end) {
        if (!is_in_frame_) {
            Header header;
            if (!take_header(at, end, header)) break;
            const Event event = begin_frame(header);
            if (event.kind != Kind::kNothing) return event;
        }
        const std::size_t size = std::min<std::size_t>(left_, static_cast<std::size_t>(end - at));
        if (size == 0 && left_ > 0) break;
        char* const data = at;
        at += size;
        left_ -= static_cast<std::uint32_t>(size);
        if (is_masked_frame_) {
            apply_mask(data, size, mask_);
            if (left_ > 0) mask_ = turned(mask_, size);
        }
        is_in_frame_ = left_ > 0;
        const Event event = is_control(opcode_) ? take_control(data, size) : take_data(data, size);
        if (event.kind != Kind::kNothing) return event;
    }
    return {};
}

FrameReader::Header FrameReader::read_header(const unsigned char* bytes,
                                             std::size_t size) noexcept {
    Header header;
    if (size < 2) return header;
    header.is_masked = (bytes[1] & kMaskBit) != 0;
    const unsigned short_length = bytes[1] & kLengthBits;
    const std::size_t length_size = short_length == kLength64   ? 8
                                    : short_length == kLength16 ? 2
                                                                : 0;
    const std::size_t whole = 2 + length_size + (header.is_masked ? 4 : 0);
    if (size < whole) return header;
    header.size = whole;
    header.is_final = (bytes[0] & kFinalBit) != 0;
    header.has_reserved_bits = (bytes[0] & kReservedBits) != 0;
    header.opcode = static_cast<Opcode>(bytes[0] & kOpcodeBits);
    header.length = length_size == 0 ? short_length : read_number(bytes + 2, length_size);
    header.is_minimal = length_size == 0 || header.length > (length_size == 2 ? 125U : 0xffffU);
    if (header.is_masked) std::memcpy(header.mask.data(), bytes + 2 + length_size, 4);
    return header;
}

// False: the header is not whole yet, and `at` is the end.
bool FrameReader::take_header(char*& at, char* end, Header& header) noexcept {
    const auto available = static_cast<std::size_t>(end - at);
    if (header_size_ == 0) {
        header = read_header(reinterpret_cast<const unsigned char*>(at), available);
        if (header.size > 0) {
            at += header.size;
            return true;
        }
    }
    const std::size_t before = header_size_;
    const std::size_t more = std::min(available, header_.size() - before);
    std::memcpy(header_.data() + before, at, more);
    header = read_header(header_.data(), before + more);
    if (header.size == 0) {
        header_size_ = static_cast<std::uint8_t>(before + more);
        at = end;
        return false;
    }
    at += header.size - before;
    header_size_ = 0;
    return true;
}

FrameReader::Event FrameReader::begin_frame(const Header& header) {
    if (header.has_reserved_bits) return fault(kProtocolError, "a reserved bit is set");
    if (!is_known(header.opcode)) return fault(kProtocolError, "a reserved opcode");
    if (header.is_masked != is_masked_) {
        return fault(kProtocolError, header.is_masked ? "a server's frame with a mask"
                                                      : "a client's frame without a mask");
    }
    if (!header.is_minimal) return fault(kProtocolError, "a length longer than it must be");
    if (header.length >> 63 != 0) return fault(kProtocolError, "a length above 2^63");
    if (is_control(header.opcode)) {
        if (!header.is_final) return fault(kProtocolError, "a control frame in fragments");
        if (header.length > kControlBytesMax) return fault(kProtocolError, "a long control frame");
    } else {
        const bool is_continuation = header.opcode == Opcode::kContinuation;
        if (is_continuation != is_in_message_) {
            return fault(kProtocolError, is_continuation ? "a continuation of nothing"
                                                         : "a new message inside another");
        }
        if (!is_continuation) {
            message_bytes_ = 0;
            is_text_ = header.opcode == Opcode::kText;
        }
        // Not as a sum: that could wrap.
        if (header.length > message_bytes_max_ - message_bytes_) {
            return fault(kTooBig, "a message above the limit");
        }
        message_bytes_ += static_cast<std::uint32_t>(header.length);
        is_in_message_ = !header.is_final;
        is_final_ = header.is_final;
    }
    opcode_ = header.opcode;
    left_ = static_cast<std::uint32_t>(header.length);  // Within the limits above.
    mask_ = header.mask;
    is_masked_frame_ = header.is_masked;
    is_in_frame_ = true;
    return {};
}

FrameReader::Event FrameReader::take_data(char* data, std::size_t size) {
    const bool is_end = !is_in_frame_ && is_final_;
    if (!is_text_) {
        if (!is_end) return {};
        Event event;
        event.kind = Kind::kBinary;
        event.size = message_bytes_;
        return event;
    }
    if (!utf8_.feed({data, size})) return fault(kNotUtf8, "text that is not UTF-8");
    const bool is_first = !kept_ || kept_->message.empty();
    if (is_end && is_first) return end_message({data, size});
    std::string& message = kept().message;
    if (is_first) {
        // What a header announces is not yet worth its memory.
        constexpr std::uint32_t kReserveMax = 65'536;
        message.reserve(std::min(message_bytes_, kReserveMax));
    }
    message.append(data, size);
    if (!is_end) return {};
    is_kept_read_ = true;
    return end_message(message);
}

FrameReader::Event FrameReader::end_message(std::string_view text) {
    if (!utf8_.is_complete()) return fault(kNotUtf8, "text that ends inside a character");
    Event event;
    event.kind = Kind::kText;
    event.payload = text;
    return event;
}

FrameReader::Event FrameReader::take_control(char* data, std::size_t size) {
    std::string_view payload{data, size};
    if (is_in_frame_ || (kept_ && !kept_->control.empty())) {
        kept().control.append(payload);
        if (is_in_frame_) return {};
        is_kept_read_ = true;
        payload = kept_->control;
    }
    if (opcode_ == Opcode::kClose) return read_close(payload);
    Event event;
    event.kind = opcode_ == Opcode::kPing ? Kind::kPing : Kind::kPong;
    event.payload = payload;
    return event;
}

FrameReader::Event FrameReader::read_close(std::string_view payload) const {
    Event event;
    event.kind = Kind::kClose;
    event.code = kNoCode;
    if (payload.empty()) return event;
    if (payload.size() == 1) return fault(kProtocolError, "a close frame of one byte");
    const auto* bytes = reinterpret_cast<const unsigned char*>(payload.data());
    event.code = static_cast<std::uint16_t>(read_number(bytes, 2));
    event.payload = payload.substr(2);
    if (!is_close_code(event.code))
        return fault(kProtocolError, "a close code that nobody may send");
    if (!is_valid_utf8(event.payload)) return fault(kNotUtf8, "a close reason that is not UTF-8");
    return event;
}

FrameReader::Kept& FrameReader::kept() {
    if (!kept_) kept_ = std::make_unique<Kept>();
    return *kept_;
}

// A connection that says nothing costs nothing.
void FrameReader::forget_kept() noexcept {
    is_kept_read_ = false;
    if (is_in_message_) {
        std::string().swap(kept_->control);
    } else {
        kept_.reset();
    }
}

}  // namespace petrel::ws
