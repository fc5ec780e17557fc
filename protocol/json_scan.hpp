#pragma once

#include <string_view>
#include <vector>

#include "protocol/json_table.hpp"

namespace petrel {

// The fast way into the table of read_json_object(), for what nearly every packet on a busy
// connection is: one flat object without whitespace, nothing escaped, integers of at most 15
// digits, and the list of triples. Reads only. False says nothing about the text but that it is
// not of this kind: then `values` and `triples` hold anything, and the parser decides.
// Internal to the codec.
bool scan_plain_object(std::string_view text, const JsonKey* keys, JsonValue* values, int count,
                       std::vector<Acceptance>* triples);

}  // namespace petrel
