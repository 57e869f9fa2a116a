#include "api/responses_tools.h"

#include <fmt/format.h>

#include "api/fields.h"

namespace packmule::api {
namespace {

/// Adds a tool to `out`, or the functions of a namespace: `space` is the one around `tool`, which holds no
/// others.
ApiResult<void> add_tool(const Json& tool, const std::string& here, std::string_view space, Json& out) {
  API_TRY_STATUS(expect_object(tool, here));
  API_TRY(const std::string type, required_string(tool, "type", here));
  if (type == "namespace" && space.empty()) {
    API_TRY(const std::string name, required_string(tool, "name", here));
    const Json inside = tool.value("tools", Json());
    API_TRY_STATUS(expect_array(inside, here + ".tools"));
    for (size_t i = 0; i < inside.size(); ++i)
      API_TRY_STATUS(add_tool(inside[i], fmt::format("{}.tools[{}]", here, i), name, out));
    return {};
  }
  if (type != "function") return {};
  API_TRY(const std::string name, required_string(tool, "name", here));
  Json function = {{"name", flat_name(space, name)}};
  for (const char* field : {"description", "parameters", "strict"})
    if (const Json value = tool.value(field, Json()); !value.is_null()) function[field] = value;
  out.push_back({{"type", "function"}, {"function", std::move(function)}});
  return {};
}

}  // namespace

std::string flat_name(std::string_view space, std::string_view name) {
  if (space.empty()) return std::string(name);
  return fmt::format("{}{}{}", space, space.ends_with("__") ? "" : "__", name);
}

ApiResult<Json> chat_tools_of_responses(const Json& tools) {
  API_TRY_STATUS(expect_array(tools, "tools"));
  Json out = Json::array();
  for (size_t i = 0; i < tools.size(); ++i)
    API_TRY_STATUS(add_tool(tools[i], fmt::format("tools[{}]", i), "", out));
  return out;
}

NamespacedTools::NamespacedTools(const Json& request) {
  const auto text = [](const Json& object, const char* field) {
    const Json value = object.is_object() ? object.value(field, Json()) : Json();
    return value.is_string() ? value.get<std::string>() : std::string();
  };
  for (const Json& tool : request.value("tools", Json())) {
    if (text(tool, "type") != "namespace") continue;
    const std::string space = text(tool, "name");
    for (const Json& function : tool.value("tools", Json()))
      if (const std::string name = text(function, "name"); !name.empty())
        known_[flat_name(space, name)] = {.space = space, .name = name};
  }
}

Json NamespacedTools::names(const std::string& flat) const {
  const auto found = known_.find(flat);
  if (found == known_.end()) return {{"name", flat}};
  return {{"name", found->second.name}, {"namespace", found->second.space}};
}

}  // namespace packmule::api
