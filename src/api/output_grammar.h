// What a request says about the form of its answer, and the grammars made of that, kept for the next request:
// an agent sends the same tools with every turn.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "api/error.h"
#include "api/fields.h"
#include "base/json.h"
#include "grammar/answer_grammar.h"
#include "grammar/matcher.h"

namespace packmule::api {

/// Of response_format, json_schema, grammar, tool_choice.
struct OutputForm {
  bool json_object = false;
  Json schema;        // null: none
  std::string gbnf;   // "": none
  std::string field;  // where it was said, for errors
  bool calls_required = false;
  std::vector<std::string> only_tools;  // that may be called; empty: any
  [[nodiscard]] bool constrains_text() const { return json_object || !schema.is_null() || !gbnf.empty(); }
};

/// Reads these fields; `tools` as parse_tools gives them.
void read_output_form(Fields& fields, const Json& tools, OutputForm& out);

/// How the model and its template answer.
struct AnswerHabits {
  grammar::CallForm call_form = grammar::CallForm::kXml;
  bool writes_calls = false;
  bool thinks = false;           // the template knows <think>
  bool inside_thought = false;   // this prompt opened one
  bool thought_is_over = false;  // this prompt closed one
};

class OutputGrammars {
 public:
  explicit OutputGrammars(std::shared_ptr<const grammar::Vocabulary> vocabulary)
      : vocabulary_(std::move(vocabulary)) {}

  struct Made {
    std::shared_ptr<const grammar::TokenGrammar> grammar;  // null: the answer is free
    std::vector<std::string> warnings;
  };
  /// A grammar that is asked for and cannot be made is a 400. Calls that are free and whose tools cannot be
  /// made into one go unconstrained, with a warning.
  [[nodiscard]] ApiResult<Made> get(const OutputForm& form, const Json& tools, bool several_calls,
                                    const AnswerHabits& habits);

 private:
  static constexpr size_t kKept = 8;
  std::shared_ptr<const grammar::Vocabulary> vocabulary_;
  std::mutex mutex_;
  std::list<std::pair<std::string, Made>> kept_;  // last used first
};

}  // namespace packmule::api
