#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

// Small files with keys and tokens in them, which have no place on a command line: there everybody
// on the machine sees them.

namespace petrel::tools {

// The bytes of a file, without a newline at its end. nullopt when it cannot be read or is longer
// than `bytes_max`; `why` then says so with its name.
std::optional<std::string> read_small_file(const std::string& path, std::size_t bytes_max,
                                           std::string& why);

// The next two are for what nobody else should know: a file that everybody can read is warned
// about.

// The key of --jwt-secret-file and `petrel token --secret-file`: 32 bytes to 4 KiB.
std::optional<std::string> read_jwt_secret(const std::string& path, std::string& why);

// What --token-file holds: not empty, at most 16 KiB, as a login takes it.
std::optional<std::string> read_token_file(const std::string& path, std::string& why);

// The tokens of --token-file, one after the other. Thread-compatible.
class TokenSource {
public:
    // `path` "": there is no file. `token` is what it held last.
    TokenSource(std::string path, std::string token)
        : path_(std::move(path)), token_(std::move(token)) {}

    // What the file holds now, when that is another token than the last; else nullopt.
    std::optional<std::string> next();

private:
    std::string path_;
    std::string token_;
};

}  // namespace petrel::tools
