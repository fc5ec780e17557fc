#include "tools/petrel/admin_api.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <utility>

namespace petrel::tools {
namespace {

constexpr const char* kToken = "0123456789abcdef";

class FakeGateway final : public AdminTarget {
public:
    bool is_draining() override { return draining; }
    std::string store_error() override { return error; }
    std::optional<std::string> metrics() override { return metrics_text; }
    std::optional<std::vector<SessionInfo>> sessions(const SessionQuery& asked) override {
        query = asked;
        if (all && all->size() > asked.count_max) {
            return std::vector<SessionInfo>(all->begin(), all->begin() + asked.count_max);
        }
        return all;
    }
    std::optional<std::size_t> kick(const KickOrder& asked) override {
        order = asked;
        return kicked;
    }
    void drain(std::optional<std::int64_t> window_ms) override {
        draining = true;
        window = window_ms;
    }

    bool draining = false;
    std::string error;
    std::optional<std::string> metrics_text = "petrel_connections 1\n";
    std::optional<std::vector<SessionInfo>> all = std::vector<SessionInfo>();
    std::optional<std::size_t> kicked = 0;
    SessionQuery query;
    std::optional<KickOrder> order;
    std::optional<std::int64_t> window;
};

struct World {
    FakeGateway gateway;
    AdminApi api{gateway, kToken};

    AdminReply ask(const std::string& method, const std::string& path, std::string body = {},
                   std::multimap<std::string, std::string> query = {}) {
        AdminRequest request;
        request.method = method;
        request.path = path;
        request.authorization = std::string("Bearer ") + kToken;
        request.body = std::move(body);
        request.query = std::move(query);
        return api.answer(request);
    }
};

bool says(const AdminReply& reply, const std::string& what) {
    return reply.body.find(what) != std::string::npos;
}

struct TokenFile {
    explicit TokenFile(const std::string& content)
        : path((std::filesystem::temp_directory_path() /
                ("petrel-admin-" + std::to_string(::getpid())))
                   .string()) {
        std::ofstream(path, std::ios::binary) << content;
    }
    ~TokenFile() { std::filesystem::remove(path); }
    std::string read() {
        why.clear();
        return read_admin_token(path, why);
    }
    const std::string path;
    std::string why;
};

}  // namespace

TEST_CASE("AdminApi: without the token there is only health") {
    World world;
    for (const char* const authorization :
         {"", "Bearer", "Bearer ", "Bearer 0123456789abcdeF", "Bearer 0123456789abcde",
          "Bearer 0123456789abcdef0", "bearer 0123456789abcdef", "Basic 0123456789abcdef",
          "Bearer 0123456789abcdef0123456789abcdef"}) {
        CAPTURE(authorization);
        AdminRequest request;
        request.method = "GET";
        request.authorization = authorization;
        for (const char* const path :
             {"/metrics", "/v1/sessions", "/v1/kick", "/v1/drain", "/", "/nothing"}) {
            request.path = path;
            CHECK(world.api.answer(request).status == 401);
        }
        request.path = "/healthz";
        CHECK(world.api.answer(request).status == 200);
        request.path = "/readyz";
        CHECK(world.api.answer(request).status == 200);
    }
    CHECK_FALSE(world.gateway.order);
}

TEST_CASE("AdminApi: unknown paths are 404, other methods 405 and name the right one") {
    World world;
    CHECK(world.ask("GET", "/nothing").status == 404);
    CHECK(world.ask("GET", "/healthz/").status == 404);
    const AdminReply reply = world.ask("GET", "/v1/kick");
    CHECK(reply.status == 405);
    CHECK(reply.allow == "POST");
    CHECK(world.ask("DELETE", "/v1/sessions").allow == "GET");
    CHECK(world.ask("HEAD", "/metrics").status == 200);
    CHECK(world.ask("HEAD", "/v1/drain").status == 405);
    CHECK_FALSE(world.gateway.draining);
}

TEST_CASE("AdminApi: ready until it drains or the store fails") {
    World world;
    CHECK(world.ask("GET", "/readyz").status == 200);
    world.gateway.error = "database or disk is full (code 13) in /var/lib/secret/petrel.db";
    const AdminReply full = world.ask("GET", "/readyz");
    CHECK(full.status == 503);
    CHECK(says(full, "store"));
    CHECK_FALSE(says(full, "secret"));
    world.gateway.error.clear();
    CHECK(world.ask("GET", "/readyz").status == 200);
    world.gateway.draining = true;
    CHECK(world.ask("GET", "/readyz").status == 503);
    CHECK(world.ask("GET", "/healthz").status == 200);
}

TEST_CASE("AdminApi: a gateway that does not answer is 503, never half an answer") {
    World world;
    world.gateway.metrics_text.reset();
    world.gateway.all.reset();
    world.gateway.kicked.reset();
    CHECK(world.ask("GET", "/metrics").status == 503);
    CHECK(world.ask("GET", "/v1/sessions").status == 503);
    CHECK(world.ask("POST", "/v1/kick", R"({"user":"bob"})").status == 503);
}

TEST_CASE("AdminApi: sessions come in pages") {
    World world;
    for (std::uint64_t i = 1; i <= 3; ++i) {
        SessionInfo info;
        info.connection = i * 10;
        info.user = "bob\"\xff";
        world.gateway.all->push_back(info);
    }
    const AdminReply page = world.ask("GET", "/v1/sessions", {}, {{"limit", "2"}, {"user", "bob"}});
    CHECK(page.status == 200);
    CHECK(says(page, "\"connection\":10,"));
    CHECK(says(page, "\"next\":20}"));
    CHECK_FALSE(says(page, "\"connection\":30,"));
    CHECK(says(page, "\"user\":\"bob\\\"\xef\xbf\xbd\""));
    CHECK(world.gateway.query.user == "bob");
    world.ask("GET", "/v1/sessions", {}, {{"after", "20"}, {"app", "a"}, {"device", "d"}});
    CHECK(world.gateway.query.after == 20);
    CHECK(world.gateway.query.app == "a");
    CHECK(world.gateway.query.device == "d");
    CHECK(says(world.ask("GET", "/v1/sessions", {}, {{"limit", "3"}}), "\"next\":null}"));
}

TEST_CASE("AdminApi: what is wrong about a query is said") {
    World world;
    using Query = std::multimap<std::string, std::string>;
    for (const Query& query :
         {Query{{"limit", "0"}}, Query{{"limit", "1001"}}, Query{{"limit", "x"}},
          Query{{"limit", ""}}, Query{{"after", "-1"}}, Query{{"after", "1x"}},
          Query{{"usr", "bob"}}, Query{{"user", "a"}, {"user", "b"}}}) {
        const AdminReply reply = world.ask("GET", "/v1/sessions", {}, query);
        CHECK(reply.status == 400);
        CHECK(says(reply, query.begin()->first));
    }
    CHECK(world.ask("GET", "/v1/sessions", {}, {{"limit", "1000"}}).status == 200);
    CHECK(world.ask("GET", "/v1/sessions", {}, {{"limit", "1"}}).status == 200);
}

TEST_CASE("AdminApi: a kick names a user, and by default the app and every device") {
    World world;
    world.gateway.kicked = 2;
    const AdminReply reply = world.ask("POST", "/v1/kick", R"({"user":"bob"})");
    CHECK(reply.body == "{\"kicked\":2}\n");
    REQUIRE(world.gateway.order);
    CHECK(world.gateway.order->app == "default");
    CHECK(world.gateway.order->device.empty());
    CHECK_FALSE(world.gateway.order->reason.empty());
    world.ask("POST", "/v1/kick",
              R"({"user":"bob","app":"a","device":"phone","reason":"stolen phone"})");
    CHECK(world.gateway.order->app == "a");
    CHECK(world.gateway.order->device == "phone");
    CHECK(world.gateway.order->reason == "stolen phone");
}

TEST_CASE("AdminApi: a kick that is not understood kicks nobody") {
    World world;
    const std::string long_reason = R"({"user":"bob","reason":")" + std::string(124, 'x') + "\"}";
    for (const std::string& body :
         {std::string(), std::string("{"), std::string("[]"), std::string("{}"),
          std::string("{\"user\":\"\"}"), std::string("{\"user\":1}"),
          std::string("{\"user\":\"bob\",\"devcie\":\"phone\"}"),
          std::string("{\"user\":\"bob\",\"device\":\"\"}"),
          std::string("{\"user\":\"bob\",\"app\":null}"), std::string("{\"user\":\"\xff\"}"),
          std::string("{\"user\":\"bob\"} x"), std::string("{\"user\":\"bob\"}\0x", 16),
          std::string(4096, '['), long_reason}) {
        CAPTURE(body);
        const AdminReply reply = world.ask("POST", "/v1/kick", body);
        CHECK(reply.status == 400);
        CHECK(says(reply, "send for instance"));
    }
    CHECK_FALSE(world.gateway.order);
}

