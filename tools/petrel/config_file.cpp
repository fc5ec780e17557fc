#include "tools/petrel/config_file.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace petrel::tools {
namespace {

constexpr std::size_t kFileBytesMax = 1 << 20;  // A config has some 3 KB.

[[noreturn]] void complain(const std::string& file, const std::string& what) {
    throw CLI::ConfigError(file + ": " + what, CLI::ExitCodes::ConfigError);
}

std::vector<CLI::ConfigItem> parse(const std::string& text) {
    std::istringstream in(text);
    return CLI::ConfigTOML().from_config(in);
}

void apply(CLI::App& app, const std::string& file, const CLI::ConfigItem& item) {
    CLI::Option* const option = app.get_option_no_throw("--" + item.name);
    if (option == nullptr) {
        complain(file, "unknown key '" + item.name + "': petrel " + app.get_name() +
                           " --print-config shows all there are");
    }
    if (!option->get_configurable()) {
        complain(file, "'" + item.name + "' is for the command line only");
    }
    if (option->count() > 0) return;
    try {
        if (option->get_expected_min() == 0) {
            const std::string value = CLI::ConfigTOML().to_flag(item);
            option->add_result(option->get_flag_value(item.name, value));
        } else {
            option->add_result(item.inputs);
        }
        option->run_callback();
    } catch (const CLI::ParseError& error) {
        complain(file, error.what());
    }
}

std::string value_of(const CLI::Option& option) {
    if (option.count() > 0) {
        return CLI::detail::ini_join(option.reduced_results(), ',', '[', ']', '"', '\'');
    }
    if (!option.get_default_str().empty()) {
        return CLI::detail::convert_arg_for_ini(option.get_default_str(), '"', '\'');
    }
    return option.get_expected_min() == 0 ? "false" : "";
}

}  // namespace

void read_config_file(CLI::App& app, const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    std::string text(kFileBytesMax + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (!in.is_open() || in.bad() || (in.fail() && !in.eof())) {
        complain(file, "cannot be read: check the name and its permissions");
    }
    text.resize(static_cast<std::size_t>(in.gcount()));
    if (text.size() > kFileBytesMax) complain(file, "is too long for a config");
    std::vector<std::string> seen;
    for (const CLI::ConfigItem& item : parse(text)) {
        if (item.name == "++" || item.name == "--") continue;  // Begin and end of a section.
        const bool is_mine =
            item.parents.empty() || (item.parents.size() == 1 && item.parents[0] == app.get_name());
        if (!is_mine) {
            complain(file, "unknown section '" + item.parents[0] + "': there is only [" +
                               app.get_name() + "], and it may be left out");
        }
        // CLI11 takes the first and forgets the second.
        if (std::find(seen.begin(), seen.end(), item.name) != seen.end()) {
            complain(file, "'" + item.name + "' is there twice");
        }
        seen.push_back(item.name);
        apply(app, file, item);
    }
}

std::string write_config(const CLI::App& app, std::string& why) {
    std::string text = "# petrel " + app.get_name() +
                       " --config FILE. What the command line says wins. With a # before them:\n"
                       "# options that are not set.\n";
    for (const CLI::Option* const option : app.get_options()) {
        if (!option->get_configurable() || option->get_lnames().empty()) continue;
        const std::string& name = option->get_lnames().front();
        const std::string value = value_of(*option);
        text += "\n# " + CLI::detail::fix_newlines("# ", option->get_description()) + "\n";
        if (value.empty()) {
            text += "#" + name + " = \"\"\n";
            continue;
        }
        const std::string line = name + " = " + value + "\n";
        const auto again = parse(line);
        const bool is_flag = option->get_expected_min() == 0;
        if (option->count() > 0 && !is_flag &&
            (again.size() != 1 || again[0].inputs != option->reduced_results())) {
            why = "the value of --" + name +
                  " cannot be written into a file: it must be without #, quotes and line ends";
            return {};
        }
        text += line;
    }
    return text;
}

}  // namespace petrel::tools
