#pragma once

#include <string>
#include <string_view>

#include "tools/petrel/exit_status.hpp"

namespace petrel::tools {

// What `petrel gateway --check` finds, a line each: "ok    store: ..." or "wrong admin: ...", with
// --json {"event":"check","what","ok","text"}.
class CheckReport {
public:
    explicit CheckReport(bool is_json) : is_json_(is_json) {}

    void good(std::string_view what, std::string_view text) { line(what, true, text); }
    void bad(std::string_view what, std::string_view text) { line(what, false, text); }
    // A file that is appended to: there and writable, or to be made.
    void file_to_append(std::string_view what, const std::string& file);
    // The gateway's store file, or :memory:.
    void store(const std::string& file);

    ExitStatus status() const { return status_; }

private:
    void line(std::string_view what, bool is_good, std::string_view text);

    const bool is_json_;
    ExitStatus status_ = ExitStatus::kDone;
};

}  // namespace petrel::tools
