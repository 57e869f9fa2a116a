// Coding agents and the small trained model: a model that means what it says, if little.
//
// It has 16 million parameters and knows tools of the kind it was trained with (models/tasks/tools.py), not those
// of the agents: it calls them in the right form with arguments that mean nothing. So each agent gets a short
// prompt and one tool, by its own way to add one, a tool server (weather_tool.mjs). The model's choice, the
// agent's run of the tool, the way of the result back and the answer to it are real. It may take some questions:
// they are asked in turn, each of a new session, and the report says how many it took.
//
// With the agents' own prompts and tools, what the model says is nonsense. That must break nothing, and a second
// turn must read only what is new in it.
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { before, it } from "node:test";
import { codex, newFolder, opencode, qwen } from "./programs.mjs";
import { recorded } from "./recorder.mjs";
import { real } from "./servers.mjs";

const model = "mulelet";
const context = 16384;
const weather = { Oslo: "sunny, 17 degrees", Lima: "rainy, 8 degrees", Vienna: "windy, 21 degrees", Rome: "foggy, 4 degrees" };
const questions = [
  "What is the weather in Oslo?",
  "Find the weather in Vienna.",
  "Please get the weather in Oslo.",
  "Tell me the weather for Lima.",
  "I want to get the weather in Lima.",
  "Can you get the weather for Vienna?",
  "How is the weather in Vienna today?",
  "Tell me the weather in Rome.",
  "Get the weather in Rome.",
  "What is the weather for Lima?",
  "Please get the weather for Vienna.",
  "Can you get the weather in Oslo?",
  "You should get the weather in Lima.",
];
const system = "You are a helpful assistant.";

let server;
before(async () => {
  // The model was trained with calls in both forms. In the JSON form all behind `<tool_call>{` is held to the
  // tools, so names it has never seen cost nothing; in the XML form it must write `<function=` by itself first.
  // It was not trained to think before a call, which qwen-code asks for in messages.
  const template = join(newFolder("template"), "json.jinja");
  const own = readFileSync(join(dirname(process.env.MODEL), "chat_template.jinja"), "utf8");
  writeFileSync(template, `{%- set tool_format = 'json' -%}{%- set enable_thinking = false -%}\n${own}`);
  server = await real("-c", `${context}`, "--temp", "0", "--seed", "1", "--chat-template-file", template);
});

/** The conversation itself: agents ask for titles and memories on the side, with other tools or none. */
function turns(exchanges) {
  const first = exchanges.find((exchange) => exchange.tools.length > 0);
  const names = (exchange) => JSON.stringify(exchange.tools.map((tool) => tool.function?.name ?? tool.name));
  return exchanges.filter((exchange) => first && names(exchange) === names(first));
}

/** Nothing failed, and every request read no more than what came behind the prompt before it. */
function check(exchanges, shown) {
  for (const exchange of exchanges) assert.equal(exchange.status, 200, shown());
  const counts = turns(exchanges).map((exchange) => exchange.counted);
  for (let i = 1; i < counts.length; ++i)
    assert.ok(counts[i].read <= Math.max(counts[i].prompt - counts[i - 1].prompt, 1), `${i}: ${shown()}`);
  return counts.map(({ prompt, read }) => `${prompt} (${read} read)`).join(", ");
}

// ---- a short prompt and one tool ----

/** One session; what it came to. */
async function ask(name, agent, question) {
  const folder = newFolder(name);
  const cities = newFolder("cities");
  for (const [city, text] of Object.entries(weather)) writeFileSync(join(cities, city), text);
  const runs = join(cities, "runs.jsonl");
  const { url, exchanges } = await recorded(server);
  const tool = [resolve("weather_tool.mjs"), cities, runs];
  const { code, output } = await agent({ folder, url, model, prompt: question, tool });
  const called = existsSync(runs) ? readFileSync(runs, "utf8").trim().split("\n").map(JSON.parse) : [];
  const run = called.find(({ known }) => known);
  const told = run && exchanges.findIndex((exchange) => exchange.body.includes(run.text));
  const last = turns(exchanges).at(-1);
  return {
    shown: () =>
      `${question} exit ${code}, calls ${JSON.stringify(called)}\n${output.slice(-1500)}\n` +
      exchanges.map((e) => `${e.path} ${e.status} ${JSON.stringify(e.counted)} ${e.answer.slice(-600)}`).join("\n"),
    exchanges,
    run,
    said: last?.said.trim(),
    // The tool has run, its answer is in a later request, and the model's answer to it ends the turn.
    done:
      told > 0 && exchanges[told].status === 200 && last.said.trim() !== "" && output.includes(last.said.trim()) && code === 0,
  };
}

