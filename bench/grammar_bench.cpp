// Token masks for tool calls: 60 tools of about 100 kB of JSON, a whole vocabulary.
//
//   packmule_grammar_bench VOCABULARY.gguf
//
// For each form of calls: the time to compile the tools, and for each token of an answer that calls all of
// them the time of its mask, first with nothing known and then again with the same grammar, as the next
// request has it. All of it kRounds times from the beginning, the vocabulary too; of each token the shortest
// time counts, as what other programs take of the processor is no part of its mask.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "gguf/file.h"
#include "grammar/answer_grammar.h"
#include "grammar/matcher.h"
#include "text/tokenizer.h"

using namespace packmule;
using Clock = std::chrono::steady_clock;

namespace {

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

Json make_tools(int n) {
  const std::string words =
      "Reads, writes or searches what the argument names in the workspace and gives back the result as text, "
      "with line "
      "numbers where they help. Use an absolute path. Paths that do not exist are an error. ";
  Json tools = Json::array();
  for (int i = 0; i < n; ++i) {
    Json properties = Json::object();
    const auto described = [&](Json schema, int times) {
      std::string text;
      for (int k = 0; k < times; ++k) text += words;
      schema["description"] = text;
      return schema;
    };
    properties["file_path"] = described({{"type", "string"}}, 1);
    properties["content"] = described({{"type", "string"}}, 1);
    properties["offset"] = described({{"type", "integer"}, {"minimum", 0}}, 1);
    properties["limit_" + std::to_string(i)] =
        described({{"type", "integer"}, {"minimum", 1}, {"maximum", 2000}}, 1);
    properties["mode"] = described({{"type", "string"}, {"enum", {"read", "write", "append", "search"}}}, 1);
    properties["title"] = described({{"type", "string"}, {"maxLength", 200}}, 0);
    properties["edits"] = described({{"type", "array"},
                                     {"items",
                                      {{"type", "object"},
                                       {"properties",
                                        {{"old_text", {{"type", "string"}}},
                                         {"new_text", {{"type", "string"}}},
                                         {"all", {{"type", "boolean"}}}}},
                                       {"required", {"old_text", "new_text"}}}}},
                                    0);
    tools.push_back({{"type", "function"},
                     {"function",
                      {{"name", fmt::format("tool_{}_{}",
                                            i % 7 == 0   ? "file"
                                            : i % 3 == 0 ? "web"
                                                         : "search",
                                            i)},
                       {"description", words + words},
                       {"parameters",
                        {{"type", "object"},
                         {"properties", properties},
                         {"required", {"file_path", "mode"}},
                         {"additionalProperties", false}}}}}});
  }
  return tools;
}

Json arguments(int i) {
  Json out;
  out["file_path"] = fmt::format("/home/user/project/src/module_{}/implementation.cpp", i);
  out["content"] = "int main() {\n  std::printf(\"Größe: %d\\n\", 42);\n  return 0;\n}";
  out["offset"] = 17 * i;
  out["mode"] = "append";
  out["title"] = "A change of the printed text, as asked for";
  out["edits"] = Json::array({{{"old_text", "return 0;"}, {"new_text", "return 1;  // why"}, {"all", true}}});
  return out;
}

std::string answer(const Json& tools, grammar::CallForm form) {
  std::string out;
  for (size_t i = 0; i < tools.size(); ++i) {
    const auto name = tools[i]["function"]["name"].get<std::string>();
    const Json args = arguments(static_cast<int>(i));
    if (i > 0) out += "\n";
    if (form == grammar::CallForm::kJson) {
      out += "<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": " + args.dump() + "}\n</tool_call>";
      continue;
    }
    out += "<tool_call>\n<function=" + name + ">\n";
    for (const auto& [key, value] : args.items())
      out += "<parameter=" + key + ">\n" + (value.is_string() ? value.get<std::string>() : value.dump()) +
             "\n</parameter>\n";
    out += "</function>\n</tool_call>";
  }
  return out;
}

constexpr int kRounds = 7;

/// Of each token its shortest time so far.
void keep_shortest(std::vector<double>& best, const std::vector<double>& times) {
  if (best.empty()) best = times;
  for (size_t i = 0; i < times.size(); ++i) best[i] = std::min(best[i], times[i]);
}

