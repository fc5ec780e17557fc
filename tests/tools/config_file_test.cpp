#include "tools/petrel/config_file.hpp"

#include <CLI/CLI.hpp>
#include <doctest/doctest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "tools/petrel/duration.hpp"
#include "tools/petrel/options.hpp"

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;

// A program with a subcommand that has one option of each kind.
struct Program {
    explicit Program(const std::string& config = {}) {
        path = (std::filesystem::temp_directory_path() /
                ("petrel-config-" + std::to_string(::getpid())))
                   .string();
        std::ofstream(path, std::ios::binary) << config;
        sub = app.add_subcommand("serve", "Serves");
        sub->add_option("--name", name, "A text")->capture_default_str();
        sub->add_option("--count", count, "A number")->check(CLI::Range(1, 64));
        sub->add_option("--file", file, "A text without a default");
        sub->add_option("--origin", origins, "Some texts")->allow_extra_args(false);
        sub->add_flag("--verbose", is_verbose, "A flag");
        sub->add_flag("--once", is_once, "Not for a file")->configurable(false);
        add_listen_address(*sub, "--listen", listen, "An address");
        add_duration(*sub, "--wait", wait, "A duration");
        sub->add_option("--config", config_file, "This")->configurable(false);
        sub->callback([this] {
            if (!config_file.empty()) read_config_file(*sub, config_file);
        });
    }
    ~Program() { std::filesystem::remove(path); }

    // What the parser complained of, or nothing.
    std::string parse(std::vector<std::string> args = {}, bool with_config = true) {
        if (with_config) args.insert(args.end(), {"--config", path});
        args.insert(args.begin(), "serve");
        std::reverse(args.begin(), args.end());
        try {
            app.parse(args);
        } catch (const CLI::ParseError& error) {
            return error.what();
        }
        return {};
    }

    CLI::App app{"test", "test"};
    CLI::App* sub = nullptr;
    std::string path;
    std::string name = "a name";
    int count = 0;
    std::string file;
    std::vector<std::string> origins;
    bool is_verbose = false;
    bool is_once = false;
    ListenAddress listen{"127.0.0.1", 9600};
    std::chrono::nanoseconds wait = 8s;
    std::string config_file;
};

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("Config: a file sets every kind of option") {
    Program program(
        "# A comment\n"
        "name = \"two words\"   # and one behind\n"
        "count = 7\n"
        "origin = [\"https://a\", \"https://b\"]\n"
        "verbose = true\n"
        "listen = \"[::1]:80\"\n"
        "wait = \"250ms\"\n");
    CHECK(program.parse() == "");
    CHECK(program.name == "two words");
    CHECK(program.count == 7);
    CHECK(program.origins == std::vector<std::string>{"https://a", "https://b"});
    CHECK(program.is_verbose);
    CHECK(program.listen.host == "::1");
    CHECK(program.listen.port == 80);
    CHECK(program.wait == 250ms);
}

TEST_CASE("Config: INI with the subcommand's section is the same") {
    Program program("; A comment\n[serve]\nname=x\nverbose=false\ncount=3\n");
    CHECK(program.parse() == "");
    CHECK(program.name == "x");
    CHECK(program.count == 3);
    CHECK_FALSE(program.is_verbose);
}

TEST_CASE("Config: the command line wins") {
    Program program("name = \"file\"\ncount = 3\nverbose = false\n");
    CHECK(program.parse({"--name", "line", "--verbose"}) == "");
    CHECK(program.name == "line");
    CHECK(program.count == 3);
    CHECK(program.is_verbose);
}

TEST_CASE("Config: what is wrong is said, with the file's name") {
    for (const auto& wrong : std::vector<std::pair<std::string, std::string>>{
             {"nmae = \"x\"\n", "unknown key 'nmae'"},
             {"count = 65\n", "count"},
             {"count = \"x\"\n", "count"},
             {"wait = \"8 parsecs\"\n", "8 parsecs"},
             {"listen = \"nowhere\"\n", "nowhere"},
             {"once = true\n", "'once' is for the command line only"},
             {"config = \"x\"\n", "'config' is for the command line only"},
             {"help = true\n", "help"},
             {"[other]\nname = \"x\"\n", "unknown section 'other'"},
             {"name = \"x\"\ncount = 1\nname = \"y\"\n", "'name' is there twice"}}) {
        CAPTURE(wrong.first);
        Program program(wrong.first);
        const std::string error = program.parse();
        CHECK_MESSAGE(has(error, wrong.second), error);
        CHECK_MESSAGE(has(error, program.path), error);
    }
}

TEST_CASE("Config: a file that cannot be read is an error") {
    Program program;
    CHECK(has(program.parse({"--config", "/nowhere/config"}, false), "cannot be read"));
    CHECK(has(program.parse({"--config", "/"}, false), "cannot be read"));
}

TEST_CASE("Config: what is written can be read again") {
    Program first("name = \"two words\"\norigin = [\"https://a\", \"https://b\"]\n");
    CHECK(first.parse({"--wait", "90s", "--verbose", "--file", "/etc/a file", "--once"}) == "");
    std::string why;
    const std::string text = write_config(*first.sub, why);
    CHECK(why == "");
    CHECK(has(text, "# A duration\nwait = \"90s\"\n"));
    CHECK(has(text, "# A number\n#count = \"\"\n"));
    CHECK_FALSE(has(text, "once"));
    CHECK_FALSE(has(text, "config ="));
    Program second(text);
    CHECK(second.parse() == "");
    CHECK(second.name == "two words");
    CHECK(second.origins == first.origins);
    CHECK(second.wait == 90s);
    CHECK(second.is_verbose);
    CHECK(second.file == "/etc/a file");
    CHECK(second.listen.port == 9600);
    CHECK(write_config(*second.sub, why) == text);
}

TEST_CASE("Config: the defaults are written and read, too") {
    Program first;
    CHECK(first.parse({}, false) == "");
    std::string why;
    Program second(write_config(*first.sub, why));
    CHECK(second.parse() == "");
    CHECK(second.name == "a name");
    CHECK(second.wait == 8s);
    CHECK(second.listen.host == "127.0.0.1");
}

TEST_CASE("Config: a value that would come back as another one is not written") {
    Program program;
    CHECK(program.parse({"--file", "/tmp/a#b"}, false) == "");
    std::string why;
    CHECK(write_config(*program.sub, why) == "");
    CHECK(has(why, "--file"));
}

}  // namespace petrel::tools
