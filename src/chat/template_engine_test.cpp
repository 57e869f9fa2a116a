#include "chat/template_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <thread>

#include "chat/worker_process.h"
#include "tests/support/test_data.h"

namespace packmule::chat {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// The moment the expected texts were made at.
std::tm fixed_moment() {
  std::tm moment{};
  moment.tm_year = 2025 - 1900;
  moment.tm_mon = 0;
  moment.tm_mday = 2;
  moment.tm_hour = 3;
  moment.tm_min = 4;
  moment.tm_sec = 5;
  return moment;
}

std::unique_ptr<TemplateEngine> engine_for(std::string_view source, TemplateLimits limits = {}) {
  auto engine = TemplateEngine::create(source, limits, fixed_moment);
  EXPECT_TRUE(engine.has_value()) << (engine ? "" : engine.error().message);
  return engine ? *std::move(engine) : nullptr;
}

/// Renders without messages; an error comes back as "!" and its text.
std::string render(TemplateEngine& engine, const Json& kwargs = Json::object()) {
  auto text = engine.render(Json::array(), nullptr, kwargs);
  return text ? *text : "!" + text.error().message;
}
std::string render(std::string_view source, const Json& kwargs = Json::object()) {
  auto engine = engine_for(source);
  return engine ? render(*engine, kwargs) : "not compiled";
}

TEST(TemplateEngine, RendersTheRecordedCasesExactly) {
  const auto cases_path = testing_support::find_data("templates/cases.jsonl");
  ASSERT_TRUE(cases_path.has_value());
  std::map<std::string, std::unique_ptr<TemplateEngine>> engines;
  std::map<std::string, int> skipped;
  int compared = 0;
  for (const Json& one : testing_support::read_json_lines(*cases_path)) {
    const std::string file = one["template"];
    SCOPED_TRACE(file + ": " + one["name"].get<std::string>());
    if (!engines.contains(file)) {
      const auto path = testing_support::find_template(file);
      engines[file] = path ? engine_for(testing_support::read_file(*path)) : nullptr;
      if (path) {
        ASSERT_NE(engines[file], nullptr);
      }
    }
    if (engines[file] == nullptr) {
      ++skipped[file];
      continue;
    }
    const auto text = engines[file]->render(one["messages"], one["tools"], one["kwargs"]);
    ++compared;
    if (one.contains("expected")) {
      ASSERT_TRUE(text.has_value()) << text.error().message;
      EXPECT_EQ(*text, one["expected"].get<std::string>());
      continue;
    }
    ASSERT_FALSE(text.has_value()) << *text;
    const std::string expected = one["error"];
    const std::string kRaised = "TemplateError: ";  // what raise_exception raises
    if (expected.starts_with(kRaised))
      EXPECT_EQ(text.error().message, expected.substr(kRaised.size()));
    else
      EXPECT_THAT(text.error().message, StartsWith("chat template"));
  }
  RecordProperty("cases_compared", compared);
  EXPECT_GT(compared, 0);
  if (!skipped.empty()) {
    int n = 0;
    for (const auto& [file, count] : skipped) n += count;
    GTEST_SKIP() << n << " cases of " << skipped.size() << " template files that are not here; " << compared
                 << " compared";
  }
}

TEST(TemplateEngine, KeepsNumbersTextAndTheOrderOfKeys) {
  const Json kwargs = Json::parse(
      R"({"v":{"z":1e20,"a":1.0,"m":-0.0,"big":18446744073709551615,"neg":-9223372036854775808,
          "nul":"a\u0000b","far":"\ud83d\ude00","html":"<&'\">","t":true,"n":null,"tenth":0.1}})");
  EXPECT_EQ(render("{{ v|tojson }}", kwargs),
            "{\"z\": 1e+20, \"a\": 1.0, \"m\": -0.0, \"big\": 18446744073709551615, \"neg\": "
            "-9223372036854775808, \"nul\": \"a\\u0000b\", \"far\": \"\xF0\x9F\x98\x80\", \"html\": "
            "\"<&'\\\">\", \"t\": true, \"n\": null, \"tenth\": 0.1}");
  EXPECT_EQ(render("{{ v.z }} {{ v.a }} {{ v.big + 1 }} {{ v.html }} {{ v.nul|length }}", kwargs),
            "1e+20 1.0 18446744073709551616 <&'\"> 3");
}

