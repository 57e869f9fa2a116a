// Grammars of whole answers: a thought, text, tool calls, JSON.
//
// Calls are held to the form the template teaches and to the schemas of the tools:
//   XML    <tool_call>\n<function=NAME>\n<parameter=KEY>\nvalue\n</parameter>\n...</function>\n</tool_call>
//          Parameters in the order of the schema, required ones are there. A string is plain text up to its
//          `</parameter>`; it holds nothing that chat/xml_call.h would take for the end of the value. Other
//          types are JSON (or True, False, None).
//   JSON   <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>
// Where calls are free, text is any text, and a call is held to its grammar from `<tool_call>` and
// `<function=` or `{` on; what only looks like the tag stays text.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "grammar/grammar.h"

namespace packmule::grammar {

enum class CallForm { kXml, kJson };

/// Whether the answer begins with a thought, which ends with </think>.
enum class Thought {
  kNone,
  kOpen,   // the prompt opened it
  kMaybe,  // the model may write <think> itself
};

struct AnswerRules {
  enum class Calls {
    kNone,      // none are looked for
    kFree,      // text and calls
    kRequired,  // nothing but calls, at least one
  };
  Thought thought = Thought::kNone;
  Calls calls = Calls::kNone;
  CallForm form = CallForm::kXml;
  const Json* tools = nullptr;  // as api::parse_tools gives them; all of them may be called
  bool several_calls = true;
  // At most one of these says what the rest of the answer is; none: any text (without kRequired).
  bool json_object = false;
  const Json* schema = nullptr;
  std::string gbnf;
};

struct AnswerGrammar {
  std::shared_ptr<const Grammar> grammar;
  /// Tools whose schema is not supported. Where calls are free their arguments are not constrained.
  std::vector<std::string> warnings;
};

/// With kRequired a tool's schema that is not supported is an error.
[[nodiscard]] Result<AnswerGrammar> compile_answer(const AnswerRules& rules);

}  // namespace packmule::grammar
