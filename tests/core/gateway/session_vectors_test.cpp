// What the published clients sent, replayed against the gateway: it answers as PROTOCOL.md
// section 3 says, which is as their own server did, but for that one's faults.

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/gateway_world.hpp"

using namespace petrel;
using namespace petrel::test;

namespace {

// Plays a capture's client side in its own time. Told: "name: what came" after each of its lines.
class Replay {
public:
    std::vector<std::string> play(const std::string& file_name) {
        std::ifstream file(std::string(PETREL_VECTORS_DIR) + "/" + file_name);
        REQUIRE_MESSAGE(file.is_open(), file_name);
        std::string row;
        while (std::getline(file, row)) {
            if (row.empty() || row.front() == '#') continue;
            const std::size_t space = row.find(' ');
            const std::size_t next = row.find(' ', space + 1);
            pass_until(std::strtod(row.c_str(), nullptr));
            const std::string name = row.substr(space + 1, next - space - 1);
            const std::string rest = row.substr(next + 1);
            if (rest == "-- open" || rest == "-- tcp open" || rest.rfind("-- open /", 0) == 0) {
                clients_[name] = &world_.connect_plain();
            } else if (rest == "-- tcp close") {
                if (!clients_[name]->is_closed()) clients_[name]->drop();
            } else if (rest.rfind("C>S ", 0) == 0) {
                send(*clients_[name], rest.substr(4));
            }
            tell();
        }
        return told_;
    }

    GatewayWorld& world() { return world_; }

private:
    void send(FakeClient& client, const std::string& text) {
        world_.verdict = {};
        if (text.find(R"(\"loginToken\":\"bad\")") != std::string::npos) {
            world_.verdict = {1025, "bad"};
        }
        if (text.rfind("BIN ", 0) == 0) {
            client.binary();
        } else if (text.rfind("len ", 0) == 0) {
            const std::string filler(std::strtoul(text.c_str() + 4, nullptr, 10) - 105, 'x');
            client.send(R"({"bridge":false,"type":2,"dataContent":")" + filler +
                        R"(","from":"g","to":"b","fp":"fp-long","QoS":true,"typeu":0,"sm":-1})");
        } else {
            client.send(text);
        }
    }

    void pass_until(double seconds) {
        const auto at = std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
        if (at > now_) world_.advance(at - now_);
        now_ = std::max(now_, at);
        tell();
    }

    void tell() {
        for (auto& [name, client] : clients_) {
            const std::string got = client->received();
            if (!got.empty()) told_.push_back(name + ": " + got);
        }
    }

    GatewayWorld world_;
    std::chrono::milliseconds now_{0};
    std::map<std::string, FakeClient*> clients_;
    std::vector<std::string> told_;
};

void check_same(const std::vector<std::string>& told, const std::vector<std::string>& expected) {
    for (std::size_t i = 0; i < std::max(told.size(), expected.size()); ++i) {
        CAPTURE(i);
        CHECK((i < told.size() ? told[i] : "nothing") ==
              (i < expected.size() ? expected[i] : "nothing"));
    }
}

std::string first(std::int64_t ms) { return " first " + std::to_string(1'700'000'000'000 + ms); }

}  // namespace

TEST_CASE("Vectors: the IM-SDK web client is answered") {
    Replay replay;
    check_same(replay.play("im-sdk-client.txt"), {
                                                     "#1: 50 0",
                                                     "#1: 54 c-fp-1",
                                                 });
    CHECK(replay.world().counters().unknown_acks == 2);  // Of pushes that nobody sent here.
}

TEST_CASE("Vectors: the MobileIMSDK client is answered, across a reconnect") {
    Replay replay;
    check_same(replay.play("mobileimsdk-client.txt"),
               {
                   "#1: 50 0" + first(2'677),
                   "#1: 4 j-fp-1",
                   "#1: 4 j-fp-2",  // To an offline user: stored, so acked at once.
                   "#2: 50 0 first 1795231203292",
                   "#2: 4 j-fp-2",
                   "#2: 4 j-fp-3",
                   "#2: 4 j-fp-2",
                   "#2: 51",
                   "#2: closed 1000",
               });
}

TEST_CASE("Vectors: MobileIMSDK's server is replaced") {
    Replay replay;
    check_same(replay.play("mobileimsdk-server.txt"),
               {
                   "x: 52 301, closed 4001",
                   "x: 53 hello echo",
                   "x: 52 301, closed 4001",
                   "x: 50 1025 first -1, closed 4003",
                   "x: 52 4",  // A login without a user is no valid packet.
                   "a: 50 0" + first(2'108),
                   "b: 50 0" + first(2'115),
                   "a: 4 fp-0001",
                   "b: 2 fp-0001",
                   "a: 4 fp-0001",  // Sent again: acked, not delivered again.
                   "b: 2 no qos",
                   "a: 52 303",  // typeu 1 is a group, even to the server.
                   "a: 52 303",
                   "a: 51",
                   "a: 53 echo me",
                   "a: 4 fp-0003",
                   "b: 4 fp-0004",
                   "c: 50 0" + first(4'737),
                   "c: 52 4",
                   "d: 50 0" + first(5'547),
                   "d: 52 4",
                   "e: 52 4",
                   "a: 50 0" + first(2'108),
                   "a: 54 1, closed 4004",
                   "a2: 50 0" + first(6'761),
                   "a3: 50 409 first -1, closed 4003",
                   "a2: 4 fp-0005",
                   "b: 52 306",
                   "b: closed 1000",
                   "g: 50 0" + first(9'078),
                   "g: 52 304",
                   "e: closed 4001",  // No login within 10 s.
                   "x: closed 4001",
               });
}

TEST_CASE("Vectors: MobileIMSDK's server's retry is that of an unacked push") {
    Replay replay;
    check_same(
        replay.play("mobileimsdk-server-retry.txt"),
        {
            "a: 50 0" + first(25), "b: 50 0" + first(29), "a: 4 fp-na-1", "b: 2 fp-na-1",
            "b: 2 fp-na-1", "b: 2 fp-na-1", "b: 2 fp-na-1",
            "b: 2 fp-na-1, 2 fp-na-1, 2 fp-na-1, 2 fp-na-1",  // Nothing in the capture for 20 s.
        });
}
