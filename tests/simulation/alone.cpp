// The simulator without the rest of the program, which it takes a minute to build: for
// tests/mutations/mutate.py. `simulate-alone FIRST COUNT` tries seeds up to the first that breaks,
// and prints a line for each: the seed, then what was violated, or "ok" with bytes sent and needed.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/simulation/options.hpp"

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    const std::uint64_t first = std::strtoull(argv[1], nullptr, 10);
    const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
    petrel::sim::Options options;
    for (options.seed = first; options.seed < first + count; ++options.seed) {
        const petrel::sim::Report report = petrel::sim::run(options);
        std::string said =
            "ok " + std::to_string(report.bytes) + " " + std::to_string(report.bytes_needed);
        if (report.violation) said = *report.violation;
        std::printf("%llu %s\n", static_cast<unsigned long long>(options.seed), said.c_str());
        std::fflush(stdout);
        if (!report.violation) continue;
        for (const std::string& line : report.last_packets) {
            std::fprintf(stderr, "%s\n", line.c_str());
        }
        return 1;
    }
    return 0;
}
