// The official client for Anthropic's API.
import assert from "node:assert/strict";
import { before, it } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { hello, real, scripted, weather } from "./servers.mjs";

const user = (content) => [{ role: "user", content }];
const tools = [{ name: "get_weather", description: weather.description, input_schema: weather.schema }];
const base = { model: "m", max_tokens: 100 };
let client;
before(async () => {
  client = new Anthropic({ baseURL: await scripted(), apiKey: "none", maxRetries: 0 });
});

it("answers whole and streamed alike", async () => {
  const request = { ...base, system: [{ type: "text", text: "Be kind." }], messages: user("say hello") };
  const whole = await client.messages.create(request);
  assert.deepEqual(whole.content, [{ type: "text", text: hello }]);
  assert.equal(whole.stop_reason, "end_turn");
  assert.equal(whole.usage.cache_read_input_tokens, 2);
  const streamed = await client.messages.stream(request).finalMessage();
  assert.deepEqual(streamed.content, whole.content);
  assert.equal(streamed.stop_reason, whole.stop_reason);
  assert.equal(streamed.usage.output_tokens, whole.usage.output_tokens);
  assert.equal(streamed.usage.input_tokens, whole.usage.input_tokens);
});

it("runs a tool and answers with its result", async () => {
  for (const streamed of [false, true]) {
    const messages = user("the weather in Paris");
    const ask = () => {
      const request = { ...base, tools, messages };
      return streamed ? client.messages.stream(request).finalMessage() : client.messages.create(request);
    };
    const first = await ask();
    assert.equal(first.stop_reason, "tool_use");
    const [call] = first.content;
    assert.deepEqual([call.type, call.name, call.input], ["tool_use", "get_weather", { city: "Paris" }]);
    messages.push({ role: "assistant", content: first.content });
    messages.push({
      role: "user",
      content: [{ type: "tool_result", tool_use_id: call.id, content: [{ type: "text", text: "18 degrees" }] }],
    });
    const second = await ask();
    assert.deepEqual(second.content, [{ type: "text", text: "It is 18 degrees in Paris." }]);
  }
});

it("gives text and several calls, or one if only one is wanted", async () => {
  const request = { ...base, max_tokens: 1000, tools, messages: user("the weather in both") };
  const whole = await client.messages.create(request);
  assert.deepEqual(
    whole.content.map((block) => block.text ?? block.input.city),
    ["I ask.", "Paris", 'Rome "eterna"'],
  );
  const streamed = await client.messages.stream(request).finalMessage();
  assert.deepEqual(
    streamed.content.map(({ id, ...rest }) => rest),
    whole.content.map(({ id, ...rest }) => rest),
  );
  const one = await client.messages.create({
    ...request,
    tool_choice: { type: "auto", disable_parallel_tool_use: true },
  });
  assert.equal(one.content.length, 2);
});

it("gives thoughts as blocks and takes them back", async () => {
  const messages = user("think first");
  for (const streamed of [false, true]) {
    const request = { ...base, messages, thinking: { type: "adaptive" } };
    const answer = await (streamed ? client.messages.stream(request).finalMessage() : client.messages.create(request));
    assert.deepEqual(answer.content, [
      { type: "thinking", thinking: "Let me see.", signature: "" },
      { type: "text", text: "Done thinking." },
    ]);
    messages.push({ role: "assistant", content: answer.content }, ...user("think first"));
  }
});

it("stops at a sequence and at the limit", async () => {
  const stopped = await client.messages.create({ ...base, messages: user("count"), stop_sequences: [" three"] });
  assert.deepEqual([stopped.stop_reason, stopped.stop_sequence], ["stop_sequence", " three"]);
  assert.equal(stopped.content[0].text, "one two");
  const cut = await client.messages.create({ ...base, max_tokens: 2, messages: user("count") });
  assert.equal(cut.stop_reason, "max_tokens");
});

it("counts tokens", async () => {
  const request = { model: "m", system: "Be kind.", tools, messages: user("hi") };
  const { input_tokens } = await client.messages.countTokens(request);
  const { usage } = await client.messages.create({ ...request, max_tokens: 1 });
  assert.equal(input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
});

it("tells of errors in its own form", async () => {
  const ask = (content, more) => client.messages.create({ ...base, messages: user(content), ...more });
  const type = (expected) => (e) => e instanceof Anthropic.APIError && e.error.error.type === expected;
  await assert.rejects(ask("fail at once"), type("api_error"));
  await assert.rejects(ask("x", { temperature: "hot" }), type("invalid_request_error"));
  await assert.rejects(
    ask([{ type: "image", source: { type: "base64", media_type: "image/png", data: "" } }]),
    (e) => e.status === 400 && /image/.test(e.message),
  );
  await assert.rejects(ask("x", { tools: [{ type: "web_search_20250305", name: "web_search" }] }), (e) => e.status === 400);
  await assert.rejects(client.messages.stream({ ...base, messages: user("fail late") }).finalMessage(), /broke/);
});

it("ends the work for a client that leaves", async () => {
  const stream = client.messages.stream({ ...base, messages: user("hang") });
  stream.on("text", () => stream.abort());
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
  assert.equal((await client.messages.create({ ...base, messages: user("say hello") })).content[0].text, hello);
});

it("speaks with the real program", async () => {
  const url = await real("--alias", "tiny", "--api-key", "secret");
  const tiny = new Anthropic({ baseURL: url, apiKey: "secret", maxRetries: 0 });
  const request = { model: "tiny", max_tokens: 5, messages: user("hello"), temperature: 0 };
  const whole = await tiny.messages.create(request);
  assert.deepEqual((await tiny.messages.stream(request).finalMessage()).content, whole.content);
  const { input_tokens } = await tiny.messages.countTokens({ model: "tiny", messages: user("hello") });
  assert.equal(input_tokens, whole.usage.input_tokens + whole.usage.cache_read_input_tokens);
  const stranger = new Anthropic({ baseURL: url, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(stranger.messages.create(request), Anthropic.AuthenticationError);
});
