#include "protocol/conversation.hpp"

#include <doctest/doctest.h>

using petrel::conversation_of_group;
using petrel::conversation_of_users;

TEST_CASE("conversation: the two users stand in byte order, whoever is named first") {
    CHECK(conversation_of_users("alice", "bob") == "u:alice:bob");
    CHECK(conversation_of_users("bob", "alice") == "u:alice:bob");
    CHECK(conversation_of_users("B", "a") == "u:B:a");
    CHECK(conversation_of_users("ab", "a") == "u:a:ab");
}

TEST_CASE("conversation: bytes above 0x7f come behind ASCII") {
    CHECK(conversation_of_users("\xc3\xa9", "z") == "u:z:\xc3\xa9");
}

TEST_CASE("conversation: one with oneself names the user twice") {
    CHECK(conversation_of_users("alice", "alice") == "u:alice:alice");
}

TEST_CASE("conversation: '%' and ':' in ids are encoded, so that no two pairs share a name") {
    CHECK(conversation_of_users("a:b", "c") == "u:a%3Ab:c");
    CHECK(conversation_of_users("a", "b:c") == "u:a:b%3Ac");
    CHECK(conversation_of_users("a%3Ab", "c") == "u:a%253Ab:c");
}

TEST_CASE("conversation: the order is that of the ids, not of their encoded forms") {
    // ':' (0x3a) is above '1' (0x31), '%' (0x25) below it.
    CHECK(conversation_of_users("a:", "a1") == "u:a1:a%3A");
}

TEST_CASE("conversation: a group's name has its own prefix") {
    CHECK(conversation_of_group("team") == "g:team");
    CHECK(conversation_of_group("a:b%") == "g:a%3Ab%25");
}
