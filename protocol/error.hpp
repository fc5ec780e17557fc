#pragma once

#include <cassert>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

namespace petrel {

// Status and error codes of PROTOCOL.md section 2; the same numbers go over the wire and through
// the C ABI. An app's own refusal codes are >= 1025 and have no enumerator.
enum class Errc : int {
    kOk = 0,
    kNotLoggedIn = 1,
    kUnknown = 2,
    kSendFailed = 3,
    kInvalidPacket = 4,

    // Local to a client.
    kBrokenConnection = 201,
    kBadConnection = 202,
    kNotInitialised = 203,
    kNoLocalNetwork = 204,
    kNoServerAddress = 205,

    // From the server.
    kLoginRequired = 301,
    kBusy = 302,
    kNoSuchGroup = 303,
    kTooLarge = 304,
    kFingerprintReused = 305,
    kNotAllowed = 306,
    kExpired = 307,
    kInboxFull = 308,

    // Login.
    kBadToken = 401,
    kTokenExpired = 402,
    kForbidden = 403,
    kUnknownApp = 404,
    kSuperseded = 409,
    kLoginBusy = 503,
};

const std::error_category& petrel_category() noexcept;
std::error_code make_error_code(Errc code) noexcept;

// One English sentence for any code, known or not ("error 1234"). data() is null-terminated; the
// text of an unknown code lives until the next call on the same thread.
std::string_view describe(int code) noexcept;

// A value or the reason why there is none. Reading the wrong half is a bug of ours (assert).
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::move(value)) {}
    Result(std::error_code error) : state_(error) { assert(error); }
    Result(Errc error) : Result(make_error_code(error)) {}

    explicit operator bool() const noexcept { return state_.index() == 0; }
    T& value() { return std::get<0>(state_); }
    const T& value() const { return std::get<0>(state_); }
    T& operator*() { return value(); }
    const T& operator*() const { return value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }
    std::error_code error() const { return *this ? std::error_code() : std::get<1>(state_); }

private:
    std::variant<T, std::error_code> state_;
};

}  // namespace petrel

template <>
struct std::is_error_code_enum<petrel::Errc> : std::true_type {};
