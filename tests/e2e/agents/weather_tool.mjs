// A tool server by the Model Context Protocol on standard input and output, as agents start them: one tool,
// get_weather, in the words the small model was trained with.
//   weather_tool.mjs FOLDER RUNS: what FOLDER/CITY says; appends a line of JSON to RUNS for each call.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";

const [folder, runs] = process.argv.slice(2);

const tool = {
  name: "get_weather",
  description: "Get the weather of a city",
  inputSchema: {
    type: "object",
    properties: { city: { type: "string", description: "City" } },
    required: ["city"],
  },
  annotations: { readOnlyHint: true },
};

function call({ city }) {
  const file = join(folder, basename(String(city)));
  const known = existsSync(file);
  const text = known ? readFileSync(file, "utf8") : `no such city: ${city}`;
  appendFileSync(runs, JSON.stringify({ city, known, text }) + "\n");
  return { content: [{ type: "text", text }], isError: !known };
}

const methods = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: "weather", version: "1" },
  }),
  ping: () => ({}),
  "tools/list": () => ({ tools: [tool] }),
  "tools/call": ({ arguments: given }) => call(given ?? {}),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) continue; // a notification
  const answer = methods[method]
    ? { result: methods[method](params ?? {}) }
    : { error: { code: -32601, message: `there is no ${method}` } };
  process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, ...answer }) + "\n");
}
