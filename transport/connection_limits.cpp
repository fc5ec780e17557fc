#include "transport/connection_limits.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

namespace petrel {

struct ConnectionLimits::Counts {
    mutable std::mutex mutex;
    std::size_t connections = 0;
    std::size_t before_login = 0;
    std::size_t refused = 0;
    using ByAddress = std::unordered_map<std::string, std::size_t>;
    ByAddress by_address;  // At most connections_max entries.
};

class ConnectionLimits::CountedPlace final : public Place {
public:
    // `of_address` stays in its place until the last place of it is given back.
    CountedPlace(std::shared_ptr<Counts> counts, Counts::ByAddress::value_type& of_address)
        : counts_(std::move(counts)), of_address_(of_address) {}

    ~CountedPlace() override {
        const std::lock_guard<std::mutex> lock(counts_->mutex);
        --counts_->connections;
        if (!has_logged_in_) --counts_->before_login;
        if (--of_address_.second > 0) return;
        counts_->by_address.erase(counts_->by_address.find(of_address_.first));
    }

    void on_login() override {
        const std::lock_guard<std::mutex> lock(counts_->mutex);
        if (!std::exchange(has_logged_in_, true)) --counts_->before_login;
    }

private:
    const std::shared_ptr<Counts> counts_;
    Counts::ByAddress::value_type& of_address_;
    bool has_logged_in_ = false;
};

ConnectionLimits::ConnectionLimits(const Options& options)
    : options_(options), counts_(std::make_shared<Counts>()) {}

ConnectionLimits::~ConnectionLimits() = default;

std::shared_ptr<ConnectionLimits::Place> ConnectionLimits::take(std::string_view address) {
    const std::string group = address_group(address);
    const std::lock_guard<std::mutex> lock(counts_->mutex);
    const auto found = counts_->by_address.find(group);
    const std::size_t of_address = found == counts_->by_address.end() ? 0 : found->second;
    if (counts_->connections >= options_.connections_max ||
        counts_->before_login >= options_.before_login_max ||
        of_address >= options_.per_address_max) {
        ++counts_->refused;
        return nullptr;
    }
    ++counts_->connections;
    ++counts_->before_login;
    const auto counted = counts_->by_address.try_emplace(group).first;
    ++counted->second;
    return std::make_shared<CountedPlace>(counts_, *counted);
}

std::size_t ConnectionLimits::connections() const {
    const std::lock_guard<std::mutex> lock(counts_->mutex);
    return counts_->connections;
}

std::size_t ConnectionLimits::before_login() const {
    const std::lock_guard<std::mutex> lock(counts_->mutex);
    return counts_->before_login;
}

std::size_t ConnectionLimits::refused() const {
    const std::lock_guard<std::mutex> lock(counts_->mutex);
    return counts_->refused;
}

std::string address_group(std::string_view address) {
    if (!address.empty() && address.front() == '[') {
        address.remove_prefix(1);
        address = address.substr(0, address.find(']'));
    } else if (std::count(address.begin(), address.end(), ':') == 1) {
        address = address.substr(0, address.find(':'));
    }
    std::string text(address.substr(0, address.find('%')));
    in6_addr six{};
    if (inet_pton(AF_INET6, text.c_str(), &six) != 1) return text;
    constexpr std::size_t kNetworkBytes = 8;
    if (IN6_IS_ADDR_V4MAPPED(&six)) {
        char four[INET_ADDRSTRLEN] = {};
        inet_ntop(AF_INET, &six.s6_addr[12], four, sizeof four);
        return four;
    }
    std::fill(six.s6_addr + kNetworkBytes, six.s6_addr + sizeof six.s6_addr, std::uint8_t{0});
    char network[INET6_ADDRSTRLEN] = {};
    inet_ntop(AF_INET6, &six, network, sizeof network);
    return network;
}

}  // namespace petrel
