// What every dialect makes of an answer: the one stream of events that a generation is, and who puts it into
// words.
//
// A request is parsed into generations, one for each answer it wants, and a writer. The events come in this
// order: begin; for each choice its parts, then its end; finish, or failed.
#pragma once

#include <string>
#include <vector>

#include "api/answer_reader.h"
#include "api/error.h"
#include "api/http.h"
#include "engine/engine.h"

namespace packmule::api {

enum class Ended {
  kByModel,     // it had nothing more to say
  kStopString,  // `Ending::stop_string`, outside of complete calls
  kLength,      // cut off: of the answer, or of the context
  kCalls,       // with complete tool calls
};

/// How one answer came to its end.
struct Ending {
  Ended ended = Ended::kByModel;
  std::string stop_string;
  engine::Statistics statistics;
  int64_t reasoning_tokens = 0;  // of the generated ones; give or take those of the tags
  uint32_t seed = 0;             // that was used
};

/// An answer that is sent in one piece.
struct WholeAnswer {
  std::vector<AnswerPart> parts;  // neighbours of one kind joined
  Ending ending;
};

class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  /// Names the answer, in the log too.
  [[nodiscard]] virtual const std::string& id() const = 0;

  /// All of it at once.
  [[nodiscard]] virtual Json whole(const std::vector<WholeAnswer>& answers) = 0;

  // The same as the text of a stream; "" where a dialect has nothing to say.
  [[nodiscard]] virtual std::string begin(size_t n_prompt_tokens) = 0;
  /// So many tokens of the prompt are done, cached ones included.
  [[nodiscard]] virtual std::string reading(size_t /*choice*/, int64_t /*done*/,
                                            const engine::Statistics& /*so_far*/) {
    return {};
  }
  [[nodiscard]] virtual std::string part(size_t choice, const AnswerPart& part) = 0;
  [[nodiscard]] virtual std::string end(size_t choice, const Ending& ending) = 0;
  [[nodiscard]] virtual std::string finish(const std::vector<Ending>& endings) = 0;
  /// The end of a stream on which something went wrong.
  [[nodiscard]] virtual std::string failed(const ApiError& error) = 0;
};

}  // namespace packmule::api
