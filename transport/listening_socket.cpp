#include "transport/listening_socket.hpp"

namespace petrel {
namespace {

asio::ip::address resolve_address(asio::io_context& io, std::string text, std::error_code& error) {
    if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
        text = text.substr(1, text.size() - 2);
    }
    auto address = asio::ip::make_address(text, error);
    if (!error) return address;
    asio::ip::tcp::resolver resolver(io);
    const auto found = resolver.resolve(text, "", asio::ip::resolver_base::passive, error);
    if (error) return {};
    for (const auto& entry : found) {
        if (entry.endpoint().address().is_v4()) return entry.endpoint().address();
    }
    return found.begin()->endpoint().address();
}

std::string describe(const ListenOptions& options, const std::error_code& error) {
    const bool is_ipv6 =
        options.address.find(':') != std::string::npos && options.address.front() != '[';
    const std::string host = is_ipv6 ? "[" + options.address + "]" : options.address;
    return host + ":" + std::to_string(options.port) + ": " + error.message();
}

}  // namespace

TcpAcceptor open_listening_socket(asio::io_context& io, const ListenOptions& options,
                                  std::error_code& error, std::string& why) {
    TcpAcceptor socket(io);
    const auto address = resolve_address(io, options.address, error);
    const asio::ip::tcp::endpoint endpoint(address, options.port);
    if (!error) socket.open(endpoint.protocol(), error);
    if (!error) socket.set_option(asio::socket_base::reuse_address(true), error);
    if (!error && options.reuse_port) {
        using ReusePort = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;
        socket.set_option(ReusePort(true), error);
    }
    if (!error) socket.bind(endpoint, error);
    if (!error) socket.listen(asio::socket_base::max_listen_connections, error);
    if (!error) return socket;
    // Asio's own category for errno compares equal to no std::errc.
    if (error.category() == asio::error::get_system_category()) {
        error.assign(error.value(), std::system_category());
    }
    why = describe(options, error);
    return socket;
}

}  // namespace petrel
