#pragma once

#include <CLI/CLI.hpp>

#include "tools/petrel/exit_status.hpp"

// One function a subcommand, each in the file of its name. It adds the subcommand to `root` with a
// callback that runs it to its end and leaves the result in `exit`. Both outlive the parse.

namespace petrel::tools {

void add_storm(CLI::App& root, ExitStatus& exit);
void add_track(CLI::App& root, ExitStatus& exit);

}  // namespace petrel::tools
