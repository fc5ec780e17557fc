#include "protocol/codec.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "protocol/json_scan.hpp"
#include "protocol/json_table.hpp"
#include "protocol/packet_reader.hpp"
#include "protocol/utf8.hpp"

// A namespace of our own: an app that brings its own RapidJSON, configured otherwise, stays apart.
#define RAPIDJSON_NAMESPACE petrel_rapidjson
#define RAPIDJSON_NAMESPACE_BEGIN namespace petrel_rapidjson {
#define RAPIDJSON_NAMESPACE_END }
#if defined(__SSE2__)
#define RAPIDJSON_SSE2
#endif
#if defined(__clang__)
// The reader's still empty stack compares a null pointer plus an offset.
#pragma clang attribute push(__attribute__((no_sanitize("pointer-overflow"))), apply_to = function)
#endif
#include <rapidjson/reader.h>
#if defined(__clang__)
#pragma clang attribute pop
#endif

namespace petrel {
namespace {

namespace json = petrel_rapidjson;
using json::SizeType;

constexpr int kNoKey = -2;

// The value of a JSON number when it is an integer within +-kNumberMax, however it is written
// (1e3, 10.0). By hand, because RapidJSON 1.1.0 overflows on an exponent like -2147483639.
std::optional<std::int64_t> integer_of(std::string_view raw) {
    const bool is_negative = !raw.empty() && raw.front() == '-';
    if (is_negative) raw.remove_prefix(1);

    std::int64_t exponent = 0;
    const std::size_t exponent_at = raw.find_first_of("eE");
    if (exponent_at != std::string_view::npos) {
        std::string_view digits = raw.substr(exponent_at + 1);
        const bool is_small = digits.front() == '-';
        if (is_small || digits.front() == '+') digits.remove_prefix(1);
        constexpr std::int64_t kExponentMax = 1'000'000;  // Above any frame's digits.
        for (const char c : digits) exponent = std::min(exponent * 10 + (c - '0'), kExponentMax);
        if (is_small) exponent = -exponent;
        raw = raw.substr(0, exponent_at);
    }

    // value * 10^(exponent - fraction digits); zeros at the end wait in case more digits follow.
    std::uint64_t value = 0;
    std::int64_t waiting_zeros = 0;
    bool is_in_fraction = false;
    for (const char c : raw) {
        if (c == '.') {
            is_in_fraction = true;
            continue;
        }
        if (is_in_fraction) --exponent;
        if (c == '0') {
            if (value != 0) ++waiting_zeros;
            continue;
        }
        for (; waiting_zeros > 0; --waiting_zeros) {
            if (value > kNumberMax) return std::nullopt;
            value *= 10;
        }
        if (value > kNumberMax) return std::nullopt;
        value = value * 10 + static_cast<std::uint64_t>(c - '0');
    }
    if (value == 0) return 0;
    exponent += waiting_zeros;
    if (exponent < 0) return std::nullopt;
    for (; exponent > 0 && value <= kNumberMax; --exponent) value *= 10;
    if (value > kNumberMax) return std::nullopt;
    const auto magnitude = static_cast<std::int64_t>(value);
    return is_negative ? -magnitude : magnitude;
}

std::optional<std::int64_t> parse_integer(std::string_view raw) {
    // 15 digits cannot overflow and are always below 2^53: nearly every number there is.
    if (raw.empty() || raw.size() > 15) return integer_of(raw);
    std::int64_t value = 0;
    for (const char c : raw) {
        if (c < '0' || c > '9') return integer_of(raw);
        value = value * 10 + (c - '0');
    }
    return value;
}

// SAX handler: keeps the last value of every known key, skips what is unknown, ends the parse at
// depth_max or when the root is no object.
class TableHandler {
public:
    TableHandler(const JsonKey* keys, JsonValue* values, int count, std::size_t depth_max,
                 std::vector<Acceptance>* triples)
        : keys_(keys), values_(values), count_(count), depth_max_(depth_max), triples_(triples) {}

