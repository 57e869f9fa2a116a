// What `packmule plan` prints.
#pragma once

#include <string>
#include <vector>

#include "cli/measure_machine.h"
#include "placement/explain.h"
#include "placement/planner.h"

namespace packmule::cli {

struct PlanReport {
  std::string model_path;
  std::string model_name;
  std::string k_type, v_type;
  int n_threads = 0;
  std::string isa;
  MeasuredMachine measured;
  placement::Request request;
  placement::Plan plan;
  std::vector<placement::RuleReport> rules;
  double decode_without_rules_s =
      0;  // seconds a token of the plan that has no rules; 0: there are none, or none fits
};

/// Tensors of one kind that went to one place, by one decision.
struct PlacedGroup {
  std::string what;  // "experts (gate, up, down)"
  placement::Where where = placement::kHost;
  std::string by;           // "-ngl", "-ot exps=CPU"; empty: packmule chose it
  std::vector<int> layers;  // empty: in no layer
  bool all_layers = false;  // that have such tensors
  int64_t bytes = 0;
};
/// In the order of the forward pass; what shares place, decision and layers is one group where that reads
/// well.
[[nodiscard]] std::vector<PlacedGroup> placed_groups(const PlanReport& report);

/// A share of the predicted time: "CPU memory", 0.71.
struct Bound {
  std::string what;
  double share = 0;
};
/// The largest first, those below 1 % left out.
[[nodiscard]] std::vector<Bound> bounds(const placement::Machine& machine, const placement::Seconds& seconds);

[[nodiscard]] std::string plan_text(const PlanReport& report);
[[nodiscard]] std::string plan_json(const PlanReport& report);

}  // namespace packmule::cli
