// The official client for OpenAI's API: chat completions, completions, responses, models.
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import OpenAI from "openai";
import { hello, real, scripted, weather } from "./servers.mjs";

const user = (content) => [{ role: "user", content }];
const tools = [
  { type: "function", function: { name: "get_weather", description: weather.description, parameters: weather.schema } },
];
let client;
before(async () => {
  client = new OpenAI({ baseURL: `${await scripted()}/v1`, apiKey: "none", maxRetries: 0 });
});

describe("chat completions", () => {
  it("answers whole and streamed alike", async () => {
    const whole = await client.chat.completions.create({ model: "m", messages: user("say hello") });
    assert.equal(whole.choices[0].message.content, hello);
    assert.equal(whole.choices[0].finish_reason, "stop");
    assert.ok(whole.usage.total_tokens === whole.usage.prompt_tokens + whole.usage.completion_tokens);
    assert.equal(whole.usage.prompt_tokens_details.cached_tokens, 2);
    const stream = client.chat.completions.stream({
      model: "m",
      messages: user("say hello"),
      stream_options: { include_usage: true },
    });
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.content, hello);
    assert.deepEqual(final.usage, whole.usage);
  });

  it("runs a tool and answers with its result", async () => {
    for (const stream of [false, true]) {
      const asked = [];
      const runner = client.chat.completions.runTools({
        model: "m",
        messages: user("the weather in Paris"),
        stream,
        tools: [
          {
            type: "function",
            function: {
              name: "get_weather",
              parameters: weather.schema,
              parse: JSON.parse,
              function: ({ city }) => {
                asked.push(city);
                return "18 degrees";
              },
            },
          },
        ],
      });
      assert.equal(await runner.finalContent(), "It is 18 degrees in Paris.");
      assert.deepEqual(asked, ["Paris"]);
    }
  });

  it("gives several calls, or one if only one is wanted", async () => {
    const ask = (more) =>
      client.chat.completions.create({ model: "m", messages: user("the weather in both"), tools, ...more });
    const { message, finish_reason } = (await ask()).choices[0];
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.content, "I ask.");
    assert.deepEqual(
      message.tool_calls.map((call) => JSON.parse(call.function.arguments).city),
      ["Paris", 'Rome "eterna"'],
    );
    assert.equal((await ask({ parallel_tool_calls: false })).choices[0].message.tool_calls.length, 1);
  });

  it("keeps thoughts apart", async () => {
    const { choices, usage } = await client.chat.completions.create({ model: "m", messages: user("think first") });
    assert.equal(choices[0].message.reasoning_content, "Let me see.");
    assert.equal(choices[0].message.content, "Done thinking.");
    assert.ok(usage.completion_tokens_details.reasoning_tokens > 0);
  });

  it("gives several answers and log probabilities", async () => {
    const request = { model: "m", messages: user("count"), n: 3, logprobs: true, top_logprobs: 2, max_tokens: 7 };
    const whole = await client.chat.completions.create(request);
    assert.deepEqual(
      whole.choices.map((choice) => [choice.index, choice.message.content, choice.finish_reason]),
      [0, 1, 2].map((index) => [index, "one two", "length"]),
    );
    const { content } = whole.choices[2].logprobs;
    assert.equal(content.map((token) => token.token).join(""), "one two");
    assert.deepEqual(content[0].bytes, [111]);
    assert.equal(content[0].logprob, -0.25);
    assert.deepEqual(
      content[0].top_logprobs.map((token) => token.token),
      ["o", "?"],
    );
    const final = await client.chat.completions.stream(request).finalChatCompletion();
    assert.deepEqual(
      final.choices.map((choice) => [choice.index, choice.message.content, choice.logprobs.content.length]),
      [0, 1, 2].map((index) => [index, "one two", 7]),
    );
  });

  it("tells of errors by status, and in a stream that has begun", async () => {
    const ask = (content, more) => client.chat.completions.create({ model: "m", messages: user(content), ...more });
    await assert.rejects(ask("fail at once"), (e) => e instanceof OpenAI.InternalServerError && /broke/.test(e.message));
    await assert.rejects(ask("fail at once", { stream: true }), OpenAI.InternalServerError);
    await assert.rejects(ask("x", { temperature: "hot" }), (e) => e.status === 400 && e.param === "temperature");
    let text = "";
    await assert.rejects(
      async () => {
        for await (const chunk of await ask("fail late", { stream: true })) text += chunk.choices[0].delta.content ?? "";
      },
      (e) => e instanceof OpenAI.APIError && /broke/.test(e.message),
    );
    assert.equal(text, "Half an ans");
  });

  it("ends the work for a client that leaves", async () => {
    const stream = await client.chat.completions.create({ model: "m", messages: user("hang"), stream: true });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
    stream.controller.abort();
    // One answer is generated at a time: this one would wait for ever.
    const next = await client.chat.completions.create({ model: "m", messages: user("say hello") });
    assert.equal(next.choices[0].message.content, hello);
  });
});

