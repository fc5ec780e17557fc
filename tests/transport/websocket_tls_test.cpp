#include <doctest/doctest.h>

#if PETREL_HAS_TLS

#include <openssl/ssl.h>

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "tests/transport/certificates.hpp"
#include "tests/transport/raw_socket.hpp"
#include "tests/transport/world.hpp"
#include "transport/tls.hpp"

// Who is trusted on wss://, and what a refusal says.

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

// A server with a certificate of `authority`, and a client that trusts `authority`.
template <class Kind>
struct TlsWorld : World<Kind> {
    TlsWorld() {
        CertificateOptions options;
        options.common_name = "authority";
        options.is_authority = true;
        authority = std::make_unique<Certificate>(options);
        authority->write(ca_file, "");
        certificate.alternative_names = "DNS:localhost,IP:127.0.0.1";
    }

    void serve() { serve(Certificate(certificate, authority.get())); }
    void serve(const Certificate& shown) {
        shown.write(cert_file, key_file);
        this->listen_options.tls_cert_file = cert_file;
        this->listen_options.tls_key_file = key_file;
        this->listen();
    }

    std::unique_ptr<Side> dial(const std::string& host = "127.0.0.1") {
        ConnectOptions options;
        options.url = "wss://" + host + ":" + std::to_string(this->port) + "/ws";
        options.tls = tls;
        auto side = std::make_unique<Side>();
        side->transport = this->connector->connect(options, side->handler);
        REQUIRE(this->run_until([&] { return side->handler.is_open || side->handler.closed; }));
        return side;
    }

    // Why the attempt failed; "" when it did not.
    std::string refusal(const std::string& host = "127.0.0.1") {
        const auto side = dial(host);
        if (!side->handler.closed) return {};
        CHECK(!side->handler.closed->was_open);
        CHECK(side->handler.closed->code == 1006);
        CHECK(this->accepted.sides.empty());
        return side->handler.closed->reason;
    }

