#include "api/json_text.h"

namespace packmule::api {
namespace {

void append_spaced(const Json& json, std::string& out) {
  if (json.is_object()) {
    out += '{';
    for (auto it = json.begin(); it != json.end(); ++it) {
      if (it != json.begin()) out += ", ";
      out += to_text(it.key()) + ": ";
      append_spaced(it.value(), out);
    }
    out += '}';
  } else if (json.is_array()) {
    out += '[';
    for (size_t i = 0; i < json.size(); ++i) {
      if (i > 0) out += ", ";
      append_spaced(json[i], out);
    }
    out += ']';
  } else {
    out += to_text(json);
  }
}

}  // namespace

std::string to_spaced_text(const Json& json) {
  std::string out;
  append_spaced(json, out);
  return out;
}

}  // namespace packmule::api