TEST(TemplateEngine, KnowsWhatTemplatesOfModelsUse) {
  EXPECT_EQ(render("a{% generation %}b{{ 1 + 1 }}{% endgeneration %}c"), "ab2c");
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y %H:%M:%S') }}"), "02 Jan 2025 03:04:05");
  EXPECT_EQ(render("{{ {'b': [1], 'a': 2}|tojson(indent=2) }}"), "{\n  \"b\": [\n    1\n  ],\n  \"a\": 2\n}");
  EXPECT_EQ(
      render("{{ {'b': 1, 'a': 'é'}|tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }}"),
      "{\"a\":\"\\u00e9\",\"b\":1}");
  EXPECT_EQ(
      render("{{ dict(a=1).a }}{% set n = namespace(x=2) %}{{ n.x }}{% set j = joiner(',') %}{{ j() }}"
             "{{ j() }}{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
      "12,01");
  EXPECT_EQ(render("[{{ missing }}{{ messages|length }}{{ tools is defined }}]"), "[0False]");
  EXPECT_EQ(render("  {% if true %}\nx\n  {% endif %}\ny\n"), "x\ny");
  EXPECT_EQ(
      render("{{ x|title }} {{ x|wordwrap(3) }} {{ '\\N{BULLET}' }} {{ [x]|pprint }}", {{"x", "ab cd"}}),
      "Ab Cd ab\ncd \xE2\x80\xA2 ['ab cd']");
}

TEST(TemplateEngine, ToolsAreAbsentWhenNull) {
  auto engine = engine_for("{{ tools is defined }}{{ messages }}{{ tools|default([])|tojson }}");
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(*engine->render(Json::array(), nullptr, nullptr), "False[][]");
  EXPECT_EQ(*engine->render(Json::array(), Json::parse(R"([{"b":1,"a":2}])"), nullptr),
            R"(True[][{"b": 1, "a": 2}])");
  // Variables cannot take the place of the messages.
  EXPECT_EQ(*engine->render(Json::array(), nullptr, Json::parse(R"({"messages": 7})")), "False[][]");
}

TEST(TemplateEngine, SaysWhereADamagedTemplateIsDamaged) {
  const struct {
    const char* source;
    const char* message;
  } kDamaged[] = {
      {"a\n{{ b", "chat template, line 2: unexpected end of template, expected 'end of print statement'."},
      {"{% if x %}\n\n{% endfor %}", "chat template, line 3: Encountered unknown tag 'endfor'."},
      {"\n{% nonsense %}", "chat template, line 2: Encountered unknown tag 'nonsense'."},
      {"{{ 1 | nofilter }}", "chat template, line 1: No filter named 'nofilter'."},
      {"{% generation %}x", "chat template, line 1: Unexpected end of template."},
  };
  for (const auto& damaged : kDamaged) {
    const auto engine = TemplateEngine::create(damaged.source);
    ASSERT_FALSE(engine.has_value()) << damaged.source;
    EXPECT_THAT(engine.error().message, StartsWith(damaged.message));
    EXPECT_EQ(engine.error().message.find('\n'), std::string::npos);
    EXPECT_EQ(engine.error().kind, ErrorKind::kInvalidFile);
  }
}

TEST(TemplateEngine, SaysWhereRenderingFailed) {
  auto engine = engine_for("a\nb\n{{ messages[0].content + 'x' }}");
  ASSERT_NE(engine, nullptr);
  const auto text = engine->render(Json::parse(R"([{"role":"user","content":null}])"), nullptr, nullptr);
  ASSERT_FALSE(text.has_value());
  EXPECT_THAT(text.error().message, StartsWith("chat template, line 3: TypeError: unsupported operand"));
  EXPECT_EQ(text.error().kind, ErrorKind::kInvalidArgument);
}

TEST(TemplateEngine, PassesRaisedMessagesWordForWord) {
  EXPECT_EQ(render("{{ raise_exception(m) }}", {{"m", "Nur \xC3\xA4 \n und \xF0\x9F\x98\x80"}}),
            "!Nur \xC3\xA4 \n und \xF0\x9F\x98\x80");
  EXPECT_EQ(render("{{ raise_exception('') }}"), "!");
  EXPECT_EQ(render("{{ raise_exception(7) }}"), "!7");
}

TEST(TemplateEngine, RefusesArgumentsThatAreNotWhatTheyShouldBe) {
  auto engine = engine_for("x");
  ASSERT_NE(engine, nullptr);
  EXPECT_FALSE(engine->render(Json::object(), nullptr, nullptr).has_value());
  EXPECT_FALSE(engine->render(Json::array(), nullptr, Json::array()).has_value());
  const auto bad = engine->render(Json::array({"\xff"}), nullptr, nullptr);
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().message, "chat template: messages: a string is not valid UTF-8");
  EXPECT_FALSE(TemplateEngine::create("\xff").has_value());
  EXPECT_FALSE(TemplateEngine::create(std::string((4 << 20) + 1, 'x')).has_value());
  EXPECT_EQ(render(*engine), "x");
}

