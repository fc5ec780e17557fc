#pragma once

#include <string>
#include <system_error>

#include "transport/asio_types.hpp"
#include "transport/transport.hpp"

// What every listener on sockets opens. For transport/*.cpp only.

namespace petrel {

// Bound and listening. An error: `why` gets a sentence that names the address.
TcpAcceptor open_listening_socket(asio::io_context& io, const ListenOptions& options,
                                  std::error_code& error, std::string& why);

}  // namespace petrel
