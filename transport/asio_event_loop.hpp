#pragma once

#include <memory>

#include "transport/event_loop.hpp"

namespace petrel {

// EventLoop over one standalone Asio io_context.
class AsioEventLoop final : public EventLoop {
public:
    struct Impl;  // The io_context; seen by transport/*.cpp only.

    AsioEventLoop();
    ~AsioEventLoop() override;

    void post(std::function<void()> task) override;
    TimePoint now() const override;
    std::int64_t wall_ms() const override;
    std::unique_ptr<Alarm> make_alarm(std::function<void()> on_alarm) override;
    void run() override;
    void stop() override;
    bool is_loop_thread() const override;

    Impl& impl() { return *impl_; }

private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace petrel
