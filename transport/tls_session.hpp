#pragma once

#include <memory>
#include <string>

#include "transport/native_stream.hpp"
#include "transport/tls.hpp"

// OpenSSL on a socket of ours, by its own calls: asio::ssl::stream would hold 34 KB of buffers for
// every connection. Idle, a session holds none. For transport/*.cpp only.

namespace petrel {

// `socket` outlives the session and may be opened later. nullptr: `why` gets a sentence.
std::unique_ptr<SecureSession> make_tls_client(TcpSocket& socket, TlsClientContexts& contexts,
                                               const std::string& host,
                                               const TlsClientOptions& options, std::string& why);
// nullptr: out of memory.
std::unique_ptr<SecureSession> make_tls_server(TcpSocket& socket, const TlsContext& context);

}  // namespace petrel
