#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace petrel {

// The identity of a message: 1-64 printable ASCII characters (PROTOCOL.md section 1), fixed when
// the message is taken from the app. A lower-case canonical UUID is kept as its 16 bytes, anything
// else as text; what was parsed is printed back exactly. Ordered and hashable. A default-made one
// is empty: "no fingerprint".
class Fingerprint {
public:
    static constexpr std::size_t kTextMax = 64;

    Fingerprint() = default;
    Fingerprint(const Fingerprint& other)
        : uuid_(other.uuid_),
          is_uuid_(other.is_uuid_),
          text_(other.text_ ? std::make_unique<std::string>(*other.text_) : nullptr) {}
    Fingerprint(Fingerprint&&) = default;
    Fingerprint& operator=(const Fingerprint& other) { return *this = Fingerprint(other); }
    Fingerprint& operator=(Fingerprint&&) = default;

    // nullopt when the text is empty, over kTextMax, or has anything but 0x20-0x7e.
    static std::optional<Fingerprint> parse(std::string_view text);
    static Fingerprint from_uuid(const std::array<std::uint8_t, 16>& bytes);

    bool empty() const noexcept { return !is_uuid_ && !text_; }
    bool is_uuid() const noexcept { return is_uuid_; }
    const std::array<std::uint8_t, 16>& uuid() const noexcept { return uuid_; }
    std::string_view text() const noexcept {  // "" of a UUID.
        return text_ ? std::string_view(*text_) : std::string_view();
    }
    std::string to_string() const;
    void append_to(std::string& out) const;
    std::size_t hash() const noexcept;

    friend bool operator==(const Fingerprint& a, const Fingerprint& b) noexcept;
    friend bool operator!=(const Fingerprint& a, const Fingerprint& b) noexcept {
        return !(a == b);
    }
    friend bool operator<(const Fingerprint& a, const Fingerprint& b) noexcept;

private:
    std::array<std::uint8_t, 16> uuid_{};
    bool is_uuid_ = false;
    std::unique_ptr<const std::string> text_;  // Rare; packets are small and cheap to move without.
};

// Where new fingerprints come from; injected, so that a simulation can repeat them.
class FingerprintSource {
public:
    virtual ~FingerprintSource() = default;
    virtual Fingerprint next() = 0;
};

// Random UUIDs (version 4) by libuuid's format from batched kernel entropy. Thread-compatible.
class UuidSource final : public FingerprintSource {
public:
    Fingerprint next() override;

private:
    static constexpr std::size_t kBatch = 256;  // One getrandom call for 256 UUIDs (4 KiB).
    std::array<std::uint8_t, kBatch * 16> entropy_{};
    std::size_t used_ = kBatch * 16;
};

}  // namespace petrel

template <>
struct std::hash<petrel::Fingerprint> {
    std::size_t operator()(const petrel::Fingerprint& fp) const noexcept { return fp.hash(); }
};
