#include "daemons/id_table.hpp"

#include <cstring>

#include "daemons/keyed_hash.hpp"

namespace petrel {

IdTable::Id IdTable::id_of(const Fingerprint& fp) {
    if (!fp.is_uuid()) {
        KeyedHash hash({0, 0});
        hash.add(fp.text());
        return hash.finish();
    }
    Id id;
    std::memcpy(id.data(), fp.uuid().data(), sizeof id);
    return id;
}

Slot IdTable::find(const Id& id) const {
    return index_.find(items_, id[0], [&](Slot slot) { return items_[slot].id == id; });
}

Slot IdTable::add(const Id& id, std::uint32_t at) {
    Item item;
    item.id = id;
    item.at = at << 1;
    const Slot slot = items_.add(item);
    plain_.push_back(items_, slot);
    index_.add(items_, slot, [this](Slot other) { return items_[other].id[0]; });
    return slot;
}

void IdTable::remove(Slot slot) {
    list_of(slot).remove(items_, slot);
    index_.remove(items_, slot, items_[slot].id[0]);
    items_.remove(slot);
}

void IdTable::touch(Slot slot, std::uint32_t at) {
    list_of(slot).remove(items_, slot);
    list_of(slot).push_back(items_, slot);
    items_[slot].at = at << 1 | (items_[slot].at & kMarked);
}

void IdTable::mark(Slot slot, std::uint32_t at) {
    list_of(slot).remove(items_, slot);
    marked_.push_back(items_, slot);
    items_[slot].at = at << 1 | kMarked;
}

bool IdTable::is_consistent() const {
    std::size_t size = 0;
    for (const bool is_marked : {false, true}) {
        Slot last = kNoSlot;
        for (Slot slot = oldest(is_marked); slot != kNoSlot; slot = items_[slot].next) {
            if (items_[slot].prev != last || this->is_marked(slot) != is_marked) return false;
            if (find(items_[slot].id) != slot) return false;
            last = slot;
            ++size;
        }
        if ((is_marked ? marked_ : plain_).back != last) return false;
    }
    return size == items_.size() && size == index_.size();
}

}  // namespace petrel
