#pragma once

#include <string>

namespace CLI {
class App;
}

// A subcommand's options from a file, in TOML or INI as CLI11 reads them: every option has the key
// of its long name. What the command line says wins. (CLI11's own set_config() is for the program
// as a whole: at a subcommand it reads nothing.)

namespace petrel::tools {

// Throws a CLI::ParseError, as the command line does, that names the file and what is wrong with
// it: an unknown key, a value that is none. Call it from the subcommand's callback.
void read_config_file(CLI::App& app, const std::string& file);

// What is in effect, as a file with comments that read_config_file() takes. Empty, with a sentence
// in `why`, when a value cannot be written so (CLI11 ends a value at a '#').
std::string write_config(const CLI::App& app, std::string& why);

}  // namespace petrel::tools
