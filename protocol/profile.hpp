#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

// What differs between the dialects of PROTOCOL.md, as data.

namespace petrel {

enum class ProfileId : std::uint8_t {
    kUndecided,  // Before the profile is known: both spellings are written.
    kPetrelV1,
    kImSdk,
    kMobileImSdk,
};

// Who writes the packet: an ack is type 4 or 54 by it.
enum class Side : std::uint8_t { kClient, kServer };

inline constexpr std::string_view kSubprotocolV1 = "petrel.v1";

struct Profile {
    ProfileId id;
    std::string_view name;     // As the option --profile spells it.
    bool writes_qos_im_sdk;    // "Qos", "sendTs"
    bool writes_qos_mobile;    // "QoS", "sm"
    int server_ack_type;       // 54, or 4 in mobileimsdk.
    int kickout_type;          // 55, 54, or 0: the profile has none.
    bool has_positions;        // petrel.v1
    bool closes_before_login;  // mobileimsdk closes after 52/301.

    // Plain timings, section 3, in milliseconds. The server's values for v1 come with the login.
    std::int64_t heartbeat_interval_ms;
    std::int64_t heartbeat_patience_ms;
    bool patience_since_last_answer;  // mobileimsdk; the others: after an unanswered one.
    std::int64_t relogin_first_ms;
    std::int64_t relogin_ms;
};

const Profile& profile(ProfileId id) noexcept;
// By the name of --profile; nullopt for anything else.
std::optional<ProfileId> profile_by_name(std::string_view name) noexcept;
inline bool is_plain(ProfileId id) noexcept {
    return id == ProfileId::kImSdk || id == ProfileId::kMobileImSdk;
}

}  // namespace petrel
