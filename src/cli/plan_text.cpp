#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/utf8.h"
#include "cli/plan_report.h"
#include "cli/plan_request.h"
#include "placement/words.h"

namespace packmule::cli {
namespace {

using placement::Footprint;
using placement::gigabytes;
using placement::Processor;

/// 6442051584 as "6,442,051,584".
std::string grouped(int64_t n) {
  const std::string digits = std::to_string(n);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string bound_words(const placement::Machine& machine, const placement::Seconds& seconds) {
  std::string words;
  for (const Bound& bound : bounds(machine, seconds))
    words += fmt::format("{}{} {:.0f} %", words.empty() ? "" : ", ", bound.what, 100 * bound.share);
  return words;
}

class Text {
 public:
  explicit Text(const PlanReport& report)
      : report_(report), request_(report.request), plan_(report.plan), machine_(report.request.machine) {}

  std::string write() {
    model();
    machine();
    rules();
    placement();
    memory();
    prediction();
    return std::move(out_);
  }

 private:
  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
    out_ += '\n';
  }

  void model() {
    const auto& inventory = request_.inventory;
    const auto& demand = request_.demand;
    line("{}{}: {} layers, {} of weights, {} read for a token", printable(report_.model_path, 4096),
         report_.model_name.empty() ? "" : fmt::format(" ({})", printable(report_.model_name, 80)),
         inventory.shape.n_layers, gigabytes(inventory.loaded_bytes), gigabytes(inventory.bytes_per_token));
    if (inventory.unused_bytes > 0)
      line("{} of the file are not loaded (multi-token prediction or unknown tensors)",
           gigabytes(inventory.unused_bytes));
    line("context {} tokens, cache {}/{}, ubatch {}, {}; {} ({})", demand.n_ctx, report_.k_type,
         report_.v_type, demand.ubatch, placement::count_words(demand.n_sequences, "sequence"),
         placement::count_words(report_.n_threads, "thread"), report_.isa);
  }

  void machine() {
    line("\nmachine");
    for (size_t p = 0; p < machine_.processors.size(); ++p) {
      const Processor& processor = machine_.processors[p];
      std::string speeds = fmt::format("{:.4g} GB/s, {:.3g} TFLOP/s", processor.read_bytes_s * 1e-9,
                                       2e-12 * processor.multiply_add_s);
      if (p != placement::kHost) speeds += fmt::format(", PCIe {:.3g} GB/s", processor.link_bytes_s * 1e-9);
      line("  {:<5} {}: {} free, {} of them reserve; {}", processor.name, processor.words,
           gigabytes(processor.free_bytes), gigabytes(processor.reserve_bytes), speeds);
    }
    speeds_of("the CPU's speeds", report_.measured.host);
    if (machine_.n_devices() > 0) speeds_of("the device's speeds", report_.measured.device);
  }

  void speeds_of(std::string_view whose, const calibration::Outcome& measured) {
    if (measured.n_measured > 0)
      line("  {} have just been measured", whose);
    else if (measured.n_known > 0)
      line("  {} were measured earlier (--calibrate always: again)", whose);
    else
      line("  {} are defaults or what flags say, not measurements", whose);
  }

  void rules() {
    if (report_.rules.empty()) return;
    line("\nrules");
    for (const placement::RuleReport& rule : report_.rules) {
      line("  {}\n    {}", placement::pattern_words(rule.rule), rule.matches);
      for (const std::string& warning : rule.warnings) line("    warning: {}", warning);
    }
  }

  void placement() {
    line("\nplacement");
    for (const PlacedGroup& group : placed_groups(report_)) {
      const std::string layers = group.layers.empty() ? std::string()
                                 : group.all_layers   ? std::string("all layers")
                                                      : placement::layer_words(group.layers);
      line("  {:<5} {:<30} {:<30} {:>9}{}", machine_.at(group.where).name, group.what, layers,
           gigabytes(group.bytes),
           group.by.empty() ? "" : fmt::format("  by {}", placement::pattern_words(group.by)));
    }
  }

  void memory() {
    line("\n{:<7} {:>16} {:>16} {:>16} {:>16} {:>16} {:>16}", "bytes", "weights", "KV cache",
         "recurrent state", "compute buffers", "total", "budget");
    for (size_t p = 0; p < machine_.processors.size(); ++p) {
      const Footprint& taken = plan_.footprints[p];
      line("  {:<5} {:>16} {:>16} {:>16} {:>16} {:>16} {:>16}", machine_.processors[p].name,
           grouped(taken.weights), grouped(taken.kv), grouped(taken.state), grouped(taken.compute),
           grouped(taken.total()), grouped(machine_.processors[p].budget_bytes()));
    }
    if (plan_.share_on_disk > 0)
      line("  {} of the CPU's weights find no room and are read from the disk when they are used",
           gigabytes(static_cast<int64_t>(plan_.share_on_disk *
                                          static_cast<double>(plan_.footprints[placement::kHost].weights))));
  }

  void prediction() {
    line("\npredicted");
    line("  decode  {:>7.1f} tokens/s after {} tokens: {}", 1 / plan_.decode.total(), plan_.depth,
         bound_words(machine_, plan_.decode));
    line("  decode  {:>7.1f} tokens/s in a full context: {}", 1 / plan_.decode_full.total(),
         bound_words(machine_, plan_.decode_full));
    line("  prefill {:>7.1f} tokens/s for {} tokens: {}",
         static_cast<double>(plan_.prefill_tokens) / plan_.prefill.total(), plan_.prefill_tokens,
         bound_words(machine_, plan_.prefill));
    if (report_.decode_without_rules_s > 0)
      line("  without the rules packmule would decode {:.1f} tokens/s", 1 / report_.decode_without_rules_s);
    streaming();
  }

  void streaming() {
    constexpr size_t kMostLines = 4;
    const std::vector<StreamedLayers> all = streamed_layers(plan_);
    for (size_t i = 0; i < std::min(all.size(), kMostLines); ++i) {
      std::vector<int> layers = all[i].layers;
      const bool last = i + 1 == kMostLines && all.size() > kMostLines;
      for (size_t rest = i + 1; last && rest < all.size(); ++rest)
        layers.insert(layers.end(), all[rest].layers.begin(), all[rest].layers.end());
      std::ranges::sort(layers);
      line("  prompts of at least {}{} tokens stream their experts of {} to the device{}", all[i].from_tokens,
           last ? fmt::format(" to {}", all.back().from_tokens) : "", placement::layer_words(layers),
           all[i].from_tokens > plan_.prefill_tokens
               ? fmt::format(": only with a ubatch of so many (-ub {})", all[i].from_tokens)
               : "");
    }
    if (machine_.n_devices() > 0 && !plan_.has_ring && request_.demand.stream_bytes() > 0)
      line("  experts are not streamed for prompts: the device has no room for what passes through");
  }

  const PlanReport& report_;
  const placement::Request& request_;
  const placement::Plan& plan_;
  const placement::Machine& machine_;
  std::string out_;
};

}  // namespace

std::string plan_text(const PlanReport& report) {
  return Text(report).write();
}

}  // namespace packmule::cli
