#include "calibration/device.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "kernels/strip_layout.h"

namespace packmule::calibration {

Result<Outcome> calibrate_device(const Wanted& wanted, std::shared_ptr<vulkan::Device> device,
                                 vulkan::Ops& ops, int n_threads, bool integer_products, When when,
                                 const std::string& path, placement::Processor& processor,
                                 const DeviceEffort& effort) {
  if (when == When::kNever || wanted.weights.empty()) return Outcome{};
  const vulkan::DeviceInfo& info = device->info();
  SpeedBook book(path, {fmt::format("{}, {}", info.name, info.driver), "vulkan", 0}, when);
  std::optional<DeviceMeasure> measure;  // made when the first speed is not known: it takes memory
  const auto measured = [&](const std::string& name, auto&& how) {
    return book.get(name, [&]() -> Result<double> {
      if (!measure) {
        PACKMULE_TRY(measure, DeviceMeasure::create(device, ops, effort));
      }
      return how(*measure);
    });
  };
  const Gauges gauges{
      .decode =
          [&](quant::Type type) {
            return measured(fmt::format("decode {}", quant::format_of(type).name),
                            [&](const DeviceMeasure& m) { return m.decode_bytes_s(type); });
          },
      .products =
          [&](quant::Type type) {
            const bool rounded = integer_products && ops.has_int8(type);
            return measured(
                fmt::format("{} {}", rounded ? "integer products" : "products", quant::format_of(type).name),
                [&](const DeviceMeasure& m) { return m.multiply_adds_s(type, rounded); });
          },
      .attention =
          [&] {
            return measured(attention_name(wanted.attention),
                            [&](DeviceMeasure& m) { return m.attention_bytes_s(wanted.attention); });
          },
  };
  PACKMULE_TRY_STATUS(fill_in(wanted, gauges, processor));
  PACKMULE_TRY(processor.link_bytes_s,
               measured("link", [](const DeviceMeasure& m) -> Result<double> { return m.link_bytes_s(); }));
  const quant::Type most = wanted.weights.front();
  const bool strips = wanted.repacked && kernels::strip_layout(most).n_dwords > 0;
  PACKMULE_TRY(processor.stream_bytes_s,
               measured(fmt::format("stream {} {} by {}", quant::format_of(most).name,
                                    strips ? "strips" : "rows", n_threads),
                        [&](const DeviceMeasure& m) -> Result<double> {
                          ThreadPool pool(n_threads);
                          return m.stream_bytes_s(most, strips, pool);
                        }));
  // The file holds what happens in a second.
  PACKMULE_TRY(const double hops, measured("hops", [](const DeviceMeasure& m) -> Result<double> {
                 PACKMULE_TRY(const double seconds, m.hop_s());
                 return 1 / seconds;
               }));
  PACKMULE_TRY(const double phases, measured("phases", [](const DeviceMeasure& m) -> Result<double> {
                 PACKMULE_TRY(const double seconds, m.phase_s());
                 return 1 / seconds;
               }));
  processor.hop_s = 1 / hops;
  processor.phase_s = 1 / phases;
  return book.close();
}

}  // namespace packmule::calibration
