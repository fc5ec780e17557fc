#pragma once

#include <string>

#include "core/gateway/metrics.hpp"

namespace petrel::tools {

// process_*, by the names that every client library of Prometheus uses, from /proc. What cannot be
// read is left out.
void write_process_metrics(MetricsText& text);

// petrel_store_bytes: what the store's files take on the disk. Nothing for :memory:.
void write_store_size(const std::string& store, MetricsText& text);

}  // namespace petrel::tools
