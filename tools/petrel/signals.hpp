#pragma once

#include <functional>
#include <memory>

namespace petrel {
class EventLoop;
}

namespace petrel::tools {

// Ctrl-C (SIGINT) and SIGTERM as an event. The first one asks to finish: `on_stop` runs once. The
// second one ends the process at once, with 128 + the signal's number, as a shell expects it.
//
// One object at a time; destroying it gives the signals back to whoever had them. is_raised() may
// be asked from any thread.
//
//   AsioEventLoop loop;
//   StopSignals signals(loop, [&] { gateway.drain(); });
//   loop.run();
class StopSignals {
public:
    // `on_stop` runs on the loop's thread; the loop must outlive this object.
    StopSignals(EventLoop& loop, std::function<void()> on_stop);
    // `on_stop` runs on a thread of this object's own: it may only do what is thread-safe. Empty:
    // only is_raised() tells.
    explicit StopSignals(std::function<void()> on_stop);
    ~StopSignals();
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;

    bool is_raised() const noexcept;
    // Readable once a signal has come and ever after; for poll() beside other descriptors, as a
    // program that reads its standard input needs it. -1 when there is none.
    int descriptor() const noexcept;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// SIGHUP as an event: reload what may be reloaded. Several that come at once may count as one.
// One object at a time; destroying it gives the signal back.
class HangUpSignal {
public:
    // `on_hang_up` runs on the loop's thread; the loop must outlive this object.
    HangUpSignal(EventLoop& loop, std::function<void()> on_hang_up);
    ~HangUpSignal();
    HangUpSignal(const HangUpSignal&) = delete;
    HangUpSignal& operator=(const HangUpSignal&) = delete;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace petrel::tools
