#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/client/client.hpp"
#include "core/gateway/gateway.hpp"
#include "tools/petrel/demo_score.hpp"
#include "tools/petrel/storm_proxy.hpp"

// The parts of `petrel demo`, each of which can be taken down and put up again.

namespace petrel::tools {

// A folder below $TMPDIR (or /tmp) that is removed with this object.
class TemporaryFolder {
public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    const std::string& path() const { return path_; }  // "" when there is none.

private:
    std::string path_;
};

// A gateway on a free port with its store in a file.
class DemoGateway {
public:
    DemoGateway(std::string store_file, TraceSink& trace);
    ~DemoGateway();  // Stops.

    // False with a sentence in `why`. Started again, it opens the same store at another port.
    bool start(std::string& why);
    void stop();  // Drains. Idempotent.

    const std::string& url() const { return url_; }
    SessionCounters counters() const { return counters_; }  // Of all that were stopped.

private:
    const std::string store_file_;
    TraceSink& trace_;
    UuidSource epochs_;
    std::unique_ptr<Gateway> gateway_;
    std::string url_;
    SessionCounters counters_;
};

// A storm in front of it, on a thread of its own.
class DemoStorm {
public:
    DemoStorm(std::string target_url, std::uint64_t seed, const Faults& faults);
    ~DemoStorm();  // Stops.

    bool start(std::string& why);
    void stop();  // Idempotent.

    const std::string& url() const { return url_; }
    Storm::Stats stats() const;  // After stop().

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
    std::string url_;
};

// One user who writes to others and is written to.
class DemoUser {
public:
    DemoUser(std::string name, std::string url, DemoScore& score);
    ~DemoUser();  // Ends.

    void begin(Runtime& runtime);  // Logs in.
    void end();                    // Logs out; what has no outcome gets one. Idempotent.
    void send(const std::string& to, std::string text);

    const std::string& name() const { return name_; }
    EngineStats stats() const;  // Of all its lives.
    ClientState state() const;

private:
    static void add(EngineStats& sum, const EngineStats& stats);

    const std::string name_;
    const std::string device_ = "demo";
    const std::string url_;
    DemoScore& score_;
    const Ledger::Source source_;
    std::unique_ptr<Client> client_;
    EngineStats ended_;
    UuidSource fingerprints_;
};

}  // namespace petrel::tools
