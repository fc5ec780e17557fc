#include "core/store/index_rows.hpp"

#include <algorithm>

#include "core/store/log_piece.hpp"

namespace petrel {

bool IndexRows::add(std::int64_t id, std::string_view piece) {
    LogPieceReader reader(piece);
    Piece& added = pieces_.emplace_back();
    added.id = id;
    added.accepted_at = reader.accepted_at();
    bytes_ += piece.size();
    LogRecord record;
    while (reader.next(record)) {
        if (record.kind == LogRecord::Kind::kStream) {
            const std::size_t known = streams_.size();
            Stream& stream = streams_.at({record.user, std::string(record.name)});
            stream.position = record.position;
            stream.used_at = record.used_at;
            stream.is_gone = record.is_gone;
            if (streams_.size() == known) continue;
            std::uint32_t& head = users_.at(record.user).stream;
            stream.previous = head;
            head = static_cast<std::uint32_t>(streams_.size());
            continue;
        }
        std::uint64_t& cseq = conversations_.at(
            {std::min(record.user, record.sender), std::max(record.user, record.sender)});
        cseq = std::max(cseq, record.cseq);
        if (record.is_gone) continue;
        ++added.live;
        add_to_run(record.user, record.seq, id);
    }
    return !reader.is_damaged();
}

void IndexRows::add_to_run(UserId user, Position seq, std::int64_t piece) {
    if (!runs_.empty()) {
        InboxRun& open = runs_.back();
        if (open.user == user && open.piece == piece && open.last + 1 == seq) {
            ++open.last;
            return;
        }
    }
    std::uint32_t& head = users_.at(user).run;
    runs_.push_back({user, seq, seq, piece});
    previous_.push_back(head);
    head = static_cast<std::uint32_t>(runs_.size());
}

void IndexRows::clear() {
    pieces_.clear();
    runs_.clear();
    previous_.clear();
    streams_.clear();
    conversations_.clear();
    users_.clear();
    bytes_ = 0;
}

std::size_t IndexRows::size() const {
    return pieces_.size() + runs_.size() + streams_.size() + conversations_.size();
}

}  // namespace petrel
