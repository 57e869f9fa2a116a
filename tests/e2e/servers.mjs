// Starts the servers the tests speak to, and ends them with the tests.
import { spawn } from "node:child_process";
import { after } from "node:test";

const { SCRIPTED_SERVER, SCRIPT, PACKMULE, MODEL } = process.env;

const children = [];
after(() => children.forEach((child) => child.kill("SIGKILL"))); // behind the last test of the file

async function start(command, args) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let log = "";
  child.stderr.on("data", (data) => (log += data));
  for await (const data of child.stdout) {
    const match = /listening on (http:\S+)/.exec(data.toString());
    if (match) return match[1];
  }
  throw new Error(`${command} did not start: ${log}`);
}

/** The real server layers in front of a model that follows script.json. Requests are written to `record`. */
export const scripted = (...record) => start(SCRIPTED_SERVER, [SCRIPT, ...record]);

/** The real program with MODEL. */
export async function real(...flags) {
  const url = await start(PACKMULE, ["serve", "-m", MODEL, "--port", "0", "-c", "2048", "-t", "1", ...flags]);
  while ((await fetch(`${url}/health`)).status !== 200) await new Promise((resolve) => setTimeout(resolve, 20));
  return url;
}

export const hello = "Hello there, Grüße \u{1f600}.";
export const weather = {
  description: "The weather of a city",
  schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
