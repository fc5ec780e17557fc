#include "tools/petrel/log.hpp"

#include <doctest/doctest.h>

#include <string>

namespace petrel::tools {
namespace {

LogContext about_bob() {
    LogContext about;
    about.connection = 7;
    about.session = "s1";
    about.address = "127.0.0.1:5";
    about.user = "bob";
    about.device = "phone";
    return about;
}

}  // namespace

TEST_CASE("Log: a line in JSON has the ids of its connection and session") {
    CHECK(
        format_log_line(LogFormat::kJson, LogLevel::kInfo, "login refused", about_bob(),
                        1'700'000'000'042) ==
        R"({"time":"2023-11-14T22:13:20.042Z","level":"info","text":"login refused",)"
        R"("connection":7,"session":"s1","address":"127.0.0.1:5","user":"bob","device":"phone"})");
    CHECK(format_log_line(LogFormat::kJson, LogLevel::kError, "a\"\n\xff", {}, 0) ==
          "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"error\",\"text\":"
          "\"a\\\"\\n\xef\xbf\xbd\"}");
}

TEST_CASE("Log: a line of text names the connection, the session and the user") {
    const std::string line = format_log_line(LogFormat::kText, LogLevel::kWarning, "closed",
                                             about_bob(), 1'700'000'000'042);
    CHECK(line.find(".042 warning: connection 7 127.0.0.1:5 session s1 user bob device phone: "
                    "closed") != std::string::npos);
}

TEST_CASE("Log: nobody outside makes a line of his own") {
    LogContext about = about_bob();
    about.user = "bob\n12:00:00.000 error: forged\x1b[2J";
    const std::string line = format_log_line(LogFormat::kText, LogLevel::kInfo, "a\r\nb", about, 0);
    CHECK(line.find('\n') == std::string::npos);
    CHECK(line.find('\r') == std::string::npos);
    CHECK(line.find('\x1b') == std::string::npos);
    CHECK(line.find("bob\\n12:00") != std::string::npos);
}

}  // namespace petrel::tools