/// A template that must be refused, when it is compiled or when it is rendered, for one of the reasons.
struct Hostile {
  const char* name;
  std::string source;
  std::vector<std::string> reasons;
};

std::vector<Hostile> hostile_templates() {
  const std::string kTime = "took longer than";
  const std::string kMemory = "MiB";
  const std::string kUnsafe = "SecurityError";
  const std::string kUndefined = "UndefinedError";
  std::string deep_brackets(200'000, '(');
  std::string deep_blocks;
  for (int i = 0; i < 5'000; ++i) deep_blocks += "{% if x %}";
  return {
      {"loop of loops",
       "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a * b %}{% endfor %}{% endfor %}",
       {kTime}},
      {"endless text",
       "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'many words ' * 999 }}{% endfor %}{% endfor "
       "%}",
       {"bytes of text", kTime, kMemory}},
      {"one giant text", "{{ ('x' * 100000000) }}", {"bytes of text", kTime}},
      {"giant text while compiling", "{{ 'x' * 10 ** 10 }}", {kMemory, kTime}},
      {"giant text", "{{ 'x' * messages|length }}{{ n * 10000000000 }}", {kMemory, kTime}},
      {"giant power", "{{ 9 ** (9 ** 9) }}", {kTime, kMemory}},
      {"giant power of a variable", "{{ (5 + n|length) ** (9 ** 9) }}", {kTime, kMemory}},
      {"giant range", "{{ range(1000000000)|list }}", {"Range too big"}},
      {"giant padding", "{{ 'x'|center(100000000000) }}", {kMemory, kTime}},
      {"giant format", "{{ '%0999999999999d'|format(1) }}", {kMemory, "OverflowError", "ValueError"}},
      {"doubling",
       "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
       {kMemory, kTime}},
      {"growing list",
       "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
       {kMemory, kTime}},
      {"recursing macro", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {"recursing too deeply"}},
      {"deep brackets", "{{ " + deep_brackets + " }}", {"recursing too deeply"}},
      {"deep blocks", deep_blocks, {"recursing too deeply", "Error", "line", "ended"}},
      {"class of a string", "{{ ''.__class__.__mro__[1].__subclasses__() }}", {kUnsafe}},
      {"class by subscript", "{{ ''['__class__']['__mro__'] }}", {kUnsafe, kUndefined}},
      {"class by filter", "{{ (''|attr('__class__')).mro() }}", {kUnsafe, kUndefined}},
      {"class by map", "{{ ['']|map(attribute='__class__')|map(attribute='__mro__')|list }}", {kUnsafe}},
      {"format string", "{{ '{0.__class__.__init__.__globals__}'.format(n) }}", {kUnsafe}},
      {"format string by name", "{{ (''|attr('__init__')).__globals__ }}", {kUnsafe, kUndefined}},
      {"globals of a function", "{{ raise_exception.__globals__.os }}", {kUnsafe}},
      {"globals of the clock", "{{ strftime_now.__globals__['os'].system('true') }}", {kUnsafe}},
      {"instance of a method", "{{ raise_exception.__self__.environment }}", {kUnsafe, kUndefined}},
      {"lipsum", "{{ lipsum() }}", {kUndefined}},
      {"cycler", "{{ cycler('a') }}", {kUndefined}},
      {"joiner", "{{ joiner.__init__.__globals__ }}", {kUnsafe}},
      {"namespace", "{{ namespace.__init__.__globals__ }}", {kUnsafe}},
      {"own template", "{{ self.__init__.__globals__ }}", {kUnsafe}},
      {"own context", "{{ self._TemplateReference__context.environment }}", {kUnsafe}},
      {"changing the messages", "{{ messages.append(1) }}", {kUnsafe}},
      {"changing a dictionary", "{{ {}.update({}) }}", {kUnsafe}},
      {"include", "{% include '/etc/passwd' %}", {"no loader"}},
      {"import", "{% import '/etc/passwd' as p %}", {"no loader"}},
      {"from", "{% from '/etc/passwd' import p %}", {"no loader"}},
      {"extends", "{% extends '/etc/passwd' %}", {"no loader"}},
      {"lone surrogate", "{{ '\\ud800' }}", {"lone surrogate"}},
      {"do", "{% do messages %}", {"unknown tag"}},
  };
}

TEST(TemplateEngine, RefusesHostileTemplates) {
  for (const Hostile& hostile : hostile_templates()) {
    SCOPED_TRACE(hostile.name);
    const Json kwargs = {{"n", "text"}};
    std::string message;
    auto engine = TemplateEngine::create(hostile.source, {}, fixed_moment);
    if (!engine) {
      message = engine.error().message;
    } else {
      const auto text = (*engine)->render(Json::array(), nullptr, kwargs);
      ASSERT_FALSE(text.has_value()) << text->substr(0, 200);
      message = text.error().message;
    }
    std::vector<::testing::Matcher<std::string>> any;
    for (const std::string& reason : hostile.reasons) any.emplace_back(HasSubstr(reason));
    EXPECT_THAT(message, ::testing::AnyOfArray(any));
    EXPECT_THAT(message, StartsWith("chat template"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST(TemplateEngine, GoesOnAfterATemplateThatHadToBeEnded) {
  auto engine = engine_for(
      "{% if run == 'long' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
      "{% elif run == 'big' %}{{ run * 10000000000 }}"
      "{% elif run == 'wide' %}{{ run * 30000000 }}"
      "{% elif run == 'deep' %}{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"
      "{% else %}fine {{ run }}{% endif %}");
  ASSERT_NE(engine, nullptr);
  for (const char* run : {"long", "big", "wide", "deep"}) {
    EXPECT_THAT(render(*engine, {{"run", run}}), StartsWith("!chat template")) << run;
    EXPECT_EQ(render(*engine, {{"run", "again"}}), "fine again") << run;
  }
  EXPECT_EQ(render(*engine, {{"run", "long"}}),
            "!chat template: rendering took longer than 800 ms: endless loop?");
}

TEST(TemplateEngine, LimitsAreTheCallers) {
  auto engine = engine_for("{{ 'x' * n }}", {.output_bytes = 10});
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(render(*engine, {{"n", 10}}), "xxxxxxxxxx");
  EXPECT_EQ(render(*engine, {{"n", 11}}),
            "!chat template: makes more than the 10 bytes of text it is allowed");
  auto wide = engine_for("{{ x * 6 }}", {.output_bytes = 10});  // counted in bytes, not in characters
  ASSERT_NE(wide, nullptr);
  EXPECT_THAT(render(*wide, {{"x", "\xC3\xA4"}}), HasSubstr("10 bytes"));
  const auto small = TemplateEngine::create("x", {.memory_bytes = 1 << 20});
  ASSERT_FALSE(small.has_value());
}

TEST(TemplateEngine, LargeMessagesGoThrough) {
  auto engine = engine_for("{{ messages[0].content }}");
  ASSERT_NE(engine, nullptr);
  const std::string content(5'000'000, 'y');
  const auto text = engine->render(Json::array({{{"content", content}}}), nullptr, nullptr);
  ASSERT_TRUE(text.has_value()) << text.error().message;
  EXPECT_EQ(*text, content);
}

TEST(TemplateEngine, ServesManyThreads) {
  auto engine = engine_for("{{ i }}");
  ASSERT_NE(engine, nullptr);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&engine, t] {
      for (int i = 0; i < 20; ++i)
        EXPECT_EQ(render(*engine, {{"i", 100 * t + i}}), std::to_string(100 * t + i));
    });
}

TEST(WorkerProcess, IsSeenToHaveDied) {
  auto worker = WorkerProcess::start({});
  ASSERT_TRUE(worker.has_value()) << worker.error().message;
  EXPECT_TRUE((*worker)->is_alive());
  ::kill((*worker)->pid(), SIGSEGV);
  const auto reply = (*worker)->call(R"({"call":"compile","source":"x"})", "compiling");
  ASSERT_FALSE(reply.has_value());
  EXPECT_THAT(reply.error().message, HasSubstr("ended without an answer (signal 11)"));
  EXPECT_FALSE((*worker)->is_alive());
}

/// Sets PACKMULE_PYTHON for the life of the object.
class PythonOverride {
 public:
  explicit PythonOverride(const char* path) {
    if (const char* before = std::getenv("PACKMULE_PYTHON")) before_ = before;
    ::setenv("PACKMULE_PYTHON", path, 1);
  }
  ~PythonOverride() {
    if (before_)
      ::setenv("PACKMULE_PYTHON", before_->c_str(), 1);
    else
      ::unsetenv("PACKMULE_PYTHON");
  }

 private:
  std::optional<std::string> before_;
};

TEST(WorkerProcess, SaysWhatIsMissing) {
  for (const char* interpreter : {"/nowhere/python3", "/bin/true", "/bin/cat"}) {
    const PythonOverride override(interpreter);
    const auto engine = TemplateEngine::create("x");
    ASSERT_FALSE(engine.has_value());
    EXPECT_THAT(engine.error().message, HasSubstr(interpreter));
    EXPECT_THAT(engine.error().message, HasSubstr("apt-get install python3 python3-jinja2"));
    EXPECT_THAT(engine.error().message, HasSubstr("PACKMULE_PYTHON"));
    EXPECT_EQ(engine.error().kind, ErrorKind::kUnsupported);
  }
}

}  // namespace
}  // namespace packmule::chat
