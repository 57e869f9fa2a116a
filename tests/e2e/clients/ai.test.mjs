// The AI SDK, through its provider for servers like OpenAI's and that for Anthropic.
import assert from "node:assert/strict";
import { before, it } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { hello, scripted, weather } from "./servers.mjs";

const models = {};
before(async () => {
  const url = await scripted();
  models.compatible = createOpenAICompatible({ name: "packmule", baseURL: `${url}/v1`, includeUsage: true })("m");
  models.anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: "none" })("m");
});

for (const name of ["compatible", "anthropic"]) {
  it(`${name}: answers, thinks and counts`, async () => {
    const request = { model: models[name], maxRetries: 0 };
    const whole = await generateText({ ...request, prompt: "say hello" });
    assert.equal(whole.text, hello);
    assert.equal(whole.finishReason, "stop");
    const streamed = streamText({ ...request, prompt: "think first" });
    assert.equal(await streamed.text, "Done thinking.");
    assert.equal(await streamed.reasoningText, "Let me see.");
    assert.ok((await streamed.usage).outputTokens > 0);
  });

  it(`${name}: runs tools until there is an answer`, async () => {
    for (const run of [generateText, streamText]) {
      const asked = [];
      const result = await run({
        model: models[name],
        maxRetries: 0,
        prompt: "the weather in Paris",
        stopWhen: stepCountIs(5),
        tools: {
          get_weather: tool({
            description: weather.description,
            inputSchema: jsonSchema(weather.schema),
            execute: async ({ city }) => {
              asked.push(city);
              return "18 degrees";
            },
          }),
        },
      });
      assert.equal(await result.text, "It is 18 degrees in Paris.");
      assert.deepEqual(asked, ["Paris"]);
    }
  });

  it(`${name}: hears of an error in the middle of a stream`, async () => {
    const errors = [];
    const result = streamText({
      model: models[name],
      maxRetries: 0,
      prompt: "fail late",
      onError: ({ error }) => errors.push(error),
    });
    await result.consumeStream();
    assert.equal(errors.length, 1);
    assert.match(JSON.stringify(errors[0], Object.getOwnPropertyNames(Object(errors[0]))) + errors[0], /broke/);
  });
}
