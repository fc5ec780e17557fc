#include <cassert>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/client/client.hpp"
#include "transport/asio_event_loop.hpp"
#include "transport/native_client.hpp"

namespace petrel {

namespace {

constexpr std::chrono::seconds kLeasesMax{5};  // A transport's close takes no longer.

}  // namespace

struct Runtime::Impl {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t leases = 0;

    AsioEventLoop loop;
    NativeConnector connector{loop};
    std::thread thread{[this] { loop.run(); }};
};

Runtime::Runtime() : impl_(std::make_unique<Impl>()) {}

Runtime::~Runtime() {
    assert(!is_engine_thread());
    {
        std::unique_lock lock(impl_->mutex);
        impl_->changed.wait_for(lock, kLeasesMax, [this] { return impl_->leases == 0; });
    }
    impl_->loop.stop();
    impl_->thread.join();
}

EventLoop& Runtime::loop() { return impl_->loop; }
Connector& Runtime::connector() { return impl_->connector; }
std::shared_ptr<void> Runtime::lease() {
    {
        const std::lock_guard lock(impl_->mutex);
        ++impl_->leases;
    }
    return {impl_.get(), [](void* impl) {
                auto& self = *static_cast<Impl*>(impl);
                // Under the lock: the runtime may be gone as soon as it is let go.
                const std::lock_guard lock(self.mutex);
                --self.leases;
                self.changed.notify_all();
            }};
}

bool Runtime::is_engine_thread() const { return impl_->loop.is_loop_thread(); }

}  // namespace petrel
