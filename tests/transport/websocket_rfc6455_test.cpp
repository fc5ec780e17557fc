#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/transport/raw_peer.hpp"

// RFC 6455 from outside, in the manner of the Autobahn test suite and with its chapters, on both
// implementations and at both ends. Where websocketpp does otherwise the test says how.

using namespace petrel;
using namespace petrel::test;

namespace {

using Texts = std::vector<std::string>;

// One end under test. What is sent to it is masked when it is the server.
template <class Kind>
class End {
public:
    explicit End(bool is_server) : is_server_(is_server) {
        if (is_server) {
            server_ = std::make_unique<Server<Kind>>();
            raw_ = server_->upgraded();
        } else {
            client_ = std::make_unique<Client<Kind>>();
        }
    }

    Recorder& handler() { return is_server_ ? server_->server().handler : client_->side->handler; }
    Transport& transport() {
        return is_server_ ? *server_->server().transport : *client_->side->transport;
    }
    RawSocket& peer() { return is_server_ ? *raw_ : *client_->peer; }
    bool run_until(const std::function<bool()>& is_done) {
        return is_server_ ? server_->run_until(is_done) : client_->run_until(is_done);
    }
    std::string frame(std::uint8_t first, std::string_view payload,
                      std::uint64_t announced = UINT64_MAX) const {
        return test::frame(first, payload, announced, is_server_);
    }

    // Sends; then a close frame, whose answer shows that all ahead of it was read.
    void say(const std::string& bytes) { peer().send(bytes); }
    void finish() {
        say(frame(kClose, "\x03\xe8"));
        run_until_closed();
    }
    void run_until_closed() {
        REQUIRE(run_until([&] { return closed_with() != 0; }));
        // A client may wait for the server to end the connection.
        if (!is_server_) peer().end();
        REQUIRE(run_until([&] { return handler().closed.has_value(); }));
    }

    // The frames that the end has sent: first byte and payload, unmasked.
    std::vector<std::pair<int, std::string>> answers() {
        peer().read();
        std::vector<std::pair<int, std::string>> out;
        const std::string& in = peer().in;
        const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(in[at]); };
        for (std::size_t at = 0; at + 2 <= in.size();) {
            const bool is_masked = (byte(at + 1) & 0x80) != 0;
            CHECK(is_masked == !is_server_);
            std::size_t size = byte(at + 1) & 0x7f, header = 2;
            if (size == 126) {
                size = byte(at + 2) * 256U + byte(at + 3);
                header = 4;
            }
            const std::size_t mask = at + header;
            const std::size_t begin = mask + (is_masked ? 4 : 0);
            if (begin + size > in.size()) break;
            std::string payload = in.substr(begin, size);
            for (std::size_t i = 0; is_masked && i < size; ++i) {
                payload[i] =
                    static_cast<char>(byte(mask + i % 4) ^ static_cast<unsigned char>(payload[i]));
            }
            out.emplace_back(byte(at), payload);
            at = begin + size;
        }
        return out;
    }

    // The code of the close frame among them; 1005: without one, 0: there is none.
    int closed_with() {
        for (const auto& [first, payload] : answers()) {
            if (first != kClose) continue;
            if (payload.size() < 2) return 1005;
            return static_cast<unsigned char>(payload[0]) * 256 +
                   static_cast<unsigned char>(payload[1]);
        }
        return 0;
    }

    // Sends what is forbidden: the end must close with `code`, tell so, and hand nothing up.
    // websocketpp may say and tell something else.
    void must_fail(const std::string& bytes, int code) { must_fail(bytes, code, code, code); }
    void must_fail(const std::string& bytes, int code, int websocketpp_says,
                   int websocketpp_tells) {
        say(bytes);
        run_until_closed();
        REQUIRE(run_until([&] { return peer().has_ended(); }));
        CHECK(closed_with() == (Kind::kIsWebsocketpp ? websocketpp_says : code));
        CHECK(handler().closed->code == (Kind::kIsWebsocketpp ? websocketpp_tells : code));
        CHECK(handler().texts.empty());
    }

private:
    const bool is_server_;
    std::unique_ptr<Server<Kind>> server_;
    std::unique_ptr<Client<Kind>> client_;
    std::unique_ptr<RawSocket> raw_;
};

constexpr bool kEnds[] = {true, false};

}  // namespace

