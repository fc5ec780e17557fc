#pragma once

namespace petrel::tools {

// What every subcommand ends with.
enum class ExitStatus : int {
    kDone = 0,
    kFailed = 1,       // A message was not accepted, or a check failed.
    kUsage = 2,        // The command line was wrong.
    kNeverOnline = 3,  // Not logged in within --timeout.
    kRefused = 4,      // The login was refused for good, or somebody kicked us out.
};

}  // namespace petrel::tools
