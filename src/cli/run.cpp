// packmule run: one prompt and its answer, or a conversation in the terminal.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/answer_printer.h"
#include "cli/common_flags.h"
#include "cli/conversation.h"
#include "cli/place_model.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "engine/engine.h"

namespace packmule::cli {
namespace {

struct RunOptions {
  engine::EngineOptions engine;
  PlacementFlags placement;
  SamplingFlags sampling;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::string system_prompt;
  std::string template_path;
  Json template_variables = Json::object();
  int64_t max_tokens = -1;
  bool ignore_eos = false;
  bool raw = false;
};

constexpr size_t kMaxPromptBytes = size_t{64} << 20;

/// All of an open stream; `what` names it in errors.
Result<std::string> read_all(std::FILE* stream, const std::string& what) {
  std::string text;
  char buffer[65536];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, stream)) {
    text.append(buffer, n);
    if (text.size() > kMaxPromptBytes)
      return fail(ErrorKind::kInvalidArgument, "{}: more than {} bytes: too long for a prompt", what,
                  kMaxPromptBytes);
  }
  if (std::ferror(stream) != 0) return fail(ErrorKind::kIo, "cannot read {}: {}", what, std::strerror(errno));
  return text;
}

Result<std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) return fail(ErrorKind::kIo, "cannot open {}: {}", path, std::strerror(errno));
  return read_all(file.get(), path);
}

/// The prompt of a single run; nullopt when there is a person to talk to.
Result<std::optional<std::string>> single_prompt(const RunOptions& options) {
  if (options.prompt) return options.prompt;
  std::string text;
  std::string where = options.prompt_file;
  if (!options.prompt_file.empty()) {
    PACKMULE_TRY(text, read_file(options.prompt_file));
  } else if (is_terminal(STDIN_FILENO)) {
    return std::nullopt;
  } else {
    where = "stdin";
    PACKMULE_TRY(text, read_all(stdin, where));
  }
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  if (text.empty()) return fail(ErrorKind::kInvalidArgument, "{}: no prompt in it; give one with -p", where);
  return text;
}

std::string size_text(int64_t bytes) {
  const auto size = static_cast<double>(bytes);
  return bytes < 1'000'000'000 ? fmt::format("{:.1f} MB", size / 1e6) : fmt::format("{:.2f} GB", size / 1e9);
}

/// One line about how it went.
std::string figures(const engine::Engine& engine, const engine::Outcome& outcome) {
  const engine::Statistics& s = outcome.statistics;
  std::string cached;
  if (s.cached_tokens > 0) cached = fmt::format(" ({} known already)", s.cached_tokens);
  std::string end;
  if (outcome.reason == engine::FinishReason::kLength) end = ", cut at -n";
  if (outcome.reason == engine::FinishReason::kContextFull) end = ", cut: the context is full";
  if (outcome.reason == engine::FinishReason::kCancelled) end = ", stopped";
  return fmt::format(
      "prompt: {} tokens{}, {:.1f} tokens/s; generated: {} tokens, {:.1f} tokens/s{}; memory: {} at most, "
      "model "
      "file {} mapped",
      s.prompt_tokens, cached, s.prompt_per_second(), s.generated_tokens, s.generate_per_second(), end,
      size_text(peak_memory_bytes()), size_text(static_cast<int64_t>(engine.file().size_bytes())));
}

class Runner {
 public:
  Runner(const RunOptions& options, engine::Engine& engine, Interrupts& interrupts)
      : options_(options), engine_(engine), interrupts_(interrupts) {}

  Status answer_once(const std::string& text) {
    PACKMULE_TRY(Prompt prompt, first_prompt(text));
    PACKMULE_TRY(const engine::Outcome outcome, generate(std::move(prompt)));
    fmt::print(stderr, "{}\n", figures(engine_, outcome));
    return {};
  }

  Status talk();

 private:
  Result<Prompt> first_prompt(const std::string& text);
  Result<engine::Outcome> generate(Prompt prompt);
  Status answer(Conversation& conversation, const std::string& text);
  bool obey(Conversation& conversation, const std::string& command);

  const RunOptions& options_;
  engine::Engine& engine_;
  Interrupts& interrupts_;
};

Result<Prompt> Runner::first_prompt(const std::string& text) {
  if (!options_.raw) {
    PACKMULE_TRY(const auto conversation,
                 start_conversation(engine_, options_.template_path, options_.template_variables));
    conversation->set_system(options_.system_prompt);
    return conversation->ask(text);
  }
  const text::Tokenizer& tokenizer = engine_.tokenizer();
  Prompt prompt;
  PACKMULE_TRY(prompt.tokens, tokenizer.encode(text, text::ParseSpecial::kAll));
  if (tokenizer.add_bos() && tokenizer.bos() >= 0)
    prompt.tokens.insert(prompt.tokens.begin(), tokenizer.bos());
  return prompt;
}

