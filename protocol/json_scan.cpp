#include "protocol/json_scan.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

#include "protocol/json_text.hpp"

namespace petrel {
namespace {

class PlainScanner {
public:
    PlainScanner(std::string_view text, const JsonKey* keys, JsonValue* values, int count,
                 std::vector<Acceptance>* triples)
        : at_(text.data()),
          end_(text.data() + text.size()),
          keys_(keys),
          values_(values),
          count_(count),
          triples_(triples) {}

    bool scan() {
        if (!take('{')) return false;
        if (take('}')) return at_ == end_;
        do {
            std::string_view name;
            if (!take_string(name) || !take(':') || !take_value(find(name))) return false;
        } while (take(','));
        return take('}') && at_ == end_;
    }

private:
    bool take(char c) {
        if (at_ == end_ || *at_ != c) return false;
        ++at_;
        return true;
    }

    bool take_word(std::string_view word) {
        const auto left = static_cast<std::size_t>(end_ - at_);
        if (std::string_view(at_, left).substr(0, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    // Nothing in it is escaped, nor ought to be.
    bool take_string(std::string_view& text) {
        if (!take('"')) return false;
        const std::size_t run = json_plain_run(at_, static_cast<std::size_t>(end_ - at_));
        text = {at_, run};
        at_ += run;
        return take('"');
    }

    // 15 digits are always below 2^53.
    std::optional<std::int64_t> take_digits() {
        const char* const begin = at_;
        std::int64_t value = 0;
        for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
            if (at_ - begin == 15) return std::nullopt;
            value = value * 10 + (*at_ - '0');
        }
        const bool is_number = at_ - begin == 1 || (at_ - begin > 1 && *begin != '0');
        if (!is_number) return std::nullopt;
        return value;
    }

    // What follows a number that is no integer, `.` or `e`, fits nowhere: it ends the scan.
    bool take_value(JsonValue* value) {
        if (at_ == end_) return false;
        JsonValue ignored;
        JsonValue& to = value != nullptr ? *value : ignored;
        switch (*at_) {
            case '"': to.kind = JsonKind::kText; return take_string(to.text);
            case 't':
                to.kind = JsonKind::kBool;
                to.truth = true;
                return take_word("true");
            case 'f':
                to.kind = JsonKind::kBool;
                to.truth = false;
                return take_word("false");
            case 'n': to.kind = JsonKind::kNull; return take_word("null");
            case '[':
                to.kind = JsonKind::kList;
                return value != nullptr && keys_[value - values_].shape == JsonShape::kTriples &&
                       take_triples();
            default: break;
        }
        const bool is_negative = take('-');
        const auto digits = take_digits();
        if (!digits) return false;
        to.kind = JsonKind::kNumber;
        to.number = is_negative ? -*digits : *digits;
        return true;
    }

    bool take_triples() {
        triples_->clear();
        if (!take('[')) return false;
        if (take(']')) return true;
        triples_->reserve(16);  // As many as one ack mostly covers.
        do {
            if (!take('[')) return false;
            const auto cseq = take_digits();
            if (!cseq || !take(',')) return false;
            const auto send_ts = take_digits();
            if (!send_ts || !take(',')) return false;
            const auto seq = take_digits();
            if (!seq || !take(']')) return false;
            triples_->push_back(
                {static_cast<std::uint64_t>(*cseq), *send_ts, static_cast<Position>(*seq)});
        } while (take(','));
        return take(']');
    }

    JsonValue* find(std::string_view name) {
        for (int step = 0; step < count_; ++step) {
            const int index = next_;
            next_ = next_ + 1 == count_ ? 0 : next_ + 1;
            if (keys_[index].name == name && keys_[index].parent == kJsonRoot) {
                return &values_[index];
            }
        }
        return nullptr;
    }

    const char* at_;
    const char* const end_;
    const JsonKey* keys_;
    JsonValue* values_;
    const int count_;
    std::vector<Acceptance>* triples_;
    int next_ = 0;  // Where the search for a key begins.
};

}  // namespace

bool scan_plain_object(std::string_view text, const JsonKey* keys, JsonValue* values, int count,
                       std::vector<Acceptance>* triples) {
    return PlainScanner(text, keys, values, count, triples).scan();
}

}  // namespace petrel
