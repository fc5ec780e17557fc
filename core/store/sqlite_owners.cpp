#include "core/store/sqlite_owners.hpp"

#include <sqlite3.h>

namespace petrel {

int SqliteOwners::open(SqliteFile& file) {
    return file.prepare("SELECT app, name, floor FROM user WHERE id = ?1", select_);
}

int SqliteOwners::find(UserId user, const Owner*& owner) {
    const auto [at, is_new] = known_.try_emplace(user);
    owner = &at->second;
    if (!is_new) return SQLITE_OK;
    const int code = select_.bind(user).step();
    if (code == SQLITE_ROW)
        at->second = {std::string(select_.text(0)), std::string(select_.text(1)),
                      select_.number(2)};
    select_.reset();
    if (code == SQLITE_ROW) return SQLITE_OK;
    known_.erase(at);
    return code == SQLITE_DONE ? SQLITE_CORRUPT : code;
}

}  // namespace petrel
