#pragma once

#include <memory>
#include <string_view>

#include "petrel/petrel.h"
#include "transport/event_loop.hpp"
#include "transport/transport.hpp"

namespace petrel {

// Makes connections by a host's table of functions. What the host reports, from any thread, is
// posted to the loop; what it reports after Petrel gave the connection up is dropped.
class HostConnector final : public Connector {
public:
    HostConnector(EventLoop& loop, const petrel_transport& table) : loop_(loop), table_(table) {}
    std::unique_ptr<Transport> connect(const ConnectOptions& options,
                                       Transport::Handler& handler) override;

    // Whether all that is needed is there.
    static bool is_complete(const petrel_transport& table);

private:
    EventLoop& loop_;
    petrel_transport table_;
};

// What the host reports, from any thread.
namespace host_report {
void opened(petrel_connection& connection, std::string_view subprotocol);
void text(petrel_connection& connection, std::string_view text);
void binary(petrel_connection& connection, std::size_t size);
void sent(petrel_connection& connection, std::size_t bytes);
// Deletes the handle.
void closed(petrel_connection& connection, CloseInfo info);
}  // namespace host_report

}  // namespace petrel
