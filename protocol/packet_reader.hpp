#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "protocol/codec.hpp"
#include "protocol/json_table.hpp"

// The typed half of decode(): from tables of JSON values to a packet. Internal to the codec.

namespace petrel {

// Reads one frame and is used up by it.
class PacketReader {
public:
    PacketReader(ProfileId profile, const CodecLimits& limits)
        : profile_(profile), limits_(limits) {}

    // The text is valid UTF-8; the rest as read_json_object() wants it.
    Result<Decoded> read(char* text, std::size_t size);

private:
    // What any type of packet may carry; texts point into the frame.
    struct Common {
        std::string_view from;
        std::string_view to;
        bool has_to = false;
        char* frame = nullptr;
        std::string_view content;  // dataContent
        std::string_view fp;
        bool qos = false;
        int typeu = kTypeuNone;
        bool bridge = false;
        int retry_count = 0;
        std::optional<WallMillis> send_ts;
        // petrel.v1
        Position seq = 0;
        std::optional<Position> prev;
        std::string_view conv;
        std::uint64_t cseq = 0;
        std::optional<Position> h;
        std::optional<Position> rx;
        bool gap = false;
        std::vector<Acceptance> acc;
    };

    bool is_v1() const { return profile_ == ProfileId::kPetrelV1; }
    void refuse() { is_valid_ = false; }

    void read_common(JsonFields& fields);
    void read_packet(std::int64_t type);
    void read_unknown(std::int64_t type);
    void read_data();
    void read_echo(bool is_response);
    void read_ack(std::int64_t type);
    void read_login();
    void read_login_v1(JsonFields& in, LoginV1& v1);
    void read_login_response();
    void read_reply_v1(JsonFields& in, LoginReplyV1& v1);
    std::optional<Positions> read_positions();
    void read_error();
    void read_kickout();
    void read_receipt();
    Fingerprint read_fingerprint();
    // The object that a control packet has as text in its dataContent; refuses if it is none.
    template <class Keys, class Table>
    bool read_content(const Keys& keys, Table& table);

    ProfileId profile_;
    const CodecLimits& limits_;
    bool is_valid_ = true;
    Common common_;
    Decoded decoded_;
};

}  // namespace petrel
