#pragma once

#include <CLI/CLI.hpp>

#include "tools/petrel/exit_status.hpp"

// One function a subcommand, each in the file of its name. It adds the subcommand to `root` with a
// callback that runs it to its end and leaves the result in `exit`. Both outlive the parse; what
// the options write to is kept alive by the callback:
//
//   void add_echo(CLI::App& root, ExitStatus& exit) {
//       CLI::App* app = root.add_subcommand("echo", "Round trips to the gateway");
//       auto options = std::make_shared<EchoOptions>();
//       add_common(*app, options->common);          // --json, --log-level
//       ...
//       app->footer("Examples: ...");
//       app->callback([options, &exit] { exit = echo(*options); });
//   }

namespace petrel::tools {

void add_bench(CLI::App& root, ExitStatus& exit);
void add_chat(CLI::App& root, ExitStatus& exit);
void add_demo(CLI::App& root, ExitStatus& exit);
void add_demo_user(CLI::App& root, ExitStatus& exit);
void add_echo(CLI::App& root, ExitStatus& exit);
void add_gateway(CLI::App& root, ExitStatus& exit);
void add_listen(CLI::App& root, ExitStatus& exit);
void add_send(CLI::App& root, ExitStatus& exit);
void add_simulate(CLI::App& root, ExitStatus& exit);
void add_storm(CLI::App& root, ExitStatus& exit);
void add_token(CLI::App& root, ExitStatus& exit);
void add_track(CLI::App& root, ExitStatus& exit);

}  // namespace petrel::tools