/// Runs the model and prints as it goes. Ctrl-C ends the answer.
Result<engine::Outcome> Runner::generate(Prompt prompt) {
  engine::Request request;
  request.prompt = std::move(prompt.tokens);
  request.sampling = options_.sampling.over(engine_.default_sampling());
  request.max_tokens = options_.max_tokens;
  request.ignore_eos = options_.ignore_eos;

  const bool on_terminal = is_terminal(STDOUT_FILENO);
  AnswerPrinter printer(on_terminal, prompt.opens_reasoning);
  ProgressLine progress;
  std::stop_source stop;
  int64_t n_generated = 0;
  const auto look_for_interrupt = [&] {
    if (interrupts_.pending()) stop.request_stop();
  };
  engine::Callbacks callbacks;
  callbacks.on_prompt = [&](int64_t done, const engine::Statistics& so_far) {
    if (done < so_far.prompt_tokens)
      progress.show(fmt::format("reading the prompt: {} of {} tokens", done, so_far.prompt_tokens));
    look_for_interrupt();
  };
  callbacks.on_piece = [&](const engine::Piece& piece) {
    if (on_terminal)
      progress.clear();
    else
      progress.show(fmt::format("{} tokens generated", ++n_generated));
    printer.print(piece.text);
    look_for_interrupt();
  };
  progress.show(fmt::format("reading the prompt: {} tokens", request.prompt.size()));
  auto outcome = engine_.generate(request, callbacks, stop.get_token());
  progress.clear();
  if (outcome) printer.finish();
  interrupts_.clear();
  return outcome;
}

constexpr const char* kChatHelp =
    "  /clear          forget the conversation (the system prompt stays)\n"
    "  /system TEXT    set the system prompt and forget the conversation; without TEXT: none\n"
    "  /help           this list\n"
    "  /exit           leave (so do Ctrl-D, and Ctrl-C twice)\n"
    "Ctrl-C stops an answer. A line that ends with \\ goes on in the next one; lines between two \"\"\" "
    "belong\n"
    "together; pasted lines do so by themselves.\n";

/// Carries out a line that begins with '/'; false: leave.
bool Runner::obey(Conversation& conversation, const std::string& command) {
  const std::string word = command.substr(0, command.find(' '));
  const std::string rest = command.size() > word.size() ? command.substr(word.size() + 1) : "";
  if (word == "/exit" || word == "/quit") return false;
  if (word == "/clear") {
    conversation.clear();
    fmt::print(stderr, "(a new conversation)\n");
  } else if (word == "/system") {
    conversation.set_system(rest);
    conversation.clear();
    fmt::print(stderr, "(a new conversation, {})\n",
               rest.empty() ? "without a system prompt" : "with a new system prompt");
  } else if (word == "/help") {
    fmt::print(stderr, "{}", kChatHelp);
  } else {
    fmt::print(stderr, "no command {}; /help lists them; to send the line as it is, begin it with a space\n",
               printable(word, 40));
  }
  return true;
}

/// Reads on until the message is complete (see kChatHelp). An interruption drops it.
LineReader::Input read_message(LineReader& reader) {
  constexpr std::string_view kQuotes = "\"\"\"";
  LineReader::Input input = reader.read("> ");
  if (input.event != LineReader::Event::kLine) return input;
  std::string& text = input.text;
  const bool quoted = text.starts_with(kQuotes);
  if (quoted) text.erase(0, kQuotes.size());
  while (quoted ? !text.ends_with(kQuotes) : text.ends_with('\\')) {
    if (!quoted) text.pop_back();
    const LineReader::Input more = reader.read(". ");
    if (more.event == LineReader::Event::kInterrupted) return more;
    if (more.event == LineReader::Event::kEnd) return input;
    if (!text.empty() || !quoted) text += '\n';
    text += more.text;
  }
  if (quoted) text.erase(text.size() - kQuotes.size());
  while (text.ends_with('\n')) text.pop_back();
  return input;
}

Status Runner::answer(Conversation& conversation, const std::string& text) {
  PACKMULE_TRY(Prompt prompt, conversation.ask(text));
  const bool opens_reasoning = prompt.opens_reasoning;
  auto outcome = generate(std::move(prompt));
  if (!outcome) {
    conversation.forget_question();
    return tl::unexpected<Error>(std::move(outcome).error());
  }
  conversation.add_answer(outcome->text, opens_reasoning);
  const bool dim = is_terminal(STDERR_FILENO);
  fmt::print(stderr, "{}{}{}\n", dim ? "\x1b[2m" : "", figures(engine_, *outcome), dim ? "\x1b[0m" : "");
  return {};
}

