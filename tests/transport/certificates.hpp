#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace petrel::test {

// A directory that goes with the object.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string path = "/tmp/petrel-transport-XXXXXX";
        path_ = mkdtemp(path.data()) ? path : "";
    }
    ~TemporaryFolder() {
        for (const std::string& file : files_) unlink(file.c_str());
        rmdir(path_.c_str());
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    std::string file(const std::string& name) {
        files_.push_back(path_ + "/" + name);
        return files_.back();
    }

private:
    std::string path_;
    std::vector<std::string> files_;
};

struct CertificateOptions {
    std::string common_name = "test";
    std::string alternative_names;  // "DNS:localhost,IP:127.0.0.1"
    bool is_authority = false;
    long valid_from = -3600;  // Seconds from now.
    long valid_to = 3600;
};

// A certificate with its key, signed by `issuer` or by itself.
class Certificate {
public:
    explicit Certificate(const CertificateOptions& options, const Certificate* issuer = nullptr)
        : key_(EVP_EC_gen("P-256"), EVP_PKEY_free), cert_(X509_new(), X509_free) {
        static long serial = 1;
        X509* cert = cert_.get();
        X509_set_version(cert, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
        X509_gmtime_adj(X509_getm_notBefore(cert), options.valid_from);
        X509_gmtime_adj(X509_getm_notAfter(cert), options.valid_to);
        X509_set_pubkey(cert, key_.get());
        X509_NAME_add_entry_by_txt(
            X509_get_subject_name(cert), "CN", MBSTRING_ASC,
            reinterpret_cast<const unsigned char*>(options.common_name.c_str()), -1, -1, 0);
        X509* signer = issuer ? issuer->cert_.get() : cert;
        X509_set_issuer_name(cert, X509_get_subject_name(signer));
        add_extension(NID_basic_constraints,
                      options.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
        if (options.is_authority) add_extension(NID_key_usage, "critical,keyCertSign,cRLSign");
        if (!options.alternative_names.empty()) {
            add_extension(NID_subject_alt_name, options.alternative_names.c_str());
        }
        X509_sign(cert, issuer ? issuer->key_.get() : key_.get(), EVP_sha256());
    }

    void write(const std::string& cert_file, const std::string& key_file) const {
        if (FILE* file = std::fopen(cert_file.c_str(), "w")) {
            PEM_write_X509(file, cert_.get());
            std::fclose(file);
        }
        if (key_file.empty()) return;
        if (FILE* file = std::fopen(key_file.c_str(), "w")) {
            PEM_write_PrivateKey(file, key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
            std::fclose(file);
        }
    }

    // Behind what the file holds already: a chain.
    void append(const std::string& cert_file) const {
        if (FILE* file = std::fopen(cert_file.c_str(), "a")) {
            PEM_write_X509(file, cert_.get());
            std::fclose(file);
        }
    }

    // Of its public key, as RFC 7469 writes it.
    std::string pin() const {
        unsigned char* der = nullptr;
        const int size = i2d_PUBKEY(key_.get(), &der);
        unsigned char digest[32];
        EVP_Digest(der, static_cast<std::size_t>(size), digest, nullptr, EVP_sha256(), nullptr);
        OPENSSL_free(der);
        unsigned char text[45];
        EVP_EncodeBlock(text, digest, sizeof digest);
        return reinterpret_cast<const char*>(text);
    }

private:
    void add_extension(int id, const char* value) {
        X509V3_CTX context;
        X509V3_set_ctx(&context, cert_.get(), cert_.get(), nullptr, nullptr, 0);
        X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value);
        X509_add_ext(cert_.get(), extension, -1);
        X509_EXTENSION_free(extension);
    }

    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_;
    std::unique_ptr<X509, decltype(&X509_free)> cert_;
};

}  // namespace petrel::test
