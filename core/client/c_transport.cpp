#include "core/client/c_transport.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "protocol/utf8.hpp"

namespace petrel {

namespace {

constexpr std::chrono::seconds kCloseMax{5};  // Transport::close.
constexpr std::size_t kReasonMax = 123;       // RFC 6455 section 5.5.

CloseInfo broken(std::string reason) {
    CloseInfo info;
    info.reason = std::move(reason);
    return info;
}

}  // namespace

namespace host_report {

// What a Transport and a host share. The host may report for longer than the loop lives: the
// transport cuts it off.
class Link {
public:
    explicit Link(EventLoop& loop) : loop_(&loop) {}

    // From any thread. False: nobody listens any more.
    bool post(std::function<void()> task) {
        const std::lock_guard lock(mutex_);
        if (loop_ == nullptr) return false;
        loop_->post(std::move(task));
        return true;
    }
    void cut_off() {
        const std::lock_guard lock(mutex_);
        loop_ = nullptr;
    }

    class HostTransport* transport = nullptr;  // On the loop; nullptr: given up.

private:
    std::mutex mutex_;
    EventLoop* loop_;
};

class HostTransport final : public Transport {
public:
    HostTransport(EventLoop& loop, const petrel_transport& table, Handler& handler)
        : loop_(loop), table_(table), handler_(&handler), link_(std::make_shared<Link>(loop)) {
        link_->transport = this;
        alarm_ = loop.make_alarm([this] { finish(broken("the host did not close in time")); });
    }

    ~HostTransport() override {
        link_->transport = nullptr;
        link_->cut_off();
        if (is_host_there_ && !is_closing_) table_.close(table_.user_data, host_data_, 0, "");
        if (is_begun_ && table_.release != nullptr) {
            table_.release(table_.user_data, host_data_);
        }
    }

    void begin(const ConnectOptions& options);

    void set_handler(Handler& handler) override { handler_ = &handler; }

    void send(std::string_view text) override {
        if (!is_open_ || is_closing_) return;
        sizes_.push_back(text.size());
        queued_ += text.size();
        table_.send(table_.user_data, host_data_, text.data(), text.size());
    }

    void close(std::uint16_t code, std::string_view reason) override {
        if (is_closing_ || is_over_) return;
        is_closing_ = true;
        if (!is_host_there_) return;  // Its end is on its way.
        alarm_->arm(loop_.now() + kCloseMax);
        // Between characters.
        if (reason.size() > kReasonMax) {
            std::size_t end = kReasonMax;
            while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xc0) == 0x80) --end;
            reason = reason.substr(0, end);
        }
        const bool may_be_sent = code >= 1000 && code < 5000 && code != 1004 && code != 1005 &&
                                 code != 1006 && code != 1015;
        table_.close(table_.user_data, host_data_, may_be_sent ? code : 1000,
                     std::string(reason).c_str());
    }

    std::size_t queued_bytes() const override { return queued_; }
    std::size_t queued_packets() const override { return sizes_.size(); }

    // ---- by the host, on the loop ----
    void on_opened(const std::string& subprotocol) {
        if (is_open_ || is_over_ || is_closing_) return;
        is_open_ = true;
        handler_->on_open(subprotocol);
    }
    void on_text(const std::string& text) {
        if (is_over_ || is_closing_ || !is_open_) return;
        if (text.size() > frame_bytes_max_) {
            close(1009, "the message is too large");
        } else if (!is_valid_utf8(text)) {
            close(1007, "the message is not UTF-8");
        } else {
            handler_->on_text(text);
        }
    }
    void on_binary(std::size_t size) {
        if (is_over_ || is_closing_ || !is_open_) return;
        handler_->on_binary(size);
    }
    void on_sent(std::size_t bytes) {
        if (sizes_.empty() || is_over_) return;
        // Whole frames are queued; the first of them may have left in part.
        queued_ -= std::min(bytes, queued_);
        part_ += bytes;
        while (!sizes_.empty() && part_ >= sizes_.front()) {
            part_ -= sizes_.front();
            sizes_.pop_front();
        }
        if (queued_ == 0) {
            sizes_.clear();
            part_ = 0;
            handler_->on_drained();
        }
    }
    void on_closed(CloseInfo info) {
        is_host_there_ = false;
        finish(std::move(info));
    }

private:
    void finish(CloseInfo info) {
        if (std::exchange(is_over_, true)) return;
        alarm_->disarm();
        sizes_.clear();
        queued_ = 0;
        info.was_open = is_open_;
        handler_->on_closed(info);
    }

