#include "calibration/speed_book.h"

#include <fmt/format.h>

#include <utility>

namespace packmule::calibration {
namespace {

/// Of the products' own speed a whole prompt reaches so much (docs/performance.md, "left for later"): the
/// rest of the time goes to the delta rule, the router, attention, SwiGLU and the sums of experts.
constexpr double kOfProducts = 0.63;

}  // namespace

SpeedBook::SpeedBook(std::string path, MachineKey key, When when)
    : path_(std::move(path)), key_(std::move(key)) {
  if (!path_.empty() && when == When::kAuto) speeds_ = load_speeds(path_, key_);
}

Result<double> SpeedBook::get(const std::string& name, const std::function<Result<double>()>& measure) {
  if (const auto known = speeds_.find(name); known != speeds_.end()) {
    ++outcome_.n_known;
    return known->second;
  }
  PACKMULE_TRY(const double speed, measure());
  ++outcome_.n_measured;
  return speeds_[name] = speed;
}

Outcome SpeedBook::close() {
  if (!path_.empty() && outcome_.n_measured > 0)
    if (const Status saved = save_speeds(path_, key_, speeds_); !saved)
      outcome_.warning = saved.error().message;
  return outcome_;
}

std::string attention_name(const AttentionShape& shape) {
  return fmt::format("attention {} {} {}x{}", quant::format_of(shape.k_type).name,
                     quant::format_of(shape.v_type).name, shape.group, shape.head_dim);
}

Status fill_in(const Wanted& wanted, const Gauges& gauges, placement::Processor& processor) {
  for (const quant::Type type : wanted.weights) {
    PACKMULE_TRY(const double speed, gauges.decode(type));
    if (type == wanted.weights.front()) processor.read_bytes_s = speed;
    processor.format_factor[static_cast<size_t>(type)] = static_cast<float>(speed / processor.read_bytes_s);
    PACKMULE_TRY(const double products, gauges.products(type));
    if (type == wanted.weights.front()) processor.multiply_add_s = kOfProducts * products;
    processor.product_factor[static_cast<size_t>(type)] =
        static_cast<float>(kOfProducts * products / processor.multiply_add_s);
  }
  PACKMULE_TRY(const double attention, gauges.attention());
  const bool in_blocks = quant::format_of(wanted.attention.k_type).block_elems > 1 ||
                         quant::format_of(wanted.attention.v_type).block_elems > 1;
  (in_blocks ? processor.cache_factor_blocks : processor.cache_factor_16) =
      attention / processor.read_bytes_s;
  return {};
}

}  // namespace packmule::calibration
