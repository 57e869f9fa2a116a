#include "calibration/host.h"

#include <fmt/format.h>

#include <functional>
#include <optional>

namespace packmule::calibration {
namespace {

/// Made when the first speed is not known: it takes memory and threads.
class HostMeasure {
 public:
  HostMeasure(const kernels::Kernels& kernels, int n_threads, double seconds)
      : kernels_(kernels), n_threads_(n_threads), seconds_(seconds) {}

  Result<double> run(const std::function<double(const Measure&)>& how) {
    if (!measure_) {
      pool_.emplace(n_threads_);
      PACKMULE_TRY(measure_, Measure::create(kernels_, *pool_, seconds_));
    }
    return how(*measure_);
  }

 private:
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
  const kernels::Kernels& kernels = kernels::kernels_for(isa);
  SpeedBook book(path, {cpu_model_name(), std::string(isa_name(isa)), n_threads}, when);
  HostMeasure measure(kernels, n_threads, seconds_each);

  const auto with_weights = [&](std::string_view what, quant::Type type,
                                double (Measure::*how)(const quant::Format&, bool) const) {
    const quant::Format& format = quant::format_of(type);
    const bool strips = wanted.repacked && kernels.matmul[static_cast<size_t>(type)].strips != nullptr;
    return book.get(fmt::format("{} {} {}", what, format.name, strips ? "strips" : "rows"),
                    [&] { return measure.run([&](const Measure& m) { return (m.*how)(format, strips); }); });
  };
  const AttentionShape& shape = wanted.attention;
  const Gauges gauges{
      .decode = [&](quant::Type type) { return with_weights("decode", type, &Measure::decode_bytes_s); },
      .products = [&](quant::Type type) { return with_weights("products", type, &Measure::multiply_adds_s); },
      .attention =
          [&] {
            return book.get(attention_name(shape), [&] {
              return measure.run([&](const Measure& m) { return m.attention_bytes_s(shape); });
            });
          },
  };
  PACKMULE_TRY_STATUS(fill_in(wanted, gauges, host));
  return book.close();
}

}  // namespace packmule::calibration
