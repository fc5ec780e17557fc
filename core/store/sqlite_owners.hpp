#pragma once

#include <string>
#include <unordered_map>

#include "core/store/message_tables.hpp"
#include "core/store/sqlite_file.hpp"

namespace petrel {

// Who the users of a gateway's store file are, by their numbers. What it has read it remembers
// until forget(): for the time of one call. Thread-compatible.
class SqliteOwners {
public:
    struct Owner {
        std::string app;
        std::string name;
        Position floor = 0;  // UserRow
    };

    int open(SqliteFile& file);
    // An SQLite code; damage when there is no such user. `owner` holds until forget().
    int find(UserId user, const Owner*& owner);
    void forget() { known_.clear(); }

private:
    SqliteStatement select_;
    std::unordered_map<UserId, Owner> known_;
};

}  // namespace petrel
