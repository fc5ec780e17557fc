#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "protocol/profile.hpp"

namespace petrel {

// A user by its names. UserRef only looks at names that somebody else keeps.
struct UserKey {
    std::string app;
    std::string user;
    friend bool operator==(const UserKey& a, const UserKey& b) noexcept {
        return a.user == b.user && a.app == b.app;
    }
};

struct UserRef {
    UserRef(std::string_view app_name, std::string_view user_name)
        : app(app_name), user(user_name) {}
    UserRef(const UserKey& key) : app(key.app), user(key.user) {}  // NOLINT: it is the same user.
    std::string_view app;
    std::string_view user;
    friend bool operator==(const UserRef& a, const UserRef& b) noexcept {
        return a.user == b.user && a.app == b.app;
    }
};

struct UserKeyHash {
    std::size_t operator()(const UserRef& key) const noexcept {
        const std::hash<std::string_view> hash;
        return hash(key.app) * 1'099'511'628'211u + hash(key.user);
    }
};

// Who is on a connection, once it has said so and was believed. Session and home share one, and it
// has all its names in one text: there are as many of them as logins.
class Identity {
public:
    struct Names {
        std::string_view app;
        std::string_view user;
        std::string_view device = "-";  // "-" for plain.
        std::string_view device_class = "other";
        std::string_view stream;  // Of the outbox; "" for plain.
    };

    Identity() : Identity(Names{}, ProfileId::kUndecided) {}
    // The codec has limited each name to 256 bytes.
    Identity(const Names& names, ProfileId profile) : profile_(profile) {
        const std::string_view all[] = {names.app, names.user, names.device, names.device_class,
                                        names.stream};
        std::size_t size = 0;
        for (const std::string_view name : all) size += name.size();
        text_.reserve(size);
        for (std::size_t i = 0; i < kNames; ++i) {
            text_ += all[i];
            ends_[i] = static_cast<std::uint16_t>(text_.size());
        }
    }

    std::string_view app() const noexcept { return name(0); }
    std::string_view user() const noexcept { return name(1); }
    std::string_view device() const noexcept { return name(2); }
    std::string_view device_class() const noexcept { return name(3); }
    std::string_view stream() const noexcept { return name(4); }
    ProfileId profile() const noexcept { return profile_; }
    UserRef user_ref() const noexcept { return {app(), user()}; }
    UserKey user_key() const { return {std::string(app()), std::string(user())}; }

private:
    static constexpr std::size_t kNames = 5;

    std::string_view name(std::size_t index) const noexcept {
        const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
        return std::string_view(text_).substr(begin, ends_[index] - begin);
    }

    std::string text_;
    std::array<std::uint16_t, kNames> ends_{};  // Of each name in it.
    ProfileId profile_;
};

}  // namespace petrel
