#include "protocol/profile.hpp"

#include <array>
#include <cstddef>

namespace petrel {
namespace {

constexpr std::array<Profile, 4> make_profiles() {
    std::array<Profile, 4> profiles{};

    // What is sent before the login must be readable to whoever is there; timings as im-sdk, which
    // is what a client that never says more is taken for (PROTOCOL.md section 2).
    Profile& undecided = profiles[static_cast<std::size_t>(ProfileId::kUndecided)];
    undecided.id = ProfileId::kUndecided;
    undecided.name = "undecided";
    undecided.writes_qos_im_sdk = true;
    undecided.writes_qos_mobile = true;
    undecided.server_ack_type = 54;
    undecided.kickout_type = 0;
    undecided.heartbeat_interval_ms = 20'000;
    undecided.heartbeat_patience_ms = 10'000;
    undecided.relogin_first_ms = 2'000;
    undecided.relogin_ms = 2'000;

    Profile& v1 = profiles[static_cast<std::size_t>(ProfileId::kPetrelV1)];
    v1.id = ProfileId::kPetrelV1;
    v1.name = kSubprotocolV1;
    v1.writes_qos_im_sdk = true;
    v1.server_ack_type = 54;
    v1.kickout_type = 55;
    v1.has_positions = true;
    v1.heartbeat_interval_ms = 25'000;  // Until the login response says otherwise.
    v1.heartbeat_patience_ms = 20'000;  // The longest probe of section 4.5.
    v1.relogin_first_ms = 0;            // Section 4.9 rules instead.
    v1.relogin_ms = 0;

    Profile& im_sdk = profiles[static_cast<std::size_t>(ProfileId::kImSdk)];
    im_sdk.id = ProfileId::kImSdk;
    im_sdk.name = "im-sdk";
    im_sdk.writes_qos_im_sdk = true;
    im_sdk.server_ack_type = 54;
    im_sdk.kickout_type = 0;
    im_sdk.heartbeat_interval_ms = 20'000;
    im_sdk.heartbeat_patience_ms = 10'000;
    im_sdk.relogin_first_ms = 2'000;
    im_sdk.relogin_ms = 2'000;

    Profile& mobile = profiles[static_cast<std::size_t>(ProfileId::kMobileImSdk)];
    mobile.id = ProfileId::kMobileImSdk;
    mobile.name = "mobileimsdk";
    mobile.writes_qos_mobile = true;
    mobile.server_ack_type = 4;
    mobile.kickout_type = 54;
    mobile.closes_before_login = true;
    mobile.heartbeat_interval_ms = 15'000;
    mobile.heartbeat_patience_ms = 20'000;
    mobile.patience_since_last_answer = true;
    mobile.relogin_first_ms = 0;
    mobile.relogin_ms = 3'000;

    return profiles;
}

constexpr std::array<Profile, 4> kProfiles = make_profiles();

}  // namespace

const Profile& profile(ProfileId id) noexcept { return kProfiles[static_cast<std::size_t>(id)]; }

std::optional<ProfileId> profile_by_name(std::string_view name) noexcept {
    for (const Profile& candidate : kProfiles) {
        if (candidate.id != ProfileId::kUndecided && candidate.name == name) return candidate.id;
    }
    return std::nullopt;
}

}  // namespace petrel
