#include "transport/connection_limits.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <ostream>
#include <vector>

using namespace petrel;

namespace {

using Places = std::vector<std::shared_ptr<ConnectionLimits::Place>>;

// How many of ten from `address` get a place.
int taken_of_ten(ConnectionLimits& limits, Places& places, const char* address) {
    int taken = 0;
    for (int i = 0; i < 10; ++i) {
        auto place = limits.take(address);
        taken += place != nullptr;
        if (place) places.push_back(std::move(place));
    }
    return taken;
}

}  // namespace

TEST_CASE("ConnectionLimits: so many in all, and a place that is given back is free again") {
    ConnectionLimits limits({3, 100, 100});
    Places places;
    CHECK(taken_of_ten(limits, places, "192.0.2.1:1") == 3);
    CHECK(limits.refused() == 7);
    places.pop_back();
    CHECK(taken_of_ten(limits, places, "192.0.2.2:1") == 1);
    CHECK(limits.connections() == 3);
}

TEST_CASE("ConnectionLimits: one address takes its share and no more") {
    ConnectionLimits limits({100, 2, 100});
    Places places;
    CHECK(taken_of_ten(limits, places, "192.0.2.1:1") == 2);
    CHECK(taken_of_ten(limits, places, "192.0.2.1:9") == 0);
    CHECK(taken_of_ten(limits, places, "[2001:db8:0:1::1]:1") == 2);
    CHECK(taken_of_ten(limits, places, "[2001:db8:0:1::2]:1") == 0);
    CHECK(taken_of_ten(limits, places, "[2001:db8:0:2::1]:1") == 2);
}

TEST_CASE("ConnectionLimits: who has logged in makes room for strangers") {
    ConnectionLimits limits({100, 100, 2});
    Places places;
    CHECK(taken_of_ten(limits, places, "192.0.2.1:1") == 2);
    places.front()->on_login();
    places.front()->on_login();
    CHECK(limits.before_login() == 1);
    CHECK(taken_of_ten(limits, places, "192.0.2.1:1") == 1);
    places.clear();
    CHECK(limits.before_login() == 0);
    CHECK(limits.connections() == 0);
}

TEST_CASE("ConnectionLimits: a limit of zero takes nobody") {
    ConnectionLimits limits({0, 0, 0});
    CHECK(limits.take("192.0.2.1:1") == nullptr);
}

TEST_CASE("ConnectionLimits: places outlive it") {
    Places places;
    {
        ConnectionLimits limits({1, 1, 1});
        places.push_back(limits.take("192.0.2.1:1"));
    }
    places.front()->on_login();
    places.clear();
    CHECK(places.empty());
}

TEST_CASE("address_group: an IPv4 address, or a network of 64 bits") {
    CHECK(address_group("192.0.2.1") == "192.0.2.1");
    CHECK(address_group("192.0.2.1:80") == "192.0.2.1");
    CHECK(address_group("::ffff:192.0.2.1") == "192.0.2.1");
    CHECK(address_group("[::ffff:192.0.2.1]:80") == "192.0.2.1");
    CHECK(address_group("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::");
    CHECK(address_group("[fe80::1%eth0]:80") == "fe80::");
    CHECK(address_group("") == "");
}
