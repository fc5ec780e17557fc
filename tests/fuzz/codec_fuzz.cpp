// Any text, in each profile. What decodes can be written, and what was written means the same.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/codec.hpp"
#include "tests/fuzz/check.hpp"

using namespace petrel;

namespace {

constexpr std::array kProfiles = {ProfileId::kPetrelV1, ProfileId::kImSdk, ProfileId::kMobileImSdk,
                                  ProfileId::kUndecided};

void write_and_read(const Packet& packet, ProfileId profile, Side writer) {
    std::string first;
    encode(packet, profile, writer, first);
    const Result<Decoded> read = decode(first, profile, {std::size_t{1} << 24});
    FUZZ_CHECK(static_cast<bool>(read));
    // A packet that this side never sends may be read as one that nobody knows.
    if (std::holds_alternative<UnknownPacket>(read->packet)) return;
    std::string second;
    encode(read->packet, profile, writer, second);
    FUZZ_CHECK(first == second);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const ProfileId profile = kProfiles[data[0] % kProfiles.size()];
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    const Result<Decoded> decoded = decode(text, profile);
    if (!decoded || std::holds_alternative<UnknownPacket>(decoded->packet)) return 0;
    if (profile == ProfileId::kUndecided) return 0;  // Nobody writes in it.
    write_and_read(decoded->packet, profile, Side::kClient);
    write_and_read(decoded->packet, profile, Side::kServer);
    return 0;
}