    TemporaryFolder folder;
    std::string ca_file = folder.file("ca.pem");
    std::string cert_file = folder.file("cert.pem");
    std::string key_file = folder.file("key.pem");
    std::unique_ptr<Certificate> authority;
    CertificateOptions certificate;
    TlsClientOptions tls{ca_file, false, {}};
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_TEMPLATE("Tls: a certificate of a known authority for the right host is taken", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.serve();

    CHECK(world.refusal("127.0.0.1") == "");
    CHECK(world.dial("localhost")->handler.is_open);
}

TEST_CASE_TEMPLATE("Tls: a certificate for another host is refused", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.certificate.alternative_names = "DNS:other.example,IP:192.0.2.1";
    world.serve();

    CHECK(contains(world.refusal("127.0.0.1"),
                   "was issued for other.example and 192.0.2.1, not for 127.0.0.1: "));
    CHECK(contains(world.refusal("localhost"),
                   "was issued for other.example and 192.0.2.1, not for localhost: "));
}

TEST_CASE_TEMPLATE("Tls: a certificate that has its host as the common name only is refused", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.certificate.common_name = "localhost";
    world.certificate.alternative_names.clear();
    world.serve();

    CHECK(contains(world.refusal("localhost"),
                   "names no host (as subjectAltName), not for localhost: "));
}

TEST_CASE_TEMPLATE("Tls: a certificate for many hosts is described by a few", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.certificate.alternative_names =
        "DNS:a.example,DNS:b.example,DNS:c.example,DNS:d.example,IP:::1";
    world.serve();

    CHECK(contains(world.refusal(),
                   "was issued for a.example, b.example, c.example and 2 more, not for"));
}

TEST_CASE_TEMPLATE("Tls: a certificate out of its time is refused", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    std::string expected;
    SUBCASE("expired") {
        world.certificate.valid_from = -7200;
        world.certificate.valid_to = -3600;
        expected = "the server's certificate has expired, on 2";
    }
    SUBCASE("from tomorrow on") {
        world.certificate.valid_from = 3600;
        world.certificate.valid_to = 7200;
        expected = "the server's certificate is not yet valid, before 2";
    }
    world.serve();

    CHECK(contains(world.refusal(), expected));
}

TEST_CASE_TEMPLATE("Tls: a self-signed certificate is refused", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.serve(Certificate(world.certificate));

    CHECK(contains(world.refusal(), "self-signed"));
}

TEST_CASE_TEMPLATE("Tls: a certificate of an unknown authority is refused", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    CertificateOptions options;
    options.common_name = "somebody else";
    options.is_authority = true;
    const Certificate stranger(options);
    world.serve(Certificate(world.certificate, &stranger));

    CHECK(contains(world.refusal(), "from an unknown authority, \"somebody else\": "));
}

TEST_CASE_TEMPLATE("Tls: without a CA file the system's authorities count", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.serve();
    world.tls.ca_file.clear();

    CHECK(contains(world.refusal(), "from an unknown authority, \"authority\": "));
    CHECK(contains(world.refusal(), "from an unknown authority, \"authority\": "));
}

TEST_CASE_TEMPLATE("Tls: is_insecure takes every certificate", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.certificate.alternative_names = "DNS:other.example";
    world.certificate.valid_from = -7200;
    world.certificate.valid_to = -3600;
    world.serve(Certificate(world.certificate));
    world.tls.is_insecure = true;

    CHECK(world.refusal() == "");
}

TEST_CASE_TEMPLATE("Tls: a pinned key is taken, another is refused", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    const Certificate shown(world.certificate, world.authority.get());
    world.serve(shown);
    const std::string stranger = Certificate(world.certificate).pin();
    SUBCASE("the server's") { world.tls.pins = {shown.pin()}; }
    SUBCASE("the server's among others") { world.tls.pins = {stranger, shown.pin()}; }
    SUBCASE("its authority's") { world.tls.pins = {world.authority->pin()}; }

    CHECK(world.refusal() == "");
    world.accepted.sides.clear();
    world.tls.pins = {stranger};
    CHECK(
        contains(world.refusal(), "public key is not the pinned one, it is " + shown.pin() + ": "));
}

TEST_CASE_TEMPLATE("Tls: a pin does not stand in for the authority, or for the host", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    std::string expected;
    SUBCASE("self-signed") {
        const Certificate shown(world.certificate);
        world.tls.pins = {shown.pin()};
        world.serve(shown);
        expected = "self-signed";
    }
    SUBCASE("another host") {
        world.certificate.alternative_names = "DNS:other.example";
        const Certificate shown(world.certificate, world.authority.get());
        world.tls.pins = {shown.pin()};
        world.serve(shown);
        expected = "was issued for other.example";
    }

    CHECK(contains(world.refusal(), expected));
}

TEST_CASE_TEMPLATE("Tls: with is_insecure a pin is all that counts, and the server's own key only",
                   Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    const Certificate shown(world.certificate, world.authority.get());
    shown.write(world.cert_file, world.key_file);
    world.authority->append(world.cert_file);
    world.listen_options.tls_cert_file = world.cert_file;
    world.listen_options.tls_key_file = world.key_file;
    world.listen();
    world.tls.is_insecure = true;
    world.tls.ca_file.clear();

    world.tls.pins = {shown.pin()};
    CHECK(world.refusal() == "");
    // Everybody can send an authority's certificate along.
    world.accepted.sides.clear();
    world.tls.pins = {world.authority->pin()};
    CHECK(contains(world.refusal(), "not the pinned one"));
}

TEST_CASE_TEMPLATE("Tls: a pin is the base64 of 32 bytes", Kind, SOCKET_KINDS) {
    const std::string good = Certificate(CertificateOptions()).pin();
    CHECK(is_key_pin(good));
    CHECK(is_key_pin("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="));  // RFC 7469 section 2.1.5.
    for (const std::string& bad :
         {std::string(), good.substr(1), good + "=", "sha256/" + good, good.substr(0, 43) + "A",
          good.substr(0, 42) + "B=", "!" + good.substr(1), good.substr(0, 42) + "=="}) {
        CAPTURE(bad);
        CHECK(!is_key_pin(bad));
    }
    TlsWorld<Kind> world;
    world.serve();
    world.tls.pins = {"short"};
    CHECK(contains(world.refusal(), "44 characters"));
}

TEST_CASE_TEMPLATE("Tls: a CA file that cannot be read is reported by on_closed", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.serve();
    world.tls.ca_file = "/nonexistent/ca.pem";

    CHECK(contains(world.refusal(), "/nonexistent/ca.pem"));
}

TEST_CASE_TEMPLATE("Tls: a server that speaks plain ws is refused, and the other way round", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    SUBCASE("wss to ws") {
        world.listen_options.handshake_timeout = 50ms;  // It waits for the end of the request.
        world.listen();
        const std::string refusal = world.refusal();
        INFO(refusal);
        // One ClientHello of some 400 has "\r\n" among its random bytes: websocketpp takes that for
        // a line of HTTP, and answers it.
        const bool is_answered = contains(refusal, "the peer does not speak TLS there");
        CHECK((is_answered ||
               contains(refusal, "ended the connection in the middle of the TLS handshake")));
    }
    SUBCASE("ws to wss") {
        world.serve();
        ConnectOptions options;
        options.url = Kind::url(world.port);
        Side side;
        side.transport = world.connector->connect(options, side.handler);
        REQUIRE(world.run_until_closed(side));
        CHECK(!side.handler.closed->was_open);
    }
}

TEST_CASE_TEMPLATE("Tls: HTTP status of a refused upgrade", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.serve();
    ConnectOptions options;
    options.url = "wss://127.0.0.1:" + std::to_string(world.port) + "/nowhere";
    options.tls = world.tls;
    Side side;
    side.transport = world.connector->connect(options, side.handler);

    REQUIRE(world.run_until_closed(side));

    CHECK(side.handler.closed->http_status == 404);
}

TEST_CASE_TEMPLATE("Tls: a handshake that stops half-way is cut, at either end", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    SUBCASE("the server's patience") {
        world.listen_options.handshake_timeout = 20ms;
        world.serve();
        RawSocket socket(RawSocket::connect(world.port));
        socket.send(std::string_view("\x16\x03\x01", 3));
        CHECK(world.run_until([&] { return socket.has_ended(); }));
    }
    SUBCASE("the client's patience") {
        RawListener raw;
        ConnectOptions options;
        options.url = "wss://127.0.0.1:" + std::to_string(raw.port) + "/ws";
        options.handshake_timeout = 20ms;
        options.tls = world.tls;
        Side side;
        side.transport = world.connector->connect(options, side.handler);
        REQUIRE(world.run_until_closed(side));
        CHECK(contains(side.handler.closed->reason, "no answer within 20 ms"));
    }
}

TEST_CASE_TEMPLATE("Tls: versions below 1.2 are refused", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.serve();
    std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                              SSL_CTX_free);
    SSL_CTX_set_security_level(context.get(), 0);
    long version = 0;
    int answer = 0;
    SUBCASE("1.1") { version = TLS1_1_VERSION; }
    SUBCASE("1.2") {
        version = TLS1_2_VERSION;
        answer = 1;
    }
    SSL_CTX_set_min_proto_version(context.get(), static_cast<int>(version));
    SSL_CTX_set_max_proto_version(context.get(), static_cast<int>(version));
    const int fd = RawSocket::connect(world.port);
    RawSocket socket(fd);
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
    SSL_set_fd(ssl.get(), fd);
    int result = -1;

