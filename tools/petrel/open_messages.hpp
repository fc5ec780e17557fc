#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "protocol/fingerprint.hpp"

namespace petrel::tools {

// The messages of a command that have no outcome yet. Thread-compatible.
class OpenMessages {
public:
    using Clock = std::chrono::steady_clock;

    struct Open {
        std::uint64_t number = 0;  // In the order of adding, from 1.
        std::string to;
        std::size_t bytes = 0;
        Clock::time_point queued_at;

        double age_ms() const {
            return std::chrono::duration<double, std::milli>(Clock::now() - queued_at).count();
        }
    };

    // Below the engine's own limits of what it keeps, so that none is refused for it.
    bool has_room() const { return open_.size() < kOpenMax && bytes_ < kBytesMax; }
    bool empty() const { return open_.empty(); }

    std::uint64_t add(const Fingerprint& fp, std::string to, std::size_t bytes) {
        open_[fp] = Open{++last_number_, std::move(to), bytes, Clock::now()};
        bytes_ += bytes;
        return last_number_;
    }

    // nullopt: not here (any more).
    std::optional<Open> take(const Fingerprint& fp) {
        const auto found = open_.find(fp);
        if (found == open_.end()) return std::nullopt;
        Open open = std::move(found->second);
        open_.erase(found);
        bytes_ -= open.bytes;
        return open;
    }

    // What is left, in the order of adding.
    std::vector<std::pair<Fingerprint, Open>> in_order() const;

private:
    static constexpr std::size_t kOpenMax = 4'096;
    static constexpr std::size_t kBytesMax = std::size_t{16} << 20;

    std::unordered_map<Fingerprint, Open> open_;
    std::size_t bytes_ = 0;
    std::uint64_t last_number_ = 0;
};

}  // namespace petrel::tools