TEST_CASE_TEMPLATE("RFC 6455 1 framing: texts and binaries of every size", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        Texts sent;
        for (const std::size_t size : {0, 1, 125, 126, 127, 128, 65'535, 65'536}) {
            sent.emplace_back(size, '*');
            end.say(end.frame(kText, sent.back()));
            end.say(end.frame(kBinary, std::string(size, '\xfe')));
            REQUIRE(end.run_until([&] { return end.handler().binaries.size() == sent.size(); }));
            CHECK(end.handler().binaries.back() == size);
        }
        CHECK(end.handler().texts == sent);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 1 framing: a frame may come byte by byte", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        const std::string bytes = end.frame(kText, std::string(126, 'x')) + end.frame(kPing, "p") +
                                  end.frame(kText, "\xe2\x82\xac");
        for (const char byte : bytes) {
            end.say({&byte, 1});
            bool is_next = false;  // A turn of the loop for each.
            end.run_until([&] { return std::exchange(is_next, true); });
        }
        REQUIRE(end.run_until([&] { return end.handler().texts.size() == 2; }));
        CHECK(end.handler().texts == Texts{std::string(126, 'x'), "\xe2\x82\xac"});
    }
}

TEST_CASE_TEMPLATE("RFC 6455 2 pings: answered with what they carry, in their order", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        const Texts pings{"", "one", std::string("\0\xff\xfe", 3), std::string(125, 'p')};
        for (const std::string& ping : pings) end.say(end.frame(kPing, ping));
        REQUIRE(end.run_until([&] { return end.answers().size() == pings.size(); }));
        for (std::size_t i = 0; i < pings.size(); ++i) {
            CHECK(end.answers()[i] == std::pair<int, std::string>(kPong, pings[i]));
        }
    }
}

TEST_CASE_TEMPLATE("RFC 6455 2 pings: a pong that nobody asked for is taken in silence", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        end.say(end.frame(kPong, "") + end.frame(kPong, "unasked") + end.frame(kText, "x"));
        end.finish();
        CHECK(end.handler().texts == Texts{"x"});
        CHECK(end.answers().size() == 1);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 2 pings: one above 125 bytes, or in fragments, is an error", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind>(is_server).must_fail(End<Kind>(is_server).frame(kPing, std::string(126, 'p')),
                                       1002);
        for (const int first : {0x08, 0x09, 0x0a}) {
            End<Kind> end(is_server);
            end.must_fail(end.frame(static_cast<std::uint8_t>(first), ""), 1002);
        }
    }
}

TEST_CASE_TEMPLATE("RFC 6455 3 reserved bits: each is an error, on data and control frames", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        for (const int bit : {0x40, 0x20, 0x10}) {
            for (const int first : {0x81, 0x82, 0x88, 0x89}) {
                End<Kind> end(is_server);
                end.must_fail(end.frame(static_cast<std::uint8_t>(first | bit), ""), 1002);
            }
        }
    }
}

TEST_CASE_TEMPLATE("RFC 6455 3 reserved bits: what came before is handed up", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        end.say(end.frame(kText, "good") + end.frame(0xc1, "bad"));
        end.run_until_closed();
        CHECK(end.handler().texts == Texts{"good"});
        CHECK(end.handler().closed->code == 1002);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 4 opcodes: each reserved one is an error", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        for (const int opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
            End<Kind> end(is_server);
            end.must_fail(end.frame(static_cast<std::uint8_t>(0x80 | opcode), ""), 1002);
        }
    }
}

TEST_CASE_TEMPLATE("RFC 6455 5 fragments: of any size, with control frames between", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        end.say(end.frame(kTextBegin, "") + end.frame(kMore, "") + end.frame(kEnd, ""));
        end.say(end.frame(kTextBegin, "frag") + end.frame(kPing, "1") + end.frame(kMore, "ment") +
                end.frame(kPong, "") + end.frame(kPing, "2") + end.frame(kEnd, "s"));
        end.say(end.frame(kBinaryBegin, "12") + end.frame(kPing, "3") + end.frame(kEnd, "3"));
        end.finish();
        CHECK(end.handler().texts == Texts{"", "fragments"});
        CHECK(end.handler().binaries == std::vector<std::size_t>{3});
        REQUIRE(end.answers().size() == 4);
        CHECK(end.answers()[1] == std::pair<int, std::string>(kPong, "2"));
        CHECK(end.answers()[2] == std::pair<int, std::string>(kPong, "3"));
    }
}

