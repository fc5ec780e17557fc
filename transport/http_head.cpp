#include "transport/http_head.hpp"

#include <algorithm>

#include "transport/handshake.hpp"

namespace petrel {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::string_view kHeadEnd = "\r\n\r\n";
constexpr std::string_view kVersion = "HTTP/1.1";

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string_view trimmed(std::string_view text) {
    const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

// No control characters but the tab: what a stray CR, LF or NUL means depends on who reads it.
bool is_field_text(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return (byte < 0x20 && c != '\t') || byte == 0x7f;
    });
}

// Takes the next line from `text`.
std::string_view take_line(std::string_view& text) {
    const std::size_t end = text.find(kLineEnd);
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + kLineEnd.size());
    return line;
}

// Takes the text before the next space, and the space.
std::string_view take_word(std::string_view& text) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return word;
}

// False: not all of the lines are fields. A line that goes on in the next (RFC 7230 section 3.2.4)
// is not one either.
bool parse_fields(std::string_view lines, HttpFields& fields) {
    for (;;) {
        const std::string_view line = take_line(lines);
        if (line.empty()) return lines.empty();
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return false;
        const std::string_view value = trimmed(line.substr(colon + 1));
        if (!is_field_text(value)) return false;
        fields.add(line.substr(0, colon), value);
    }
}

}  // namespace

bool is_equal_without_case(std::string_view a, std::string_view b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                              [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<std::size_t> find_http_head_end(std::string_view text, std::size_t searched) {
    const std::size_t from = searched - std::min(searched, kHeadEnd.size() - 1);
    const std::size_t found = text.find(kHeadEnd, from);
    if (found == std::string_view::npos) return {};
    return found + kHeadEnd.size();
}

std::size_t HttpFields::count(std::string_view name) const {
    return static_cast<std::size_t>(std::count_if(
        fields_.begin(), fields_.end(),
        [name](const auto& field) { return is_equal_without_case(field.first, name); }));
}

std::string_view HttpFields::get(std::string_view name) const {
    for (const auto& [key, value] : fields_) {
        if (is_equal_without_case(key, name)) return value;
    }
    return {};
}

std::vector<std::string_view> HttpFields::list(std::string_view name) const {
    std::vector<std::string_view> elements;
    for (const auto& field : fields_) {
        if (!is_equal_without_case(field.first, name)) continue;
        std::string_view rest = field.second;
        while (!rest.empty()) {
            const std::size_t end = std::min(rest.find(','), rest.size());
            const std::string_view element = trimmed(rest.substr(0, end));
            if (!element.empty()) elements.push_back(element);
            rest.remove_prefix(std::min(end + 1, rest.size()));
        }
    }
    return elements;
}

bool HttpFields::has_element(std::string_view name, std::string_view element) const {
    const auto elements = list(name);
    return std::any_of(elements.begin(), elements.end(), [element](std::string_view other) {
        return is_equal_without_case(other, element);
    });
}

std::optional<HttpRequest> parse_http_request(std::string_view head) {
    HttpRequest request;
    std::string_view line = take_line(head);
    request.method = take_word(line);
    request.resource = take_word(line);
    const bool is_resource = !request.resource.empty() && request.resource.front() == '/' &&
                             is_field_text(request.resource);
    if (!is_token(request.method) || !is_resource || line != kVersion) return {};
    if (!parse_fields(head, request.fields)) return {};
    return request;
}

std::optional<HttpResponse> parse_http_response(std::string_view head) {
    HttpResponse response;
    std::string_view line = take_line(head);
    const std::string_view version = take_word(line);
    if (version != kVersion && version != "HTTP/1.0") return {};
    const std::string_view status = take_word(line);
    if (status.size() != 3) return {};
    for (const char c : status) {
        if (c < '0' || c > '9') return {};
        response.status = response.status * 10 + (c - '0');
    }
    response.reason = line;
    if (!is_field_text(response.reason) || !parse_fields(head, response.fields)) return {};
    return response;
}

}  // namespace petrel
