#pragma once

#include <string>

#include "core/client/client.hpp"

namespace petrel {

// Opens an account's outbox and inbox below `directory`, which is made if it is missing, and gives
// them to `options`. Errors as petrel_client_create tells them, with a sentence in `why`.
std::error_code open_storage(const std::string& directory, Runtime& runtime, ClientOptions& options,
                             std::string& why);

// The account's files in a directory, without their suffixes. Distinct accounts have distinct
// names, also where a file system knows no case.
std::string storage_name(const std::string& app, const std::string& user);

}  // namespace petrel
