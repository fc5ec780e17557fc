#include "tools/petrel/bench_load.hpp"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <deque>
#include <string_view>
#include <utility>
#include <variant>

#include "protocol/fingerprint.hpp"
#include "tools/petrel/client_options.hpp"
#include "tools/petrel/log.hpp"

namespace petrel::tools {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

// Logins under way at once: more would only wait in the listener's backlog.
constexpr std::uint64_t kLoginsAtOnce = 64;
// What an open loop may have waiting, over all pairs, when the gateway cannot keep up.
constexpr std::size_t kWaitingMax = 1'000'000;

// "PPPPPP NNNNNNNNNNNN DDDDDDDDDDDDDDDD ": pair, number and the time it was due, in hex.
constexpr std::size_t kHeader = 6 + 1 + 12 + 1 + 16 + 1;
static_assert(kHeader <= BenchLoad::kSizeMin);

struct Header {
    std::uint64_t pair = 0, number = 0, due = 0;
};

// And a space. By hand: printf would be a good part of what sending a message costs.
void append_hex(std::uint64_t value, unsigned digits, std::string& to) {
    while (digits-- > 0) to.push_back("0123456789abcdef"[value >> (4 * digits) & 0xf]);
    to.push_back(' ');
}

std::optional<Header> parse_header(std::string_view text) {
    if (text.size() < kHeader) return std::nullopt;
    const auto field = [text](std::size_t from, std::size_t size, std::uint64_t& value) {
        const char* const begin = text.data() + from;
        const auto read = std::from_chars(begin, begin + size, value, 16);
        return read.ec == std::errc() && read.ptr == begin + size && begin[size] == ' ';
    };
    Header header;
    if (!field(0, 6, header.pair) || !field(7, 12, header.number) || !field(20, 16, header.due)) {
        return std::nullopt;
    }
    return header;
}

}  // namespace

struct BenchLoad::Pair {
    std::uint32_t index = 0;
    std::string receiver_name;
    std::unique_ptr<Client> sender, receiver;
    std::uint64_t share = 0;  // Messages that it is to send.
    std::uint64_t submitted = 0, settled = 0, received = 0;
    std::deque<nanoseconds> unacked;  // When they were due; acks come in this order.
    std::vector<bool> has_come;       // By number.
    std::uint64_t expected = 0;       // The lowest number that comes in order.

    bool is_finished() const { return settled == share && received == share; }
};

BenchLoad::BenchLoad(Options options, std::function<void(const Progress&)> on_progress)
    : options_(std::move(options)),
      on_progress_(std::move(on_progress)),
      run_("bench-" + UuidSource().next().to_string().substr(0, 8)),
      loop_(runtime_.loop()),
      padding_(options_.size - std::min(options_.size, kHeader), '.') {}

// On the loop none waits for another's close handshake.
BenchLoad::~BenchLoad() {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_gone = false;
    loop_.post([&] {
        end();
        idle_.clear();
        pairs_.clear();
        alarm_.reset();
        const std::lock_guard<std::mutex> lock(mutex);
        is_gone = true;
        changed.notify_all();
    });
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return is_gone; });
}

void BenchLoad::stop() {
    is_stopped_ = true;
    const std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_all();
}

bool BenchLoad::wait_for(const std::function<bool()>& is_done) {
    std::unique_lock<std::mutex> lock(mutex_);
    std::uint64_t steps = steps_;
    auto moved_at = std::chrono::steady_clock::now();
    auto told_at = moved_at;
    while (!is_done()) {
        if (is_stopped_ || failure_) return false;
        changed_.wait_for(lock, 50ms);
        const auto at = std::chrono::steady_clock::now();
        if (const std::uint64_t seen = steps_; seen != steps) {
            steps = seen;
            moved_at = at;
        }
        if (at - moved_at > options_.timeout) return false;
        if (at - told_at < 1s) continue;
        told_at = at;
        lock.unlock();
        on_progress_({online_, accepted_, received_});
        lock.lock();
    }
    return true;
}

void BenchLoad::rest(nanoseconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_until(lock, until, [this] { return is_stopped_.load(); });
}

std::unique_ptr<Client> BenchLoad::make_client(std::string user, std::uint32_t window,
                                               std::function<void(const Event&)> on_event) {
    ClientOptions options;
    options.engine.profile = options_.profile;
    options.engine.require_v1 = options_.profile == ProfileId::kPetrelV1;
    options.engine.user = std::move(user);
    options.engine.app = "bench";
    options.engine.device = fresh_device();
    options.engine.window = window;
    options.engine.unhandled_max = std::max<std::size_t>(1024, window);
    options.engine.send.window_packets_max = std::max<std::uint32_t>(options_.window, 1);
    options.engine.send.kept_max = kWaitingMax;
    options.connect.url = options_.url;
    options.on_event = std::move(on_event);
    options.on_log = [](LogLevel level, std::string_view text) { log(level, text); };
    return std::make_unique<Client>(runtime_, std::move(options));
}

