#include "cli/common_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "cli/cache_flags.h"
#include "cli/place_model.h"

namespace packmule::cli {
namespace {

constexpr const char* kNoEffect = " (accepted, changes nothing)";

const std::map<std::string, model::LoadMode> kLoadModes = {{"auto", model::LoadMode::kAuto},
                                                           {"mmap", model::LoadMode::kMmap},
                                                           {"copy", model::LoadMode::kCopy},
                                                           {"repack", model::LoadMode::kRepack}};

const std::map<std::string, Numa> kNumaModes = {
    {"distribute", Numa::kDistribute}, {"isolate", Numa::kIsolate}, {"numactl", Numa::kNumactl}};

/// "1234+0.5", "1234-2", "1234-inf": a token id, and what is added to its logit.
std::pair<int32_t, float> parse_logit_bias(const std::string& text) {
  const auto wrong = [&] {
    return CLI::ValidationError(
        "--logit-bias",
        fmt::format("expected a token id and a signed number like 1234+0.5 or 1234-inf, found '{}'",
                    printable(text, 40)));
  };
  int32_t id = 0;
  const char* end = text.data() + text.size();
  const auto [after_id, id_error] = std::from_chars(text.data(), end, id);
  if (id_error != std::errc() || id < 0 || after_id == end || (*after_id != '+' && *after_id != '-'))
    throw wrong();
  float size = 0;
  const auto [after, error] = std::from_chars(after_id + 1, end, size);
  if (error != std::errc() || after != end || std::isnan(size) || std::signbit(size)) throw wrong();
  return {id, *after_id == '-' ? -size : size};
}

/// The sampler's own limits, as an error of the command line.
void check_sampling(const SamplingFlags& flags) {
  const Status status = sampling::validate(flags.over({}), std::numeric_limits<int32_t>::max());
  if (!status) throw CLI::ValidationError(status.error().message);
}

}  // namespace

void add_engine_flags(CLI::App& verb, engine::EngineOptions& options) {
  verb.add_option("-m,--model", options.model_path, "GGUF file; of a split model the first")->required();
  verb.add_option("-t,--threads", options.n_threads, "Threads (default: all cores)")
      ->check(CLI::Range(1, 1024));
  verb.add_option("--ubatch-size", options.ubatch_size,
                  fmt::format("Tokens processed at once (-ub); default: {}, fewer where memory is short",
                              engine::kDefaultUbatch))
      ->check(CLI::Range(1, 65536));
  add_cache_flags(verb, options.k_type, options.v_type);
  verb.add_option("--load-mode", options.load_mode,
                  "Weights: auto, mmap (used in the file), copy, repack (copied and interleaved: fastest)")
      ->transform(CLI::CheckedTransformer(kLoadModes))
      ->type_name("MODE")
      ->default_str("auto");
  verb.add_flag_callback(
      "--no-mmap", [&options] { options.load_mode = model::LoadMode::kRepack; },
      "The same as --load-mode repack");
  verb.add_option(
          "--numa", options.numa,
          "Machines of several nodes: distribute (memory over all), isolate (threads on one), numactl (as "
          "arranged)")
      ->transform(CLI::CheckedTransformer(kNumaModes))
      ->type_name("MODE");

  verb.add_option_function<std::string>(
          "--flash-attn", [](const std::string&) {},
          std::string("on, off or auto (-fa): attention never stores its scores") + kNoEffect)
      ->expected(0, 1)
      ->check(CLI::IsMember({"on", "off", "auto", "1", "0", "true", "false"}))
      ->type_name("MODE");
  verb.add_option_function<int>(
          "--threads-batch", [](int) {},
          std::string("Threads for prompts (-tb): -t counts for both") + kNoEffect)
      ->check(CLI::Range(1, 1024));
  verb.add_option_function<int>(
          "-b,--batch-size", [](int) {},
          std::string("Tokens a prompt is cut into before --ubatch-size cuts it") + kNoEffect)
      ->check(CLI::Range(1, 1 << 20));
}

void add_placement_flags(CLI::App& verb, PlacementFlags& placement) {
  add_rule_flags(verb, placement);
  add_device_memory_flag(verb, placement);
  add_calibrate_flag(verb, placement);
  verb.parse_complete_callback([&placement] { check_rules(placement); });
}

void add_model_flags(CLI::App& verb, engine::EngineOptions& options, PlacementFlags& placement) {
  add_engine_flags(verb, options);
  add_placement_flags(verb, placement);
}

void add_context_flag(CLI::App& verb, engine::EngineOptions& options) {
  verb.add_option("-c,--ctx-size", options.ctx_size,
                  fmt::format("Tokens of context, of one request and of all that run at once; 0: what the "
                              "model was trained for, at most {}",
                              engine::kDefaultContext))
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
}

sampling::Params SamplingFlags::over(sampling::Params params) const {
  params.temperature = temperature.value_or(params.temperature);
  params.top_k = top_k.value_or(params.top_k);
  params.top_p = top_p.value_or(params.top_p);
  params.min_p = min_p.value_or(params.min_p);
  params.repeat_last_n = repeat_last_n.value_or(params.repeat_last_n);
  params.repeat_penalty = repeat_penalty.value_or(params.repeat_penalty);
  params.presence_penalty = presence_penalty.value_or(params.presence_penalty);
  params.frequency_penalty = frequency_penalty.value_or(params.frequency_penalty);
  params.seed = seed.value_or(params.seed);
  params.logit_bias.insert(params.logit_bias.end(), logit_bias.begin(), logit_bias.end());
  return params;
}

void add_sampling_flags(CLI::App& verb, SamplingFlags& flags) {
  const auto add = [&]<class T>(const char* name, std::optional<T>& to, const char* what) {
    verb.add_option_function<T>(
            name,
            [&flags, &to](const T& value) {
              to = value;
              check_sampling(flags);
            },
            what)
        ->group("Sampling (default: what suits the model)");
  };
  add("--temp,--temperature", flags.temperature, "Temperature; 0: always the most probable token");
  add("--top-k", flags.top_k, "Only the K most probable tokens; 0: all");
  add("--top-p", flags.top_p, "Only the most probable tokens that make up P together; 1: all");
  add("--min-p", flags.min_p, "Only tokens at least P times as probable as the best; 0: all");
  add("--repeat-penalty", flags.repeat_penalty, "Divides the logits of tokens in the window; 1: off");
  add("--repeat-last-n", flags.repeat_last_n, "Window of the penalties in tokens; 0: off, -1: all");
  add("--presence-penalty", flags.presence_penalty, "Subtracted from tokens in the window; 0: off");
  add("--frequency-penalty", flags.frequency_penalty, "Subtracted for each time in the window; 0: off");
  verb.add_option_function<int64_t>(
          "-s,--seed",
          [&flags](int64_t seed) {
            flags.seed = seed < 0 ? sampling::kRandomSeed : static_cast<uint32_t>(seed);
          },
          "Seed of the random numbers; -1: a new one each time")
      ->check(CLI::Range(int64_t{-1}, int64_t{0xffffffff}))
      ->group("Sampling (default: what suits the model)");
  verb.add_option_function<std::vector<std::string>>(
          "--logit-bias",
          [&flags](const std::vector<std::string>& texts) {
            flags.logit_bias.clear();
            std::transform(texts.begin(), texts.end(), std::back_inserter(flags.logit_bias),
                           parse_logit_bias);
          },
          "Added to the logit of a token: 1234+0.5, 1234-inf; may be repeated")
      ->type_name("ID(+|-)BIAS")
      ->expected(1)
      ->take_all()
      ->group("Sampling (default: what suits the model)");
}

void add_parallel_flags(CLI::App& verb, engine::EngineOptions& options) {
  verb.add_option(
          "--parallel", options.n_parallel,
          fmt::format("Requests that are answered at the same time (-np), at most {}", engine::kMaxParallel))
      ->check(CLI::Range(1, engine::kMaxParallel))
      ->type_name("N")
      ->capture_default_str();
  verb.add_option_function<int64_t>(
          "--cache-ram",
          [&options](int64_t mib) {
            // Without a limit means what nobody reaches: a cache takes memory only when it fills.
            options.cache_ram_bytes = (mib < 0 ? int64_t{1} << 20 : mib) << 20;
          },
          "Memory for past conversations in MiB (-cram), so that prompts that begin like them go on from "
          "there; 0: none, -1: no limit "
          "(default: a quarter of what is free, 1024 to 8192)")
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 20))
      ->type_name("MIB");
  verb.add_flag_callback(
      "--cont-batching", [] {}, std::string("Requests join those that run (-cb)") + kNoEffect);
  verb.add_flag_callback(
      "--no-cont-batching",
      [] {
        throw CLI::ValidationError("--no-cont-batching",
                                   "requests always join those that run; for one after the other give -np 1");
      },
      "Not there (-nocb): -np 1 does one request after the other");
  verb.add_flag_callback(
      "--kv-unified", [] {}, std::string("All requests share one KV cache (-kvu)") + kNoEffect);
  verb.add_flag_callback(
      "--no-kv-unified",
      [] {
        throw CLI::ValidationError(
            "--no-kv-unified",
            "-c is never divided among requests: each may use all of it; leave the flag out");
      },
      "Not there (-no-kvu): the context is not divided");
}

void add_disk_flags(CLI::App& verb, engine::EngineOptions& options) {
  verb.add_option(
          "--cache-disk", options.cache_disk_path,
          "Folder for past conversations that --cache-ram has no room for, and for all of them when the "
          "server stops; it is found again by the next one. Holds prompts as tokens")
      ->type_name("DIR");
  verb.add_option_function<int64_t>(
          "--cache-disk-size", [&options](int64_t mib) { options.cache_disk_bytes = mib << 20; },
          fmt::format("Most that it may take, in MiB (default: {})", engine::kDefaultDiskBytes >> 20))
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->type_name("MIB");
}

void add_accepted_flags(CLI::App& verb) {
  verb.add_flag_callback(
      "--jinja", [] {}, std::string("Chat templates are always rendered by Jinja") + kNoEffect);
  verb.add_flag_callback(
      "--no-webui", [] {}, std::string("There is no web page to leave out") + kNoEffect);
}

}  // namespace packmule::cli