Status Runner::talk() {
  PACKMULE_TRY(const auto conversation,
               start_conversation(engine_, options_.template_path, options_.template_variables));
  conversation->set_system(options_.system_prompt);
  fmt::print(stderr, "{}: {} tokens of context. /help lists the commands.\n",
             printable(engine_.model_name(), 80), engine_.options().ctx_size);
  LineReader reader(interrupts_);
  bool interrupted_before = false;
  while (true) {
    const LineReader::Input input = read_message(reader);
    if (input.event == LineReader::Event::kInterrupted) {
      if (std::exchange(interrupted_before, true)) break;
      fmt::print(stderr, "(Ctrl-C again, Ctrl-D or /exit to leave)\n");
      continue;
    }
    interrupted_before = false;
    if (input.event == LineReader::Event::kEnd) {
      fmt::print(stderr, "\n");
      break;
    }
    if (input.text.empty()) continue;
    reader.remember(input.text);
    if (input.text.starts_with('/')) {
      if (!obey(*conversation, input.text)) break;
      continue;
    }
    // A question that fails is no reason to leave: it may only be too long.
    if (const Status status = answer(*conversation, input.text); !status)
      fmt::print(stderr, "packmule: error: {}\n", status.error().message);
  }
  return {};
}

Status run(const RunOptions& options) {
  PACKMULE_TRY(const std::optional<std::string> prompt, single_prompt(options));
  if (!prompt && options.raw)
    return fail(ErrorKind::kInvalidArgument, "--no-chat needs a prompt: give one with -p, -f or on stdin");
  std::unique_ptr<engine::Engine> engine;
  engine::EngineOptions engine_options = options.engine;
  PACKMULE_TRY(const std::string placed,
               place_model(options.placement, engine_options,
                           [](const std::string& line) { fmt::print(stderr, "\nwarning: {}\n", line); }));
  if (!placed.empty()) fmt::print(stderr, "{}\n", placed);
  {
    ProgressLine progress;
    progress.show("loading the model");
    PACKMULE_TRY(engine, engine::Engine::open(engine_options, [&](double fraction) {
                   progress.show(fmt::format("loading the model: {:.0f} %", fraction * 100));
                 }));
  }
  PACKMULE_TRY(const auto interrupts, Interrupts::install());
  Runner runner(options, *engine, *interrupts);
  return prompt ? runner.answer_once(*prompt) : runner.talk();
}

}  // namespace

void add_run(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* verb = app.add_subcommand("run", "Answer a prompt, or talk in the terminal");
  add_model_flags(*verb, options->engine, options->placement);
  add_context_flag(*verb, options->engine);
  auto* prompt = verb->add_option("-p,--prompt", options->prompt,
                                  "Prompt; without one: a conversation, or the prompt from a pipe");
  verb->add_option("-f,--file", options->prompt_file, "File with the prompt")->excludes(prompt);
  verb->add_option("-n,--predict,--n-predict", options->max_tokens,
                   "Most tokens to generate; -1: to the end of the answer or of the context")
      ->check(CLI::Range(int64_t{-2}, int64_t{1} << 30))
      ->capture_default_str();
  auto* system = verb->add_option("--system-prompt", options->system_prompt, "System prompt (-sys)");
  verb->add_option("--chat-template-file", options->template_path,
                   "Jinja template to use instead of the model's own");
  verb->add_option_function<std::string>(
          "--chat-template-kwargs",
          [options](const std::string& text) {
            auto json = parse_json(text, "--chat-template-kwargs");
            if (!json) throw CLI::ValidationError(json.error().message);
            if (!json->is_object())
              throw CLI::ValidationError("--chat-template-kwargs",
                                         "expected a JSON object, like "
                                         "'{\"enable_thinking\": false}'");
            options->template_variables = *std::move(json);
          },
          "Further variables of the template, a JSON object")
      ->type_name("JSON");
  verb->add_flag("--no-chat,--no-conversation", options->raw,
                 "Continue the prompt as it is, without a chat template (-no-cnv)")
      ->excludes(system);
  verb->add_flag("--ignore-eos", options->ignore_eos, "Go on where the model would end its answer");
  add_sampling_flags(*verb, options->sampling);
  add_parallel_flags(*verb, options->engine);
  add_accepted_flags(*verb);
  verb->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace packmule::cli
