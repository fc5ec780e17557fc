#include "transport/tls.hpp"

#include <algorithm>
#include <utility>

#if PETREL_HAS_TLS
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <array>
#include <asio/ip/address.hpp>
#include <asio/ssl.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <vector>
#endif

namespace petrel {

bool is_key_pin(std::string_view text) {
    // 256 bits are 42 whole characters, one that holds 4 bits (so its last two are 0), and a pad.
    constexpr std::size_t kPinBytes = 44;
    constexpr std::string_view kLast = "AEIMQUYcgkosw048";
    const auto is_base64 = [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
               c == '+' || c == '/';
    };
    return text.size() == kPinBytes && std::all_of(text.begin(), text.end() - 2, is_base64) &&
           kLast.find(text[kPinBytes - 2]) != std::string_view::npos && text.back() == '=';
}

#if PETREL_HAS_TLS

namespace {

constexpr char kNoSetUp[] = "TLS cannot be set up: out of memory";
constexpr char kOthersKey[] = " does not belong to the certificate ";

template <auto Free>
struct Freer {
    template <class T>
    void operator()(T* object) const {
        Free(object);
    }
};
using Names = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;

// What a certificate says of itself goes into logs and terminals, and may be a stranger's.
std::string printable(const ASN1_STRING* string) {
    constexpr std::size_t kShownMax = 100;  // A host name has up to 253; enough to know it by.
    const std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
                           static_cast<std::size_t>(ASN1_STRING_length(string)));
    std::string out = text.substr(0, kShownMax);
    std::replace_if(
        out.begin(), out.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
    return text.size() > kShownMax ? out + "..." : out;
}

std::string address_of(const ASN1_OCTET_STRING& bytes) {
    const int size = ASN1_STRING_length(&bytes);
    const int family = size == 4 ? AF_INET : size == 16 ? AF_INET6 : -1;
    std::array<char, INET6_ADDRSTRLEN> text{};
    const bool is_good =
        family >= 0 && inet_ntop(family, ASN1_STRING_get0_data(&bytes), text.data(), text.size());
    return is_good ? text.data() : "?";
}

// "chat.example, 192.0.2.1 and 3 more"; "" when it names no host.
std::string hosts_of(X509* cert) {
    constexpr std::size_t kNamedMax = 3;
    const Names names(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(cert, NID_subject_alt_name, nullptr, nullptr)));
    std::vector<std::string> hosts;
    std::size_t more = 0;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type != GEN_DNS && name->type != GEN_IPADD) continue;
        if (hosts.size() == kNamedMax) {
            ++more;
        } else if (name->type == GEN_DNS) {
            hosts.push_back(printable(name->d.dNSName));
        } else {
            hosts.push_back(address_of(*name->d.iPAddress));
        }
    }
    std::string out;
    for (std::size_t i = 0; i < hosts.size(); ++i) {
        const bool is_last = i + 1 == hosts.size() && more == 0;
        if (i > 0) out += is_last ? " and " : ", ";
        out += hosts[i];
    }
    return more > 0 ? out + " and " + std::to_string(more) + " more" : out;
}

std::string time_text(const ASN1_TIME* time) {
    std::tm parts{};
    std::array<char, 32> text{};
    if (ASN1_TIME_to_tm(time, &parts) != 1 ||
        std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &parts) == 0) {
        return "an unreadable time";
    }
    return text.data();
}

