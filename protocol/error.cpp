#include "protocol/error.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <string>

namespace petrel {
namespace {

class PetrelCategory final : public std::error_category {
public:
    const char* name() const noexcept override { return "petrel"; }
    std::string message(int code) const override { return std::string(describe(code)); }
};

// A null-terminated literal, or nullptr for a code that PROTOCOL.md does not name.
const char* known_description(int code) noexcept {
    switch (static_cast<Errc>(code)) {
        case Errc::kOk: return "no error";
        case Errc::kNotLoggedIn: return "not logged in";
        case Errc::kUnknown: return "unknown error";
        case Errc::kSendFailed: return "the message could not be sent";
        case Errc::kInvalidPacket: return "the packet is not valid";
        case Errc::kBrokenConnection: return "the connection broke";
        case Errc::kBadConnection: return "the connection does not work";
        case Errc::kNotInitialised: return "not initialised, or a bad argument";
        case Errc::kNoLocalNetwork: return "this machine has no network";
        case Errc::kNoServerAddress: return "no server address is set";
        case Errc::kLoginRequired: return "the server requires a login first";
        case Errc::kBusy: return "the server is busy, slow down";
        case Errc::kNoSuchGroup: return "there is no such group";
        case Errc::kTooLarge: return "the message is too large";
        case Errc::kFingerprintReused: return "the fingerprint was used for another message";
        case Errc::kNotAllowed: return "this is not allowed";
        case Errc::kExpired: return "the message expired";
        case Errc::kInboxFull: return "the recipient's inbox is full";
        case Errc::kBadToken: return "the login token is wrong";
        case Errc::kTokenExpired: return "the login token has expired";
        case Errc::kForbidden: return "the login is forbidden";
        case Errc::kUnknownApp: return "the app is unknown to the server";
        case Errc::kSuperseded: return "a newer login took over";
        case Errc::kLoginBusy: return "the server is too busy for logins";
    }
    return nullptr;
}

}  // namespace

const std::error_category& petrel_category() noexcept {
    static const PetrelCategory category;
    return category;
}

std::error_code make_error_code(Errc code) noexcept {
    return {static_cast<int>(code), petrel_category()};
}

std::string_view describe(int code) noexcept {
    if (const char* text = known_description(code)) return text;
    constexpr std::string_view kPrefix = "error ";
    // Apps bring their own codes, so the text of an unknown one cannot be a literal.
    thread_local std::array<char, 24> buffer;
    std::memcpy(buffer.data(), kPrefix.data(), kPrefix.size());
    char* const end =
        std::to_chars(buffer.data() + kPrefix.size(), buffer.data() + buffer.size() - 1, code).ptr;
    *end = '\0';
    return {buffer.data(), static_cast<std::size_t>(end - buffer.data())};
}

}  // namespace petrel
