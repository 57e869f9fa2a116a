// How the agents are started: each in a home and a folder of its own, so that nothing it finds or leaves matters.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after } from "node:test";

const modules = resolve("node_modules");
const patience = 300_000; // of a machine that does much else

/** An empty folder that goes with the tests. */
export function newFolder(name) {
  const folder = mkdtempSync(join(tmpdir(), `packmule-${name}-${process.pid}-`));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a program of node_modules: its output, whatever its end. */
function run(folder, program, args, env, input) {
  return new Promise((done) => {
    const child = spawn(join(modules, program), args, {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: folder, XDG_CONFIG_HOME: folder, TERM: "dumb", ...env },
      stdio: [input ? "pipe" : "ignore", "pipe", "pipe"],
      timeout: patience,
    });
    child.stdin?.end(input);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
    child.on("close", (code) => done({ code, output }));
  });
}

/** `dialect` "openai" or "anthropic"; `settings` go to its settings.json; `prompts` are turns of one session. */
export function qwen({ folder, url, model, prompt, prompts, dialect = "openai", settings, args = [] }) {
  if (settings) {
    mkdirSync(join(folder, ".qwen"), { recursive: true });
    writeFileSync(join(folder, ".qwen/settings.json"), JSON.stringify(settings));
  }
  const says = prompts ? ["--input-format", "stream-json", "--output-format", "stream-json"] : ["-p", prompt];
  const message = (content) => ({ type: "user", message: { role: "user", content }, parent_tool_use_id: null });
  return run(
    folder,
    ".bin/qwen",
    ["--auth-type", dialect, "--model", model, ...args, ...says],
    {
      OPENAI_BASE_URL: `${url}/v1`,
      OPENAI_API_KEY: "none",
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_API_KEY: "none",
      ANTHROPIC_MODEL: model,
      QWEN_TELEMETRY_ENABLED: "0",
    },
    prompts?.map((text) => JSON.stringify(message(text)) + "\n").join(""),
  );
}

/** `settings` go to its opencode.json, `limit` is that of the model. */
export function opencode({ folder, url, model, prompt, limit, settings, args = [] }) {
  const provider = {
    npm: "@ai-sdk/openai-compatible",
    options: { baseURL: `${url}/v1` },
    models: { [model]: { name: model, tool_call: true, limit } },
  };
  writeFileSync(
    join(folder, "opencode.json"),
    JSON.stringify({ provider: { packmule: provider }, small_model: `packmule/${model}`, ...settings }),
  );
  return run(
    folder,
    "opencode-linux-x64-baseline/bin/opencode",
    ["run", "--model", `packmule/${model}`, ...args, prompt],
    { OPENCODE_DISABLE_AUTOUPDATE: "1", OPENCODE_DISABLE_MODELS_FETCH: "1" },
  );
}

/** `settings` are values of its config.toml, in TOML; `command` is what follows `exec`. */
export function codex({ folder, url, model, prompt, settings = {}, command = [], args = [] }) {
  const values = {
    "model_providers.packmule": `{name="packmule",base_url="${url}/v1",wire_api="responses"}`,
    model_provider: '"packmule"',
    ...settings,
  };
  const flags = Object.entries(values).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  return run(
    folder,
    ".bin/codex",
    ["exec", ...command, "--skip-git-repo-check", "--model", model, ...flags, ...args, prompt],
    { CODEX_HOME: folder },
  );
}
