#include "calibration/host.h"

#include <fmt/format.h>

#include <functional>
#include <optional>

#include "calibration/speed_file.h"

namespace packmule::calibration {
namespace {

/// Of the products' own speed a whole prompt reaches so much (docs/performance.md, "left for later"): the
/// rest of the time goes to the delta rule, the router, attention, SwiGLU and the sums of experts.
constexpr double kOfProducts = 0.63;

/// Speeds by name: known ones, and new ones measured when they are asked for.
class Book {
 public:
  Book(const Wanted& wanted, Isa isa, int n_threads, double seconds)
      : wanted_(wanted), kernels_(kernels::kernels_for(isa)), n_threads_(n_threads), seconds_(seconds) {}

  Speeds speeds;
  Outcome outcome;

  Result<double> decode(quant::Type type) {
    return get("decode", type,
               [](const Measure& m, const quant::Format& f, bool s) { return m.decode_bytes_s(f, s); });
  }
  Result<double> products(quant::Type type) {
    return get("products", type,
               [](const Measure& m, const quant::Format& f, bool s) { return m.multiply_adds_s(f, s); });
  }
  Result<double> attention() {
    const AttentionShape& shape = wanted_.attention;
    return get(fmt::format("attention {} {} {}x{}", quant::format_of(shape.k_type).name,
                           quant::format_of(shape.v_type).name, shape.group, shape.head_dim),
               [&](const Measure& m) { return m.attention_bytes_s(shape); });
  }

 private:
  template <class How>
  Result<double> get(std::string_view what, quant::Type type, How&& how) {
    const quant::Format& format = quant::format_of(type);
    const bool strips = wanted_.repacked && kernels_.matmul[static_cast<size_t>(type)].strips != nullptr;
    return get(fmt::format("{} {} {}", what, format.name, strips ? "strips" : "rows"),
               [&](const Measure& m) { return how(m, format, strips); });
  }

  Result<double> get(const std::string& name, const std::function<double(const Measure&)>& how) {
    if (const auto known = speeds.find(name); known != speeds.end()) {
      ++outcome.n_known;
      return known->second;
    }
    if (!measure_) {
      pool_.emplace(n_threads_);
      PACKMULE_TRY(measure_, Measure::create(kernels_, *pool_, seconds_));
    }
    ++outcome.n_measured;
    return speeds[name] = how(*measure_);
  }

  const Wanted& wanted_;
  const kernels::Kernels& kernels_;
  int n_threads_;
  double seconds_;
  std::optional<ThreadPool> pool_;
  std::optional<Measure> measure_;
};

}  // namespace

Result<Outcome> calibrate_host(const Wanted& wanted, Isa isa, int n_threads, When when,
                               const std::string& path, placement::Processor& host, double seconds_each) {
  if (when == When::kNever || wanted.weights.empty()) return Outcome{};
  const MachineKey key{cpu_model_name(), std::string(isa_name(isa)), n_threads};
  Book book(wanted, isa, n_threads, seconds_each);
  if (!path.empty() && when == When::kAuto) book.speeds = load_speeds(path, key);

  for (const quant::Type type : wanted.weights) {
    PACKMULE_TRY(const double speed, book.decode(type));
    if (type == wanted.weights.front()) host.read_bytes_s = speed;
    host.format_factor[static_cast<size_t>(type)] = static_cast<float>(speed / host.read_bytes_s);
  }
  PACKMULE_TRY(const double products, book.products(wanted.weights.front()));
  host.multiply_add_s = kOfProducts * products;
  PACKMULE_TRY(const double attention, book.attention());
  const bool in_blocks = quant::format_of(wanted.attention.k_type).block_elems > 1 ||
                         quant::format_of(wanted.attention.v_type).block_elems > 1;
  (in_blocks ? host.cache_factor_blocks : host.cache_factor_16) = attention / host.read_bytes_s;

  if (!path.empty() && book.outcome.n_measured > 0)
    if (const Status saved = save_speeds(path, key, book.speeds); !saved)
      book.outcome.warning = saved.error().message;
  return book.outcome;
}

}  // namespace packmule::calibration
