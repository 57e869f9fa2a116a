// packmule inspect: what is in a GGUF file.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/verbs.h"
#include "gguf/file.h"
#include "model/hparams.h"
#include "placement/tensor_kind.h"

namespace packmule::cli {
namespace {

using placement::kTensorKinds;
using placement::tensor_kind;

constexpr size_t kShownElems = 8;    // of an array
constexpr size_t kShownBytes = 100;  // of a string

struct InspectOptions {
  std::string path;
  bool json = false;
  bool tensors = true;
};

struct Total {
  std::string_view name;
  uint64_t n_tensors = 0;
  uint64_t n_elems = 0;
  uint64_t size_bytes = 0;

  void add(const gguf::TensorInfo& tensor) {
    ++n_tensors;
    n_elems += static_cast<uint64_t>(tensor.n_elems());
    size_bytes += tensor.size_bytes;
  }
  [[nodiscard]] double bits_per_weight() const {
    return n_elems == 0 ? 0 : 8.0 * static_cast<double>(size_bytes) / static_cast<double>(n_elems);
  }
};

struct Totals {
  std::vector<Total> by_type;  // by type id
  std::vector<Total> by_kind;  // in the order of kTensorKinds
  Total all{"total"};

  explicit Totals(const gguf::File& file) {
    std::map<quant::Type, Total> types;
    std::map<std::string_view, Total> kinds;
    for (const gguf::TensorInfo& tensor : file.tensors()) {
      types[tensor.format->type].add(tensor);
      kinds[tensor_kind(tensor.name)].add(tensor);
      all.add(tensor);
    }
    for (auto& [type, total] : types) {
      total.name = quant::format_of(type).name;
      by_type.push_back(total);
    }
    for (const std::string_view kind : kTensorKinds) {
      const auto found = kinds.find(kind);
      if (found == kinds.end()) continue;
      found->second.name = kind;
      by_kind.push_back(found->second);
    }
  }
};

std::string type_text(const gguf::Value& value) {
  const auto* array = std::get_if<gguf::Array>(&value.value);
  if (array == nullptr) return std::string(value_type_name(value.type));
  return fmt::format("{}[{}]", value_type_name(array->element_type), array->size());
}

/// A hyper-parameter by the name it has in the JSON and the words it has in the text.
struct Parameter {
  std::string_view name, words;
  Json value;
};

std::vector<Parameter> parameters_of(const model::Hparams& hparams) {
  const auto n_delta_net = std::count(hparams.recurrent.begin(), hparams.recurrent.end(), true);
  return {
      {"n_layers", "layers", hparams.n_layers},
      {"n_delta_net_layers", "DeltaNet layers", n_delta_net},
      {"n_attention_layers", "attention layers", hparams.n_layers - n_delta_net},
      {"n_mtp_layers", "multi-token prediction layers", hparams.n_mtp_layers},
      {"n_vocab", "vocabulary", hparams.n_vocab},
      {"hidden", "hidden width", hparams.hidden},
      {"context_length", "trained context", hparams.context_length},
      {"n_heads", "attention heads", hparams.n_heads},
      {"n_kv_heads", "key/value heads", hparams.n_kv_heads},
      {"head_dim", "head width", hparams.head_dim},
      {"rope_dims", "rotated dimensions of a head", hparams.rope_dims},
      {"rope_theta", "rope base", hparams.rope_theta},
      {"n_k_heads", "DeltaNet key heads", hparams.n_k_heads},
      {"n_v_heads", "DeltaNet value heads", hparams.n_v_heads},
      {"dk", "DeltaNet key width", hparams.dk},
      {"dv", "DeltaNet value width", hparams.dv},
      {"conv_taps", "convolution taps", hparams.conv_taps},
      {"n_experts", "experts", hparams.n_experts},
      {"n_experts_used", "experts used per token", hparams.n_experts_used},
      {"expert_ff", "expert width", hparams.expert_ff},
      {"shared_ff", "shared expert width", hparams.shared_ff},
      {"rms_eps", "norm epsilon", hparams.rms_eps},
  };
}

// ---- as JSON ----

Json element_json(std::string_view text) {
  return std::string(text);
}
template <class Number>
Json element_json(Number number) {
  return number;
}

/// Scalars as they are; of an array the first elements.
Json value_json(const gguf::Value& value) {
  Json json = {{"type", type_text(value)}};
  std::visit(
      [&]<class T>(const T& held) {
        if constexpr (std::is_same_v<T, gguf::Array>) {
          json["length"] = held.size();
          Json& first = json["first"] = Json::array();
          std::visit(
              [&](const auto& elements) {
                for (size_t i = 0; i < elements.size() && i < kShownElems; ++i)
                  first.push_back(element_json(elements[i]));
              },
              held.values);
        } else {
          json["value"] = element_json(held);
        }
      },
      value.value);
  return json;
}

Json total_json(const Total& total) {
  return {{"name", total.name},
          {"tensors", total.n_tensors},
          {"weights", total.n_elems},
          {"size_bytes", total.size_bytes}};
}

std::string report_json(const gguf::File& file, const InspectOptions& options) {
  Json json = {{"path", file.path()},
               {"version", file.version()},
               {"files", file.n_shards()},
               {"size_bytes", file.size_bytes()}};
  Json& metadata = json["metadata"] = Json::object();
  for (const gguf::KeyValue& entry : file.metadata())
    metadata[std::string(entry.key)] = value_json(entry.value);
  if (const auto hparams = model::Hparams::read(file)) {
    for (const Parameter& parameter : parameters_of(*hparams))
      json["hyper_parameters"][std::string(parameter.name)] = parameter.value;
  } else {
    json["hyper_parameters"] = {{"error", hparams.error().message}};
  }
  if (options.tensors) {
    Json& tensors = json["tensors"] = Json::array();
    for (const gguf::TensorInfo& tensor : file.tensors())
      tensors.push_back(
          {{"name", tensor.name},
           {"type", tensor.format->name},
           {"shape", std::vector<int64_t>(tensor.ne.begin(), tensor.ne.begin() + tensor.n_dims)},
           {"size_bytes", tensor.size_bytes},
           {"file", tensor.shard},
           {"offset", tensor.file_offset},
           {"kind", tensor_kind(tensor.name)}});
  }
  const Totals totals(file);
  Json& by_type = json["totals"]["by_type"] = Json::array();
  for (const Total& total : totals.by_type) by_type.push_back(total_json(total));
  Json& by_kind = json["totals"]["by_kind"] = Json::array();
  for (const Total& total : totals.by_kind) by_kind.push_back(total_json(total));
  json["totals"]["all"] = total_json(totals.all);
  // Strings of a file need not be UTF-8: what is not becomes U+FFFD.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// ---- as text ----

std::string size_text(uint64_t size_bytes) {
  if (size_bytes < 1000) return fmt::format("{} B", size_bytes);
  const double size = static_cast<double>(size_bytes);
  if (size < 1e6) return fmt::format("{:.2f} kB", size / 1e3);
  if (size < 1e9) return fmt::format("{:.2f} MB", size / 1e6);
  return fmt::format("{:.2f} GB", size / 1e9);
}

std::string element_text(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : printable(text, kShownBytes))
    quoted += c == '"' ? std::string("\\\"") : std::string(1, c);
  return quoted + "\"";
}
template <class Number>
std::string element_text(Number number) {
  return fmt::format("{}", number);
}

std::string value_text(const gguf::Value& value) {
  return std::visit(
      [&]<class T>(const T& held) {
        if constexpr (std::is_same_v<T, gguf::Array>) {
          std::string text = "[";
          std::visit(
              [&](const auto& elements) {
                for (size_t i = 0; i < elements.size() && i < kShownElems; ++i)
                  text += (i == 0 ? "" : ", ") + element_text(elements[i]);
              },
              held.values);
          return text + (held.size() > kShownElems ? ", ...]" : "]");
        } else if constexpr (std::is_same_v<T, double>) {
          // Digits that a float32 has; more would be noise of the conversion.
          return value.type == gguf::ValueType::kF32 ? fmt::format("{}", static_cast<float>(held))
                                                     : fmt::format("{}", held);
        } else if constexpr (std::is_same_v<T, std::string_view>) {
          return printable(held, kShownBytes);
        } else {
          return element_text(held);
        }
      },
      value.value);
}

std::string shape_text(const gguf::TensorInfo& tensor) {
  std::string text;
  for (int d = 0; d < tensor.n_dims; ++d)
    text += fmt::format("{}{}", d == 0 ? "" : " x ", tensor.ne[static_cast<size_t>(d)]);
  return text;
}

void append_totals(std::string& out, std::string_view title, const std::vector<Total>& totals,
                   const Total& all) {
  fmt::format_to(std::back_inserter(out), "\n{:<24} {:>8} {:>16} {:>12} {:>8}\n", title, "tensors", "weights",
                 "size", "bits");
  const auto append = [&](const Total& total) {
    fmt::format_to(std::back_inserter(out), "  {:<22} {:>8} {:>16} {:>12} {:>8.2f}\n", total.name,
                   total.n_tensors, total.n_elems, size_text(total.size_bytes), total.bits_per_weight());
  };
  for (const Total& total : totals) append(total);
  append(all);
}

std::string report_text(const gguf::File& file, const InspectOptions& options) {
  std::string out;
  const auto to = std::back_inserter(out);
  fmt::format_to(to, "{}\nGGUF version {}, {} in {}, {} keys, {} tensors\n", printable(file.path(), 4096),
                 file.version(), size_text(file.size_bytes()),
                 file.n_shards() == 1 ? "1 file" : fmt::format("{} files", file.n_shards()),
                 file.metadata().size(), file.tensors().size());

  size_t width = 0;
  for (const gguf::KeyValue& entry : file.metadata())
    width = std::max(width, printable(entry.key, kShownBytes).size());
  out += "\nmetadata\n";
  for (const gguf::KeyValue& entry : file.metadata())
    fmt::format_to(to, "  {:<{}}  {:<14}  {}\n", printable(entry.key, kShownBytes), width,
                   type_text(entry.value), value_text(entry.value));

  out += "\nhyper-parameters\n";
  if (const auto hparams = model::Hparams::read(file)) {
    for (const Parameter& parameter : parameters_of(*hparams))
      fmt::format_to(to, "  {:<30} {}\n", parameter.words,
                     parameter.value.is_number_float() ? fmt::format("{}", parameter.value.get<float>())
                                                       : parameter.value.dump());
  } else {
    fmt::format_to(to, "  not those of a model that packmule runs: {}\n", hparams.error().message);
  }

  if (options.tensors && !file.tensors().empty()) {
    width = 0;
    for (const gguf::TensorInfo& tensor : file.tensors())
      width = std::max(width, printable(tensor.name).size());
    fmt::format_to(to, "\ntensors (shapes: fastest dimension first)\n");
    for (const gguf::TensorInfo& tensor : file.tensors())
      fmt::format_to(to, "  {:<{}}  {:<8} {:>20} {:>12}\n", printable(tensor.name), width,
                     tensor.format->name, shape_text(tensor), size_text(tensor.size_bytes));
  }
  const Totals totals(file);
  append_totals(out, "by type", totals.by_type, totals.all);
  append_totals(out, "by kind", totals.by_kind, totals.all);
  return out;
}

Status inspect(const InspectOptions& options) {
  PACKMULE_TRY(const auto file, gguf::File::open(options.path));
  const std::string out = options.json ? report_json(file, options) : report_text(file, options);
  if (std::fwrite(out.data(), 1, out.size(), stdout) != out.size() || std::fflush(stdout) != 0)
    return fail(ErrorKind::kIo, "cannot write to the standard output: {}", std::strerror(errno));
  return {};
}

}  // namespace

void add_inspect(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* verb = app.add_subcommand("inspect", "Show what is in a GGUF file");
  verb->add_option("FILE,-m,--model", options->path, "GGUF file; of a split model the first");
  verb->add_flag("--json", options->json, "Print JSON");
  verb->add_flag("--tensors,!--no-tensors", options->tensors, "List the tensors one by one (default)");
  verb->callback([options, &chosen] {
    if (options->path.empty()) throw CLI::RequiredError("FILE");
    chosen = [options] { return inspect(*options); };
  });
}

}  // namespace packmule::cli
