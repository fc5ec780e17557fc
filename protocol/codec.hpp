#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/error.hpp"
#include "protocol/packet.hpp"
#include "protocol/profile.hpp"

// JSON text <-> Packet. Pure functions; codec.cpp is the only user of RapidJSON (SAX in situ,
// iterative parsing). Bytes are hostile: whatever does not fit PROTOCOL.md section 1 is
// Errc::kInvalidPacket.

namespace petrel {

struct CodecLimits {
    // 6 x maxPayload (every byte escaped as \u00XX) + 4096 for the rest (section 4.6).
    std::size_t frame_bytes_max = 6 * 65'536 + 4096;
    std::size_t depth_max = 32;            // Of nesting, unknown keys included.
    std::size_t id_bytes_max = 256;        // from, to, user, app, device, epoch...; conv holds two.
    std::size_t token_bytes_max = 16'384;  // loginToken, extra.
};

// Which spelling of the QoS key a packet had: before the login it hints at the profile (section 2).
enum class Spelling : std::uint8_t { kNone, kImSdk, kMobileImSdk };

struct Decoded {
    Packet packet;
    Spelling spelling = Spelling::kNone;
    std::int64_t type = 0;  // As on the wire: it tells a client's ack from a server's.
};

// `profile` decides what a 54 and the payloads of 1, 4, 50, 51 mean; kUndecided reads as im-sdk. A
// well-formed packet of an unknown or reserved type is an UnknownPacket, not an error: so are a 55
// and a 56 in plain profiles, and a 54 that acks nothing. The direction is not checked: type 4 and
// 54 both become an Ack. The keys of petrel.v1 (seq, h...) are unknown keys in plain profiles.
Result<Decoded> decode(std::string_view text, ProfileId profile, const CodecLimits& limits = {});

// Appends the packet's JSON text. Strings must be valid UTF-8 (what decode returned, or what
// protocol/utf8.hpp has seen). UnknownPacket cannot be encoded (assert). Addresses that are empty
// get the defaults of section 1 in plain profiles and are left out in petrel.v1; a Kickout in
// im-sdk, which has none, is written as a 55, which its readers ignore.
void encode(const Packet& packet, ProfileId profile, Side writer, std::string& out);
void encode(const Data& data, ProfileId profile, Side writer, std::string& out);

}  // namespace petrel
