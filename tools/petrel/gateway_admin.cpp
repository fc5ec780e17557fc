#include "tools/petrel/gateway_admin.hpp"

#include <chrono>
#include <utility>

#include "core/gateway/metrics.hpp"
#include "tools/petrel/log.hpp"
#include "tools/petrel/process_metrics.hpp"

namespace petrel::tools {

GatewayAdmin::GatewayAdmin(Gateway& gateway, std::string store, std::string token,
                           std::function<void(std::optional<std::int64_t>)> on_drain)
    : gateway_(gateway),
      store_(std::move(store)),
      on_drain_(std::move(on_drain)),
      api_(*this, std::move(token)),
      server_(api_, [](std::string_view address) {
          log(LogLevel::kWarning,
              "admin: a request without the right token from " + std::string(address));
      }) {}

bool GatewayAdmin::stop() {
    // What is being answered takes Gateway::kAnswerPatience at the most; who sends a byte now and
    // then shall not hold us up.
    return server_.stop(std::chrono::seconds{3});
}

std::optional<std::string> GatewayAdmin::metrics() {
    const std::optional<GatewayFigures> figures = gateway_.figures();
    if (!figures) return std::nullopt;
    MetricsText text;
    write_metrics(*figures, text);
    write_store_size(store_, text);
    write_process_metrics(text);
    return text.text();
}

std::optional<std::size_t> GatewayAdmin::kick(const KickOrder& order) {
    const std::optional<std::size_t> kicked = gateway_.kick(order);
    log(LogLevel::kWarning,
        "admin: kicked out " +
            (kicked ? std::to_string(*kicked) : std::string("an unknown number")) +
            " sessions of user " + order.user + " of app " + order.app +
            (order.device.empty() ? std::string() : ", device " + order.device) + ": " +
            order.reason);
    return kicked;
}

void GatewayAdmin::drain(std::optional<std::int64_t> window_ms) {
    if (has_drained_.exchange(true)) return;
    log(LogLevel::kWarning, "admin: drain");
    on_drain_(window_ms);
}

}  // namespace petrel::tools