    EventLoop& loop_;
    const petrel_transport table_;
    std::size_t frame_bytes_max_ = 0;
    Handler* handler_;
    std::shared_ptr<Link> link_;
    std::unique_ptr<EventLoop::Alarm> alarm_;  // After close(): the host's last chance.
    void* host_data_ = nullptr;
    std::deque<std::size_t> sizes_;  // Frames given to the host, not yet sent.
    std::size_t queued_ = 0;         // Bytes of them.
    std::size_t part_ = 0;           // Sent of the first.
    bool is_begun_ = false;          // The host's open succeeded.
    bool is_host_there_ = false;     // And it has not reported the end.
    bool is_open_ = false;
    bool is_closing_ = false;
    bool is_over_ = false;
};

}  // namespace host_report

}  // namespace petrel

struct petrel_connection {
    std::shared_ptr<petrel::host_report::Link> link;
};

namespace petrel {

namespace host_report {

void HostTransport::begin(const ConnectOptions& options) {
    auto connection = std::make_unique<petrel_connection>();
    connection->link = link_;
    const std::string subprotocol(options.subprotocol);
    is_host_there_ = true;
    frame_bytes_max_ = options.frame_bytes_max;
    const std::int32_t status = table_.open(table_.user_data, connection.get(), options.url.c_str(),
                                            subprotocol.c_str(), &host_data_);
    if (status == PETREL_OK) {
        is_begun_ = true;
        (void)connection.release();  // The host's, until it reports the end.
        return;
    }
    is_host_there_ = false;
    link_->post([link = link_, status] {
        if (link->transport == nullptr) return;
        link->transport->on_closed(broken("the host's open failed: " + std::to_string(status)));
    });
}

void opened(petrel_connection& connection, std::string_view subprotocol) {
    connection.link->post([link = connection.link, subprotocol = std::string(subprotocol)] {
        if (link->transport != nullptr) link->transport->on_opened(subprotocol);
    });
}

void text(petrel_connection& connection, std::string_view text) {
    connection.link->post([link = connection.link, text = std::string(text)] {
        if (link->transport != nullptr) link->transport->on_text(text);
    });
}

void binary(petrel_connection& connection, std::size_t size) {
    connection.link->post([link = connection.link, size] {
        if (link->transport != nullptr) link->transport->on_binary(size);
    });
}

void sent(petrel_connection& connection, std::size_t bytes) {
    connection.link->post([link = connection.link, bytes] {
        if (link->transport != nullptr) link->transport->on_sent(bytes);
    });
}

void closed(petrel_connection& connection, CloseInfo info) {
    connection.link->post([link = connection.link, info = std::move(info)] {
        if (link->transport != nullptr) link->transport->on_closed(info);
    });
    delete &connection;
}

}  // namespace host_report

std::unique_ptr<Transport> HostConnector::connect(const ConnectOptions& options,
                                                  Transport::Handler& handler) {
    auto transport = std::make_unique<host_report::HostTransport>(loop_, table_, handler);
    transport->begin(options);
    return transport;
}

bool HostConnector::is_complete(const petrel_transport& table) {
    return table.open != nullptr && table.send != nullptr && table.close != nullptr;
}

}  // namespace petrel
