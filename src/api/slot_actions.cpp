#include "api/slot_actions.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>

#include "api/fields.h"

namespace packmule::api {
namespace {

/// The value of `name` in the query of a target, without any decoding.
std::string_view query_value(std::string_view target, std::string_view name) {
  std::string_view query = target.substr(std::min(target.find('?'), target.size()));
  while (!query.empty()) {
    query.remove_prefix(1);
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(pair.size());
    if (pair.starts_with(name) && pair.size() > name.size() && pair[name.size()] == '=')
      return pair.substr(name.size() + 1);
  }
  return {};
}

/// Files of a client's choice: what is wrong with them is the client's to know, where they lie is not.
ApiError file_error(const Error& error, const SlotAction& action) {
  ApiError out = from_error(error);
  const bool of_the_file = error.kind == ErrorKind::kInvalidFile || error.kind == ErrorKind::kIo;
  if (of_the_file && action.kind == SlotAction::Kind::kRestore)
    out = {.status = 400, .message = error.message, .param = "filename"};
  const std::string folder = action.folder + "/";
  for (size_t at; (at = out.message.find(folder)) != std::string::npos;) out.message.erase(at, folder.size());
  return out;
}

}  // namespace

bool is_plain_filename(std::string_view name) {
  constexpr size_t kLongest = 200;  // what is written first has a suffix
  return !name.empty() && name.size() <= kLongest && name.front() != '.' &&
         std::none_of(name.begin(), name.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/' || c == '\\'; });
}

ApiResult<SlotAction> parse_slot_action(const HttpRequest& request, const std::string& folder) {
  const auto refuse = [](std::string param, std::string message) {
    return tl::unexpected(bad_field(std::move(param), std::move(message)));
  };
  if (folder.empty())
    return tl::unexpected(ApiError{
        .status = 501,
        .type = "not_supported_error",
        .message =
            "this server keeps no files of slots; start it with --slot-save-path and a folder for them",
        .code = "unsupported"});
  SlotAction action{.folder = folder};
  const std::string_view id = request.path().substr(kSlotPrefix.size());
  const auto parsed = std::from_chars(id.data(), id.data() + id.size(), action.slot);
  if (parsed.ec != std::errc() || parsed.ptr != id.data() + id.size() || action.slot < 0)
    return refuse("id_slot", "the path ends in the number of a slot: /slots/0?action=save");
  const std::string_view name = query_value(request.target, "action");
  if (name == "save")
    action.kind = SlotAction::Kind::kSave;
  else if (name == "restore")
    action.kind = SlotAction::Kind::kRestore;
  else if (name != "erase")
    return refuse("action", "'action' in the query: expected save, restore or erase");
  if (action.kind == SlotAction::Kind::kErase) return action;
  API_TRY(const Json body, parse_body(request));
  API_TRY(action.filename, required_string(body, "filename", ""));
  if (!is_plain_filename(action.filename))
    return refuse(
        "filename",
        "'filename': expected the name of a file in the folder of --slot-save-path, of at most 200 bytes, "
        "without separators and not beginning with a dot");
  return action;
}

ApiResult<Json> act_on(Backend& backend, const SlotAction& action, const std::stop_token& stop) {
  const auto begin = std::chrono::steady_clock::now();
  const auto timings = [&](const char* name) {
    return Json{
        {name, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count()}};
  };
  const std::string path = fmt::format("{}/{}", action.folder, action.filename);
  switch (action.kind) {
    case SlotAction::Kind::kSave: {
      const auto saved = backend.save_slot(action.slot, path, stop);
      if (!saved) return tl::unexpected(file_error(saved.error(), action));
      return Json{{"id_slot", action.slot},
                  {"filename", action.filename},
                  {"n_saved", saved->n_tokens},
                  {"n_written", saved->n_bytes},
                  {"timings", timings("save_ms")}};
    }
    case SlotAction::Kind::kRestore: {
      const auto restored = backend.restore_slot(action.slot, path, stop);
      if (!restored) return tl::unexpected(file_error(restored.error(), action));
      return Json{{"id_slot", action.slot},
                  {"filename", action.filename},
                  {"n_restored", restored->n_tokens},
                  {"n_read", restored->n_bytes},
                  {"timings", timings("restore_ms")}};
    }
    case SlotAction::Kind::kErase:
      break;
  }
  const auto erased = backend.erase_slot(action.slot, stop);
  if (!erased) return tl::unexpected(file_error(erased.error(), action));
  return Json{{"id_slot", action.slot}, {"n_erased", *erased}};
}

}  // namespace packmule::api