    REQUIRE(world.run_until([&] {
        result = SSL_connect(ssl.get());
        return result == 1 || (SSL_get_error(ssl.get(), result) != SSL_ERROR_WANT_READ &&
                               SSL_get_error(ssl.get(), result) != SSL_ERROR_WANT_WRITE);
    }));

    CHECK((result == 1 ? 1 : 0) == answer);
}

TEST_CASE_TEMPLATE("Tls: a reload is for connections from then on", Kind, SOCKET_KINDS) {
    TlsWorld<Kind> world;
    const Certificate first(world.certificate, world.authority.get());
    const Certificate second(world.certificate, world.authority.get());
    first.write(world.cert_file, world.key_file);
    std::string why;
    auto server = TlsServer::load(world.cert_file, world.key_file, why);
    REQUIRE(static_cast<bool>(server));
    world.listen_options.tls = *server;
    world.listen();
    world.tls.pins = {first.pin()};
    const auto before = world.dial();
    REQUIRE(before->handler.is_open);
    Side& accepted = *world.accepted.sides.back();

    second.write(world.cert_file, world.key_file);
    CHECK(!(*server)->reload(why));

    world.tls.pins = {second.pin()};
    CHECK(world.dial()->handler.is_open);
    before->transport->send("still here");
    CHECK(world.run_until([&] { return accepted.handler.texts.size() == 1; }));
    CHECK(!before->handler.closed);
}

