#include "tools/petrel/log_event.hpp"

#include <rapidjson/reader.h>

#include <array>

namespace petrel::tools {
namespace {

namespace rj = rapidjson;

struct TextField {
    std::string_view name;
    std::string_view LogEvent::*field;
};
struct NumberField {
    std::string_view name;
    std::optional<std::uint64_t> LogEvent::*field;
};

constexpr std::array<TextField, 12> kTexts{{{"event", &LogEvent::event},
                                            {"fp", &LogEvent::fp},
                                            {"from", &LogEvent::from},
                                            {"to", &LogEvent::to},
                                            {"app", &LogEvent::app},
                                            {"user", &LogEvent::user},
                                            {"device", &LogEvent::device},
                                            {"conv", &LogEvent::conv},
                                            {"epoch", &LogEvent::epoch},
                                            {"url", &LogEvent::url},
                                            {"what", &LogEvent::what},
                                            {"direction", &LogEvent::direction}}};
constexpr std::array<NumberField, 9> kNumbers{{{"cseq", &LogEvent::cseq},
                                               {"seq", &LogEvent::seq},
                                               {"attempts", &LogEvent::attempts},
                                               {"attempt", &LogEvent::attempts},
                                               {"ts", &LogEvent::ts},
                                               {"delivered", &LogEvent::delivered},
                                               {"conn", &LogEvent::conn},
                                               {"h", &LogEvent::height},
                                               {"code", &LogEvent::code}}};

// Takes the members of the outer object; what is nested is skipped.
class Handler : public rj::BaseReaderHandler<rj::UTF8<>, Handler> {
public:
    explicit Handler(LogEvent& event) : event_(event) {}

    bool StartObject() { return enter(); }
    bool EndObject(rj::SizeType) { return leave(); }
    bool StartArray() { return depth_ > 0 && enter(); }
    bool EndArray(rj::SizeType) { return leave(); }
    bool Default() { return depth_ > 0; }

    bool Key(const char* text, rj::SizeType size, bool) {
        if (depth_ == 1) key_ = std::string_view(text, size);
        return true;
    }
    bool String(const char* text, rj::SizeType size, bool) {
        if (depth_ != 1) return depth_ > 0;
        for (const TextField& text_field : kTexts) {
            if (text_field.name == key_) event_.*text_field.field = std::string_view(text, size);
        }
        return true;
    }
    bool Bool(bool value) {
        if (depth_ != 1) return depth_ > 0;
        if (key_ == "redelivered") event_.is_redelivered = value;
        if (key_ == "qos") event_.has_qos = value;
        return true;
    }
    bool Int(int value) { return take_signed(value); }
    bool Uint(unsigned value) { return take(value); }
    bool Int64(std::int64_t value) { return take_signed(value); }
    bool Uint64(std::uint64_t value) { return take(value); }
    bool Double(double value) {
        if (depth_ == 1 && key_ == "ms") event_.ms = value;
        return depth_ > 0;
    }

private:
    bool enter() { return ++depth_ <= LogEventParser::kDepthMax; }
    bool leave() {
        --depth_;
        return true;
    }
    bool take_signed(std::int64_t value) {
        return value < 0 ? depth_ > 0 : take(static_cast<std::uint64_t>(value));
    }
    bool take(std::uint64_t value) {
        if (depth_ != 1) return depth_ > 0;
        if (key_ == "ms") event_.ms = static_cast<double>(value);
        for (const NumberField& number : kNumbers) {
            if (number.name == key_) event_.*number.field = value;
        }
        return true;
    }

    LogEvent& event_;
    std::string_view key_;
    int depth_ = 0;
};

}  // namespace

const LogEvent* LogEventParser::parse(std::string_view line) {
    scratch_.assign(line);
    event_ = LogEvent{};
    Handler handler(event_);
    rj::InsituStringStream stream(scratch_.data());
    rj::Reader reader;
    // The handler ends the recursion at kDepthMax.
    if (reader.Parse<rj::kParseInsituFlag>(stream, handler).IsError()) return nullptr;
    if (event_.app.empty()) event_.app = "default";
    return &event_;
}

}  // namespace petrel::tools
