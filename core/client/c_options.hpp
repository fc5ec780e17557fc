#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/client/client.hpp"
#include "petrel/petrel.h"

namespace petrel {

// Structs of callers that were built with another petrel.h. A shorter one gets the defaults for
// what it does not have; a longer one may hold there what this library knows: zeros.

// Every option's default.
petrel_client_options default_client_options();
petrel_send_options default_send_options();

// Writes what the caller's struct has room for. False: no size of such a struct.
bool write_sized(void* to, std::size_t size, const void* from, std::size_t known);
// The caller's struct on top of the defaults in `to`. False: no size, or it wants what is unknown.
bool read_sized(void* to, std::size_t known, const void* from);

// What an app set, validated; storage, callbacks and transport are not looked at. PETREL_OK or the
// code for the app, with a sentence in `why`.
std::int32_t read_options(const petrel_client_options& from, ClientOptions& to, const char*& why);

// nullopt: nonsense.
std::optional<SendRequest> read_send(const petrel_send_options& from);

}  // namespace petrel
