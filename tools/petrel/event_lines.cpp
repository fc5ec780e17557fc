#include "tools/petrel/event_lines.hpp"

namespace petrel::tools {

void EventLines::trace(std::string_view event, const Fingerprint& fp, std::string_view what) const {
    if (!command_.trace || fp.empty()) return;
    JsonLine line(event);
    line.number("ts", wall_now_ms())
        .text("app", app_of(command_))
        .text("user", command_.user)
        .text("device", device_)
        .text("fp", fp.to_string());
    if (!what.empty()) line.text("what", what);
    line.print(*command_.trace);
}

JsonLine EventLines::of_device(std::string_view event) const {
    JsonLine line(event);
    line.text("app", app_of(command_)).text("user", command_.user).text("device", device_);
    return line;
}

JsonLine EventLines::of_sent(std::string_view event, const Fingerprint& fp) const {
    JsonLine line(event);
    line.text("fp", fp.to_string()).text("from", command_.user).text("app", app_of(command_));
    return line;
}

void EventLines::online() const { of_device("online").print(); }

void EventLines::offline(const std::string& reason) const {
    of_device("offline").text("reason", reason).print();
}

void EventLines::message(const MessageEvent& message) const {
    trace("handed", message.fp);
    JsonLine line("message");
    if (message.fp.empty()) {
        line.null("fp");
    } else {
        line.text("fp", message.fp.to_string());
    }
    line.text("from", message.from).text("to", message.to).number("typeu", message.typeu);
    if (message.seq != 0) {
        line.text("conv", message.conv)
            .number("cseq", message.cseq)
            .text("epoch", message.epoch)
            .number("seq", message.seq);
    } else {
        line.null("conv").null("cseq").null("epoch").null("seq");
    }
    line.number("sendTs", message.send_ts).text("text", message.text);
    if (message.is_redelivered) line.boolean("redelivered", true);
    line.boolean("qos", message.qos)
        .text("app", app_of(command_))
        .text("user", command_.user)
        .text("device", device_)
        .print();
}

void EventLines::inbox_break(const BreakEvent& gap) const {
    of_device("break").text("epoch", gap.epoch).number("seq", gap.resumed_after).print();
}

void EventLines::delivered(const DeliveredEvent& receipt) const {
    JsonLine("delivered")
        .text("conv", receipt.conv)
        .text("user", receipt.user)
        .number("delivered", receipt.delivered)
        .text("app", app_of(command_))
        .print();
    if (!command_.trace) return;
    JsonLine("receipt")
        .number("ts", wall_now_ms())
        .text("conv", receipt.conv)
        .text("user", receipt.user)
        .number("delivered", receipt.delivered)
        .text("app", app_of(command_))
        .print(*command_.trace);
}

void EventLines::queued(const Fingerprint& fp, const std::string& to, bool qos) const {
    trace("submitted", fp);
    of_sent("queued", fp).text("to", to).text("device", device_).boolean("qos", qos).print();
}

void EventLines::accepted(const OutcomeRecord& record, std::optional<double> ms,
                          bool is_correction) const {
    trace("settled", record.fp, "accepted");
    JsonLine line = of_sent("accepted", record.fp);
    line.text("to", record.to)
        .number("cseq", record.cseq)
        .number("sendTs", record.send_ts)
        .number("attempts", record.attempts)
        .real("ms", ms);
    if (is_correction) line.boolean("correction", true);
    line.print();
}

void EventLines::rejected(const Fingerprint& fp, const std::string& to, int code) const {
    trace("settled", fp, "rejected");
    of_sent("rejected", fp).text("to", to).number("code", code).print();
}

void EventLines::given_up(std::string_view event, const Fingerprint& fp, const std::string& to,
                          std::optional<unsigned> attempts) const {
    trace("settled", fp, event);
    JsonLine line = of_sent(event, fp);
    line.text("to", to);
    if (attempts) line.number("attempts", *attempts);
    line.print();
}

std::string printable(std::string_view text) {
    constexpr std::string_view kReplacement = "\xef\xbf\xbd";
    const std::string valid = to_valid_utf8(text);
    std::string out;
    out.reserve(valid.size());
    for (std::size_t i = 0; i < valid.size(); ++i) {
        const auto byte = static_cast<unsigned char>(valid[i]);
        // U+0080 to U+009F are control characters too: C2 80 to C2 9F.
        const bool is_c1 =
            byte == 0xc2 && i + 1 < valid.size() && static_cast<unsigned char>(valid[i + 1]) < 0xa0;
        if (is_c1) ++i;
        if (is_c1 || byte == 0x7f || (byte < 0x20 && byte != '\n' && byte != '\t')) {
            out += kReplacement;
        } else {
            out += valid[i];
        }
    }
    return out;
}

void SendTotals::print_json() const {
    JsonLine("summary")
        .number("sent", sent)
        .number("accepted", accepted)
        .number("rejected", rejected)
        .number("expired", expired)
        .number("lost", lost)
        .number("pending", pending)
        .print();
}

std::string SendTotals::to_string() const {
    return std::to_string(sent) + " sent, " + std::to_string(accepted) + " accepted, " +
           std::to_string(rejected) + " rejected, " + std::to_string(expired) + " expired, " +
           std::to_string(lost) + " lost";
}

}  // namespace petrel::tools
