#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "core/client/c_transport.hpp"
#include "petrel/petrel.h"
#include "transport/asio_event_loop.hpp"
#include "transport/websocketpp_client.hpp"
#include "transport/websocketpp_server.hpp"

namespace petrel::test {

// A host behind the functions of petrel.h, that carries by websocketpp: so the suite that judges
// the built-in transports judges petrel_transport.
class Host {
public:
    explicit Host(AsioEventLoop& loop) : connector_(loop) {}
    // A connection that still says goodbye ends with its host.
    ~Host() {
        while (!links_.empty()) (*links_.begin())->end({});
    }

    petrel_transport table() {
        petrel_transport table{};
        table.struct_size = sizeof table;
        table.user_data = this;
        table.open = open;
        table.send = send;
        table.close = close;
        table.release = release;
        return table;
    }

private:
    // Two owners: Petrel until release, the host until the connection's end.
    struct Link final : Transport::Handler, std::enable_shared_from_this<Link> {
        Link(Host& owner, petrel_connection* report_to) : host(owner), connection(report_to) {}

        void on_open(std::string_view subprotocol) override {
            petrel_connection_opened(connection, std::string(subprotocol).c_str());
        }
        void on_text(std::string_view text) override {
            petrel_connection_text(connection, text.data(), text.size());
        }
        void on_binary(std::size_t size) override { petrel_connection_binary(connection, size); }
        void on_drained() override { petrel_connection_sent(connection, std::exchange(given, 0)); }
        void on_closed(const CloseInfo& info) override { end(info); }

        void end(const CloseInfo& info) {
            petrel_connection_closed(std::exchange(connection, nullptr), info.code,
                                     info.reason.c_str(), info.http_status,
                                     info.retry_after ? info.retry_after->count() : -1);
            transport.reset();
            host.links_.erase(shared_from_this());  // Perhaps the last owner.
        }

        Host& host;
        petrel_connection* connection;
        std::unique_ptr<Transport> transport;
        std::size_t given = 0;
    };

    static std::shared_ptr<Link>& link(void* data) {
        return *static_cast<std::shared_ptr<Link>*>(data);
    }

    static std::int32_t open(void* user_data, petrel_connection* connection, const char* url,
                             const char* subprotocol, void** connection_data) {
        auto& host = *static_cast<Host*>(user_data);
        const auto made = std::make_shared<Link>(host, connection);
        host.links_.insert(made);
        ConnectOptions options;
        options.url = url;
        options.subprotocol = subprotocol;
        made->transport = host.connector_.connect(options, *made);
        *connection_data = new std::shared_ptr<Link>(made);
        return PETREL_OK;
    }
    static void send(void*, void* data, const char* text, std::size_t size) {
        const auto& to = link(data);
        if (!to->transport) return;
        to->given += size;
        to->transport->send({text, size});
    }
    static void close(void*, void* data, std::uint16_t code, const char* reason) {
        const auto closing = link(data);
        if (!closing->transport) return;
        if (code != 0) {
            closing->transport->close(code, reason);
        } else {
            closing->end({});
        }
    }
    static void release(void*, void* data) { delete &link(data); }

    WebsocketppConnector connector_;
    std::set<std::shared_ptr<Link>> links_;  // Whose end is not reported yet.
};

struct OnHost {
    explicit OnHost(AsioEventLoop& event_loop) : loop(event_loop), host(event_loop) {}
    std::unique_ptr<Listener> make_listener() {
        return std::make_unique<WebsocketppListener>(loop);
    }
    std::unique_ptr<Connector> make_connector() {
        return std::make_unique<HostConnector>(loop, host.table());
    }
    void adjust(ListenOptions&) {}
    void adjust(ConnectOptions&) {}
    static std::string url(std::uint16_t port) { return "ws://127.0.0.1:" + std::to_string(port); }
    AsioEventLoop& loop;
    Host host;
};

}  // namespace petrel::test
