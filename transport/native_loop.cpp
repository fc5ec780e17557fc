#include "transport/native_loop.hpp"

#include <utility>

#include "transport/native_link.hpp"

namespace petrel {
namespace {

constexpr std::size_t kSpareBytesMax = 1 << 20;  // What a loop without traffic keeps.

}  // namespace

NativeLoop& NativeLoop::of(AsioEventLoop::Impl& loop) {
    if (!loop.native) loop.native = std::make_shared<NativeLoop>(loop.io);
    return *loop.native;
}

char* NativeLoop::receive_buffer() {
    if (receive_buffer_.empty()) receive_buffer_.resize(kReceiveBytes);
    return receive_buffer_.data();
}

void NativeLoop::flush_soon(std::shared_ptr<NativeLink> link) {
    if (dirty_.empty()) asio::post(io_, [this] { flush(); });
    dirty_.push_back(std::move(link));
}

void NativeLoop::flush() {
    flushing_.swap(dirty_);
    for (const std::shared_ptr<NativeLink>& link : flushing_) link->flush();
    flushing_.clear();
}

std::string NativeLoop::take_buffer() {
    if (spare_.empty()) return {};
    std::string buffer = std::move(spare_.back());
    spare_.pop_back();
    spare_bytes_ -= buffer.capacity();
    return buffer;
}

void NativeLoop::give_buffer(std::string&& buffer) {
    if (buffer.capacity() > kSpareBytesMax - spare_bytes_) return;
    spare_bytes_ += buffer.capacity();
    buffer.clear();
    spare_.push_back(std::move(buffer));
}

void NativeLoop::forget_links() {
    dirty_.clear();
    flushing_.clear();
}

}  // namespace petrel
