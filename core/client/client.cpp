#include "core/client/client.hpp"

#include <utility>

#include "core/client/client_impl.hpp"

namespace petrel {

// The Client is a handle: everything is done by Impl, on the loop's thread.

Client::Client(Runtime& runtime, ClientOptions options)
    : impl_(std::make_shared<Impl>(runtime, std::move(options))) {
    impl_->start();
}

Client::~Client() {
    // A copy: from a callback it outlives this object.
    const auto impl = impl_;
    impl->destroy();
}

void Client::login() {
    impl_->tell([](Engine& engine, TimePoint now) { engine.login(now); });
}

void Client::logout(bool keep) {
    impl_->tell([keep](Engine& engine, TimePoint now) { engine.logout(now, keep); });
}

Result<Fingerprint> Client::send(SendRequest request) { return impl_->send(std::move(request)); }

void Client::send_async(SendRequest request, Engine::SendDone done) {
    impl_->send_async(std::move(request), std::move(done));
}

std::error_code Client::cancel(const Fingerprint& fp) {
    return impl_->ask(make_error_code(Errc::kNotInitialised),
                      [fp](Engine& engine, TimePoint now) { return engine.cancel(now, fp); });
}

std::error_code Client::confirm(std::uint64_t message_id) {
    return impl_->ask(
        make_error_code(Errc::kNotInitialised),
        [message_id](Engine& engine, TimePoint now) { return engine.confirm(now, message_id); });
}

std::error_code Client::echo(std::string text) {
    return impl_->ask(
        make_error_code(Errc::kNotInitialised),
        [text = std::move(text)](Engine& engine, TimePoint now) { return engine.echo(now, text); });
}

void Client::set_token(std::string token) {
    impl_->tell([token = std::move(token)](Engine& engine, TimePoint now) {
        engine.set_token(now, token);
    });
}

void Client::network_available() {
    impl_->tell([](Engine& engine, TimePoint now) { engine.network_available(now); });
}

void Client::network_lost() {
    impl_->tell([](Engine& engine, TimePoint now) { engine.network_lost(now); });
}

void Client::suspend() {
    impl_->tell([](Engine& engine, TimePoint now) { engine.suspend(now); });
}

void Client::resume() {
    impl_->tell([](Engine& engine, TimePoint now) { engine.resume(now); });
}

ClientState Client::state() const { return impl_->state(); }

EngineStats Client::stats() const {
    return impl_->ask(EngineStats{}, [](Engine& engine, TimePoint) { return engine.stats(); });
}

std::optional<Event> Client::next_event(std::chrono::milliseconds timeout) {
    return impl_->next_event(timeout);
}

void Client::wake() { impl_->wake(); }

int Client::event_fd() const { return impl_->event_fd(); }

}  // namespace petrel
