#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "transport/asio_event_loop_impl.hpp"
#include "transport/mask_source.hpp"

// What the connections of one event loop share, so that each of them needs little. For
// transport/*.cpp only.

namespace petrel {

class NativeLink;

class NativeLoop {
public:
    // Where everything is read into. What is read is dealt with before the next read.
    static constexpr std::size_t kReceiveBytes = 65'536;

    explicit NativeLoop(asio::io_context& io) : io_(io) {}
    static NativeLoop& of(AsioEventLoop::Impl& loop);

    asio::io_context& io() { return io_; }
    MaskSource& masks() { return masks_; }
    char* receive_buffer();

    // Calls flush() of `link` after all that is ready now: one post for all links of a turn.
    void flush_soon(std::shared_ptr<NativeLink> link);

    // Write buffers for use by turns: one that is given back keeps its memory.
    std::string take_buffer();
    void give_buffer(std::string&& buffer);

    // The io_context is about to go: its links must not stay.
    void forget_links();

private:
    void flush();

    asio::io_context& io_;
    MaskSource masks_;
    std::vector<char> receive_buffer_;
    std::vector<std::shared_ptr<NativeLink>> dirty_;
    std::vector<std::shared_ptr<NativeLink>> flushing_;
    std::vector<std::string> spare_;
    std::size_t spare_bytes_ = 0;
};

}  // namespace petrel
