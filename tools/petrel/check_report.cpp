#include "tools/petrel/check_report.hpp"

#include <unistd.h>

#include "core/store/sqlite_message_store.hpp"
#include "tools/petrel/json_line.hpp"

namespace petrel::tools {

void CheckReport::line(std::string_view what, bool is_good, std::string_view text) {
    if (!is_good) status_ = ExitStatus::kFailed;
    if (is_json_) {
        JsonLine("check").text("what", what).boolean("ok", is_good).text("text", text).print();
        return;
    }
    std::string words = is_good ? "ok     " : "wrong  ";
    words += what;
    words += ": ";
    words += text;
    print_text(words);
}

void CheckReport::file_to_append(std::string_view what, const std::string& file) {
    const std::size_t slash = file.rfind('/');
    const std::string folder = slash == std::string::npos ? "."
                               : slash == 0               ? "/"
                                                          : file.substr(0, slash);
    if (::access(file.c_str(), F_OK) == 0) {
        ::access(file.c_str(), W_OK) == 0
            ? good(what, file)
            : bad(what, file + " may not be written to: change its permissions");
    } else if (::access(folder.c_str(), W_OK | X_OK) == 0) {
        good(what, file + " would be made");
    } else {
        bad(what, file + " cannot be made: check that the folder " + folder +
                      " exists and that you may write there");
    }
}

void CheckReport::store(const std::string& file) {
    if (file == ":memory:") return good("store", "in memory: it is gone when the gateway ends");
    std::string why;
    const auto found = check_sqlite_message_store(file, why);
    if (!found) return bad("store", why);
    switch (*found) {
        case StoreCheck::kUsable: return good("store", file + " can be used");
        case StoreCheck::kWouldBeMade: return good("store", file + " would be made");
        case StoreCheck::kInUse:
            return good("store", file +
                                     " is in use, by a gateway that runs most likely: it was "
                                     "not looked into");
    }
}

}  // namespace petrel::tools
