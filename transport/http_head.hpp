#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The heads of HTTP/1.1 messages (RFC 7230 section 3), without I/O: as much of HTTP as an upgrade
// to WebSocket needs. What is read are views into the text.

namespace petrel {

constexpr std::size_t kHttpHeadBytesMax = 16'384;  // Of an answer that a client reads.

// Of a text that has grown since `searched` bytes of it were looked at: where the head ends, behind
// its empty line.
std::optional<std::size_t> find_http_head_end(std::string_view text, std::size_t searched);

class HttpFields {
public:
    void add(std::string_view name, std::string_view value) { fields_.emplace_back(name, value); }
    std::size_t count(std::string_view name) const;     // Names are compared without case.
    std::string_view get(std::string_view name) const;  // The first; "" if there is none.
    // The elements of all fields of this name, which are lists with commas.
    std::vector<std::string_view> list(std::string_view name) const;
    bool has_element(std::string_view name, std::string_view element) const;  // Without case.

private:
    std::vector<std::pair<std::string_view, std::string_view>> fields_;
};

struct HttpRequest {
    std::string_view method;
    std::string_view resource;  // Path and query.
    HttpFields fields;
};

struct HttpResponse {
    int status = 0;
    std::string_view reason;
    HttpFields fields;
};

// `head` with its empty line. nullopt: it is none.
std::optional<HttpRequest> parse_http_request(std::string_view head);
std::optional<HttpResponse> parse_http_response(std::string_view head);

bool is_equal_without_case(std::string_view a, std::string_view b);

}  // namespace petrel