TEST_CASE("AdminApi: drain takes a window, or none") {
    World world;
    CHECK(world.ask("POST", "/v1/drain", R"({"windowMs":-1})").status == 400);
    CHECK(world.ask("POST", "/v1/drain", R"({"windowMs":3600001})").status == 400);
    CHECK(world.ask("POST", "/v1/drain", R"({"windowMs":"1"})").status == 400);
    CHECK(world.ask("POST", "/v1/drain", R"({"window":1})").status == 400);
    CHECK_FALSE(world.gateway.draining);
    CHECK(world.ask("POST", "/v1/drain", R"({"windowMs":3600000})").status == 202);
    CHECK(world.gateway.window == 3'600'000);
    CHECK(world.ask("POST", "/v1/drain").status == 202);
    CHECK_FALSE(world.gateway.window);
}

TEST_CASE("AdminApi: a token is one line of at least 16 printable characters") {
    CHECK(TokenFile("0123456789abcdef").read() == "0123456789abcdef");
    CHECK(TokenFile("0123456789abcdef\r\n").read() == "0123456789abcdef");
    CHECK(TokenFile(std::string(1024, 'x') + "\n").read().size() == 1024);
    for (const std::string& content :
         {std::string(), std::string("\n"), std::string("0123456789abcde\n"),
          std::string("0123456789 abcdef"), std::string("01234567\n89abcdef"),
          std::string("0123456789abcde\xff"), std::string(1025, 'x'), std::string(5000, 'x')}) {
        TokenFile file(content);
        CHECK(file.read().empty());
        CHECK(file.why.find(file.path) != std::string::npos);
        if (content.size() > 1) CHECK(file.why.find(content.substr(0, 10)) == std::string::npos);
    }
    std::string why;
    CHECK(read_admin_token("/nowhere/token", why).empty());
    CHECK_FALSE(why.empty());
    CHECK(read_admin_token("/", why).empty());
}

}  // namespace petrel::tools
