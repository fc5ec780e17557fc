#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "transport/websocket_frame.hpp"

// What practical_limit.cpp and its clients say to each other, in text frames of WebSocket: flat
// JSON objects whose values are all strings.
//
//   client -> server            {"user":"NAME"}   the first one; the server answers the same
//   client -> server -> client  {"to":"NAME","fp":"ID","payload":"TEXT"}
//   server -> sender            {"ack":"ID"}      it is forwarded
//   receiver -> server          {"ack":"ID"}      it is here
//   server -> sender            {"refused":"ID"}  nobody of that name, or one that reads too slowly

namespace petrel::bench::relay {

// Views into the text, escapes as they were written; what is not there is "".
struct Packet {
    std::string_view user, to, fp, payload, ack, refused;
};

// False: no such object. What other names hold is passed over.
bool parse(std::string_view text, Packet& packet);

struct FrameHead {
    std::size_t size = 0;      // Of the head itself; 0: not whole yet.
    std::uint64_t length = 0;  // Of the payload, as the peer says: to be checked.
    unsigned first_byte = 0;   // Its FIN, reserved bits and opcode.
    bool is_masked = false;
    ws::Mask mask{};
};

constexpr unsigned kWholeText = 0x81;  // A first byte: FIN and text. There are no others here.

FrameHead read_frame_head(std::string_view data);

}  // namespace petrel::bench::relay
