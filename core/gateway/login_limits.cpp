#include "core/gateway/login_limits.hpp"

#include "transport/connection_limits.hpp"

namespace petrel {

LoginLimits::LoginLimits(const Options& options)
    : addresses_(options.per_address, options.keys_max),
      accounts_(options.per_account, options.keys_max) {}

Duration LoginLimits::take_address(std::string_view address, TimePoint now) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return addresses_.take(address_group(address), now);
}

Duration LoginLimits::take_account(const UserKey& account, TimePoint now) {
    // A zero byte is in no id.
    const std::lock_guard<std::mutex> lock(mutex_);
    return accounts_.take(account.app + '\0' + account.user, now);
}

}  // namespace petrel
