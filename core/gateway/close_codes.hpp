#pragma once

#include <cstdint>

// The gateway's close codes (PROTOCOL.md section 4.8) and kick-out codes (section 2).

namespace petrel {

constexpr std::uint16_t kCloseNormal = 1000;
constexpr std::uint16_t kCloseGoingAway = 1001;
constexpr std::uint16_t kCloseAbnormal = 1006;  // Never on the wire: there was no close frame.
constexpr std::uint16_t kCloseNoLogin = 4001;
constexpr std::uint16_t kCloseSilent = 4002;
constexpr std::uint16_t kCloseRefused = 4003;
constexpr std::uint16_t kCloseKicked = 4004;
constexpr std::uint16_t kCloseSlowReader = 4005;
constexpr std::uint16_t kCloseViolation = 4006;
constexpr std::uint16_t kCloseDraining = 4007;
constexpr std::uint16_t kCloseRateLimit = 4008;

constexpr int kKickedByLogin = 1;
constexpr int kKickedByAdmin = 2;

}  // namespace petrel
