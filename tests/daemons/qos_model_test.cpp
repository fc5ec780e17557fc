// A QosSendDaemon against a QosReceiveDaemon over a link that drops and doubles packets and is cut
// now and then, in virtual time and from fixed seeds. A failure names its seed.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <ostream>
#include <random>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "daemons/qos_receive.hpp"
#include "daemons/qos_send.hpp"
#include "tests/support/fake_context.hpp"

using namespace petrel;
using namespace petrel::test;
using namespace std::chrono_literals;

namespace {

enum class Mode { kClientToServer, kPush, kPlain, kPlainUntilAcked };

class Model final : public QosSendDaemon::Listener, public QosReceiveDaemon::Listener {
public:
    Model(Mode mode, std::uint64_t seed)
        : mode_(mode),
          random_(seed),
          drop_percent_(static_cast<unsigned>(seed % 4) * 10),
          sender_(context_, *this, send_options(mode)),
          receiver_(context_, *this, receive_options(mode, seed)) {}

    void run() {
        for (int i = 0; i < 160; ++i) {
            step();
            settle_step();
        }
        drain();
        verify();
    }

private:
    struct Mark {
        Position sent = 0;
    };
    struct Refusal {
        Fingerprint fp;
        Position seq = 0;
        int code = 0;
        Duration retry_after{};
    };
    using Up = std::variant<Data, Mark>;
    using Down = std::variant<Ack, Refusal>;

    static QosSendDaemon::Options send_options(Mode mode) {
        QosSendDaemon::Options options;
        options.window_packets_max = 6;
        options.assigns_positions = mode != Mode::kPush;
        options.late_ack_memory = 1000;
        if (mode == Mode::kPlain || mode == Mode::kPlainUntilAcked) {
            options.strategy = QosSendDaemon::Strategy::kFingerprints;
            options.check_period = 100ms;
            options.retry_not_younger = 60ms;
            if (mode == Mode::kPlainUntilAcked) options.retries.reset();
        }
        return options;
    }
    static QosReceiveDaemon::Options receive_options(Mode mode, std::uint64_t seed) {
        QosReceiveDaemon::Options options;
        if (mode == Mode::kClientToServer) options.ack_delay_max = 0s;
        options.gap_interval = seed % 2 == 0 ? 250ms : 20ms;
        return options;
    }

    bool is_plain() const { return mode_ == Mode::kPlain || mode_ == Mode::kPlainUntilAcked; }
    bool chance(unsigned percent) { return random_() % 100 < percent; }
    Duration some_time(unsigned ms_max) { return std::chrono::milliseconds(random_() % ms_max); }

    // ---- the faulty world ----

    void step() {
        switch (random_() % 10) {
            case 0:
            case 1:
            case 2: submit(); break;
            case 3:
            case 4: deliver(1 + random_() % 8); break;
            case 5: commit(1 + random_() % 4); break;
            case 6: context_.advance(some_time(80)); break;
            case 7: heartbeat(); break;
            case 8:
                if (chance(30)) reconnect();
                break;
            default:
                if (chance(40)) {
                    cancel();
                } else if (chance(70)) {
                    sender_.set_writable(chance(60));
                } else {
                    sender_.set_held(chance(40));
                }
                break;
        }
    }

    // The end of a turn: what was sent enters the link, acks that are due leave.
    void settle_step() {
        receiver_.flush();
        for (const Packet& packet : context_.take_sent()) put(up_, Up(std::get<Data>(packet)));
        // A CHECK costs more than the whole step.
        if (!sender_.is_consistent()) FAIL("the sender is inconsistent");
        if (!receiver_.is_consistent()) FAIL("the receiver is inconsistent");
        if (sender_.in_flight() > 6) FAIL("the window is exceeded");
    }

    template <class T>
    void put(std::deque<T>& link, T packet) {
        if (!is_cut_ && !chance(has_faults_ ? drop_percent_ : 0)) link.push_back(packet);
        // A copy, at once or (of an earlier packet) much later.
        if (has_faults_ && !link.empty() && chance(10)) {
            link.push_back(T(link[random_() % link.size()]));
        }
    }

    void deliver(std::size_t count) {
        for (; count > 0 && !(up_.empty() && down_.empty()); --count) {
            if (down_.empty() || (!up_.empty() && chance(50))) {
                const Up packet = up_.front();
                up_.pop_front();
                if (const auto* message = std::get_if<Data>(&packet))
                    arrive(*message);
                else
                    arrive(std::get<Mark>(packet));
            } else {
                const Down packet = down_.front();
                down_.pop_front();
                if (const auto* ack = std::get_if<Ack>(&packet))
                    arrive(*ack);
                else
                    arrive(std::get<Refusal>(packet));
            }
            settle_step();
        }
    }