describe("completions", () => {
  it("answers whole and streamed, for several prompts", async () => {
    const whole = await client.completions.create({ model: "m", prompt: ["count", "say hello"], max_tokens: 100 });
    assert.deepEqual(
      whole.choices.map((choice) => choice.text),
      ["one two three four five six", hello],
    );
    const texts = ["", ""];
    let usage;
    for await (const chunk of await client.completions.create({
      model: "m",
      prompt: ["count", "say hello"],
      max_tokens: 100,
      stream: true,
      stream_options: { include_usage: true },
    })) {
      for (const choice of chunk.choices) texts[choice.index] += choice.text;
      usage = chunk.usage ?? usage;
    }
    assert.deepEqual(texts, ["one two three four five six", hello]);
    assert.deepEqual(usage, whole.usage);
  });

  it("echoes, stops and tells log probabilities", async () => {
    const ask = async (more) => (await client.completions.create({ model: "m", prompt: "count", ...more })).choices[0];
    assert.equal((await ask({ echo: true, stop: " three" })).text, "countone two");
    const { logprobs } = await ask({ logprobs: 1, max_tokens: 3 });
    assert.deepEqual(logprobs.tokens, ["o", "n", "e"]);
    assert.deepEqual(logprobs.token_logprobs, [-0.25, -0.25, -0.25]);
    assert.deepEqual(logprobs.top_logprobs[0], { o: -0.25 });
    assert.deepEqual(logprobs.text_offset, [0, 1, 2]);
    await assert.rejects(ask({ suffix: "end" }), (e) => e.status === 400 && e.param === "suffix");
  });
});

describe("responses", () => {
  const responseTools = [{ type: "function", name: "get_weather", parameters: weather.schema, strict: false }];

  it("answers whole and streamed alike", async () => {
    const whole = await client.responses.create({ model: "m", input: "say hello", instructions: "Be kind." });
    assert.equal(whole.output_text, hello);
    assert.equal(whole.status, "completed");
    assert.equal(whole.usage.input_tokens_details.cached_tokens, 2);
    const final = await client.responses.stream({ model: "m", input: "say hello" }).finalResponse();
    assert.equal(final.output_text, hello);
    assert.equal(final.status, "completed");
  });

  it("numbers its events and names every item it speaks of", async () => {
    const events = [];
    for await (const event of await client.responses.create({ model: "m", input: "think first", stream: true }))
      events.push(event);
    assert.deepEqual(
      events.map((event) => event.sequence_number),
      events.map((_, i) => i),
    );
    const order = events.map((event) => event.type).filter((type, i, all) => type !== all[i - 1]);
    assert.deepEqual(order, [
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.reasoning_text.delta",
      "response.reasoning_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ]);
    const { output } = events.at(-1).response;
    assert.equal(output[0].content[0].text, "Let me see.");
    assert.equal(output[1].content[0].text, "Done thinking.");
    for (const event of events)
      if (event.item_id) assert.equal(event.item_id, output[event.output_index].id);
  });

  it("runs a tool and answers with its result", async () => {
    for (const streamed of [false, true]) {
      const input = [{ role: "user", content: "the weather in Paris" }];
      const request = () => ({ model: "m", input, tools: [...responseTools, { type: "web_search" }] });
      const ask = () =>
        streamed ? client.responses.stream(request()).finalResponse() : client.responses.create(request());
      const first = await ask();
      const call = first.output[0];
      assert.equal(call.type, "function_call");
      assert.deepEqual(JSON.parse(call.arguments), { city: "Paris" });
      input.push(...first.output, { type: "function_call_output", call_id: call.call_id, output: "18 degrees" });
      assert.equal((await ask()).output_text, "It is 18 degrees in Paris.");
    }
  });

  it("tells of what went wrong", async () => {
    const cut = await client.responses.create({ model: "m", input: "count", max_output_tokens: 2 });
    assert.equal(cut.status, "incomplete");
    assert.deepEqual(cut.incomplete_details, { reason: "max_output_tokens" });
    await assert.rejects(
      client.responses.create({ model: "m", input: "x", previous_response_id: "resp_1" }),
      (e) => e.status === 400 && e.param === "previous_response_id",
    );
    const events = [];
    for await (const event of await client.responses.create({ model: "m", input: "fail late", stream: true }))
      events.push(event);
    assert.equal(events.at(-1).type, "response.failed");
    assert.match(events.at(-1).response.error.message, /broke/);
  });
});

describe("the real program", () => {
  it("speaks with a client", async () => {
    const url = await real("--alias", "tiny", "--api-key", "secret");
    const tiny = new OpenAI({ baseURL: `${url}/v1`, apiKey: "secret", maxRetries: 0 });
    assert.deepEqual((await tiny.models.list()).data.map((model) => model.id), ["tiny"]);
    const request = { model: "tiny", messages: user("hello"), max_tokens: 5, seed: 1, logprobs: true, top_logprobs: 3 };
    const whole = await tiny.chat.completions.create(request);
    const streamed = await tiny.chat.completions.stream(request).finalChatCompletion();
    assert.equal(streamed.choices[0].message.content, whole.choices[0].message.content);
    assert.deepEqual(streamed.choices[0].logprobs.content, whole.choices[0].logprobs.content);
    for (const token of whole.choices[0].logprobs.content) assert.ok(token.logprob < 0);
    const text = await tiny.completions.create({ model: "tiny", prompt: [[1, 2, 3]], max_tokens: 5, seed: 1 });
    assert.equal(text.usage.prompt_tokens, 3);
    const response = await tiny.responses.create({ model: "tiny", input: "hello", max_output_tokens: 5 });
    assert.equal(response.model, "tiny");
    const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 });
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  });
});
