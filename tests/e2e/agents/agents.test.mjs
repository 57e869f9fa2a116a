// Coding agents as people run them: each is told to run a command, the model calls the agent's tool, and the
// agent must come back with the tool's result and show the answer to it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, it } from "node:test";
import { scripted } from "./servers.mjs";

const modules = resolve("node_modules");
const patience = 300_000; // of a machine that does much else

/** Runs a program in an empty home and folder: its output, whatever its end. */
function run(folder, command, args, env) {
  return new Promise((done) => {
    const child = spawn(command, args, {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: folder, XDG_CONFIG_HOME: folder, TERM: "dumb", ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: patience,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
    child.on("close", (code) => done({ code, output }));
  });
}

/** What `agent` does with a server of its own. */
async function talk(name, agent) {
  const folder = mkdtempSync(join(tmpdir(), `packmule-${name}-${process.pid}-`));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const record = join(folder, "requests.jsonl");
  const url = await scripted(record);
  const { code, output } = await agent(folder, url);
  const bodies = readFileSync(record, "utf8").trim().split("\n").map(JSON.parse);
  const shown = () => `exit ${code}\n${output.slice(-3000)}\n${bodies.map((b) => `${b.method} ${b.path}`).join("\n")}`;
  assert.ok(
    bodies.some((request) => request.body.includes("packmule-ran-it")),
    `the result of the tool did not come back: ${shown()}`,
  );
  assert.match(output, /The command has run: all is well\./, shown());
  assert.equal(code, 0, shown());
}

it("qwen-code, by chat completions", () =>
  talk("qwen", (folder, url) =>
    run(
      folder,
      join(modules, ".bin/qwen"),
      ["--auth-type", "openai", "--model", "scripted", "--yolo", "-p", "Please ask qwen to run it."],
      { OPENAI_BASE_URL: `${url}/v1`, OPENAI_API_KEY: "none", QWEN_TELEMETRY_ENABLED: "0" },
    ),
  ));

it("qwen-code, by messages", () =>
  talk("qwen-anthropic", (folder, url) =>
    run(
      folder,
      join(modules, ".bin/qwen"),
      ["--auth-type", "anthropic", "--model", "scripted", "--yolo", "-p", "Please ask qwen to run it."],
      { ANTHROPIC_BASE_URL: url, ANTHROPIC_API_KEY: "none", ANTHROPIC_MODEL: "scripted" },
    ),
  ));

it("opencode, by chat completions", () =>
  talk("opencode", (folder, url) => {
    const provider = {
      npm: "@ai-sdk/openai-compatible",
      options: { baseURL: `${url}/v1` },
      models: { scripted: { name: "scripted", tool_call: true } },
    };
    writeFileSync(
      join(folder, "opencode.json"),
      JSON.stringify({ provider: { packmule: provider }, small_model: "packmule/scripted", permission: "allow" }),
    );
    return run(
      folder,
      join(modules, "opencode-linux-x64-baseline/bin/opencode"),
      ["run", "--model", "packmule/scripted", "Please ask opencode to run it."],
      { OPENCODE_DISABLE_AUTOUPDATE: "1", OPENCODE_DISABLE_MODELS_FETCH: "1" },
    );
  }));

it("codex, by responses", () =>
  talk("codex", (folder, url) =>
    run(
      folder,
      join(modules, ".bin/codex"),
      [
        ...["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--model", "scripted"],
        ...["-c", `model_providers.packmule={name="packmule",base_url="${url}/v1",wire_api="responses"}`],
        ...["-c", 'model_provider="packmule"', "Please ask codex to run it."],
      ],
      { CODEX_HOME: folder },
    ),
  ));
