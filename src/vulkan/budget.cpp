#include "vulkan/budget.h"

#include <algorithm>

namespace packmule::vulkan {

int64_t budget_bytes(int64_t available_bytes, const MemoryPolicy& policy) {
  const int64_t free_bytes = std::min(available_bytes, policy.limit_bytes.value_or(available_bytes));
  const int64_t reserve = policy.reserve_bytes.value_or(free_bytes / 10);
  return std::max<int64_t>(0, free_bytes - reserve);
}

Status Budget::take(std::string_view what, int64_t bytes) {
  if (bytes > left_bytes())
    return fail(ErrorKind::kOutOfMemory,
                "{}: {} need {} bytes, {} of the budget of {} are left; place less on the device, or raise "
                "--device-memory or lower --reserve if the card has more",
                device_, what, bytes, left_bytes(), total_bytes_);
  taken_bytes_ += bytes;
  return {};
}

}  // namespace packmule::vulkan