function answers(name, agent) {
  it(`${name}: the trained model calls a tool and answers by its result`, async (t) => {
    const failed = [];
    for (const question of questions) {
      const session = await ask(name, agent, question);
      if (session.done) {
        const counts = check(session.exchanges, session.shown);
        t.diagnostic(`${name}: questions needed: ${failed.length + 1}; ${question} -> get_weather(${session.run.city})`);
        t.diagnostic(`${name}: ${session.run.text} -> ${session.said}`);
        t.diagnostic(`${name}: prompt tokens: ${counts}`);
        return;
      }
      failed.push(session.shown());
    }
    assert.fail(`no question led to a run of the tool and an answer:\n${failed.join("\n\n")}`);
  });
}

const bare = (tool) => [
  ...["--bare", "--system-prompt", system, "--max-session-turns", "6"],
  ...["--mcp-config", JSON.stringify({ mcpServers: { weather: { command: "node", args: tool, trust: true } } })],
  ...["--exclude-tools", "edit,notebook_edit,run_shell_command,write_file,read_file,get_goal,update_goal"],
];
answers("qwen-code by chat completions", ({ tool, ...at }) => qwen({ ...at, args: bare(tool) }));
answers("qwen-code by messages", ({ tool, ...at }) => qwen({ ...at, dialect: "anthropic", args: bare(tool) }));

answers("opencode", ({ tool, ...at }) =>
  opencode({
    ...at,
    limit: { context, output: 200 },
    settings: {
      agent: { short: { mode: "primary", prompt: system, tools: { "*": false, "weather_*": true } } },
      mcp: { weather: { type: "local", command: ["node", ...tool] } },
    },
    args: ["--agent", "short"],
  }),
);

answers("codex", ({ tool, ...at }) => {
  const instructions = join(at.folder, "instructions.md");
  writeFileSync(instructions, system);
  const off = ["apps", "goals", "image_generation", "multi_agent", "plugins", "shell_tool", "unified_exec", "view_image"];
  return codex({
    ...at,
    settings: {
      model_instructions_file: JSON.stringify(instructions),
      "mcp_servers.weather": `{command="node",args=${JSON.stringify(tool)}}`,
      web_search: '"disabled"',
      include_environment_context: "false",
      include_permissions_instructions: "false",
      include_apps_instructions: "false",
      include_collaboration_mode_instructions: "false",
      "skills.include_instructions": "false",
    },
    args: off.flatMap((feature) => ["--disable", feature]),
  });
});

// ---- the agents' own prompts and tools ----

/** Two turns of one session. Nobody is there to allow anything, so what the model makes of the tools does no harm. */
function goesOn(name, ...runs) {
  it(`${name}: two turns with its own prompt read it once`, async (t) => {
    const folder = newFolder(name);
    const { url, exchanges } = await recorded(server);
    const outputs = [];
    for (const run of runs) {
      const { code, output } = await run({ folder, url, model, prompt: questions[0] });
      outputs.push(`exit ${code}\n${output.slice(-1500)}`);
      assert.equal(code, 0, output);
    }
    const shown = () =>
      `${outputs.join("\n")}\n${exchanges.map((e) => `${e.path} ${e.status} ${JSON.stringify(e.counted)}`).join("\n")}`;
    assert.ok(turns(exchanges).length >= 2, shown());
    t.diagnostic(`${name}: prompt tokens: ${check(exchanges, shown)}`);
  });
}

const settings = {
  memory: { enableManagedAutoMemory: false, enableManagedAutoDream: false },
  model: { generationConfig: { samplingParams: { max_tokens: 100 } } }, // its answers may have no end
};
// All of its prompt and tools are 19,800 tokens of this small vocabulary, more than the model's context.
const longest = "agent,ask_user_question,enter_plan_mode,exit_plan_mode,notebook_edit,run_shell_command";
// A second process would tell the model of other surroundings: both turns are one's.
goesOn("qwen-code without its six longest tools", ({ prompt, ...at }) =>
  qwen({ ...at, prompts: [prompt, "Thank you!"], settings, args: ["--exclude-tools", longest] }),
);
it("qwen-code: a prompt beyond the context is refused in words that the agent shows", async () => {
  const folder = newFolder("qwen-long");
  const { url, exchanges } = await recorded(server);
  const { output } = await qwen({ folder, url, model, prompt: questions[0], settings });
  assert.equal(exchanges.at(-1).status, 400, output);
  assert.match(output, /the prompt has \d+ tokens, the context holds 16384/);
});

const limit = { context, output: 100 };
goesOn(
  "opencode",
  (at) => opencode({ ...at, limit, settings: { permission: "ask" } }),
  (at) => opencode({ ...at, limit, settings: { permission: "ask" }, args: ["--continue"] }),
);

const careful = { sandbox_mode: '"read-only"' };
goesOn(
  "codex",
  (at) => codex({ ...at, settings: careful }),
  (at) => codex({ ...at, settings: careful, command: ["resume", "--last"] }),
);