std::string common_name_of(const X509_NAME* name) {
    const int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (at < 0) return "an authority without a name";
    return printable(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
}

bool has_begun(const X509* cert) { return X509_cmp_current_time(X509_get0_notBefore(cert)) < 0; }
bool has_expired(const X509* cert) { return X509_cmp_current_time(X509_get0_notAfter(cert)) < 0; }

SSL_CTX* new_context(const SSL_METHOD* method) {
    SSL_CTX* handle = SSL_CTX_new(method);
    if (!handle) return nullptr;
    SSL_CTX_set_min_proto_version(handle, TLS1_2_VERSION);  // RFC 8996: older ones are broken.
    SSL_CTX_set_options(handle, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    return handle;
}

// ---- the server's side ----

// OpenSSL's own would ask at the terminal, and a service would wait there for ever. `is_asked`
// points to a bool, or nowhere.
int no_password(char*, int, int, void* is_asked) {
    if (is_asked) *static_cast<bool*>(is_asked) = true;
    return -1;
}

// Why OpenSSL could not use a file. Empties OpenSSL's queue of errors.
std::string file_failure(const char* what, const std::string& file) {
    const unsigned long error = ERR_get_error();
    ERR_clear_error();
    std::string reason;
    if (FILE* opened = std::fopen(file.c_str(), "r")) {
        std::fclose(opened);
        const int library = ERR_GET_LIB(error);
        const int code = ERR_GET_REASON(error);
        if (library == ERR_LIB_PEM && code == PEM_R_NO_START_LINE) {
            reason = "there is none in it, in PEM form";
        } else {
            const char* text = ERR_reason_error_string(error);
            reason = text ? text : "it cannot be used";
        }
    } else {
        reason = std::generic_category().message(errno);
    }
    return "the " + std::string(what) + " " + file + ": " + reason;
}

Result<TlsContext> load_server_context(const std::string& cert_file, const std::string& key_file,
                                       std::string& why) {
    // Mozilla's intermediate recommendation, version 5.7, without its finite-field DHE: whoever
    // has TLS 1.2 has elliptic curves. TLS 1.3 has its own list.
    constexpr char kCiphers[] =
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
        "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
    const std::error_code unusable = std::make_error_code(std::errc::invalid_argument);
    if (cert_file.empty() || key_file.empty()) {
        why = "TLS takes a certificate file and a key file, and one of them is missing";
        return unusable;
    }
    SSL_CTX* handle = new_context(TLS_server_method());
    if (!handle) {
        why = kNoSetUp;
        return std::make_error_code(std::errc::not_enough_memory);
    }
    auto context = std::make_shared<asio::ssl::context>(handle);
    SSL_CTX_set_cipher_list(handle, kCiphers);
    SSL_CTX_set_default_passwd_cb(handle, no_password);
    // Connections last, so resuming saves little; and a key for tickets that lives as long as the
    // process would open what was recorded, once it leaked.
    SSL_CTX_set_options(handle, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(handle, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(handle, 0);
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(handle, cert_file.c_str()) != 1) {
        why = file_failure("certificate", cert_file);
        return unusable;
    }
    bool is_password_asked = false;
    SSL_CTX_set_default_passwd_cb_userdata(handle, &is_password_asked);
    const int is_key_taken =
        SSL_CTX_use_PrivateKey_file(handle, key_file.c_str(), SSL_FILETYPE_PEM);
    // Asio's context deletes what it finds there.
    SSL_CTX_set_default_passwd_cb_userdata(handle, nullptr);
    if (is_key_taken != 1) {
        const unsigned long error = ERR_peek_error();
        const bool is_other = ERR_GET_LIB(error) == ERR_LIB_X509 &&
                              ERR_GET_REASON(error) == X509_R_KEY_VALUES_MISMATCH;
        why = file_failure("key", key_file);
        if (is_password_asked) {
            why = "the key " + key_file +
                  " is protected by a password, and nobody could be asked for it: store it without "
                  "one, readable for the gateway only";
        }
        if (is_other) why = "the key " + key_file + kOthersKey + cert_file;
        return unusable;
    }
    // A key of another kind than the certificate's was taken without a word.
    if (SSL_CTX_check_private_key(handle) != 1) {
        ERR_clear_error();
        why = "the key " + key_file + kOthersKey + cert_file;
        return unusable;
    }
    return context;
}

X509* certificate_of(const TlsContext& context) {
    return SSL_CTX_get0_certificate(context->native_handle());
}

// ---- the client's side ----

// What one connection asks of the server, and what it found. Lives as long as its SSL.
struct Verification {
    std::string host;
    std::vector<std::string> pins;
    bool is_insecure = false;
    std::string failure;
};

void free_verification(void*, void* data, CRYPTO_EX_DATA*, int, long, void*) {
    delete static_cast<Verification*>(data);
}

int verification_index() {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, free_verification);
    return index;
}

Verification* verification_of(const SSL* ssl) {
    return static_cast<Verification*>(SSL_get_ex_data(ssl, verification_index()));
}

std::string key_pin_of(X509* cert) {
    unsigned char* der = nullptr;
    const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (size <= 0) return {};
    std::array<unsigned char, 32> digest{};
    const int is_done = EVP_Digest(der, static_cast<std::size_t>(size), digest.data(), nullptr,
                                   EVP_sha256(), nullptr);
    OPENSSL_free(der);
    std::array<unsigned char, 45> text{};  // 44 characters and the 0.
    if (is_done != 1) return {};
    EVP_EncodeBlock(text.data(), digest.data(), static_cast<int>(digest.size()));
    return reinterpret_cast<const char*>(text.data());
}

bool is_pinned(const Verification& check, X509* cert) {
    return std::find(check.pins.begin(), check.pins.end(), key_pin_of(cert)) != check.pins.end();
}

std::string describe_chain(X509_STORE_CTX* store, const std::string& host) {
    const int error = X509_STORE_CTX_get_error(store);
    X509* leaf = X509_STORE_CTX_get0_cert(store);
    X509* cert = X509_STORE_CTX_get_current_cert(store);
    if (!cert) cert = leaf;
    const std::string whose =
        X509_STORE_CTX_get_error_depth(store) == 0
            ? "the server's certificate"
            : "the authority \"" + common_name_of(X509_get_subject_name(cert)) + "\"";
    switch (error) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            return whose + " has expired, on " + time_text(X509_get0_notAfter(cert)) +
                   ": it must be renewed there, unless this machine's clock is wrong";
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return whose + " is not yet valid, before " + time_text(X509_get0_notBefore(cert)) +
                   ": is this machine's clock wrong?";
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH: {
            const std::string hosts = hosts_of(leaf);
            const std::string whom =
                hosts.empty() ? " names no host (as subjectAltName)" : " was issued for " + hosts;
            return whose + whom + ", not for " + host +
                   ": connect by a name it has, or let the server get one for this name";
        }
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
            return whose +
                   " is self-signed: nobody vouches for it. If it is the right one, give it as "
                   "the CA file";
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
            return "the server's certificate comes from an unknown authority, \"" +
                   common_name_of(error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
                                      ? X509_get_subject_name(cert)
                                      : X509_get_issuer_name(cert)) +
                   "\": give its certificate as the CA file, or let the server send the whole "
                   "chain";
        default: return whose + " is not acceptable: " + X509_verify_cert_error_string(error);
    }
}

// In place of OpenSSL's whole verification, which it calls: one place that decides.
int verify(X509_STORE_CTX* store, void*) {
    const auto* ssl = static_cast<const SSL*>(
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    Verification* const check = ssl ? verification_of(ssl) : nullptr;
    if (!check) return 0;  // A stream that prepare_tls_client() has not seen.
    if (!check->is_insecure && X509_verify_cert(store) != 1) {
        check->failure = describe_chain(store, check->host);
        return 0;
    }
    if (check->pins.empty()) return 1;
    X509* leaf = X509_STORE_CTX_get0_cert(store);
    bool is_found = leaf && is_pinned(*check, leaf);
    if (!check->is_insecure) {
        // Any key of the chain, as RFC 7469 section 2.6 has it. Unverified, the others prove
        // nothing: everybody can send them along.
        STACK_OF(X509)* const chain = X509_STORE_CTX_get0_chain(store);
        for (int i = 0; i < sk_X509_num(chain); ++i) {
            is_found = is_found || is_pinned(*check, sk_X509_value(chain, i));
        }
    }
    if (is_found) return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    check->failure = "the server's public key is not the pinned one, it is " +
                     (leaf ? key_pin_of(leaf) : "none") +
                     ": pin that one if the server has a new key, else somebody sits in between";
    return 0;
}

TlsContext make_client_context(const TlsClientOptions& options, std::string& why) {
    SSL_CTX* handle = new_context(TLS_client_method());
    if (!handle) {
        why = kNoSetUp;
        return nullptr;
    }
    auto context = std::make_shared<asio::ssl::context>(handle);
    SSL_CTX_set_verify(handle, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_cert_verify_callback(handle, verify, nullptr);
    if (options.is_insecure) return context;
    ERR_clear_error();
    if (options.ca_file.empty()) {
        if (SSL_CTX_set_default_verify_paths(handle) == 1) return context;
        ERR_clear_error();
        why = "the system's certificate authorities cannot be read: give a CA file";
        return nullptr;
    }
    if (SSL_CTX_load_verify_locations(handle, options.ca_file.c_str(), nullptr) == 1) {
        return context;
    }
    why = file_failure("CA file", options.ca_file);
    return nullptr;
}

bool set_up_client(SSL* ssl, std::string host, const TlsClientOptions& options) {
    if (host.size() > 1 && host.back() == '.') host.pop_back();  // No certificate has the root's.
    auto check = std::make_unique<Verification>();
    check->host = host;
    check->pins = options.pins;
    check->is_insecure = options.is_insecure;
    if (SSL_set_ex_data(ssl, verification_index(), check.get()) != 1) return false;
    (void)check.release();  // The connection's from here on.
    SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
    X509_VERIFY_PARAM* const param = SSL_get0_param(ssl);
    std::error_code no_address;
    asio::ip::make_address(host, no_address);
    if (!no_address) return X509_VERIFY_PARAM_set1_ip_asc(param, host.c_str()) == 1;
    // RFC 9525: names are in subjectAltName, and a wildcard is a whole label.
    X509_VERIFY_PARAM_set_hostflags(
        param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, host.c_str(), host.size()) == 1 &&
           SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;  // RFC 6066: never an address.
}

}  // namespace

Result<std::shared_ptr<TlsServer>> TlsServer::load(std::string cert_file, std::string key_file,
                                                   std::string& why) {
    auto context = load_server_context(cert_file, key_file, why);
    if (!context) return context.error();
    std::shared_ptr<TlsServer> server(new TlsServer(std::move(cert_file), std::move(key_file)));
    server->context_ = *context;
    return server;
}

TlsContext TlsServer::context() const {
    const std::lock_guard lock(mutex_);
    return context_;
}

std::error_code TlsServer::reload(std::string& why) {
    auto fresh = load_server_context(cert_file_, key_file_, why);
    if (!fresh) return fresh.error();
    const X509* cert = certificate_of(*fresh);
    if (has_expired(cert) || !has_begun(cert)) {
        why = "the certificate " + cert_file_ +
              (has_expired(cert)
                   ? " has expired, on " + time_text(X509_get0_notAfter(cert))
                   : " is not yet valid, before " + time_text(X509_get0_notBefore(cert)));
        return std::make_error_code(std::errc::invalid_argument);
    }
    const std::lock_guard lock(mutex_);
    context_ = *fresh;
    return {};
}

std::string TlsServer::summary() const {
    const TlsContext shown = context();
    X509* cert = certificate_of(shown);
    const std::string hosts = hosts_of(cert);
    return "certificate for " + (hosts.empty() ? "no host at all" : hosts) + ", valid until " +
           time_text(X509_get0_notAfter(cert));
}

bool TlsServer::is_in_its_time() const {
    const TlsContext shown = context();
    const X509* cert = certificate_of(shown);
    return has_begun(cert) && !has_expired(cert);
}

TlsContext TlsClientContexts::find(const TlsClientOptions& options, std::string& why) {
    // A CA file may have changed since.
    if (!options.ca_file.empty() || options.is_insecure) return make_client_context(options, why);
    if (!system_) system_ = make_client_context(options, why);
    return system_;
}

bool prepare_tls_client(ssl_st* ssl, const std::string& host, const TlsClientOptions& options,
                        std::string& why) {
    if (!std::all_of(options.pins.begin(), options.pins.end(), is_key_pin)) {
        why = "a pin is not the base64 of a SHA-256, which has 44 characters";
        return false;
    }
    if (set_up_client(ssl, host, options)) return true;
    ERR_clear_error();
    why = "TLS cannot be set up for " + host;
    return false;
}

std::string describe_tls_failure(ssl_st* ssl, std::error_code error) {
    if (const Verification* check = verification_of(ssl); check && !check->failure.empty()) {
        return check->failure;
    }
    if (error == asio::ssl::error::stream_truncated || error == asio::error::eof) {
        return "the peer ended the connection in the middle of the TLS handshake";
    }
    if (error.category() != asio::error::get_ssl_category()) return error.message();
    switch (ERR_GET_REASON(static_cast<unsigned long>(error.value()))) {
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_PACKET_LENGTH_TOO_LONG:
            return "the peer does not speak TLS there: is it ws://, not wss://?";
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
            return "the peer speaks no version of TLS from 1.2 on: it must be brought up to date";
        default: return error.message();
    }
}

#else

Result<std::shared_ptr<TlsServer>> TlsServer::load(std::string, std::string, std::string& why) {
    why = "this build has no TLS";
    return std::make_error_code(std::errc::not_supported);
}

TlsContext TlsServer::context() const { return context_; }
std::error_code TlsServer::reload(std::string&) { return {}; }
std::string TlsServer::summary() const { return {}; }
bool TlsServer::is_in_its_time() const { return true; }

TlsContext TlsClientContexts::find(const TlsClientOptions&, std::string& why) {
    why = "this build has no TLS: wss:// is not possible";
    return system_;
}

bool prepare_tls_client(ssl_st*, const std::string&, const TlsClientOptions&, std::string&) {
    return false;
}

std::string describe_tls_failure(ssl_st*, std::error_code error) { return error.message(); }

#endif  // PETREL_HAS_TLS

}  // namespace petrel
