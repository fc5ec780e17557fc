#include "tools/petrel/client_files.hpp"

#include <filesystem>
#include <functional>
#include <system_error>
#include <utility>

#include "core/store/sqlite_inbox.hpp"
#include "core/store/sqlite_outbox.hpp"
#include "tools/petrel/log.hpp"
#include "transport/event_loop.hpp"

namespace petrel::tools {
namespace {

ClientFileOptions file_options(Runtime& runtime) {
    ClientFileOptions options;
    options.post = [&loop = runtime.loop()](std::function<void()> task) {
        loop.post(std::move(task));
    };
    options.on_health = [](const std::string& error) {
        if (error.empty()) {
            log(LogLevel::kWarning, "the disk works again");
        } else {
            log(LogLevel::kError, error);
        }
    };
    return options;
}

AccountId account_of(const ClientCommand& command) { return {command.app, command.user}; }

}  // namespace

std::unique_ptr<Outbox> open_outbox(const std::string& path, const ClientCommand& command,
                                    Runtime& runtime, bool waits_for_disk, Outbox::Kept& left) {
    ClientFileOptions options = file_options(runtime);
    options.appends_wait = waits_for_disk;
    std::string why;
    auto outbox = open_sqlite_outbox(path, account_of(command), options, why, &left);
    if (outbox) return std::move(*outbox);
    log(LogLevel::kError, why);
    return nullptr;
}

std::unique_ptr<Inbox> open_inbox(const std::string& path, const ClientCommand& command,
                                  Runtime& runtime, const std::string& new_device) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    const bool is_new = error || size == 0;
    const std::string& device = command.device.empty() && is_new ? new_device : command.device;
    std::string why;
    auto inbox = open_sqlite_inbox(path, account_of(command), device, file_options(runtime), why);
    if (inbox) return std::move(*inbox);
    log(LogLevel::kError, why);
    return nullptr;
}

}  // namespace petrel::tools