    void reconnect() {
        sender_.on_offline();
        receiver_.on_offline();
        up_.clear();
        down_.clear();
        settle_step();
        is_cut_ = has_faults_ && chance(30);
        if (is_cut_) return;
        const Position first = sender_.highest_acked() + 1;
        QosSendDaemon::Resume resume;
        resume.window = 1 + random_() % 10;
        if (chance(20)) resume.window_bytes = 600;
        if (mode_ == Mode::kClientToServer) {
            // What is not in the store goes with the session, or gets there just in time.
            if (chance(50)) commit(taken_.size());
            taken_.clear();
            resume.accepted = h_;
            receiver_.on_online(std::max(h_, first - 1), resume.window);
        } else {
            resume.accepted = receiver_.rx();
            receiver_.on_online(resume.accepted, resume.window, h_);
        }
        unsaid_.clear();
        sender_.on_online(resume);
    }

    // ---- the sending side ----

    void submit() {
        const std::string name = "m" + std::to_string(submitted_.size());
        Data message;
        message.fp = Fingerprint::parse(name).value();
        message.qos = true;
        message.text = std::string(random_() % 300, 'x');
        if (mode_ == Mode::kPush) message.seq = submitted_.size() + 1;
        std::optional<TimePoint> expires_at;
        if (mode_ != Mode::kPush && chance(25)) expires_at = context_.now() + some_time(400);
        index_.emplace(name, submitted_.size());
        submitted_.push_back(name);
        REQUIRE_FALSE(sender_.submit(std::move(message), expires_at));
    }

    void cancel() {
        if (submitted_.empty() || mode_ == Mode::kPush) return;
        const std::string& name = submitted_[random_() % submitted_.size()];
        unsigned attempts = 0;
        if (sender_.cancel(Fingerprint::parse(name).value(), &attempts)) {
            settled(name);
            if (attempts == 0) never_sent_.insert(name);
        }
    }

    void heartbeat() {
        if (!is_plain() && !is_cut_) put(up_, Up(Mark{sender_.sent_mark()}));
    }

    void arrive(const Ack& ack) {
        if (is_plain()) {
            sender_.on_fingerprint_ack(ack.fp);
            return;
        }
        CHECK(sender_.on_ack(*ack.h, ack.acc));
        if (ack.gap) CHECK(sender_.on_gap(*ack.rx));
    }
    void arrive(const Refusal& refusal) {
        sender_.on_refused(refusal.fp, refusal.seq, refusal.code, refusal.retry_after);
    }

    void settled(const std::string& name) { CHECK(outcomes_[name]++ == 0); }
    void on_accepted(const QosSendDaemon::Settled& m, const Acceptance* at) override {
        const std::string name = m.message.fp.to_string();
        settled(name);
        accepted_.insert(name);
        CHECK(m.attempts > 0);
        if (at != nullptr) {
            CHECK(at->seq == m.position);
            CHECK(at->cseq == index_.at(name) + 1000);
        }
    }
    void on_rejected(const QosSendDaemon::Settled& m, int code) override {
        settled(m.message.fp.to_string());
        rejected_.insert(m.message.fp.to_string());
        CHECK(code == 305);
        if (has_faults_) sender_.set_held(true);
    }
    void on_expired(const QosSendDaemon::Settled& m) override {
        settled(m.message.fp.to_string());
        if (m.attempts == 0) never_sent_.insert(m.message.fp.to_string());
        if (has_faults_) sender_.set_held(true);
    }
    void on_lost(const QosSendDaemon::Settled& m) override {
        CHECK(mode_ == Mode::kPlain);
        CHECK(m.attempts >= 3);
        settled(m.message.fp.to_string());
        lost_.insert(m.message.fp.to_string());
    }
    void on_late_ack(const Fingerprint& fp) override { CHECK(lost_.erase(fp.to_string()) == 1); }
    void on_peer_lost_accepted(Position, Position) override { FAIL("the store lost nothing"); }
    void on_new_stream_wanted() override { FAIL("the store knows nothing more"); }
    void on_outstanding_changed() override {}
    void on_round_trip(Duration sample) override { CHECK(sample >= Duration::zero()); }

    // ---- the receiving side ----

    // Some messages are refused for good, whenever they come.
    bool is_refused(const Data& message) const {
        return mode_ == Mode::kClientToServer && index_.at(message.fp.to_string()) % 11 == 5;
    }