TEST_CASE_TEMPLATE("RFC 6455 5 fragments: in a wrong order they are an error", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        const End<Kind> maker(is_server);
        const std::string all[] = {
            maker.frame(kEnd, "x"),
            maker.frame(kMore, "x"),
            maker.frame(kMore, "x") + maker.frame(kText, "y"),
            maker.frame(kTextBegin, "x") + maker.frame(kText, "y"),
            maker.frame(kTextBegin, "x") + maker.frame(kTextBegin, "y"),
            maker.frame(kBinaryBegin, "x") + maker.frame(kText, "y"),
        };
        for (const std::string& bytes : all) End<Kind>(is_server).must_fail(bytes, 1002);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 6 UTF-8: what is valid arrives, whole or in fragments", Kind,
                   SOCKET_KINDS) {
    const Texts texts{"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
                      "\xf0\x90\x80\x80",
                      "\xed\x9f\xbf",
                      "\xee\x80\x80",
                      "\xef\xbf\xbd",
                      "\xf4\x8f\xbf\xbf",
                      "\xef\xbf\xbe",
                      std::string("\0", 1),
                      "\x7f",
                      "\xc2\x80",
                      "\xdf\xbf",
                      "\xe0\xa0\x80"};
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        Texts expected;
        for (const std::string& text : texts) {
            expected.push_back(text);
            end.say(end.frame(kText, text));
            expected.push_back(text);
            std::string bytes = end.frame(kTextBegin, "");
            for (const char byte : text) bytes += end.frame(kMore, {&byte, 1});
            end.say(bytes + end.frame(kEnd, ""));
        }
        end.finish();
        CHECK(end.handler().texts == expected);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 6 UTF-8: what is not valid is 1007, whole or in fragments", Kind,
                   SOCKET_KINDS) {
    const Texts texts{"\x80",
                      "\xbf",
                      "\xc0\x80",
                      "\xc1\xbf",
                      "\xc2",
                      "\xe0\x80\x80",
                      "\xe0\x9f\xbf",
                      "\xe2\x82",
                      "\xed\xa0\x80",
                      "\xed\xbf\xbf",
                      "\xf0\x80\x80\x80",
                      "\xf0\x8f\xbf\xbf",
                      "\xf0\x90\x80",
                      "\xf4\x90\x80\x80",
                      "\xf5\x80\x80\x80",
                      "\xf8\x88\x80\x80\x80",
                      "\xfe",
                      "\xff",
                      "a\xce\xba\xed\xa0\x80"
                      "b"};
    for (const bool is_server : kEnds) {
        for (const std::string& text : texts) {
            CAPTURE(text);
            {
                End<Kind> end(is_server);
                end.must_fail(end.frame(kText, text), 1007);
            }
            End<Kind> end(is_server);
            std::string bytes = end.frame(kTextBegin, "x");
            for (const char byte : text) bytes += end.frame(kMore, {&byte, 1});
            end.must_fail(bytes + end.frame(kEnd, ""), 1007);
        }
    }
}

TEST_CASE_TEMPLATE("RFC 6455 6 UTF-8: a fault is found before the message is whole", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> first(is_server);
        first.must_fail(first.frame(kTextBegin, "valid so far, then \xff"), 1007);
        End<Kind> second(is_server);
        second.must_fail(second.frame(kText, "\xff and 1000 bytes more to come", 1000), 1007);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 7 close: every code that may be sent comes back", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        for (const int code :
             {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999}) {
            End<Kind> end(is_server);
            const std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
            end.say(end.frame(kClose, payload + "why"));
            end.run_until_closed();
            CHECK(end.handler().closed->code == code);
            CHECK(end.handler().closed->reason == "why");
            REQUIRE(end.run_until([&] { return end.closed_with() != 0; }));
            CHECK(end.closed_with() == code);
        }
    }
}

TEST_CASE_TEMPLATE("RFC 6455 7 close: a code that may not be sent is an error", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        // From 1016 on: not yet given out (RFC 6455 section 7.4.2).
        for (const int code :
             {0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65'535}) {
            End<Kind> end(is_server);
            const std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
            // websocketpp tells its owner the code that it has refused; 1006 means none to it.
            end.must_fail(end.frame(kClose, payload), 1002, 1002, code == 1006 ? 1002 : code);
        }
    }
}