// ---- logging in ----

void BenchLoad::on_login(const Event& event) {
    if (const auto* state = std::get_if<StateEvent>(&event)) {
        ++steps_;
        if (state->state == ClientState::kOnline) {
            ++online_;
            changed_.notify_all();
        } else if (state->state == ClientState::kStopped) {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!failure_) {
                failure_ = ExitStatus::kRefused;
                reason_ = "the gateway let a client go for good: " + state->reason;
            }
            changed_.notify_all();
        }
    }
}

std::optional<ExitStatus> BenchLoad::log_in(const char* who, std::uint64_t wanted,
                                            const std::function<void(std::uint64_t)>& begin,
                                            std::string& why) {
    online_ = 0;
    for (std::uint64_t begun = 0; begun < wanted;) {
        const std::uint64_t target = std::min(begun + kLoginsAtOnce, wanted);
        for (; begun < target; ++begun) begin(begun);
        // Half of them, so that the next ones start while these finish.
        const std::uint64_t enough = begun == wanted ? wanted : begun - kLoginsAtOnce / 2;
        if (wait_for([&] { return online_ >= enough; })) continue;
        if (is_stopped_) return ExitStatus::kDone;
        const std::lock_guard<std::mutex> lock(mutex_);
        why = failure_ ? reason_
                       : "only " + std::to_string(online_) + " of " + std::to_string(wanted) + " " +
                             who + " came online";
        return failure_.value_or(ExitStatus::kNeverOnline);
    }
    return std::nullopt;
}

std::optional<ExitStatus> BenchLoad::log_idle_in(std::string& why) {
    idle_.reserve(options_.idle);
    return log_in(
        "idle clients", options_.idle,
        [this](std::uint64_t index) {
            idle_.push_back(make_client(run_ + "-i" + std::to_string(index), 64,
                                        [this](const Event& event) { on_login(event); }));
            idle_.back()->login();
        },
        why);
}

std::optional<ExitStatus> BenchLoad::log_pairs_in(std::string& why) {
    for (std::uint32_t i = 0; i < options_.pairs; ++i) {
        auto pair = std::make_unique<Pair>();
        pair->index = i;
        pair->receiver_name = run_ + "-r" + std::to_string(i);
        pair->share = options_.messages / options_.pairs + (i < options_.messages % options_.pairs);
        pair->has_come.resize(pair->share);
        pairs_.push_back(std::move(pair));
    }
    return log_in(
        "senders and receivers", std::uint64_t{2} * options_.pairs,
        [this](std::uint64_t index) {
            Pair& pair = *pairs_[index / 2];
            if (index % 2 == 0) {
                pair.receiver =
                    make_client(pair.receiver_name, std::max<std::uint32_t>(options_.window, 64),
                                [this, &pair](const Event& event) { on_receiver(pair, event); });
                pair.receiver->login();
            } else {
                // It gets no messages.
                pair.sender =
                    make_client(run_ + "-s" + std::to_string(pair.index), 0,
                                [this, &pair](const Event& event) { on_sender(pair, event); });
                pair.sender->login();
            }
        },
        why);
}

// ---- messages ----

std::optional<ExitStatus> BenchLoad::run(Result& result, std::string& why) {
    loop_.post([this] { begin(); });
    const bool is_done = wait_for([this] { return is_done_; });
    // What has come by now, from the thread that counts it.
    bool is_told = false;
    loop_.post([&] {
        end();
        const std::lock_guard<std::mutex> lock(mutex_);
        result = result_;
        is_told = true;
        changed_.notify_all();
    });
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return is_told; });
    if (is_done || is_stopped_) return std::nullopt;
    why =
        failure_
            ? reason_
            : "no progress for " +
                  std::to_string(
                      std::chrono::duration_cast<std::chrono::seconds>(options_.timeout).count()) +
                  " s";
    return failure_.value_or(ExitStatus::kFailed);
}

void BenchLoad::begin() {
    started_ = now();
    // More pairs than messages: some have nothing to do.
    for (const auto& pair : pairs_) finished_pairs_ += pair->is_finished() ? 1 : 0;
    if (finished_pairs_ == pairs_.size()) {
        finish_all();
        return;
    }
    if (options_.per_second > 0) {
        alarm_ = loop_.make_alarm([this] { submit_due(); });
        submit_due();
        return;
    }
    for (const auto& pair : pairs_) {
        const std::uint64_t first = std::min<std::uint64_t>(options_.window, pair->share);
        for (std::uint64_t i = 0; i < first; ++i) submit(*pair, now());
    }
}

