#include "core/client/c_storage.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "core/store/sqlite_inbox.hpp"
#include "core/store/sqlite_outbox.hpp"
#include "transport/event_loop.hpp"

namespace petrel {

namespace {

constexpr std::size_t kNameMax = 160;  // File systems allow 255 bytes; suffixes come behind.
constexpr char kHex[] = "0123456789abcdef";

// FNV-1a. Only keeps long names apart: the file itself says whose it is.
std::string digest(const std::string& text) {
    std::uint64_t hash = 14695981039346656037u;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    std::string out;
    for (int shift = 60; shift >= 0; shift -= 4) out += kHex[(hash >> shift) & 15];
    return out;
}

std::string escaped(const std::string& id) {
    std::string out;
    for (const char c : id) {
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
            out += c;
        } else {
            out += '%';
            out += kHex[static_cast<unsigned char>(c) >> 4];
            out += kHex[static_cast<unsigned char>(c) & 15];
        }
    }
    return out;
}

}  // namespace

std::string storage_name(const std::string& app, const std::string& user) {
    std::string name = escaped(app.empty() ? "default" : app) + "-" + escaped(user);
    if (name.size() <= kNameMax) return name;
    return name.substr(0, kNameMax) + "-" + digest(name);
}

std::error_code open_storage(const std::string& directory, Runtime& runtime, ClientOptions& options,
                             std::string& why) {
    if (mkdir(directory.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
        why = directory + ": " + std::generic_category().message(errno);
        return make_error_code(Errc::kUnknown);
    }
    const AccountId account{options.engine.app, options.engine.user};
    const std::string path = directory + "/" + storage_name(account.app, account.user);

    ClientFileOptions file;
    file.post = [&loop = runtime.loop()](std::function<void()> task) {
        loop.post(std::move(task));
    };
    if (options.on_log) {
        file.on_health = [log = options.on_log](const std::string& error) {
            if (error.empty()) {
                log(LogLevel::kInfo, "the disk works again");
            } else {
                log(LogLevel::kError, error);
            }
        };
    }
    auto outbox = open_sqlite_outbox(path + ".outbox", account, file, why);
    if (!outbox) return outbox.error();
    auto inbox = open_sqlite_inbox(path + ".inbox", account, options.engine.device, file, why);
    if (!inbox) return inbox.error();
    options.outbox = std::move(*outbox);
    options.inbox = std::move(*inbox);
    return {};
}

}  // namespace petrel