TEST_CASE_TEMPLATE("RFC 6455 7 close: no code, a long reason, half a code, a bad reason", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        {
            End<Kind> end(is_server);
            end.say(end.frame(kClose, ""));
            end.run_until_closed();
            CHECK(end.handler().closed->code == 1005);
            REQUIRE(end.run_until([&] { return end.closed_with() != 0; }));
            CHECK(end.closed_with() == (Kind::kIsWebsocketpp ? 1000 : 1005));
        }
        End<Kind> longest(is_server);
        longest.say(longest.frame(kClose, "\x03\xe8" + std::string(123, 'r')));
        longest.run_until_closed();
        CHECK(longest.handler().closed->reason == std::string(123, 'r'));
        End<Kind> too_long(is_server);
        too_long.must_fail(too_long.frame(kClose, "\x03\xe8" + std::string(124, 'r')), 1002);
        End<Kind> half(is_server);
        half.must_fail(half.frame(kClose, "x"), 1002);
        End<Kind> bad(is_server);
        bad.must_fail(bad.frame(kClose, "\x03\xe8\xff"), 1007, 1002, 1000);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 7 close: nothing that follows it counts", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        end.say(end.frame(kClose, "\x03\xe8") + end.frame(kText, "late") +
                end.frame(kPing, "late") + end.frame(kClose, "\x03\xe9"));
        end.run_until_closed();
        REQUIRE(end.run_until([&] { return end.peer().has_ended(); }));
        // websocketpp reads on, and tells the code of the last.
        CHECK(end.handler().closed->code == (Kind::kIsWebsocketpp ? 1001 : 1000));
        CHECK(end.handler().texts.empty());
        CHECK(end.answers().size() == 1);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 7 close: in the middle of a message it ends it", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        end.say(end.frame(kTextBegin, "begun"));
        end.finish();
        CHECK(end.handler().closed->code == 1000);
        CHECK(end.handler().texts.empty());
    }
}

TEST_CASE_TEMPLATE("RFC 6455 7 close: after our own, pings get no answer and texts no reader", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> end(is_server);
        end.transport().close(4001, "ours");
        REQUIRE(end.run_until([&] { return end.closed_with() != 0; }));
        end.say(end.frame(kPing, "p") + end.frame(kText, "t") + end.frame(kClose, "\x0f\xa1"));
        end.run_until_closed();
        CHECK(end.handler().closed->code == 4001);
        CHECK(end.handler().texts.empty());
        CHECK(end.answers().size() == 1);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 9 limits: a message above them is 1009 at its header", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        End<Kind> one(is_server);
        one.must_fail(one.frame(kText, "", 1 << 30), 1009);
        End<Kind> many(is_server);
        many.must_fail(many.frame(kTextBegin, "x") + many.frame(kMore, "y") +
                           many.frame(kEnd, "", ConnectOptions{}.frame_bytes_max),
                       1009);
    }
}

TEST_CASE_TEMPLATE("RFC 6455 5.1 masks: a client's frame has one, a server's none", Kind,
                   SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        for (const std::uint8_t first : {kText, kBinary, kPing}) {
            End<Kind> end(is_server);
            // websocketpp's client takes a server's masked frames.
            if (Kind::kIsWebsocketpp && !is_server) continue;
            end.must_fail(test::frame(first, "x", UINT64_MAX, !is_server), 1002);
        }
    }
}

TEST_CASE_TEMPLATE("RFC 6455 5.3 masks: every frame of a client has its own", Kind, SOCKET_KINDS) {
    Client<Kind> client;
    const std::string text(64, 'x');
    for (int i = 0; i < 4; ++i) client.side->transport->send(text);
    const std::size_t size = 2 + 4 + text.size();
    REQUIRE(client.run_until([&] {
        client.peer->read();
        return client.peer->in.size() == 4 * size;
    }));
    std::set<std::string> masks;
    for (std::size_t i = 0; i < 4; ++i) masks.insert(client.peer->in.substr(i * size + 2, 4));
    CHECK(masks.size() == 4);
}

TEST_CASE_TEMPLATE("RFC 6455 5.2 lengths: only the shortest form is allowed", Kind, SOCKET_KINDS) {
    for (const bool is_server : kEnds) {
        const char mask_bit = is_server ? '\x80' : '\0';
        const std::string mask(is_server ? 4 : 0, '\0');
        const std::string bytes[] = {
            std::string("\x81") + static_cast<char>(mask_bit | 126) + std::string("\0\x7d", 2),
            std::string("\x81") + static_cast<char>(mask_bit | 127) +
                std::string("\0\0\0\0\0\0\xff\xff", 8),
            std::string("\x81") + static_cast<char>(mask_bit | 127) +
                std::string("\x80\0\0\0\0\0\0\0", 8),
        };
        for (const std::string& header : bytes) {
            End<Kind> end(is_server);
            // websocketpp refuses them too, as an error of its own or, the last, as too big.
            const int other = &header == &bytes[2] ? 1009 : 1011;
            end.must_fail(header + mask, 1002, other, other);
        }
    }
}
