#include "transport/native_stream.hpp"

namespace petrel {
namespace {

Io outcome(std::size_t size, const std::error_code& error, Io::Status when_blocked) {
    Io io;
    io.size = size;
    if (!error) return io;
    if (error == asio::error::would_block || error == asio::error::try_again ||
        error == asio::error::interrupted) {
        io.status = when_blocked;
    } else if (error == asio::error::eof) {
        io.status = Io::Status::kEnded;
    } else {
        io.status = Io::Status::kFailed;
        io.error = error;
    }
    return io;
}

}  // namespace

void NativeStream::prepare() {
    std::error_code ignored;
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    socket.non_blocking(true, ignored);
}

Io NativeStream::read(char* data, std::size_t size) {
    if (secure) return secure->read(data, size);
    std::error_code error;
    const std::size_t count = socket.read_some(asio::buffer(data, size), error);
    return outcome(count, error, Io::Status::kWantRead);
}

Io NativeStream::write(const char* data, std::size_t size) {
    if (secure) return secure->write(data, size);
    std::error_code error;
    const std::size_t count = socket.write_some(asio::buffer(data, size), error);
    return outcome(count, error, Io::Status::kWantWrite);
}

void NativeStream::end_writing() {
    if (secure) secure->say_goodbye();
    std::error_code ignored;
    socket.shutdown(TcpSocket::shutdown_send, ignored);
}

void NativeStream::close() {
    std::error_code ignored;
    socket.close(ignored);
}

}  // namespace petrel
