#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/store/memory_boxes.hpp"

using namespace petrel;

namespace {

Data message(Position seq, const std::string& fp = "fp") {
    Data data;
    data.seq = seq;
    data.fp = Fingerprint::parse(fp + std::to_string(seq)).value();
    return data;
}

std::vector<Data> messages(std::initializer_list<Position> positions) {
    std::vector<Data> made;
    for (const Position seq : positions) made.push_back(message(seq));
    return made;
}

// What `done` was told; nothing when it was not called.
struct Told {
    std::optional<std::error_code> error;
    std::function<void(std::error_code)> done() {
        return [this](std::error_code said) { error = said; };
    }
    bool ok() const { return error && !*error; }
    bool failed() const { return error && *error; }
};

}  // namespace

TEST_CASE("MemoryOutbox: everything is done at once and nothing survives") {
    const auto outbox = make_memory_outbox();
    Told appended;
    Told recorded;

    OutboxRecord record;
    record.message = message(1);
    outbox->append({record}, appended.done());
    outbox->record_outcomes({OutcomeRecord{}}, recorded.done());
    outbox->remove_outcomes({message(1).fp});

    CHECK(!outbox->is_durable());
    CHECK(appended.ok());
    CHECK(recorded.ok());
    CHECK(outbox->load().messages.empty());
    CHECK(outbox->load().outcomes.empty());
}

TEST_CASE("MemoryOutbox: nobody needs to be told") {
    const auto outbox = make_memory_outbox();
    outbox->append({}, nullptr);
    outbox->record_outcomes({}, nullptr);
    CHECK(outbox->load().messages.empty());
}

TEST_CASE("MemoryInbox: a new one has no cursor and nothing to hand over") {
    const auto inbox = make_memory_inbox();

    CHECK(!inbox->is_durable());
    CHECK(inbox->device().empty());
    CHECK(!inbox->cursor());
    CHECK(inbox->load_unhandled().empty());
}

TEST_CASE("MemoryInbox: the cursor starts where the login resumes and follows the messages") {
    const auto inbox = make_memory_inbox();
    inbox->on_resume("e", 4);
    REQUIRE(inbox->cursor());
    CHECK(inbox->cursor()->epoch == "e");
    CHECK(inbox->cursor()->seq == 4);
    CHECK(inbox->cursor()->fp.empty());

    Told told;
    inbox->append(messages({5, 6}), told.done());

    CHECK(told.ok());
    CHECK(inbox->cursor()->seq == 6);
    CHECK(inbox->cursor()->fp == message(6).fp);
}

TEST_CASE("MemoryInbox: a batch that is not dense is refused whole") {
    for (const auto& positions :
         {messages({6}), messages({4}), messages({5, 7}), messages({5, 5})}) {
        const auto inbox = make_memory_inbox();
        inbox->on_resume("e", 4);
        Told told;
        inbox->append(positions, told.done());
        CHECK(told.failed());
        CHECK(inbox->cursor()->seq == 4);
    }
}

TEST_CASE("MemoryInbox: before the first login nothing can come") {
    const auto inbox = make_memory_inbox();
    Told told;
    inbox->append(messages({1}), told.done());
    CHECK(told.failed());
    CHECK(!inbox->cursor());
}

TEST_CASE("MemoryInbox: an empty batch changes nothing") {
    const auto inbox = make_memory_inbox();
    inbox->on_resume("e", 4);
    Told told;
    inbox->append({}, told.done());
    CHECK(told.ok());
    CHECK(inbox->cursor()->seq == 4);
}

TEST_CASE("MemoryInbox: what was handled is taken note of at once") {
    const auto inbox = make_memory_inbox();
    inbox->on_resume("e", 0);
    inbox->append(messages({1, 2, 3}), nullptr);
    Told told;
    inbox->record_handled(2, told.done());
    CHECK(told.ok());
    CHECK(inbox->load_unhandled().empty());
}

TEST_CASE("MemoryInbox: a resume at the cursor keeps it, fingerprint and all") {
    const auto inbox = make_memory_inbox();
    inbox->on_resume("e", 0);
    inbox->append(messages({1, 2}), nullptr);
    inbox->record_handled(1, nullptr);

    inbox->on_resume("e", 2);

    CHECK(inbox->cursor()->fp == message(2).fp);
}

TEST_CASE("MemoryInbox: a resume elsewhere or in another epoch moves the cursor") {
    const auto inbox = make_memory_inbox();
    inbox->on_resume("e", 0);
    inbox->append(messages({1, 2}), nullptr);
    inbox->on_resume("e", 7);
    CHECK(inbox->cursor()->seq == 7);
    CHECK(inbox->cursor()->fp.empty());
    inbox->on_resume("f", 7);
    CHECK(inbox->cursor()->epoch == "f");
    inbox->on_resume("g", 3);
    CHECK(inbox->cursor()->seq == 3);
}
