#pragma once

#include <cstddef>
#include <unordered_map>
#include <utility>

namespace petrel {

// A bounded cache that forgets what has not been used for long: two generations, `young_` and
// `old_`; a use moves an entry to the young one. When the young one has half the weight allowed,
// it becomes the old one and the old one is dropped. Only rotate() drops entries, and no entry
// ever changes its address: pointers hold from one rotate() to the next. Thread-compatible.
template <class Key, class Value, class Hash = std::hash<Key>>
class RecentCache {
public:
    explicit RecentCache(std::size_t weight_max) : weight_max_(weight_max) {}

    // nullptr when it is not here.
    Value* find(const Key& key) {
        if (auto it = young_.find(key); it != young_.end()) return &it->second;
        auto it = old_.find(key);
        if (it == old_.end()) return nullptr;
        ++weight_;
        return &young_.insert(old_.extract(it)).position->second;
    }

    // The key must not be here.
    Value& insert(const Key& key, Value value) {
        ++weight_;
        return young_.emplace(key, std::move(value)).first->second;
    }

    void erase(const Key& key) {
        young_.erase(key);
        old_.erase(key);
    }

    void clear() {
        young_.clear();
        old_.clear();
        weight_ = 0;
    }

    // An entry weighs 1 and what is added here when it grows.
    void add_weight(std::size_t weight) { weight_ += weight; }

    void rotate() {
        if (weight_ <= weight_max_ / 2) return;
        old_ = std::move(young_);
        young_ = {};
        weight_ = 0;
    }

    std::size_t size() const { return young_.size() + old_.size(); }

    template <class Function>
    void for_each(Function&& function) {
        for (auto& [key, value] : young_) function(value);
        for (auto& [key, value] : old_) function(value);
    }

private:
    std::unordered_map<Key, Value, Hash> young_;
    std::unordered_map<Key, Value, Hash> old_;
    std::size_t weight_ = 0;  // Of young_.
    const std::size_t weight_max_;
};

}  // namespace petrel
