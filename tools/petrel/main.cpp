#include <CLI/CLI.hpp>

#include <cstdio>

#include "tools/petrel/commands.hpp"
#include "tools/petrel/exit_status.hpp"

namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  petrel demo\n"
    "  petrel gateway --listen 127.0.0.1:9600\n"
    "  petrel listen --url ws://127.0.0.1:9600/ws --user bob\n"
    "  petrel send --url ws://127.0.0.1:9600/ws --user alice --to bob hello\n"
    "\n"
    "Every subcommand has its own --help with examples. With --json it prints one JSON object\n"
    "a line on stdout and nothing else; logs go to stderr. Durations: 500ms, 20s, 5m, 1h.\n"
    "\n"
    "Exit status: 0 done; 1 a message was not accepted or a check failed; 2 usage;\n"
    "3 never online within --timeout; 4 refused or kicked out.";

}  // namespace

int main(int argc, char** argv) {
    using namespace petrel::tools;
    CLI::App app("Petrel: messages that arrive exactly once, in order, through any storm.",
                 "petrel");
    app.set_version_flag("--version", "petrel 0.1.0");
    app.footer(kFooter);
    app.require_subcommand(0, 1);  // None is handled below: CLI11 would hide a misspelt one.
    app.get_formatter()->column_width(34);

    ExitStatus exit = ExitStatus::kDone;
    add_demo(app, exit);
    add_demo_user(app, exit);
    add_gateway(app, exit);
    add_send(app, exit);
    add_simulate(app, exit);
    add_listen(app, exit);
    add_chat(app, exit);
    add_echo(app, exit);
    add_track(app, exit);
    add_storm(app, exit);
    add_bench(app, exit);
    add_token(app, exit);

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        // CLI11 has a number for every mistake; to the caller they are all one.
        return app.exit(error) == 0 ? 0 : static_cast<int>(ExitStatus::kUsage);
    }
    if (app.get_subcommands().empty()) {
        std::fprintf(stderr, "%s", app.help().c_str());
        return static_cast<int>(ExitStatus::kUsage);
    }
    return static_cast<int>(exit);
}
