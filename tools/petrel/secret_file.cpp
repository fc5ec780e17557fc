#include "tools/petrel/secret_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tools/petrel/log.hpp"

namespace petrel::tools {
namespace {

constexpr std::size_t kJwtSecretBytesMin = 32;  // RFC 7518 section 3.2, for HS256.
constexpr std::size_t kJwtSecretBytesMax = 4'096;
constexpr std::size_t kTokenBytesMax = 16'384;  // More is no valid login.

std::optional<std::string> read_file(const std::string& path, std::size_t bytes_max, bool is_secret,
                                     std::string& why) {
    const auto fail = [&](const std::string& what) {
        why = "cannot read " + path + ": " + what;
        return std::nullopt;
    };
    // A FIFO without a writer would wait for ever.
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) return fail(std::strerror(errno));
    struct stat info {};
    std::string text(bytes_max + 3, '\0');  // A newline of two, and one to see that it is longer.
    std::size_t length = 0;
    int error = fstat(file, &info) == 0 ? 0 : errno;
    while (error == 0 && length < text.size()) {
        const ssize_t got = read(file, text.data() + length, text.size() - length);
        if (got == 0) break;
        if (got > 0) {
            length += static_cast<std::size_t>(got);
        } else if (errno != EINTR) {
            error = errno;
        }
    }
    close(file);
    if (error != 0) return fail(std::strerror(error));
    text.resize(length);
    if (!text.empty() && text.back() == '\n') text.pop_back();
    if (!text.empty() && text.back() == '\r') text.pop_back();
    if (text.size() > bytes_max) {
        return fail("it has more than " + std::to_string(bytes_max) + " bytes");
    }
    if (is_secret && S_ISREG(info.st_mode) && (info.st_mode & S_IROTH) != 0) {
        log(LogLevel::kWarning, path + " can be read by everybody on this machine: chmod 600 " +
                                    path + ", and use another secret");
    }
    return text;
}

}  // namespace

std::optional<std::string> read_small_file(const std::string& path, std::size_t bytes_max,
                                           std::string& why) {
    return read_file(path, bytes_max, false, why);
}

std::optional<std::string> read_jwt_secret(const std::string& path, std::string& why) {
    auto secret = read_file(path, kJwtSecretBytesMax, true, why);
    if (secret && secret->size() < kJwtSecretBytesMin) {
        why = path + " has " + std::to_string(secret->size()) +
              " bytes, a secret needs at least 32: openssl rand -hex 32 > " + path;
        return std::nullopt;
    }
    return secret;
}

std::optional<std::string> read_token_file(const std::string& path, std::string& why) {
    auto token = read_file(path, kTokenBytesMax, true, why);
    if (token && token->empty()) {
        why = path + " is empty: it should hold a token";
        return std::nullopt;
    }
    return token;
}

std::optional<std::string> TokenSource::next() {
    if (path_.empty()) return std::nullopt;
    std::string why;
    auto token = read_token_file(path_, why);
    if (!token) {
        log(LogLevel::kWarning, why);
        return std::nullopt;
    }
    if (*token == token_) return std::nullopt;
    token_ = *token;
    return token;
}

}  // namespace petrel::tools
