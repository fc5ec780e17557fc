#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/client/client.hpp"
#include "tools/petrel/json_line.hpp"
#include "tools/petrel/options.hpp"
#include "tools/petrel/secret_file.hpp"

// What send, listen, chat and echo have in common: whom to log in as, where, and how.

namespace petrel::tools {

struct ClientCommand {
    CommonOptions common;
    std::string url;
    std::string user;
    std::string token;
    std::string token_file;
    std::string app;
    std::string device;
    std::string profile = "petrel.v1";
    bool require_v1 = false;
    std::string ca_file;
    std::vector<std::string> pins;
    bool is_insecure = false;
    std::chrono::nanoseconds timeout = std::chrono::seconds{30};
    std::shared_ptr<LineWriter> trace;  // --trace; nullptr: none.
};

// --url, --user, --token, --token-file, --app, --device, --profile, --require-v1, --ca, --pin,
// --insecure, --trace, --timeout and the common ones. Without `is_user_required` the user may be
// left out and is then "".
void add_client_options(CLI::App& app, ClientCommand& command, bool is_user_required = true);

// Engine and connection options for the command; --insecure is warned about. `device` is used when
// the command line names none.
ClientOptions make_client_options(const ClientCommand& command, const std::string& device);

// When the event is that a new token is needed, and --token-file holds one: gives it to the client.
bool renew_token(TokenSource& tokens, Client* client, const Event& event);

// A device id that no earlier run has had.
std::string fresh_device();

// "default" when none was given: as the gateway names it.
std::string app_of(const ClientCommand& command);

}  // namespace petrel::tools