void report(const char* what, std::vector<double> times) {
  std::sort(times.begin(), times.end());
  double sum = 0;
  for (const double t : times) sum += t;
  const auto at = [&](double q) {
    return times[static_cast<size_t>(q * static_cast<double>(times.size() - 1))];
  };
  fmt::print("  {:<22} {} masks: median {:.4f} ms, mean {:.4f}, 99% {:.4f}, 99.9% {:.3f}, worst {:.3f}\n",
             what, times.size(), at(0.5), sum / static_cast<double>(times.size()), at(0.99), at(0.999),
             times.back());
}

/// The times of the masks of one answer.
Result<std::vector<double>> time_masks(const std::shared_ptr<const grammar::TokenGrammar>& tokens,
                                       const std::vector<int32_t>& ids) {
  grammar::Matcher matcher(tokens);
  std::vector<double> times;
  for (const int32_t id : ids) {
    const auto begin = Clock::now();
    PACKMULE_TRY(const auto mask, matcher.mask());
    times.push_back(ms_since(begin));
    if ((mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) == 0)
      return fail(ErrorKind::kInternal, "token {} of the answer is not allowed", times.size() - 1);
    PACKMULE_TRY_STATUS(matcher.accept(id));
  }
  return times;
}

Status measure(const std::string& path) {
  PACKMULE_TRY(const gguf::File file, gguf::File::open(path));
  PACKMULE_TRY(const auto tokenizer, text::Tokenizer::load(file));
  const Json tools = make_tools(60);
  fmt::print("tools: {}, {} bytes of JSON\n", tools.size(), tools.dump().size());
  double vocabulary_ms = 1e9;
  for (const auto form : {grammar::CallForm::kXml, grammar::CallForm::kJson})
    for (const auto calls : {grammar::AnswerRules::Calls::kRequired, grammar::AnswerRules::Calls::kFree}) {
      PACKMULE_TRY(const auto ids, tokenizer->encode(answer(tools, form), text::ParseSpecial::kUserDefined));
      std::vector<double> first, again;
      double compile_ms = 1e9;
      size_t n_states = 0;
      for (int round = 0; round < kRounds; ++round) {
        auto begin = Clock::now();
        const auto vocabulary = grammar::Vocabulary::of(*tokenizer, tokenizer->n_tokens());
        vocabulary_ms = std::min(vocabulary_ms, ms_since(begin));
        begin = Clock::now();
        PACKMULE_TRY(const auto made,
                     grammar::compile_answer({.calls = calls, .form = form, .tools = &tools}));
        compile_ms = std::min(compile_ms, ms_since(begin));
        n_states = made.grammar->n_states();
        const auto tokens = std::make_shared<const grammar::TokenGrammar>(made.grammar, vocabulary);
        for (auto* times : {&first, &again}) {
          PACKMULE_TRY(const auto one, time_masks(tokens, ids));
          keep_shortest(*times, one);
        }
      }
      fmt::print("{}, calls {}: compiled in {:.1f} ms, {} states\n",
                 form == grammar::CallForm::kXml ? "XML" : "JSON",
                 calls == grammar::AnswerRules::Calls::kFree ? "free" : "required", compile_ms, n_states);
      const auto slowest = static_cast<size_t>(std::max_element(first.begin(), first.end()) - first.begin());
      std::string before;
      for (size_t i = slowest < 4 ? 0 : slowest - 4; i < slowest; ++i)
        before += tokenizer->token_bytes(ids[i]);
      report("nothing known", std::move(first));
      fmt::print("  {:<22} behind {}\n", "",
                 Json(before).dump(-1, ' ', true, Json::error_handler_t::replace));
      report("the same grammar again", std::move(again));
    }
  fmt::print("vocabulary: {} tokens, trees made in {:.1f} ms\n", tokenizer->n_tokens(), vocabulary_ms);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: packmule_grammar_bench VOCABULARY.gguf\n");
    return 2;
  }
  const Status status = measure(argv[1]);
  if (!status) fmt::print(stderr, "packmule_grammar_bench: {}\n", status.error().message);
  return status ? 0 : 1;
}
