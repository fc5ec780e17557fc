#include "transport/tls_session.hpp"

#if PETREL_HAS_TLS
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <asio/ssl/context.hpp>
#include <asio/ssl/error.hpp>
#include <cerrno>
#include <climits>
#endif

namespace petrel {

#if PETREL_HAS_TLS

namespace {

int to_size(std::size_t size) { return static_cast<int>(std::min<std::size_t>(size, INT_MAX)); }

bool is_blocked(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

// OpenSSL's own BIO for sockets writes without MSG_NOSIGNAL: the first peer that goes away would
// end the process.
int handle_of(BIO* bio) { return static_cast<TcpSocket*>(BIO_get_data(bio))->native_handle(); }

int bio_write(BIO* bio, const char* data, int size) {
    BIO_clear_retry_flags(bio);
    const auto count = ::send(handle_of(bio), data, static_cast<std::size_t>(size), MSG_NOSIGNAL);
    if (count < 0 && is_blocked(errno)) BIO_set_retry_write(bio);
    return static_cast<int>(count);
}

int bio_read(BIO* bio, char* data, int size) {
    BIO_clear_retry_flags(bio);
    const auto count = ::recv(handle_of(bio), data, static_cast<std::size_t>(size), 0);
    if (count < 0 && is_blocked(errno)) BIO_set_retry_read(bio);
    return static_cast<int>(count);
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* make_bio_method() {
    BIO_METHOD* const method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "petrel socket");
    if (!method) return nullptr;
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_ctrl(method, bio_control);
    return method;
}

BIO* make_bio(TcpSocket& socket) {
    static BIO_METHOD* const method = make_bio_method();  // For the life of the process.
    BIO* const bio = method ? BIO_new(method) : nullptr;
    if (!bio) return nullptr;
    BIO_set_data(bio, &socket);
    BIO_set_init(bio, 1);
    return bio;
}

class TlsSession final : public SecureSession {
public:
    // Takes `ssl`, which has a BIO.
    explicit TlsSession(SSL* ssl) : ssl_(ssl) {
        // What is not written whole may be written again from another place.
        SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
        SSL_set_read_ahead(ssl, 1);  // One system call for a record, not one for its header too.
    }
    ~TlsSession() override { SSL_free(ssl_); }
    TlsSession(const TlsSession&) = delete;
    TlsSession& operator=(const TlsSession&) = delete;

    Io shake_hands() override {
        ERR_clear_error();
        return outcome(SSL_do_handshake(ssl_));
    }
    Io read(char* data, std::size_t size) override {
        ERR_clear_error();
        return outcome(SSL_read(ssl_, data, to_size(size)));
    }
    Io write(const char* data, std::size_t size) override {
        ERR_clear_error();
        return outcome(SSL_write(ssl_, data, to_size(size)));
    }
    void say_goodbye() override {
        // After an error OpenSSL wants no more calls.
        if (is_broken_ || SSL_is_init_finished(ssl_) == 0) return;
        ERR_clear_error();
        SSL_shutdown(ssl_);
        ERR_clear_error();
    }
    std::string describe(std::error_code why) override { return describe_tls_failure(ssl_, why); }

private:
    Io outcome(int result) {
        const int system_error = errno;
        Io io;
        if (result > 0) {
            io.size = static_cast<std::size_t>(result);
            return io;
        }
        switch (SSL_get_error(ssl_, result)) {
            case SSL_ERROR_WANT_READ: io.status = Io::Status::kWantRead; return io;
            case SSL_ERROR_WANT_WRITE: io.status = Io::Status::kWantWrite; return io;
            case SSL_ERROR_ZERO_RETURN: io.status = Io::Status::kEnded; return io;
            case SSL_ERROR_SYSCALL:
                io.status = system_error == 0 ? Io::Status::kEnded : Io::Status::kFailed;
                io.error.assign(system_error, asio::error::get_system_category());
                break;
            default: {
                const unsigned long error = ERR_get_error();
                const bool is_end = ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
                io.status = is_end ? Io::Status::kEnded : Io::Status::kFailed;
                io.error.assign(static_cast<int>(error), asio::error::get_ssl_category());
            }
        }
        is_broken_ = true;
        ERR_clear_error();
        return io;
    }

    SSL* const ssl_;
    bool is_broken_ = false;
};

// nullptr: out of memory.
SSL* make_ssl(TcpSocket& socket, const TlsContext& context) {
    SSL* const ssl = SSL_new(context->native_handle());
    BIO* const bio = ssl ? make_bio(socket) : nullptr;
    if (!bio) {
        SSL_free(ssl);
        return nullptr;
    }
    SSL_set_bio(ssl, bio, bio);
    return ssl;
}

}  // namespace

std::unique_ptr<SecureSession> make_tls_client(TcpSocket& socket, TlsClientContexts& contexts,
                                               const std::string& host,
                                               const TlsClientOptions& options, std::string& why) {
    const TlsContext context = contexts.find(options, why);
    if (!context) return nullptr;
    SSL* const ssl = make_ssl(socket, context);
    if (!ssl) {
        why = "TLS cannot be set up: out of memory";
        return nullptr;
    }
    auto session = std::make_unique<TlsSession>(ssl);
    if (!prepare_tls_client(ssl, host, options, why)) return nullptr;
    SSL_set_connect_state(ssl);
    return session;
}

std::unique_ptr<SecureSession> make_tls_server(TcpSocket& socket, const TlsContext& context) {
    SSL* const ssl = make_ssl(socket, context);
    if (!ssl) return nullptr;
    auto session = std::make_unique<TlsSession>(ssl);
    SSL_set_accept_state(ssl);
    return session;
}

#else

std::unique_ptr<SecureSession> make_tls_client(TcpSocket&, TlsClientContexts&, const std::string&,
                                               const TlsClientOptions&, std::string& why) {
    why = "this build has no TLS: wss:// is not possible";
    return nullptr;
}

std::unique_ptr<SecureSession> make_tls_server(TcpSocket&, const TlsContext&) { return nullptr; }

#endif  // PETREL_HAS_TLS

}  // namespace petrel