    void arrive(const Data& message) {
        if (is_plain()) {
            if (receiver_.on_data("alice", message.fp) == QosReceiveDaemon::Verdict::kTake) {
                taken_.push_back(message);
            }
            return;
        }
        const Position before = receiver_.rx();
        const auto verdict = receiver_.on_data(message.seq, message.prev);
        if (verdict != QosReceiveDaemon::Verdict::kTake) return;
        const bool is_busy = mode_ == Mode::kClientToServer && has_faults_ && chance(5);
        if (!is_refused(message) && !is_busy) {
            taken_.push_back(message);
            return;
        }
        receiver_.rewind(before);
        CHECK(receiver_.rx() == before);
        put(down_, Down(Refusal{message.fp, message.seq, is_busy ? 302 : 305, some_time(100)}));
    }
    void arrive(const Mark& mark) {
        receiver_.on_sent_mark(mark.sent);
        Ack answer;
        answer.h = receiver_.h();
        put(down_, Down(answer));
    }

    // Up to `count` of what was taken become durable (handled by the app), or none of it.
    void commit(std::size_t count) {
        if (taken_.empty()) return;
        if (mode_ == Mode::kClientToServer && has_faults_ && !is_cut_ && chance(15)) {
            receiver_.rewind(h_);
            put(down_, Down(Refusal{taken_.front().fp, taken_.front().seq, 302, some_time(100)}));
            taken_.clear();
            return;
        }
        for (; count > 0 && !taken_.empty(); --count) {
            const Data message = taken_.front();
            taken_.pop_front();
            committed_.push_back(message.fp.to_string());
            if (is_plain()) {
                receiver_.on_handled("alice", message.fp);
                continue;
            }
            h_ = message.seq;
            unsaid_.push_back({index_.at(message.fp.to_string()) + 1000, 0, message.seq});
        }
        if (!is_plain()) receiver_.on_handled(h_);
    }

    void on_ack_due(const QosReceiveDaemon::AckDue& due) override {
        Ack ack;
        ack.h = due.h;
        ack.rx = due.rx;
        ack.gap = due.gap;
        ack.acc.swap(unsaid_);
        put(down_, Down(ack));
    }
    void on_ack_due(std::string_view sender, const Fingerprint& fp) override {
        CHECK(sender == "alice");
        Ack ack;
        ack.fp = fp;
        put(down_, Down(ack));
    }

    // ---- the end ----

    void drain() {
        has_faults_ = false;
        if (is_cut_) reconnect();
        sender_.set_writable(true);
        sender_.set_held(false);
        settle_step();
        for (int i = 0; i < 400 && (sender_.kept() > 0 || !taken_.empty()); ++i) {
            if (i % 3 == 0) heartbeat();
            deliver(1000);
            commit(taken_.size());
            settle_step();
            deliver(1000);
            context_.advance(100ms);
            settle_step();
        }
        CHECK(sender_.kept() == 0);
        CHECK(taken_.empty());
    }

    void verify() const {
        CHECK(outcomes_.size() == submitted_.size());
        std::set<std::string> once;
        std::size_t last = 0;
        bool is_in_order = true;
        for (const std::string& name : committed_) {
            once.insert(name);
            const std::size_t number = index_.at(name) + 1;
            if (number <= last) is_in_order = false;
            last = number;
            CHECK(rejected_.count(name) == 0);
            CHECK(never_sent_.count(name) == 0);
        }
        CHECK(once.size() == committed_.size());
        if (!is_plain()) CHECK(is_in_order);
        CHECK(std::includes(once.begin(), once.end(), accepted_.begin(), accepted_.end()));
        if (mode_ == Mode::kPush) CHECK(committed_.size() == submitted_.size());
    }

    const Mode mode_;
    std::mt19937_64 random_;
    const unsigned drop_percent_;
    bool has_faults_ = true;
    bool is_cut_ = true;  // Nobody has connected yet.
    FakeContext context_;
    QosSendDaemon sender_;
    QosReceiveDaemon receiver_;
    std::deque<Up> up_;
    std::deque<Down> down_;
    std::vector<std::string> submitted_;
    std::map<std::string, std::size_t> index_;  // In submitted_.
    std::map<std::string, int> outcomes_;
    std::set<std::string> accepted_, rejected_, lost_, never_sent_;
    std::deque<Data> taken_;  // Not committed yet.
    std::vector<std::string> committed_;
    std::vector<Acceptance> unsaid_;  // Committed, details not sent yet.
    Position h_ = 0;
};

void run_seeds(Mode mode, std::uint64_t count) {
    for (std::uint64_t seed = 1; seed <= count; ++seed) {
        CAPTURE(seed);
        Model(mode, seed).run();
    }
}

}  // namespace

TEST_CASE("Qos model: client to server, each message settles once, in order, none doubled") {
    run_seeds(Mode::kClientToServer, 2000);
}

TEST_CASE("Qos model: pushes arrive completely, in order, none doubled") {
    run_seeds(Mode::kPush, 1000);
}

TEST_CASE("Qos model: plain, each message settles once and is taken once at most") {
    run_seeds(Mode::kPlain, 1000);
}

TEST_CASE("Qos model: plain until acked, everything that does not expire is accepted") {
    run_seeds(Mode::kPlainUntilAcked, 1000);
}