    bool Null() { return scalar(JsonKind::kNull); }
    bool Bool(bool truth) {
        if (JsonValue* value = slot()) {
            value->kind = JsonKind::kBool;
            value->truth = truth;
        }
        return depth_ > 0;
    }
    bool RawNumber(const char* raw, SizeType size, bool) {
        const bool is_in_triple = is_in_list_ && depth_ == scope_depth_ + 2;
        JsonValue* value = is_in_triple ? nullptr : slot();
        if (is_in_triple) {
            take_triple_number(parse_integer({raw, size}));
        } else if (value != nullptr) {
            const auto number = parse_integer({raw, size});
            value->kind = number ? JsonKind::kNumber : JsonKind::kOther;
            value->number = number.value_or(0);
        }
        return depth_ > 0;
    }
    bool String(const char* text, SizeType size, bool) {
        if (JsonValue* value = slot()) {
            value->kind = JsonKind::kText;
            value->text = {text, size};
        }
        return depth_ > 0;
    }
    bool Key(const char* name, SizeType size, bool) {
        if (depth_ == scope_depth_) current_ = find({name, size});
        return true;
    }
    bool StartObject() {
        if (depth_ >= depth_max_) return false;
        if (depth_ == 0) {
            scope_depth_ = 1;
            current_ = kNoKey;
        } else if (JsonValue* value = slot()) {
            value->kind = JsonKind::kOther;
            if (keys_[current_].shape == JsonShape::kObject) {
                value->kind = JsonKind::kObject;
                forget_children(current_);
                scope_ = current_;
                ++scope_depth_;
                current_ = kNoKey;
            }
        }
        ++depth_;
        return true;
    }
    bool EndObject(SizeType) {
        if (depth_ == scope_depth_ && scope_ != kJsonRoot) {
            scope_ = keys_[scope_].parent;
            --scope_depth_;
        }
        --depth_;
        return true;
    }
    bool StartArray() {
        if (depth_ == 0 || depth_ >= depth_max_) return false;
        if (is_in_list_ && depth_ == scope_depth_ + 1) {
            triple_size_ = 0;
        } else if (JsonValue* value = slot()) {
            value->kind = JsonKind::kOther;
            if (keys_[current_].shape == JsonShape::kTriples) {
                value->kind = JsonKind::kList;
                is_in_list_ = true;
                triples_->clear();
            }
        }
        ++depth_;
        return true;
    }
    bool EndArray(SizeType) {
        --depth_;
        if (!is_in_list_) return true;
        if (depth_ == scope_depth_) {
            is_in_list_ = false;
        } else if (depth_ == scope_depth_ + 1) {
            if (triple_size_ == triple_.size()) {
                triples_->push_back({triple_[0], static_cast<WallMillis>(triple_[1]), triple_[2]});
            } else {
                values_[current_].kind = JsonKind::kOther;
            }
        }
        return true;
    }
    // The reader wants these to exist; numbers come raw.
    bool Int(int) { return false; }
    bool Uint(unsigned) { return false; }
    bool Int64(std::int64_t) { return false; }
    bool Uint64(std::uint64_t) { return false; }
    bool Double(double) { return false; }

private:
    // Where the value that comes now belongs; nullptr when nobody asked for it.
    JsonValue* slot() {
        if (depth_ == scope_depth_) return current_ >= 0 ? &values_[current_] : nullptr;
        if (is_in_list_) values_[current_].kind = JsonKind::kOther;  // Not a list of triples.
        return nullptr;
    }
    bool scalar(JsonKind kind) {
        if (JsonValue* value = slot()) value->kind = kind;
        return depth_ > 0;
    }
    void take_triple_number(std::optional<std::int64_t> number) {
        if (!number || *number < 0 || triple_size_ == triple_.size()) {
            values_[current_].kind = JsonKind::kOther;
            return;
        }
        triple_[triple_size_++] = static_cast<std::uint64_t>(*number);
    }
    int find(std::string_view name) {
        for (int step = 0; step < count_; ++step) {
            const int index = next_;
            next_ = next_ + 1 == count_ ? 0 : next_ + 1;
            const JsonKey& key = keys_[index];
            if (key.name == name && key.parent == scope_) return index;
        }
        return kNoKey;
    }
    void forget_children(int object) {
        for (int i = 0; i < count_; ++i) {
            if (keys_[i].parent != object) continue;
            values_[i] = JsonValue{};
            forget_children(i);  // As deep as the table of keys, which is ours.
        }
    }

    const JsonKey* keys_;
    JsonValue* values_;
    int count_;
    std::size_t depth_max_;
    std::vector<Acceptance>* triples_;