TEST_CASE_TEMPLATE("Tls: a reload of what cannot be used changes nothing and says why", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    const Certificate first(world.certificate, world.authority.get());
    first.write(world.cert_file, world.key_file);
    std::string why;
    auto server = TlsServer::load(world.cert_file, world.key_file, why);
    REQUIRE(static_cast<bool>(server));
    CHECK((*server)->is_in_its_time());
    const TlsContext before = (*server)->context();
    CertificateOptions options = world.certificate;
    std::string expected;
    SUBCASE("another's key") {
        Certificate(options).write(world.folder.file("unused.pem"), world.key_file);
        expected = "does not belong to the certificate";
    }
    SUBCASE("a key of another kind") {
        const auto rsa =
            std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>(EVP_RSA_gen(2048), EVP_PKEY_free);
        FILE* const file = std::fopen(world.key_file.c_str(), "w");
        PEM_write_PrivateKey(file, rsa.get(), nullptr, nullptr, 0, nullptr, nullptr);
        std::fclose(file);
        expected = "does not belong to the certificate";
    }
    SUBCASE("expired") {
        options.valid_from = -7200;
        options.valid_to = -3600;
        Certificate(options).write(world.cert_file, world.key_file);
        expected = "has expired, on 2";
    }
    SUBCASE("from tomorrow on") {
        options.valid_from = 3600;
        options.valid_to = 7200;
        Certificate(options).write(world.cert_file, world.key_file);
        expected = "is not yet valid, before 2";
    }
    SUBCASE("no files") {
        unlink(world.cert_file.c_str());
        expected = world.cert_file + ": No such file";
    }

    CHECK((*server)->reload(why));
    CHECK(contains(why, expected));
    CHECK((*server)->context() == before);
    CHECK(contains((*server)->summary(), "certificate for localhost and 127.0.0.1, valid until 2"));
}

TEST_CASE_TEMPLATE("Tls: a certificate out of its time can be started with, and says so", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.certificate.valid_from = -7200;
    world.certificate.valid_to = -3600;
    Certificate(world.certificate).write(world.cert_file, world.key_file);
    std::string why;
    auto server = TlsServer::load(world.cert_file, world.key_file, why);
    REQUIRE(static_cast<bool>(server));
    CHECK(!(*server)->is_in_its_time());
}

TEST_CASE_TEMPLATE("Tls: a certificate or key that cannot be used is an error that names it", Kind,
                   SOCKET_KINDS) {
    TlsWorld<Kind> world;
    world.serve();
    world.listener->stop();
    ListenOptions options = world.listen_options;
    std::string expected;
    SUBCASE("no certificate") { options.tls_cert_file = expected = "/nonexistent/cert.pem"; }
    SUBCASE("no key") { options.tls_key_file = expected = "/nonexistent/key.pem"; }
    SUBCASE("a certificate without a key") { options.tls_key_file.clear(); }
    SUBCASE("a key without a certificate") { options.tls_cert_file.clear(); }
    SUBCASE("a key with a password") {
        const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                      EVP_PKEY_free);
        options.tls_key_file = world.folder.file("locked.pem");
        FILE* const file = std::fopen(options.tls_key_file.c_str(), "w");
        PEM_write_PrivateKey(file, key.get(), EVP_aes_128_cbc(),
                             reinterpret_cast<const unsigned char*>("secret"), 6, nullptr, nullptr);
        std::fclose(file);
        expected = options.tls_key_file + " is protected by a password";
    }
    SUBCASE("another's key") {
        expected = options.tls_key_file = world.folder.file("other.pem");
        Certificate(world.certificate).write(world.folder.file("unused.pem"), expected);
    }

    CHECK(!world.listener->listen(options, world.accepted));
    CHECK(contains(world.listener->last_error(), expected));
    CHECK(!world.listener->last_error().empty());
}

#else

#include <string>

#include "tests/transport/world.hpp"

using namespace petrel;
using namespace petrel::test;

TEST_CASE_TEMPLATE("Tls: a build without it says so", Kind, SOCKET_KINDS) {
    World<Kind> world;
    ConnectOptions options;
    options.url = "wss://127.0.0.1:9/ws";
    Side side;
    side.transport = world.connector->connect(options, side.handler);
    REQUIRE(world.run_until_closed(side));
    CHECK(side.handler.closed->reason.find("TLS") != std::string::npos);

    world.listen_options.tls_cert_file = "cert.pem";
    const auto listener = world.kind.make_listener();
    CHECK(!listener->listen(world.listen_options, world.accepted));
    CHECK(listener->last_error().find("TLS") != std::string::npos);
}

#endif  // PETREL_HAS_TLS
