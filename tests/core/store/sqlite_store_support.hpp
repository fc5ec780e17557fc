#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <sqlite3.h>
#include <string>
#include <system_error>
#include <vector>

#include <doctest/doctest.h>

#include "tests/core/store/store_support.hpp"

// A store file seen from outside: its bytes, its tables, and what opening it says.

namespace petrel::test {

inline std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::string& path, const std::string& bytes) {
    std::ofstream file(path, std::ios::binary);
    file << bytes;
}

inline void run_sql(const std::string& path, const std::string& sql) {
    sqlite3* connection = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &connection) == SQLITE_OK);
    REQUIRE(sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
    REQUIRE(sqlite3_close(connection) == SQLITE_OK);
}

inline std::int64_t query(const std::string& path, const std::string& sql) {
    sqlite3* connection = nullptr;
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &connection) == SQLITE_OK);
    REQUIRE(sqlite3_prepare_v2(connection, sql.c_str(), -1, &statement, nullptr) == SQLITE_OK);
    REQUIRE(sqlite3_step(statement) == SQLITE_ROW);
    const std::int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    REQUIRE(sqlite3_close(connection) == SQLITE_OK);
    return value;
}

// A file name and what opening it says.
struct Opening {
    TemporaryFolder folder;
    std::string path = folder.file("petrel.db");
    NumberedSource epochs;
    std::string why;
    std::error_code error;
    std::unique_ptr<MessageStore> store;

    bool open(const SqliteTuning& tuning = {}) {
        auto opened = open_sqlite_message_store(path, {}, epochs, why, tuning);
        error = opened.error();
        if (opened) store = std::move(*opened);
        return bool(opened);
    }
    bool says(const std::string& words) const { return why.find(words) != std::string::npos; }
};

inline AppendRequest message(FingerprintSource& fingerprints, const std::string& text = "x") {
    AppendRequest request;
    request.message = message_of("a", "alice", "bob", text, fingerprints.next());
    return request;
}

// One transaction of one message; the error of whatever failed.
inline std::error_code append(MessageStore& store, const AppendRequest& request,
                              AppendResult& result, std::int64_t now = 1) {
    std::vector<Delivery> deliveries;
    if (auto error = store.begin(now, 1000)) return error;
    if (auto error = store.append(request, result, deliveries)) {
        store.rollback();
        return error;
    }
    return store.commit();
}

inline std::vector<std::uint64_t> cseqs(MessageStore& store) {
    ReadRequest request;
    request.app = "a";
    request.user = "bob";
    request.messages_max = 100'000;
    request.bytes_max = 1 << 30;
    ReadResult result;
    REQUIRE(!store.begin(1, 1));
    REQUIRE(!store.read(request, result));
    REQUIRE(!store.commit());
    std::vector<std::uint64_t> found;
    for (const Delivery& delivery : result.deliveries) found.push_back(delivery.message->cseq);
    return found;
}

inline std::vector<std::uint64_t> up_to(std::uint64_t last) {
    std::vector<std::uint64_t> numbers;
    for (std::uint64_t i = 1; i <= last; ++i) numbers.push_back(i);
    return numbers;
}

}  // namespace petrel::test