    std::size_t depth_ = 0;        // Open containers.
    std::size_t scope_depth_ = 0;  // Of the innermost known object.
    int scope_ = kJsonRoot;        // Its key.
    int current_ = kNoKey;         // The key whose value comes next, in that object.
    int next_ = 0;                 // Where the search for a key begins.
    bool is_in_list_ = false;      // Inside the list at current_.
    std::array<std::uint64_t, 3> triple_{};
    std::size_t triple_size_ = 0;
};

// RapidJSON 1.1.0 turns \uDC00 without its other half into bytes that are no UTF-8.
bool has_lone_low_surrogate(std::string_view text) noexcept {
    const char* p = text.data();
    const char* const end = p + text.size();
    while ((p = static_cast<const char*>(
                std::memchr(p, '\\', static_cast<std::size_t>(end - p)))) != nullptr) {
        const std::ptrdiff_t left = end - p;
        if (left < 6) return false;  // No room for \uXXXX: the reader judges it.
        if (p[1] != 'u') {
            p += 2;
            continue;
        }
        const bool is_surrogate = p[2] == 'd' || p[2] == 'D';
        const char high = static_cast<char>(p[3] | 0x20);
        if (is_surrogate && high >= 'c' && high <= 'f') return true;
        const bool is_pair =
            is_surrogate && (p[3] == '8' || p[3] == '9' || high == 'a' || high == 'b');
        if (is_pair && left < 12) return false;
        p += is_pair ? 12 : 6;
    }
    return false;
}

// JSON allows no raw control character but these three; RapidJSON's SSE2 scan lets 0x1a-0x1f
// through, and its streams end at a 0.
bool has_raw_control(std::string_view text) noexcept {
    constexpr std::uint64_t kOnes = 0x0101010101010101ULL;
    std::size_t at = 0;
    while (at < text.size()) {
        std::uint64_t word;
        if (text.size() - at >= sizeof word) {
            std::memcpy(&word, text.data() + at, sizeof word);
            // A byte below 0x20 borrows into its high bit; those above 0x7f are masked out.
            if (((word - kOnes * 0x20) & ~word & (kOnes * 0x80)) == 0) {
                at += sizeof word;
                continue;
            }
        }
        const auto c = static_cast<unsigned char>(text[at++]);
        if (c < 0x20 && c != '\n' && c != '\r' && c != '\t') return true;
    }
    return false;
}

// A copy of the frame that the parse may write to; on the stack when it is small.
class Scratch {
public:
    explicit Scratch(std::string_view text) : size_(text.size()) {
        if (size_ + kJsonPadding > sizeof local_) {
            heap_.reset(new char[size_ + kJsonPadding]);
            data_ = heap_.get();
        }
        if (size_ > 0) std::memcpy(data_, text.data(), size_);
        std::memset(data_ + size_, 0, kJsonPadding);
    }
    char* data() { return data_; }
    std::size_t size() const { return size_; }

private:
    std::size_t size_;
    std::unique_ptr<char[]> heap_;
    alignas(16) char local_[2048];
    char* data_ = local_;
};

}  // namespace

bool read_json_object(char* text, std::size_t size, const JsonKey* keys, JsonValue* values,
                      int count, std::size_t depth_max, std::vector<Acceptance>* triples) {
    constexpr std::size_t kPlainDepth = 3;  // The object, its list, a triple.
    if (depth_max >= kPlainDepth && scan_plain_object({text, size}, keys, values, count, triples)) {
        return true;
    }
    std::fill(values, values + count, JsonValue{});
    if (triples != nullptr) triples->clear();
    return parse_json_object(text, size, keys, values, count, depth_max, triples);
}

bool parse_json_object(char* text, std::size_t size, const JsonKey* keys, JsonValue* values,
                       int count, std::size_t depth_max, std::vector<Acceptance>* triples) {
    const std::string_view view(text, size);
    if (has_raw_control(view) || has_lone_low_surrogate(view)) return false;

    constexpr unsigned kFlags =
        json::kParseInsituFlag | json::kParseIterativeFlag | json::kParseNumbersAsStringsFlag;
    using Pool = json::MemoryPoolAllocator<>;
    alignas(std::max_align_t) char memory[1024];
    Pool pool(memory, sizeof memory);
    constexpr std::size_t kStackBytes = 512;  // Enough for 32 levels; more come from the heap.
    json::GenericReader<json::UTF8<>, json::UTF8<>, Pool> reader(&pool, kStackBytes);
    json::InsituStringStream stream(text);
    TableHandler handler(keys, values, count, depth_max, triples);
    const json::ParseResult result = reader.Parse<kFlags>(stream, handler);
    return !result.IsError() && stream.Tell() == size;
}

Result<Decoded> decode(std::string_view text, ProfileId profile, const CodecLimits& limits) {
    if (text.size() > limits.frame_bytes_max || !is_valid_utf8(text)) return Errc::kInvalidPacket;
    Scratch scratch(text);
    PacketReader reader(profile, limits);
    return reader.read(scratch.data(), scratch.size());
}

}  // namespace petrel
