// Coding agents as people run them, with their own prompts and tools, against a model that follows a script:
// each is told to run a command, the model calls the agent's tool, and the agent must come back with the tool's
// result and show the answer to it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { codex, newFolder, opencode, qwen } from "./programs.mjs";
import { scripted } from "./servers.mjs";

/** What `agent` does with a server of its own. */
async function talk(name, agent) {
  const folder = newFolder(name);
  const record = join(folder, "requests.jsonl");
  const url = await scripted(record);
  const { code, output } = await agent({ folder, url, model: "scripted" });
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
  talk("qwen", (at) => qwen({ ...at, args: ["--yolo"], prompt: "Please ask qwen to run it." })));

it("qwen-code, by messages", () =>
  talk("qwen-anthropic", (at) =>
    qwen({ ...at, dialect: "anthropic", args: ["--yolo"], prompt: "Please ask qwen to run it." }),
  ));

it("opencode, by chat completions", () =>
  talk("opencode", (at) =>
    opencode({ ...at, settings: { permission: "allow" }, prompt: "Please ask opencode to run it." }),
  ));

it("codex, by responses", () =>
  talk("codex", (at) =>
    codex({ ...at, args: ["--dangerously-bypass-approvals-and-sandbox"], prompt: "Please ask codex to run it." }),
  ));
