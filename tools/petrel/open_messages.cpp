#include "tools/petrel/open_messages.hpp"

#include <algorithm>

namespace petrel::tools {

std::vector<std::pair<Fingerprint, OpenMessages::Open>> OpenMessages::in_order() const {
    std::vector<std::pair<Fingerprint, Open>> result(open_.begin(), open_.end());
    std::sort(result.begin(), result.end(),
              [](const auto& a, const auto& b) { return a.second.number < b.second.number; });
    return result;
}

}  // namespace petrel::tools
