// POST /slots/{id}?action=save|restore|erase, as llama-server has it.
#pragma once

#include <stop_token>
#include <string>
#include <string_view>

#include "api/backend.h"
#include "api/error.h"
#include "api/http.h"

namespace packmule::api {

inline constexpr std::string_view kSlotPrefix = "/slots/";

struct SlotAction {
  enum class Kind { kSave, kRestore, kErase };
  Kind kind = Kind::kErase;
  int slot = 0;
  std::string filename;  // as given: a plain name
  std::string folder;    // it is in
};

/// `folder` is where files may be, "" if nowhere: then all is refused (501), as by llama-server.
[[nodiscard]] ApiResult<SlotAction> parse_slot_action(const HttpRequest& request, const std::string& folder);

/// A name in one folder and no way out of it: no separators, no "..", nothing hidden, nothing unprintable.
[[nodiscard]] bool is_plain_filename(std::string_view name);

/// Takes as long as the slot is busy and the file is large.
[[nodiscard]] ApiResult<Json> act_on(Backend& backend, const SlotAction& action, const std::stop_token& stop);

}  // namespace packmule::api
