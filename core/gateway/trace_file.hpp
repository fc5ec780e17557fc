#pragma once

#include <memory>
#include <string>

#include "core/gateway/trace.hpp"
#include "protocol/error.hpp"

namespace petrel {

// `--trace FILE`: one JSON object a line, appended; a line is written whole or not at all.
// Thread-safe.
class TraceFile final : public TraceSink {
public:
    static Result<std::unique_ptr<TraceFile>> open(const std::string& path);
    ~TraceFile();
    void on_trace(const TraceEvent& event) override;
    void flush();

private:
    struct Impl;
    explicit TraceFile(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace petrel
