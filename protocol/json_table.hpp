#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/fingerprint.hpp"
#include "protocol/packet.hpp"

// One JSON object read into a flat table of the keys that somebody knows, and typed access to it.
// Internal to the codec.

namespace petrel {

enum class JsonKind : std::uint8_t {
    kAbsent,
    kNull,
    kBool,
    kNumber,  // An integer within +-kNumberMax.
    kText,
    kObject,
    kList,
    kOther,  // A value that no known key may have.
};

struct JsonValue {
    JsonKind kind = JsonKind::kAbsent;
    bool truth = false;
    std::int64_t number = 0;
    std::string_view text;
};

constexpr int kJsonRoot = -1;  // As a parent: the object itself.

enum class JsonShape : std::uint8_t { kScalar, kObject, kTriples };

// A key we know. `parent` is the index of the object it is in. Keys stand in the order in which
// writers put them: the search goes on from the last hit.
struct JsonKey {
    std::string_view name;
    int parent = kJsonRoot;
    JsonShape shape = JsonShape::kScalar;
};

// Reads one object in situ: text[size] is 0, kJsonPadding bytes behind it may be read, and the
// values point into the text. Of a repeated key the last one counts; unknown keys are skipped.
// `triples` takes the list of the key that is JsonShape::kTriples and may be null when there is
// none. False for anything but exactly one valid object of at most depth_max levels.
bool read_json_object(char* text, std::size_t size, const JsonKey* keys, JsonValue* values,
                      int count, std::size_t depth_max, std::vector<Acceptance>* triples);
// The same by RapidJSON alone, into values that are still absent; read_json_object() tries
// scan_plain_object() first.
bool parse_json_object(char* text, std::size_t size, const JsonKey* keys, JsonValue* values,
                       int count, std::size_t depth_max, std::vector<Acceptance>* triples);

// Vector loads of the reader may touch so many bytes behind the text.
constexpr std::size_t kJsonPadding = 32;

// Typed access to the values; anything that does not fit makes the packet invalid.
class JsonFields {
public:
    explicit JsonFields(const JsonValue* values) : values_(values) {}

    bool is_valid() const { return is_valid_; }
    void refuse() { is_valid_ = false; }
    bool has(int key) const {
        return values_[key].kind != JsonKind::kAbsent && values_[key].kind != JsonKind::kNull;
    }
    void require(int key) {
        if (!has(key)) refuse();
    }

    std::string_view text(int key, std::size_t bytes_max) {
        if (!has(key)) return {};
        const JsonValue& value = values_[key];
        if (value.kind == JsonKind::kText && value.text.size() <= bytes_max) return value.text;
        refuse();
        return {};
    }
    std::optional<std::int64_t> number(int key) {
        if (!has(key)) return std::nullopt;
        if (values_[key].kind == JsonKind::kNumber) return values_[key].number;
        refuse();
        return std::nullopt;
    }
    std::optional<Position> position(int key) {
        const auto value = number(key);
        if (!value) return std::nullopt;
        if (*value >= 0) return static_cast<Position>(*value);
        refuse();
        return std::nullopt;
    }
    std::uint64_t position_or(int key, std::uint64_t otherwise) {
        return position(key).value_or(otherwise);
    }
    int small_number(int key, int otherwise) {
        const auto value = number(key);
        if (!value) return otherwise;
        using Limits = std::numeric_limits<int>;
        if (*value >= Limits::min() && *value <= Limits::max()) {
            return static_cast<int>(*value);
        }
        refuse();
        return otherwise;
    }
    std::int64_t duration(int key, std::int64_t otherwise) {
        return static_cast<std::int64_t>(position_or(key, static_cast<std::uint64_t>(otherwise)));
    }
    // A size for which more than 32 bits means "as much as you like".
    std::uint32_t size(int key, std::uint32_t otherwise) {
        constexpr std::uint64_t kMax = std::numeric_limits<std::uint32_t>::max();
        return static_cast<std::uint32_t>(std::min(position_or(key, otherwise), kMax));
    }
    bool truth(int key, bool otherwise = false) {
        const JsonValue& value = values_[key];
        if (value.kind == JsonKind::kAbsent) return otherwise;
        if (value.kind == JsonKind::kBool) return value.truth;
        refuse();
        return otherwise;
    }
    bool object(int key) {
        if (!has(key)) return false;
        if (values_[key].kind == JsonKind::kObject) return true;
        refuse();
        return false;
    }
    bool list(int key) {
        if (!has(key)) return false;
        if (values_[key].kind == JsonKind::kList) return true;
        refuse();
        return false;
    }
    // Empty for null, absent and "". Invalid for text that is no fingerprint.
    Fingerprint fingerprint(int key) {
        const std::string_view raw = text(key, Fingerprint::kTextMax);
        if (raw.empty()) return {};
        auto fp = Fingerprint::parse(raw);
        if (fp) return std::move(*fp);
        refuse();
        return {};
    }

private:
    const JsonValue* values_;
    bool is_valid_ = true;
};

}  // namespace petrel
