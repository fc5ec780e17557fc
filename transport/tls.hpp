#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>

#include "protocol/error.hpp"
#include "transport/transport.hpp"

// TLS of both ends, by OpenSSL, for whichever WebSocket runs on it. This header stays free of Asio
// and OpenSSL, so that an owner of listeners can hold a TlsServer. In a build without TLS all of it
// is there and fails with a sentence.

namespace asio::ssl {
class context;
}
struct ssl_st;  // OpenSSL's SSL: native_handle() of an asio::ssl::stream.

namespace petrel {

using TlsContext = std::shared_ptr<asio::ssl::context>;

// A listener's certificate and key: TLS 1.2 or later, forward secrecy and AEAD only, neither
// renegotiation nor compression. Several listeners may share one. Thread-safe.
class TlsServer {
public:
    // The certificate file is PEM, with the chain behind the certificate. An error: `why` gets a
    // sentence that names the file.
    static Result<std::shared_ptr<TlsServer>> load(std::string cert_file, std::string key_file,
                                                   std::string& why);

    // For the next connection; whoever has one of before a reload keeps it.
    TlsContext context() const;

    // Reads both files again. A pair that cannot be used, or a certificate out of its time, leaves
    // everything as it was, and `why` gets a sentence.
    std::error_code reload(std::string& why);

    // For a log: "certificate for chat.example, valid until 2027-01-31 12:00 UTC".
    std::string summary() const;
    bool is_in_its_time() const;  // Clients refuse it otherwise.

private:
    TlsServer(std::string cert_file, std::string key_file)
        : cert_file_(std::move(cert_file)), key_file_(std::move(key_file)) {}

    const std::string cert_file_;
    const std::string key_file_;
    mutable std::mutex mutex_;
    TlsContext context_;  // Never null once loaded.
};

// A connector's contexts. A connection is made of three calls:
//
//   const TlsContext context = contexts.find(options, why);       null: why
//   Stream stream(io, *context);
//   prepare_tls_client(stream.native_handle(), host, options, why)       false: why
//   stream.async_handshake(client, ...)   an error: describe_tls_failure(stream.native_handle(), e)
//
// The context must outlive the stream's construction only.
class TlsClientContexts {
public:
    TlsContext find(const TlsClientOptions& options, std::string& why);

private:
    TlsContext system_;  // Reading the system's authorities takes milliseconds.
};

// Before the handshake: what the server must prove (chain, name or address, pins) and SNI. `host`
// as in Url::host. The stream's context must come from TlsClientContexts.
bool prepare_tls_client(ssl_st* ssl, const std::string& host, const TlsClientOptions& options,
                        std::string& why);

// Why a handshake failed, as a sentence that names the reason and what to do. Of either end.
std::string describe_tls_failure(ssl_st* ssl, std::error_code error);

// The base64 of a SHA-256, as RFC 7469 section 2.4 writes a public key's: 44 characters.
bool is_key_pin(std::string_view text);

}  // namespace petrel