// Open loop: everything that is due by now.
void BenchLoad::submit_due() {
    if (is_over_) return;
    const double interval_ns = 1e9 / options_.per_second;
    const nanoseconds at = now();
    for (; submitted_ < options_.messages;) {
        const nanoseconds due =
            started_ +
            nanoseconds(static_cast<std::int64_t>(static_cast<double>(submitted_) * interval_ns));
        if (due > at) {
            alarm_->arm(EventLoop::TimePoint(due));
            return;
        }
        submit(*pairs_[submitted_ % pairs_.size()], due);
    }
}

void BenchLoad::submit(Pair& pair, nanoseconds due) {
    SendRequest request;
    request.to = pair.receiver_name;
    request.text.reserve(kHeader + padding_.size());
    append_hex(pair.index & 0xffffff, 6, request.text);
    append_hex(pair.submitted, 12, request.text);
    append_hex(static_cast<std::uint64_t>(due.count()), 16, request.text);
    request.text += padding_;
    ++pair.submitted;
    ++submitted_;
    pair.unacked.push_back(due);
    pair.sender->send_async(
        std::move(request), [this, &pair](const petrel::Result<Fingerprint>& taken) {
            if (taken) return;
            // It has no outcome: counted here, at whose place in the row is nothing to measure any
            // more.
            log(LogLevel::kError, "a message was not taken: " + taken.error().message());
            if (!pair.unacked.empty()) pair.unacked.pop_back();
            ++pair.settled;
            ++result_.not_accepted;
            finish(pair);
        });
}

void BenchLoad::on_sender(Pair& pair, const Event& event) {
    const auto* outcome = std::get_if<OutcomeEvent>(&event);
    if (outcome == nullptr) {
        on_login(event);
        return;
    }
    if (is_over_ || outcome->is_correction) return;
    ++pair.settled;
    if (outcome->record.outcome == Outcome::kAccepted) {
        ++result_.accepted;
        accepted_.store(result_.accepted, std::memory_order_relaxed);
        if (!pair.unacked.empty()) {
            result_.to_accepted.record(
                static_cast<std::uint64_t>((now() - pair.unacked.front()).count()));
        }
    } else {
        ++result_.not_accepted;
    }
    if (!pair.unacked.empty()) pair.unacked.pop_front();
    steps_.fetch_add(1, std::memory_order_relaxed);
    if (options_.per_second <= 0 && pair.submitted < pair.share) submit(pair, now());
    finish(pair);
}

void BenchLoad::on_receiver(Pair& pair, const Event& event) {
    if (std::holds_alternative<EchoEvent>(event)) {
        ++last_answers_;
        finish_if_answered();
        return;
    }
    const auto* message = std::get_if<MessageEvent>(&event);
    if (message == nullptr) {
        on_login(event);
        return;
    }
    if (is_over_) return;
    steps_.fetch_add(1, std::memory_order_relaxed);
    const auto header = parse_header(message->text);
    if (!header || header->pair != (pair.index & 0xffffff) || header->number >= pair.share ||
        message->text.size() != options_.size) {
        log(LogLevel::kError, "a message came that nobody has sent");
        ++result_.doubled;
        return;
    }
    if (pair.has_come[header->number]) {
        ++result_.doubled;
        return;
    }
    pair.has_come[header->number] = true;
    // Only petrel.v1 promises an order.
    if (header->number < pair.expected && options_.profile == ProfileId::kPetrelV1) {
        ++result_.disordered;
    }
    pair.expected = std::max(pair.expected, header->number + 1);
    ++pair.received;
    ++result_.received;
    received_.store(result_.received, std::memory_order_relaxed);
    result_.to_received.record(static_cast<std::uint64_t>(
        (now() - nanoseconds(static_cast<std::int64_t>(header->due))).count()));
    finish(pair);
}

void BenchLoad::finish(const Pair& pair) {
    if (is_over_ || !pair.is_finished() || ++finished_pairs_ < pairs_.size()) return;
    finish_all();
}

// Behind the last message each receiver has an echo come: a doubled one would be before it.
void BenchLoad::finish_all() {
    result_.took = std::max(now() - started_, nanoseconds{1});
    for (const auto& pair : pairs_) {
        // Offline just now: then nothing is on its way.
        if (pair->receiver->echo("end")) ++last_answers_;
    }
    finish_if_answered();
}

void BenchLoad::finish_if_answered() {
    if (is_over_ || last_answers_ < pairs_.size()) return;
    is_over_ = true;
    const std::lock_guard<std::mutex> lock(mutex_);
    is_done_ = true;
    changed_.notify_all();
}

void BenchLoad::end() {
    is_over_ = true;
    result_.sent = submitted_;
    if (result_.took == nanoseconds::zero() && started_ != nanoseconds::zero()) {
        result_.took = std::max(now() - started_, nanoseconds{1});
    }
    // Accepted and not there; of what was not accepted nothing was promised.
    result_.lost = result_.accepted > result_.received ? result_.accepted - result_.received : 0;
}

}  // namespace petrel::tools
